//! Clocks that are wrong, on either side.

use crate::{
    case::{Case, End, check_all},
    client::{Host, VERSIONS},
    content::{content, known},
    server::Reply,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::{SignedDuration, Timestamp, fmt::rfc2822::DateTimePrinter};
use std::time::{Duration, SystemTime};
use tower_rate_limit_retry::{RateLimitRetryLayer, signal};

/// What the server asks for, by its own clock.
const WAIT: SignedDuration = SignedDuration::from_secs(2);

/// How far ahead a server's clock is, in hours.
const HOURS_AHEAD: [i64; 6] = [-10 * 365 * 24, -24, -1, 1, 24, 10 * 365 * 24];

#[tokio::test]
async fn a_server_whose_clock_is_wrong_is_waited_for_by_its_clock() {
    let mut cases = Vec::new();
    for hours in HOURS_AHEAD {
        let now = Timestamp::now() + SignedDuration::from_hours(hours);
        let reply = Reply::new(429)
            .field("date", http_date(now))
            .asks(WAIT.unsigned_abs());
        let until = now + WAIT;
        let waits = [
            (
                "Retry-After",
                reply.clone().field("retry-after", http_date(until)),
            ),
            (
                "X-RateLimit-Reset",
                reply
                    .field("x-ratelimit-remaining", "0")
                    .field("x-ratelimit-reset", until.as_second().to_string()),
            ),
        ];
        for (field, reply) in waits {
            cases.push(Case::new(format!("{field}, {hours} h"), reply, End::Served));
        }
    }
    check_all(cases).await;
}

#[tokio::test]
async fn a_date_of_a_server_without_a_clock_is_waited_for_by_ours() {
    for version in VERSIONS {
        // Whole seconds, one of which has begun.
        let until = Timestamp::from_second(Timestamp::now().as_second() + 3).unwrap();
        let layer = RateLimitRetryLayer::new();
        let host = Host::start(version, &layer, move |asked| match asked.before {
            0 => Reply::new(429).field("retry-after", http_date(until)),
            _ => Reply::ok(),
        });
        let answer = host.post(0, known(&content(0, 20_000))).await.unwrap();
        let now = Timestamp::now();
        assert_eq!((answer.status, answer.attempts()), (200, 2));
        assert!(now >= until, "{} too early", until - now);
    }
}

/// In paused time the wall clock stands still while tokio's goes on, as it does for a program whose
/// wall clock is set back meanwhile.
#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_is_set_back_during_a_wait_does_not_make_it_longer() {
    use std::convert::Infallible;
    use tokio::time::Instant;
    use tower::{Layer, ServiceExt, service_fn};

    let wait = SignedDuration::from_mins(4);
    let until = Timestamp::now() + wait;
    let began = Instant::now();
    let opens = began + wait.unsigned_abs() - Duration::from_secs(10);
    let server = service_fn(move |_: http::Request<_>| async move {
        let mut response = http::Response::new(http_body_util::Empty::<bytes::Bytes>::new());
        if Instant::now() < opens {
            *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            let date = HeaderValue::try_from(http_date(until)).unwrap();
            response.headers_mut().insert(header::RETRY_AFTER, date);
        }
        Ok::<_, Infallible>(response)
    });
    let service = RateLimitRetryLayer::new().layer(server);
    let request = http::Request::post("http://api.example.com/").body(known(&content(0, 10)));
    let answer = service.oneshot(request.unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    let waited = began.elapsed();
    // The date was read once, by the wall clock, in whole seconds.
    let too_short = wait.unsigned_abs().checked_sub(waited);
    let is_exact = too_short.is_some_and(|span| span < Duration::from_secs(5));
    assert!(is_exact, "{waited:?}");
}

#[test]
fn a_wait_is_the_same_whatever_our_wall_clock_shows() {
    let now: Timestamp = "2026-06-02T12:00:00Z".parse().unwrap();
    let mut headers = HeaderMap::new();
    let value = |at| HeaderValue::try_from(http_date(at)).unwrap();
    headers.insert(header::DATE, value(now));
    headers.insert(header::RETRY_AFTER, value(now + WAIT));
    for hours in HOURS_AHEAD {
        let ours = SystemTime::from(now + SignedDuration::from_hours(hours));
        let signal = signal::read(StatusCode::TOO_MANY_REQUESTS, &headers, None, ours);
        assert_eq!(signal.wait(), Some(WAIT.unsigned_abs()), "{hours} h");
    }
}

fn http_date(at: Timestamp) -> String {
    DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&at)
        .unwrap()
}
