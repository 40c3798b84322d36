//! One call's place in its partition.

use super::{
    charged::Charged,
    claim::{Bounds, Claim, GivenUp},
    gate::Gate,
    state::{Arrival, Look, State, Waited},
};
use crate::{
    body::Watched,
    quota::{Cost, Hold, RefusalCause, Refused, Sent},
    signal::RateLimit,
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
    claim: Claim,
    phase: Phase,
    /// When its last refusal came.
    refused_at: Option<Instant>,
}

#[derive(Debug)]
enum Phase {
    /// Holds nothing.
    Idle,
    /// In line, or about to be again because its turn has lapsed; or beside it until then, because
    /// the server told this very call to wait.
    Waiting { resting: Option<Instant> },
    /// Never got in line.
    TurnedAway(GivenUp),
    /// Its cost is reserved.
    Admitted,
    /// Its request is under way.
    InFlight { sent: Sent },
    /// Its refusal's body is being read; until then the head alone says how long all are held back.
    Reading { sent: Sent, until: Instant },
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
    /// The request was not refused, and the server is done with it.
    Served,
    /// It was not refused, and the server works on it until its body ends.
    Streams,
    /// The server has failed, or says nothing of its limits.
    Nothing,
    /// It was refused, by a reason of its own that concerns nobody else.
    Pointless,
    /// It was refused; nothing goes until then, or until its body says better.
    Reading { until: Instant },
}

