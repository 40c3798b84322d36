//! How a world is drawn.

use std::{fmt, num::NonZeroU32, time::Duration};

use fastrand::Rng;
use simulation::{
    Fields, Hints, Reset, RetryAfter, WallClock,
    limit::{All, Concurrency, FixedWindow, Limit, SlidingLog, TokenBucket, Unit},
};
use tokio::time::Instant;

use crate::{
    workload::{Pace, Patience, Workload},
    world::{Latency, Server, Spread, Stated, Told, World, mixed, normal},
};

/// The share of callers that give up.
const QUITTERS_RATIO: f64 = 0.03;
/// 2026-06-02 12:00:00.4 UTC.
const UNIX_SECONDS: f64 = 1_780_401_600.4;
const HOUR: f64 = 3_600.0;

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

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Bucket,
    Window,
    Log,
    Concurrency,
    /// So many in flight and so many a second.
    RateAndConcurrency,
    /// Requests and tokens.
    Tokens {
        are_windows: bool,
        /// Of the median request.
        median: f64,
        /// What there are of them for each request that is allowed.
        per_request: f64,
    },
}

/// The parameters of one world. Durations are in seconds.
#[derive(Clone, Debug)]
struct Drawn {
    kind: Kind,
    /// Requests per second.
    rate: f64,
    /// The requests that a full bucket, a new window or an empty log admits at once.
    burst: u32,
    /// How many at a time, where that is limited.
    cap: u32,
    /// How much of the first window has passed.
    age_ratio: f64,
    round_trip: f64,
    service: f64,
    retry_after: Option<RetryAfter>,
    fields: Option<Fields>,
    reset: Reset,
    /// By how much the server's clock is wrong.
    ahead: f64,
    /// The size of each key's quota, as a share of that of the first.
    keys: Vec<f64>,
    processes: usize,
    stated: Stated,
}

