use super::*;
use crate::partition::Partition;
use proptest::prelude::*;
use tokio::time::advance;

const TOKENS: u64 = 10;

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
        let (gate, config) = (Arc::clone(&self.gate), Arc::default());
        let head_start = Duration::from_secs(head_start);
        let caller = Caller::arrive(gate, config, Instant::now(), head_start, None, TOKENS);
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
        let is_admitted = matches!(caller.phase, Phase::Admitted { .. });
        let sent = is_admitted && caller.confirm(Instant::now(), false).is_some();
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
        caller.refused(now, &[], until);
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
            caller.queue_again(now, TOKENS, resting);
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
        self.callers.retain(|caller| {
            matches!(caller.phase, Phase::Waiting { .. } | Phase::Admitted { .. })
        });
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
                assert!(state.in_flight.is_empty(), "{:?}", state.in_flight);
                assert!(state.quota.is_idle(), "{:?}", state.quota);
            });
        });
    }
}
