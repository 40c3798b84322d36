//! How a server says what its limit knows: header fields.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio::time::Instant;

use crate::limit::{Limit, Standing, Unit};

/// What a server tells its clients; nothing by default.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Hints {
    /// In refusals: when to come back.
    pub retry_after: Option<RetryAfter>,
    /// In every answer: what is left.
    pub fields: Option<Fields>,
    /// What the fields of a quota that comes back bit by bit mean by its reset.
    pub reset: Reset,
    /// The server's clock, if its answers have a `Date`. Needed for dates and Unix
    /// times, without which they are not sent.
    pub clock: Option<WallClock>,
}

/// How a refusal says when to come back, if the server knows it. All but
/// milliseconds are rounded up to whole seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RetryAfter {
    /// `Retry-After` in seconds, this share of the true time.
    Seconds(f64),
    /// `retry-after-ms`, this share of the true time.
    Millis(f64),
    /// `Retry-After` in seconds and `retry-after-ms`, as OpenAI has it.
    Both,
    /// `Retry-After` with an HTTP-date.
    Date,
    /// `Retry-After` with so many seconds, whatever the limit.
    Constant(u32),
}

/// The header fields that say what is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fields {
    /// `RateLimit-Policy: "default";q=100;w=10` and `RateLimit: "default";r=7;t=3`,
    /// as the IETF draft has them.
    Structured,
    /// `RateLimit-Limit`, `-Remaining` and `-Reset`, in seconds.
    Seconds,
    /// `X-RateLimit-Limit`, `-Remaining` and `-Reset`, the Unix time.
    UnixTime,
    /// `x-ratelimit-limit-requests` and so on, with durations as Go prints them.
    GoDurations,
}

/// Until when a reset is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reset {
    /// Until all of the limit can be had.
    #[default]
    Full,
    /// Until one more unit can be had.
    Next,
}

/// A server's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WallClock {
    began: Instant,
    unix: Duration,
}

impl WallClock {
    /// One that shows the Unix time `unix` at the instant `began`.
    pub fn new(began: Instant, unix: Duration) -> Self {
        Self { began, unix }
    }

    fn unix(&self, now: Instant) -> Duration {
        self.unix + now.saturating_duration_since(self.began)
    }
}

impl Hints {
    /// What OpenAI tells.
    pub const OPENAI: Self = Self {
        retry_after: Some(RetryAfter::Both),
        fields: Some(Fields::GoDurations),
        reset: Reset::Full,
        clock: None,
    };