impl Drawn {
    fn draw(rng: &mut Rng) -> Self {
        let rate = log_uniform(rng, 0.2, 500.0);
        let burst = whole(rate * log_uniform(rng, 1.0, 50.0));
        let service = log_uniform(rng, 0.01, 10.0);
        let kind = Kind::draw(rng);
        let rate = if kind.has_length() {
            // Nobody counts by anything but whole seconds, and no field could say so.
            f64::from(burst) / (f64::from(burst) / rate).round().max(1.0)
        } else {
            rate
        };
        let at_a_time = match kind {
            Kind::RateAndConcurrency => rate * service * log_uniform(rng, 0.7, 2.0),
            _ => rate * service,
        };
        let (retry_after, fields) = hints(kind, rng);
        let second_key = rng.f64() < 0.3;
        let second_key = second_key.then(|| rng.f64() * 0.8 + 0.2);
        Self {
            kind,
            rate,
            burst,
            cap: at_a_time.round().clamp(1.0, 100.0) as u32,
            age_ratio: rng.f64(),
            round_trip: log_uniform(rng, 0.005, 0.8),
            service,
            retry_after,
            fields,
            reset: [Reset::Full, Reset::Next][rng.usize(..2)],
            ahead: (rng.f64() * 2.0 - 1.0) * HOUR,
            keys: [Some(1.0), second_key].into_iter().flatten().collect(),
            processes: [1, 1, 1, 2, 3, 4][rng.usize(..6)],
            stated: match kind {
                Kind::Tokens { .. } => [Stated::InBody, Stated::AsOption][rng.usize(..2)],
                _ => Stated::Nowhere,
            },
        }
    }

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
            requests: (20.0 * self.at_once() * share).clamp(300.0, 20_000.0) as usize,
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
    fn tokens(&self, share: f64) -> u32 {
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
    fn length(&self) -> Duration {
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

impl Kind {
    /// Whether it counts by a span of time.
    fn has_length(self) -> bool {
        match self {
            Self::Window | Self::Log => true,
            Self::Tokens { are_windows, .. } => are_windows,
            Self::Bucket | Self::Concurrency | Self::RateAndConcurrency => false,
        }
    }

    fn draw(rng: &mut Rng) -> Self {
        match rng.u8(..6) {
            0 => Self::Bucket,
            1 => Self::Window,
            2 => Self::Log,
            3 => Self::Concurrency,
            4 => Self::RateAndConcurrency,
            _ => {
                let median = log_uniform(rng, 20.0, 2_000.0);
                Self::Tokens {
                    are_windows: rng.bool(),
                    median,
                    // The mean request is the median one times the root of e.
                    per_request: median * 0.5_f64.exp() * log_uniform(rng, 0.5, 2.0),
                }
            }
        }
    }
}

/// What a server of this kind may tell.
fn hints(kind: Kind, rng: &mut Rng) -> (Option<RetryAfter>, Option<Fields>) {
    let seconds = Some(RetryAfter::Seconds(1.0));
    if kind == Kind::Concurrency {
        let constant = Some(RetryAfter::Constant(1));
        return ([None, None, constant][rng.usize(..3)], None);
    }
    let beside = [None, seconds][rng.usize(..2)];
    match rng.u8(..10) {
        0 => (seconds, None),
        1 => (Some(RetryAfter::Millis(1.0)), None),
        2 => (Some(RetryAfter::Date), None),
        3 => (beside, Some(Fields::Structured)),
        4 => (beside, Some(Fields::Seconds)),
        5 => (beside, Some(Fields::UnixTime)),
        6 => (beside, Some(Fields::GoDurations)),
        7 => {
            let ratio = log_uniform(rng, 0.1, 1.0);
            let wrong = [RetryAfter::Seconds(ratio), RetryAfter::Millis(ratio)];
            (Some(wrong[rng.usize(..2)]), None)
        }
        8 => (Some(RetryAfter::Constant(1)), None),
        _ => (None, None),
    }
}

/// All that is needed to understand what happens.
impl fmt::Display for Drawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.length().as_secs_f64();
        match self.kind {
            Kind::Bucket => write!(f, "bucket of {}, {:.2}/s", self.burst, self.rate)?,
            Kind::Window => write!(f, "window of {} in {length:.2} s", self.burst)?,
            Kind::Log => write!(f, "log of {} in {length:.2} s", self.burst)?,
            Kind::Concurrency => write!(f, "{} at a time", self.cap)?,
            Kind::RateAndConcurrency => write!(
                f,
                "{} at a time and bucket of {}, {:.2}/s",
                self.cap, self.burst, self.rate
            )?,
            Kind::Tokens {
                are_windows,
                median,
                ..
            } => write!(
                f,
                "{} of {} and {} tokens (median {median:.0}) in {length:.2} s",
                if are_windows { "windows" } else { "buckets" },
                self.burst,
                self.tokens(1.0)
            )?,
        }
        write!(
            f,
            "; round trip {:.0} ms, service {:.0} ms; ",
            self.round_trip * 1_000.0,
            self.service * 1_000.0
        )?;
        match self.retry_after {
            None => write!(f, "no Retry-After")?,
            Some(RetryAfter::Seconds(ratio)) => write!(f, "{ratio:.2} of Retry-After")?,
            Some(RetryAfter::Millis(ratio)) => write!(f, "{ratio:.2} of retry-after-ms")?,
            Some(RetryAfter::Both) => write!(f, "Retry-After and retry-after-ms")?,
            Some(RetryAfter::Date) => write!(f, "Retry-After: a date")?,
            Some(RetryAfter::Constant(seconds)) => write!(f, "always Retry-After: {seconds}")?,
        }
        if let Some(fields) = self.fields {
            write!(f, ", fields {fields:?} until {:?}", self.reset)?;
        }
        let keys: Vec<String> = self.keys.iter().map(|key| format!("{key:.2}")).collect();
        write!(
            f,
            "; processes: {}, keys: {}",
            self.processes,
            keys.join(" and ")
        )
    }
}

/// Every order of magnitude is as likely as every other.
fn log_uniform(rng: &mut Rng, from: f64, to: f64) -> f64 {
    from * (to / from).powf(rng.f64())
}

fn spread(median: f64, sigma: f64) -> Spread {
    let median = duration(median);
    Spread::LogNormal { median, sigma }
}

fn duration(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn whole(number: f64) -> u32 {
    number.round().max(1.0) as u32
}
