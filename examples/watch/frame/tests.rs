use super::*;

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tokio::time::{advance, timeout};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_rate_limit_retry::{Limits, Partition, RateLimitRetryLayer, RequestOptions};

/// As `OpenAI` announces what is left, where that is so much.
const OPENAI: &[(&str, &str)] = &[
    ("x-ratelimit-limit-requests", "500"),
    ("x-ratelimit-remaining-requests", "450"),
    ("x-ratelimit-reset-requests", "6s"),
    ("x-ratelimit-limit-tokens", "2000000"),
    ("x-ratelimit-remaining-tokens", "1000"),
    ("x-ratelimit-reset-tokens", "59.97s"),
];

/// Asks once in each of these partitions, and waits 100 ms for the answer.
async fn asked(
    partitions: &[&str],
    status: u16,
    fields: &[(&'static str, &'static str)],
) -> Limits {
    let layer = RateLimitRetryLayer::new();
    let limits = layer.limits();
    let fields = fields.to_vec();
    let api = service_fn(move |_| {
        let mut response = Response::builder().status(status);
        for (name, value) in &fields {
            response = response.header(*name, *value);
        }
        let response = response.body(Full::<Bytes>::default()).unwrap();
        async { Ok::<_, Infallible>(response) }
    });
    let client = ServiceBuilder::new().layer(layer).service(api);
    for name in partitions {
        let partition = Partition::new(*name);
        let request = Request::get("http://api.example/")
            .extension(RequestOptions::new().partition(partition))
            .body(Full::<Bytes>::default())
            .unwrap();
        let call = client.clone().oneshot(request);
        let _ = timeout(Duration::from_millis(100), call).await;
    }
    limits
}

fn now(limits: &Limits) -> String {
    frame(&limits.snapshot(), Duration::from_millis(1_234), WIDTH)
}

fn assert_plain(text: &str) {
    for line in text.lines() {
        assert!(line.len() <= WIDTH, "{} columns: {line}", line.len());
        assert!(printable(line) == line, "{line:?}");
    }
    assert!(text.lines().count() < HEIGHT, "{text}");
}

#[tokio::test(start_paused = true)]
async fn what_is_announced_stands_in_columns() {
    let limits = asked(&["api"], 200, OPENAI).await;
    advance(Duration::from_secs(1)).await;
    let expected = "  \
  1.3 s   calls 1, sent 1, retries 0, given back 0, refused 0

api
  requests    announced [################..]     458 of     500  full in   5.0 s
  tokens      announced [..................]  34,333 of    2.0M  full in  59.0 s
  waiting 0, admitted 0, in flight 0; open
  calls 1, sent 1, retries 0, given back 0, refused 0
";
    let frame = now(&limits);
    assert_eq!(frame, expected);
    assert_plain(&frame);
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_counted_down() {
    let limits = asked(&["api"], 429, &[("retry-after", "20")]).await;
    // 100 ms are over already.
    let steps = [
        (0, "19.9 s"),
        (4_900, "15.0 s"),
        (9_000, "6.0 s"),
        (5_999, "0.1 s"),
    ];
    for (step, left) in steps {
        advance(Duration::from_millis(step)).await;
        let frame = now(&limits);
        let pause = format!("paused for {left} more; refusals in a row: 1; put down to rate");
        assert!(frame.contains(&pause), "{frame}");
        let next = format!("next in {left}, held by pause");
        assert!(frame.contains(&next), "{frame}");
        assert_plain(&frame);
        let line = line(&limits.snapshot(), Duration::ZERO);
        assert!(
            line.ends_with(&format!("refused   1  paused {left}\n")),
            "{line}"
        );
    }
    advance(Duration::from_millis(1)).await;
    assert!(!now(&limits).contains("paused"));
}

#[tokio::test(start_paused = true)]
async fn whatever_the_names_are_a_frame_fits_and_holds_no_control_codes() {
    let long = "x".repeat(1_000);
    let names = [
        "a\x1b[31m\nb",
        "\u{4f60}\u{597d}",
        &long,
        "d",
        "e",
        "f",
        "g",
        "h",
    ];
    let limits = asked(&names, 200, OPENAI).await;
    let snapshot = limits.snapshot();
    for width in [0, 20, 60, 80, 1_000] {
        let frame = frame(&snapshot, Duration::MAX, width);
        assert_plain(&frame);
        assert!(frame.lines().all(|line| line.len() <= width), "{frame}");
    }
    let frame = now(&limits);
    assert!(frame.contains("\na?[31m?b\n"), "{frame}");
    assert!(frame.ends_with("\nand 5 more\n"), "{frame}");
    assert_plain(&line(&snapshot, Duration::MAX));
    assert_plain(&summary(snapshot.totals(), u64::MAX, Duration::MAX));
}

#[test]
fn a_long_name_keeps_its_end() {
    assert_eq!(cut("requests", 8), "requests");
    assert_eq!(cut("requests-per-day", 12), "req...er-day");
    let partition = "api.example.com#0123456789abcdef ft:gpt-4o-mini:acme:support:AbC123";
    assert_eq!(cut(partition, 30), "api.examp...cme:support:AbC123");
    assert_eq!(cut("requests", 3), "...");
}

#[test]
fn counts_and_times_take_seven_columns_at_most() {
    let counts = [
        (0, "0"),
        (1_234, "1,234"),
        (999_999, "999,999"),
        (1_000_000, "1.0M"),
        (2_500_000_000, "2.5G"),
        (999_960_000, "1.0G"),
        (u64::MAX, "18.4E"),
    ];
    for (number, shown) in counts {
        assert_eq!(count(number), shown);
        assert!(shown.len() <= 7);
    }
    let times = [
        (Duration::ZERO, "0.0 s"),
        (Duration::from_nanos(1), "0.1 s"),
        (Duration::from_millis(99_900), "99.9 s"),
        (Duration::from_millis(599_901), "10 min"),
        (Duration::from_secs(35_999), "600 min"),
        (Duration::from_secs(36_001), "11 h"),
        (Duration::from_secs(864_000), "10 d"),
        (Duration::MAX, "99999 d"),
    ];
    for (span, shown) in times {
        assert_eq!(time(span), shown);
        assert!(shown.len() <= 7);
    }
}
