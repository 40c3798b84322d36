//! What the layer makes of errors of which only the body tells whether a limit was reached.

mod support;

use std::time::Duration;

use http::StatusCode;
use support::{Answer, Reply, Server, ms, ok, read, request, status};
use tokio::time::Instant;
use tower::{Layer, ServiceExt};
use tower_rate_limit_retry::{RateLimitRetryLayer, RetryReport};

const SECONDARY: &str = r#"{"message": "You have exceeded a secondary rate limit. Retry in 7s."}"#;

/// An error with a JSON body.
fn error(code: u16, body: &'static str) -> Reply {
    status(code)
        .header("content-type", "application/json")
        .body(body)
}

/// This first, then successes.
fn once(first: fn() -> Reply) -> Server {
    Server::new(move |sent| if sent.index == 0 { first() } else { ok() })
}

async fn ask(server: &Server, layer: &RateLimitRetryLayer) -> (Answer, Duration) {
    let began = Instant::now();
    let service = layer.layer(server.clone());
    let answer = service.oneshot(request(0)).await.unwrap();
    (answer, began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_only_the_body_tells_is_waited_for() {
    for first in [
        || error(403, SECONDARY),
        || error(403, SECONDARY).header("x-ratelimit-remaining", "4999"),
        || {
            error(
                400,
                r#"{"__type": "x#ThrottlingException", "message": "retry after 7 seconds"}"#,
            )
        },
        || {
            error(
                403,
                r#"{"error": {"errors": [{"reason": "rateLimitExceeded"}], "retry_after": 7}}"#,
            )
        },
    ] {
        let server = once(first);
        let (answer, waited) = ask(&server, &RateLimitRetryLayer::new()).await;
        assert_eq!((answer.status(), waited), (StatusCode::OK, ms(7_000)));
        let report = answer.extensions().get::<RetryReport>().unwrap();
        assert_eq!((report.attempts(), report.waited()), (2, ms(7_000)));
        assert_eq!(server.log().len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_only_the_body_tells_holds_all_others_back() {
    let server = once(|| error(403, SECONDARY));
    let layer = RateLimitRetryLayer::new();
    let (one, two) = tokio::join!(ask(&server, &layer), async {
        tokio::time::sleep(ms(1)).await;
        ask(&server, &layer).await
    });
    assert_eq!((one.0.status(), one.1), (StatusCode::OK, ms(7_000)));
    assert_eq!(two.0.status(), StatusCode::OK);
    assert!(two.1 >= ms(6_999), "{:?}", two.1);
}

#[tokio::test(start_paused = true)]
async fn any_other_error_is_given_back_at_once_and_as_it_was() {
    for (code, body) in [
        (
            400,
            r#"{"error": {"message": "No such parameter, try again in 20s"}}"#,
        ),
        (400, r#"{"error": {"code": "billing_hard_limit_reached"}}"#),
        (
            403,
            r#"{"message": "Resource not accessible by integration"}"#,
        ),
        (404, r#"{"message": "Not Found: secondary rate"}"#),
        (500, r#"{"__type": "InternalFailure"}"#),
        (503, r#"{"message": "no healthy upstream"}"#),
        (400, "<Error><Code>MalformedXML</Code></Error>"),
        (500, "{\"unfinished"),
        (400, ""),
    ] {
        let server = Server::new(move |_| error(code, body).header("x-kept", "as it was"));
        let (answer, waited) = ask(&server, &RateLimitRetryLayer::new()).await;
        assert_eq!(waited, Duration::ZERO, "{body}");
        assert_eq!(answer.headers()["x-kept"], "as it was");
        assert!(answer.extensions().get::<RetryReport>().is_none(), "{body}");
        assert_eq!(read(answer).await, (code, body.to_owned()));
        assert_eq!(server.log().len(), 1, "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_whose_body_is_slow_is_given_back_after_a_moment() {
    let server = Server::new(|_| error(400, "").endless());
    let layer = RateLimitRetryLayer::new();
    let (first, second) = tokio::join!(ask(&server, &layer), ask(&server, &layer));
    for (answer, waited) in [first, second] {
        assert_eq!((answer.status().as_u16(), waited), (400, ms(250)));
        assert!(answer.extensions().get::<RetryReport>().is_none());
    }
    assert_eq!(server.times(), [0, 0], "neither has held the other back");
}

#[tokio::test(start_paused = true)]
async fn a_body_of_another_kind_is_not_waited_for() {
    let server = Server::new(|_| status(403).header("content-type", "text/html").endless());
    let (answer, waited) = ask(&server, &RateLimitRetryLayer::new()).await;
    assert_eq!((answer.status().as_u16(), waited), (403, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_while_its_error_is_read_holds_nobody_back() {
    let server = Server::new(|sent| match sent.index {
        0 => error(403, "").endless(),
        _ => ok(),
    });
    let layer = RateLimitRetryLayer::new();
    let dropped = tokio::time::timeout(ms(100), ask(&server, &layer)).await;
    assert!(dropped.is_err());
    let (answer, waited) = ask(&server, &layer).await;
    assert_eq!((answer.status(), waited), (StatusCode::OK, Duration::ZERO));
}

/// A refusal with the status of a success, as Slack has it.
fn refused_with_200() -> Reply {
    error(200, r#"{"ok": false, "error": "ratelimited"}"#).header("retry-after", "7")
}

#[tokio::test(start_paused = true)]
async fn a_success_is_read_only_if_that_is_asked_for() {
    let server = once(refused_with_200);
    let (answer, waited) = ask(&server, &RateLimitRetryLayer::new()).await;
    assert_eq!((answer.status(), waited), (StatusCode::OK, ms(0)));
    assert!(read(answer).await.1.contains("ratelimited"));

    let server = once(refused_with_200);
    let layer = RateLimitRetryLayer::new().read_success_bodies(true);
    let (answer, waited) = ask(&server, &layer).await;
    let report = answer.extensions().get::<RetryReport>().unwrap();
    assert_eq!((report.attempts(), waited), (2, ms(7_000)));
    assert_eq!(read(answer).await, (200, "ok".into()));
}

#[tokio::test(start_paused = true)]
async fn a_call_of_grpc_that_is_pushed_back_is_sent_again() {
    let push_back = |status: Option<&'static str>| {
        let reply = ok().header("grpc-retry-pushback-ms", "7000").body("");
        match status {
            Some(status) => reply.header("grpc-status", status),
            None => reply,
        }
    };
    for (status, expected) in [
        (Some("8"), (2, ms(7_000))),
        (Some("14"), (2, ms(7_000))),
        // There is an answer, or there may be one.
        (Some("0"), (1, ms(0))),
        (None, (1, ms(0))),
    ] {
        let server = Server::new(move |sent| match sent.index {
            0 => push_back(status),
            _ => ok(),
        });
        let (answer, waited) = ask(&server, &RateLimitRetryLayer::new()).await;
        assert_eq!((server.log().len(), waited), expected, "{status:?}");
        assert_eq!(answer.status(), 200);
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_that_is_read_is_given_back_whole() {
    const LARGE: &str = match std::str::from_utf8(&[b' '; 200_000]) {
        Ok(large) => large,
        Err(_) => unreachable!(),
    };
    let layer = RateLimitRetryLayer::new().read_success_bodies(true);
    for body in ["", "{}", r#"{"data": 1}"#, LARGE] {
        let server = Server::new(move |_| error(200, body));
        let (answer, waited) = ask(&server, &layer).await;
        assert!(answer.extensions().get::<RetryReport>().is_none());
        assert_eq!(waited, ms(0));
        assert_eq!(read(answer).await, (200, body.into()));
    }
    // What comes slowly is not waited for, and a stream of events not at all.
    let slow = || ok().slow(ms(1_000), "late");
    let server = Server::new(move |_| slow());
    let (answer, waited) = ask(&server, &layer).await;
    assert_eq!(
        (waited, read(answer).await),
        (ms(250), (200, "late".into()))
    );
    let events = move || slow().header("content-type", "text/event-stream");
    let server = Server::new(move |_| events());
    assert_eq!(ask(&server, &layer).await.1, ms(0));
}
