//! Points in time as servers write them, and the clock that they are measured against.

use std::{
    cell::OnceCell,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, header};
use jiff::{
    Timestamp, ToSpan,
    civil::{self, DateTime},
    fmt::{strtime::BrokenDownTime, temporal::Pieces},
    tz::Offset,
};

use super::number::{self, SECOND};

/// No date is longer than this; whatever is, need not be looked at.
const MAX_LENGTH: usize = 64;

/// Nanoseconds since 1970-01-01 00:00:00 UTC; wide enough that no date overflows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct UnixNanos(i128);

impl UnixNanos {
    /// As many nanoseconds after the epoch; saturates.
    pub(super) fn after_epoch(nanos: u128) -> Self {
        Self(i128::try_from(nanos).unwrap_or(i128::MAX))
    }

    fn of_civil(utc: DateTime) -> Self {
        const EPOCH: DateTime = civil::datetime(1970, 1, 1, 0, 0, 0, 0);
        Self(utc.duration_since(EPOCH).as_nanos())
    }

    fn plus_seconds(self, seconds: i32) -> Self {
        Self(
            self.0
                .saturating_add(i128::from(seconds) * i128::from(SECOND)),
        )
    }
}

impl From<SystemTime> for UnixNanos {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => Self::after_epoch(after.as_nanos()),
            Err(before) => Self(-Self::after_epoch(before.duration().as_nanos()).0),
        }
    }
}

/// The clock of one response: its own `Date`, so that a wrong clock on our side does no harm;
/// without a readable one, the time at which it was received.
///
/// Looked up when the first date has to be measured: most responses announce no date at all.
#[derive(Debug)]
pub(super) struct Clock<'a> {
    headers: &'a HeaderMap,
    now: SystemTime,
    base: OnceCell<UnixNanos>,
}

impl<'a> Clock<'a> {
    pub(super) fn new(headers: &'a HeaderMap, now: SystemTime) -> Self {
        Self {
            headers,
            now,
            base: OnceCell::new(),
        }
    }

    /// Reads a date and returns how long it is ahead: zero if it is past, `None` if it is no date.
    pub(super) fn until_date(&self, text: &[u8]) -> Option<Duration> {
        parse(text, self.base()).map(|instant| self.until(instant))
    }

    /// How long `instant` is ahead; zero if it is past.
    pub(super) fn until(&self, instant: UnixNanos) -> Duration {
        let ahead = instant.0.saturating_sub(self.base().0);
        number::wait(u128::try_from(ahead).unwrap_or(0))
    }

    fn base(&self) -> UnixNanos {
        *self.base.get_or_init(|| {
            let now = UnixNanos::from(self.now);
            // Of several, the earliest: a wait is rather too long than too short.
            let dates = self.headers.get_all(header::DATE).iter();
            dates
                .filter_map(|date| parse(date.as_bytes(), now))
                .min()
                .unwrap_or(now)
        })
    }
}

