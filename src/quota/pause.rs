//! Closed until an instant, then open by degrees.
//!
//! A refusal with a wait closes the partition until the wait is over; of several waits the longest
//! counts. Refusals of requests that were sent before the pause began belong to the same episode:
//! the burst that met the limit is one event, however many of its requests were refused. When the
//! pause is over one request goes, after one step two more, after two steps four more, and so on: a
//! server that still refuses is asked once and not a thousand times, and one that serves again has
//! a thousand requests within ten steps.

use super::after;
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;

/// The time in which a refusal would be known: about a round trip between continents.
const STEP: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(super) struct Pause {
    until: Option<Instant>,
    /// How often `until` has moved, and the requests admitted since it last did.
    moves: u32,
    released: u64,
    /// Episodes since a request was last served.
    refusals: u32,
    /// Refusals whose bodies are being read, by the instant at which each stops holding callers
    /// back.
    reading: BTreeMap<Instant, u32>,
}

/// Which pause an admission was counted behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Release(u32);

impl Pause {
    /// When the next may go after `ahead` others, as far as refusals have been understood.
    pub(super) fn opens_at(&self, ahead: u64) -> Option<Instant> {
        let place = self.released.saturating_add(ahead).saturating_add(1);
        self.until.map(|until| after(until, STEP * place.ilog2()))
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

    /// Episodes in a row, with the one that a refusal of a request sent at `sent_at` belongs to.
    pub(super) fn refusals_with(&self, sent_at: Instant) -> u32 {
        let new = self.until.is_none_or(|until| sent_at >= until);
        self.refusals.saturating_add(u32::from(new))
    }

    /// A request is admitted.
    pub(super) fn release(&mut self) -> Release {
        self.released = self.released.saturating_add(1);
        Release(self.moves)
    }

    /// Whether no pause has begun since.
    pub(super) fn is_current(&self, release: Release) -> bool {
        release.0 == self.moves
    }

    /// An admission was not used.
    pub(super) fn take_back(&mut self, release: Release) {
        if self.is_current(release) {
            self.released = self.released.saturating_sub(1);
        }
    }

    pub(super) fn served(&mut self, sent_at: Instant) {
        if self.until.is_none_or(|until| sent_at >= until) {
            self.refusals = 0;
        }
    }

    /// Whether the refusal began a new episode.
    pub(super) fn refused(&mut self, sent_at: Instant, until: Instant) -> bool {
        let refusals = self.refusals_with(sent_at);
        let is_new = refusals > self.refusals;
        self.refusals = refusals;
        if self.until.is_none_or(|ends| until > ends) {
            self.until = Some(until);
            self.moves = self.moves.wrapping_add(1);
            self.released = 0;
        }
        is_new
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

    const SECOND: Duration = Duration::from_secs(1);

    fn paused_for(wait: Duration) -> (Pause, Instant) {
        let now = Instant::now();
        let mut pause = Pause::default();
        assert!(pause.refused(now, now + wait));
        (pause, now + wait)
    }

    #[test]
    fn nothing_is_held_back_before_the_first_refusal() {
        assert_eq!(Pause::default().opens_at(1_000_000), None);
    }

    #[test]
    fn opens_at_the_end_of_the_longest_wait() {
        let (mut pause, until) = paused_for(5 * SECOND);
        pause.refused(until - 5 * SECOND, until - SECOND);
        assert_eq!(pause.opens_at(0), Some(until));
        assert_eq!(pause.ends_at(until - Duration::from_nanos(1)), Some(until));
        assert_eq!(pause.ends_at(until), None);
    }

    #[test]
    fn opens_by_degrees() {
        let (mut pause, until) = paused_for(SECOND);
        let steps = [0, 1, 1, 2, 2, 2, 2, 3];
        for step in steps {
            assert_eq!(pause.opens_at(0), Some(until + STEP * step));
            pause.release();
        }
        let thousandth = pause.opens_at(1_000 - 9);
        assert_eq!(
            thousandth,
            Some(until + STEP * 9),
            "a thousand within ten steps"
        );
        assert_eq!(pause.opens_at(u64::MAX), Some(until + STEP * 63));
    }

    #[test]
    fn a_late_refusal_of_the_same_burst_does_not_open_the_door_anew() {
        let (mut pause, until) = paused_for(SECOND);
        for _ in 0..63 {
            pause.release();
        }
        pause.refused(until - SECOND, until);
        assert_eq!(pause.opens_at(0), Some(until + STEP * 6));
        pause.refused(until, until + SECOND);
        assert_eq!(
            pause.opens_at(0),
            Some(until + SECOND),
            "but a longer wait begins again"
        );
    }

    #[test]
    fn an_unused_release_is_free_for_the_next_behind_the_same_pause() {
        let (mut pause, until) = paused_for(SECOND);
        let unused = pause.release();
        pause.take_back(unused);
        assert_eq!(pause.opens_at(0), Some(until));
        let before = pause.release();
        pause.refused(until, until + SECOND);
        pause.release();
        pause.take_back(before);
        assert_eq!(pause.opens_at(0), Some(until + SECOND + STEP));
    }

    #[test]
    fn the_refusals_of_one_burst_are_one() {
        let (mut pause, until) = paused_for(SECOND);
        let sent_at = until - SECOND;
        for _ in 0..99 {
            assert_eq!(pause.refusals_with(sent_at), 1);
            assert!(!pause.refused(sent_at, until));
        }
        assert_eq!(
            pause.refusals_with(until),
            2,
            "what was sent after the pause is another"
        );
        assert!(pause.refused(until, until + SECOND));
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
        pause.reading(now + SECOND);
        assert_eq!(
            pause.ends_at(now + SECOND),
            None,
            "and no longer than it says"
        );
        assert_eq!(pause.opens_at(0), None, "and is no pause yet");
    }
}
