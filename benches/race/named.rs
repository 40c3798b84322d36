//! The eleven servers that everybody races against.

use std::{num::NonZeroU32, time::Duration};

use simulation::{
    Fields, Hints, Limit, RetryAfter,
    limit::{Ban, Concurrency, FixedWindow, Outage, SlidingLog, TokenBucket, Unit, Unlimited},
    openai::{Limits, Quota},
};
use tokio::time::Instant;

use crate::world::{Latency, Rate, Server, Spread, Stated, Told, World};

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

/// Ten a second, twenty at once.
const BUCKET: Rate = Rate {
    is_bucket: true,
    ..rate(20, 2)
};

/// All of them, in order of their numbers, which begin with 1.
pub(crate) fn worlds() -> Vec<World> {
    vec![
        // The commonest of all: a counter that is set back every ten seconds.
        world("fixed window", rate(60, 10), SECONDS, |now| {
            FixedWindow::new(Unit::Requests, 60, seconds(10), now)
        }),
        world("token bucket", BUCKET, SECONDS, bucket),
        openai(),
        // The strictest way to count, and a server that says nothing but 429.
        world("sliding log, no hints", rate(60, 10), NOTHING, |_| {
            SlidingLog::new(60, seconds(10))
        }),
        concurrency(NOTHING),
        shared_window(),
        world("outage", BUCKET, SECONDS, |now| {
            let (begin, end) = (now + seconds(20), now + seconds(50));
            Outage::new(bucket(now), begin, end, seconds(5))
        }),
        world("changing rate", BUCKET, SECONDS, |now| {
            bucket(now)
                .then(now + seconds(30), per_minute(150))
                .then(now + seconds(90), per_minute(1_200))
        }),
        // Each request that is refused, for whatever reason, closes it for a second more.
        world("bans", BUCKET, SECONDS, |now| {
            Ban::new(bucket(now), seconds(1), seconds(1))
        }),
        crowd(),
        World {
            service: Spread::Uniform(seconds(2), seconds(10)),
            told: Told::default(),
            ..world("no limit, slow answers", rate(100, 1), NOTHING, |_| {
                Unlimited
            })
        },
    ]
}

/// 500 requests and 100,000 tokens a minute. The first half of the requests is small, and bound by
/// the requests per minute; the second is large, and bound by the tokens.
fn openai() -> World {
    let bucket = |burst| Rate {
        is_bucket: true,
        ..rate(burst, 60)
    };
    World {
        // A minute's tokens are 200 for each of a minute's requests.
        tokens: Box::new(|rng, progress| match progress {
            ..0.5 => rng.u32(50..150),
            _ => rng.u32(200..600),
        }),
        stated: Stated::InBody,
        told: Told {
            requests: Some(bucket(500)),
            tokens: Some(bucket(100_000)),
            at_a_time: None,
        },
        rate: 6.5,
        ..world("OpenAI", bucket(500), Hints::OPENAI, |now| {
            Quota::full(Limits::per_minute(500, 100_000), now)
        })
    }
}

/// Nobody can know when one of the ten places becomes free; some servers say `Retry-After: 1`
/// nevertheless.
fn concurrency(hints: Hints) -> World {
    World {
        service: Spread::Uniform(millis(200), millis(800)),
        told: Told {
            at_a_time: Some(10),
            ..Told::default()
        },
        ..world("concurrency limit", rate(20, 1), hints, |_| {
            Concurrency::new(10)
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
        ..world("shared IETF window", rate(100, 10), hints, |now| {
            FixedWindow::new(Unit::Requests, 100, seconds(10), now)
        })
    }
}

/// A hundred times as many callers as elsewhere, and a hundred times the rate.
fn crowd() -> World {
    let bucket = Rate {
        is_bucket: true,
        ..rate(1_000, 1)
    };
    World {
        requests: 100_000,
        ..world("100,000 waiting", bucket, SECONDS, |now| {
            TokenBucket::new(Unit::Requests, 1_000, per_minute(60_000), now)
        })
    }
}

fn bucket(now: Instant) -> TokenBucket {
    TokenBucket::new(Unit::Requests, BUCKET.burst, per_minute(600), now)
}

/// A thousand requests of one process to a server that answers at once, over a network with a round
/// trip of some 80 ms on which requests overtake each other.
fn world<L: Limit + 'static>(
    name: &str,
    requests: Rate,
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
        rate: 1.0 / requests.interval().as_secs_f64(),
        tokens: Box::new(|_, _| 0),
        stated: Stated::Nowhere,
        told: Told {
            requests: Some(requests),
            ..Told::default()
        },
        frees_by_answer: false,
    }
}

/// So many in so many seconds.
const fn rate(burst: u32, per: u64) -> Rate {
    Rate {
        burst,
        per: seconds(per),
        is_bucket: false,
    }
}

fn per_minute(units: u32) -> NonZeroU32 {
    NonZeroU32::new(units).expect("a rate above zero")
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
