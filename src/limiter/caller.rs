//! One call's place in its partition.

mod outcome;

pub(crate) use outcome::Lesson;

use super::{
    claim::{Bounds, Claim, GivenUp},
    gate::Gate,
    in_flight::Number,
    queue::Ticket,
    state::{Arrival, Look, State, Waited},
};
use crate::{
    config::Config,
    quota::{Cost, Hold, Refused},
    snapshot::Totals,
    timer::poll_until,
};
use std::{
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep};

/// One call's place in its partition: what it waits for, what it has reserved, what it has under
/// way. Dropping it, in whatever phase, counts down all that was counted up and passes the turn on.
#[derive(Debug)]
pub(crate) struct Caller {
    gate: Arc<Gate>,
    config: Arc<Config>,
    ticket: Ticket,
    tokens: u64,
    deadline: Option<Instant>,
    phase: Phase,
    /// How long it was held back before its present phase.
    waited: Duration,
    /// When its last refusal came.
    refused_at: Option<Instant>,
}

#[derive(Debug)]
enum Phase {
    /// Holds nothing.
    Idle,
    /// In line, or about to be again because its turn has lapsed; or beside it until then, because
    /// the server told this very call to wait.
    Waiting {
        since: Instant,
        resting: Option<Instant>,
    },
    /// Never got in line. Boxed, for this happens to few, and all have the room for it.
    TurnedAway(Box<GivenUp>),
    /// Its cost is reserved.
    Admitted { since: Instant },
    /// Out of the line, for it could not be sent in the time that it has.
    GivenUp { since: Instant },
    /// Its request is under way.
    InFlight { number: Number },
    /// Its refusal's body is being read; until then the head alone says how long all are held back.
    Reading { number: Number, until: Instant },
}

/// What the wait for a turn came to.
#[derive(Debug)]
pub(crate) enum Turn {
    /// It may go as soon as its service is ready.
    Admitted,
    /// It cannot be sent in the time it has.
    GivenUp(GivenUp),
}

impl Caller {
    /// A new call, on its way at once if its partition is open and nobody older waits, else at its
    /// place in line.
    pub(crate) fn arrive(
        gate: Arc<Gate>,
        config: Arc<Config>,
        now: Instant,
        head_start: Duration,
        deadline: Option<Instant>,
        tokens: u64,
    ) -> Self {
        let bounds = Bounds::of(&config, deadline);
        let (ticket, arrival) = gate.with(|state, wakers| {
            let claim = Claim {
                ticket: state.ticket(now, head_start),
                cost: Cost::of_request(tokens),
                bounds,
            };
            (claim.ticket, state.arrive(&claim, now, wakers))
        });
        let phase = match arrival {
            Arrival::Sent(number) => Phase::InFlight { number },
            Arrival::InLine => Phase::Waiting {
                since: now,
                resting: None,
            },
            Arrival::TurnedAway(given_up) => Phase::TurnedAway(Box::new(given_up)),
        };
        Self {
            gate,
            config,
            ticket,
            tokens,
            deadline,
            phase,
            waited: Duration::ZERO,
            refused_at: None,
        }
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// What the layer has set.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Of the calls of its partition, in the order of arrival.
    #[cfg(test)]
    pub(super) fn number(&self) -> u64 {
        self.ticket.1
    }

    /// After this no attempt starts.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// What the call costs in tokens.
    pub(crate) fn tokens(&self) -> u64 {
        self.tokens
    }

    /// How long the call was held back before its present wait.
    pub(crate) fn waited(&self) -> Duration {
        self.waited
    }

    /// The call waits, and costs what it has turned out to cost.
    pub(crate) fn revalue(&mut self, tokens: u64) {
        if self.tokens != tokens {
            self.tokens = tokens;
            self.gate
                .with(|state, _| state.queue.revalue(self.ticket, tokens));
        }
    }

    pub(crate) fn is_in_flight(&self) -> bool {
        matches!(self.phase, Phase::InFlight { .. })
    }

    /// How long the call will wait for its turn, as far as is known, and for what; `None` if it is not
    /// in line.
    pub(crate) fn expected_wait(&self, now: Instant) -> Option<(Duration, Option<Hold>)> {
        if !matches!(self.phase, Phase::Waiting { .. }) {
            return None;
        }
        let expected = self.gate.with(|state, _| {
            let ahead = state.queue.ahead_of(self.ticket);
            state.quota.expected(now, ahead, self.cost())
        });
        let delay = expected.opens_at(now).saturating_duration_since(now);
        Some((delay, expected.hold()))
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
            ready!(poll_until(timer.as_mut(), at, cx));
        }
    }

