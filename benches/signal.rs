//! What it costs to read a response, measured against the least that one could do instead: look up
//! one header field and parse its number.
//!
//! Run with `cargo bench --bench signal`. All cases take turns within one run, and the best of many
//! rounds counts, so that the ratios hold on a busy machine too.

use std::{
    hint::black_box,
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tower_rate_limit_retry::signal;

const ORDINARY: [(&str, &str); 10] = [
    ("date", "Tue, 02 Jun 2026 12:00:00 GMT"),
    ("content-type", "application/json"),
    ("content-length", "1234"),
    ("connection", "keep-alive"),
    ("server", "cloudflare"),
    ("cache-control", "no-store"),
    ("strict-transport-security", "max-age=31536000"),
    ("x-request-id", "req_0123456789abcdef"),
    ("x-content-type-options", "nosniff"),
    ("cf-ray", "8f0000000000abcd-FRA"),
];

const OPENAI: [(&str, &str); 6] = [
    ("x-ratelimit-limit-requests", "60"),
    ("x-ratelimit-limit-tokens", "150000"),
    ("x-ratelimit-remaining-requests", "0"),
    ("x-ratelimit-remaining-tokens", "149984"),
    ("x-ratelimit-reset-requests", "1s"),
    ("x-ratelimit-reset-tokens", "6m0s"),
];

const OPENAI_BODY: &str = r#"{
    "error": {
        "message": "Rate limit reached for gpt-5.1 in organization org-AAA on tokens per min (TPM): Limit 30000, Used 22999, Requested 12528. Please try again in 11.054s. Visit https://platform.openai.com/account/rate-limits to learn more.",
        "type": "tokens",
        "param": null,
        "code": "rate_limit_exceeded"
    }
}"#;

const ROUNDS: u32 = 2_000;
const CALLS_PER_ROUND: u32 = 1_000;

/// A case, what it may cost at most in times of the first, and the best that was measured.
struct Case<'a> {
    name: &'static str,
    goal: Option<f64>,
    run: &'a dyn Fn(),
    best: Duration,
}

fn main() {
    let ordinary = headers(&ORDINARY);
    let openai = headers(&OPENAI);
    let mut with_retry_after = ordinary.clone();
    with_retry_after.insert(header::RETRY_AFTER, HeaderValue::from_static("20"));
    let mut refused = ordinary.clone();
    refused.extend(openai.clone());
    let now = SystemTime::now();

    let look_up = || {
        let value = black_box(&with_retry_after).get(header::RETRY_AFTER);
        let seconds = value.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        black_box(seconds);
    };
    let read = |status, headers: &HeaderMap, body: Option<&str>| {
        let body = body.map(str::as_bytes);
        black_box(&signal::read(
            status,
            black_box(headers),
            black_box(body),
            now,
        ));
    };
    let read_ordinary = || read(StatusCode::OK, &ordinary, None);
    let read_openai = || read(StatusCode::OK, &openai, None);
    let read_refused = || read(StatusCode::TOO_MANY_REQUESTS, &refused, Some(OPENAI_BODY));
    let mut cases = [
        Case::new("look up Retry-After and parse it", None, &look_up),
        Case::new("ten ordinary header fields", Some(3.0), &read_ordinary),
        Case::new("OpenAI's six header fields", Some(15.0), &read_openai),
        Case::new("OpenAI's 429, with its body", Some(100.0), &read_refused),
    ];

    // Without `--bench` it is a test, and only has to run.
    let is_bench = std::env::args().any(|arg| arg == "--bench");
    for _ in 0..if is_bench { ROUNDS } else { 1 } {
        cases.iter_mut().for_each(Case::round);
    }
    let base = cases[0].nanos();
    for case in &cases {
        let (name, nanos) = (case.name, case.nanos());
        let goal = case.goal.map(|goal| format!(", at most {goal:.0} wanted"));
        let goal = goal.unwrap_or_default();
        println!(
            "{name:<34} {nanos:>8.1} ns  {:>6.2} times{goal}",
            nanos / base
        );
    }
}

impl<'a> Case<'a> {
    fn new(name: &'static str, goal: Option<f64>, run: &'a dyn Fn()) -> Self {
        let best = Duration::MAX;
        Self {
            name,
            goal,
            run,
            best,
        }
    }

    fn round(&mut self) {
        let began = Instant::now();
        for _ in 0..CALLS_PER_ROUND {
            (self.run)();
        }
        self.best = self.best.min(began.elapsed());
    }

    fn nanos(&self) -> f64 {
        self.best.as_nanos() as f64 / f64::from(CALLS_PER_ROUND)
    }
}

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let fields = fields.iter();
    fields
        .map(|&(name, value)| {
            let value = HeaderValue::from_static(value);
            (HeaderName::from_static(name), value)
        })
        .collect()
}
