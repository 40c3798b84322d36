//! What was admitted and is not answered, by when it was.
//!
//! A server that answers one request has counted those that were sent well before it, even if it has
//! not answered them: some take seconds, or hours. What it may not have counted is what was sent at
//! about the same time or later, for requests overtake each other on their way. That somebody has
//! given up waiting for one of them makes no difference to the server: it will count it as well.

use super::{Cost, push};
use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;

/// By how much requests overtake each other at most, unless the network is in trouble.
const SCRAMBLE: Duration = Duration::from_secs(1);

/// So many spans are kept at most: an hour.
const LONGEST: u64 = 3_600;

/// Spans of [`SCRAMBLE`], counted from the first admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span(u64);

impl Span {
    fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    began: Option<Instant>,
    /// In order, and none of which nothing is outstanding or abandoned; those of which something is
    /// abandoned only as long as they may be asked for, and none longer than [`LONGEST`].
    entries: VecDeque<Entry>,
}

/// What was admitted in one span.
#[derive(Debug)]
struct Entry {
    span: Span,
    /// Not answered yet.
    outstanding: Cost,
    /// Sent, and never to be heard of.
    abandoned: Cost,
}

impl Ledger {
    #[inline]
    pub(super) fn admitted(&mut self, now: Instant, cost: Cost) -> Span {
        let began = *self.began.get_or_insert(now);
        let elapsed = now.saturating_duration_since(began);
        // Threads may come a little late: what is older than the last goes with it.
        let last = self.entries.back().map_or(Span(0), |last| last.span);
        let span = Span(elapsed.as_secs() / SCRAMBLE.as_secs()).max(last);
        match self.entries.back_mut() {
            Some(back) if back.span == span => back.outstanding = back.outstanding.plus(cost),
            _ => push(
                &mut self.entries,
                Entry {
                    span,
                    outstanding: cost,
                    abandoned: Cost::NONE,
                },
            ),
        }
        self.clear();
        span
    }

    /// Answered, or given back.
    #[inline]
    pub(super) fn settled(&mut self, span: Span, cost: Cost) {
        let Ok(place) = self.place(span) else { return };
        let entry = &mut self.entries[place];
        entry.outstanding = entry.outstanding.minus(cost);
        if entry.outstanding.plus(entry.abandoned) == Cost::NONE {
            self.entries.remove(place);
        }
    }

    /// Sent, and given up.
    pub(super) fn abandoned(&mut self, span: Span, cost: Cost) {
        if let Ok(place) = self.place(span) {
            let entry = &mut self.entries[place];
            entry.outstanding = entry.outstanding.minus(cost);
            entry.abandoned = entry.abandoned.plus(cost);
        }
    }

    /// What the server may not have counted when it counted a request that was admitted in this
    /// span.
    #[inline]
    pub(super) fn uncounted(&self, span: Span) -> Cost {
        let from = span.before();
        let recent = self.entries.iter().rev();
        let recent = recent.take_while(|entry| entry.span >= from);
        recent.fold(Cost::NONE, |sum, entry| {
            sum.plus(entry.outstanding).plus(entry.abandoned)
        })
    }

