//! The ideal: a server that lets wait at its door whom it would refuse.
//!
//! Requests travel, wait in order of arrival, are admitted at the first instant at which the
//! server's own rules allow it, are served and answered. No client can be faster, but for the
//! weather.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::Duration,
};

use simulation::Opening;
use tokio::time::Instant;

use crate::{
    workload::{Pace, Patience, Workload},
    world::{Server, Weather, World},
};

/// The time until the last success; zero if there is none.
pub(crate) fn ideal(world: &World, workload: &Workload, seed: u64) -> Duration {
    let began = Instant::now();
    let servers = (world.servers)(began);
    let mut oracle = Oracle {
        world,
        workload,
        weather: Weather::of(world, seed),
        doors: servers.into_iter().map(Door::new).collect(),
        began,
        events: BinaryHeap::new(),
        next: 0,
        last_success: Duration::ZERO,
    };
    oracle.open();
    while let Some(Reverse((now, event))) = oracle.events.pop() {
        oracle.happen(event, now);
    }
    oracle.last_success
}

/// In the order in which they happen at the same instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Leave { key: usize },
    Call { call: usize },
    Arrive { call: usize },
    Look { key: usize },
    Answer { call: usize },
}

struct Door {
    server: Server,
    waiting: VecDeque<usize>,
    /// When it is looked at next.
    look: Option<Instant>,
}

impl Door {
    fn new(server: Server) -> Self {
        Self {
            server,
            waiting: VecDeque::new(),
            look: None,
        }
    }
}

struct Oracle<'a> {
    world: &'a World,
    workload: &'a Workload,
    weather: Weather,
    doors: Vec<Door>,
    began: Instant,
    events: BinaryHeap<Reverse<(Instant, Event)>>,
    /// The next call of a closed loop.
    next: usize,
    last_success: Duration,
}

impl Oracle<'_> {
    fn open(&mut self) {
        match self.workload.pace {
            Pace::Closed => (0..Pace::WORKERS).for_each(|_| self.call_next(self.began)),
            Pace::AtOnce | Pace::Poisson(_) => {
                for (number, call) in self.workload.calls.iter().enumerate() {
                    self.plan(self.began + call.at, Event::Call { call: number });
                }
            }
        }
    }

    fn happen(&mut self, event: Event, now: Instant) {
        match event {
            Event::Call { call } => {
                self.plan(now + self.weather.there(call, 1), Event::Arrive { call });
            }
            Event::Arrive { call } => {
                let key = self.workload.calls[call].key;
                self.doors[key].waiting.push_back(call);
                self.admit(key, now);
            }
            Event::Look { key } => {
                self.doors[key].look = None;
                self.admit(key, now);
            }
            Event::Leave { key } => {
                self.doors[key].server.leave();
                self.admit(key, now);
            }
            Event::Answer { call } => {
                if self.workload.calls[call].counts() {
                    self.last_success = now - self.began;
                }
                if self.workload.pace == Pace::Closed {
                    self.call_next(now);
                }
            }
        }
    }

    /// Lets in from the front of a queue all that may come now.
    fn admit(&mut self, key: usize, now: Instant) {
        while let Some(&call) = self.doors[key].waiting.front() {
            let planned = self.workload.calls[call];
            let called = self.began + planned.at;
            let door = &mut self.doors[key];
            let gave_up = matches!(planned.patience, Patience::SinceCall(p) if called + p <= now);
            match door.server.opening(planned.tokens, now) {
                _ if gave_up => {}
                Opening::Never => {}
                Opening::AfterLeaving => return,
                Opening::At(opening) if opening > now => {
                    if door.look.is_none_or(|look| opening < look) {
                        door.look = Some(opening);
                        self.plan(opening, Event::Look { key });
                    }
                    return;
                }
                Opening::At(_) => {
                    let verdict = door.server.arrive(planned.tokens, now);
                    assert!(verdict.is_served, "a server opens when it says so");
                    self.serve(call, key, now);
                }
            }
            self.doors[key].waiting.pop_front();
        }
    }

    fn serve(&mut self, call: usize, key: usize, now: Instant) {
        let served = now + self.weather.service(call);
        let answered = served + self.weather.back(call, 1);
        self.plan(answered, Event::Answer { call });
        let free = if self.world.frees_by_answer {
            answered + self.weather.there(call, 1)
        } else {
            served
        };
        self.plan(free, Event::Leave { key });
    }

    fn call_next(&mut self, now: Instant) {
        if self.next < self.workload.calls.len() {
            self.plan(now, Event::Call { call: self.next });
            self.next += 1;
        }
    }

    fn plan(&mut self, at: Instant, event: Event) {
        self.events.push(Reverse((at, event)));
    }
}
