//! What holds for every host.

use crate::{
    host::{Host, KINDS, Kind, hyper, layer, within_a_minute},
    server::{Reply, Sent, Server},
};
use bytes::Bytes;
use futures_util::future::join_all;
use http::{
    Method,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
};
use http_body_util::Full;
use reqwest_middleware::ClientBuilder;
use std::time::Duration;
use tokio::time::sleep;
use tower::{Layer, ServiceExt, timeout::Timeout};
use tower_rate_limit_retry::{RetryReport, StopReason};

/// The body of a quota that is spent, as OpenAI sends it.
const SPENT: &str = r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#;

#[tokio::test]
async fn each_attempt_has_the_same_bytes_framed_alike() {
    let ask = |host: Host, kind| async move {
        let server = Server::refusing(2, Duration::from_millis(20)).await;
        let whole = content(20_000);
        let answer = host.post(&server.url("/"), &whole, kind).await;
        assert_eq!((answer.status, &answer.bytes[..]), (200, &b"served"[..]));
        let report = answer.report.unwrap();
        assert_eq!((report.attempts(), report.stop_reason()), (3, None));
        let log = server.log();
        assert_eq!(log.len(), 3);
        for sent in log {
            assert_eq!(sent.bytes, whole, "{host:?}");
            let is_stream = kind == Kind::Stream;
            assert_eq!(sent.has(TRANSFER_ENCODING), is_stream, "{host:?}");
            assert_eq!(sent.has(CONTENT_LENGTH), !is_stream, "{host:?}");
        }
        assert_eq!(server.connections(), 1, "{host:?}");
    };
    for kind in KINDS {
        join_all(Host::all().map(|host| ask(host, kind))).await;
    }
}

#[tokio::test]
async fn no_attempt_comes_before_the_server_asked_for_it() {
    let ask = |host: Host| async move {
        let server = Server::start(|sent| match sent.index {
            0 | 1 => Reply::new(429).field("retry-after", "1"),
            _ => Reply::ok(),
        })
        .await;
        let answer = host.post(&server.url("/"), &"hi".into(), Kind::Known).await;
        assert_eq!(answer.status, 200);
        let log = server.log();
        for pair in log.windows(2) {
            let waited = pair[1].arrived - pair[0].arrived;
            assert!(waited >= Duration::from_secs(1), "{waited:?} {host:?}");
        }
        assert_eq!(log.len(), 3);
    };
    join_all(Host::all().map(ask)).await;
}

#[tokio::test]
async fn a_spent_quota_is_given_back_at_once_with_its_json() {
    let ask = |host: Host| async move {
        let server = Server::start(|_| {
            Reply::new(429)
                .field("retry-after", "1")
                .field("content-type", "application/json")
                .body(SPENT)
        })
        .await;
        let answer = host.post(&server.url("/"), &"hi".into(), Kind::Known).await;
        assert_eq!((answer.status, &answer.bytes[..]), (429, SPENT.as_bytes()));
        let reason = answer.report.as_ref().and_then(RetryReport::stop_reason);
        assert_eq!(reason, Some(StopReason::NotRetryable));
        assert_eq!(server.log().len(), 1, "{host:?}");
    };
    join_all(Host::all().map(ask)).await;
}

