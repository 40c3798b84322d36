//! What a response says about rate limits: whether it is a refusal, how long to wait, and what is
//! left of which quota.
//!
//! Servers say this in a dozen dialects. [`read`] understands them all at once, from what is there,
//! without being told which server it was. It is pure, never fails, and of use without the layer:
//!
//! ```
//! use std::time::{Duration, SystemTime};
//! use http::{HeaderMap, HeaderValue, StatusCode};
//! use tower_rate_limit_retry::signal;
//!
//! let mut headers = HeaderMap::new();
//! headers.insert("retry-after", HeaderValue::from_static("20"));
//! headers.insert("x-ratelimit-limit-requests", HeaderValue::from_static("60"));
//! headers.insert("x-ratelimit-remaining-requests", HeaderValue::from_static("0"));
//! headers.insert("x-ratelimit-reset-requests", HeaderValue::from_static("1m0s"));
//!
//! let signal = signal::read(StatusCode::TOO_MANY_REQUESTS, &headers, None, SystemTime::now());
//! assert!(signal.is_throttle());
//! assert_eq!(signal.wait(), Some(Duration::from_secs(20)));
//! assert_eq!(signal.limits()[0].dimension(), "requests");
//! assert_eq!(signal.limits()[0].remaining(), Some(0));
//! ```
//!
//! # What is understood
//!
//! - **Waits**: `Retry-After` ([RFC 9110, section 10.2.3]) in seconds, also with a fraction, or as
//!   a date; the `retry-after-ms`, `x-ms-retry-after-ms` and `x-amz-retry-after` of those to whom
//!   seconds are too coarse; `x-ratelimit-retry-after`; gRPC's push-back; the numbers and sentences
//!   ("Please try again in 11.054s") of error bodies.
//! - **Limits**: `RateLimit` and `RateLimit-Policy` as the IETF drafts have them;
//!   `RateLimit-Limit`, `-Remaining` and `-Reset` with and without `X-`, with and without a second
//!   hyphen, with and without the name of a dimension behind, whether the reset is in seconds, a
//!   Unix time in seconds or milliseconds, a Go duration or a date; Anthropic's and Shopify's
//!   fields.
//! - **Refusals**: the status, `x-should-retry` and `stripe-should-retry`; the codes with which
//!   AWS, Google and GitHub throttle in spite of the status; the errors in successes of GraphQL,
//!   Slack and JSON-RPC; and the codes and messages with which [OpenAI], Anthropic, Google and X
//!   refuse for good.
//!
//! [`dialects`] has them all in tables, and what was chosen where one can be read in two ways.
//!
//! # How numbers are read
//!
//! A wait is rounded up to whole milliseconds, and never longer than 2^31 seconds, the ceiling of
//! [RFC 9111, section 1.2.2]: what is longer still means "very long". A date is measured against
//! the response's own `Date`, if that is readable: a wrong clock on our side does no harm. A date
//! in the past is a wait of zero. What is malformed (`-1`, `1e9`, `NaN`, `5 minutes` in a header)
//! is as good as absent, and never guessed at.
//!
//! [OpenAI]: https://platform.openai.com/docs/guides/error-codes
//! [RFC 9110, section 10.2.3]: https://www.rfc-editor.org/rfc/rfc9110.html#section-10.2.3
//! [RFC 9111, section 1.2.2]: https://www.rfc-editor.org/rfc/rfc9111.html#section-1.2.2

mod body;
mod class;
mod dialect;
#[doc = include_str!("dialects.md")]
pub mod dialects {}
mod few;
mod instant;
mod json;
mod limits;
mod number;
mod prose;
mod value;
mod wait;

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode};

pub(crate) use self::class::has_readable_body;
use self::{body::Body, class::Class, dialect::Heard, few::Few, instant::Clock};
pub use self::{class::might_refuse, limits::RateLimit};

/// Reads what a response says about rate limits.
///
/// `body` is looked at only if it is JSON or XML of at most 64 KiB; `None` means that it is not at
/// hand, and the rest is understood without it. `now` is the time at which the response was received;
/// it is needed for dates if the response has no `Date` of its own.
///
/// The order of header fields does not matter. Without a field or status that concerns limits, the
/// result is [`Signal::default()`].
///
/// # Examples
///
/// Often the body alone tells whether a wait will help:
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use http::{HeaderMap, StatusCode};
/// use tower_rate_limit_retry::signal;
///
/// let headers = HeaderMap::new();
/// let read = |body: &[u8]| {
///     signal::read(StatusCode::TOO_MANY_REQUESTS, &headers, Some(body), SystemTime::now())
/// };
///
/// let limited = read(br#"{"error": {"message": "Please try again in 7m12s."}}"#);
/// assert!(limited.is_throttle());
/// assert_eq!(limited.wait(), Some(Duration::from_secs(432)));
///
/// let unpaid = read(br#"{"error": {"code": "insufficient_quota"}}"#);
/// assert!(!unpaid.is_throttle());
/// assert!(unpaid.is_terminal());
/// ```
pub fn read(
    status: StatusCode,
    headers: &HeaderMap,
    body: Option<&[u8]>,
    now: SystemTime,
) -> Signal {
    read_at(status, headers, body, || now)
}

