//! The delay after a refusal that does not say how long to wait.

use crate::error::ConfigError;
use std::time::Duration;

/// Grows by half with each refusal in a row, up to a maximum; it is shortened to the end of a usual
/// window that it would pass. A random share of up to a quarter is added, never taken away.
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

/// What most limits count by. A quota that was used up by a burst is there again when so much time
/// has passed since.
const WINDOWS: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(10),
    Duration::from_secs(60),
    Duration::from_secs(3_600),
];

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

    /// The delay after so many failures in a row; `random_ratio` from 0.0 to 1.0.
    pub(crate) fn delay(&self, failures: u32, random_ratio: f64) -> Duration {
        with_jitter(self.step(failures), random_ratio)
    }

    /// The delay after so many refusals in a row, for so long by now: up to the next end of one of
    /// the usual windows, if that is sooner.
    pub(crate) fn delay_for(
        &self,
        refusals: u32,
        refused_for: Duration,
        random_ratio: f64,
    ) -> Duration {
        let step = self.step(refusals);
        let ends = WINDOWS.map(|window| window.saturating_sub(refused_for));
        let next = ends.into_iter().find(|&end| end >= self.initial);
        with_jitter(next.map_or(step, |end| step.min(end)), random_ratio)
    }

    fn step(&self, failures: u32) -> Duration {
        let growth = GROWTH.powf(f64::from(failures.saturating_sub(1).min(100)));
        // The conversion saturates, and a NaN would be zero.
        let step = Duration::from_nanos((self.initial.as_nanos() as f64 * growth) as u64);
        step.min(self.max)
    }
}

fn with_jitter(delay: Duration, random_ratio: f64) -> Duration {
    let jitter = delay.as_nanos() as f64 * JITTER_RATIO * random_ratio.clamp(0.0, 1.0);
    delay.saturating_add(Duration::from_nanos(jitter as u64))
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
    fn asks_at_the_end_of_a_usual_window() {
        let ms = Duration::from_millis;
        let delay = |refusals, passed| Backoff::DEFAULT.delay_for(refusals, ms(passed), 0.0);
        // Of a second, of ten, of a minute and of an hour.
        for (refusals, passed, expected) in [
            (1, 80, 500),
            (2, 400, 600),
            (2, 600, 750),
            (2, 9_000, 750),
            (7, 5_000, 5_000),
            (2, 9_600, 750),
            (11, 40_000, 20_000),
            (99, 3_599_000, 1_000),
            (99, 3_599_501, 30_000),
        ] {
            assert_eq!(delay(refusals, passed), ms(expected), "{refusals} {passed}");
        }
        assert_eq!(delay(99, u64::MAX), ms(30_000));
        let jitter = Backoff::DEFAULT.delay_for(7, ms(5_000), 1.0);
        assert_eq!(jitter, ms(6_250), "and it only adds");
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