/// Reads a date of any kind that servers send: the three forms of an HTTP-date ([RFC 9110, section
/// 5.6.7][http]), and [RFC 3339][rfc3339], there also without seconds or zone. A weekday that
/// contradicts the date is ignored.
///
/// `now` decides the century of a two-digit year.
///
/// [http]: https://www.rfc-editor.org/rfc/rfc9110.html#section-5.6.7
/// [rfc3339]: https://www.rfc-editor.org/rfc/rfc3339.html#section-5.6
fn parse(text: &[u8], now: UnixNanos) -> Option<UnixNanos> {
    let text = number::trim(text);
    if text.len() > MAX_LENGTH {
        return None;
    }
    let instant = if text.first()?.is_ascii_digit() {
        rfc3339(text)
    } else {
        match text.iter().position(|&byte| byte == b',') {
            None => asctime(text),
            Some(3) => imf_fixdate(text),
            Some(_) => rfc850(text, now),
        }
    }?;
    // A leap second is read as the second before it. It is over a second later, and a wait must not
    // end early.
    let is_leap = text.windows(3).any(|three| three == b":60");
    Some(instant.plus_seconds(i32::from(is_leap)))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, and the day `6`, and the zones `UTC`, `UT`, `-0000` or `+0200`.
fn imf_fixdate(text: &[u8]) -> Option<UnixNanos> {
    let (civil, zone) = split_zone(text)?;
    let civil = civil_time("%a, %d %b %Y %H:%M:%S", civil)?;
    let ahead_of_utc = match zone {
        [b'+' | b'-', _, _, _, _] => BrokenDownTime::parse("%z", zone).ok()?.offset()?,
        _ if is_utc(zone) => Offset::UTC,
        _ => return None,
    };
    in_utc(civil.to_datetime().ok()?, ahead_of_utc)
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`: the latest year with these digits that is not more than 50
/// years ahead.
fn rfc850(text: &[u8], now: UnixNanos) -> Option<UnixNanos> {
    let (civil, zone) = split_zone(text)?;
    if !is_utc(zone) {
        return None;
    }
    let mut civil = civil_time("%A, %d-%b-%y %H:%M:%S", civil)?;
    let digits = civil.year()?.rem_euclid(100);
    let now = Timestamp::from_nanosecond(now.0).ok()?;
    let latest = Offset::UTC.to_datetime(now).checked_add(50.years()).ok()?;
    let century = latest.year() - latest.year().rem_euclid(100);
    let mut in_century = |century: i16| {
        civil.set_year(Some(century + digits)).ok()?;
        civil.to_datetime().ok().filter(|&date| date <= latest)
    };
    in_century(century)
        .or_else(|| in_century(century - 100))
        .map(UnixNanos::of_civil)
}

/// `Sun Nov  6 08:49:37 1994`, always in UTC.
fn asctime(text: &[u8]) -> Option<UnixNanos> {
    let civil = civil_time("%a %b %e %H:%M:%S %Y", text)?;
    civil.to_datetime().ok().map(UnixNanos::of_civil)
}

/// `1994-11-06T08:49:37.123Z`; with a space for the `T`, without seconds, without a zone (then in
/// UTC).
fn rfc3339(text: &[u8]) -> Option<UnixNanos> {
    // The parser knows all of ISO 8601. The shape keeps out what nobody means here: dates alone,
    // hours alone, names of time zones.
    let is_shaped = matches!(
        text,
        [
            _,
            _,
            _,
            _,
            b'-',
            _,
            _,
            b'-',
            _,
            _,
            b'T' | b't' | b' ',
            _,
            _,
            b':',
            ..
        ]
    );
    if !is_shaped || text.contains(&b'[') {
        return None;
    }
    let pieces = Pieces::parse(text).ok()?;
    let civil = pieces.date().to_datetime(pieces.time()?);
    in_utc(civil, pieces.to_numeric_offset().unwrap_or(Offset::UTC))
}

fn civil_time(format: &str, text: &[u8]) -> Option<BrokenDownTime> {
    let mut time = BrokenDownTime::parse(format, text).ok()?;
    time.set_weekday(None);
    // Fewer digits, or a sign, are not the year that they seem to be.
    time.year()
        .is_some_and(|year| year >= 1_000)
        .then_some(time)
}

/// In jiff, neither a `Timestamp` nor a civil time in UTC reaches the end of the year 9999, and an
/// offset may have more than 23 hours. Hence the subtraction here.
fn in_utc(civil: DateTime, ahead_of_utc: Offset) -> Option<UnixNanos> {
    let seconds = ahead_of_utc.seconds();
    (seconds.abs() < 24 * 60 * 60).then(|| UnixNanos::of_civil(civil).plus_seconds(-seconds))
}

fn split_zone(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = text.iter().rposition(|&byte| byte == b' ')?;
    let (civil, zone) = text.split_at(space);
    Some((civil, number::trim(zone)))
}

/// Other names (`PST`) are not guessed at.
fn is_utc(zone: &[u8]) -> bool {
    [&b"GMT"[..], b"UTC", b"UT"]
        .iter()
        .any(|name| zone.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn unix(text: &str) -> UnixNanos {
        UnixNanos(
            text.parse::<Timestamp>()
                .expect("a timestamp")
                .as_nanosecond(),
        )
    }

    #[test]
    fn every_form_of_a_date_is_read() {
        let now = unix("2026-06-02T12:00:00Z");
        for (text, expected) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", "1994-11-06T08:49:37Z"),
            ("Sunday, 06-Nov-94 08:49:37 GMT", "1994-11-06T08:49:37Z"),
            ("Sun Nov  6 08:49:37 1994", "1994-11-06T08:49:37Z"),
            ("Sun Nov 16 08:49:37 1994", "1994-11-16T08:49:37Z"),
            (" \tSun, 06 Nov 1994 08:49:37 GMT ", "1994-11-06T08:49:37Z"),
            ("Sun, 6 Nov 1994 08:49:37 GMT", "1994-11-06T08:49:37Z"),
            ("Tue, 06 Nov 1994 08:49:37 GMT", "1994-11-06T08:49:37Z"),
            ("Sun, 06 Nov 1994 08:49:37 UTC", "1994-11-06T08:49:37Z"),
            ("Sun, 06 Nov 1994 08:49:37 UT", "1994-11-06T08:49:37Z"),
            ("Sun, 06 Nov 1994 08:49:37 gmt", "1994-11-06T08:49:37Z"),
            ("Sun, 06 Nov 1994 08:49:37 -0000", "1994-11-06T08:49:37Z"),
            ("Sun, 06 Nov 1994 08:49:37 +0200", "1994-11-06T06:49:37Z"),
            ("Sun, 06 Nov 1994 08:49:37 -2359", "1994-11-07T08:48:37Z"),
            ("Tue, 30 Jun 2015 23:59:60 GMT", "2015-07-01T00:00:00Z"),
            ("Tue Jun 30 23:59:60 2015", "2015-07-01T00:00:00Z"),
            ("2015-06-30T23:59:60.5Z", "2015-07-01T00:00:00.5Z"),
            ("1994-11-06T08:49:37Z", "1994-11-06T08:49:37Z"),
            ("1994-11-06t08:49:37z", "1994-11-06T08:49:37Z"),
            ("1994-11-06 08:49:37Z", "1994-11-06T08:49:37Z"),
            (
                "1994-11-06T08:49:37.123456789Z",
                "1994-11-06T08:49:37.123456789Z",
            ),
            ("1994-11-06T08:49:37.5+02:00", "1994-11-06T06:49:37.5Z"),
            ("1994-11-06T08:49Z", "1994-11-06T08:49:00Z"),
            ("1994-11-06T08:49:37", "1994-11-06T08:49:37Z"),
            ("1994-11-06T08:49", "1994-11-06T08:49:00Z"),
            ("1994-11-06T08:49:37+23:59", "1994-11-05T08:50:37Z"),
        ] {
            assert_eq!(parse(text.as_bytes(), now), Some(unix(expected)), "{text}");
        }
    }

    #[test]
    fn the_last_second_of_the_calendar_is_a_date() {
        let now = unix("2026-06-02T12:00:00Z");
        let last = UnixNanos(253_402_300_799_000_000_000);
        assert_eq!(parse(b"Fri, 31 Dec 9999 23:59:59 GMT", now), Some(last));
        assert_eq!(parse(b"9999-12-31T23:59:59Z", now), Some(last));
        assert_eq!(
            parse(b"Fri Dec 31 23:59:60 9999", now),
            Some(last.plus_seconds(1))
        );
        assert_eq!(
            parse(b"Fri, 31 Dec 9999 23:59:59 -2359", now),
            Some(last.plus_seconds(86_340))
        );
    }

    #[test]
    fn nothing_else_is_a_date() {
        let now = unix("2026-06-02T12:00:00Z");
        let long = format!("Tue, {}02 Jun 2026 12:00:30 GMT", " ".repeat(4_096));
        for text in [
            "",
            " ",
            ",",
            "soon",
            "yesterday",
            "10 seconds",
            "2026-06-03",
            "2026-06-02T12Z",
            "20260602T120030Z",
            "2026-13-02T12:00:30Z",
            "2026-02-30T12:00:30Z",
            "2026-06-02T25:00:30Z",
            "2026-06-02T12:60Z",
            "2026-06-02T12:00:30+25:00",
            "2026-06-02T12:00:30+24:00",
            "2026-06-02T12:00:30Z[Europe/Paris]",
            "2026-06-02T12:00:30+05:60",
            "-2026-06-02T12:00:30Z",
            "Zun, 29 Sep 2023 16:26:27 GMT",
            "Fri, 29 Sep 100000 16:26:57 GMT",
            "Mon, 30 Feb 2026 12:00:00 GMT",
            "Fri, 32 Dec 1999 23:59:59 GMT",
            "Tue, 02 Jun 2026 25:00:00 GMT",
            "Tue, 02 Jun 2026 12:00:61 GMT",
            "Tue, 02 Jun 2026 12:00:30 PST",
            "Tue, 02 Jun 2026 12:00:30",
            "Tue, 02 Jun 2026 12:00:30 +2500",
            "Tue, 02 Jun 2026 12:00:30 +0260",
            "Tue, 02 Jun 2026 12:00:30 GMT, 120",
            "Tue, 02 Jun 26 12:00:30 GMT",
            "Tue, 02 Jun -2026 12:00:30 GMT",
            "Tuesday, 02-Jun-26 12:00:30 PST",
            "Tuesday, 02-Jun-2026 12:00:30 GMT",
            "Tue Jun  2 12:00:30 26",
            "Tue Feb 16 2021 09:02:42 GMT+0100 (Central European Standard Time)",
            &long,
        ] {
            assert_eq!(parse(text.as_bytes(), now), None, "{text}");
        }
    }

    #[test]
    fn a_date_may_have_64_bytes() {
        let now = unix("2026-06-02T12:00:00Z");
        let padded = |spaces| format!("Tue, {}02 Jun 2026 12:00:30 GMT", " ".repeat(spaces));
        assert_eq!(padded(35).len(), 64);
        assert!(parse(padded(35).as_bytes(), now).is_some());
        assert_eq!(parse(padded(36).as_bytes(), now), None);
    }

    #[test]
    fn two_digits_are_a_year_at_most_fifty_years_ahead() {
        for (now, text, year) in [
            (
                "2026-06-02T12:00:00Z",
                "Tuesday, 02-Jun-26 12:00:30 GMT",
                2026,
            ),
            (
                "2026-06-02T12:00:00Z",
                "Monday, 01-Jun-76 12:00:30 GMT",
                2076,
            ),
            (
                "2026-06-02T12:00:00Z",
                "Wednesday, 03-Jun-76 12:00:30 GMT",
                1976,
            ),
            (
                "2026-06-02T12:00:00Z",
                "Friday, 02-Jun-77 12:00:30 GMT",
                1977,
            ),
            (
                "1999-12-31T23:59:59Z",
                "Saturday, 01-Jan-00 00:00:10 GMT",
                2000,
            ),
            (
                "2070-01-01T00:00:00Z",
                "Thursday, 01-Jan-70 00:00:10 GMT",
                2070,
            ),
            // No leap year in the later century.
            (
                "2060-01-01T00:00:00Z",
                "Tuesday, 29-Feb-00 00:00:00 GMT",
                2000,
            ),
        ] {
            let read = parse(text.as_bytes(), unix(now)).expect("a date");
            let read = Timestamp::from_nanosecond(read.0).expect("in range");
            assert_eq!(
                Offset::UTC.to_datetime(read).year(),
                year,
                "{text} at {now}"
            );
        }
    }

    #[test]
    fn the_clock_is_that_of_the_response() {
        let now = SystemTime::from(unix_timestamp("2026-06-02T12:10:00Z"));
        let mut headers = HeaderMap::new();
        let until = |headers: &HeaderMap| {
            Clock::new(headers, now).until_date(b"Tue, 02 Jun 2026 12:10:20 GMT")
        };

        assert_eq!(until(&headers), Some(Duration::from_secs(20)), "no Date");
        headers.insert(header::DATE, HeaderValue::from_static("yesterday"));
        assert_eq!(
            until(&headers),
            Some(Duration::from_secs(20)),
            "an unreadable Date"
        );
        headers.append(
            header::DATE,
            HeaderValue::from_static("Tue, 02 Jun 2026 12:10:15 GMT"),
        );
        assert_eq!(
            until(&headers),
            Some(Duration::from_secs(5)),
            "a readable Date"
        );
        headers.append(
            header::DATE,
            HeaderValue::from_static("Tue, 02 Jun 2026 12:10:00 GMT"),
        );
        assert_eq!(
            until(&headers),
            Some(Duration::from_secs(20)),
            "the earliest of two"
        );
        headers.insert(
            header::DATE,
            HeaderValue::from_static("Tue, 02 Jun 2026 12:10:21 GMT"),
        );
        assert_eq!(until(&headers), Some(Duration::ZERO), "past");
    }

    #[test]
    fn a_received_time_at_the_end_of_its_range_is_no_trouble() {
        let headers = HeaderMap::new();
        let distant = Duration::from_secs(i64::MAX as u64);
        for now in [
            SystemTime::UNIX_EPOCH.checked_add(distant),
            SystemTime::UNIX_EPOCH.checked_sub(distant),
        ] {
            let Some(now) = now else { continue };
            let clock = Clock::new(&headers, now);
            assert!(clock.until(UnixNanos(i128::MAX)) == number::MAX_WAIT);
            assert!(clock.until(UnixNanos(i128::MIN)).is_zero());
            let _ = clock.until_date(b"Sunday, 06-Nov-94 08:49:37 GMT");
        }
    }

    #[test]
    fn a_clock_may_stand_before_1970() {
        let headers = HeaderMap::new();
        let now = SystemTime::UNIX_EPOCH.checked_sub(Duration::from_secs(10));
        let clock = Clock::new(&headers, now.expect("a time"));
        let ahead = clock.until_date(b"Thu, 01 Jan 1970 00:00:20 GMT");
        assert_eq!(ahead, Some(Duration::from_secs(30)));
    }

    fn unix_timestamp(text: &str) -> Timestamp {
        text.parse().expect("a timestamp")
    }

    proptest! {
        #[test]
        fn any_http_date_is_read_back(second in 0_i64..200_000_000_000) {
            let time = Timestamp::from_second(second).expect("in range");
            let now = UnixNanos(time.as_nanosecond());
            let civil = Offset::UTC.to_datetime(time);
            for format in ["%a, %d %b %Y %T GMT", "%A, %d-%b-%y %T GMT", "%a %b %e %T %Y", "%FT%TZ"] {
                let text = civil.strftime(format).to_string();
                prop_assert_eq!(parse(text.as_bytes(), now), Some(now), "{}", text);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
            date in "(Tuesday|Tue),? ?[0-9]{1,2}[ -](Feb|Jun)[ -](20)?[0-9]{2} 1[0-9]:00:[0-6][0-9] [A-Z0-9+-]{0,6}",
            iso in "[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}.{0,12}",
        ) {
            for now in [UnixNanos(0), UnixNanos(i128::MAX), UnixNanos(i128::MIN)] {
                for text in [&bytes, date.as_bytes(), iso.as_bytes()] {
                    let _ = parse(text, now);
                }
            }
        }
    }
}
