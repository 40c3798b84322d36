//! One process and an honest server, whatever its windows, the network and the service are like:
//! once an answer has come there is not one refusal. Where an answer takes longer than half a window,
//! the window's length is learned from bursts that come too early: three at most.

use super::{
    Window,
    tests::{announcement, requests},
};
use crate::quota::{
    Cost,
    dimension::Answer,
    ledger::{Ledger, Span},
    tempo::Tempo,
};
use proptest::{prelude::*, test_runner::RngSeed};
use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};
use tokio::time::Instant;

/// All times in milliseconds.
#[derive(Clone, Copy, Debug)]
struct World {
    limit: u64,
    length: u64,
    /// How old the first window is when the first request is sent.
    age: u64,
    /// One way takes so long at least and at most: never longer than the fastest round trip, nor
    /// than what stands for one where none can be told from a slow answer.
    latency: (u64, u64),
    /// A request is worked on for so long at most.
    service: u64,
    /// Whether an answer tells what remains when it leaves, and not when its request came.
    tells_late: bool,
    requests: u64,
    /// So many may be under way.
    at_a_time: u64,
    seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Look,
    Arrives(usize),
    Leaves(usize),
    Comes(usize),
}

/// A request under way, and what its answer will tell.
#[derive(Debug)]
struct Attempt {
    sent_at: u64,
    span: Span,
    is_refused: bool,
    remaining: u64,
    reset: u64,
}

struct Run {
    world: World,
    epoch: Instant,
    rng: fastrand::Rng,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    scheduled: u64,
    window: Option<Window>,
    ledger: Ledger,
    tempo: Tempo,
    attempts: Vec<Attempt>,
    waiting: u64,
    under_way: u64,
    /// The server's window, and what of it is used.
    number: u64,
    used: u64,
    refused: u64,
}

/// How long answers take, beside a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// Half of it at most.
    Prompt,
    Slow,
}

fn world(pace: Pace) -> impl Strategy<Value = World> {
    let windows = (1..200_u64, 0..90_u64, any::<u64>());
    let network = (0..250_u64, 0..=250_u64, 0..12_000_u64, any::<bool>());
    let client = (1..400_u64, 1..200_u64, any::<u64>());
    (windows, network, client).prop_map(move |(windows, network, client)| {
        let (limit, seconds, age) = windows;
        let (least, spread, service, tells_late) = network;
        let (requests, at_a_time, seed) = client;
        // Windows last whole seconds, and the shortest is to be shorter than two answers.
        let service = service.max(if pace == Pace::Slow { 501 } else { 0 });
        let most = least + spread.min(least);
        let is_prompt = 2 * most + service < 1_000;
        let longest = if is_prompt { most } else { 100 };
        let latency = (least.min(longest), most.min(longest));
        let two_answers = 2 * (2 * latency.1 + service);
        let length = 1_000
            * match pace {
                Pace::Prompt => two_answers.div_ceil(1_000).max(1) + seconds,
                Pace::Slow => 1 + seconds % ((two_answers - 1) / 1_000),
            };
        World {
            limit,
            length,
            age: age % length,
            latency,
            service,
            // An answer that tells of a window long after its own says nothing of either.
            tells_late: tells_late && service < length / 2,
            requests,
            at_a_time,
            seed,
        }
    })
}

impl World {
    /// An answer takes so long at most.
    fn answer(&self) -> u64 {
        2 * self.latency.1 + self.service
    }

    /// How many are refused. However slow the answers are, the windows are found, and most of each is
    /// used.
    fn uses_its_windows(self) -> Result<u64, TestCaseError> {
        let (took, refused) = Run::new(self).run();
        let windows = self.requests / self.limit + 3;
        let in_turn = self.requests / self.at_a_time.min(self.limit);
        let bound = windows * (self.length + self.answer() + 2_000) + in_turn * self.answer();
        prop_assert!(took <= 2 * bound, "{took} ms, where {bound} would do");
        Ok(refused)
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    })]

    #[test]
    fn not_one_is_refused(world in world(Pace::Prompt)) {
        let refused = world.uses_its_windows()?;
        prop_assert_eq!(refused, 0);
    }

    #[test]
    fn answers_that_take_half_a_window_cost_three_bursts_at_most(world in world(Pace::Slow)) {
        let refused = world.uses_its_windows()?;
        prop_assert!(refused <= 3 * world.limit, "{refused}");
    }
}

#[test]
fn not_one_is_refused_where_an_answer_may_be_of_this_window_or_of_the_next() {
    let world = World {
        limit: 2,
        length: 2_000,
        age: 437,
        latency: (59, 64),
        service: 1_236,
        tells_late: false,
        requests: 140,
        at_a_time: 2,
        seed: 2_541_181_747_517_312_156,
    };
    assert_eq!(Run::new(world).run().1, 0);
}

