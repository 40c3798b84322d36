//! What is done with one call's answers.

mod support;

use http::StatusCode;
use std::{num::NonZero, time::Duration};
use support::{Answer, Reply, Server, ms, ok, read, refuse, request, status};
use tokio::time::Instant;
use tower::{Layer, ServiceExt};
use tower_rate_limit_retry::{Quota, RateLimitRetryLayer, RequestOptions, RetryReport, StopReason};

/// The answer to one request, and how long it took.
async fn ask(server: &Server, layer: &RateLimitRetryLayer) -> (Answer, Duration) {
    let began = Instant::now();
    let answer = layer
        .layer(server.clone())
        .oneshot(request(0))
        .await
        .unwrap();
    (answer, began.elapsed())
}

fn report(answer: &Answer) -> Option<&RetryReport> {
    answer.extensions().get::<RetryReport>()
}

/// The first of these, then a success.
fn once(refusal: fn() -> Reply) -> Server {
    Server::new(move |sent| if sent.index == 0 { refusal() } else { ok() })
}

#[tokio::test(start_paused = true)]
async fn waits_as_long_as_the_server_asked() {
    let cases: [(fn() -> Reply, u64); 12] = [
        (|| refuse("7"), 7_000),
        (|| refuse("1.5"), 1_500),
        (|| refuse("0"), 0),
        (|| refuse("20").header("retry-after-ms", "120"), 120),
        (
            || {
                refuse("Sun, 06 Nov 1994 08:49:37 GMT")
                    .header("date", "Sun, 06 Nov 1994 08:49:00 GMT")
            },
            37_000,
        ),
        (
            || {
                refuse("Sunday, 06-Nov-94 08:49:37 GMT")
                    .header("date", "Sun, 06 Nov 1994 08:49:00 GMT")
            },
            37_000,
        ),
        (
            || refuse("Sun Nov  6 08:49:37 1994").header("date", "Sun, 06 Nov 1994 08:49:00 GMT"),
            37_000,
        ),
        (|| refuse("3").header("retry-after", "5"), 5_000),
        (|| status(529).header("retry-after", "3"), 3_000),
        (
            || status(429).body(r#"{"error":{"message":"Please try again in 1m0.25s."}}"#),
            60_250,
        ),
        (|| status(403).header("retry-after", "60"), 60_000),
        (|| status(413).header("retry-after", "2"), 2_000),
    ];
    for (refusal, expected) in cases {
        let server = once(refusal);
        let (answer, took) = ask(&server, &RateLimitRetryLayer::new()).await;
        assert_eq!(took, ms(expected));
        assert_eq!(server.times(), [0, u128::from(expected)]);
        let report = report(&answer).unwrap().clone();
        assert_eq!(
            (report.attempts(), report.waited(), report.stop_reason()),
            (2, ms(expected), None)
        );
        assert_eq!(read(answer).await, (200, "ok".into()));
    }
}

#[tokio::test(start_paused = true)]
async fn what_came_straight_back_is_untouched() {
    for code in [200, 204, 302, 400, 401, 403, 404, 413, 500, 502, 503] {
        let server = Server::new(move |_| status(code));
        let (answer, took) = ask(&server, &RateLimitRetryLayer::new()).await;
        assert_eq!(took, ms(0), "{code}");
        assert!(report(&answer).is_none(), "{code}");
        assert_eq!(read(answer).await, (code, "ok".into()));
        assert_eq!(server.log().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn backs_off_where_there_is_no_hint() {
    let server = Server::new(|sent| if sent.index < 4 { status(429) } else { ok() });
    ask(&server, &RateLimitRetryLayer::new()).await;
    let times = server.times();
    let delays: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (delay, expected) in delays.iter().zip([500, 750, 1_125, 1_687]) {
        assert!(
            (expected..=expected * 5 / 4 + 1).contains(delay),
            "{delays:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_for_ever_is_asked_seldom_and_not_for_ever() {
    for refusal in [
        || refuse("0"),
        || status(429),
        || refuse("-1"),
        || refuse("Thu, 01 Jan 1970 00:00:00 GMT"),
    ] {
        let server = Server::new(move |_| refusal());
        let (answer, took) = ask(&server, &RateLimitRetryLayer::new()).await;
        let minutes = took.as_secs() / 60;
        assert!((20..32).contains(&minutes), "{minutes} minutes");
        assert_eq!(
            report(&answer).unwrap().stop_reason(),
            Some(StopReason::MaxRetries)
        );
        assert_eq!(read(answer).await, (429, "ok".into()));
        let times = server.times();
        assert_eq!(times.len(), 61);
        let spaced = times
            .windows(2)
            .skip(1)
            .all(|pair| pair[1] - pair[0] >= 500);
        assert!(spaced, "{times:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn hostile_hints_are_neither_early_nor_endless() {
    let nines = "9".repeat(4096);
    let endless = [
        "18446744073709551615",
        nines.as_str(),
        "Fri, 31 Dec 9999 23:59:59 GMT",
    ];
    for hint in endless {
        let hint = hint.to_owned();
        let server = Server::new(move |_| status(429).header("retry-after", &hint));
        let layer = RateLimitRetryLayer::new();
        let (answer, took) = ask(&server, &layer).await;
        assert_eq!((took, server.log().len()), (ms(0), 1));
        assert_eq!(
            report(&answer).unwrap().stop_reason(),
            Some(StopReason::MaxDelay)
        );
        let (answer, took) = ask(&server, &layer).await;
        assert_eq!(
            (took, server.log().len()),
            (ms(0), 1),
            "not sent before the time that was asked for"
        );
        assert!(report(&answer).unwrap().answered_locally());
    }
    let junk: [&[u8]; 7] = [b"-1", b"1e9", b"NaN", b"", b"\xff\xfe\x80", b"+3", b"0x10"];
    for hint in junk {
        let server = Server::new(move |sent| match sent.index {
            0 => status(429).header("retry-after", hint),
            _ => ok(),
        });
        let (answer, took) = ask(&server, &RateLimitRetryLayer::new()).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(
            (ms(500)..=ms(626)).contains(&took),
            "{hint:?} took {took:?}: it is no hint"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_no_wait_can_cure_is_given_back_at_once() {
    let cases: [fn() -> Reply; 5] = [
        || {
            status(429).body(r#"{"error":{"message":"You exceeded your current quota","code":"insufficient_quota"}}"#)
        },
        || refuse("5").body(r#"{"error":{"type":"insufficient_quota"}}"#),
        || {
            refuse("5").body(r#"{"error":{"message":"Request too large for gpt-4o","code":"rate_limit_exceeded"}}"#)
        },
        || refuse("5").header("x-should-retry", "false"),
        || status(529).header("x-should-retry", "False"),
    ];
    for refusal in cases {
        let expected = read_reply(refusal()).await;
        let server = once(refusal);
        let layer = RateLimitRetryLayer::new();
        let (answer, took) = ask(&server, &layer).await;
        assert_eq!(took, ms(0));
        let report = report(&answer).unwrap().clone();
        assert_eq!(
            (report.attempts(), report.stop_reason()),
            (1, Some(StopReason::NotRetryable))
        );
        assert!(!report.answered_locally());
        assert_eq!(read(answer).await, expected);
        let (answer, took) = ask(&server, &layer).await;
        assert_eq!(
            (answer.status(), took),
            (StatusCode::OK, ms(0)),
            "and holds nobody else back"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_body_is_heard_before_a_long_hint_is_believed() {
    // What is spent is not paused for, however long the hint; and words outrank a reset.
    for hint in ["200", "3600"] {
        let server = Server::new(move |sent| match sent.index {
            0 => refuse(hint).body(r#"{"error":{"code":"insufficient_quota"}}"#),
            _ => ok(),
        });
        let layer = RateLimitRetryLayer::new();
        let (answer, _) = ask(&server, &layer).await;
        let reason = report(&answer).unwrap().stop_reason();
        assert_eq!(reason, Some(StopReason::NotRetryable), "{hint}");
        let (answer, took) = ask(&server, &layer).await;
        assert_eq!((answer.status(), took), (StatusCode::OK, ms(0)), "{hint}");
    }
    let server = once(|| {
        status(429)
            .header("x-ratelimit-limit-requests", "500")
            .header("x-ratelimit-remaining-requests", "0")
            .header("x-ratelimit-reset-requests", "6m0s")
            .body(r#"{"error":{"message":"Please try again in 720ms."}}"#)
    });
    let (answer, took) = ask(&server, &RateLimitRetryLayer::new()).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!((ms(720)..ms(730)).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_estimate_alone_makes_no_refusal_final() {
    let server = Server::new(|sent| match sent.index {
        0 => refuse("20")
            .header("x-ratelimit-limit-tokens", "10")
            .header("x-ratelimit-remaining-tokens", "9"),
        _ => ok(),
    });
    let mut large = request(0);
    *large.body_mut() = "an image, say, of many bytes, but of few tokens".into();
    let service = RateLimitRetryLayer::new().layer(server.clone());
    assert_eq!(
        service.oneshot(large).await.unwrap().status(),
        StatusCode::OK
    );
    assert_eq!(server.times(), [0, 20_000]);
    let server = once(|| refuse("20").header("x-ratelimit-limit-tokens", "10"));
    let mut large = request(0);
    large
        .extensions_mut()
        .insert(RequestOptions::new().tokens(11));
    let service = RateLimitRetryLayer::new().layer(server.clone());
    let answer = service.oneshot(large).await.unwrap();
    let reason = report(&answer).unwrap().stop_reason();
    assert_eq!(
        reason,
        Some(StopReason::NotRetryable),
        "but what the caller says does"
    );
}

#[tokio::test(start_paused = true)]
async fn a_backoff_of_ours_keeps_within_the_maximum_delay() {
    for _ in 0..20 {
        let layer = RateLimitRetryLayer::new().max_delay(ms(550));
        let (answer, took) = ask(&once(|| status(429)), &layer).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert!((ms(500)..=ms(551)).contains(&took), "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_absurd_announcement_does_not_close_a_partition_for_good() {
    let server = Server::new(|sent| match sent.index {
        0 => ok()
            .header("x-ratelimit-limit-requests", "1")
            .header("x-ratelimit-remaining-requests", "0")
            .header("x-ratelimit-reset-requests", "99999999h"),
        _ => ok(),
    });
    let layer = RateLimitRetryLayer::new();
    ask(&server, &layer).await;
    let (answer, took) = ask(&server, &layer).await;
    assert_eq!(
        (answer.status().as_u16(), took),
        (429, ms(0)),
        "in an hour, it says"
    );
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(ask(&server, &layer).await.0.status(), StatusCode::OK);
}

/// Status and body of what a server would answer.
async fn read_reply(reply: Reply) -> (u16, String) {
    let reply = std::sync::Mutex::new(Some(reply));
    let server = Server::new(move |_| reply.lock().unwrap().take().unwrap());
    let (answer, _) = ask(&server, &RateLimitRetryLayer::new().enabled(false)).await;
    read(answer).await
}

#[tokio::test(start_paused = true)]
async fn a_wait_beyond_the_maximum_delay_is_not_sat_out() {
    let layer = || RateLimitRetryLayer::new().max_delay(ms(10_000));
    let (answer, took) = ask(&once(|| refuse("10")), &layer()).await;
    assert_eq!((answer.status(), took), (StatusCode::OK, ms(10_000)));
    let (answer, took) = ask(&once(|| refuse("10.001")), &layer()).await;
    assert_eq!(
        (answer.status(), took),
        (StatusCode::TOO_MANY_REQUESTS, ms(0))
    );
    assert_eq!(
        report(&answer).unwrap().stop_reason(),
        Some(StopReason::MaxDelay)
    );
}

#[tokio::test(start_paused = true)]
async fn a_wait_beyond_the_deadline_is_not_begun() {
    let layer = || RateLimitRetryLayer::new().deadline(ms(10_000));
    let (answer, took) = ask(&once(|| refuse("9.999")), &layer()).await;
    assert_eq!((answer.status(), took), (StatusCode::OK, ms(9_999)));
    let (answer, took) = ask(&once(|| refuse("10")), &layer()).await;
    assert_eq!(
        (answer.status(), took),
        (StatusCode::TOO_MANY_REQUESTS, ms(0))
    );
    assert_eq!(
        report(&answer).unwrap().stop_reason(),
        Some(StopReason::Deadline)
    );
}

#[tokio::test(start_paused = true)]
async fn the_options_of_a_request_outrank_the_layers() {
    let server = Server::new(|_| refuse("1"));
    let layer = RateLimitRetryLayer::new().max_retries(7).deadline(ms(100));
    let mut request = request(0);
    request
        .extensions_mut()
        .insert(RequestOptions::new().max_retries(2).deadline(ms(60_000)));
    let answer = layer.layer(server.clone()).oneshot(request).await.unwrap();
    assert_eq!(
        report(&answer).unwrap().stop_reason(),
        Some(StopReason::MaxRetries)
    );
    assert_eq!(server.times(), [0, 1_000, 2_000]);
}

#[tokio::test(start_paused = true)]
async fn without_retries_a_refusal_still_holds_back_the_others() {
    let server = once(|| refuse("3"));
    let layer = RateLimitRetryLayer::new().max_retries(0);
    let (answer, _) = ask(&server, &layer).await;
    assert_eq!(
        report(&answer).unwrap().stop_reason(),
        Some(StopReason::MaxRetries)
    );
    let (answer, took) = ask(&server, &layer).await;
    assert_eq!((answer.status(), took), (StatusCode::OK, ms(3_000)));
    let report = report(&answer).unwrap();
    assert_eq!((report.attempts(), report.waited()), (1, ms(3_000)));
}

#[tokio::test(start_paused = true)]
async fn a_503_is_sent_again_only_where_that_is_harmless() {
    let attempts = |method: &'static str, key: Option<&'static str>| async move {
        let server = once(|| status(503).header("retry-after", "1"));
        let mut request = request(0);
        *request.method_mut() = method.parse().unwrap();
        if let Some(key) = key {
            request
                .headers_mut()
                .insert("idempotency-key", key.parse().unwrap());
        }
        let answer = RateLimitRetryLayer::new()
            .layer(server.clone())
            .oneshot(request)
            .await
            .unwrap();
        let reason = report(&answer).unwrap().stop_reason();
        (server.log().len(), reason)
    };
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
        assert_eq!(attempts(method, None).await, (2, None), "{method}");
    }
    for method in ["POST", "PATCH"] {
        assert_eq!(
            attempts(method, None).await,
            (1, Some(StopReason::NotIdempotent)),
            "{method}"
        );
        assert_eq!(
            attempts(method, Some("42")).await,
            (2, None),
            "{method} with a key"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn each_attempt_has_the_extensions_of_the_call_and_its_number() {
    #[derive(Clone, PartialEq, Debug)]
    struct Mine(u32);
    let server = Server::new(|sent| if sent.index < 2 { refuse("1") } else { ok() });
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let service = tower::ServiceBuilder::new()
        .layer(RateLimitRetryLayer::new())
        .map_request({
            let seen = seen.clone();
            move |mut request: http::Request<tower_rate_limit_retry::ReplayBody<support::Body>>| {
                seen.lock()
                    .unwrap()
                    .push(request.extensions().get::<Mine>().cloned());
                request.extensions_mut().insert(Mine(8));
                request
            }
        })
        .service(server.clone());
    let mut request = request(0);
    request.extensions_mut().insert(Mine(7));
    service.oneshot(request).await.unwrap();
    assert_eq!(
        *seen.lock().unwrap(),
        [Some(Mine(7)), Some(Mine(7)), Some(Mine(7))]
    );
    assert_eq!(
        server
            .log()
            .iter()
            .map(|sent| sent.attempt)
            .collect::<Vec<_>>(),
        [1, 2, 3]
    );
}

#[tokio::test(start_paused = true)]
async fn a_disabled_layer_does_nothing() {
    let server = Server::new(|_| refuse("1"));
    let layer = RateLimitRetryLayer::new().enabled(false);
    let (answer, took) = ask(&server, &layer).await;
    assert_eq!(
        (answer.status().as_u16(), took, server.log().len()),
        (429, ms(0), 1)
    );
    assert!(report(&answer).is_none());
    let (_, took) = ask(&server, &layer).await;
    assert_eq!(took, ms(0));
}

#[tokio::test(start_paused = true)]
async fn an_outer_layer_learns_nothing_from_an_answer_of_the_inner_one() {
    let server = Server::new(|_| refuse("100"));
    let inner = RateLimitRetryLayer::new().max_delay(ms(1_000));
    ask(&server, &inner).await;
    let outer = RateLimitRetryLayer::new();
    let began = Instant::now();
    for _ in 0..2 {
        let answer = outer
            .layer(inner.layer(server.clone()))
            .oneshot(request(0))
            .await
            .unwrap();
        let report = answer.extensions().get::<RetryReport>().unwrap();
        assert!(
            report.answered_locally(),
            "what the inner layer reported is still there"
        );
    }
    assert_eq!(
        began.elapsed(),
        ms(0),
        "the outer layer neither retries nor pauses"
    );
    let throttled =
        RateLimitRetryLayer::new().quota(Quota::requests(NonZero::<u64>::MIN).per_second());
    let elsewhere = throttled.layer(Server::new(|_| ok()));
    elsewhere.oneshot(request(0)).await.unwrap();
    for _ in 0..2 {
        let inner = inner.layer(server.clone());
        let answer = throttled.layer(inner).oneshot(request(0)).await.unwrap();
        let report = answer.extensions().get::<RetryReport>().unwrap();
        assert!(report.answered_locally(), "though the outer layer waited");
    }
    assert!(began.elapsed() > ms(1_000), "it did wait");
    assert_eq!(server.log().len(), 1);
}
