//! Requests that are answered, and whose bodies are still on their way.
//!
//! A server that streams its answer works on the request until the last byte, which may be minutes
//! after the head. Nobody can be relied on to read that byte, or to drop the body: a program may
//! keep an answer for as long as it likes. So a body that has been out four times as long as the
//! long ones take no longer counts; until one has ended, and for short ones, after ten seconds. If
//! it ends later, that was too short, and the next ones count for longer.

use super::{
    after,
    longest::{LEAST, Longest},
};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;

#[derive(Debug, Default)]
pub(super) struct Streams {
    /// When the head of each came, in the order in which they came.
    open: BTreeMap<u64, Instant>,
    /// How many there were.
    last: u64,
    /// From the sending to the end.
    longest: Longest,
}

impl Streams {
    /// The head of one has come; its number.
    pub(super) fn begin(&mut self, now: Instant) -> u64 {
        self.last += 1;
        self.open.insert(self.last, now);
        self.last
    }

    /// One has ended, or nobody reads it any longer; whether it was still counted.
    pub(super) fn end(&mut self, number: u64) -> bool {
        self.open.remove(&number).is_some()
    }

    /// Whether the head of one of those that count has come since then.
    pub(super) fn any_since(&self, at: Instant) -> bool {
        self.open
            .values()
            .next_back()
            .is_some_and(|&came| came > at)
    }

    /// The server has ended one, so long after it was sent.
    pub(super) fn took(&mut self, took: Duration) {
        self.longest.took(took);
    }

    /// No longer counts what has been out for far too long; how many these are.
    pub(super) fn pass(&mut self, now: Instant) -> u32 {
        let mut overdue = 0;
        while let Some(oldest) = self.open.first_entry() {
            if after(*oldest.get(), self.longest.far().unwrap_or(LEAST)) > now {
                break;
            }
            oldest.remove();
            overdue += 1;
        }
        overdue
    }

    /// About how long those take that take long, if one has ended.
    pub(super) fn longest(&self) -> Option<Duration> {
        self.longest.known()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const NANOSECOND: Duration = Duration::from_nanos(1);

    /// How long one counts that begins now.
    fn counts_for(streams: &mut Streams) -> Duration {
        let began = Instant::now();
        streams.begin(began);
        let mut passed = SECOND;
        while streams.pass(began + passed) == 0 {
            passed += SECOND;
        }
        passed
    }

    #[test]
    fn each_ends_once() {
        let (mut streams, now) = (Streams::default(), Instant::now());
        let [first, second] = [streams.begin(now), streams.begin(now)];
        assert!(streams.any_since(now - NANOSECOND) && !streams.any_since(now));
        assert!(streams.end(second) && !streams.end(second));
        assert_eq!(streams.pass(now + LEAST - NANOSECOND), 0);
        assert_eq!(streams.pass(now + LEAST), 1, "the first");
        assert!(!streams.end(first), "it does not count any longer");
    }

    #[test]
    fn long_ones_count_for_longer() {
        let mut streams = Streams::default();
        assert_eq!((counts_for(&mut streams), streams.longest()), (LEAST, None));
        streams.took(SECOND / 10);
        assert_eq!(counts_for(&mut streams), LEAST);
        assert_eq!(streams.longest(), Some(SECOND / 10));
        streams.took(20 * SECOND);
        assert_eq!(counts_for(&mut streams), 80 * SECOND);
        for _ in 0..4 {
            streams.took(SECOND);
        }
        assert!(counts_for(&mut streams) > 40 * SECOND, "few short ones");
        for _ in 0..100 {
            streams.took(SECOND);
        }
        assert_eq!(counts_for(&mut streams), LEAST, "all are short by now");
    }

    #[test]
    fn one_that_was_kept_is_no_measure() {
        let mut streams = Streams::default();
        streams.took(3_600 * SECOND);
        assert_eq!(counts_for(&mut streams), 80 * SECOND);
        let mut streams = Streams::default();
        streams.took(SECOND);
        streams.took(3_600 * SECOND);
        assert_eq!(counts_for(&mut streams), 80 * SECOND);
    }

    #[test]
    fn never_overflows() {
        let mut streams = Streams::default();
        for _ in 0..200 {
            streams.took(Duration::MAX);
        }
        let now = Instant::now();
        streams.begin(now);
        assert_eq!(streams.pass(now), 0);
    }
}
