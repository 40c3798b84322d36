//! Numbers as servers write them, read exactly: no floating point, no overflow.

use std::time::Duration;

/// The longest wait that is ever reported: 2^31 seconds.
///
/// The ceiling that [RFC 9111, section 1.2.2][rfc] sets for delta-seconds. What is longer is not
/// ignored but means "very long".
///
/// [rfc]: https://www.rfc-editor.org/rfc/rfc9111.html#section-1.2.2
pub(super) const MAX_WAIT: Duration = Duration::from_secs(1 << 31);

pub(super) const MILLISECOND: u64 = 1_000_000;
pub(super) const SECOND: u64 = 1_000 * MILLISECOND;
pub(super) const MINUTE: u64 = 60 * SECOND;
pub(super) const HOUR: u64 = 60 * MINUTE;

/// The 18 digits of a fraction that are kept; what is behind them is rounded up.
const MAX_SCALE: u64 = 10_u64.pow(18);

/// `1*DIGIT [ "." 1*DIGIT ]` and nothing else: no sign, exponent, `inf`, `.5`, `5.`, or separators.
///
/// [RFC 9110, section 10.2.3](https://www.rfc-editor.org/rfc/rfc9110.html#section-10.2.3) knows
/// whole seconds only, but several servers send fractions. `f64` would read more than this (`+1`,
/// `NaN`, `1e400`), and less exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number {
    /// Saturates.
    whole: u64,
    /// In units of `1 / scale`; at most `scale`.
    fraction: u64,
    /// A power of ten, at most [`MAX_SCALE`].
    scale: u64,
}

impl Number {
    /// Reads a number that is the whole text, but for spaces and tabs around it.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        match Self::split(trim(text))? {
            (number, []) => Some(number),
            _ => None,
        }
    }

    /// Reads the number at the beginning of `text`, and returns it with what follows.
    pub(super) fn split(text: &[u8]) -> Option<(Self, &[u8])> {
        let (whole, rest) = split_integer(text)?;
        let fraction = rest.strip_prefix(b".").and_then(split_fraction);
        let (fraction, scale, rest) = fraction.unwrap_or((0, 1, rest));
        let number = Self {
            whole,
            fraction,
            scale,
        };
        Some((number, rest))
    }

    /// Without the fraction; `u64::MAX` also stands for anything larger.
    pub(super) fn floor(self) -> u64 {
        self.whole
    }

    pub(super) fn is_integral(self) -> bool {
        self.fraction == 0
    }

    /// This number of `unit`s, each of so many nanoseconds and none longer than an hour, in
    /// nanoseconds, rounded up.
    pub(super) fn nanos(self, unit: u64) -> u128 {
        let whole = u128::from(self.whole) * u128::from(unit);
        // At most 2^64 hours, which is below 2^107 ns.
        whole + u128::from(self.fraction_nanos(unit))
    }

    fn fraction_nanos(self, unit: u64) -> u64 {
        // Most numbers are integers, and every division is slow; that by a `u128` most of all.
        if self.fraction == 0 {
            return 0;
        }
        if let Some(product) = self.fraction.checked_mul(unit) {
            return product.div_ceil(self.scale);
        }
        let product = u128::from(self.fraction) * u128::from(unit);
        // At most `unit`, since the fraction is at most one.
        u64::try_from(product.div_ceil(u128::from(self.scale))).unwrap_or(unit)
    }
}

/// Reads a duration as Go's `time.Duration` prints it, such as `6m0s`, `1h2m3.5s` or `12ms`, in
/// nanoseconds.
///
/// As [`time.ParseDuration`](https://pkg.go.dev/time#ParseDuration), but without signs, and with
/// digits on both sides of a decimal point.
pub(super) fn go_duration(text: &[u8]) -> Option<u128> {
    match split_go_duration(trim(text))? {
        (nanos, []) => Some(nanos),
        _ => None,
    }
}

/// Reads the Go duration at the beginning of `text`, and returns it with what follows.
pub(super) fn split_go_duration(text: &[u8]) -> Option<(u128, &[u8])> {
    let mut total = None;
    let mut rest = text;
    while let Some((nanos, after)) = split_go_term(rest) {
        total = Some(total.map_or(nanos, |total: u128| total.saturating_add(nanos)));
        rest = after;
    }
    Some((total?, rest))
}

