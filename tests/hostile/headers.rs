//! Header fields and small bodies that are wrong, ambiguous or absurd.

use crate::{
    case::{Case, End, check_all, refusal},
    server::Reply,
};
use serde::Deserialize;
use std::time::Duration;
use tower_rate_limit_retry::{RateLimitRetryLayer, StopReason};

/// What is sat out here; longer waits are given back.
const MAX_DELAY: Duration = Duration::from_secs(3);

/// What is waited at the least where no hint can be read.
const BACKOFF: Duration = Duration::from_millis(500);

#[tokio::test]
async fn every_hostile_response_is_survived() {
    let vectors: Vec<Vector> =
        serde_json::from_str(include_str!("../data/responses.json")).unwrap();
    let hostile = vectors.into_iter().filter(|v| v.provider == "hostile");
    let cases: Vec<_> = hostile.map(Vector::case).collect();
    assert!(cases.len() >= 70, "{}", cases.len());
    check_all(cases).await;
}

#[tokio::test]
async fn more_header_fields_than_anybody_needs_are_survived() {
    let mut many = refusal();
    for number in 0..60 {
        many = many.field(format!("x-ratelimit-remaining-kind-{number}"), "1");
    }
    let mut long = refusal();
    for _ in 0..10 {
        long = long.field("retry-after", "0".repeat(1_000));
    }
    let mut repeated = refusal();
    for number in 0..60 {
        repeated = repeated.field("ratelimit", format!("\"{number}\";r=1;t=1"));
    }
    let cases = [
        Case::new("sixty dimensions", many, End::Served),
        Case::new("ten long fields", long, End::Served),
        Case::new("sixty lines of one field", repeated, End::Served),
    ];
    check_all(cases.into()).await;
}

#[derive(Debug, Deserialize)]
struct Vector {
    id: String,
    provider: String,
    status: u16,
    headers: Vec<(String, String)>,
    body: Option<String>,
    now: String,
    expect: Expect,
}

#[derive(Debug, Deserialize)]
struct Expect {
    retry: Option<bool>,
    delay_ms: Option<u64>,
}

impl Vector {
    fn case(self) -> Case {
        let (asks, end) = match (self.expect.retry, self.expect.delay_ms) {
            _ if self.status < 400 => (Duration::ZERO, End::Untouched),
            (Some(false), _) => (Duration::ZERO, End::GivenBack(StopReason::NotRetryable)),
            (_, None) => (BACKOFF, End::Served),
            (_, Some(delay)) => {
                let delay = Duration::from_millis(delay);
                let is_long = delay > MAX_DELAY;
                let end = End::GivenBack(StopReason::MaxDelay);
                (delay, if is_long { end } else { End::Served })
            }
        };
        let mut reply = Reply::new(self.status).asks(asks);
        let has_date = self
            .headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("date"));
        if !has_date {
            let now: jiff::Timestamp = self.now.parse().unwrap();
            let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&now);
            reply = reply.field("date", date.unwrap());
        }
        for (name, value) in &self.headers {
            // A character stands for a byte.
            let value: Vec<_> = value.chars().map(|char| char as u8).collect();
            reply = reply.field(name, value);
        }
        let reply = reply.bytes(self.body.unwrap_or_default());
        Case::new(self.id, reply, end).layer(|| RateLimitRetryLayer::new().max_delay(MAX_DELAY))
    }
}
