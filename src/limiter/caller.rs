//! One call's place in its partition.

use super::{
    claim::{Bounds, Claim, GivenUp},
    gate::Gate,
    state::{Arrival, Look},
};
use crate::{
    quota::{Cost, Quota},
    signal::RateLimit,
};
use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};

/// One call's place in its partition: what it waits for, what it has reserved, what it has under
/// way. Dropping it, in whatever phase, counts down all that was counted up and passes the turn on.
#[derive(Debug)]
pub(crate) struct Caller {
    gate: Arc<Gate>,
    claim: Claim,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// Holds nothing.
    Idle,
    /// In line, or about to be again because its turn has lapsed. What the server told this very
    /// call stays with it.
    Waiting { not_before: Option<Instant> },
    /// Never got in line.
    TurnedAway(GivenUp),
    /// Its cost is reserved.
    Admitted,
    /// Its request is under way.
    InFlight { sent_at: Instant },
    /// Its refusal's body is being read; until then the head alone says how long all are held back.
    Reading { sent_at: Instant, until: Instant },
}

/// What the wait for a turn came to.
#[derive(Debug)]
pub(crate) enum Turn {
    /// It may go as soon as its service is ready.
    Admitted,
    /// It cannot be sent in the time it has.
    GivenUp(GivenUp),
}

/// What an answer's head means for the partition.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lesson {
    /// The request was not refused.
    Served,
    /// It was, by a reason of its own that concerns nobody else.
    Nothing,
    /// It was refused; nothing goes until then, or until its body says better.
    Reading { until: Instant },
    /// It was refused; nothing goes until then.
    Refused { until: Instant },
}

/// What the jitter and the backoff of a refusal are computed from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Episode {
    /// How many times in a row the partition has refused, this time included.
    pub(crate) refusals: u32,
    /// From 0.0 to 1.0.
    pub(crate) random_ratio: f64,
}

