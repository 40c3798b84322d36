//! Requests that are admitted and whose answer has not begun.
//!
//! An answer is heard of by whoever polls the future of its call, and nobody can be relied on to do
//! so, nor to drop it. So a request that has been out four times as long as the long answers take no
//! longer counts as in flight; for quick ones after ten seconds, and until an answer has come, after
//! a minute. If its answer comes later, that was too short, and the next ones count for longer.
//!
//! They are counted by the [`Span`] in which they were admitted and not one by one: it is only when all
//! of a span are overdue that they no longer count, and that is a second later at most.

use super::{after, ledger::Span, longest::Longest, push};
use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;

/// As long as nothing tells how long answers take: most of them come within it, and most programs do
/// not wait any longer for one.
const UNANSWERED: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Heads {
    /// In order; the first of them is not over.
    entries: VecDeque<Entry>,
    /// From the sending to the head of the answer.
    longest: Longest,
}

/// How many were admitted in one span and are not over.
#[derive(Debug)]
struct Entry {
    span: Span,
    count: u32,
    /// When the last of them was admitted.
    last: Instant,
}

impl Heads {
    /// One is admitted.
    #[inline]
    pub(super) fn begin(&mut self, now: Instant, span: Span) {
        match self.entries.back_mut() {
            Some(back) if back.span == span => {
                back.count += 1;
                back.last = now;
            }
            _ => {
                let (count, last) = (1, now);
                push(&mut self.entries, Entry { span, count, last });
            }
        }
    }

    /// One is answered, or nobody waits for it any longer; whether it was still counted.
    #[inline]
    pub(super) fn end(&mut self, span: Span) -> bool {
        let place = self.entries.binary_search_by_key(&span, |entry| entry.span);
        let entry = place.ok().and_then(|place| self.entries.get_mut(place));
        let Some(entry) = entry.filter(|entry| entry.count > 0) else {
            return false;
        };
        entry.count -= 1;
        while self.entries.front().is_some_and(|front| front.count == 0) {
            self.entries.pop_front();
        }
        true
    }

    /// The head of one has come so long after it was sent.
    #[inline]
    pub(super) fn took(&mut self, took: Duration) {
        self.longest.took(took);
    }

    /// Whether one of those that count may have been admitted since then.
    pub(super) fn any_since(&self, at: Instant) -> bool {
        let mut young = self.entries.iter().rev().take_while(|e| e.last > at);
        young.any(|entry| entry.count > 0)
    }

    /// When the oldest no longer count.
    #[inline]
    pub(super) fn overdue_at(&self) -> Option<Instant> {
        let oldest = self.entries.front()?;
        Some(after(oldest.last, self.longest.far().unwrap_or(UNANSWERED)))
    }

    /// No longer counts what has been out for far too long; how many these are.
    #[inline]
    pub(super) fn pass(&mut self, now: Instant) -> u32 {
        let mut overdue = 0;
        while self.overdue_at().is_some_and(|at| at <= now) {
            overdue += self.entries.pop_front().map_or(0, |oldest| oldest.count);
        }
        overdue
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::{Cost, ledger::Ledger};

    const SECOND: Duration = Duration::from_secs(1);
    const NANOSECOND: Duration = Duration::from_nanos(1);
    const REQUEST: Cost = Cost {
        requests: 1,
        tokens: 0,
    };

    /// How long one counts that is admitted now.
    fn counts_for(heads: &mut Heads) -> Duration {
        let (mut ledger, began) = (Ledger::default(), Instant::now());
        heads.begin(began, ledger.admitted(began, REQUEST));
        let mut passed = SECOND;
        while heads.pass(began + passed) == 0 {
            passed += SECOND;
        }
        passed
    }

    #[test]
    fn one_counts_for_a_minute_as_long_as_nothing_was_answered() {
        assert_eq!(counts_for(&mut Heads::default()), UNANSWERED);
    }

    #[test]
    fn one_counts_for_four_times_as_long_as_the_long_ones_take() {
        let mut heads = Heads::default();
        heads.took(SECOND / 10);
        assert_eq!(counts_for(&mut heads), 10 * SECOND);
        heads.took(20 * SECOND);
        heads.took(SECOND / 10);
        assert!(counts_for(&mut heads) > 60 * SECOND, "the short one is one");
    }

    #[test]
    fn what_was_admitted_of_late_is_told_from_what_was_admitted_long_ago() {
        let (mut heads, mut ledger, began) = (Heads::default(), Ledger::default(), Instant::now());
        assert!(!heads.any_since(began - SECOND));
        let [first, second] = [0, 2].map(|n| {
            let now = began + SECOND * n;
            let span = ledger.admitted(now, REQUEST);
            heads.begin(now, span);
            span
        });
        let latest = began + 2 * SECOND;
        assert!(heads.any_since(latest - NANOSECOND) && !heads.any_since(latest));
        heads.end(second);
        assert!(!heads.any_since(began) && heads.any_since(began - NANOSECOND));
        heads.end(first);
        assert!(!heads.any_since(began - NANOSECOND));
    }

    #[test]
    fn each_is_over_once() {
        let (mut heads, mut ledger, began) = (Heads::default(), Ledger::default(), Instant::now());
        let [first, second, third] = [0, 1, 2].map(|n| {
            let now = began + 2 * SECOND * n;
            let span = ledger.admitted(now, REQUEST);
            heads.begin(now, span);
            span
        });
        assert!(heads.end(second) && !heads.end(second));
        assert_eq!(heads.overdue_at(), Some(began + UNANSWERED));
        assert_eq!(heads.pass(began + UNANSWERED - NANOSECOND), 0);
        assert_eq!(heads.pass(began + UNANSWERED), 1);
        assert!(!heads.end(first), "it does not count any longer");
        assert!(heads.end(third));
        assert_eq!((heads.entries.len(), heads.overdue_at()), (0, None));
    }

    #[test]
    fn those_of_one_span_are_overdue_together() {
        let (mut heads, mut ledger, began) = (Heads::default(), Ledger::default(), Instant::now());
        for tenths in 0..10 {
            let now = began + tenths * SECOND / 10;
            heads.begin(now, ledger.admitted(now, REQUEST));
        }
        assert_eq!(heads.pass(began + UNANSWERED), 0);
        assert_eq!(heads.pass(began + UNANSWERED + 9 * SECOND / 10), 10);
    }
}
