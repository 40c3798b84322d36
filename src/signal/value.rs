//! The values of the fields that tell about one dimension: counts, and the time until they are
//! renewed.

use super::{
    instant::{Clock, UnixNanos},
    limits::Reset,
    number::{self, MILLISECOND, Number, SECOND},
};

/// The largest integer that JSON and its relatives carry exactly, 2^53 - 1. What is above it is a
/// bug or a sentinel.
const MAX_COUNT: u64 = (1 << 53) - 1;

/// Reads a reset: a number of seconds or a point in time, whichever its magnitude suggests; a Go
/// duration; a date.
///
/// A number below 10^9 is seconds from now, below 10^11 seconds since 1970, below 10^14
/// milliseconds since 1970. Between 30 years from now and the year 2001, no value can mean two of
/// them.
///
/// `durations_are_to_full` says whether a Go duration is the time until a bucket is full again.
pub(super) fn reset(text: &[u8], durations_are_to_full: bool, clock: &Clock<'_>) -> Option<Reset> {
    let text = number::trim(text);
    // Nothing else ends so.
    if let Some(b's' | b'm' | b'h') = text.last() {
        let millis = number::go_duration(text).map(number::wait_millis)?;
        return Some(Reset::new(millis, durations_are_to_full));
    }
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
        return Some(Reset::at_once(delay));
    }
    clock.until_date(text).map(Reset::at_once)
}

/// Reads a delay in seconds.
pub(super) fn reset_after(text: &[u8]) -> Option<Reset> {
    let number = Number::parse(text)?;
    Some(Reset::at_once(number::wait(number.nanos(SECOND))))
}

/// Reads a limit: a whole number. A fraction is a rate (`0.02` per second) and not a count; a
/// negative limit is a sentinel.
pub(super) fn limit(text: &[u8]) -> Option<u64> {
    // Nearly always.
    if let Some(count) = number::short_integer(text) {
        return in_range(count);
    }
    match count(text)? {
        (Sign::Plus, number) if number.is_integral() => in_range(number.floor()),
        _ => None,
    }
}

/// Reads what remains, rounded down. Below -1 the quota is overdrawn, which is as good as used up;
/// -1 is a sentinel for "unknown".
pub(super) fn remaining(text: &[u8]) -> Option<u64> {
    if let Some(count) = number::short_integer(text) {
        return in_range(count);
    }
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

    fn millis_until(text: &str) -> Option<u64> {
        let headers = HeaderMap::new();
        let clock = Clock::new(&headers, SystemTime::UNIX_EPOCH + Duration::from_secs(NOW));
        let reset = reset(text.as_bytes(), false, &clock)?;
        Some(reset.delay().as_millis() as u64)
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
            assert_eq!(millis_until(text), Some(millis), "{text}");
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
            assert_eq!(millis_until(text), None, "{text}");
        }
    }

    #[test]
    fn a_delay_is_a_delay_whatever_its_size() {
        assert_eq!(
            reset_after(b"1000000000").map(Reset::delay),
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
            // The neighbours of the digits.
            ("/", None, None),
            (":", None, None),
            ("6:0", None, None),
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
        fn any_value_is_read_or_refused(value in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = (limit(&value), remaining(&value));
            let headers = HeaderMap::new();
            let clock = Clock::new(&headers, SystemTime::UNIX_EPOCH);
            for reset in [reset(&value, true, &clock), reset_after(&value)] {
                prop_assert!(reset.is_none_or(|reset| reset.delay() <= number::MAX_WAIT));
            }
        }
    }
}