/// The same with a clock, which is read only if there is anything to be understood.
pub(crate) fn read_at(
    status: StatusCode,
    headers: &HeaderMap,
    body: Option<&[u8]>,
    now: impl FnOnce() -> SystemTime,
) -> Signal {
    let is_silent = body.is_none() && !matches!(status.as_u16(), 429 | 529);
    if is_silent && !dialect::may_concern(headers) {
        return Signal::default();
    }
    understand(status, headers, body, now())
}

/// Apart from the glance before it, which must not pay for the room that this takes.
#[inline(never)]
fn understand(
    status: StatusCode,
    headers: &HeaderMap,
    body: Option<&[u8]>,
    now: SystemTime,
) -> Signal {
    let clock = Clock::new(headers, now);
    let mut signal = Signal::default();
    let heard = Heard::listen(headers, &clock, &mut signal.limits);
    signal.wait = heard.announced.wait();
    let body = body.and_then(Body::parse);
    signal.class = Class::of(status, &heard, body.as_ref());
    if signal.class == Class::Throttle || status == StatusCode::TOO_MANY_REQUESTS {
        let in_body = || dialect::wait(body.as_ref()?, &clock);
        signal.wait = signal.wait.or_else(in_body).or_else(|| heard.limits.wait());
    }
    heard.limits.finish();
    signal
}

/// What one response says about rate limits; see [`read`].
///
/// The default is that of a response that says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signal {
    class: Class,
    wait: Option<Duration>,
    limits: Few<RateLimit>,
}

impl Signal {
    /// Whether the server refused the request because of a limit, so that the same request can
    /// succeed later.
    ///
    /// So for 429 and 529; for 503 and 413 with an announced wait; for 403 with an announced wait
    /// or a dimension that is used up; for 400, 403, 500 and 503 with a code or message that says so;
    /// and for any error with `x-should-retry: true`; unless [`is_terminal`](Self::is_terminal).
    /// Below 400 only if the body of a success is an error in a form that means a limit, or if gRPC
    /// pushes back.
    ///
    /// Whether the wait is worth it is another question: it may be a day.
    pub fn is_throttle(&self) -> bool {
        self.class == Class::Throttle
    }

    /// Whether the server refused the request for a reason that no wait cures: an unpaid or spent
    /// account, a request larger than the limit, or `x-should-retry: false`.
    ///
    /// Below 400 only if gRPC pushes back for good; never together with
    /// [`is_throttle`](Self::is_throttle).
    pub fn is_terminal(&self) -> bool {
        self.class == Class::Terminal
    }

    /// How long the server asks to wait, from the receipt of the response: rounded up to whole
    /// milliseconds, and at most 2^31 seconds.
    ///
    /// Zero if that time is past already, `None` if the server does not say. What header fields ask
    /// for is reported for every response, also for a redirection ([RFC 9110, section
    /// 10.2.3][rfc]); the waits that bodies and resets imply, only for a refusal.
    ///
    /// [rfc]: https://www.rfc-editor.org/rfc/rfc9110.html#section-10.2.3
    pub fn wait(&self) -> Option<Duration> {
        self.wait
    }