/// What the jitter and the backoff of a refusal are computed from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Episode {
    /// How many times in a row the partition has refused, this time included.
    pub(crate) refusals: u32,
    /// The time in which quota for one request flows in, if that is known.
    pub(crate) interval: Option<Duration>,
    /// From 0.0 to 1.0.
    pub(crate) random_ratio: f64,
    /// Whether the request is larger than a whole limit that the user declared.
    pub(crate) exceeds_declared: bool,
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
        let (claim, arrival) = gate.with(|state, wakers| {
            let ticket = state.ticket(now, head_start);
            let claim = Claim {
                ticket,
                cost,
                bounds,
            };
            (claim, state.arrive(&claim, now, wakers))
        });
        let phase = match arrival {
            Arrival::Sent(sent) => Phase::InFlight { sent },
            Arrival::InLine => Phase::Waiting { resting: None },
            Arrival::TurnedAway(given_up) => Phase::TurnedAway(given_up),
        };
        Self {
            gate,
            claim,
            phase,
            refused_at: None,
        }
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// After this no attempt starts.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.claim.bounds.deadline
    }

    /// What the call costs in tokens.
    pub(crate) fn tokens(&self) -> u64 {
        self.claim.cost.tokens
    }

    /// The call waits, and costs what it has turned out to cost.
    pub(crate) fn revalue(&mut self, cost: Cost) {
        if self.claim.cost != cost {
            self.claim.cost = cost;
            let ticket = self.claim.ticket;
            self.gate.with(|state, _| state.queue.revalue(ticket, cost));
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
        let claim = &self.claim;
        let expected = self.gate.with(|state, _| {
            let ahead = state.queue.ahead_of(claim.ticket);
            state.quota.expected(now, ahead, claim.cost)
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

    /// The service is ready: `true` if the request may be sent now, and then it counts as sent.
    /// `false` if the partition has closed meanwhile, or the turn has lapsed and others are first;
    /// the call is back in line then.
    pub(crate) fn confirm(&mut self, now: Instant, waited: Waited) -> bool {
        let claim = &self.claim;
        let sent = self
            .gate
            .with(|state, wakers| state.confirm(claim, waited, now, wakers));
        self.phase = match sent {
            Some(sent) => Phase::InFlight { sent },
            None => Phase::Waiting { resting: None },
        };
        sent.is_some()
    }

    /// What the request that is under way was charged with, where the user has declared how many
    /// tokens there are.
    pub(crate) fn charged(&self) -> Option<Charged> {
        let Phase::InFlight { sent } = self.phase else {
            return None;
        };
        let partition = || self.gate.partition().clone();
        let declared = self.gate.declares_tokens();
        declared.then(|| Charged::new(partition(), sent.at, self.tokens()))
    }

    /// The head of an answer has arrived. What its body has to give back when it ends.
    pub(crate) fn answered(
        &mut self,
        now: Instant,
        limits: &[RateLimit],
        lesson: Lesson,
    ) -> Option<Watched> {
        let Phase::InFlight { sent } = self.phase else {
            return None;
        };
        self.phase = match lesson {
            Lesson::Reading { until } => Phase::Reading { sent, until },
            Lesson::Served | Lesson::Streams | Lesson::Nothing | Lesson::Pointless => Phase::Idle,
        };
        let number = self.gate.learn(now, |state, _| {
            let is_refused = matches!(lesson, Lesson::Reading { .. });
            let number = match lesson {
                Lesson::Streams => Some(state.quota.streams(now, sent)),
                Lesson::Served => {
                    state.quota.served(now, sent);
                    None
                }
                Lesson::Reading { until } => {
                    state.quota.reading(now, sent, until);
                    None
                }
                Lesson::Nothing => {
                    state.quota.unexplained(sent);
                    None
                }
                Lesson::Pointless => {
                    state.quota.unexplained(sent);
                    state.totals.refused(&RefusalCause::Request);
                    None
                }
            };
            // Last, for how long it took is known then.
            state.quota.announced(now, sent, is_refused, limits);
            number
        });
        number.map(|number| Watched::new(&self.gate, number, sent.at))
    }

    /// The refusal's body has been read as far as it will be: `until` when all are held back, if
    /// they are.
    pub(crate) fn understood(&mut self, now: Instant, refused: Option<Refused>) {
        let Phase::Reading { sent, until: held } = self.phase else {
            return;
        };
        self.phase = Phase::Idle;
        self.refused_at = Some(now);
        self.gate.learn(now, |state, _| {
            state.quota.understood(held);
            state.refused(now, sent, refused);
        });
    }

    /// Counts what becomes of a call beside the ways through here.
    pub(crate) fn count(&self, count: impl FnOnce(&mut Totals)) {
        self.gate.with(|state, _| count(&mut state.totals));
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
        let sent_at = match self.phase {
            Phase::InFlight { sent } | Phase::Reading { sent, .. } => sent.at,
            _ => Instant::now(),
        };
        self.gate.with(|state, _| Episode {
            refusals: state.quota.refusals_with(sent_at),
            interval: state.quota.learned_interval(),
            random_ratio: state.rng.f64(),
            exceeds_declared: state.quota.exceeds_declared(self.claim.cost),
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

    /// From 0.0 to 1.0.
    pub(crate) fn random_ratio(&self) -> f64 {
        self.gate.with(|state, _| state.rng.f64())
    }

    /// Back in line at the old place; or beside it until `resting`, if the server told this call
    /// alone to wait.
    pub(crate) fn queue_again(&mut self, now: Instant, cost: Cost, resting: Option<Instant>) {
        self.claim.cost = cost;
        self.phase = Phase::Waiting { resting };
        let (ticket, waiter) = (self.claim.ticket, self.claim.waiter());
        self.gate.with(|state, wakers| {
            match resting {
                Some(until) => state.queue.rest(until, ticket, waiter),
                None => state.queue.insert(ticket, waiter),
            }
            state.advance(now, wakers);
        });
    }

    /// Lets go of whatever it holds.
    pub(crate) fn leave(&mut self) {
        let phase = mem::replace(&mut self.phase, Phase::Idle);
        if matches!(phase, Phase::Idle | Phase::TurnedAway(_)) {
            return;
        }
        let (ticket, now) = (self.claim.ticket, Instant::now());
        self.gate.learn(now, |state, wakers| match phase {
            Phase::Idle | Phase::TurnedAway(_) => {}
            Phase::Waiting { resting } => state.leave(ticket, resting, wakers),
            Phase::Admitted => state.leave(ticket, None, wakers),
            Phase::InFlight { sent } => state.quota.abandoned(sent),
            Phase::Reading { sent, until } => {
                state.quota.understood(until);
                let refused = Refused { until, wait: None };
                state.refused(now, sent, Some(refused));
            }
        });
    }

    fn look(&mut self, waker: &Waker) -> Look {
        let resting = match &self.phase {
            Phase::Waiting { resting } => *resting,
            Phase::TurnedAway(given_up) => return Look::GivenUp(given_up.clone()),
            // It is not waiting, so there is nothing to wait for.
            _ => return Look::Admitted,
        };
        // A waker is somebody else's code, which must not run under the lock.
        let waker = waker.clone();
        let (claim, now) = (&self.claim, Instant::now());
        let look =
            |state: &mut State, wakers: &mut _| state.look(claim, resting, now, waker, wakers);
        let look = self.gate.with(look);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::Partition;
    use proptest::prelude::*;
    use tokio::time::advance;

    const MAX_DELAY: Duration = Duration::from_secs(300);

    const FIRST: Waited = Waited {
        time: Duration::ZERO,
        is_retry: false,
    };

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Arrive {
            head_start: u64,
        },
        Look(usize),
        Confirm(usize),
        Serve(usize),
        Refuse {
            who: usize,
            wait: u64,
        },
        Understand {
            who: usize,
            wait: Option<u64>,
            is_pause: bool,
        },
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
            (who(), 0..1_500_u64).prop_map(|(who, wait)| Step::Refuse { who, wait }),
            (who(), proptest::option::of(0..1_500_u64), any::<bool>()).prop_map(
                |(who, wait, is_pause)| Step::Understand {
                    who,
                    wait,
                    is_pause
                }
            ),
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
            let gate = Arc::new(Gate::new(Partition::new("test"), &[], &Arc::default()));
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
            let sent =
                matches!(caller.phase, Phase::Admitted) && caller.confirm(Instant::now(), FIRST);
            assert!(
                !sent || self.closed_until <= Instant::now(),
                "sent inside a pause"
            );
            sent
        }

        fn refuse(&mut self, who: usize, wait: u64) {
            let Some(caller) = self.callers.get_mut(who) else {
                return;
            };
            let now = Instant::now();
            let until = now + Duration::from_millis(wait);
            caller.answered(now, &[], Lesson::Reading { until });
        }

        fn understand(&mut self, who: usize, wait: Option<u64>, is_pause: bool) {
            let Some(caller) = self.callers.get_mut(who) else {
                return;
            };
            if !matches!(caller.phase, Phase::Reading { .. }) {
                return;
            }
            let now = Instant::now();
            let until = wait.map(|wait| now + Duration::from_millis(wait));
            // Whether the server named the time makes no difference to how long it is kept.
            let refused = until.map(|until| Refused {
                until,
                wait: (who % 2 == 0).then(|| until - now),
            });
            caller.understood(now, refused.filter(|_| is_pause));
            if let Some(until) = until {
                if is_pause {
                    self.closed_until = self.closed_until.max(until);
                }
                let resting = (!is_pause).then_some(until);
                caller.queue_again(now, Cost::of_request(10), resting);
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
                Step::Refuse { who, wait } => self.refuse(who, wait),
                Step::Understand {
                    who,
                    wait,
                    is_pause,
                } => self.understand(who, wait, is_pause),
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

        /// From here on all who wait are polled whenever one of them is to look again, and nobody
        /// is refused. What refusals have taught may be a rate as slow as the steps were long.
        async fn everybody_gets_through(&mut self) {
            self.callers
                .retain(|caller| matches!(caller.phase, Phase::Waiting { .. } | Phase::Admitted));
            let began = Instant::now();
            while began.elapsed() < Duration::from_secs(3_600) {
                for who in (0..self.callers.len()).rev() {
                    self.look(who);
                    if self.confirm(who) {
                        drop(self.callers.remove(who));
                    }
                }
                let Some(next) = self.callers.iter_mut().map(looks_again).min() else {
                    return;
                };
                let wait = next.saturating_duration_since(Instant::now());
                advance(wait.max(Duration::from_millis(1))).await;
            }
            panic!("somebody waits for ever: {:?}", self.callers);
        }
    }

    /// When a caller is to be polled again.
    fn looks_again(caller: &mut Caller) -> Instant {
        match caller.look(Waker::noop()) {
            Look::Again(at) => at,
            Look::Admitted | Look::GivenUp(_) => Instant::now(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_admission_does_not_outlast_a_pause_even_if_that_is_over() {
        let mut world = World::new();
        (0..2).for_each(|_| world.arrive(0));
        world.refuse(0, 50);
        world.understand(0, Some(50), true);
        advance(Duration::from_millis(50)).await;
        assert!(world.look(0));
        world.refuse(1, 20);
        world.understand(1, Some(20), true);
        advance(Duration::from_millis(20)).await;
        assert!(
            !world.confirm(0),
            "of two that were admitted before it, only one may go"
        );
        assert!(world.look(0) && world.confirm(0));
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
