//! One partition: the lock around its state, and the waking that is done without it.

use super::state::State;
use crate::{
    partition::Partition,
    quota::{Admit, Cost},
};
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
    time::Duration,
};
use tokio::time::Instant;

/// One partition of a quota, shared by all calls that count against it.
#[derive(Debug)]
pub(crate) struct Gate {
    partition: Partition,
    /// Lets calls find out without the lock whether an estimate of their tokens is wanted.
    counts_tokens: AtomicBool,
    state: Mutex<State>,
}

impl Gate {
    pub(super) fn new(partition: Partition) -> Self {
        Self {
            partition,
            counts_tokens: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    pub(crate) fn partition(&self) -> &Partition {
        &self.partition
    }

    pub(crate) fn counts_tokens(&self) -> bool {
        self.counts_tokens.load(Ordering::Relaxed)
    }

    /// Works on the state under the lock; then wakes, without the lock, whom the work has put on
    /// the list.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut State, &mut Vec<Waker>) -> T) -> T {
        let mut woken = Vec::new();
        let result = {
            // The state holds counts and instants that are valid after any single step; what a
            // panic may have left behind is at worst a turn that lapses.
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut state, &mut woken)
        };
        woken.into_iter().for_each(Waker::wake);
        result
    }

    /// Works on the state under the lock so that the model changes. Afterwards all go that may, and those are told who
    /// now wait in vain.
    pub(super) fn learn<T>(
        &self,
        now: Instant,
        max_delay: Duration,
        lesson: impl FnOnce(&mut State) -> T,
    ) -> T {
        self.with(|state, woken| {
            let learned = lesson(state);
            if state.quota.counts_tokens() {
                self.counts_tokens.store(true, Ordering::Relaxed);
            }
            if state.queue.len() == 0 {
                return learned;
            }
            state.advance(now, woken);
            if let Admit::At(opens_at, _) = state.quota.admit(now, Cost::of_request(0)) {
                if opens_at.saturating_duration_since(now) > max_delay {
                    state.queue.wake_all(woken);
                } else {
                    state.queue.wake_hopeless(opens_at, woken);
                }
            }
            learned
        })
    }
}
