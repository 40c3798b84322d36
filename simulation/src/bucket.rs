//! A token bucket that refills continuously.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

/// What one unit weighs: a bucket gains `per_minute` of these in each nanosecond.
///
/// So the level is exact at every nanosecond, whatever the rate, without a
/// fraction: 500 per minute is 1/120,000,000 unit per nanosecond, which a float
/// would round at every update.
const UNIT: u128 = 60 * NANOS_PER_SEC;
const NANOS_PER_SEC: u128 = 1_000_000_000;

/// A bucket of quota units: full at first, drained by what is taken, refilled
/// at a constant rate up to its capacity.
///
/// It has no clock: `now` is passed in. A `now` before the last one passed is
/// taken for the last one.
#[derive(Debug, Clone)]
pub struct Bucket {
    capacity: u32,
    per_minute: NonZeroU32,
    /// The level at `updated`, in 1/[`UNIT`]; never more than the capacity.
    level: u128,
    updated: Instant,
}

impl Bucket {
    /// A full bucket of `capacity` units, which gains `per_minute` units a minute.
    pub fn new(capacity: u32, per_minute: NonZeroU32, now: Instant) -> Self {
        Self {
            capacity,
            per_minute,
            level: weight(capacity),
            updated: now,
        }
    }

    /// Gains `per_minute` units a minute from now on.
    pub fn set_rate(&mut self, per_minute: NonZeroU32, now: Instant) {
        self.refill(now);
        self.per_minute = per_minute;
    }

    /// Takes `units` if the bucket holds that many, or nothing; says which.
    pub fn try_take(&mut self, units: u32, now: Instant) -> bool {
        self.refill(now);
        let left = self.level.checked_sub(weight(units));
        self.level = left.unwrap_or(self.level);
        left.is_some()
    }

    /// Takes `units`, or all there is if that is less.
    pub fn take_up_to(&mut self, units: u32, now: Instant) {
        self.refill(now);
        self.level = self.level.saturating_sub(weight(units));
    }

    /// The units that the bucket holds in full.
    pub fn remaining(&self, now: Instant) -> u32 {
        // The level never exceeds the capacity, which is a `u32`.
        (self.level_at(now) / UNIT) as u32
    }

    /// The time until the bucket is full; zero if it is.
    pub fn time_to_full(&self, now: Instant) -> Duration {
        self.time_until_level(weight(self.capacity), now)
    }

    /// The time until `units` can be taken, if nobody else takes any: the first
    /// nanosecond at which [`try_take`](Self::try_take) succeeds. Zero if they can
    /// be taken now, `None` if they exceed the capacity.
    pub fn time_until(&self, units: u32, now: Instant) -> Option<Duration> {
        (units <= self.capacity).then(|| self.time_until_level(weight(units), now))
    }

    fn time_until_level(&self, level: u128, now: Instant) -> Duration {
        let missing = level.saturating_sub(self.level_at(now));
        let nanos = missing.div_ceil(u128::from(self.per_minute.get()));
        // At most `u32::MAX` units at one a minute: the seconds fit into a `u64`.
        Duration::new(
            (nanos / NANOS_PER_SEC) as u64,
            (nanos % NANOS_PER_SEC) as u32,
        )
    }

    fn level_at(&self, now: Instant) -> u128 {
        let elapsed = now.saturating_duration_since(self.updated).as_nanos();
        let gained = elapsed.saturating_mul(u128::from(self.per_minute.get()));
        self.level.saturating_add(gained).min(weight(self.capacity))
    }

    fn refill(&mut self, now: Instant) {
        self.level = self.level_at(now);
        self.updated = self.updated.max(now);
    }
}

fn weight(units: u32) -> u128 {
    u128::from(units) * UNIT
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NANOSECOND: Duration = Duration::from_nanos(1);

    #[test]
    fn holds_its_capacity_at_first_and_not_one_more() {
        let now = Instant::now();
        let mut bucket = bucket(500, 500, now);
        assert!((0..500).all(|_| bucket.try_take(1, now)));
        assert!(!bucket.try_take(1, now));
        assert_eq!(bucket.time_until(1, now), Some(Duration::from_millis(120)));
        assert_eq!(bucket.time_to_full(now), Duration::from_secs(60));
    }

    #[test]
    fn counts_only_units_that_are_there_in_full() {
        let now = Instant::now();
        let mut bucket = bucket(60, 60, now);
        assert!(bucket.try_take(1, now));
        assert_eq!(bucket.remaining(now), 59);
        assert_eq!(bucket.remaining(now + Duration::from_millis(999)), 59);
        assert_eq!(bucket.remaining(now + Duration::from_secs(1)), 60);
        assert_eq!(bucket.remaining(now + Duration::from_secs(3600)), 60);
    }

    #[test]
    fn more_than_the_capacity_never_fits() {
        let now = Instant::now();
        assert_eq!(bucket(3, 60, now).time_until(4, now), None);
        assert_eq!(bucket(0, 60, now).time_until(1, now), None);
    }

    #[test]
    fn taking_up_to_stops_at_empty() {
        let now = Instant::now();
        let mut bucket = bucket(2, 60, now);
        bucket.take_up_to(5, now);
        assert_eq!(bucket.time_until(1, now), Some(Duration::from_secs(1)));
    }

    #[test]
    fn time_does_not_run_backwards() {
        let now = Instant::now();
        let later = now + Duration::from_secs(10);
        let mut bucket = bucket(10, 60, now);
        assert!(bucket.try_take(10, later));
        assert!(!bucket.try_take(1, now));
        assert_eq!(bucket.remaining(later), 0);
    }

    #[test]
    fn the_slowest_and_largest_bucket_does_not_overflow() {
        let now = Instant::now();
        let mut bucket = bucket(u32::MAX, 1, now);
        bucket.take_up_to(u32::MAX, now);
        let minutes = u64::from(u32::MAX);
        assert_eq!(bucket.time_to_full(now), Duration::from_secs(minutes * 60));
    }

    proptest! {
        #[test]
        fn refuses_before_the_time_it_names_and_admits_exactly_at_it(
            capacity in 1_u32..10_000,
            per_minute in 1_u32..100_000,
            // Each step: what is taken, and the nanoseconds that pass before it.
            steps in prop::collection::vec((1_u32..10_000, 0_u64..5_000_000_000), 1..20),
            wanted in 1_u32..10_000,
            early_ratio in 0.0..1.0_f64,
        ) {
            let mut now = Instant::now();
            let mut bucket = bucket(capacity, per_minute, now);
            for (units, pass) in steps {
                now += Duration::from_nanos(pass);
                bucket.try_take(units.min(capacity), now);
            }
            let wanted = wanted.min(capacity);
            let wait = bucket.time_until(wanted, now).expect("within the capacity");
            if !wait.is_zero() {
                prop_assert!(!bucket.clone().try_take(wanted, now + wait - NANOSECOND));
                let early = wait.saturating_sub(NANOSECOND).mul_f64(early_ratio);
                prop_assert!(!bucket.clone().try_take(wanted, now + early));
            }
            prop_assert!(bucket.clone().try_take(wanted, now + wait));

            // Looking on the way there changes nothing.
            bucket.take_up_to(0, now + wait / 3);
            prop_assert!(bucket.try_take(wanted, now + wait));
        }
    }

    fn bucket(capacity: u32, per_minute: u32, now: Instant) -> Bucket {
        let per_minute = NonZeroU32::new(per_minute).expect("a rate above zero");
        Bucket::new(capacity, per_minute, now)
    }
}
