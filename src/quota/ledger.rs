//! What was admitted and is not answered, by when it was.
//!
//! A server that answers one request has counted those that were sent well before it, even if it has
//! not answered them: some take seconds, or hours. What it may not have counted is what was sent at
//! about the same time or later, for requests overtake each other on their way.

use super::Cost;
use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;

/// By how much requests overtake each other at most, unless the network is in trouble.
const SCRAMBLE: Duration = Duration::from_secs(1);

/// Spans of [`SCRAMBLE`], counted from the first admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span(u64);

#[derive(Debug, Default)]
pub(super) struct Ledger {
    began: Option<Instant>,
    /// What was admitted in each span and is still outstanding, in order.
    outstanding: VecDeque<(Span, Cost)>,
}

impl Ledger {
    pub(super) fn admitted(&mut self, now: Instant, cost: Cost) -> Span {
        let began = *self.began.get_or_insert(now);
        let elapsed = now.saturating_duration_since(began);
        // Threads may come a little late: what is older than the last goes with it.
        let last = self.outstanding.back().map_or(Span(0), |last| last.0);
        let span = Span(elapsed.as_secs() / SCRAMBLE.as_secs()).max(last);
        match self.outstanding.back_mut() {
            Some((back, outstanding)) if *back == span => *outstanding = outstanding.plus(cost),
            _ => self.outstanding.push_back((span, cost)),
        }
        span
    }

    /// Answered, abandoned, or given back.
    pub(super) fn settled(&mut self, span: Span, cost: Cost) {
        let place = self
            .outstanding
            .binary_search_by_key(&span, |entry| entry.0);
        if let Ok(place) = place {
            let outstanding = &mut self.outstanding[place].1;
            *outstanding = outstanding.minus(cost);
        }
        while self
            .outstanding
            .front()
            .is_some_and(|front| front.1 == Cost::NONE)
        {
            self.outstanding.pop_front();
        }
    }

    /// What the server may not have counted when it counted a request that was admitted in this
    /// span.
    pub(super) fn uncounted(&self, span: Span) -> Cost {
        let from = Span(span.0.saturating_sub(1));
        let recent = self
            .outstanding
            .iter()
            .rev()
            .take_while(|entry| entry.0 >= from);
        recent.fold(Cost::NONE, |sum, entry| sum.plus(entry.1))
    }

    #[cfg(test)]
    pub(super) fn is_settled(&self) -> bool {
        self.outstanding.is_empty()
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
    fn a_thread_that_comes_late_counts_with_the_last() {
        let mut ledger = Ledger::default();
        let began = Instant::now();
        ledger.admitted(began, requests(1));
        let later = ledger.admitted(began + 5 * SCRAMBLE, requests(1));
        assert_eq!(ledger.admitted(began + SCRAMBLE, requests(1)), later);
    }
}
