//! The waits that a server asks for in header fields of their own.

use std::time::Duration;

use super::{
    instant::Clock,
    number::{self, MILLISECOND, Number, SECOND},
};

/// The waits asked for, by source. The first that was heard counts; the later ones say the same
/// less exactly, or are for other readers.
///
/// Within one source the longest counts, over all its lines. A line that cannot be read is as good
/// as absent.
#[derive(Debug, Default)]
pub(super) struct Announced {
    /// `grpc-retry-pushback-ms`.
    push_back: Option<Duration>,
    /// `retry-after-ms`, `x-ms-retry-after-ms`, `x-amz-retry-after`: milliseconds.
    in_milliseconds: Option<Duration>,
    /// `Retry-After`.
    retry_after: Option<Duration>,
    /// `x-ratelimit-retry-after`: seconds.
    of_rate_limit: Option<Duration>,
}

impl Announced {
    pub(super) fn hear_push_back(&mut self, millis: u32) {
        let wait = Duration::from_millis(millis.into());
        self.push_back = self.push_back.max(Some(wait));
    }

    pub(super) fn hear_milliseconds(&mut self, value: &[u8]) {
        self.in_milliseconds = self.in_milliseconds.max(longest(value, MILLISECOND));
    }

    /// Hears a `Retry-After`: delay-seconds, of which servers also send fractions, or a date of any
    /// kind.
    pub(super) fn hear_retry_after(&mut self, value: &[u8], clock: &Clock<'_>) {
        let wait = longest(value, SECOND).or_else(|| clock.until_date(value));
        self.retry_after = self.retry_after.max(wait);
    }

    pub(super) fn hear_of_rate_limit(&mut self, value: &[u8]) {
        self.of_rate_limit = self.of_rate_limit.max(longest(value, SECOND));
    }

    pub(super) fn wait(&self) -> Option<Duration> {
        self.push_back
            .or(self.in_milliseconds)
            .or(self.retry_after)
            .or(self.of_rate_limit)
    }
}

/// The largest of a comma-separated list of numbers, which is what two lines become that a proxy
/// has joined. One member that is no number voids the list.
fn longest(value: &[u8], unit: u64) -> Option<Duration> {
    let mut longest = 0;
    for member in value.split(|&byte| byte == b',') {
        longest = longest.max(Number::parse(member)?.nanos(unit));
    }
    Some(number::wait(longest))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use http::HeaderMap;
    use proptest::prelude::*;

    use super::*;

    /// What these lines of `Retry-After` ask for, in milliseconds, at 2026-06-02 12:00:00 UTC.
    fn retry_after(lines: &[&str]) -> Option<u128> {
        let headers = HeaderMap::new();
        let clock = Clock::new(
            &headers,
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_780_401_600),
        );
        let mut announced = Announced::default();
        for line in lines {
            announced.hear_retry_after(line.as_bytes(), &clock);
        }
        announced.wait().map(|wait| wait.as_millis())
    }

    #[test]
    fn a_retry_after_is_seconds_or_a_date() {
        let nines = "9".repeat(4_096);
        for (line, millis) in [
            ("0", Some(0)),
            ("120", Some(120_000)),
            ("0.25", Some(250)),
            (" 7\t", Some(7_000)),
            ("5, 60", Some(60_000)),
            ("1,200", Some(200_000)),
            ("2147483648", Some(2_147_483_648_000)),
            ("18446744073709551615", Some(2_147_483_648_000)),
            (&nines, Some(2_147_483_648_000)),
            ("1780401660", Some(1_780_401_660_000)),
            ("Tue, 02 Jun 2026 12:00:30 GMT", Some(30_000)),
            ("Tuesday, 02-Jun-26 12:00:30 GMT", Some(30_000)),
            ("Tue Jun  2 12:00:30 2026", Some(30_000)),
            ("2026-06-02T12:00:30Z", Some(30_000)),
            ("Tue, 02 Jun 2026 11:00:00 GMT", Some(0)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(2_147_483_648_000)),
            ("", None),
            ("   ", None),
            (",", None),
            ("5,", None),
            ("5, soon", None),
            ("-1", None),
            ("+1", None),
            ("1e9", None),
            ("NaN", None),
            ("10;q=1", None),
            ("120s", None),
            ("10 seconds", None),
            ("Tue, 02 Jun 2026 12:00:30 GMT, 120", None),
        ] {
            assert_eq!(retry_after(&[line]), millis, "{line}");
        }
    }

    #[test]
    fn the_longest_of_several_lines_counts() {
        assert_eq!(retry_after(&["2", "3"]), Some(3_000));
        assert_eq!(retry_after(&["3", "2"]), Some(3_000));
        assert_eq!(retry_after(&["soon", "7", ""]), Some(7_000));
        assert_eq!(
            retry_after(&["Tue, 02 Jun 2026 12:00:30 GMT", "10"]),
            Some(30_000)
        );
        assert_eq!(retry_after(&[]), None);
    }

    #[test]
    fn the_first_source_counts_and_not_the_longest() {
        let headers = HeaderMap::new();
        let clock = Clock::new(&headers, SystemTime::UNIX_EPOCH);
        let mut announced = Announced::default();
        announced.hear_of_rate_limit(b"90");
        assert_eq!(announced.wait(), Some(Duration::from_secs(90)));
        announced.hear_retry_after(b"30", &clock);
        assert_eq!(announced.wait(), Some(Duration::from_secs(30)));
        announced.hear_milliseconds(b"-5");
        assert_eq!(announced.wait(), Some(Duration::from_secs(30)));
        announced.hear_milliseconds(b"0");
        assert_eq!(announced.wait(), Some(Duration::ZERO));
        announced.hear_milliseconds(b"0.5");
        assert_eq!(announced.wait(), Some(Duration::from_millis(1)));
        announced.hear_push_back(250);
        assert_eq!(announced.wait(), Some(Duration::from_millis(250)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(value in prop::collection::vec(any::<u8>(), 0..64)) {
            let headers = HeaderMap::new();
            let clock = Clock::new(&headers, SystemTime::UNIX_EPOCH);
            let mut announced = Announced::default();
            announced.hear_retry_after(&value, &clock);
            announced.hear_milliseconds(&value);
            announced.hear_of_rate_limit(&value);
            prop_assert!(announced.wait().is_none_or(|wait| wait <= number::MAX_WAIT));
        }
    }
}
