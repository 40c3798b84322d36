//! The eleven servers that everybody races against.

use std::{num::NonZeroU32, time::Duration};

use simulation::{
    Fields, Hints, Limit, RetryAfter,
    limit::{Ban, Concurrency, FixedWindow, Outage, SlidingLog, TokenBucket, Unit, Unlimited},
    openai::{Limits, Quota},
};
use tokio::time::Instant;

use crate::world::{Latency, Server, Spread, Stated, World};

/// RFC 9110 knows whole seconds only.
const SECONDS: Hints = Hints {
    retry_after: Some(RetryAfter::Seconds(1.0)),
    ..NOTHING
};
const NOTHING: Hints = Hints {
    retry_after: None,
    fields: None,
    reset: simulation::Reset::Full,
    clock: None,
};

/// All of them, in order of their numbers, which begin with 1.
pub(crate) fn worlds() -> Vec<World> {
    vec![
        // The commonest of all: a counter that is set back every ten seconds.
        world("fixed window", 6.0, SECONDS, |now| {
            FixedWindow::new(Unit::Requests, 60, seconds(10), now)
        }),
        world("token bucket", 10.0, SECONDS, bucket),
        openai(),
        // The strictest way to count, and a server that says nothing but 429.
        world("sliding log, no hints", 6.0, NOTHING, |_| {
            SlidingLog::new(60, seconds(10))
        }),
        World {
            service: Spread::Uniform(millis(200), millis(800)),
            ..world("concurrency limit", 20.0, NOTHING, |_| Concurrency::new(10))
        },
        shared_window(),
        world("outage", 10.0, SECONDS, |now| {
            let (begin, end) = (now + seconds(20), now + seconds(50));
            Outage::new(bucket(now), begin, end, seconds(5))
        }),
        world("changing rate", 10.0, SECONDS, |now| {
            bucket(now)
                .then(now + seconds(30), per_second(10, 4))
                .then(now + seconds(90), per_second(20, 1))
        }),
        // Whoever is refused is refused for 10 s, and for 2 s more at each further attempt.
        world("bans", 10.0, SECONDS, |now| {
            Ban::new(bucket(now), seconds(10), seconds(2))
        }),
        World {
            requests: 100_000,
            ..world("100,000 waiting", 1_000.0, SECONDS, |now| {
                TokenBucket::new(Unit::Requests, 1_000, per_second(1_000, 1), now)
            })
        },
        World {
            service: Spread::Uniform(seconds(2), seconds(10)),
            ..world("no limit, slow answers", 100.0, NOTHING, |_| Unlimited)
        },
    ]
}

/// 500 requests and 100,000 tokens a minute. The first half of the requests is small, and bound by
/// the requests per minute; the second is large, and bound by the tokens.
fn openai() -> World {
    // A minute's tokens are 200 for each of a minute's requests.
    World {
        tokens: Box::new(|rng, progress| match progress {
            ..0.5 => rng.u32(50..150),
            _ => rng.u32(200..600),
        }),
        stated: Stated::InBody,
        ..world("OpenAI", 6.5, Hints::OPENAI, |now| {
            Quota::full(Limits::per_minute(500, 100_000), now)
        })
    }
}

/// Four processes know of each other only by what the server says is left.
fn shared_window() -> World {
    let hints = Hints {
        fields: Some(Fields::Structured),
        ..SECONDS
    };
    World {
        processes: 4,
        ..world("shared IETF window", 10.0, hints, |now| {
            FixedWindow::new(Unit::Requests, 100, seconds(10), now)
        })
    }
}

/// Ten a second, twenty at once.
fn bucket(now: Instant) -> TokenBucket {
    TokenBucket::new(Unit::Requests, 20, per_second(10, 1), now)
}

/// A thousand requests of one process to a server that answers at once, over a network with a round
/// trip of some 80 ms on which requests overtake each other.
fn world<L: Limit + 'static>(
    name: &str,
    rate: f64,
    hints: Hints,
    limit: impl Fn(Instant) -> L + 'static,
) -> World {
    World {
        name: name.to_owned(),
        servers: Box::new(move |now| vec![Server::new(limit(now), hints)]),
        one_way: Latency {
            usual: Spread::LogNormal {
                median: millis(40),
                sigma: 0.25,
            },
            spike_ratio: 0.0,
        },
        service: Spread::Constant(millis(20)),
        processes: 1,
        requests: 1_000,
        rate,
        tokens: Box::new(|_, _| 0),
        stated: Stated::Nowhere,
        frees_by_answer: false,
    }
}

/// `units` in so many seconds, as a rate per minute.
fn per_second(units: u32, seconds: u32) -> NonZeroU32 {
    NonZeroU32::new(60 * units / seconds).expect("a rate above zero")
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
