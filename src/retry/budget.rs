//! How many retries of failures a server is sent, whoever asks for them.
//!
//! A server that is broken fails every request, and retries would multiply what it has to bear just
//! when it can bear the least. So they are paid for: each first attempt deposits a fifth of a retry,
//! of which what is not used loses its worth in the course of ten seconds; and there is a reserve of
//! a hundred, into which ten flow per second, for programs that have only begun or send little. In
//! any span retries are then no more than a fifth of the first attempts in and shortly before it,
//! the reserve, and ten per second. The numbers are those of Finagle's `RetryBudget` and of
//! `tower::retry::budget`; but theirs keep what happened in a ring of slots, this one two sums.
//!
//! Refusals of a rate limit pay nothing: when they are retried, the server has said when.

use std::time::Duration;
use tokio::time::Instant;

/// What a first attempt deposits.
const DEPOSIT_RATIO: f64 = 0.2;

/// What flows into the reserve.
const MIN_PER_SECOND: f64 = 10.0;

/// How long it takes until a third of a deposit is left, and how many seconds' flow the reserve holds.
const TTL: Duration = Duration::from_secs(10);

const RESERVE: f64 = MIN_PER_SECOND * TTL.as_secs() as f64;

/// How many retries may be sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Budget {
    /// What is left of all deposits.
    deposited: f64,
    /// What is missing in the reserve.
    lent: f64,
    /// The time of these sums.
    at: Option<Instant>,
}

impl Budget {
    /// A request is sent for the first time.
    pub(crate) fn deposit(&mut self, now: Instant) {
        *self = self.passed(now);
        self.deposited += DEPOSIT_RATIO;
    }

    /// Whether a retry could be withdrawn.
    pub(crate) fn is_sufficient(&self, now: Instant) -> bool {
        self.passed(now).balance() >= 1.0
    }

    /// A request is to be sent again; `false` if that cannot be paid for.
    pub(crate) fn withdraw(&mut self, now: Instant) -> bool {
        *self = self.passed(now);
        if self.balance() < 1.0 {
            return false;
        }
        let deposited = self.deposited.min(1.0);
        self.deposited -= deposited;
        self.lent += 1.0 - deposited;
        true
    }

    /// A retry that was withdrawn is not sent after all.
    pub(crate) fn refund(&mut self, now: Instant) {
        *self = self.passed(now);
        let lent = self.lent.min(1.0);
        self.lent -= lent;
        self.deposited += 1.0 - lent;
    }

    /// Whether the reserve is full, as that of a new budget is.
    pub(crate) fn is_full(&self, now: Instant) -> bool {
        self.passed(now).lent <= 0.0
    }

    fn balance(&self) -> f64 {
        self.deposited + (RESERVE - self.lent)
    }

    /// The same at a later time.
    fn passed(self, now: Instant) -> Self {
        let seconds = self
            .at
            .map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        Self {
            deposited: self.deposited * (-seconds / TTL.as_secs_f64()).exp(),
            lent: (self.lent - seconds * MIN_PER_SECOND).max(0.0),
            at: self.at.max(Some(now)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// How many retries are granted at once.
    fn grants(budget: &mut Budget, now: Instant) -> u32 {
        (0..10_000).take_while(|_| budget.withdraw(now)).count() as u32
    }

    fn deposit(budget: &mut Budget, count: u32, now: Instant) {
        (0..count).for_each(|_| budget.deposit(now));
    }

    #[test]
    fn who_has_only_begun_has_the_reserve() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        assert!(budget.is_sufficient(now));
        assert_eq!(grants(&mut budget, now), 100);
        assert!(!budget.is_sufficient(now));
    }

    #[test]
    fn five_first_attempts_pay_for_a_retry() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        deposit(&mut budget, 1_001, now);
        assert_eq!(grants(&mut budget, now), 300);
    }

    #[test]
    fn ten_retries_flow_in_each_second_up_to_the_reserve() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        assert_eq!(grants(&mut budget, now), 100);
        let at = |millis| now + Duration::from_millis(millis);
        assert!(!budget.is_sufficient(at(99)));
        assert!(budget.is_sufficient(at(100)));
        assert_eq!(grants(&mut budget, at(1_050)), 10);
        assert_eq!(grants(&mut budget, at(1_000_000)), 100);
    }

    #[test]
    fn a_deposit_loses_its_worth_with_time() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        deposit(&mut budget, 5_000, now);
        let later = now + TTL;
        assert_eq!(grants(&mut budget, later), 100 + 367);
        deposit(&mut budget, 5_000, later);
        assert_eq!(grants(&mut budget, later + TTL * 20), 100);
    }

    #[test]
    fn what_is_refunded_can_be_withdrawn_again_and_no_more() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        for _ in 0..1_000 {
            assert!(budget.withdraw(now));
            budget.refund(now);
        }
        assert_eq!(grants(&mut budget, now), 100);
        budget.refund(now);
        assert_eq!(grants(&mut budget, now), 1);
        deposit(&mut budget, 10, now);
        assert!(budget.withdraw(now));
        budget.refund(now);
        assert_eq!(grants(&mut budget, now), 2);
    }

    #[test]
    fn it_is_full_until_more_is_withdrawn_than_was_deposited_and_again_later() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        assert!(budget.is_full(now));
        deposit(&mut budget, 5, now);
        assert!(budget.withdraw(now) && budget.is_full(now));
        assert!(budget.withdraw(now) && !budget.is_full(now));
        assert!(!budget.is_full(now + Duration::from_millis(99)));
        assert!(budget.is_full(now + Duration::from_millis(100)));
    }

    #[test]
    fn a_clock_that_steps_back_gives_nothing_twice() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        let later = now + TTL;
        assert_eq!(grants(&mut budget, later), 100);
        assert_eq!(grants(&mut budget, now), 0);
        assert_eq!(grants(&mut budget, later), 0);
    }

    proptest! {
        #[test]
        fn retries_never_exceed_a_fifth_of_the_first_attempts_and_the_minimum(
            steps in prop::collection::vec((0_u64..2_000, 0_u32..60, 0_u32..60), 1..60),
        ) {
            let (mut budget, began) = (Budget::default(), Instant::now());
            let mut now = began;
            let (mut sent, mut retries) = (0_u32, 0_u32);
            for (millis, firsts, wanted) in steps {
                now += Duration::from_millis(millis);
                deposit(&mut budget, firsts, now);
                sent += firsts;
                for _ in 0..wanted {
                    prop_assert_eq!(budget.is_sufficient(now), budget.clone().withdraw(now));
                    retries += u32::from(budget.withdraw(now));
                }
                let minimum = RESERVE + MIN_PER_SECOND * (now - began).as_secs_f64();
                let most = f64::from(sent) * DEPOSIT_RATIO + minimum;
                prop_assert!(f64::from(retries) <= most + 0.001, "{retries} of {most}");
            }
        }
    }
}