fn split_go_term(text: &[u8]) -> Option<(u128, &[u8])> {
    let (number, rest) = Number::split(text)?;
    // Bytes, since a header value need not be text: the two micro signs are U+00B5 and U+03BC in
    // UTF-8.
    match rest {
        [b'n', b's', rest @ ..] => Some((number.nanos(1), rest)),
        [b'u', b's', rest @ ..] | [0xC2, 0xB5, b's', rest @ ..] | [0xCE, 0xBC, b's', rest @ ..] => {
            Some((number.nanos(1_000), rest))
        }
        [b'm', b's', rest @ ..] => Some((number.nanos(MILLISECOND), rest)),
        [b's', rest @ ..] => Some((number.nanos(SECOND), rest)),
        [b'm', rest @ ..] => Some((number.nanos(MINUTE), rest)),
        [b'h', rest @ ..] => Some((number.nanos(HOUR), rest)),
        _ => None,
    }
}

/// A wait of so many nanoseconds: rounded up to whole milliseconds, and at most [`MAX_WAIT`].
pub(super) fn wait(nanos: u128) -> Duration {
    Duration::from_millis(wait_millis(nanos))
}

/// The same in milliseconds.
pub(super) fn wait_millis(nanos: u128) -> u64 {
    const MAX: u64 = MAX_WAIT.as_secs() * 1_000;
    // 2^64 ns are 584 years.
    u64::try_from(nanos).map_or(MAX, |nanos| nanos.div_ceil(MILLISECOND).min(MAX))
}

/// Without the optional whitespace of HTTP, space and tab, at both ends.
pub(super) fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// Reads a number of digits so few that it can have no overflow, and nothing else.
pub(super) fn short_integer(text: &[u8]) -> Option<u64> {
    if !(1..=19).contains(&text.len()) {
        return None;
    }
    text.iter().try_fold(0, |value, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then(|| value * 10 + u64::from(digit))
    })
}

/// The value saturates.
fn split_integer(text: &[u8]) -> Option<(u64, &[u8])> {
    let (mut value, mut rest) = (0_u64, text);
    while let [digit @ b'0'..=b'9', after @ ..] = rest {
        value = value
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'));
        rest = after;
    }
    (rest.len() < text.len()).then_some((value, rest))
}

