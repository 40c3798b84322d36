//! Closed until an instant.
//!
//! A refusal with a wait closes the partition until the wait is over; of several waits the longest
//! counts. Refusals of requests that were sent before the pause began belong to the same episode:
//! the burst that met the limit is one event, however many of its requests were refused.

use super::after;
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;

/// How long it counts for something how often a partition was refused: a minute, by which most limits
/// count.
const LATE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Pause {
    until: Option<Instant>,
    /// How often `until` has moved.
    moves: u32,
    /// Episodes since a request was last admitted, and since when they are.
    refusals: u32,
    refused_since: Option<Instant>,
    /// Refusals whose bodies are being read, by the instant at which each stops holding callers
    /// back.
    reading: BTreeMap<Instant, u32>,
}

/// Which pause an admission was granted behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Release(u32);

impl Pause {
    /// The end of the pause, as far as refusals have been understood; it may be past.
    pub(super) fn opens_at(&self) -> Option<Instant> {
        self.until
    }

    /// Until when callers are held back by refusals that are still being read.
    pub(super) fn reading_until(&self) -> Option<Instant> {
        self.reading.last_key_value().map(|(&until, _)| until)
    }

    /// When the pause that is on at `now` ends, or the last refusal has been read.
    pub(super) fn ends_at(&self, now: Instant) -> Option<Instant> {
        let until = self.until.max(self.reading_until());
        until.filter(|&until| until > now)
    }

    /// Episodes since a request was last admitted.
    pub(super) fn refusals(&self) -> u32 {
        self.refusals
    }

    /// When the first of those was sent that were refused since a request was last admitted.
    pub(super) fn refused_since(&self) -> Option<Instant> {
        self.refused_since.filter(|_| self.refusals > 0)
    }

    /// Whether a refusal of a request sent then belongs to the last episode.
    pub(super) fn is_on_for(&self, sent_at: Instant) -> bool {
        self.until.is_some_and(|until| sent_at < until)
    }

    /// Whether a request sent then went between the refusal that began the last row of episodes and
    /// the end of the pause.
    pub(super) fn is_within_refusals(&self, sent_at: Instant) -> bool {
        self.is_on_for(sent_at) && self.refused_since.is_some_and(|since| sent_at >= since)
    }

