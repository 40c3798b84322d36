//! What was reserved and not used is given back, if it is known how much that was.

use super::*;
use crate::signal;
use http::{HeaderMap, HeaderValue, StatusCode};
use std::time::SystemTime;

const SECOND: Duration = Duration::from_secs(1);
const REQUEST: Cost = Cost {
    requests: 1,
    tokens: 0,
};

#[test]
fn what_was_charged_by_another_rate_is_not_given_back() {
    for (is_slower, full_in) in [(false, 60), (true, 65)] {
        let mut model = Model::default();
        let began = Instant::now();
        let early = send(&mut model, began);
        let now = began + 290 * SECOND;
        let recent = send(&mut model, now);
        // All 60 are missing, and one flows in each second.
        model.announced(now, recent, false, &announcement("60", "0", "60s"));
        let unused = model.reserve(now, five(), true);
        assert_eq!(full_in_seconds(&model, now), 65);
        if is_slower {
            // What was announced five minutes ago: one flows in every ten seconds.
            model.announced(now, early, false, &announcement("60", "30", "300s"));
        }
        model.give_back(unused);
        assert_eq!(full_in_seconds(&model, now), full_in);
    }
}

#[test]
fn what_was_charged_before_all_was_forgotten_is_not_given_back() {
    let mut model = Model::default();
    let now = Instant::now();
    let sent = send(&mut model, now);
    model.announced(now, sent, false, &announcement("60", "0", "60s"));
    let unused = model.reserve(now, five(), true);
    model.forget(now);
    let sent = send(&mut model, now);
    model.announced(now, sent, false, &announcement("60", "0", "60s"));
    let before = full_in_seconds(&model, now);
    model.give_back(unused);
    assert_eq!(full_in_seconds(&model, now), before);
}

#[test]
fn an_answer_that_explains_nothing_settles_nobody_elses_request() {
    let full_in = |others| {
        let mut model = Model::default();
        let now = Instant::now();
        let sent = send(&mut model, now);
        for _ in 0..others {
            send(&mut model, now);
        }
        model.unexplained(sent);
        model.announced(now, sent, false, &announcement("60", "0", "60s"));
        full_in_seconds(&model, now)
    };
    assert_eq!(full_in(3), full_in(0) + 3);
}

#[test]
fn what_is_sent_later_than_it_was_admitted_is_missing_from_then_on() {
    let mut model = Model::default();
    let began = Instant::now();
    let sent = send(&mut model, began);
    model.announced(began, sent, false, &announcement("60", "59", "1s"));
    // All is there, so that nothing flows in until one is sent; the server sees it only then.
    let admitted_at = began + 10 * SECOND;
    let reserved = model.reserve(admitted_at, REQUEST, true);
    let sent_at = admitted_at + SECOND;
    assert!(is_full(&model, sent_at), "as if it had been sent at once");
    model.sent(reserved, sent_at);
    assert!(!is_full(&model, sent_at + SECOND - NANOSECOND));
    assert!(is_full(&model, sent_at + SECOND));
}

/// Whether nothing is missing of the sixty.
fn is_full(model: &Model, now: Instant) -> bool {
    let all = Cost {
        requests: 60,
        tokens: 0,
    };
    model.expected(now, Cost::NONE, all) == Admit::Now
}

/// In how many whole seconds nothing more is missing, as far as is known.
fn full_in_seconds(model: &Model, now: Instant) -> u64 {
    let all_others = Cost {
        requests: 59,
        tokens: 0,
    };
    let full_at = model.expected(now, all_others, REQUEST).opens_at(now);
    full_at.saturating_duration_since(now).as_secs()
}

fn five() -> Cost {
    Cost {
        requests: 5,
        tokens: 0,
    }
}

fn send(model: &mut Model, now: Instant) -> Sent {
    let reserved = model.reserve(now, REQUEST, true);
    model.sent(reserved, now)
}

fn announcement(
    limit: &'static str,
    remaining: &'static str,
    reset: &'static str,
) -> Vec<RateLimit> {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("x-ratelimit-limit-requests", limit),
        ("x-ratelimit-remaining-requests", remaining),
        ("x-ratelimit-reset-requests", reset),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let signal = signal::read(StatusCode::OK, &headers, None, SystemTime::now());
    signal.limits().to_vec()
}
