//! Time that passes when everybody sleeps.

use shuttle::{
    sync::{Condvar, Mutex},
    thread::{self, JoinHandle},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::Arc,
    task::{Context, Wake, Waker},
    time::Duration,
};
use tokio::time::Instant;

/// The threads of a scenario, and what they sleep until.
pub(super) struct Clock {
    sleepers: Mutex<Sleepers>,
    rung: Condvar,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Sleepers {
    threads: usize,
    awake: usize,
    asleep: BTreeMap<usize, Instant>,
    /// Who was woken before it slept.
    rung: BTreeSet<usize>,
}

/// One thread's own: wakes it, and lets it sleep.
#[derive(Clone)]
pub(super) struct Alarm {
    clock: Arc<Clock>,
    thread: usize,
}

impl Clock {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            // Who makes it and spawns the threads.
            sleepers: Mutex::new(Sleepers {
                awake: 1,
                ..Sleepers::default()
            }),
            rung: Condvar::new(),
            threads: Mutex::default(),
        })
    }

    /// Another thread, which counts as awake from now on.
    pub(super) fn spawn(self: &Arc<Self>, act: impl FnOnce(&Alarm) + Send + 'static) {
        let mut sleepers = self.sleepers.lock().unwrap();
        sleepers.threads += 1;
        sleepers.awake += 1;
        let alarm = Alarm {
            clock: Arc::clone(self),
            thread: sleepers.threads,
        };
        drop(sleepers);
        let thread = thread::spawn(move || {
            act(&alarm);
            alarm.clock.rest();
        });
        self.threads.lock().unwrap().push(thread);
    }

    /// Waits for all of them. Until then no time passes by itself.
    pub(super) fn join(&self) {
        self.rest();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap());
        for thread in threads {
            thread.join().unwrap();
        }
    }

    /// Time passes, whoever is awake.
    pub(super) fn pass(&self, time: Duration) {
        let mut sleepers = self.sleepers.lock().unwrap();
        advance(time);
        self.wake_due(&mut sleepers);
    }

    /// One less is awake.
    fn rest(&self) {
        let mut sleepers = self.sleepers.lock().unwrap();
        sleepers.awake -= 1;
        self.pass_if_all_sleep(&mut sleepers);
    }

    fn pass_if_all_sleep(&self, sleepers: &mut Sleepers) {
        if sleepers.awake > 0 {
            return;
        }
        if let Some(next) = sleepers.asleep.values().min() {
            advance(next.saturating_duration_since(Instant::now()));
            self.wake_due(sleepers);
        }
    }

    fn wake_due(&self, sleepers: &mut Sleepers) {
        let now = Instant::now();
        let before = sleepers.asleep.len();
        sleepers.asleep.retain(|_, until| *until > now);
        sleepers.awake += before - sleepers.asleep.len();
        self.rung.notify_all();
    }

    fn ring(&self, thread: usize) {
        let mut sleepers = self.sleepers.lock().unwrap();
        if sleepers.asleep.remove(&thread).is_some() {
            sleepers.awake += 1;
            self.rung.notify_all();
        } else {
            sleepers.rung.insert(thread);
        }
    }
}

impl Alarm {
    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(super) fn waker(&self) -> Waker {
        Waker::from(Arc::new(self.clone()))
    }

    /// Until then, or until it is woken; `false` if it was.
    pub(super) fn sleep_until(&self, until: Instant) -> bool {
        let mut sleepers = self.clock.sleepers.lock().unwrap();
        if sleepers.rung.remove(&self.thread) {
            return false;
        }
        if until <= Instant::now() {
            return true;
        }
        sleepers.asleep.insert(self.thread, until);
        sleepers.awake -= 1;
        self.clock.pass_if_all_sleep(&mut sleepers);
        while sleepers.asleep.contains_key(&self.thread) {
            sleepers = self.clock.rung.wait(sleepers).unwrap();
        }
        Instant::now() >= until
    }

    /// Until then, whoever rings.
    pub(super) fn oversleep(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.sleep_until(until) {}
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.clock.ring(self.thread);
    }
}

/// Steps tokio's clock.
fn advance(time: Duration) {
    let mut step = pin!(tokio::time::advance(time));
    let _ = step.as_mut().poll(&mut Context::from_waker(Waker::noop()));
}
