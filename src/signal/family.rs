//! The names and values of the `RateLimit-Limit`, `-Remaining` and `-Reset` header fields, in all
//! their spellings.
//!
//! `RateLimit-*` was named by [the first drafts of the IETF][draft], after the `X-RateLimit-*` and
//! `X-Rate-Limit-*` that servers already sent. A suffix names a dimension:
//! `x-ratelimit-remaining-tokens` ([OpenAI]).
//!
//! [draft]: https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-ratelimit-headers-03
//! [OpenAI]: https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers

use super::{
    instant::{Clock, UnixNanos},
    limits::{Precedence, Reset},
    number::{self, MILLISECOND, Number, SECOND},
};

/// The dimension of a field without a suffix.
pub(super) const DEFAULT_DIMENSION: &str = "default";

/// The largest integer that JSON and its relatives carry exactly, 2^53 - 1. What is above it is a
/// bug or a sentinel.
const MAX_COUNT: u64 = (1 << 53) - 1;

/// What one header field says something about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field<'a> {
    pub(super) kind: Kind,
    pub(super) dimension: &'a str,
    /// Whose word counts if the dimension has several spellings in one response.
    pub(super) precedence: Precedence,
    /// Whether a duration is the time until a bucket is full again, as in [OpenAI]'s fields.
    ///
    /// [OpenAI]: https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers
    tells_time_to_full: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Limit,
    Remaining,
    /// A delay or a date.
    Reset,
    /// A delay, whatever its size.
    ResetAfter,
    /// Not of a dimension, but a wait that was asked for.
    RetryAfter,
}

impl<'a> Field<'a> {
    /// Reads a field name in lower case, `[x-]rate[-]limit-{limit,remaining,reset}[-DIMENSION]` or
    /// one of its relatives.
    pub(super) fn named(name: &'a str) -> Option<Self> {
        let (vendor, bare) = name
            .strip_prefix("x-")
            .map_or((false, name), |bare| (true, bare));
        let rest = bare.strip_prefix("rate")?;
        let (hyphen, rest) = rest
            .strip_prefix('-')
            .map_or((false, rest), |rest| (true, rest));
        let rest = rest.strip_prefix("limit-")?;
        let precedence = match (vendor, hyphen) {
            (false, false) => Precedence::RateLimit,
            (true, false) => Precedence::XRateLimit,
            (_, true) => Precedence::XRateHyphenLimit,
        };
        let of_default = |kind, precedence| Self {
            kind,
            dimension: DEFAULT_DIMENSION,
            precedence,
            tells_time_to_full: false,
        };
        match rest {
            "retry-after" => return Some(of_default(Kind::RetryAfter, precedence)),
            // Needs no clock and no guess, so it is the best reset there is.
            "reset-after" => return Some(of_default(Kind::ResetAfter, Precedence::ResetAfter)),
            "resettime" => return Some(of_default(Kind::Reset, Precedence::ResetTime)),
            _ => {}
        }
        let (kind, suffix) = if let Some(suffix) = rest.strip_prefix("limit") {
            (Kind::Limit, suffix)
        } else if let Some(suffix) = rest.strip_prefix("remaining") {
            (Kind::Remaining, suffix)
        } else {
            (Kind::Reset, rest.strip_prefix("reset")?)
        };
        if suffix.is_empty() {
            return Some(of_default(kind, precedence));
        }
        let dimension = suffix
            .strip_prefix('-')
            .filter(|dimension| !dimension.is_empty())?;
        Some(Self {
            kind,
            dimension,
            precedence,
            tells_time_to_full: precedence == Precedence::XRateLimit,
        })
    }

    /// Reads a reset: a number of seconds or a point in time, whichever its magnitude suggests; a
    /// Go duration; a date.
    ///
    /// A number below 10^9 is seconds from now, below 10^11 seconds since 1970, below 10^14
    /// milliseconds since 1970. Between 30 years from now and the year 2001, no value can mean two
    /// of them.
    pub(super) fn reset(&self, text: &[u8], clock: &Clock<'_>) -> Option<Reset> {
        if let Some(number) = Number::parse(text) {
            let delay = match number.floor() {
                0..1_000_000_000 => number::wait(number.nanos(SECOND)),
                1_000_000_000..100_000_000_000 => {
                    clock.until(UnixNanos::after_epoch(number.nanos(SECOND)))
                }
                100_000_000_000..100_000_000_000_000 => {
                    clock.until(UnixNanos::after_epoch(number.nanos(MILLISECOND)))
                }
                _ => return None,
            };
            return Some(Reset {
                delay,
                to_full: false,
            });
        }
        if let Some(nanos) = number::go_duration(text) {
            return Some(Reset {
                delay: number::wait(nanos),
                to_full: self.tells_time_to_full,
            });
        }
        clock.until_date(text).map(|delay| Reset {
            delay,
            to_full: false,
        })
    }
}