    /// The service is ready: how long the call was held back this time, if the request may be sent
    /// now, and then it counts as sent. `None` if the partition has closed meanwhile, or the turn has
    /// lapsed and others are first; the call is back in line then.
    pub(crate) fn confirm(&mut self, now: Instant, is_retry: bool) -> Option<Duration> {
        let (claim, since) = (self.claim(), self.phase.since().unwrap_or(now));
        let time = now.saturating_duration_since(since);
        let waited = Waited { time, is_retry };
        let sent = self
            .gate
            .with(|state, wakers| state.confirm(&claim, waited, now, wakers));
        let Some(number) = sent else {
            let resting = None;
            self.phase = Phase::Waiting { since, resting };
            return None;
        };
        self.waited += time;
        self.phase = Phase::InFlight { number };
        Some(time)
    }

    /// Counts what becomes of a call beside the ways through here.
    pub(crate) fn count(&self, count: impl FnOnce(&mut Totals)) {
        self.gate.with(|state, _| count(&mut state.totals));
    }

    /// Held back since then, and back in line at the old place; or beside it until `resting`, if the
    /// server told this call alone to wait.
    pub(crate) fn queue_again(&mut self, since: Instant, tokens: u64, resting: Option<Instant>) {
        self.tokens = tokens;
        self.phase = Phase::Waiting { since, resting };
        let (claim, now) = (self.claim(), Instant::now());
        self.gate.with(|state, wakers| {
            match resting {
                Some(until) => state.queue.rest(until, claim.ticket, claim.waiter()),
                None => state.queue.insert(claim.ticket, claim.waiter()),
            }
            state.advance(now, wakers);
        });
    }

    /// The call was held back in vain until now: lets go of whatever it holds.
    pub(crate) fn give_up(&mut self, now: Instant) {
        let since = self.phase.since().unwrap_or(now);
        let time = now.saturating_duration_since(since);
        self.waited += time;
        self.leave();
        self.count(|totals| totals.waited = totals.waited.saturating_add(time));
    }

    /// Lets go of whatever it holds.
    pub(crate) fn leave(&mut self) {
        let phase = mem::replace(&mut self.phase, Phase::Idle);
        if !phase.holds_something() {
            return;
        }
        let (claim, now) = (self.claim(), Instant::now());
        self.gate.learn(now, |state, wakers| match phase {
            Phase::Idle | Phase::TurnedAway(_) | Phase::GivenUp { .. } => {}
            Phase::Waiting { resting, .. } => state.leave(&claim, resting, wakers),
            Phase::Admitted { .. } => state.leave(&claim, None, wakers),
            Phase::InFlight { number } => state.abandoned(number),
            Phase::Reading { number, until } => {
                state.quota.understood(until);
                // Whether the server named that time is not known any longer; it may have.
                let wait = Some(until.saturating_duration_since(now));
                let refused = Refused { until, wait };
                state.refused(now, number, Some(refused));
            }
        });
    }

    /// Whether the turn has come, and if not, when to look again unless woken before.
    pub(super) fn look(&mut self, waker: &Waker) -> Look {
        let (since, resting) = match &self.phase {
            Phase::Waiting { since, resting } => (*since, *resting),
            Phase::TurnedAway(given_up) => return Look::GivenUp((**given_up).clone()),
            // It is not waiting, so there is nothing to wait for.
            _ => return Look::Admitted,
        };
        // A waker is somebody else's code, which must not run under the lock.
        let waker = waker.clone();
        let (claim, now) = (self.claim(), Instant::now());
        let look =
            |state: &mut State, wakers: &mut _| state.look(&claim, resting, now, waker, wakers);
        let look = self.gate.with(look);
        match &look {
            Look::Admitted => self.phase = Phase::Admitted { since },
            Look::GivenUp(_) => self.phase = Phase::GivenUp { since },
            Look::Again(_) => {}
        }
        look
    }

    fn claim(&self) -> Claim {
        Claim {
            ticket: self.ticket,
            cost: self.cost(),
            bounds: Bounds::of(&self.config, self.deadline),
        }
    }

    fn cost(&self) -> Cost {
        Cost::of_request(self.tokens)
    }
}

impl Phase {
    /// Since when the call is held back, if it is.
    fn since(&self) -> Option<Instant> {
        match *self {
            Self::Waiting { since, .. } | Self::Admitted { since } | Self::GivenUp { since } => {
                Some(since)
            }
            _ => None,
        }
    }

    /// Whether anything is counted up for it in the partition.
    fn holds_something(&self) -> bool {
        !matches!(
            self,
            Self::Idle | Self::TurnedAway(_) | Self::GivenUp { .. }
        )
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests;
