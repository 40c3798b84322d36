//! How much a server can make a client read and keep.

use crate::{
    case::{VICTIM, refusal},
    client::{Host, VERSIONS, in_time, refuse_once},
    content::{content, known},
    server::{Asked, Content, Reply, SOCKET_BUFFER},
};
use allocation_counter::measure;
use futures_util::future::join_all;
use std::time::Duration;
use tokio::{
    runtime::{Builder, Runtime},
    time::sleep,
};
use tower_rate_limit_retry::RateLimitRetryLayer;

const KIB: u64 = 1_024;

/// As much of a refusal as is read.
const READ: u64 = 64 * KIB;

/// On both sides; the system doubles what it is asked for.
const SOCKETS: u64 = 4 * SOCKET_BUFFER as u64;

/// What hyper reads ahead: by a buffer of the connection, by the window of a stream.
fn read_ahead(version: http::Version) -> u64 {
    match version {
        http::Version::HTTP_2 => 2_048 * KIB,
        _ => 512 * KIB,
    }
}

#[tokio::test]
async fn little_is_read_of_a_refusal_without_end() {
    for version in VERSIONS {
        for length in [None, Some(1 << 40)] {
            let host = endless(version, length);
            let answer = host.post(VICTIM, known(&content(VICTIM, 20_000))).await;
            assert_eq!(answer.unwrap().status, 200);
            let written = host.server.written();
            let bound = READ + SOCKETS + read_ahead(version);
            assert!(written <= bound, "{written} {version:?} {length:?}");
            // Nobody reads on in the background.
            sleep(Duration::from_millis(200)).await;
            assert_eq!(host.server.written(), written, "{version:?} {length:?}");
            host.assert_next_call_is_unharmed().await;
        }
    }
}

#[test]
fn little_is_kept_of_refusals_without_end() {
    const CALLS: usize = 20;
    for version in VERSIONS {
        let elsewhere = build(Builder::new_multi_thread().worker_threads(1).enable_all());
        let host = {
            let _on_another_thread = elsewhere.enter();
            endless(version, None)
        };
        let here = build(Builder::new_current_thread().enable_all());
        let bytes = content(VICTIM, 20_000);
        // Only what this thread allocates counts: the client's side.
        let used = measure(|| {
            here.block_on(async {
                let calls = (0..CALLS).map(|id| host.post(id, known(&bytes)));
                for answer in join_all(calls).await {
                    assert_eq!(answer.unwrap().status, 200);
                }
            });
        });
        let each = used.bytes_max / CALLS as u64;
        // Buffers grow by doubling.
        assert!(each <= 2 * READ, "{each} {version:?}");
        here.block_on(host.assert_next_call_is_unharmed());
    }
}

#[tokio::test]
async fn names_that_a_server_invents_are_not_kept() {
    const CALLS: usize = 100;
    for version in VERSIONS {
        let host = Host::start(version, &RateLimitRetryLayer::new(), move |asked: Asked| {
            let mut reply = if asked.id < CALLS {
                Reply::ok()
            } else {
                refuse_once(asked)
            };
            for number in 0..20 {
                let name = format!("kind-{}-{number}", asked.id);
                reply = reply
                    .field(format!("x-ratelimit-limit-{name}"), "1000000")
                    .field(format!("x-ratelimit-remaining-{name}"), "1000000")
                    .field(format!("x-ratelimit-reset-{name}"), "60");
            }
            reply
        });
        for id in 0..CALLS {
            let answer = host.post(id, known(&content(id, 10))).await.unwrap();
            assert_eq!((answer.status, answer.attempts()), (200, 1));
        }
        let seen = host.limits.snapshot();
        let dimensions = seen.partitions()[0].dimensions();
        assert!(dimensions.len() <= 12, "{}", dimensions.len());
        in_time(host.assert_next_call_is_unharmed()).await;
    }
}

/// Refuses the first attempts of a call, and their refusals go on for as long as they are read.
fn endless(version: http::Version, length: Option<u64>) -> Host {
    let content = Content::Endless {
        piece: 16 * 1_024,
        pause: Duration::ZERO,
        length,
    };
    // Of several calls at once those that are under way know nothing of the refusal yet.
    let reply = refusal().content(content).asks(Duration::ZERO);
    Host::start(
        version,
        &RateLimitRetryLayer::new(),
        move |asked: Asked| match (asked.id, asked.before) {
            (0..1_000, 0) => reply.clone(),
            (0..1_000, _) => Reply::ok(),
            _ => refuse_once(asked),
        },
    )
}

fn build(builder: &mut Builder) -> Runtime {
    builder.build().unwrap()
}
