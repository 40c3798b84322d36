//! Which worlds there are, and how likely.

use fastrand::Rng;
use simulation::{Fields, Reset, RetryAfter};

use crate::world::Stated;

const HOUR: f64 = 3_600.0;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
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
pub(super) struct Drawn {
    pub(super) kind: Kind,
    /// Requests per second.
    pub(super) rate: f64,
    /// The requests that a full bucket, a new window or an empty log admits at once.
    pub(super) burst: u32,
    /// How many at a time, where that is limited.
    pub(super) cap: u32,
    /// How much of the first window has passed.
    pub(super) age_ratio: f64,
    pub(super) round_trip: f64,
    pub(super) service: f64,
    pub(super) retry_after: Option<RetryAfter>,
    pub(super) fields: Option<Fields>,
    pub(super) reset: Reset,
    /// By how much the server's clock is wrong.
    pub(super) ahead: f64,
    /// The size of each key's quota, as a share of that of the first.
    pub(super) keys: Vec<f64>,
    pub(super) processes: usize,
    pub(super) stated: Stated,
}

impl Drawn {
    pub(super) fn draw(rng: &mut Rng) -> Self {
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
            reset: match fields {
                // OpenAI's durations mean nothing else.
                Some(Fields::GoDurations) => Reset::Full,
                _ => [Reset::Full, Reset::Next][rng.usize(..2)],
            },
            ahead: (rng.f64() * 2.0 - 1.0) * HOUR,
            keys: [Some(1.0), second_key].into_iter().flatten().collect(),
            processes: [1, 1, 1, 2, 3, 4][rng.usize(..6)],
            stated: match kind {
                Kind::Tokens { .. } => [Stated::InBody, Stated::AsOption][rng.usize(..2)],
                _ => Stated::Nowhere,
            },
        }
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
        // Only buckets are described so.
        6 if kind.has_length() => (beside, Some(Fields::UnixTime)),
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

/// Every order of magnitude is as likely as every other.
fn log_uniform(rng: &mut Rng, from: f64, to: f64) -> f64 {
    from * (to / from).powf(rng.f64())
}

pub(super) fn whole(number: f64) -> u32 {
    number.round().max(1.0) as u32
}
