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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::Partition;
    use proptest::prelude::*;
    use tokio::time::advance;

    const MAX_DELAY: Duration = Duration::from_secs(300);

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Arrive { head_start: u64 },
        Look(usize),
        Confirm(usize),
        Serve(usize),
        Refuse { who: usize, wait: u64, reads: bool },
        Understand { who: usize, wait: Option<u64> },
        Drop(usize),
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let who = || 0..8_usize;
        prop_oneof![
            (0..3_u64).prop_map(|head_start| Step::Arrive { head_start }),
            who().prop_map(Step::Look),
            who().prop_map(Step::Look),
            who().prop_map(Step::Confirm),
            who().prop_map(Step::Serve),
            (who(), 0..1_500_u64, any::<bool>()).prop_map(|(who, wait, reads)| Step::Refuse {
                who,
                wait,
                reads
            }),
            (who(), proptest::option::of(0..1_500_u64))
                .prop_map(|(who, wait)| Step::Understand { who, wait }),
            who().prop_map(Step::Drop),
            (0..400_u64).prop_map(Step::Pass),
        ]
    }

    /// A partition, those who count against it, and until when a refusal has closed it.
    struct World {
        gate: Arc<Gate>,
        callers: Vec<Caller>,
        closed_until: Instant,
    }

    impl World {
        fn new() -> Self {
            let gate = Arc::new(Gate::new(Partition::new("test")));
            Self {
                gate,
                callers: Vec::new(),
                closed_until: Instant::now(),
            }
        }

        fn arrive(&mut self, head_start: u64) {
            let bounds = Bounds {
                deadline: None,
                max_delay: MAX_DELAY,
                max_waiting: 100,
            };
            let gate = Arc::clone(&self.gate);
            let head_start = Duration::from_secs(head_start);
            let caller = Caller::arrive(
                gate,
                Instant::now(),
                head_start,
                Cost::of_request(10),
                bounds,
            );
            assert!(!caller.is_in_flight() || self.closed_until <= Instant::now());
            self.callers.push(caller);
        }

        fn look(&mut self, who: usize) -> bool {
            let Some(caller) = self.callers.get_mut(who) else {
                return false;
            };
            matches!(caller.phase, Phase::Waiting { .. })
                && matches!(caller.look(Waker::noop()), Look::Admitted)
        }

        fn confirm(&mut self, who: usize) -> bool {
            let Some(caller) = self.callers.get_mut(who) else {
                return false;
            };
            let sent = matches!(caller.phase, Phase::Admitted) && caller.confirm(Instant::now());
            assert!(
                !sent || self.closed_until <= Instant::now(),
                "sent inside a pause"
            );
            sent
        }

        fn refuse(&mut self, who: usize, wait: u64, reads: bool) {
            let Some(caller) = self.callers.get_mut(who) else {
                return;
            };
            if !caller.is_in_flight() {
                return;
            }
            let now = Instant::now();
            let until = now + Duration::from_millis(wait);
            let lesson = if reads {
                Lesson::Reading { until }
            } else {
                Lesson::Refused { until }
            };
            caller.answered(now, &[], lesson);
            if !reads {
                self.closed_until = self.closed_until.max(until);
                caller.queue_again(now, Cost::of_request(10), until);
            }
        }

        fn understand(&mut self, who: usize, wait: Option<u64>) {
            let Some(caller) = self.callers.get_mut(who) else {
                return;
            };
            if !matches!(caller.phase, Phase::Reading { .. }) {
                return;
            }
            let now = Instant::now();
            let until = wait.map(|wait| now + Duration::from_millis(wait));
            caller.understood(now, until);
            if let Some(until) = until {
                self.closed_until = self.closed_until.max(until);
                caller.queue_again(now, Cost::of_request(10), until);
            }
        }

        async fn step(&mut self, step: Step) {
            match step {
                Step::Arrive { head_start } => self.arrive(head_start),
                Step::Look(who) => drop(self.look(who)),
                Step::Confirm(who) => drop(self.confirm(who)),
                Step::Serve(who) => {
                    if let Some(caller) = self.callers.get_mut(who) {
                        caller.answered(Instant::now(), &[], Lesson::Served);
                    }
                }
                Step::Refuse { who, wait, reads } => self.refuse(who, wait, reads),
                Step::Understand { who, wait } => self.understand(who, wait),
                Step::Drop(who) if who < self.callers.len() => {
                    let caller = self.callers.remove(who);
                    if let Phase::Reading { until, .. } = caller.phase {
                        self.closed_until = self.closed_until.max(until);
                    }
                }
                Step::Drop(_) => {}
                Step::Pass(milliseconds) => advance(Duration::from_millis(milliseconds)).await,
            }
        }

        /// From here on all who wait are polled every 10 ms, and nobody is refused.
        async fn everybody_gets_through(&mut self) {
            self.callers
                .retain(|caller| matches!(caller.phase, Phase::Waiting { .. } | Phase::Admitted));
            for _ in 0..300 {
                for who in (0..self.callers.len()).rev() {
                    self.look(who);
                    if self.confirm(who) {
                        drop(self.callers.remove(who));
                    }
                }
                advance(Duration::from_millis(10)).await;
            }
            assert!(
                self.callers.is_empty(),
                "somebody waits for ever: {:?}",
                self.callers
            );
        }
    }

    proptest! {
        #[test]
        fn nobody_is_sent_in_a_pause_or_stuck_and_all_counts_return_to_zero(
            steps in proptest::collection::vec(step(), 1..60)
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            runtime.block_on(async {
                let mut world = World::new();
                for step in steps {
                    world.step(step).await;
                }
                world.everybody_gets_through().await;
                world.gate.with(|state, _| {
                    assert!(state.queue.is_deserted(), "{:?}", state.queue);
                    assert!(state.quota.is_idle(), "{:?}", state.quota);
                });
            });
        }
    }
}
