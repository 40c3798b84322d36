//! What a call asks for: its place, its cost, and how long it may be held back.

use super::queue::{Ticket, Waiter};
use crate::{
    config::Config,
    quota::{Admit, Cost, Hold, Model},
    report::StopReason,
};
use std::time::Duration;
use tokio::time::Instant;

/// What a call asks for. It is made anew for each step that the call takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub(super) ticket: Ticket,
    pub(super) cost: Cost,
    pub(super) bounds: Bounds,
}

/// How long a call may be held back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) deadline: Option<Instant>,
    pub(crate) max_delay: Duration,
    pub(crate) max_waiting: usize,
}

/// Why a call cannot be sent, and when it could have been.
#[derive(Clone, Debug)]
pub(crate) struct GivenUp {
    pub(crate) reason: StopReason,
    pub(crate) hold: Option<Hold>,
    pub(crate) opens_at: Instant,
}

impl Bounds {
    /// As the layer has set them, until this deadline of the call.
    pub(crate) fn of(config: &Config, deadline: Option<Instant>) -> Self {
        Self {
            deadline,
            max_delay: config.policy.max_delay,
            max_waiting: config.max_waiting,
        }
    }
}

impl GivenUp {
    /// Nothing holds the call back but its own bounds.
    pub(crate) fn now(reason: StopReason, now: Instant) -> Self {
        Self {
            reason,
            hold: None,
            opens_at: now,
        }
    }

    pub(super) fn held(reason: StopReason, admit: Admit, now: Instant) -> Self {
        match admit {
            Admit::Now => Self::now(reason, now),
            Admit::At(opens_at, hold) => Self {
                reason,
                hold: Some(hold),
                opens_at,
            },
        }
    }
}

impl Claim {
    pub(super) fn waiter(&self) -> Waiter {
        Waiter::new(self.cost.tokens)
    }

    /// Whether it is certain that the call, with others of the cost `ahead` before it, cannot be
    /// sent in the time it has.
    pub(super) fn give_up(&self, quota: &Model, now: Instant, ahead: Cost) -> Option<GivenUp> {
        let alone = quota.expected(now, Cost::NONE, self.cost);
        if alone.opens_at(now).saturating_duration_since(now) > self.bounds.max_delay {
            return Some(GivenUp::held(StopReason::MaxDelay, alone, now));
        }
        let deadline = self.bounds.deadline?;
        let expected = quota.expected(now, ahead, self.cost);
        let too_late = deadline <= expected.opens_at(now);
        too_late.then(|| GivenUp::held(StopReason::Deadline, expected, now))
    }
}
