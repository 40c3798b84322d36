//! What is raced against: servers, the network before them, and how long they take.

use std::time::Duration;

use fastrand::Rng;
use http::HeaderMap;
use simulation::{Hints, Limit, Opening};
use tokio::time::Instant;

/// One world; the same seed makes the same weather in it for all who race.
pub(crate) struct World {
    pub(crate) name: String,
    /// The servers when the race begins, one for each key.
    pub(crate) servers: Box<dyn Fn(Instant) -> Vec<Server>>,
    pub(crate) one_way: Latency,
    pub(crate) service: Spread,
    /// How many processes share the quotas, each with a client of its own.
    pub(crate) processes: usize,
    /// How many requests are made.
    pub(crate) requests: usize,
    /// Requests per second that it can serve for long.
    pub(crate) rate: f64,
    /// The tokens of a request, given its place among all, from 0 to 1.
    pub(crate) tokens: Tokens,
    pub(crate) stated: Stated,
    /// Only those hear it who race to show what that is worth.
    pub(crate) told: Told,
    /// Whether an ideal client must know that a place is free, for which it needs an answer: else
    /// it is as if it waited at the server's door.
    pub(crate) frees_by_answer: bool,
}

/// What a client may be told of the servers beforehand; nothing by default.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    pub(crate) requests: Option<Rate>,
    pub(crate) tokens: Option<Rate>,
    pub(crate) at_a_time: Option<usize>,
}

/// So many at once, and all of them again in so long a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) burst: u32,
    pub(crate) per: Duration,
    /// Whether they come back one by one, as in a bucket.
    pub(crate) is_bucket: bool,
}

impl Rate {
    /// The time for one of them.
    pub(crate) fn interval(self) -> Duration {
        self.per / self.burst
    }
}

pub(crate) type Tokens = Box<dyn Fn(&mut Rng, f64) -> u32>;

/// A quota, and what is told of it.
pub(crate) struct Server {
    limit: Box<dyn Limit>,
    hints: Hints,
}

pub(crate) struct Verdict {
    pub(crate) is_served: bool,
    pub(crate) headers: HeaderMap,
}

impl Server {
    pub(crate) fn new(limit: impl Limit + 'static, hints: Hints) -> Self {
        Self {
            limit: Box::new(limit),
            hints,
        }
    }

    pub(crate) fn arrive(&mut self, tokens: u32, now: Instant) -> Verdict {
        let is_served = self.limit.admit(tokens, now);
        let refused = (!is_served).then_some(tokens);
        Verdict {
            is_served,
            headers: self.hints.headers(&*self.limit, refused, now),
        }
    }

    pub(crate) fn leave(&mut self) {
        self.limit.leave();
    }

    pub(crate) fn opening(&self, tokens: u32, now: Instant) -> Opening {
        self.limit.opening(tokens, now)
    }
}

/// How a request says of how many tokens it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stated {
    Nowhere,
    /// As `max_tokens` in a JSON body.
    InBody,
    /// As [`RequestOptions::tokens`](tower_rate_limit_retry::RequestOptions::tokens).
    AsOption,
}

/// How long one message takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    pub(crate) usual: Spread,
    /// The share of those that take one to five seconds more.
    pub(crate) spike_ratio: f64,
}

impl Latency {
    fn draw(&self, rng: &mut Rng) -> Duration {
        let usual = self.usual.draw(rng);
        if rng.f64() < self.spike_ratio {
            return usual + Duration::from_millis(rng.u64(1_000..5_000));
        }
        usual
    }
}

/// How durations are spread. All are drawn in whole milliseconds, of which tokio's timers are made:
/// a fraction would be rounded up for those who race, and not for the ideal.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Spread {
    Constant(Duration),
    Uniform(Duration, Duration),
    LogNormal { median: Duration, sigma: f64 },
}

impl Spread {
    fn draw(&self, rng: &mut Rng) -> Duration {
        let seconds = match *self {
            Self::Constant(duration) => duration.as_secs_f64(),
            Self::Uniform(from, to) => {
                let ratio = rng.f64();
                from.as_secs_f64() * (1.0 - ratio) + to.as_secs_f64() * ratio
            }
            Self::LogNormal { median, sigma } => median.as_secs_f64() * (sigma * normal(rng)).exp(),
        };
        Duration::from_millis((seconds * 1_000.0).round().max(1.0) as u64)
    }
}

/// A number from the standard normal distribution, after Box and Muller.
pub(crate) fn normal(rng: &mut Rng) -> f64 {
    let (distance, angle) = (1.0 - rng.f64(), rng.f64());
    (-2.0 * distance.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

/// What chance has in store: each message and each service by itself, so that the same one takes
/// the same time whoever sends it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) seed: u64,
    pub(crate) one_way: Latency,
    pub(crate) service: Spread,
}

impl Weather {
    pub(crate) fn of(world: &World, seed: u64) -> Self {
        Self {
            seed,
            one_way: world.one_way,
            service: world.service,
        }
    }

    pub(crate) fn there(&self, call: usize, attempt: u32) -> Duration {
        self.one_way.draw(&mut self.rng(call, 2 * attempt))
    }

    pub(crate) fn back(&self, call: usize, attempt: u32) -> Duration {
        self.one_way.draw(&mut self.rng(call, 2 * attempt + 1))
    }

    pub(crate) fn service(&self, call: usize) -> Duration {
        self.service.draw(&mut self.rng(call, 0))
    }

    fn rng(&self, call: usize, event: u32) -> Rng {
        let event = (call as u64) << 32 | u64::from(event);
        Rng::with_seed(mixed(self.seed ^ mixed(event)))
    }
}

/// The finalizer of `SplitMix64`: neighbouring numbers become far ones.
pub(crate) fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
