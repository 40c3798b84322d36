//! Real and hostile responses, and what each of them says.

use std::{fmt::Write, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use jiff::Timestamp;
use serde::Deserialize;
use tower_rate_limit_retry::signal::{self, Signal};

#[test]
fn every_response_is_understood() {
    let vectors = vectors();
    let mut complaints = String::new();
    for vector in &vectors {
        let differences = vector.expect.differences(&vector.read());
        if !differences.is_empty() {
            let Vector {
                id, provider, note, ..
            } = vector;
            let list = differences.join("\n    ");
            writeln!(complaints, "{id} ({provider}; {note})\n    {list}").expect("a string grows");
        }
    }
    assert!(
        complaints.is_empty(),
        "of {} responses:\n{complaints}",
        vectors.len()
    );
}

#[test]
fn the_order_of_header_fields_does_not_matter() {
    for mut vector in vectors() {
        let read = vector.read();
        vector.headers.reverse();
        assert_eq!(vector.read(), read, "{}", vector.id);
    }
}

#[test]
fn what_is_not_at_hand_is_not_needed() {
    for mut vector in vectors() {
        let whole = vector.read();
        vector.body = None;
        let head = vector.read();
        assert_eq!(head.limits(), whole.limits(), "{}", vector.id);
        // The body may have the wait, or make an answer a refusal, whose reset is then a wait.
        let agree = head.wait() == whole.wait() || head.wait().is_none();
        assert!(agree || vector.status == 429, "{}", vector.id);
    }
}

#[derive(Debug, Deserialize)]
struct Vector {
    id: String,
    provider: String,
    note: String,
    status: u16,
    headers: Vec<(String, String)>,
    body: Option<String>,
    now: String,
    expect: Expect,
}

#[derive(Debug, Deserialize)]
struct Expect {
    /// `null` leaves it open.
    retry: Option<bool>,
    /// `null` means that no wait was announced.
    delay_ms: Option<u64>,
    /// In any order.
    limits: Vec<Limit>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::struct_field_names, reason = "so it is called in the data")]
struct Limit {
    dimension: String,
    limit: Option<u64>,
    remaining: Option<u64>,
    reset_ms: Option<u64>,
}

impl Vector {
    fn read(&self) -> Signal {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let name = HeaderName::try_from(name).expect("a name");
            headers.append(name, value_of(value));
        }
        let status = StatusCode::from_u16(self.status).expect("a status");
        let body = self.body.as_deref().map(str::as_bytes);
        let now: Timestamp = self.now.parse().expect("a time");
        signal::read(status, &headers, body, now.into())
    }
}

impl Expect {
    fn differences(&self, signal: &Signal) -> Vec<String> {
        let mut differences = Vec::new();
        let throttle = signal.is_throttle();
        if self.retry.is_some_and(|retry| retry != throttle) {
            differences.push(format!(
                "throttle: expected {:?}, found {throttle}",
                self.retry
            ));
        }
        let wait = signal.wait();
        if self.delay_ms.map(Duration::from_millis) != wait {
            differences.push(format!(
                "wait: expected {:?} ms, found {wait:?}",
                self.delay_ms
            ));
        }
        let mut expected = self.limits.clone();
        expected.sort();
        let found = limits(signal);
        if expected != found {
            differences.push(format!("limits: expected {expected:#?}, found {found:#?}"));
        }
        differences
    }
}

fn limits(signal: &Signal) -> Vec<Limit> {
    let millis = |wait: Duration| wait.as_millis() as u64;
    let limits = signal.limits().iter().map(|limit| Limit {
        dimension: limit.dimension().to_owned(),
        limit: limit.limit(),
        remaining: limit.remaining(),
        reset_ms: limit.reset().map(millis),
    });
    limits.collect()
}

/// A character stands for a byte.
fn value_of(text: &str) -> HeaderValue {
    let bytes: Vec<_> = text
        .chars()
        .map(|char| u8::try_from(u32::from(char)).expect("ISO-8859-1"))
        .collect();
    HeaderValue::from_bytes(&bytes).expect("a value")
}

fn vectors() -> Vec<Vector> {
    serde_json::from_str(include_str!("data/responses.json")).expect("a list of vectors")
}