    /// Whether one was on less than [`LATE`] ago.
    pub(super) fn was_on_of_late(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| after(until, LATE) > now)
    }

    /// Episodes in a row, with the one that a refusal of a request sent at `sent_at` belongs to.
    pub(super) fn refusals_with(&self, sent_at: Instant) -> u32 {
        let is_new = !self.is_on_for(sent_at);
        self.refusals.saturating_add(u32::from(is_new))
    }

    /// What an admission that is granted now has to remember.
    pub(super) fn release(&self) -> Release {
        Release(self.moves)
    }

    /// Whether no pause has begun since.
    pub(super) fn is_current(&self, release: Release) -> bool {
        release.0 == self.moves
    }

    pub(super) fn served(&mut self, sent_at: Instant) {
        if self.until.is_none_or(|until| sent_at >= until) {
            self.refusals = 0;
        }
    }

    /// A request that was sent after it has been admitted, though its answer may take a while.
    pub(super) fn opened(&mut self) {
        self.refusals = 0;
    }

    /// Whether the refusal began a new episode.
    pub(super) fn refused(&mut self, sent_at: Instant, until: Instant) -> bool {
        let is_longer = self.until.is_none_or(|ends| until > ends);
        // One of an earlier burst that closes what is open again begins another row.
        let is_new = !self.is_on_for(sent_at) || self.refusals == 0 && is_longer;
        if self.refusals == 0 {
            self.refused_since = Some(sent_at);
        }
        self.refusals = self.refusals.saturating_add(u32::from(is_new));
        if is_longer {
            self.until = Some(until);
            self.moves = self.moves.wrapping_add(1);
        }
        is_new
    }

    /// It is over.
    pub(super) fn end(&mut self, now: Instant) {
        self.until = Some(now);
        self.moves = self.moves.wrapping_add(1);
        self.refusals = 0;
    }

    pub(super) fn reading(&mut self, until: Instant) {
        *self.reading.entry(until).or_default() += 1;
    }

    /// The refusal that was being read, and held callers back until then, has been.
    pub(super) fn understood(&mut self, until: Instant) {
        if let Some(readers) = self.reading.get_mut(&until) {
            *readers -= 1;
            if *readers == 0 {
                self.reading.remove(&until);
            }
        }
    }

    /// Whether no refusal is being read.
    #[cfg(test)]
    pub(super) fn is_understood(&self) -> bool {
        self.reading.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    fn paused_for(wait: Duration) -> (Pause, Instant) {
        let now = Instant::now();
        let mut pause = Pause::default();
        assert!(pause.refused(now, now + wait));
        (pause, now + wait)
    }

    #[test]
    fn nothing_is_held_back_before_the_first_refusal() {
        let pause = Pause::default();
        assert_eq!(pause.opens_at(), None);
        assert_eq!(pause.ends_at(Instant::now()), None);
        assert_eq!(pause.refusals, 0);
    }

    #[test]
    fn opens_at_the_end_of_the_longest_wait() {
        let (mut pause, until) = paused_for(5 * SECOND);
        pause.refused(until - 5 * SECOND, until - SECOND);
        assert_eq!(pause.opens_at(), Some(until));
        assert_eq!(pause.ends_at(until - Duration::from_nanos(1)), Some(until));
        assert_eq!(pause.ends_at(until), None);
        pause.refused(until - 5 * SECOND, until + SECOND);
        assert_eq!(pause.opens_at(), Some(until + SECOND));
    }

    #[test]
    fn what_was_sent_from_the_first_refused_one_on_until_the_pause_was_over_is_within_refusals() {
        let (mut pause, until) = paused_for(SECOND);
        let first = until - SECOND;
        pause.refused(until, until + SECOND);
        let nanosecond = Duration::from_nanos(1);
        let instants = [
            first - nanosecond,
            first,
            until + SECOND - nanosecond,
            until + SECOND,
        ];
        assert_eq!(
            instants.map(|sent_at| pause.is_within_refusals(sent_at)),
            [false, true, true, false]
        );
        pause.opened();
        assert!(pause.is_within_refusals(first), "though that row is over");
        assert!(!Pause::default().is_within_refusals(first));
    }

    #[test]
    fn since_the_first_refusal_nothing_was_served_until_something_is() {
        let (mut pause, until) = paused_for(SECOND);
        let first = until - SECOND;
        assert_eq!(pause.refused_since(), Some(first));
        pause.refused(until, until + SECOND);
        assert_eq!(pause.refused_since(), Some(first));
        pause.served(until + SECOND);
        assert_eq!(pause.refused_since(), None);
        pause.refused(until + 2 * SECOND, until + 3 * SECOND);
        assert_eq!(pause.refused_since(), Some(until + 2 * SECOND));
    }

    #[test]
    fn an_admission_is_void_when_a_longer_pause_begins_and_not_before() {
        let (mut pause, until) = paused_for(SECOND);
        let admission = pause.release();
        pause.served(until);
        pause.refused(until - SECOND, until);
        assert!(
            pause.is_current(admission),
            "a late refusal of the same burst is no longer pause"
        );
        pause.refused(until, until + SECOND);
        assert!(!pause.is_current(admission));
        assert!(pause.is_current(pause.release()));
    }

    #[test]
    fn the_refusals_of_one_burst_are_one() {
        let (mut pause, until) = paused_for(SECOND);
        let sent_at = until - SECOND;
        for _ in 0..99 {
            assert_eq!(pause.refusals_with(sent_at), 1);
            assert!(!pause.refused(sent_at, until));
        }
        assert_eq!(pause.refusals(), 1);
        assert_eq!(
            pause.refusals_with(until),
            2,
            "what was sent after the pause is another"
        );
        assert!(pause.refused(until, until + SECOND));
        assert_eq!(pause.refusals(), 2);
    }

    #[test]
    fn a_late_refusal_that_closes_what_is_open_again_begins_a_row() {
        let (mut pause, until) = paused_for(SECOND);
        pause.served(until);
        assert!(!pause.refused(until - SECOND, until), "it closes nothing");
        assert_eq!(pause.refusals, 0);
        assert!(pause.refused(until - SECOND, until + SECOND));
        assert_eq!(pause.refusals, 1);
        assert!(!pause.refused(until - SECOND, until + 2 * SECOND));
        assert_eq!(pause.refusals, 1, "another one of that burst");
    }

    #[test]
    fn only_what_was_sent_after_the_pause_ends_the_row() {
        let (mut pause, until) = paused_for(SECOND);
        pause.served(until - SECOND);
        assert_eq!(pause.refusals_with(until), 2);
        pause.served(until);
        assert_eq!(pause.refusals_with(until), 1);
    }

    #[test]
    fn counts_for_something_until_a_minute_after_its_end() {
        assert!(!Pause::default().was_on_of_late(Instant::now()));
        let (pause, until) = paused_for(SECOND);
        assert!(pause.was_on_of_late(until + 59 * SECOND));
        assert!(!pause.was_on_of_late(until + 60 * SECOND));
    }

    #[test]
    fn one_that_is_ended_holds_nobody_back_and_voids_what_was_admitted_behind_it() {
        let (mut pause, until) = paused_for(5 * SECOND);
        let admission = pause.release();
        let now = until - SECOND;
        pause.end(now);
        assert_eq!(pause.ends_at(now), None);
        assert_eq!((pause.refusals(), pause.refused_since()), (0, None));
        assert!(!pause.is_current(admission));
        assert_eq!(pause.refusals_with(now), 1);
    }

    #[test]
    fn each_refusal_that_is_read_holds_back_until_it_is_understood_itself() {
        let mut pause = Pause::default();
        let now = Instant::now();
        for seconds in [1, 200, 200, 3] {
            pause.reading(now + seconds * SECOND);
        }
        for (understood, left) in [(200, Some(200)), (200, Some(3)), (1, Some(3)), (3, None)] {
            pause.understood(now + understood * SECOND);
            assert_eq!(pause.ends_at(now), left.map(|left| now + left * SECOND));
        }
        assert!(pause.is_understood());
        pause.reading(now + SECOND);
        assert_eq!(
            pause.ends_at(now + SECOND),
            None,
            "and no longer than it says"
        );
        assert_eq!(pause.opens_at(), None, "and is no pause yet");
    }
}
