//! Thousands of calls to a server of which a few in a hundred go wrong.

use crate::{
    client::{Host, VERSIONS, in_time, read},
    content::{Digest, content, known, streamed},
    server::{Content, Received, Reply, Then},
};
use bytes::Bytes;
use fastrand::Rng;
use futures_util::{StreamExt, stream};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tower_rate_limit_retry::RateLimitRetryLayer;

const CALLS: usize = 2_000;
const AT_ONCE: usize = 200;

/// What refusals ask for.
const WAIT: Duration = Duration::from_millis(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_over_http1_ends_as_it_must_and_leaves_nothing_behind() {
    check(http::Version::HTTP_11, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_over_http2_ends_as_it_must_and_leaves_nothing_behind() {
    check(http::Version::HTTP_2, 2).await;
}

/// `cargo test --release --test hostile -- --ignored`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes"]
async fn so_they_do_with_any_seed() {
    for (version, seed) in VERSIONS.iter().flat_map(|v| (3..13).map(|seed| (*v, seed))) {
        check(version, seed).await;
    }
}

/// What the server does to a call's first attempt; it serves the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fate {
    Served,
    Refused,
    RefusedWithoutEnd,
    /// Until the client has had enough of it.
    ServedWithoutEnd,
    Reset,
    CutShort,
}

impl Fate {
    /// One in twenty is refused, one in a hundred has no end, one in a hundred is reset.
    fn of(version: http::Version, seed: u64, id: usize) -> Self {
        let mut rng = Rng::with_seed(seed << 32 | id as u64);
        let is_even = rng.bool();
        match rng.u32(0..100) {
            0..5 => Self::Refused,
            5 if is_even => Self::RefusedWithoutEnd,
            5 => Self::ServedWithoutEnd,
            // In HTTP/2 it would be the end of all calls.
            6 if is_even && version == http::Version::HTTP_11 => Self::Reset,
            6 => Self::CutShort,
            _ => Self::Served,
        }
    }

    fn reply(self) -> Reply {
        let begin = Bytes::from_static(b"and so on");
        match self {
            Self::Served => Reply::ok(),
            Self::Refused => Reply::refusal(WAIT),
            Self::RefusedWithoutEnd => Reply::refusal(WAIT).content(Content::Stalled(begin)),
            Self::ServedWithoutEnd => Reply::ok().content(Content::Stalled(begin)),
            Self::Reset => Reply::ok().then(Then::ResetsFirst),
            Self::CutShort => Reply::ok().content(Content::CutShort(begin)),
        }
    }
}

/// How a call ended.
#[derive(Debug, PartialEq)]
enum Ended {
    Served {
        attempts: u32,
    },
    /// The client stopped reading.
    Left,
    Failed(String),
}

async fn check(version: http::Version, seed: u64) {
    let layer = RateLimitRetryLayer::new();
    let host = Arc::new(Host::start(version, &layer, move |asked| {
        match asked.before {
            0 => Fate::of(version, seed, asked.id).reply(),
            _ => Reply::ok(),
        }
    }));
    let calls = stream::iter(0..CALLS).map(|id| {
        let host = host.clone();
        let fate = Fate::of(version, seed, id);
        let call = tokio::spawn(async move { call(&host, id, fate).await });
        async move { (id, fate, call.await.unwrap()) }
    });
    let ended: Vec<_> = in_time(calls.buffer_unordered(AT_ONCE).collect()).await;
    assert_eq!(ended.len(), CALLS);
    let mut fates = HashMap::<_, u64>::new();
    for (id, fate, ended) in ended {
        *fates.entry(fate).or_default() += 1;
        let is_expected = match fate {
            Fate::Served => ended == Ended::Served { attempts: 1 },
            Fate::Refused | Fate::RefusedWithoutEnd => ended == Ended::Served { attempts: 2 },
            Fate::ServedWithoutEnd => ended == Ended::Left,
            Fate::Reset | Fate::CutShort => matches!(ended, Ended::Failed(_)),
        };
        assert!(
            is_expected,
            "call {id}, {fate:?}: {ended:?}, {version:?}, seed {seed}"
        );
    }
    let refused: u64 = [Fate::Refused, Fate::RefusedWithoutEnd]
        .iter()
        .filter_map(|fate| fates.get(fate))
        .sum();
    assert!(refused > 50 && fates.len() >= 5, "{fates:?}");

    let log = host.server.log();
    assert_eq!(log.len() as u64, CALLS as u64 + refused);
    let mut refused_at = HashMap::new();
    for sent in &log {
        if let Some(first) = refused_at.insert(sent.id, sent.arrived) {
            assert!(sent.arrived - first >= WAIT, "call {} too early", sent.id);
        }
        let whole = Received::Whole(Digest::of(&content(sent.id, length(sent.id))));
        assert_eq!(sent.received, whole, "call {}", sent.id);
    }
    assert_seen(&host, CALLS as u64, refused);
}

async fn call(host: &Host, id: usize, fate: Fate) -> Ended {
    let bytes = content(id, length(id));
    let body = if id % 2 == 0 {
        known(&bytes)
    } else {
        streamed(&bytes)
    };
    let answer = match host.ask(id, body).await {
        Ok(answer) => answer,
        Err(error) => return Ended::Failed(format!("{error:?}")),
    };
    if fate == Fate::ServedWithoutEnd {
        tokio::time::sleep(WAIT).await;
        drop(answer);
        return Ended::Left;
    }
    match read(answer).await {
        Ok(answer) => {
            assert_eq!((answer.status, &answer.bytes[..]), (200, &b"served"[..]));
            let attempts = answer.attempts();
            Ended::Served { attempts }
        }
        Err(error) => Ended::Failed(error),
    }
}

/// What the layer has counted, and that it holds nothing any longer.
fn assert_seen(host: &Host, calls: u64, refused: u64) {
    let seen = host.limits.snapshot();
    assert_eq!(seen.partitions().len(), 1);
    let partition = &seen.partitions()[0];
    let held = (partition.waiting(), partition.admitted());
    assert_eq!((held, partition.in_flight()), ((0, 0), 0));
    let totals = seen.totals();
    assert_eq!(
        (totals.calls(), totals.attempts()),
        (calls, calls + refused)
    );
    assert_eq!((totals.retries(), totals.refusals()), (refused, refused));
    assert_eq!(totals.given_back(), 0);
}

/// Of the body of a call: whole frames, for a server that is busy takes many small ones for an attack.
fn length(id: usize) -> usize {
    id % 6 * 1_000
}
