//! What was counted since the start.

use crate::{quota::RefusalCause, report::StopReason};
use std::time::Duration;

/// Servers name a few dimensions; beyond so many kinds of refusals further ones count as
/// [`RefusalCause::Others`], so that no server makes us keep any number of names.
const MAX_KINDS: usize = 16;

/// What was counted since a partition was first seen, or since the layer was made; it never goes
/// down.
///
/// All are counts of events but [`waited`](Self::waited), which is a sum of times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub(crate) calls: u64,
    pub(crate) attempts: u64,
    pub(crate) retries: u64,
    pub(crate) waited: Duration,
    pub(crate) answered_locally: u64,
    refusals: Vec<(RefusalCause, u64)>,
    given_back: Vec<(StopReason, u64)>,
}

impl Totals {
    /// Nothing yet, and the room for all that may be [added](Self::add).
    pub(crate) fn with_room() -> Self {
        Self {
            refusals: Vec::with_capacity(MAX_KINDS + 1),
            given_back: Vec::with_capacity(MAX_KINDS),
            ..Self::default()
        }
    }

    /// What both have counted.
    pub(crate) fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.attempts += other.attempts;
        self.retries += other.retries;
        self.waited = self.waited.saturating_add(other.waited);
        self.answered_locally += other.answered_locally;
        for (cause, count) in &other.refusals {
            self.add_refusals(cause, *count);
        }
        for &(reason, count) in &other.given_back {
            add(&mut self.given_back, &reason, count);
        }
    }

    /// An attempt was refused.
    pub(crate) fn refused(&mut self, cause: &RefusalCause) {
        self.add_refusals(cause, 1);
    }

    /// A call ends with what could have been retried, or with an answer of our own.
    pub(crate) fn gave_back(&mut self, reason: StopReason) {
        add(&mut self.given_back, &reason, 1);
    }

    /// Calls that have arrived.
    pub fn calls(&self) -> u64 {
        self.calls
    }

    /// Attempts that were sent, the first ones included.
    pub fn attempts(&self) -> u64 {
        self.attempts
    }

    /// Of the attempts, those that were not the first of their call.
    pub fn retries(&self) -> u64 {
        self.retries
    }

    /// Attempts that the server refused, whatever the reason.
    pub fn refusals(&self) -> u64 {
        self.refusals.iter().map(|(_, count)| count).sum()
    }

    /// The same one by one: what each was put down to, in the order in which these were first met.
    ///
    /// Of the names of dimensions some dozen are told apart, others count as [`RefusalCause::Others`].
    pub fn refusals_by_cause(&self) -> impl Iterator<Item = (&RefusalCause, u64)> {
        self.refusals.iter().map(|(cause, count)| (cause, *count))
    }

    /// How many refusals were put down to this.
    pub fn refusals_by(&self, cause: &RefusalCause) -> u64 {
        count(&self.refusals, cause)
    }

    /// Calls that ended with a refusal, the server's or the layer's own answer, or with a failure that
    /// [`retry_if`](crate::RateLimitRetryLayer::retry_if) or
    /// [`retry_error`](crate::RateLimitRetryLayer::retry_error) would have had retried.
    pub fn given_back(&self) -> u64 {
        self.given_back.iter().map(|(_, count)| count).sum()
    }

    /// The same one by one: why each was not tried again, in the order in which these were first met.
    pub fn given_back_by_reason(&self) -> impl Iterator<Item = (StopReason, u64)> {
        self.given_back.iter().copied()
    }

    /// How many were given back for this reason.
    pub fn given_back_by(&self, reason: StopReason) -> u64 {
        count(&self.given_back, &reason)
    }

    /// Of those given back, the ones that the layer has answered itself.
    pub fn answered_locally(&self) -> u64 {
        self.answered_locally
    }

    /// How long all calls together were held back, as
    /// [`RetryReport::waited`](crate::RetryReport::waited) tells it of each: what is over, so
    /// without those that wait now; and without those that were dropped while they waited.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    fn add_refusals(&mut self, cause: &RefusalCause, count: u64) {
        let is_known = self.refusals.iter().any(|(known, _)| known == cause);
        let is_full = self.refusals.len() >= MAX_KINDS;
        let cause = if is_full && !is_known {
            &RefusalCause::Others
        } else {
            cause
        };
        add(&mut self.refusals, cause, count);
    }
}

fn add<K: Clone + PartialEq>(counts: &mut Vec<(K, u64)>, key: &K, more: u64) {
    match counts.iter_mut().find(|(known, _)| known == key) {
        Some((_, count)) => *count += more,
        None => counts.push((key.clone(), more)),
    }
}

fn count<K: PartialEq>(counts: &[(K, u64)], key: &K) -> u64 {
    let known = counts.iter().find(|(known, _)| known == key);
    known.map_or(0, |(_, count)| *count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dimension(number: usize) -> RefusalCause {
        RefusalCause::Dimension(format!("dimension-{number}").into())
    }

    #[test]
    fn no_refusal_is_lost_however_many_dimensions_a_server_names() {
        let (mut totals, mut all) = (Totals::default(), Totals::with_room());
        for number in 0..1_000 {
            totals.refused(&dimension(number));
            totals.refused(&dimension(0));
        }
        for _ in 0..2 {
            all.add(&totals);
        }
        assert_eq!(all.refusals(), 4_000);
        assert_eq!(all.refusals_by(&dimension(0)), 2_002);
        assert_eq!(all.refusals_by(&RefusalCause::Others), 2 * (1_000 - 16));
        assert!(all.refusals_by_cause().count() <= MAX_KINDS + 1);
    }

    #[test]
    fn what_was_made_with_room_takes_all_without_more() {
        let mut totals = Totals {
            calls: 7,
            attempts: 9,
            retries: 3,
            waited: Duration::from_secs(4),
            answered_locally: 1,
            ..Totals::default()
        };
        (0..100).for_each(|number| totals.refused(&dimension(number)));
        totals.gave_back(StopReason::Deadline);
        let mut copy = Totals::with_room();
        let room = copy.refusals.capacity();
        copy.add(&totals);
        assert_eq!(copy, totals);
        assert_eq!(copy.refusals.capacity(), room);
    }
}