/// The digits as a number, and how many of it are one.
fn split_fraction(text: &[u8]) -> Option<(u64, u64, &[u8])> {
    let (mut value, mut scale, mut rest) = (0, 1, text);
    let mut rounded_up = 0;
    while let [digit @ b'0'..=b'9', after @ ..] = rest {
        if scale < MAX_SCALE {
            value = value * 10 + u64::from(digit - b'0');
            scale *= 10;
        } else if *digit != b'0' {
            rounded_up = 1;
        }
        rest = after;
    }
    (rest.len() < text.len()).then_some((value + rounded_up, scale, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(text: &[u8]) -> Option<Duration> {
        Number::parse(text).map(|number| wait(number.nanos(SECOND)))
    }

    #[test]
    fn a_number_is_digits_and_perhaps_a_fraction() {
        let nines = "9".repeat(4_096);
        let zeros = format!("{}5", "0".repeat(4_096));
        let long_fraction = format!("1.{}1", "0".repeat(4_096));
        for (text, millis) in [
            ("0", 0),
            ("0.0", 0),
            ("7", 7_000),
            ("007", 7_000),
            (" \t42\t ", 42_000),
            ("0.25", 250),
            ("61.5", 61_500),
            ("1.319999999", 1_320),
            ("0.0000001", 1),
            ("0.0000000000000000000000001", 1),
            (&long_fraction, 1_001),
            ("0.999999999999999999999999999", 1_000),
            (&zeros, 5_000),
            ("2147483647", 2_147_483_647_000),
            ("2147483647.9999", 2_147_483_648_000),
            ("2147483648", 2_147_483_648_000),
            ("2147483649", 2_147_483_648_000),
            ("18446744073709551615", 2_147_483_648_000),
            ("18446744073709551616", 2_147_483_648_000),
            (&nines, 2_147_483_648_000),
        ] {
            assert_eq!(
                seconds(text.as_bytes()),
                Some(Duration::from_millis(millis)),
                "{text}"
            );
        }
    }

    #[test]
    fn eighteen_digits_of_a_fraction_are_kept() {
        for (text, fraction, scale) in [
            ("0.5", 5, 10),
            ("0.123456789012345678", 123_456_789_012_345_678, MAX_SCALE),
            ("0.1234567890123456780", 123_456_789_012_345_678, MAX_SCALE),
            ("0.1234567890123456781", 123_456_789_012_345_679, MAX_SCALE),
            ("0.9999999999999999999", MAX_SCALE, MAX_SCALE),
        ] {
            let number = Number::parse(text.as_bytes()).expect("a number");
            assert_eq!((number.fraction, number.scale), (fraction, scale), "{text}");
        }
    }

    #[test]
    fn nothing_else_is_a_number() {
        for text in [
            "", " ", "-1", "-0", "+1", "+1.5", ".5", "5.", ".", "1..5", "1.5.2", "1e9", "1e400",
            "1_000", "1,5", "1 20", "0x10", "inf", "Infinity", "NaN", "nan", "120s", "10;q=1",
            "१२",
        ] {
            assert_eq!(Number::parse(text.as_bytes()), None, "{text}");
        }
        for bytes in [&b"\xB2"[..], b"\xFF\xFE", b"1\x00", b"\xEF\xBC\x91"] {
            assert_eq!(Number::parse(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn go_durations_are_exact() {
        for (text, nanos) in [
            ("6m0s", 360_000_000_000),
            ("1s", 1_000_000_000),
            ("12ms", 12_000_000),
            ("0s", 0),
            ("4h43m36.314s", 17_016_314_000_000),
            ("1h2m3.5s", 3_723_500_000_000),
            ("1.319999999s", 1_319_999_999),
            ("1.5h", 5_400_000_000_000),
            ("9us", 9_000),
            ("9µs", 9_000),
            ("9μs", 9_000),
            ("3ns", 3),
            ("0.1ns", 1),
            ("1s1s", 2_000_000_000),
            (" 20s\t", 20_000_000_000),
        ] {
            assert_eq!(go_duration(text.as_bytes()), Some(nanos), "{text}");
        }
        for text in [
            "",
            "5",
            "ms",
            "-1m30s",
            "+5s",
            "1d",
            "1 s",
            "1s ago",
            ".5s",
            "5.s",
            "1m30",
            "1S",
            "1\u{b5}",
            "60 seconds",
        ] {
            assert_eq!(go_duration(text.as_bytes()), None, "{text}");
        }
        assert_eq!(
            go_duration(b"9\xB5s"),
            None,
            "a micro sign that is not UTF-8"
        );
    }

    #[test]
    fn the_longest_go_duration_saturates() {
        let endless = "18446744073709551615h".repeat(1_000);
        assert_eq!(go_duration(endless.as_bytes()).map(wait), Some(MAX_WAIT));
    }

    #[test]
    fn what_follows_is_left() {
        assert_eq!(
            split_go_duration(b"6m0s. Visit"),
            Some((360_000_000_000, &b". Visit"[..]))
        );
        assert_eq!(split_go_duration(b"5 seconds"), None);
        let (number, rest) = Number::split(b"5. Visit").expect("a number");
        assert_eq!((number.floor(), rest), (5, &b". Visit"[..]));
    }

    proptest! {
        #[test]
        fn any_duration_in_millis_is_read_back(
            millis in 0_u64..=2_147_483_648_000,
            zeros in "0{0,40}",
        ) {
            let text = format!("{zeros}{}.{:03}{zeros}", millis / 1_000, millis % 1_000);
            prop_assert_eq!(seconds(text.as_bytes()), Some(Duration::from_millis(millis)));
        }

        #[test]
        fn a_wait_is_never_shorter_than_written(
            whole in 0_u64..1 << 31,
            nanos in 0_u32..1_000_000_000,
        ) {
            let asked = Duration::new(whole, nanos);
            let read = seconds(format!("{whole}.{nanos:09}").as_bytes()).expect("a number");
            prop_assert!(asked <= read, "{:?} for {:?}", read, asked);
            prop_assert!(read < asked + Duration::from_millis(1), "{:?} for {:?}", read, asked);
        }

        #[test]
        fn any_go_duration_is_read_back(
            hours in 0_u64..50_000,
            minutes in 0_u64..60,
            nanos in 0_u64..MINUTE,
        ) {
            let text = format!("{hours}h{minutes}m{}.{:09}s", nanos / SECOND, nanos % SECOND);
            let written = hours * HOUR + minutes * MINUTE + nanos;
            prop_assert_eq!(go_duration(text.as_bytes()), Some(u128::from(written)));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Number::parse(&bytes);
            if let Some(nanos) = go_duration(&bytes) {
                prop_assert!(wait(nanos) <= MAX_WAIT);
            }
        }
    }
}
