//! Closed until an instant, then open by degrees.
//!
//! A refusal with a wait closes the partition until the wait is over; of several waits the longest
//! counts. Refusals of requests that were sent before the pause began belong to the same episode:
//! the burst that met the limit is one event, however many of its requests were refused. When the
//! pause is over one request goes, after one step two more, after two steps four more, and so on: a
//! server that still refuses is asked once and not a thousand times, and one that serves again has
//! a thousand requests within ten steps.

use super::after;
use std::time::Duration;
use tokio::time::Instant;

/// The time in which a refusal would be known: about a round trip between continents.
const STEP: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(super) struct Pause {
    until: Option<Instant>,
    /// Requests admitted since `until`.
    released: u64,
    /// Episodes since a request was last served.
    refusals: u32,
    /// Refusals whose bodies are being read, and when the last of them stops holding callers back.
    reading: u32,
    reading_until: Option<Instant>,
}

impl Pause {
    /// When the next may go after `ahead` others.
    pub(super) fn opens_at(&self, now: Instant, ahead: u64) -> Option<Instant> {
        let place = self.released.saturating_add(ahead).saturating_add(1);
        let opens = self.until.map(|until| after(until, STEP * place.ilog2()));
        opens.max(self.reading_until(now))
    }

    /// When the pause that is on at `now` ends.
    pub(super) fn ends_at(&self, now: Instant) -> Option<Instant> {
        self.until
            .max(self.reading_until(now))
            .filter(|&until| until > now)
    }

    /// Episodes in a row, with the one that a refusal of a request sent at `sent_at` belongs to.
    pub(super) fn refusals_with(&self, sent_at: Instant) -> u32 {
        let new = self.until.is_none_or(|until| sent_at >= until);
        self.refusals.saturating_add(u32::from(new))
    }

    pub(super) fn released(&mut self, requests: u64) {
        self.released = self.released.saturating_add(requests);
    }

    pub(super) fn took_back(&mut self, requests: u64) {
        self.released = self.released.saturating_sub(requests);
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
        self.until = self.until.max(Some(until));
        self.released = 0;
        is_new
    }

    pub(super) fn reading(&mut self, until: Instant) {
        self.reading += 1;
        self.reading_until = self.reading_until.max(Some(until));
    }

    pub(super) fn understood(&mut self) {
        self.reading = self.reading.saturating_sub(1);
        if self.reading == 0 {
            self.reading_until = None;
        }
    }

    /// Whether no refusal is being read.
    #[cfg(test)]
    pub(super) fn is_understood(&self) -> bool {
        self.reading == 0 && self.reading_until.is_none()
    }

    fn reading_until(&self, now: Instant) -> Option<Instant> {
        self.reading_until.filter(|&until| until > now)
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
        assert_eq!(Pause::default().opens_at(Instant::now(), 1_000_000), None);
    }

    #[test]
    fn opens_at_the_end_of_the_longest_wait() {
        let (mut pause, until) = paused_for(5 * SECOND);
        pause.refused(until - 5 * SECOND, until - SECOND);
        assert_eq!(pause.opens_at(until - 3 * SECOND, 0), Some(until));
        assert_eq!(pause.ends_at(until - Duration::from_nanos(1)), Some(until));
        assert_eq!(pause.ends_at(until), None);
    }

    #[test]
    fn opens_by_degrees() {
        let (mut pause, until) = paused_for(SECOND);
        let steps = [0, 1, 1, 2, 2, 2, 2, 3];
        for step in steps {
            assert_eq!(pause.opens_at(until, 0), Some(until + STEP * step));
            pause.released(1);
        }
        assert_eq!(
            pause.opens_at(until, 1015),
            Some(until + STEP * 10),
            "a thousand within ten steps"
        );
        assert_eq!(pause.opens_at(until, u64::MAX), Some(until + STEP * 63));
    }

    #[test]
    fn an_unused_release_is_free_for_the_next() {
        let (mut pause, until) = paused_for(SECOND);
        pause.released(1);
        pause.took_back(1);
        assert_eq!(pause.opens_at(until, 0), Some(until));
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
    fn a_refusal_that_is_read_holds_back_until_it_is_understood() {
        let mut pause = Pause::default();
        let now = Instant::now();
        pause.reading(now + SECOND);
        pause.reading(now + 2 * SECOND);
        assert_eq!(pause.opens_at(now, 0), Some(now + 2 * SECOND));
        pause.understood();
        assert_eq!(
            pause.opens_at(now, 0),
            Some(now + 2 * SECOND),
            "the other is still being read"
        );
        assert_eq!(
            pause.opens_at(now + 2 * SECOND, 0),
            None,
            "but not for ever"
        );
        pause.understood();
        assert_eq!(pause.opens_at(now, 0), None);
    }
}
