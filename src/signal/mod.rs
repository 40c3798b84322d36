//! What a response says about rate limits: whether it is a refusal, how long to wait, and what is left of which quota.
//!
//! Servers say this in a dozen dialects. [`read`] understands them all at once, from what is there, without being told
//! which server it was. It is pure, never fails, and of use without the layer:
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
//! - **Waits**: `Retry-After` ([RFC 9110, section 10.2.3]) in seconds, also with a fraction, or as a date; the
//!   `retry-after-ms`, `x-ms-retry-after-ms` and `x-amz-retry-after` of those to whom seconds are too coarse; the
//!   `retry_after` and the sentences ("Please try again in 11.054s") of JSON error bodies.
//! - **Limits**: `RateLimit-Limit`, `-Remaining` and `-Reset` with and without `X-`, with and without a second hyphen, with
//!   and without the name of a dimension behind, whether the reset is in seconds, a Unix time in seconds or milliseconds, a Go
//!   duration or a date.
//! - **Refusals**: the status, `x-should-retry`, and the codes and messages with which OpenAI, Anthropic, Google and X
//!   refuse for good.
//!
//! # How numbers are read
//!
//! A wait is rounded up to whole milliseconds, and never longer than 2^31 seconds, the ceiling of [RFC 9111, section
//! 1.2.2]: what is longer still means "very long". A date is measured against the response's own `Date`, if that is
//! readable: a wrong clock on our side does no harm. A date in the past is a wait of zero. What is malformed (`-1`, `1e9`,
//! `NaN`, `5 minutes` in a header) is as good as absent, and never guessed at.
//!
//! [RFC 9110, section 10.2.3]: https://www.rfc-editor.org/rfc/rfc9110.html#section-10.2.3
//! [RFC 9111, section 1.2.2]: https://www.rfc-editor.org/rfc/rfc9111.html#section-1.2.2

mod body;
mod family;
mod few;
mod instant;
mod limits;
mod number;
mod prose;
mod wait;

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode};

pub use self::limits::RateLimit;
use self::{
    body::Refusal,
    family::{Field, Kind},
    few::Few,
    instant::Clock,
    limits::Limits,
    wait::Announced,
};

