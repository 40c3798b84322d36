//! What one answer tells of a bucket: its level, and the rate at which it fills.

use super::CEILING;
use crate::signal::RateLimit;
use std::time::Duration;

/// The longest time for one unit that is believed. No server has been seen that gives out less than
/// a few dozen a day; and one absurd announcement must not close a partition for good, for then
/// nothing would be sent that could correct it.
pub(super) const SLOWEST: Duration = Duration::from_secs(3600);

/// Resets are announced in whole milliseconds: from a shorter one than this the rate cannot be told
/// to a hundredth.
const PRECISE: Duration = Duration::from_millis(100);

/// What an answer announces, if it announces all of it.
pub(super) struct Level {
    pub(super) limit: u64,
    missing: u64,
    pub(super) reset: Duration,
}

impl Level {
    pub(super) fn of(announced: &RateLimit) -> Option<Self> {
        let limit = announced.limit().filter(|&limit| limit > 0)?;
        let missing = limit.saturating_sub(announced.remaining()?);
        let slowest = SLOWEST.saturating_mul(u32::try_from(limit).unwrap_or(u32::MAX));
        let reset = announced.reset()?.min(slowest);
        Some(Self {
            limit,
            missing,
            reset,
        })
    }

    /// What remains is announced in whole units, rounded down, so up to one unit less is missing
    /// than it says: the more is missing, the truer the rate. Unknown while nothing is missing or
    /// the reset is rounded to nothing.
    pub(super) fn interval(&self) -> Option<Interval> {
        let known = self.missing > 0 && !self.reset.is_zero();
        let reset = self.reset.as_nanos() as f64;
        let slowest = SLOWEST.as_nanos() as f64;
        let missing = self.missing as f64;
        known.then(|| Interval {
            shortest: (reset / missing).min(slowest),
            // The answered request itself has been charged: less than one is never missing.
            longest: (reset / (missing - 1.0).max(1.0)).min(slowest),
        })
    }

    /// The same where the reset is long enough to tell it well.
    pub(super) fn precise_interval(&self) -> Option<Interval> {
        self.interval().filter(|_| self.reset >= PRECISE)
    }
}

/// Between what the time lies in which one unit flows in, in nanoseconds. Whichever end sends later
/// is used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Interval {
    shortest: f64,
    longest: f64,
}

impl Interval {
    pub(super) fn shortest(self, units: u64) -> Duration {
        nanoseconds(units as f64 * self.shortest)
    }

    pub(super) fn longest(self, units: u64) -> Duration {
        nanoseconds(units as f64 * self.longest)
    }

    /// How many units are missing of what takes this long to flow in: so few that no fewer take as
    /// long even where they take the shortest time.
    pub(super) fn units(self, missing: Duration) -> u64 {
        // A nanosecond less, for that much is lost to rounding.
        let nanoseconds = missing.as_nanos().saturating_sub(1) as f64;
        (nanoseconds / self.shortest).ceil() as u64
    }

    /// Whether no rate lies in both.
    pub(super) fn excludes(self, other: Self) -> bool {
        self.shortest > other.longest || other.shortest > self.longest
    }

    /// What both allow; or what the newer allows, if they exclude each other: the rate has changed.
    pub(super) fn narrowed(self, newer: Self) -> Self {
        if self.excludes(newer) {
            return newer;
        }
        Self {
            shortest: self.shortest.max(newer.shortest),
            longest: self.longest.min(newer.longest),
        }
    }
}

/// The conversion saturates, and of a NaN it makes zero.
fn nanoseconds(nanoseconds: f64) -> Duration {
    Duration::from_nanos(nanoseconds as u64).min(CEILING)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(missing: u64, milliseconds: u64) -> Option<Interval> {
        let reset = Duration::from_millis(milliseconds);
        Level {
            limit: 60,
            missing,
            reset,
        }
        .interval()
    }

    fn assert_between(interval: Interval, shortest: u64, longest: u64) {
        assert_eq!(
            interval.shortest(1).as_millis(),
            u128::from(shortest),
            "{interval:?}"
        );
        assert_eq!(
            interval.longest(1).as_millis(),
            u128::from(longest),
            "{interval:?}"
        );
    }

    #[test]
    fn the_more_is_missing_the_truer_is_the_rate() {
        assert_between(interval(1, 1_000).unwrap(), 1_000, 1_000);
        assert_between(interval(2, 2_000).unwrap(), 1_000, 2_000);
        assert_between(interval(60, 60_000).unwrap(), 1_000, 1_016);
        assert_eq!(interval(0, 1_000), None);
        assert_eq!(interval(1, 0), None);
    }

    #[test]
    fn answers_narrow_it_down_until_they_exclude_each_other() {
        let known = interval(60, 60_000).unwrap();
        assert_eq!(known.narrowed(interval(2, 1_900).unwrap()), known);
        let narrowed = known.narrowed(interval(30, 29_400).unwrap());
        assert_between(narrowed, 1_000, 1_013);
        let slower = interval(30, 60_000).unwrap();
        assert_eq!(known.narrowed(slower), slower, "the rate has changed");
        assert_eq!(slower.narrowed(known), known);
    }

    #[test]
    fn intervals_that_touch_do_not_exclude_each_other() {
        let exact = interval(1, 1_000).unwrap();
        let rough = interval(2, 2_000).unwrap();
        let slower = interval(1, 2_000).unwrap();
        for (one, other, is_excluded) in [
            (exact, rough, false),
            (rough, slower, false),
            (exact, slower, true),
        ] {
            assert_eq!(one.excludes(other), is_excluded);
            assert_eq!(other.excludes(one), is_excluded);
        }
    }

    #[test]
    fn so_many_are_missing_as_flow_in_by_then() {
        let exact = interval(1, 1_000).unwrap();
        for (milliseconds, units) in [(0, 0), (1, 1), (1_000, 1), (1_001, 2), (59_500, 60)] {
            assert_eq!(exact.units(Duration::from_millis(milliseconds)), units);
        }
    }

    #[test]
    fn a_short_reset_tells_the_rate_only_roughly() {
        let level = |milliseconds| Level {
            limit: 60,
            missing: 7,
            reset: Duration::from_millis(milliseconds),
        };
        assert_eq!(level(99).precise_interval(), None);
        assert_eq!(level(100).precise_interval(), level(100).interval());
    }

    #[test]
    fn nothing_absurd_is_believed() {
        let interval = interval(1, u64::MAX).unwrap();
        assert_eq!(interval.longest(1), SLOWEST);
        assert_eq!(interval.longest(u64::MAX), CEILING);
        assert_eq!(interval.shortest(0), Duration::ZERO);
    }
}