    fn place(&self, span: Span) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&span, |entry| entry.span)
    }

    /// Drops what no answer will ask for that is yet to come, and what no server can still have to
    /// count.
    fn clear(&mut self) {
        let last = self.entries.back().map_or(0, |last| last.span.0);
        let is_old = |entry: &Entry| entry.span.0.saturating_add(LONGEST) < last;
        while self.entries.front().is_some_and(is_old) {
            self.entries.pop_front();
        }
        let mut entries = self.entries.iter();
        let oldest = entries.find(|entry| entry.outstanding != Cost::NONE);
        let Some(from) = oldest.map(|oldest| oldest.span.before()) else {
            return;
        };
        while self.entries.front().is_some_and(|front| front.span < from) {
            self.entries.pop_front();
        }
    }

    #[cfg(test)]
    pub(super) fn is_settled(&self) -> bool {
        self.entries
            .iter()
            .all(|entry| entry.outstanding == Cost::NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(requests: u64) -> Cost {
        Cost {
            requests,
            tokens: 10 * requests,
        }
    }

    #[test]
    fn what_was_sent_long_before_is_counted_and_what_came_since_is_not() {
        let mut ledger = Ledger::default();
        let began = Instant::now();
        ledger.admitted(began, requests(1_000));
        let spans: Vec<_> = (1..=10)
            .map(|n| ledger.admitted(began + SCRAMBLE * n, requests(1)))
            .collect();
        assert_eq!(
            ledger.uncounted(spans[9]),
            requests(2),
            "the span before it is about the same"
        );
        assert_eq!(ledger.uncounted(spans[4]), requests(7));
        assert_eq!(ledger.uncounted(spans[0]), requests(1_010));
    }

    #[test]
    fn what_is_settled_is_no_longer_uncounted() {
        let mut ledger = Ledger::default();
        let began = Instant::now();
        let first = ledger.admitted(began, requests(3));
        let second = ledger.admitted(began + SCRAMBLE, requests(5));
        ledger.settled(second, requests(5));
        assert_eq!(ledger.uncounted(second), requests(3));
        ledger.settled(first, requests(1));
        ledger.settled(first, requests(2));
        assert_eq!(ledger.uncounted(first), Cost::NONE);
        assert!(ledger.is_settled());
    }

    #[test]
    fn what_is_given_up_is_uncounted_for_those_that_were_sent_at_about_the_same_time() {
        let mut ledger = Ledger::default();
        let began = Instant::now();
        let slow = ledger.admitted(began, requests(1));
        let second = ledger.admitted(began + SCRAMBLE, requests(5));
        ledger.abandoned(second, requests(5));
        assert!(!ledger.is_settled(), "there is still the slow one");
        let third = ledger.admitted(began + 2 * SCRAMBLE, requests(1));
        let fourth = ledger.admitted(began + 3 * SCRAMBLE, requests(1));
        ledger.settled(fourth, requests(1));
        assert_eq!(ledger.uncounted(fourth), requests(1), "the third");
        ledger.settled(third, requests(1));
        assert_eq!(ledger.uncounted(third), requests(5));
        ledger.settled(slow, requests(1));
        assert_eq!(ledger.uncounted(slow), requests(5));
        assert!(ledger.is_settled());
    }

    #[test]
    fn one_that_stays_out_keeps_no_others() {
        let mut ledger = Ledger::default();
        let began = Instant::now();
        ledger.admitted(began, requests(1));
        for seconds in 1..100_000 {
            let span = ledger.admitted(began + SCRAMBLE * seconds, requests(1));
            if seconds % 2 == 0 {
                ledger.settled(span, requests(1));
            } else {
                ledger.abandoned(span, requests(1));
            }
            assert!(ledger.entries.len() <= 1_802, "{seconds}");
        }
    }

    #[test]
    fn what_is_given_up_is_not_kept_for_ever() {
        let mut ledger = Ledger::default();
        let began = Instant::now();
        for n in 0..1_000 {
            let span = ledger.admitted(began + SCRAMBLE * n, requests(1));
            ledger.abandoned(span, requests(1));
            assert!(ledger.entries.len() <= 2);
        }
        let later = ledger.admitted(began + SCRAMBLE * 1_002, requests(1));
        ledger.settled(later, requests(1));
        assert_eq!(ledger.uncounted(later), Cost::NONE);
        assert_eq!(ledger.entries.len(), 0);
    }

    #[test]
    fn a_thread_that_comes_late_counts_with_the_last() {
        let mut ledger = Ledger::default();
        let began = Instant::now();
        ledger.admitted(began, requests(1));
        let later = ledger.admitted(began + 5 * SCRAMBLE, requests(1));
        assert_eq!(ledger.admitted(began + SCRAMBLE, requests(1)), later);
    }
}
