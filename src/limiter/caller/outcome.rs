//! What a call tells its partition of its answers, and asks it before it decides what to do with them.

use super::{Caller, Phase};
use crate::{
    body::Watched,
    limiter::charged::Charged,
    quota::{RefusalCause, Refused},
    signal::RateLimit,
};
use std::time::Duration;
use tokio::time::Instant;

/// What an answer's head means for the partition, if there is nothing more to be learned from it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lesson {
    /// The request was not refused, and the server is done with it.
    Served,
    /// It was not refused, and the server works on it until its body ends.
    Streams,
    /// The server has failed, or says nothing of its limits.
    Nothing,
    /// It was refused, by a reason of its own that concerns nobody else.
    Pointless,
}

/// What the jitter and the backoff of a refusal are computed from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Episode {
    /// How many times in a row the partition has refused, this time included.
    pub(crate) refusals: u32,
    /// For how long it has served nobody.
    pub(crate) refused_for: Duration,
    /// The time in which quota for one request flows in, if that is known.
    pub(crate) interval: Option<Duration>,
    /// From 0.0 to 1.0.
    pub(crate) random_ratio: f64,
    /// Whether the request is larger than a whole limit that the user declared.
    pub(crate) exceeds_declared: bool,
}

impl Caller {
    /// The head of an answer has arrived. What the request was charged with, where the user has
    /// declared how many tokens there are; and what its body has to give back when it ends.
    pub(crate) fn answered(
        &mut self,
        now: Instant,
        limits: &[RateLimit],
        lesson: Lesson,
    ) -> (Option<Charged>, Option<Watched>) {
        let Phase::InFlight { number } = self.phase else {
            return (None, None);
        };
        self.phase = Phase::Idle;
        let answered = self.gate.learn(now, |state, _| {
            let sent = state.in_flight.take(number)?;
            let number = state.answered(now, sent, limits, lesson);
            Some((sent.at, number))
        });
        let Some((sent_at, number)) = answered else {
            return (None, None);
        };
        let partition = || self.gate.partition().clone();
        let declared = self.gate.declares_tokens();
        let charged = declared.then(|| Charged::new(partition(), sent_at, self.tokens));
        let watched = number.map(|number| Watched::new(&self.gate, number, sent_at));
        (charged, watched)
    }

    /// The head of a refusal has arrived: nothing goes until then, or until its body says better.
    pub(crate) fn refused(&mut self, now: Instant, limits: &[RateLimit], until: Instant) {
        let Phase::InFlight { number } = self.phase else {
            return;
        };
        self.phase = Phase::Reading { number, until };
        self.gate.learn(now, |state, _| {
            if let Some(sent) = state.in_flight.get(number) {
                state.quota.reading(now, sent, until);
                state.quota.announced(now, sent, true, limits);
            }
        });
    }

    /// The refusal's body has been read as far as it will be: `until` when all are held back, if
    /// they are. What it was put down to; `None` if none was being read.
    pub(crate) fn understood(
        &mut self,
        now: Instant,
        refused: Option<Refused>,
    ) -> Option<RefusalCause> {
        let Phase::Reading {
            number,
            until: held,
        } = self.phase
        else {
            return None;
        };
        self.phase = Phase::Idle;
        self.refused_at = Some(now);
        let cause = self.gate.learn(now, |state, _| {
            state.quota.understood(held);
            state.refused(now, number, refused)
        });
        Some(cause)
    }

    /// Whether others wait.
    pub(crate) fn has_company(&self) -> bool {
        self.gate.with(|state, _| state.queue.len() > 0)
    }

    /// Whether others were served since this call was refused before.
    pub(crate) fn is_passed_over(&self) -> bool {
        self.refused_at
            .is_some_and(|at| self.gate.with(|state, _| state.quota.has_served_since(at)))
    }

    /// What the delay after a refusal is computed from.
    pub(crate) fn episode(&self) -> Episode {
        let number = match self.phase {
            Phase::InFlight { number } | Phase::Reading { number, .. } => Some(number),
            _ => None,
        };
        let now = Instant::now();
        self.gate.with(|state, _| {
            let sent = number.and_then(|number| state.in_flight.get(number));
            let sent_at = sent.map_or(now, |sent| sent.at);
            Episode {
                refusals: state.quota.refusals_with(sent_at),
                refused_for: state.quota.refused_for(now, sent_at),
                interval: state.quota.learned_interval(),
                random_ratio: state.rng.f64(),
                exceeds_declared: state.quota.exceeds_declared(self.cost()),
            }
        })
    }

    /// A request is sent for the first time, of which failures may be retried.
    pub(crate) fn deposit(&self, now: Instant) {
        self.gate.with(|state, _| state.budget.deposit(now));
    }

    /// Whether the budget of this partition would suffice for a retry.
    pub(crate) fn can_withdraw(&self, now: Instant) -> bool {
        self.gate.with(|state, _| state.budget.is_sufficient(now))
    }

    /// Takes a retry out of the budget of this partition; `false` if it does not suffice.
    pub(crate) fn withdraw(&self, now: Instant) -> bool {
        self.gate.with(|state, _| state.budget.withdraw(now))
    }

    /// Puts back what was withdrawn for a retry that cannot be sent.
    pub(crate) fn refund(&self, now: Instant) {
        self.gate.with(|state, _| state.budget.refund(now));
    }

    /// From 0.0 to 1.0.
    pub(crate) fn random_ratio(&self) -> f64 {
        self.gate.with(|state, _| state.rng.f64())
    }
}
