//! What was admitted, and what of it the server may not have counted yet.
//!
//! A server that answers one request has counted those that were sent well before it, even if it has
//! not answered them: some take seconds. What it may not have counted is what was sent at about the
//! same time or later, for requests overtake each other on their way. So each attempt remembers how
//! much had been admitted shortly before it.

use super::Cost;
use std::time::Duration;
use tokio::time::Instant;

/// By how much requests overtake each other at most, unless the network is in trouble.
const SCRAMBLE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// All that was ever admitted.
    admitted: Cost,
    /// What of it is not answered, sent already or not.
    outstanding: Cost,
    /// What had been admitted when the present span of [`SCRAMBLE`] began, and the one before it.
    marks: [Cost; 2],
    marked_at: Option<Instant>,
}

impl Ledger {
    pub(super) fn admitted(&mut self, now: Instant, cost: Cost) {
        let elapsed = self.marked_at.map(|at| now.saturating_duration_since(at));
        if elapsed.is_none_or(|elapsed| elapsed >= SCRAMBLE) {
            self.marks = [self.admitted, self.marks[0]];
            self.marked_at = Some(now);
        }
        self.admitted = self.admitted.plus(cost);
        self.outstanding = self.outstanding.plus(cost);
    }

    /// Answered, abandoned, or given back.
    pub(super) fn settled(&mut self, cost: Cost) {
        self.outstanding = self.outstanding.minus(cost);
    }

    /// All that had been admitted well before what is sent now.
    pub(super) fn before(&self) -> Cost {
        self.marks[1]
    }

    /// What the answer to an attempt may not have counted, if `before` had been admitted well
    /// before it.
    pub(super) fn uncounted(&self, before: Cost) -> Cost {
        self.admitted.minus(before).least(self.outstanding)
    }

    #[cfg(test)]
    pub(super) fn outstanding(&self) -> Cost {
        self.outstanding
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
        for second in 1..=10 {
            ledger.admitted(began + SCRAMBLE * second, requests(1));
        }
        let before = ledger.before();
        assert_eq!(
            before,
            requests(1_008),
            "the last span and the one before it may be on their way"
        );
        ledger.admitted(began + SCRAMBLE * 11, requests(5));
        assert_eq!(ledger.uncounted(before), requests(7));
    }

    #[test]
    fn what_is_settled_is_no_longer_uncounted() {
        let mut ledger = Ledger::default();
        let before = ledger.before();
        ledger.admitted(Instant::now(), requests(3));
        ledger.settled(requests(2));
        assert_eq!(ledger.uncounted(before), requests(1));
        ledger.settled(requests(1));
        assert_eq!(ledger.uncounted(before), Cost::NONE);
    }
}