/// Reads what a response says about rate limits.
///
/// `body` is read only if the status is an error, is JSON, and is not larger than 64 KiB; `None` means that it is not at
/// hand, and the rest is understood without it. `now` is the time at which the response was received; it is needed for
/// dates if the response has no `Date` of its own.
///
/// The order of header fields does not matter. Without a field or status that concerns limits, the result is
/// [`Signal::default()`].
///
/// # Examples
///
/// OpenAI tells by the body alone whether a wait will help:
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use http::{HeaderMap, StatusCode};
/// use tower_rate_limit_retry::signal;
///
/// let read = |body: &str| {
///     signal::read(StatusCode::TOO_MANY_REQUESTS, &HeaderMap::new(), Some(body.as_bytes()), SystemTime::now())
/// };
///
/// let limited = read(r#"{"error": {"code": "rate_limit_exceeded", "message": "Please try again in 7m12s."}}"#);
/// assert!(limited.is_throttle());
/// assert_eq!(limited.wait(), Some(Duration::from_secs(432)));
///
/// let unpaid = read(r#"{"error": {"code": "insufficient_quota", "message": "Check your billing details."}}"#);
/// assert!(!unpaid.is_throttle());
/// assert!(unpaid.is_terminal());
/// ```
pub fn read(
    status: StatusCode,
    headers: &HeaderMap,
    body: Option<&[u8]>,
    now: SystemTime,
) -> Signal {
    let clock = Clock::new(headers, now);
    let mut heard = Heard::default();
    for (name, value) in headers {
        heard.hear(name.as_str(), value.as_bytes(), &clock);
    }
    let mut wait = heard.announced.wait();
    let mut class = Class::Unrelated;
    if is_error(status) {
        let refusal = body.and_then(Refusal::parse);
        class = heard.class(status, refusal.as_ref());
        if class == Class::Throttle || status == StatusCode::TOO_MANY_REQUESTS {
            wait = wait
                .or_else(|| refusal.as_ref()?.wait())
                .or_else(|| heard.limits.wait());
        }
    }
    Signal {
        class,
        wait,
        limits: heard.limits.finish(),
    }
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
    /// Whether the server refused the request because of a limit, so that the same request can succeed later.
    ///
    /// So for 429 and 529; for 503 and 413 with an announced wait; for 403 with an announced wait or a dimension that is
    /// used up; and for any error with `x-should-retry: true`; unless [`is_terminal`](Self::is_terminal). Never for a
    /// status below 400: there nothing was refused, whatever else the response says.
    ///
    /// Whether the wait is worth it is another question: it may be a day.
    pub fn is_throttle(&self) -> bool {
        self.class == Class::Throttle
    }

    /// Whether the server refused the request for a reason that no wait cures: an unpaid or spent account, a request
    /// larger than the limit, or `x-should-retry: false`.
    ///
    /// Never for a status below 400, and never together with [`is_throttle`](Self::is_throttle).
    pub fn is_terminal(&self) -> bool {
        self.class == Class::Terminal
    }

    /// How long the server asks to wait, from the receipt of the response: rounded up to whole milliseconds, and at most
    /// 2^31 seconds.
    ///
    /// Zero if that time is past already, `None` if the server does not say. What header fields ask for is reported
    /// for every response, also for a redirection ([RFC 9110, section 10.2.3][rfc]); the waits that bodies and resets
    /// imply, only for a refusal.
    ///
    /// [rfc]: https://www.rfc-editor.org/rfc/rfc9110.html#section-10.2.3
    pub fn wait(&self) -> Option<Duration> {
        self.wait
    }

    /// What the response says about the server's quotas, in alphabetical order of their dimensions, each at most once.
    ///
    /// Of more than 32, the first 32.
    pub fn limits(&self) -> &[RateLimit] {
        self.limits.as_slice()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Class {
    /// No refusal, or one that is not about limits.
    #[default]
    Unrelated,
    Throttle,
    Terminal,
}

/// What the header fields of a response say, while they are read.
#[derive(Debug, Default)]
struct Heard {
    announced: Announced,
    limits: Limits,
    /// `x-should-retry`, where `false` wins.
    should_retry: Option<bool>,
}

impl Heard {
    /// Hears one header field, of a name in lower case.
    ///
    /// One pass over all fields, and not one look-up for each that could be there: most responses have a dozen, and none of
    /// ours.
    fn hear(&mut self, name: &str, value: &[u8], clock: &Clock<'_>) {
        let ([b'r', ..] | [b'x', b'-', ..]) = name.as_bytes() else {
            return;
        };
        match name {
            "retry-after" => self.announced.hear_retry_after(value, clock),
            "retry-after-ms" | "x-ms-retry-after-ms" | "x-amz-retry-after" => {
                self.announced.hear_milliseconds(value)
            }
            "x-should-retry" => self.hear_should_retry(value),
            _ => match Field::named(name) {
                Some(Field {
                    kind: Kind::RetryAfter,
                    ..
                }) => self.announced.hear_of_rate_limit(value),
                Some(field) => self.limits.hear(&field, value, clock),
                None => {}
            },
        }
    }

    fn hear_should_retry(&mut self, value: &[u8]) {
        let value = number::trim(value);
        if value.eq_ignore_ascii_case(b"false") {
            self.should_retry = Some(false);
        } else if value.eq_ignore_ascii_case(b"true") {
            self.should_retry = self.should_retry.or(Some(true));
        }
    }

    /// What kind of error this is.
    fn class(&self, status: StatusCode, refusal: Option<&Refusal>) -> Class {
        match self.should_retry {
            Some(true) => return Class::Throttle,
            Some(false) => return Class::Terminal,
            None => {}
        }
        if refusal.is_some_and(Refusal::is_terminal) {
            return Class::Terminal;
        }
        let asks_to_wait = || self.announced.wait().is_some();
        let is_throttle = match status.as_u16() {
            // RFC 6585, section 4, and "overloaded", as some APIs say
            429 | 529 => true,
            // RFC 9110, sections 15.5.14 and 15.6.4: without a wait, too large, or an outage.
            413 | 503 => asks_to_wait(),
            // GitHub refuses so when the quota is used up, but more often for want of a permission.
            403 => asks_to_wait() || self.limits.is_exhausted(),
            _ => false,
        };
        if is_throttle {
            Class::Throttle
        } else {
            Class::Unrelated
        }
    }
}

fn is_error(status: StatusCode) -> bool {
    status.as_u16() >= 400
}