impl Run {
    fn new(world: World) -> Self {
        Self {
            world,
            epoch: Instant::now(),
            rng: fastrand::Rng::with_seed(world.seed),
            events: BinaryHeap::from([Reverse((0, 0, Event::Look))]),
            scheduled: 0,
            window: None,
            ledger: Ledger::default(),
            tempo: Tempo::default(),
            attempts: Vec::new(),
            waiting: world.requests,
            under_way: 0,
            number: 0,
            used: 0,
            refused: 0,
        }
    }

    /// Until all are served: how long that takes, and how many were refused.
    fn run(mut self) -> (u64, u64) {
        while let Some(Reverse((now, _, event))) = self.events.pop() {
            match event {
                Event::Look => {}
                Event::Arrives(id) => self.arrives(now, id),
                Event::Leaves(id) => self.leaves(now, id),
                Event::Comes(id) => self.comes(now, id),
            }
            if self.waiting + self.under_way == 0 {
                return (now, self.refused);
            }
            self.send(now);
        }
        panic!("{} wait for ever", self.waiting);
    }

    fn schedule(&mut self, at: u64, event: Event) {
        self.scheduled += 1;
        self.events.push(Reverse((at, self.scheduled, event)));
    }

    fn at(&self, now: u64) -> Instant {
        self.epoch + Duration::from_millis(now)
    }

    /// Mostly short, and sometimes long.
    fn latency(&mut self) -> u64 {
        let (least, most) = self.world.latency;
        least + ((most - least) as f64 * self.rng.f64().powi(3)) as u64
    }

    /// All that may go; but only one while nothing is known.
    fn send(&mut self, now: u64) {
        let at = self.at(now);
        let at_a_time = self.window.as_ref().map_or(1, |_| self.world.at_a_time);
        while self.waiting > 0 && self.under_way < at_a_time {
            if let Some(window) = &mut self.window {
                let opens_at = window.opens_at(at, Cost::NONE, requests(1));
                if opens_at > at {
                    let wait = (opens_at - at).as_nanos().div_ceil(1_000_000);
                    return self.schedule(now + wait as u64, Event::Look);
                }
                window.reserve(at, requests(1));
            }
            self.waiting -= 1;
            self.under_way += 1;
            let id = self.attempts.len();
            self.attempts.push(Attempt {
                sent_at: now,
                span: self.ledger.admitted(at, requests(1)),
                is_refused: false,
                remaining: 0,
                reset: 0,
            });
            let latency = self.latency();
            self.schedule(now + latency, Event::Arrives(id));
        }
    }

    /// What remains, and the seconds until the end of the window, rounded up.
    fn state(&mut self, now: u64) -> (u64, u64) {
        let age = now + self.world.age;
        let number = age / self.world.length;
        if number != self.number {
            self.number = number;
            self.used = 0;
        }
        let end = (number + 1) * self.world.length;
        (self.world.limit - self.used, (end - age).div_ceil(1_000))
    }

    fn arrives(&mut self, now: u64, id: usize) {
        let (left, reset) = self.state(now);
        let is_refused = left == 0;
        self.used += u64::from(!is_refused);
        let attempt = &mut self.attempts[id];
        attempt.is_refused = is_refused;
        attempt.remaining = left.saturating_sub(1);
        attempt.reset = reset;
        let service = self.rng.u64(0..=self.world.service);
        let service = if is_refused { 0 } else { service };
        self.schedule(now + service, Event::Leaves(id));
    }

    fn leaves(&mut self, now: u64, id: usize) {
        if self.world.tells_late {
            let (remaining, reset) = self.state(now);
            let attempt = &mut self.attempts[id];
            (attempt.remaining, attempt.reset) = (remaining, reset);
        }
        let latency = self.latency();
        self.schedule(now + latency, Event::Comes(id));
    }

    fn comes(&mut self, now: u64, id: usize) {
        let attempt = &self.attempts[id];
        self.ledger.settled(attempt.span, requests(1));
        if attempt.is_refused {
            self.tempo.refused(self.at(now), self.at(attempt.sent_at));
        } else {
            let took = Duration::from_millis(now - attempt.sent_at);
            self.tempo.served(took);
        }
        let answer = Answer {
            now: self.at(now),
            sent_at: self.at(attempt.sent_at),
            cost: requests(1),
            uncounted: self.ledger.uncounted(attempt.span),
            is_refused: attempt.is_refused,
            on_the_way: self.tempo.refusal_time(),
        };
        let told = [self.world.limit, attempt.remaining, attempt.reset];
        let [limit, remaining, reset] = told.map(|number| number.to_string());
        let announced = announcement(&limit, &remaining, &reset).expect("all three are told");
        match &mut self.window {
            Some(window) => window.announced(&answer, &announced),
            None => self.window = Window::new(&answer, &announced),
        }
        self.under_way -= 1;
        self.refused += u64::from(answer.is_refused);
        self.waiting += u64::from(answer.is_refused);
    }
}
