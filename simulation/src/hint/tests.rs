//! What is written for each way to tell.

use bytes::Bytes;
use http::Request;

use super::*;
use crate::limit::{Concurrency, FixedWindow, TokenBucket};
use crate::openai::{Limits, Quota};
use crate::{Api, OpenAi};

/// 2026-06-02 12:00:00.4 UTC.
const UNIX: Duration = Duration::from_millis(1_780_401_600_400);

#[test]
fn openai_tells_the_same_with_and_without_its_api() {
    let now = Instant::now();
    let limits = Limits::per_minute(3, 1_000);
    let mut api = OpenAi::new().model("m", limits);
    let mut quota = Quota::full(limits, now);
    let body = r#"{"model":"m","max_tokens":100,"messages":[]}"#;
    for _ in 0..5 {
        let request = Request::post("http://localhost/v1/chat/completions")
            .header("authorization", format!("Bearer {}", OpenAi::KEY))
            .body(Bytes::from(body))
            .unwrap();
        let mut theirs = api.answer(&request, now).headers().clone();
        theirs.remove("content-type");
        theirs.remove("x-request-id");
        let refused = (!quota.admit(100, now)).then_some(100);
        assert_eq!(Hints::OPENAI.headers(&quota, refused, now), theirs);
    }
}

#[test]
fn a_refusal_says_when_to_come_back() {
    for (retry_after, expected) in [
        (RetryAfter::Seconds(1.0), "retry-after: 8"),
        (RetryAfter::Seconds(0.1), "retry-after: 1"),
        (RetryAfter::Millis(1.0), "retry-after-ms: 7600"),
        (RetryAfter::Millis(0.5), "retry-after-ms: 3800"),
        (
            RetryAfter::Date,
            "date: Tue, 02 Jun 2026 12:00:02 GMT\nretry-after: Tue, 02 Jun 2026 12:00:11 GMT",
        ),
        (RetryAfter::Constant(1), "retry-after: 1"),
    ] {
        let is_date = retry_after == RetryAfter::Date;
        let hints = |began| Hints {
            retry_after: Some(retry_after),
            clock: is_date.then_some(WallClock::new(began, UNIX)),
            ..Hints::default()
        };
        assert_eq!(told(hints, Some(0)), expected);
    }
}

#[test]
fn a_concurrency_limit_has_nothing_to_tell() {
    let now = Instant::now();
    let headers = Hints::OPENAI.headers(&Concurrency::new(0), Some(0), now);
    assert!(headers.is_empty());
}

#[test]
fn every_answer_says_what_is_left() {
    for (fields, expected) in [
        (
            Fields::Structured,
            "ratelimit-policy: \"default\";q=3;w=10\nratelimit: \"default\";r=2;t=8",
        ),
        (
            Fields::Seconds,
            "ratelimit-limit: 3\nratelimit-remaining: 2\nratelimit-reset: 8",
        ),
        (
            Fields::UnixTime,
            "date: Tue, 02 Jun 2026 12:00:02 GMT\nx-ratelimit-limit: 3\n\
             x-ratelimit-remaining: 2\nx-ratelimit-reset: 1780401611",
        ),
        (
            Fields::GoDurations,
            "x-ratelimit-limit-requests: 3\nx-ratelimit-remaining-requests: 2\n\
             x-ratelimit-reset-requests: 7.6s",
        ),
    ] {
        let is_date = fields == Fields::UnixTime;
        let hints = |began| Hints {
            fields: Some(fields),
            clock: is_date.then_some(WallClock::new(began, UNIX)),
            ..Hints::default()
        };
        assert_eq!(told(hints, None), expected);
    }
}

#[test]
fn the_reset_of_a_bucket_is_that_of_all_or_of_the_next() {
    let now = Instant::now();
    let mut bucket = TokenBucket::new(Unit::Requests, 10, 60.try_into().unwrap(), now);
    assert!((0..4).all(|_| bucket.admit(0, now)));
    for (reset, expected) in [(Reset::Full, "4"), (Reset::Next, "1")] {
        let hints = Hints {
            fields: Some(Fields::Seconds),
            reset,
            ..Hints::default()
        };
        assert_eq!(
            hints.headers(&bucket, None, now)["ratelimit-reset"],
            expected
        );
    }
}

#[test]
fn durations_read_as_those_of_the_real_headers() {
    for (nanos, expected) in [
        (0, "0s"),
        (1, "1ms"),
        (11_100_000, "12ms"),
        (72_000_000, "72ms"),
        (999_000_001, "1s"),
        (1_200_000_000, "1.2s"),
        (6_500_000_000, "6.5s"),
        (10_000_000_000, "10s"),
        (11_054_000_000, "11.054s"),
        (90_000_000_000, "1m30s"),
        (360_000_000_000, "6m0s"),
        (1_728_000_000_000, "28m48s"),
        (3_723_500_000_000, "1h2m3.5s"),
        (17_016_314_000_000, "4h43m36.314s"),
    ] {
        assert_eq!(go_duration(Duration::from_nanos(nanos)), expected);
    }
}

/// The headers that a window of 10 s with one of three used up has 2.4 s after its beginning, line
/// by line.
fn told(hints: impl Fn(Instant) -> Hints, refused: Option<u32>) -> String {
    let began = Instant::now();
    let mut window = FixedWindow::new(Unit::Requests, 3, Duration::from_secs(10), began);
    window.admit(0, began);
    if refused.is_some() {
        while window.admit(0, began) {}
    }
    let now = began + Duration::from_millis(2_400);
    let headers = hints(began).headers(&window, refused, now);
    let lines = headers.iter().map(|(name, value)| {
        let value = value.to_str().expect("visible ASCII");
        format!("{name}: {value}")
    });
    let mut lines: Vec<_> = lines.collect();
    lines.sort_unstable();
    lines.join("\n")
}