    /// The header fields of an answer; `refused` are the tokens of a request that
    /// was refused just now.
    pub fn headers(&self, limit: &dyn Limit, refused: Option<u32>, now: Instant) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(clock) = self.clock {
            insert(&mut headers, header::DATE, http_date(clock.unix(now)));
        }
        if let Some(fields) = self.fields {
            self.write_fields(fields, &limit.standings(now), &mut headers, now);
        }
        if let (Some(retry_after), Some(tokens)) = (self.retry_after, refused) {
            self.write_wait(retry_after, limit.wait(tokens, now), &mut headers, now);
        }
        headers
    }

    fn write_wait(
        &self,
        retry_after: RetryAfter,
        wait: Option<Duration>,
        headers: &mut HeaderMap,
        now: Instant,
    ) {
        const MILLIS: HeaderName = HeaderName::from_static("retry-after-ms");
        if let RetryAfter::Constant(seconds) = retry_after {
            insert(headers, header::RETRY_AFTER, seconds.to_string());
        }
        let Some(wait) = wait else { return };
        match retry_after {
            RetryAfter::Seconds(ratio) => {
                let seconds = whole_seconds(wait.mul_f64(ratio));
                insert(headers, header::RETRY_AFTER, seconds.to_string());
            }
            RetryAfter::Millis(ratio) => {
                let millis = whole_millis(wait.mul_f64(ratio));
                insert(headers, MILLIS, millis.to_string());
            }
            RetryAfter::Both => {
                let millis = whole_millis(wait);
                insert(
                    headers,
                    header::RETRY_AFTER,
                    millis.div_ceil(1000).to_string(),
                );
                insert(headers, MILLIS, millis.to_string());
            }
            RetryAfter::Date => {
                if let Some(clock) = self.clock {
                    let seconds = whole_seconds(clock.unix(now) + wait);
                    let date = http_date(Duration::from_secs(seconds));
                    insert(headers, header::RETRY_AFTER, date);
                }
            }
            RetryAfter::Constant(_) => {}
        }
    }

    fn write_fields(
        &self,
        fields: Fields,
        standings: &[Standing],
        headers: &mut HeaderMap,
        now: Instant,
    ) {
        let reset = |standing: &Standing| match self.reset {
            Reset::Full => standing.reset,
            Reset::Next => standing.next,
        };
        let is_one = standings.len() == 1;
        match fields {
            Fields::Structured => {
                let policy = standings.iter().map(|s| {
                    let name = item(s.unit, is_one);
                    let policy = format!(r#""{name}";q={}"#, s.limit);
                    if s.window.subsec_nanos() > 0 {
                        // The draft has no word for it.
                        return policy;
                    }
                    format!("{policy};w={}", s.window.as_secs())
                });
                let left = standings.iter().map(|s| {
                    let (name, reset) = (item(s.unit, is_one), whole_seconds(reset(s)));
                    format!(r#""{name}";r={};t={reset}"#, s.remaining)
                });
                let (policy, left): (Vec<_>, Vec<_>) = policy.zip(left).unzip();
                if !policy.is_empty() {
                    insert(headers, "ratelimit-policy", policy.join(", "));
                    insert(headers, "ratelimit", left.join(", "));
                }
            }
            Fields::Seconds => {
                for standing in standings {
                    let reset = whole_seconds(reset(standing)).to_string();
                    write_triple(headers, "ratelimit", standing, !is_one, reset);
                }
            }
            Fields::UnixTime => {
                for (standing, clock) in standings.iter().zip(self.clock.iter().cycle()) {
                    let reset = whole_seconds(clock.unix(now) + reset(standing)).to_string();
                    write_triple(headers, "x-ratelimit", standing, !is_one, reset);
                }
            }
            Fields::GoDurations => {
                for standing in standings {
                    let reset = go_duration(reset(standing));
                    write_triple(headers, "x-ratelimit", standing, true, reset);
                }
            }
        }
    }
}

fn write_triple(
    headers: &mut HeaderMap,
    prefix: &str,
    standing: &Standing,
    is_named: bool,
    reset: String,
) {
    let suffix = match standing.unit {
        _ if !is_named => "",
        Unit::Requests => "-requests",
        Unit::Tokens => "-tokens",
    };
    for (fact, value) in [
        ("limit", standing.limit.to_string()),
        ("remaining", standing.remaining.to_string()),
        ("reset", reset),
    ] {
        let name = HeaderName::try_from(format!("{prefix}-{fact}{suffix}"));
        insert(
            headers,
            name.expect("our names are lower-case ASCII"),
            value,
        );
    }
}

/// The name of an item of the structured fields.
fn item(unit: Unit, is_one: bool) -> &'static str {
    match unit {
        _ if is_one => "default",
        Unit::Requests => "requests",
        Unit::Tokens => "tokens",
    }
}

fn insert(headers: &mut HeaderMap, name: impl http::header::IntoHeaderName, value: String) {
    let value = HeaderValue::try_from(value).expect("our numbers and units are visible ASCII");
    headers.insert(name, value);
}

/// A date has whole seconds: the last one that has passed.
fn http_date(unix: Duration) -> String {
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + unix)
}

/// A duration as Go prints it, in milliseconds rounded up: `12ms`, `1.2s`, `6m0s`,
/// `4h43m36.314s`.
pub(crate) fn go_duration(duration: Duration) -> String {
    let millis = whole_millis(duration);
    if (1..1000).contains(&millis) {
        return format!("{millis}ms");
    }
    let (minutes, millis) = (millis / 60_000, millis % 60_000);
    let seconds = format!("{}.{:03}", millis / 1000, millis % 1000);
    let seconds = seconds.trim_end_matches('0').trim_end_matches('.');
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// Rounded up: a client must not come back early for our rounding.
pub(crate) fn whole_millis(duration: Duration) -> u128 {
    duration.as_nanos().div_ceil(1_000_000)
}

/// Rounded up, likewise.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests;