#[tokio::test]
async fn calls_that_are_refused_go_on_on_the_same_connection() {
    let refusals = [
        (0, 0),
        (200, 0),
        (20, 40),
        (20, 100),
        (30_000, 0),
        (30_000, 40),
        (64 * 1024, 0),
        (64 * 1024, 40),
        (64 * 1024, 100),
    ];
    let ask = |host: Host, has_length: bool| async move {
        let server = Server::start(move |sent| {
            if sent.index % 2 == 1 {
                return Reply::ok().with_length();
            }
            let (size, latency) = refusals[sent.index / 2];
            let reply = Reply::refusal(Duration::from_millis(1))
                .body(content(size))
                .late_body(Duration::from_millis(latency));
            if has_length {
                reply.with_length()
            } else {
                reply
            }
        })
        .await;
        for _ in refusals {
            let answer = host.post(&server.url("/"), &"hi".into(), Kind::Known).await;
            assert_eq!(answer.status, 200);
            // The client takes a connection back when it has been told that the answer is over.
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(server.log().len(), 2 * refusals.len());
        assert_eq!(server.connections(), 1, "{host:?}");
    };
    for has_length in [false, true] {
        join_all(Host::all().map(|host| ask(host, has_length))).await;
    }
}

#[tokio::test]
async fn a_redirect_takes_the_bytes_along_in_each_attempt() {
    let ask = |host: Host| async move {
        let server = Server::start(|sent| match (&*sent.path, sent.index) {
            ("/old", _) => Reply::new(307).field("location", "/new"),
            (_, 0..4) => Reply::refusal(Duration::from_millis(20)),
            _ => Reply::ok(),
        })
        .await;
        let url = server.url("/old");
        let answer = host.post(&url, &"hello".into(), Kind::Known).await;
        assert_eq!(answer.status, 200, "{host:?}");
        let log = server.log();
        let paths: Vec<_> = log.iter().map(|sent| &*sent.path).collect();
        assert_eq!(paths, ["/old", "/new", "/old", "/new", "/old", "/new"]);
        let is_whole = |sent: &Sent| sent.bytes == "hello" && sent.method == Method::POST;
        assert!(log.iter().all(is_whole), "{host:?}");
    };
    // hyper-util's client does not follow.
    let that_follow = Host::all().into_iter().skip(1);
    join_all(that_follow.map(ask)).await;
}

#[tokio::test]
async fn an_upload_that_is_refused_early_is_sent_whole() {
    let ask = |host: Host, kind| async move {
        let server = Server::start(|sent| match sent.index {
            0 | 1 => Reply::refusal(Duration::from_millis(50)).early(),
            _ => Reply::ok(),
        })
        .await;
        let whole = content(200_000);
        let answer = host.post(&server.url("/"), &whole, kind).await;
        assert_eq!(answer.status, 200, "{host:?}");
        let log = server.log();
        assert_eq!(log.len(), 3);
        assert_eq!(log[2].bytes, whole, "{host:?}");
        for sent in log {
            let is_stream = kind == Kind::Stream;
            assert_eq!(sent.has(TRANSFER_ENCODING), is_stream, "{host:?}");
            assert_eq!(sent.has(CONTENT_LENGTH), !is_stream, "{host:?}");
        }
    };
    for kind in KINDS {
        join_all(Host::all().map(|host| ask(host, kind))).await;
    }
}

#[tokio::test]
async fn a_timeout_below_bounds_each_attempt_and_not_the_whole() {
    // Three times 200 ms and two waits are more than the 700 ms that each may take.
    let start = || {
        Server::start(|sent| {
            let reply = match sent.index {
                0 | 1 => Reply::refusal(Duration::from_millis(400)),
                _ => Reply::ok(),
            };
            reply.late(Duration::from_millis(200))
        })
    };
    let limit = Duration::from_millis(700);
    let client = reqwest::Client::builder().timeout(limit).build().unwrap();
    let chain = || ClientBuilder::new(client.clone());
    let hosts = [
        Host::Reqwest(layer().reqwest(client.clone())),
        Host::Middleware(chain().with(layer()).build()),
        Host::OverMiddleware(layer().reqwest(chain().build())),
    ];
    let ask = |host: Host| async move {
        let server = start().await;
        let answer = host.post(&server.url("/"), &"hi".into(), Kind::Known).await;
        assert_eq!((answer.status, server.log().len()), (200, 3), "{host:?}");
    };
    let ask_hyper = async {
        let server = start().await;
        let service = layer().layer(Timeout::new(hyper(), limit));
        let request = http::Request::get(server.url("/")).body(Full::<Bytes>::default());
        let response = within_a_minute(service.oneshot(request.unwrap())).await;
        assert_eq!(
            (response.unwrap().status().as_u16(), server.log().len()),
            (200, 3)
        );
    };
    tokio::join!(join_all(hosts.map(ask)), ask_hyper);
}

/// So many bytes; what is left out or comes twice shows.
fn content(length: usize) -> Bytes {
    (0..length).map(|at| (at / 1_000 + at) as u8).collect()
}