/// Reads a delay in seconds.
pub(super) fn reset_after(text: &[u8]) -> Option<Reset> {
    let number = Number::parse(text)?;
    Some(Reset {
        delay: number::wait(number.nanos(SECOND)),
        to_full: false,
    })
}

/// Reads a limit: a whole number. A fraction is a rate (`0.02` per second) and not a count; a
/// negative limit is a sentinel.
pub(super) fn limit(text: &[u8]) -> Option<u64> {
    match count(text)? {
        (Sign::Plus, number) if number.is_integral() => in_range(number.floor()),
        _ => None,
    }
}

/// Reads what remains, rounded down. Below -1 the quota is overdrawn, which is as good as used up;
/// -1 is a sentinel for "unknown".
pub(super) fn remaining(text: &[u8]) -> Option<u64> {
    match count(text)? {
        (Sign::Plus, number) => in_range(number.floor()),
        (Sign::Minus, number) if number.floor() > 1 => Some(0),
        (Sign::Minus, number) => (number.floor() == 1 && !number.is_integral()).then_some(0),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    Plus,
    Minus,
}

fn count(text: &[u8]) -> Option<(Sign, Number)> {
    // Nearly always.
    if let Some(number) = Number::parse(text) {
        return Some((Sign::Plus, number));
    }
    let member = number::trim(first_member(text)?);
    let Some(negative) = member.strip_prefix(b"-") else {
        return Some((Sign::Plus, Number::parse(member)?));
    };
    match Number::split(negative)? {
        (number, []) => Some((Sign::Minus, number)),
        _ => None,
    }
}

fn in_range(count: u64) -> Option<u64> {
    (count <= MAX_COUNT).then_some(count)
}

/// The first member of `100, 100;w=60`, where the others are policies, without its own parameters.
///
/// A list without parameters is none: `5,000` must not become 5.
fn first_member(text: &[u8]) -> Option<&[u8]> {
    let Some(end) = text.iter().position(|byte| b",;".contains(byte)) else {
        return Some(text);
    };
    let (first, rest) = text.split_at(end);
    let mut others = rest.split(|&byte| byte == b',').skip(1);
    let is_list = rest.contains(&b',');
    (!is_list || others.any(|member| member.contains(&b';'))).then_some(first)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use http::HeaderMap;
    use proptest::prelude::*;

    use super::*;

    /// 2026-06-02 12:01:00 UTC.
    const NOW: u64 = 1_780_401_660;

    fn reset(name: &str, text: &str) -> Option<(u64, bool)> {
        let headers = HeaderMap::new();
        let clock = Clock::new(&headers, SystemTime::UNIX_EPOCH + Duration::from_secs(NOW));
        let reset = Field::named(name)
            .expect("a field")
            .reset(text.as_bytes(), &clock)?;
        Some((reset.delay.as_millis() as u64, reset.to_full))
    }

    #[test]
    fn every_spelling_is_a_field() {
        use Precedence::{RateLimit, ResetAfter, ResetTime, XRateHyphenLimit, XRateLimit};
        for (name, kind, dimension, precedence) in [
            ("ratelimit-limit", Kind::Limit, "default", RateLimit),
            ("ratelimit-resettime", Kind::Reset, "default", ResetTime),
            (
                "x-ratelimit-remaining",
                Kind::Remaining,
                "default",
                XRateLimit,
            ),
            ("x-ratelimit-reset", Kind::Reset, "default", XRateLimit),
            (
                "x-ratelimit-reset-after",
                Kind::ResetAfter,
                "default",
                ResetAfter,
            ),
            (
                "x-ratelimit-retry-after",
                Kind::RetryAfter,
                "default",
                XRateLimit,
            ),
            (
                "x-rate-limit-reset",
                Kind::Reset,
                "default",
                XRateHyphenLimit,
            ),
            ("rate-limit-limit", Kind::Limit, "default", XRateHyphenLimit),
            (
                "x-ratelimit-limit-requests",
                Kind::Limit,
                "requests",
                XRateLimit,
            ),
            (
                "x-ratelimit-remaining-tokens_usage_based",
                Kind::Remaining,
                "tokens_usage_based",
                XRateLimit,
            ),
            (
                "x-ratelimit-reset-tokens-minute",
                Kind::Reset,
                "tokens-minute",
                XRateLimit,
            ),
            (
                "x-rate-limit-reset-tokens",
                Kind::Reset,
                "tokens",
                XRateHyphenLimit,
            ),
        ] {
            let field = Field::named(name).expect(name);
            assert_eq!(
                (field.kind, field.dimension, field.precedence),
                (kind, dimension, precedence),
                "{name}"
            );
        }
    }

    #[test]
    fn lookalikes_are_no_fields() {
        for name in [
            "",
            "x-",
            "x-rate",
            "ratelimit",
            "x-ratelimit",
            "ratelimit-",
            "x-rate-limit",
            "x-ratelimit-limited",
            "x-ratelimit-resettable",
            "x-ratelimit-remainingish",
            "not-x-ratelimit-reset",
            "x-ratelimit-limit-",
            "x-ratelimit-used",
            "x-ratelimit-resource",
            "x-ratelimit-bucket",
            "ratelimit-policy",
            "ratelimit-observed",
            "x-ratelimit-tokens-query-cost",
            "x--ratelimit-limit",
            "x-rate--limit-limit",
        ] {
            assert_eq!(Field::named(name), None, "{name}");
        }
    }

    #[test]
    fn a_reset_is_read_by_its_magnitude() {
        for (text, millis) in [
            ("0", 0),
            ("64", 64_000),
            ("0.5", 500),
            ("33011.382867", 33_011_383),
            ("999999999", 999_999_999_000),
            ("1000000000", 0),
            ("1780401660", 0),
            ("1780401661", 1_000),
            ("1780401661.0001", 1_001),
            ("99999999999", 2_147_483_648_000),
            ("100000000000", 0),
            ("1780401660123", 123),
            ("99999999999999", 2_147_483_648_000),
            ("1m30s", 90_000),
            ("2026-06-02T12:01:30Z", 30_000),
            ("2026-06-02T12:01Z", 0),
            ("Tue, 02 Jun 2026 12:01:42 GMT", 42_000),
        ] {
            assert_eq!(
                reset("x-ratelimit-reset", text),
                Some((millis, false)),
                "{text}"
            );
        }
        for text in [
            "",
            "-1",
            "+5s",
            "-1m30s",
            "ms",
            "NaN",
            "1e9",
            "60 seconds",
            "600000 (in milliseconds)",
            "2026-06-03",
            "100000000000000",
            "1780401660123456",
            "99999999999999999999999",
            "18446744073709551615",
            "REDACTED",
        ] {
            assert_eq!(reset("x-ratelimit-reset", text), None, "{text}");
        }
    }

    #[test]
    fn only_a_go_duration_of_a_named_dimension_is_the_time_to_a_full_bucket() {
        assert_eq!(
            reset("x-ratelimit-reset-tokens", "6m0s"),
            Some((360_000, true))
        );
        assert_eq!(
            reset("x-ratelimit-reset-tokens", "360"),
            Some((360_000, false))
        );
        assert_eq!(reset("x-ratelimit-reset", "6m0s"), Some((360_000, false)));
        assert_eq!(
            reset("x-rate-limit-reset-tokens", "6m0s"),
            Some((360_000, false))
        );
    }

    #[test]
    fn a_delay_is_a_delay_whatever_its_size() {
        assert_eq!(
            reset_after(b"1000000000").map(|reset| reset.delay),
            Some(Duration::from_secs(1_000_000_000))
        );
        assert_eq!(reset_after(b"1m"), None);
    }

    #[test]
    fn counts_are_read_strictly() {
        for (text, expected_limit, expected_remaining) in [
            ("0", Some(0), Some(0)),
            ("5000", Some(5_000), Some(5_000)),
            (" 60 ", Some(60), Some(60)),
            ("599.0", Some(599), Some(599)),
            ("0.5", None, Some(0)),
            ("1999.9", None, Some(1_999)),
            ("-0", None, None),
            ("-1", None, None),
            ("-1.0", None, None),
            ("-1.5", None, Some(0)),
            ("-27689", None, Some(0)),
            ("-99999999999999999999999", None, Some(0)),
            ("- 5", None, None),
            ("--5", None, None),
            ("-5x", None, None),
            (
                "9007199254740991",
                Some(9_007_199_254_740_991),
                Some(9_007_199_254_740_991),
            ),
            ("9007199254740992", None, None),
            ("18446744073709551615", None, None),
            ("100;w=60", Some(100), Some(100)),
            ("100 ;w=60", Some(100), Some(100)),
            ("10, 10;w=1, 100;w=60", Some(10), Some(10)),
            ("5,000", None, None),
            ("5,", None, None),
            ("100;w=60, 5", None, None),
            (",5;w=1", None, None),
            ("", None, None),
            (";", None, None),
            ("1e3", None, None),
            ("NaN", None, None),
            ("REDACTED", None, None),
        ] {
            assert_eq!(limit(text.as_bytes()), expected_limit, "limit {text}");
            assert_eq!(
                remaining(text.as_bytes()),
                expected_remaining,
                "remaining {text}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_name_and_value_is_read_or_refused(
            name in "(x-)?rate-?limit-.{0,24}",
            value in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let _ = (limit(&value), remaining(&value), reset_after(&value));
            let Some(field) = Field::named(&name) else { return Ok(()) };
            let headers = HeaderMap::new();
            let reset = field.reset(&value, &Clock::new(&headers, SystemTime::UNIX_EPOCH));
            prop_assert!(reset.is_none_or(|reset| reset.delay <= number::MAX_WAIT));
        }
    }
}
