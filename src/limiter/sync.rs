//! The lock of a partition, and that of the table: std's.
//!
//! In the crate's own tests a thread that explores schedules takes it in turns that `shuttle`
//! chooses; all other threads find std's lock there as well. Nothing else of what calls share has an
//! order that matters, so the orders of these locks are all the schedules there are.

#[cfg(not(test))]
pub(super) use std::sync::{Mutex, RwLock};

#[cfg(test)]
pub(super) use explored::{Mutex, RwLock, explore};

#[cfg(test)]
mod explored {
    use shuttle::{Config, scheduler::Scheduler};
    use std::{
        cell::Cell,
        ops::{Deref, DerefMut},
        sync::{self, LockResult, PoisonError},
        thread,
    };

    thread_local! {
        static EXPLORES: Cell<bool> = const { Cell::new(false) };
    }

    /// Runs this under every schedule that the scheduler chooses; how many they were.
    pub(in crate::limiter) fn explore(
        scheduler: impl Scheduler + 'static,
        config: Config,
        scenario: impl Fn() + Send + Sync + 'static,
    ) -> usize {
        EXPLORES.set(true);
        let schedules = shuttle::Runner::new(scheduler, config).run(scenario);
        EXPLORES.set(false);
        schedules
    }

    /// Shuttle's threads are coroutines of one thread: whoever has the turn has the lock.
    #[derive(Default)]
    pub(in crate::limiter) struct Mutex<T> {
        turn: shuttle::sync::Mutex<()>,
        inner: sync::Mutex<T>,
    }

    /// The turn passes on after the lock is free.
    pub(in crate::limiter) struct Guard<'a, T> {
        inner: sync::MutexGuard<'a, T>,
        _turn: Option<shuttle::sync::MutexGuard<'a, ()>>,
    }

    impl<T> Mutex<T> {
        pub(in crate::limiter) fn new(value: T) -> Self {
            Self {
                turn: shuttle::sync::Mutex::new(()),
                inner: sync::Mutex::new(value),
            }
        }

        pub(in crate::limiter) fn lock(&self) -> LockResult<Guard<'_, T>> {
            // What is dropped by a panic is no part of a schedule.
            let explores = EXPLORES.get() && !thread::panicking();
            let turn = explores.then(|| self.turn.lock().unwrap_or_else(PoisonError::into_inner));
            match self.inner.lock() {
                Ok(inner) => Ok(Guard { inner, _turn: turn }),
                Err(poisoned) => {
                    let inner = poisoned.into_inner();
                    Err(PoisonError::new(Guard { inner, _turn: turn }))
                }
            }
        }
    }

    /// Readers take turns as well: what they look up has no order that matters.
    #[derive(Debug, Default)]
    pub(in crate::limiter) struct RwLock<T>(Mutex<T>);

    impl<T> RwLock<T> {
        pub(in crate::limiter) fn read(&self) -> LockResult<Guard<'_, T>> {
            self.0.lock()
        }

        pub(in crate::limiter) fn write(&self) -> LockResult<Guard<'_, T>> {
            self.0.lock()
        }
    }

    impl<T> Deref for Guard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.inner
        }
    }

    impl<T> DerefMut for Guard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.inner
        }
    }

    impl<T> std::fmt::Debug for Mutex<T> {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("Mutex").finish_non_exhaustive()
        }
    }
}
