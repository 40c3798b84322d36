//! A world as it was drawn.

use std::{num::NonZeroU32, time::Duration};

use fastrand::Rng;
use simulation::{
    Fields, Hints, RetryAfter, WallClock,
    limit::{All, Concurrency, FixedWindow, Limit, SlidingLog, TokenBucket, Unit},
};
use tokio::time::Instant;

use super::draw::{Drawn, Kind, whole};
use crate::{
    workload::{Pace, Patience, Workload},
    world::{Latency, Server, Spread, Told, World, mixed, normal},
};

/// The share of callers that give up.
const QUITTERS_RATIO: f64 = 0.03;
/// 2026-06-02 12:00:00.4 UTC.
const UNIX_SECONDS: f64 = 1_780_401_600.4;

/// The seed of all that happens in the world of this number.
pub(crate) fn seed(seed: u64, number: usize) -> u64 {
    mixed(mixed(seed) ^ number as u64)
}

/// The world of this number, and what is asked of it.
pub(crate) fn world(seed: u64, number: usize) -> (World, Workload) {
    let seed = self::seed(seed, number);
    let mut rng = Rng::with_seed(seed);
    let drawn = Drawn::draw(&mut rng);
    let world = drawn.world();
    let workload = drawn.workload(&world, &mut rng, seed);
    (world, workload)
}

impl Drawn {
    fn world(&self) -> World {
        let drawn = self.clone();
        let is_capped = matches!(self.kind, Kind::Concurrency | Kind::RateAndConcurrency);
        let (kind, share) = (self.kind, self.keys.iter().sum::<f64>());
        World {
            name: self.to_string(),
            servers: Box::new(move |now| {
                let server = |share: &f64| drawn.server(*share, now);
                drawn.keys.iter().map(server).collect()
            }),
            one_way: Latency {
                usual: spread(self.round_trip / 2.0, 0.25),
                spike_ratio: 0.002,
            },
            service: spread(self.service, 0.3),
            processes: self.processes,
            requests: (20.0 * self.at_once() * share).clamp(1_000.0, 20_000.0) as usize,
            rate: self.rate * share,
            tokens: Box::new(move |rng, _| match kind {
                Kind::Tokens { median, .. } => (median * normal(rng).exp()).ceil() as u32,
                _ => 0,
            }),
            stated: self.stated,
            told: Told::default(),
            frees_by_answer: is_capped,
        }
    }

    /// All at once, by impatient callers too, with both keys; and in a world of tokens one request
    /// that is larger than all of them.
    fn workload(&self, world: &World, rng: &mut Rng, seed: u64) -> Workload {
        let mut workload = Workload::new(world, Pace::AtOnce, seed);
        let seconds = world.requests as f64 / world.rate;
        for call in &mut workload.calls {
            let share = self.keys.iter().sum::<f64>() * rng.f64();
            call.key = usize::from(share > 1.0);
            call.tokens = call.tokens.min(self.tokens(self.keys[call.key]));
            if rng.f64() < QUITTERS_RATIO {
                let in_flight = self.round_trip + self.service;
                call.patience = if rng.bool() {
                    Patience::SinceCall(duration(seconds * rng.f64()))
                } else {
                    Patience::SinceSending(duration(in_flight * rng.f64()))
                };
            }
        }
        if matches!(self.kind, Kind::Tokens { .. }) {
            let number = rng.usize(..workload.calls.len());
            let call = &mut workload.calls[number];
            call.tokens = self.tokens(self.keys[call.key]).saturating_mul(2);
            call.is_possible = false;
        }
        workload
    }

    /// How many requests are allowed at once.
    fn at_once(&self) -> f64 {
        match self.kind {
            Kind::Concurrency => f64::from(self.cap),
            _ => f64::from(self.burst),
        }
    }

    /// How many tokens a key is allowed at once.
    pub(super) fn tokens(&self, share: f64) -> u32 {
        match self.kind {
            Kind::Tokens { per_request, .. } => {
                (f64::from(self.burst) * share * per_request).max(1.0) as u32
            }
            _ => 0,
        }
    }

    fn server(&self, share: f64, now: Instant) -> Server {
        let unix = Duration::from_secs_f64(UNIX_SECONDS + self.ahead);
        let needs_clock =
            self.retry_after == Some(RetryAfter::Date) || self.fields == Some(Fields::UnixTime);
        let hints = Hints {
            retry_after: self.retry_after,
            fields: self.fields,
            reset: self.reset,
            clock: needs_clock.then(|| WallClock::new(now, unix)),
        };
        let burst = whole(f64::from(self.burst) * share);
        let cap = Concurrency::new(whole(f64::from(self.cap) * share));
        let bucket = || self.bucket(Unit::Requests, burst, now);
        match self.kind {
            Kind::Bucket => Server::new(bucket(), hints),
            Kind::Window => Server::new(self.window(Unit::Requests, burst, now), hints),
            Kind::Log => Server::new(SlidingLog::new(burst, self.length()), hints),
            Kind::Concurrency => Server::new(cap, hints),
            Kind::RateAndConcurrency => {
                let limits: Vec<Box<dyn Limit>> = vec![Box::new(cap), Box::new(bucket())];
                Server::new(All::new(limits), hints)
            }
            Kind::Tokens { are_windows, .. } => {
                let limit = |(unit, limit)| -> Box<dyn Limit> {
                    if are_windows {
                        Box::new(self.window(unit, limit, now))
                    } else {
                        Box::new(self.bucket(unit, limit, now))
                    }
                };
                let tokens = self.tokens(share);
                let limits = [(Unit::Requests, burst), (Unit::Tokens, tokens)].map(limit);
                Server::new(All::new(limits.into()), hints)
            }
        }
    }

    /// The time in which all that is allowed at once comes back.
    pub(super) fn length(&self) -> Duration {
        duration(f64::from(self.burst) / self.rate)
    }

    fn bucket(&self, unit: Unit, capacity: u32, now: Instant) -> TokenBucket {
        let per_minute = f64::from(capacity) * 60.0 / self.length().as_secs_f64();
        let per_minute = NonZeroU32::new(whole(per_minute)).expect("at least one");
        TokenBucket::new(unit, capacity, per_minute, now)
    }

    fn window(&self, unit: Unit, limit: u32, now: Instant) -> FixedWindow {
        let age = self.length().mul_f64(self.age_ratio);
        FixedWindow::new(unit, limit, self.length(), now).age(age)
    }
}

fn spread(median: f64, sigma: f64) -> Spread {
    let median = duration(median);
    Spread::LogNormal { median, sigma }
}

fn duration(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}
