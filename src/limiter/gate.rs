//! One partition: the lock around its state, and the waking that is done without it.

use super::{
    charged::Charged,
    claim::{Bounds, Claim},
    queue::Wakers,
    state::State,
    sync::Mutex,
};
use crate::{
    body::Watcher,
    observe::{self, Notice, Observers},
    partition::Partition,
    quota::{Admit, Cost, Quota, Reading, Worth},
    snapshot::{PartitionSnapshot, Totals},
};
use std::sync::{
    Arc, PoisonError, Weak,
    atomic::{AtomicBool, Ordering},
};
use std::time::Duration;
use tokio::time::Instant;

/// One partition of a quota, shared by all calls that count against it.
#[derive(Debug)]
pub(crate) struct Gate {
    partition: Partition,
    /// Whether the user has declared how many tokens there are.
    declares_tokens: bool,
    /// Lets calls find out without the lock whether an estimate of their tokens is wanted.
    counts_tokens: AtomicBool,
    /// Those of the layer by which the partition was first met. Not held, for an observer may hold what
    /// holds all partitions.
    observers: Weak<Observers>,
    is_observed: bool,
    state: Mutex<State>,
}

impl Watcher for Gate {
    fn ended(&self, number: u64, worked: Option<Duration>) {
        self.learn(Instant::now(), |state, _| state.quota.ended(number, worked));
    }
}

impl Gate {
    #[cold]
    pub(super) fn new(partition: Partition, quotas: &[Quota], observers: &Arc<Observers>) -> Self {
        let state = State::new(quotas);
        Self {
            partition,
            declares_tokens: state.quota.declares_tokens(),
            counts_tokens: AtomicBool::new(state.quota.counts_tokens()),
            observers: Arc::downgrade(observers),
            is_observed: !observers.is_empty(),
            state: Mutex::new(state),
        }
    }

    pub(crate) fn partition(&self) -> &Partition {
        &self.partition
    }

    pub(super) fn declares_tokens(&self) -> bool {
        self.declares_tokens
    }

    pub(crate) fn counts_tokens(&self) -> bool {
        self.counts_tokens.load(Ordering::Relaxed)
    }

    /// So many tokens were used besides what calls have reserved.
    pub(crate) fn charge(&self, tokens: u64) {
        let now = Instant::now();
        self.learn(now, |state, _| state.quota.charge(now, tokens));
    }

    /// What a request was charged with is in truth so much.
    pub(crate) fn settle(&self, charged: &Charged, tokens: u64) {
        let (now, before) = (Instant::now(), charged.replace(tokens));
        self.learn(now, |state, _| {
            state.quota.settle(now, charged.at(), before, tokens);
        });
    }

    /// Forgets all that the server has said.
    pub(crate) fn forget(&self) {
        let now = Instant::now();
        self.learn(now, |state, _| state.quota.forget(now));
    }

    /// What is to be seen now. Under the lock it is copied, into room that was made before.
    pub(crate) fn snapshot(&self) -> PartitionSnapshot {
        let now = Instant::now();
        let mut reading = Reading::new(now);
        let mut totals = Totals::with_room();
        let (next, waiting, unused, lapsed) = self.with(|state, _| {
            state.quota.pass(now, state.queue.len() as u64);
            state.quota.read(&mut reading);
            state.add_totals(&mut totals);
            let next = state.queue.first_cost().unwrap_or(Cost::of_request(0));
            let next = state.quota.admit(now, next);
            let admissions = &state.queue.admissions;
            (
                next,
                state.queue.len(),
                admissions.len(),
                admissions.lapsed(now),
            )
        });
        let opens_in = next.opens_at(now).saturating_duration_since(now);
        PartitionSnapshot {
            partition: self.partition.clone(),
            pause: reading.pause(),
            opens_in,
            held_by: match next {
                Admit::Now => None,
                Admit::At(_, hold) => Some(hold),
            },
            waiting,
            admitted: unused - lapsed,
            in_flight: reading.in_flight.saturating_sub(unused),
            dimensions: reading.dimensions(),
            totals,
        }
    }

    /// Adds what was counted since the start.
    pub(super) fn add_totals(&self, all: &mut Totals) {
        self.with(|state, _| state.add_totals(all));
    }

    /// How long a call that arrives now would wait, as far as is known; `None` if it would not be let
    /// in.
    pub(crate) fn expected_wait(
        &self,
        now: Instant,
        head_start: Duration,
        cost: Cost,
        bounds: Bounds,
    ) -> Option<Duration> {
        self.with(|state, _| {
            let ticket = state.next_ticket(now, head_start);
            let claim = Claim {
                ticket,
                cost,
                bounds,
            };
            state.expected_wait(&claim, now)
        })
    }

    /// What would be lost without it.
    pub(super) fn worth(&self, now: Instant) -> Worth {
        self.with(|state, _| {
            let worth = state.quota.worth(now);
            if state.budget.is_full(now) {
                return worth;
            }
            // Else a server that is broken would be sent all that the reserve allows once more.
            worth.max(Worth::Knowledge)
        })
    }

    /// Works on the state under the lock; then wakes and drops, without the lock, the wakers that
    /// the work has put on the lists.
    #[inline]
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut State, &mut Wakers) -> T) -> T {
        let mut wakers = Wakers::default();
        let result = {
            // The state holds counts and instants that are valid after any single step; what a
            // panic may have left behind is at worst a turn that lapses.
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut state, &mut wakers)
        };
        wakers.wake_all();
        result
    }

    /// Works on the state under the lock so that the model changes. Afterwards all go that may, and
    /// those are told who now wait in vain; and, without the lock, those who observe.
    #[inline]
    pub(super) fn learn<T>(
        &self,
        now: Instant,
        lesson: impl FnOnce(&mut State, &mut Wakers) -> T,
    ) -> T {
        let (learned, news) = self.with(|state, wakers| {
            let learned = lesson(state, wakers);
            if state.quota.counts_tokens() {
                self.counts_tokens.store(true, Ordering::Relaxed);
            }
            if state.queue.len() > 0 {
                state.advance(now, wakers);
                state.tell_the_hopeless(now, wakers);
            }
            // Here, for by the next time the lock is free the pause may be another.
            let news = state.watch.news(now, &self.partition, &state.quota);
            (learned, news)
        });
        // Not under the lock: who wants to have it logged is asked.
        let wants_limits = self.is_observed || observe::logs_limits();
        if news.is_some() || wants_limits {
            self.tell(now, news, wants_limits);
        }
        learned
    }

    /// Tells what is new. Apart from the learning, for nearly every answer brings no news.
    #[cold]
    fn tell(&self, now: Instant, news: Option<Box<Notice>>, wants_limits: bool) {
        // Whoever made the layer that this was first met by may have dropped it; logs go on.
        let observers = self.observers.upgrade().unwrap_or_default();
        if let Some(notice) = news {
            observers.tell(&notice);
        }
        if wants_limits {
            let mut reading = Reading::new(now);
            let notices = self.with(|state, _| {
                state.quota.read(&mut reading);
                let threshold = observers.usage_threshold_ratio;
                let dimensions = reading.dimensions();
                state
                    .watch
                    .look_at_limits(&self.partition, dimensions, threshold)
            });
            for notice in &notices {
                observers.tell(notice);
            }
        }
    }
}