impl Caller {
    /// A new call, on its way at once if its partition is open and nobody older waits, else at its
    /// place in line.
    pub(crate) fn arrive(
        gate: Arc<Gate>,
        now: Instant,
        head_start: Duration,
        cost: Cost,
        bounds: Bounds,
    ) -> Self {
        let arrived = now.checked_sub(head_start).unwrap_or(now);
        let (claim, arrival) = gate.with(|state, woken| {
            let ticket = (arrived, state.number());
            let claim = Claim {
                ticket,
                cost,
                bounds,
            };
            (claim, state.arrive(&claim, now, woken))
        });
        let phase = match arrival {
            Arrival::Sent => Phase::InFlight { sent_at: now },
            Arrival::InLine => Phase::Waiting { not_before: None },
            Arrival::TurnedAway(given_up) => Phase::TurnedAway(given_up),
        };
        Self { gate, claim, phase }
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    pub(crate) fn cost(&self) -> Cost {
        self.claim.cost
    }

    pub(crate) fn is_in_flight(&self) -> bool {
        matches!(self.phase, Phase::InFlight { .. })
    }

    /// Waits for the turn. The timer is this call's own and is set here; it is `None` until it is
    /// needed.
    pub(crate) fn poll_turn(
        &mut self,
        cx: &mut Context<'_>,
        mut timer: Pin<&mut Option<Sleep>>,
    ) -> Poll<Turn> {
        loop {
            let at = match self.look(cx.waker()) {
                Look::Admitted => return Poll::Ready(Turn::Admitted),
                Look::GivenUp(given_up) => return Poll::Ready(Turn::GivenUp(given_up)),
                Look::Again(at) => at,
            };
            set(timer.as_mut(), at);
            if let Some(sleep) = timer.as_mut().as_pin_mut() {
                ready!(sleep.poll(cx));
            }
        }
    }

    /// The service is ready: `true` if the request may be sent now, and then it counts as sent.
    /// `false` if the partition has closed meanwhile, or the turn has lapsed and others are first;
    /// the call is back in line then.
    pub(crate) fn confirm(&mut self, now: Instant) -> bool {
        let claim = &self.claim;
        let confirmed = self
            .gate
            .with(|state, woken| state.confirm(claim, now, woken));
        self.phase = if confirmed {
            Phase::InFlight { sent_at: now }
        } else {
            Phase::Waiting { not_before: None }
        };
        confirmed
    }

    /// The head of an answer has arrived.
    pub(crate) fn answered(&mut self, now: Instant, limits: &[RateLimit], lesson: Lesson) {
        let Phase::InFlight { sent_at } = self.phase else {
            return;
        };
        let cost = self.claim.cost;
        self.phase = match lesson {
            Lesson::Reading { until } => Phase::Reading { sent_at, until },
            _ => Phase::Idle,
        };
        self.gate.learn(now, self.claim.bounds.max_delay, |state| {
            state.quota.announced(now, sent_at, cost, limits);
            lesson.teach(&mut state.quota, sent_at);
        });
    }

    /// The refusal's body has been read as far as it will be: `until` when all are held back, if
    /// they are. Whether that is a new pause.
    pub(crate) fn understood(&mut self, now: Instant, until: Option<Instant>) -> bool {
        let Phase::Reading { sent_at, .. } = self.phase else {
            return false;
        };
        self.phase = Phase::Idle;
        self.gate.learn(now, self.claim.bounds.max_delay, |state| {
            state.quota.understood();
            until.is_some_and(|until| state.quota.refused(sent_at, until))
        })
    }

    /// What the delay after a refusal is computed from.
    pub(crate) fn episode(&self) -> Episode {
        let sent_at = match self.phase {
            Phase::InFlight { sent_at } | Phase::Reading { sent_at, .. } => sent_at,
            _ => Instant::now(),
        };
        self.gate.with(|state, _| Episode {
            refusals: state.quota.refusals_with(sent_at),
            random_ratio: state.rng.f64(),
        })
    }

    /// Back in line, at the old place.
    pub(crate) fn queue_again(&mut self, now: Instant, cost: Cost, not_before: Instant) {
        self.claim.cost = cost;
        let claim = &self.claim;
        self.gate.with(|state, woken| {
            state
                .queue
                .insert(claim.ticket, claim.waiter(Some(not_before)));
            state.advance(now, woken);
        });
        self.phase = Phase::Waiting {
            not_before: Some(not_before),
        };
    }

    /// Lets go of whatever it holds.
    pub(crate) fn leave(&mut self) {
        let phase = mem::replace(&mut self.phase, Phase::Idle);
        if matches!(phase, Phase::Idle | Phase::TurnedAway(_)) {
            return;
        }
        let claim = &self.claim;
        self.gate.learn(
            Instant::now(),
            claim.bounds.max_delay,
            |state| match phase {
                Phase::Idle | Phase::TurnedAway(_) => {}
                Phase::Waiting { .. } | Phase::Admitted => state.leave(claim),
                Phase::InFlight { .. } => state.quota.abandoned(claim.cost),
                Phase::Reading { sent_at, until } => {
                    state.quota.understood();
                    state.quota.refused(sent_at, until);
                }
            },
        );
    }

    fn look(&mut self, waker: &Waker) -> Look {
        let not_before = match &self.phase {
            Phase::Waiting { not_before } => *not_before,
            Phase::TurnedAway(given_up) => return Look::GivenUp(given_up.clone()),
            // It is not waiting, so there is nothing to wait for.
            _ => return Look::Admitted,
        };
        let (claim, now) = (&self.claim, Instant::now());
        let look = self
            .gate
            .with(|state, woken| state.look(claim, not_before, now, waker, woken));
        match &look {
            Look::Admitted => self.phase = Phase::Admitted,
            Look::GivenUp(_) => self.phase = Phase::Idle,
            Look::Again(_) => {}
        }
        look
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Lesson {
    fn teach(self, quota: &mut Quota, sent_at: Instant) {
        match self {
            Self::Served => quota.served(sent_at),
            Self::Nothing => {}
            Self::Reading { until } => quota.reading(until),
            Self::Refused { until } => {
                quota.refused(sent_at, until);
            }
        }
    }
}

/// Sets a timer that may not exist yet.
fn set(mut timer: Pin<&mut Option<Sleep>>, at: Instant) {
    match timer.as_mut().as_pin_mut() {
        Some(sleep) if sleep.deadline() == at && !sleep.is_elapsed() => {}
        Some(sleep) => sleep.reset(at),
        None => timer.set(Some(sleep_until(at))),
    }
}