    /// What the response says about the server's quotas, in alphabetical order of their dimensions,
    /// each at most once.
    ///
    /// Of more than 32, the first 32.
    pub fn limits(&self) -> &[RateLimit] {
        self.limits.as_slice()
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    const PUSH_BACK: &str = "grpc-retry-pushback-ms";

    /// 2026-06-02 12:00:00 UTC.
    const NOW: u64 = 1_780_401_600;

    #[test]
    fn the_most_exact_word_on_the_wait_counts() {
        let seconds = ("retry-after", "2");
        let millis = ("retry-after-ms", "1500");
        let other = ("x-ratelimit-retry-after", "17");
        let none_left = ("x-ratelimit-remaining-requests", "0");
        let reset = ("x-ratelimit-reset-requests", "58s");
        let text = r#"{"error": {"message": "Please try again in 6h12m."}}"#;
        let number = r#"{"error": {"message": "Please try again in 6h12m."}, "retry_after": 3}"#;
        let google = r#"{"error": {"details": [{"retryDelay": "0.5s"}]}, "retry_after": 3}"#;
        let rpc = r#"{"jsonrpc": "2.0", "error": {"code": -32005, "message": "rate: retry in 9s",
            "data": {"rate": {"backoff_seconds": 1.5}}}}"#;
        let inner = r#"{"error": {"message": "retry in 9s", "metadata": {"headers": {
            "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1780401607000", "Retry-After": 1
        }}}}"#;
        for (status, headers, body, wait) in [
            (
                429,
                &[seconds, millis, other, none_left, reset][..],
                number,
                Some(1_500),
            ),
            (
                429,
                &[("retry-after-ms", "-5"), seconds, other, none_left, reset],
                text,
                Some(2_000),
            ),
            (429, &[("x-ms-retry-after-ms", "9")], text, Some(9)),
            (429, &[("x-amz-retry-after", "9")], text, Some(9)),
            (429, &[other, none_left, reset], text, Some(17_000)),
            (429, &[none_left, reset], number, Some(3_000)),
            (429, &[none_left, reset], text, Some(22_320_000)),
            (
                429,
                &[none_left, reset],
                "Please try again in 6h12m.",
                Some(58_000),
            ),
            (429, &[none_left, reset], "{}", Some(58_000)),
            (429, &[reset], "", Some(58_000)),
            (429, &[none_left, reset], google, Some(500)),
            (429, &[none_left, reset], inner, Some(7_000)),
            (200, &[none_left, reset], rpc, Some(1_500)),
            (
                200,
                &[("grpc-retry-pushback-ms", "250"), millis],
                "",
                Some(250),
            ),
            (200, &[("grpc-retry-pushback-ms", "-1")], "", None),
            (429, &[], "", None),
            // The wait is told, though it will not help.
            (
                429,
                &[seconds],
                r#"{"error": {"code": "insufficient_quota"}}"#,
                Some(2_000),
            ),
            (
                429,
                &[none_left, reset],
                r#"{"error": {"code": "insufficient_quota"}}"#,
                Some(58_000),
            ),
            // No refusal: what was asked for, but nothing is concluded.
            (200, &[("retry-after", "0")], text, Some(0)),
            (200, &[none_left, reset], text, None),
            (301, &[seconds], "", Some(2_000)),
            (404, &[none_left, reset], text, None),
            (500, &[none_left, reset], text, None),
            (403, &[none_left, reset], "", Some(58_000)),
        ] {
            let wait = wait.map(Duration::from_millis);
            assert_eq!(
                signal(status, headers, body).wait(),
                wait,
                "{status} {headers:?} {body}"
            );
        }
    }

    #[test]
    fn an_ordinary_response_says_nothing() {
        let ordinary = [
            ("date", "Tue, 02 Jun 2026 12:00:00 GMT"),
            ("content-type", "application/json"),
            ("server", "cloudflare"),
            ("x-request-id", "req_1"),
            ("x-content-type-options", "nosniff"),
            ("x-ms-region", "Sweden Central"),
            ("referrer-policy", "no-referrer"),
        ];
        assert_eq!(signal(200, &ordinary, "{}"), Signal::default());
        assert_eq!(Signal::default().limits(), []);
    }

    #[test]
    fn a_name_that_is_not_ours_costs_no_look_at_the_clock() {
        for name in [
            "x",
            "age",
            "via",
            "date",
            "server",
            "set-cookie",
            "retry",
            "referrer-policy",
            "access-control-allow-origin",
            "x-request-id",
            "x-amz-request-id",
            "x-ms-request-id",
            "x-runtime-seconds",
            "x-served-by-cache",
            "grpc-status-details-bin",
        ] {
            let headers = map(vec![(name.to_owned(), b"1".to_vec())]);
            let clock = || unreachable!("{name}");
            assert_eq!(
                read_at(StatusCode::OK, &headers, None, clock),
                Signal::default()
            );
        }
    }

    #[test]
    fn a_status_tells_without_a_body_or_a_field() {
        let headers = HeaderMap::new();
        for (status, is_throttle) in [
            (200, false),
            (403, false),
            (429, true),
            (503, false),
            (529, true),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            let signal = read(status, &headers, None, now());
            assert_eq!(signal.is_throttle(), is_throttle, "{status}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_skipped() {
        let mut headers = HeaderMap::new();
        let bytes = |bytes| HeaderValue::from_bytes(bytes).expect("a header value");
        headers.append("retry-after", bytes(b"\xFF\xFE"));
        headers.append("retry-after", bytes(b"\xB2"));
        headers.append("x-ratelimit-remaining-tokens", bytes(b"\xEF\xBC\x91"));
        headers.append("x-ratelimit-reset-tokens", bytes(b"9\xC2\xB5s"));
        let signal = read(
            StatusCode::TOO_MANY_REQUESTS,
            &headers,
            Some(b"\xFF"),
            now(),
        );
        assert_eq!(signal.wait(), None);
        assert_eq!(signal.limits()[0].remaining(), None);
        assert_eq!(signal.limits()[0].reset(), Some(Duration::from_millis(1)));
    }

    proptest! {
        #[test]
        fn anything_is_understood_or_skipped(
            status in 100_u16..1_000,
            headers in prop::collection::vec((name(), value()), 0..12),
            body in prop::option::of(prop::collection::vec(any::<u8>(), 0..200)),
        ) {
            let status = StatusCode::from_u16(status).expect("a status");
            let headers = map(headers);
            let signal = read(status, &headers, body.as_deref(), now());
            prop_assert!(signal.wait().is_none_or(|wait| wait <= number::MAX_WAIT));
            prop_assert!(!(signal.is_throttle() && signal.is_terminal()));
            let is_refused = status.as_u16() >= 400 || headers.contains_key(PUSH_BACK);
            prop_assert!(is_refused || signal.class == Class::Unrelated);
            let names = signal.limits().iter().map(RateLimit::dimension);
            prop_assert!(names.is_sorted_by(|one, next| one < next));
        }

        #[test]
        fn the_order_of_header_fields_does_not_matter(
            (headers, shuffled) in prop::collection::vec((name(), value()), 0..12)
                .prop_flat_map(|headers| (Just(headers.clone()), Just(headers).prop_shuffle())),
        ) {
            let [one, other] = [headers, shuffled]
                .map(|headers| read(StatusCode::TOO_MANY_REQUESTS, &map(headers), None, now()));
            prop_assert_eq!(one, other);
        }

        #[test]
        fn no_wait_is_shorter_than_asked(
            waits in prop::collection::vec(0_u64..1 << 31, 1..4),
            others in prop::collection::vec(("x-rate.*|date|ratelimit-reset", value()), 0..6),
        ) {
            let mut headers = HeaderMap::new();
            for wait in &waits {
                headers.append("retry-after", HeaderValue::from(*wait));
            }
            headers.extend(map(others));
            let signal = read(StatusCode::SERVICE_UNAVAILABLE, &headers, None, now());
            let longest = waits.into_iter().max().map(Duration::from_secs);
            prop_assert_eq!(signal.wait(), longest);
        }
    }

    fn name() -> impl Strategy<Value = String> {
        prop_oneof![
            "retry-after|retry-after-ms|x-amz-retry-after|x-should-retry|date",
            "(x-)?rate-?limit-(limit|remaining|reset|reset-after|resettime|retry-after)",
            "x-ratelimit-(limit|remaining|reset)-(requests|tokens|[a-z]{1,3})",
            "anthropic-ratelimit-(tokens|[a-z]{1,3})-(limit|remaining|reset)",
            "grpc-retry-pushback-ms|stripe-should-retry|x-amzn-errortype",
            "x-shopify-shop-api-call-limit|x-ms-retry-after-ms",
            "x-[a-z-]{1,12}",
        ]
    }

    fn value() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            "[0-9]{1,3}(\\.[0-9])?|-1|true|false|0|1;w=2|[0-9]{1,2}/[0-9]{1,2}",
            "17804016[0-9]{2}|17804016[0-9]{5}|[0-9]{20}",
            "([0-9]h)?[0-9]{1,2}m[0-9]s|[0-9]{1,3}ms",
            "Tue, 02 Jun 2026 1[12]:00:[0-9]{2} GMT|2026-06-02T1[12]:00:[0-9]{2}Z",
            "[ -~\t]{0,16}",
        ]
        .prop_map(String::into_bytes)
        .boxed()
        .prop_union(prop::collection::vec(any::<u8>(), 0..16).boxed())
    }

    /// Leaves out what no HTTP library would take for a header field.
    fn map(headers: Vec<(String, Vec<u8>)>) -> HeaderMap {
        let field = |(name, value): (String, Vec<u8>)| {
            let name = HeaderName::try_from(name).ok()?;
            Some((name, HeaderValue::try_from(value).ok()?))
        };
        let mut map = HeaderMap::new();
        for (name, value) in headers.into_iter().filter_map(field) {
            map.append(name, value);
        }
        map
    }

    fn signal(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Signal {
        let mut map = HeaderMap::new();
        for &(name, value) in headers {
            map.append(name, HeaderValue::from_static(value));
        }
        let status = StatusCode::from_u16(status).expect("a status");
        read(status, &map, Some(body.as_bytes()), now())
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
    }
}
