//! Between what the end of a window lies.
//!
//! A server tells the time until the end in whole seconds, rounded up or down, at some instant
//! between the sending of the request and the arrival of the answer. So one answer bounds the end
//! from both sides, and of several answers that speak of the same end only what all of them allow is
//! left. One who rounds up is taken for granted: nothing is open before the end then, even by the
//! latest bound. One who rounds down is found out by asking too early, once.

use super::after;
use std::time::Duration;
use tokio::time::Instant;

/// What resets are rounded to. One with a fraction has not been.
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// To which a reset with a fraction is rounded up as it is read.
const MILLISECOND: Duration = Duration::from_millis(1);

/// Which way the server rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rounding {
    /// The end is no later than it says.
    Up,
    /// The end is up to a second later.
    Down,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) earliest: Instant,
    pub(super) latest: Instant,
}

impl End {
    /// What an answer that came now, to a request sent at `sent_at`, says by its reset.
    pub(super) fn announced(
        now: Instant,
        sent_at: Instant,
        reset: Duration,
        rounding: Rounding,
    ) -> Self {
        let is_whole = reset.subsec_nanos() == 0;
        let (grain, late) = match rounding {
            _ if !is_whole => (MILLISECOND, Duration::ZERO),
            Rounding::Up => (SECOND, Duration::ZERO),
            Rounding::Down => (SECOND, SECOND),
        };
        let earliest = after(sent_at, reset.saturating_add(late));
        Self {
            earliest: earliest.checked_sub(grain).unwrap_or(sent_at),
            latest: after(now, reset.saturating_add(late)),
        }
    }

    /// What both allow, if they can be of the same window.
    pub(super) fn narrowed(self, other: Self) -> Option<Self> {
        let both = Self {
            earliest: self.earliest.max(other.earliest),
            latest: self.latest.min(other.latest),
        };
        (both.earliest <= both.latest).then_some(both)
    }

    /// Whether it says nothing of which of two windows of this length is meant.
    pub(super) fn is_vague(self, length: Duration) -> bool {
        self.width() >= length
    }

    fn width(self) -> Duration {
        self.latest.saturating_duration_since(self.earliest)
    }

    /// Whether this window ends after the other one for certain.
    pub(super) fn is_after(self, other: Self) -> bool {
        self.earliest > other.latest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// Sent after so many milliseconds, answered after so many.
    fn end(epoch: Instant, sent: u64, answered: u64, reset: Duration) -> End {
        End::announced(epoch + ms(answered), epoch + ms(sent), reset, Rounding::Up)
    }

    #[test]
    fn one_answer_bounds_it_from_both_sides() {
        let epoch = Instant::now();
        let told = end(epoch, 2_000, 2_300, ms(8_000));
        assert_eq!(told.earliest, epoch + ms(9_000));
        assert_eq!(told.latest, epoch + ms(10_300));
        let down = End::announced(
            epoch + ms(2_300),
            epoch + ms(2_000),
            ms(8_000),
            Rounding::Down,
        );
        assert_eq!(down.earliest, epoch + ms(10_000));
        assert_eq!(down.latest, epoch + ms(11_300));
    }

    #[test]
    fn a_reset_with_a_fraction_is_not_rounded() {
        let epoch = Instant::now();
        let told = end(epoch, 2_000, 2_300, ms(7_850));
        assert_eq!(told.earliest, epoch + ms(9_849));
        assert_eq!(told.latest, epoch + ms(10_150));
    }

    #[test]
    fn several_answers_narrow_it_down() {
        let epoch = Instant::now();
        let first = end(epoch, 0, 200, ms(10_000));
        let second = end(epoch, 3_100, 3_200, ms(7_000));
        let third = end(epoch, 5_980, 6_080, ms(4_000));
        let both = first.narrowed(second).unwrap().narrowed(third).unwrap();
        assert_eq!(both.earliest, epoch + ms(9_100));
        assert_eq!(both.latest, epoch + ms(10_080));
    }

    #[test]
    fn what_excludes_each_other_is_of_two_windows() {
        let epoch = Instant::now();
        let first = end(epoch, 0, 200, ms(10_000));
        let second = end(epoch, 9_990, 10_090, ms(10_000));
        assert_eq!(first.narrowed(second), None);
        assert!(second.is_after(first) && !first.is_after(second));
    }

    #[test]
    fn what_touches_may_be_of_one_window() {
        let epoch = Instant::now();
        let first = end(epoch, 0, 0, ms(10_000));
        let [touching, after] = [1_000, 1_001].map(|at| end(epoch, at, at, ms(10_000)));
        assert!(first.narrowed(touching).is_some() && !touching.is_after(first));
        assert!(first.narrowed(after).is_none() && after.is_after(first));
    }

    #[test]
    fn is_vague_of_windows_that_are_no_longer_than_it_is_wide() {
        let told = end(Instant::now(), 0, 500, ms(10_000));
        assert!(told.is_vague(ms(1_500)));
        assert!(!told.is_vague(ms(1_501)));
    }

    #[test]
    fn an_absurd_reset_does_not_overflow() {
        let epoch = Instant::now();
        let told = End::announced(epoch, epoch, Duration::MAX, Rounding::Down);
        assert!(told.latest >= epoch + Duration::from_secs(1 << 31));
    }
}
