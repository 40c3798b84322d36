//! The delay after a refusal that does not say how long to wait.

use crate::error::ConfigError;
use std::time::Duration;

/// Grows by half with each refusal in a row, up to a maximum; a random share of up to a quarter is
/// added, never taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    initial: Duration,
    max: Duration,
}

/// The share of a delay that is added at random: enough to part clients that were refused together.
const JITTER_RATIO: f64 = 0.25;

/// By what a delay grows from one refusal to the next: as Google's clients do it. Doubling, one who
/// asks for the end of a block learns of it after twice its length at worst.
const GROWTH: f64 = 1.5;

impl Backoff {
    /// Half a second, as the SDKs of the large APIs begin, up to half a minute: a dozen retries then
    /// outlast the minute that most limits are counted by.
    pub(crate) const DEFAULT: Self = Self {
        initial: Duration::from_millis(500),
        max: Duration::from_secs(30),
    };

    /// From `initial`, growing by half, to `max`.
    pub(crate) fn new(initial: Duration, max: Duration) -> Result<Self, ConfigError> {
        if initial.is_zero() {
            return Err(ConfigError::zero_backoff());
        }
        if max < initial {
            return Err(ConfigError::backoff_order(initial, max));
        }
        Ok(Self { initial, max })
    }

    /// The same from a shorter delay on, where it is known that it may suffice.
    pub(crate) fn from(&self, initial: Duration) -> Self {
        Self {
            initial: initial.min(self.initial),
            max: self.max,
        }
    }

    /// The delay after so many refusals in a row; `random_ratio` from 0.0 to 1.0.
    pub(crate) fn delay(&self, refusals: u32, random_ratio: f64) -> Duration {
        let growth = GROWTH.powf(f64::from(refusals.saturating_sub(1).min(100)));
        // The conversions saturate, and a NaN would be zero.
        let delay = Duration::from_nanos((self.initial.as_nanos() as f64 * growth) as u64);
        let delay = delay.min(self.max);
        let jitter = delay.as_nanos() as f64 * JITTER_RATIO * random_ratio.clamp(0.0, 1.0);
        delay.saturating_add(Duration::from_nanos(jitter as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_by_half_up_to_the_maximum() {
        let backoff = Backoff::DEFAULT;
        let delays: Vec<_> = (1..=13)
            .map(|n| backoff.delay(n, 0.0).as_millis())
            .collect();
        assert_eq!(
            delays,
            [
                500, 750, 1_125, 1_687, 2_531, 3_796, 5_695, 8_542, 12_814, 19_221, 28_832, 30_000,
                30_000
            ]
        );
        assert_eq!(backoff.delay(u32::MAX, 0.0), Duration::from_secs(30));
    }

    #[test]
    fn jitter_only_adds() {
        let backoff = Backoff::DEFAULT;
        for (random_ratio, expected) in
            [(0.0, 500), (0.5, 562), (1.0, 625), (7.0, 625), (-1.0, 500)]
        {
            assert_eq!(backoff.delay(1, random_ratio).as_millis(), expected);
        }
    }

    #[test]
    fn huge_delays_saturate() {
        let backoff = Backoff::new(Duration::MAX, Duration::MAX).unwrap();
        let centuries = Duration::from_nanos(u64::MAX);
        let jitter = Duration::from_nanos(1 << 62);
        assert_eq!(backoff.delay(40, 1.0), centuries + jitter);
    }

    #[test]
    fn begins_earlier_where_it_is_known_that_less_may_suffice() {
        let ms = Duration::from_millis;
        let delay = |initial, refusals| Backoff::DEFAULT.from(initial).delay(refusals, 0.0);
        assert_eq!(
            [1, 2, 3, 4, 30].map(|row| delay(ms(80), row)),
            [80, 120, 180, 270, 30_000].map(ms)
        );
        assert_eq!(delay(ms(90_000), 1), ms(500), "and never later");
    }

    #[test]
    fn zero_and_disorder_are_refused() {
        assert!(Backoff::new(Duration::ZERO, Duration::from_secs(1)).is_err());
        assert!(Backoff::new(Duration::from_secs(2), Duration::from_secs(1)).is_err());
    }
}
