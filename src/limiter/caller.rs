//! One call's place in its partition.

use super::{
    gate::{Gate, State},
    queue::{GRACE, Ticket, Waiter},
};
use crate::{
    quota::{Admit, Cost, Hold, Quota},
    report::StopReason,
    signal::RateLimit,
};
use std::{
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
    ticket: Ticket,
    cost: Cost,
    bounds: Bounds,
    phase: Phase,
}

/// How long a call may be held back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) deadline: Option<Instant>,
    pub(crate) max_delay: Duration,
    pub(crate) max_waiting: usize,
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

/// Why a call cannot be sent, and when it could have been.
#[derive(Clone, Debug)]
pub(crate) struct GivenUp {
    pub(crate) reason: StopReason,
    pub(crate) hold: Option<Hold>,
    pub(crate) opens_at: Instant,
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
        let (ticket, phase) = gate.with(|state, woken| {
            let ticket = (arrived, state.number());
            (ticket, state.arrive(ticket, now, cost, bounds, woken))
        });
        Self {
            gate,
            ticket,
            cost,
            bounds,
            phase,
        }
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    pub(crate) fn cost(&self) -> Cost {
        self.cost
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
            let look_again = match self.look(Instant::now(), cx.waker()) {
                Ok(turn) => return Poll::Ready(turn),
                Err(look_again) => look_again,
            };
            set(timer.as_mut(), look_again);
            if let Some(sleep) = timer.as_mut().as_pin_mut() {
                ready!(sleep.poll(cx));
            }
        }
    }

    /// The service is ready: `true` if the request may be sent now, and then it counts as sent.
    /// `false` if the partition has closed meanwhile, or the turn has lapsed and others are first;
    /// the call is back in line then.
    pub(crate) fn confirm(&mut self, now: Instant) -> bool {
        let (ticket, cost, bounds) = (self.ticket, self.cost, self.bounds);
        let confirmed = self.gate.with(|state, woken| {
            state.queue.advance(&mut state.quota, now, woken);
            let admitted = state.queue.take_admission(ticket).is_some();
            let confirmed = if admitted {
                state.quota.paused_until(now).is_none()
            } else {
                state.queue.is_first(ticket) && state.quota.admit(now, cost) == Admit::Now
            };
            match (admitted, confirmed) {
                (true, true) | (false, false) => {}
                (true, false) => state.quota.give_back(cost),
                (false, true) => state.quota.reserve(now, cost),
            }
            if !confirmed {
                state.queue.insert(ticket, bounds.waiter(cost, None));
            }
            state.queue.advance(&mut state.quota, now, woken);
            confirmed
        });
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
        let cost = self.cost;
        self.phase = match lesson {
            Lesson::Reading { until } => Phase::Reading { sent_at, until },
            _ => Phase::Idle,
        };
        self.gate.learn(now, self.bounds.max_delay, |quota| {
            quota.announced(now, sent_at, cost, limits);
            lesson.teach(quota, sent_at);
        });
    }

    /// The refusal's body has been read as far as it will be: `until` when all are held back, if
    /// they are. Whether that is a new pause.
    pub(crate) fn understood(&mut self, now: Instant, until: Option<Instant>) -> bool {
        let Phase::Reading { sent_at, .. } = self.phase else {
            return false;
        };
        self.phase = Phase::Idle;
        self.gate.learn(now, self.bounds.max_delay, |quota| {
            quota.understood();
            until.is_some_and(|until| quota.refused(sent_at, until))
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
        self.cost = cost;
        let (ticket, bounds) = (self.ticket, self.bounds);
        self.gate.with(|state, woken| {
            state
                .queue
                .insert(ticket, bounds.waiter(cost, Some(not_before)));
            state.queue.advance(&mut state.quota, now, woken);
        });
        self.phase = Phase::Waiting {
            not_before: Some(not_before),
        };
    }

    /// Lets go of whatever it holds.
    pub(crate) fn leave(&mut self) {
        let now = Instant::now();
        let (ticket, cost) = (self.ticket, self.cost);
        let phase = mem::replace(&mut self.phase, Phase::Idle);
        if matches!(phase, Phase::Idle | Phase::TurnedAway(_)) {
            return;
        }
        self.gate.with(|state, woken| {
            match phase {
                Phase::Idle | Phase::TurnedAway(_) => {}
                Phase::Waiting { .. } | Phase::Admitted => {
                    state.queue.remove(ticket);
                    if let Some(cost) = state.queue.take_admission(ticket) {
                        state.quota.give_back(cost);
                    }
                }
                Phase::InFlight { .. } => state.quota.abandoned(cost),
                Phase::Reading { sent_at, until } => {
                    state.quota.understood();
                    state.quota.refused(sent_at, until);
                }
            }
            state.queue.advance(&mut state.quota, now, woken);
        });
    }

    /// Looks whether the turn has come; else says when to look again.
    fn look(&mut self, now: Instant, waker: &Waker) -> Result<Turn, Instant> {
        let not_before = match &self.phase {
            Phase::Waiting { not_before } => *not_before,
            Phase::TurnedAway(given_up) => return Ok(Turn::GivenUp(given_up.clone())),
            // Polled before it was queued again, or after it was admitted: there is nothing to wait
            // for.
            _ => return Ok(Turn::Admitted),
        };
        let (ticket, cost, bounds) = (self.ticket, self.cost, self.bounds);
        let looked = self.gate.with(|state, woken| {
            state.queue.polled(ticket);
            let mut stands_in = state.queue.advance(&mut state.quota, now, woken);
            if state.queue.is_admitted(ticket) {
                return Ok(Turn::Admitted);
            }
            if let Some(given_up) = bounds.give_up(&state.quota, now, Cost::NONE, cost) {
                state.queue.remove(ticket);
                state.queue.advance(&mut state.quota, now, woken);
                return Ok(Turn::GivenUp(given_up));
            }
            if !state.queue.contains(ticket) {
                state.queue.insert(ticket, bounds.waiter(cost, not_before));
                stands_in |= state.queue.advance(&mut state.quota, now, woken);
                if state.queue.is_admitted(ticket) {
                    return Ok(Turn::Admitted);
                }
            }
            state.queue.wake_on_turn(ticket, waker);
            Err(state.look_again(ticket, now, cost, stands_in, bounds))
        });
        match &looked {
            Ok(Turn::Admitted) => self.phase = Phase::Admitted,
            Ok(Turn::GivenUp(_)) => self.phase = Phase::Idle,
            Err(_) => {}
        }
        looked
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Bounds {
    fn waiter(self, cost: Cost, not_before: Option<Instant>) -> Waiter {
        Waiter {
            cost,
            not_before,
            deadline: self.deadline,
            waker: None,
        }
    }

    /// Whether a call of this cost, with others of the cost `ahead` before it, cannot be sent in
    /// the time it has.
    fn give_up(self, quota: &Quota, now: Instant, ahead: Cost, cost: Cost) -> Option<GivenUp> {
        let closed = |admit| match admit {
            Admit::Now => (now, None),
            Admit::At(at, hold) => (at, Some(hold)),
        };
        let (opens_at, hold) = closed(quota.admit(now, cost));
        if opens_at.saturating_duration_since(now) > self.max_delay {
            return Some(GivenUp {
                reason: StopReason::MaxDelay,
                hold,
                opens_at,
            });
        }
        let (opens_at, hold) = closed(quota.expected(now, ahead, cost));
        let too_late = self
            .deadline
            .is_some_and(|deadline| deadline <= opens_at.max(now));
        too_late.then_some(GivenUp {
            reason: StopReason::Deadline,
            hold,
            opens_at,
        })
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

impl State {
    fn arrive(
        &mut self,
        ticket: Ticket,
        now: Instant,
        cost: Cost,
        bounds: Bounds,
        woken: &mut Vec<Waker>,
    ) -> Phase {
        self.queue.advance(&mut self.quota, now, woken);
        if self.queue.is_first(ticket) && self.quota.admit(now, cost) == Admit::Now {
            self.quota.reserve(now, cost);
            return Phase::InFlight { sent_at: now };
        }
        // One with a head start passes some of those who wait; how many is not worth counting.
        let ahead = if self.queue.is_last(ticket) {
            self.queue.waiting_cost()
        } else {
            Cost::NONE
        };
        if let Some(given_up) = bounds.give_up(&self.quota, now, ahead, cost) {
            return Phase::TurnedAway(given_up);
        }
        if self.queue.len() >= bounds.max_waiting {
            let (opens_at, hold) = match self.quota.expected(now, ahead, cost) {
                Admit::Now => (now, None),
                Admit::At(at, hold) => (at, Some(hold)),
            };
            return Phase::TurnedAway(GivenUp {
                reason: StopReason::MaxWaiting,
                hold,
                opens_at,
            });
        }
        self.queue.insert(ticket, bounds.waiter(cost, None));
        Phase::Waiting { not_before: None }
    }

    /// When a caller that waits looks again if it is not woken before.
    fn look_again(
        &mut self,
        ticket: Ticket,
        now: Instant,
        cost: Cost,
        stands_in: bool,
        bounds: Bounds,
    ) -> Instant {
        let front = self.queue.set_timer(ticket);
        let turn = self.queue.next_turn().filter(|_| front || stands_in);
        let look_again = turn.unwrap_or_else(|| {
            let expected = match self.quota.expected(now, self.queue.ahead_of(ticket), cost) {
                Admit::Now => now,
                Admit::At(at, _) => at,
            };
            expected + GRACE
        });
        bounds
            .deadline
            .map_or(look_again, |deadline| deadline.min(look_again))
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
