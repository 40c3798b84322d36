//! Bodies of refusals that are huge, endless, late, broken or garbage.

use crate::{
    case::{Case, End, VICTIM, WAIT, check_all, refusal},
    client::{Host, VERSIONS, in_time, refuse_once},
    content::{content, known},
    server::{Asked, Content, Reply},
};
use bytes::Bytes;
use http_body_util::BodyExt;
use std::time::Duration;
use tower_rate_limit_retry::RateLimitRetryLayer;

const GIB: u64 = 1 << 30;

#[tokio::test]
async fn no_body_of_a_refusal_is_waited_for_or_kept() {
    let contents = [
        ("a huge body of known length", endless(16_384, 0, Some(GIB))),
        ("an endless body", endless(16_384, 0, None)),
        ("an endless body of small pieces", endless(1, 1, None)),
        ("no body but its length", Content::Stalled(Bytes::new())),
        ("half a body", Content::Stalled("{\"error\":".into())),
        ("a reset before the body", Content::CutShort(Bytes::new())),
        (
            "a reset within the body",
            Content::CutShort(content(7, 500)),
        ),
    ];
    let cases =
        contents.map(|(name, content)| Case::new(name, refusal().content(content), End::Served));
    check_all(cases.into()).await;
}

#[tokio::test]
async fn a_body_that_says_nothing_does_no_harm() {
    let random = content(7, 60_000);
    let json = || refusal().field("content-type", "application/json");
    let gzip = || json().field("content-encoding", "gzip");
    let cases = [
        (
            "garbage that says it is compressed",
            gzip().bytes(random.clone()),
        ),
        (
            "nothing that says it is compressed",
            gzip().bytes(Bytes::new()),
        ),
        ("garbage that says it is JSON", json().bytes(random)),
        ("deep nesting", json().bytes("[".repeat(60_000))),
        (
            "deep nesting of objects",
            json().bytes("{\"error\":".repeat(7_000)),
        ),
        (
            "a long string without its end",
            json().bytes(format!("\"{}", "a".repeat(65_000))),
        ),
        (
            "a long number",
            json().bytes(format!("{{\"retry_after\":{}", "9".repeat(65_000))),
        ),
        ("zeros", json().bytes(vec![0; 65_536])),
        (
            "one byte more than is read",
            json().bytes(vec![b' '; 65_537]),
        ),
        (
            "sentences that go on",
            json().bytes("Please try again in ".repeat(3_000)),
        ),
    ];
    let cases = cases.map(|(name, reply)| Case::new(name, reply, End::Served));
    check_all(cases.into()).await;
}

#[tokio::test]
async fn what_is_given_back_goes_on_behind_what_was_read() {
    for version in VERSIONS {
        for piece in [1_000, 50_000] {
            let host = giving_back(version, endless(piece, 0, None));
            let mut answer = host
                .ask(VICTIM, known(&content(VICTIM, 20_000)))
                .await
                .unwrap();
            assert_eq!(answer.status(), 429);
            let mut read = 0;
            while read < 300_000 {
                let frame = in_time(answer.frame()).await.unwrap().unwrap();
                let data = frame.into_data().unwrap();
                assert!(data.iter().all(|&byte| byte == b'['));
                read += data.len();
            }
            drop(answer);
            host.forget();
            host.assert_next_call_is_unharmed().await;
        }
    }
}

#[tokio::test]
async fn a_break_in_what_is_given_back_is_met_behind_the_bytes_before_it() {
    for version in VERSIONS {
        let begin = content(7, 500);
        let host = giving_back(version, Content::CutShort(begin.clone()));
        let mut answer = host
            .ask(VICTIM, known(&content(VICTIM, 20_000)))
            .await
            .unwrap();
        assert_eq!(answer.status(), 429);
        let mut read = Vec::new();
        let broken = loop {
            match in_time(answer.frame()).await {
                Some(Ok(frame)) => read.extend_from_slice(&frame.into_data().unwrap()),
                Some(Err(_)) => break true,
                None => break false,
            }
        };
        assert!(broken, "it ends as if it were whole");
        assert_eq!(read, begin);
        drop(answer);
        host.forget();
        host.assert_next_call_is_unharmed().await;
    }
}

#[tokio::test]
async fn what_is_given_back_and_never_ends_can_be_left_unread() {
    for version in VERSIONS {
        let host = giving_back(version, Content::Stalled(Bytes::new()));
        let answer = host
            .ask(VICTIM, known(&content(VICTIM, 20_000)))
            .await
            .unwrap();
        assert_eq!(answer.status(), 429);
        drop(answer);
        host.forget();
        host.assert_next_call_is_unharmed().await;
    }
}

/// Asks for longer than is sat out: the first answer is given back. To the others it is as if it had
/// asked for nothing.
fn giving_back(version: http::Version, content: Content) -> Host {
    let layer = RateLimitRetryLayer::new().max_delay(WAIT / 2);
    let reply = refusal().content(content);
    Host::start(version, &layer, move |asked: Asked| {
        match (asked.id, asked.before) {
            (VICTIM, 0) => reply.clone(),
            (VICTIM, _) => Reply::ok(),
            _ => refuse_once(asked),
        }
    })
}

/// Pieces so many milliseconds apart.
fn endless(piece: usize, pause: u64, length: Option<u64>) -> Content {
    let pause = Duration::from_millis(pause);
    Content::Endless {
        piece,
        pause,
        length,
    }
}
