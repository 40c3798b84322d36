//! A bucket that refills steadily.

use super::super::{CEILING, after};
use std::time::Duration;
use tokio::time::Instant;

/// How much is missing in a bucket, exact to the nanosecond at any rate.
///
/// What is missing is counted in fractions of a unit so small that a whole number of them flows in
/// with each nanosecond: a unit is as many as the span has nanoseconds, and the count of the quota is
/// how many flow in. So 7 in a minute do not drift, as they would by a rounded interval.
#[derive(Debug)]
pub(super) struct Steady {
    /// How many units flow in in each span.
    per_span: u64,
    /// In nanoseconds.
    span: u128,
    /// How many units it holds.
    burst: u64,
    /// What was missing at that instant, and has been flowing in since.
    missing: u128,
    at: Option<Instant>,
    /// When it was last seen full.
    full_at: Option<Instant>,
}

impl Steady {
    /// Full.
    pub(super) fn new(per_span: u64, span: Duration, burst: u64) -> Self {
        Self {
            per_span,
            span: span.min(CEILING).as_nanos(),
            burst,
            missing: 0,
            at: None,
            full_at: None,
        }
    }

    /// When so many units are there, after `ahead` others were taken. Who wants more than the cushion
    /// leaves of the bucket needs no more than that.
    pub(super) fn opens_at(
        &self,
        now: Instant,
        ahead: u64,
        units: u64,
        cushion: Duration,
    ) -> Instant {
        let capacity = self.capacity(cushion);
        let taken = self
            .weight(ahead)
            .saturating_add(self.weight(units).min(capacity));
        let lacking = self
            .missing_at(now)
            .saturating_add(taken)
            .saturating_sub(capacity);
        after(now, self.time_for(lacking))
    }

    /// Whether what was taken at that instant has not flowed in for certain: it has not been full
    /// since.
    pub(super) fn still_counts(&self, at: Instant, now: Instant) -> bool {
        !self.is_full(now) && !self.was_full_after(at)
    }

    /// How many whole units are there.
    pub(super) fn left(&self, now: Instant, cushion: Duration) -> u64 {
        let left = self.capacity(cushion).saturating_sub(self.missing_at(now));
        // A bucket of no span is always full.
        let units = left.checked_div(self.span).unwrap_or(self.burst.into());
        u64::try_from(units).unwrap_or(u64::MAX)
    }

    /// When nothing is missing.
    pub(super) fn full_at(&self, now: Instant) -> Instant {
        after(now, self.time_for(self.missing_at(now)))
    }

    /// The time in which one unit flows in.
    pub(super) fn interval(&self) -> Duration {
        self.time_for(self.span)
    }

    /// Whether nothing is missing.
    pub(super) fn is_full(&self, now: Instant) -> bool {
        self.missing_at(now) == 0
    }

    /// Takes them, whether they are there or not.
    pub(super) fn take(&mut self, now: Instant, units: u64) {
        // However much is taken, no more is overdrawn than a span makes up for.
        let most = self
            .weight(self.burst)
            .saturating_add(self.weight(self.per_span));
        let missing = self.missing_at(now);
        if self.is_full(now) {
            self.full_at = self.full_at.max(Some(now));
        }
        let missing = missing.saturating_add(self.weight(units));
        self.set(now, missing.min(most));
    }

    /// Puts back what was taken at that instant, unless it has been full since: then more has flowed
    /// over.
    pub(super) fn put_back(&mut self, at: Instant, units: u64) {
        if !self.was_full_after(at) {
            self.missing = self.missing.saturating_sub(self.weight(units));
        }
    }

    /// Nothing is left, as the server says, and one unit will be at `until`.
    pub(super) fn drain(&mut self, now: Instant, until: Instant) {
        let all = self.weight(self.burst);
        let at_until = all - self.weight(1);
        let wait = until.saturating_duration_since(now);
        let drained = at_until.saturating_add(self.inflow(wait)).min(all);
        self.set(now, self.missing_at(now).max(drained));
    }

    fn was_full_after(&self, at: Instant) -> bool {
        self.full_at.is_some_and(|full_at| full_at > at)
    }

    fn set(&mut self, now: Instant, missing: u128) {
        self.missing = missing;
        self.at = self.at.max(Some(now));
    }

    /// What it holds at the most without what flows in during the cushion; half of it in any case.
    fn capacity(&self, cushion: Duration) -> u128 {
        let all = self.weight(self.burst);
        all - self.inflow(cushion).min(all / 2)
    }

    fn missing_at(&self, now: Instant) -> u128 {
        let Some(at) = self.at else { return 0 };
        let inflow = self.inflow(now.saturating_duration_since(at));
        self.missing.saturating_sub(inflow)
    }

    fn inflow(&self, time: Duration) -> u128 {
        time.as_nanos().saturating_mul(self.per_span.into())
    }

    fn time_for(&self, lacking: u128) -> Duration {
        let nanoseconds = lacking.div_ceil(self.per_span.into());
        u64::try_from(nanoseconds).map_or(CEILING, Duration::from_nanos)
    }

    fn weight(&self, units: u64) -> u128 {
        u128::from(units).saturating_mul(self.span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NANOSECOND: Duration = Duration::from_nanos(1);
    const MINUTE: Duration = Duration::from_secs(60);
    const NONE: Duration = Duration::ZERO;

    /// Takes one after the other as soon as it is there; gives the last instant.
    fn take_all(bucket: &mut Steady, mut now: Instant, units: u32, cushion: Duration) -> Instant {
        for _ in 0..units {
            now = bucket.opens_at(now, 0, 1, cushion);
            bucket.take(now, 1);
        }
        now
    }

    #[test]
    fn does_not_drift_whatever_the_interval_is() {
        for per_minute in [7, 500, 999] {
            let began = Instant::now();
            let mut bucket = Steady::new(per_minute, MINUTE, 2);
            let last = take_all(&mut bucket, began, 1_000_002, NONE);
            let nanoseconds = (1_000_000 * MINUTE.as_nanos()).div_ceil(per_minute.into());
            assert_eq!((last - began).as_nanos(), nanoseconds, "{per_minute}");
        }
    }

    #[test]
    fn the_cushion_shifts_and_does_not_slow_down() {
        let began = Instant::now();
        let cushion = Duration::from_millis(100);
        for units in [21, 1_000] {
            let [with, without] = [cushion, NONE].map(|cushion| {
                take_all(
                    &mut Steady::new(10, Duration::from_secs(1), 20),
                    began,
                    units,
                    cushion,
                )
            });
            assert_eq!(with - without, cushion);
        }
    }

    #[test]
    fn a_small_burst_has_little_room_for_a_cushion() {
        let now = Instant::now();
        let mut bucket = Steady::new(1_000, Duration::from_secs(1), 1);
        assert_eq!(
            take_all(&mut bucket, now, 11, MINUTE),
            now + Duration::from_millis(10)
        );
        let bucket = Steady::new(1_000, Duration::from_secs(1), 10);
        assert_eq!(bucket.left(now, MINUTE), 5);
    }

    #[test]
    fn all_of_it_can_be_had_at_once_but_for_the_cushion() {
        let now = Instant::now();
        let cushion = Duration::from_millis(100);
        let mut bucket = Steady::new(10, Duration::from_secs(1), 20);
        assert_eq!(bucket.opens_at(now, 0, 20, cushion), now);
        bucket.take(now, 20);
        assert_eq!(
            bucket.opens_at(now, 0, 20, cushion),
            now + Duration::from_secs(2)
        );
        assert_eq!(
            bucket.opens_at(now, 0, 1, cushion),
            now + Duration::from_millis(200)
        );
    }

    #[test]
    fn a_drained_one_is_empty_at_that_moment_and_refills() {
        let now = Instant::now();
        let mut bucket = Steady::new(10, Duration::from_secs(1), 20);
        bucket.drain(now, now + MINUTE);
        assert_eq!(bucket.left(now, NONE), 0);
        assert_eq!(bucket.left(now + Duration::from_millis(550), NONE), 5);
        bucket.take(now, 3);
        bucket.drain(now, now + MINUTE);
        assert_eq!(
            bucket.opens_at(now, 0, 1, NONE),
            now + Duration::from_millis(400),
            "what is overdrawn stays so"
        );
    }

    #[test]
    fn a_drained_one_opens_when_the_server_says() {
        let now = Instant::now();
        let mut bucket = Steady::new(3, MINUTE, 3);
        bucket.drain(now, now + Duration::from_secs(1));
        assert_eq!(
            bucket.opens_at(now, 0, 1, NONE),
            now + Duration::from_secs(1)
        );
        assert_eq!(
            bucket.opens_at(now, 1, 1, NONE),
            now + Duration::from_secs(21)
        );
    }

    #[test]
    fn what_is_put_back_is_there_again_unless_it_has_flowed_over() {
        let began = Instant::now();
        let second = Duration::from_secs(1);
        let mut bucket = Steady::new(10, second, 20);
        bucket.take(began, 15);
        bucket.take(began + second, 15);
        bucket.put_back(began, 12);
        assert_eq!(bucket.left(began + second, NONE), 12);
        bucket.take(began + 3 * second, 20);
        bucket.put_back(began + second, 15);
        assert_eq!(bucket.left(began + 3 * second, NONE), 0);
        bucket.put_back(began + 3 * second, 5);
        assert_eq!(bucket.left(began + 3 * second, NONE), 5);
    }

    #[test]
    fn no_more_is_overdrawn_than_a_span_makes_up_for() {
        let now = Instant::now();
        let mut bucket = Steady::new(10, Duration::from_secs(1), 20);
        (0..9).for_each(|_| bucket.take(now, u64::MAX));
        assert_eq!(
            bucket.opens_at(now, 0, 1, NONE),
            now + Duration::from_millis(1_100)
        );
    }

    #[test]
    fn nothing_absurd_overflows() {
        let now = Instant::now();
        for span in [Duration::ZERO, Duration::MAX] {
            let mut bucket = Steady::new(u64::MAX, span, u64::MAX);
            bucket.take(now, u64::MAX);
            bucket.drain(now, now);
            let opens_at = bucket.opens_at(now, u64::MAX, u64::MAX, Duration::MAX);
            assert!(opens_at <= now + CEILING);
            assert_eq!(opens_at == now, span.is_zero());
            bucket.put_back(now, u64::MAX);
        }
    }

    proptest! {
        #[test]
        fn is_refused_before_the_time_it_names_and_admitted_exactly_at_it(
            per_span in 1_u64..10_000,
            span_ns in 1_u64..100_000_000_000,
            burst in 1_u64..10_000,
            cushion_ns in 0_u64..200_000_000,
            // Each step: what is taken, and the nanoseconds that pass before it.
            steps in prop::collection::vec((0_u64..2_000, 0_u64..5_000_000_000), 0..20),
            units in 1_u64..10_000,
            early_ratio in 0.0..1.0_f64,
        ) {
            let cushion = Duration::from_nanos(cushion_ns);
            let mut bucket = Steady::new(per_span, Duration::from_nanos(span_ns), burst);
            let mut now = Instant::now();
            for (units, pass) in steps {
                now += Duration::from_nanos(pass);
                bucket.take(now, units);
            }
            let full = Steady::new(per_span, Duration::from_nanos(span_ns), burst);
            let units = units.min(full.left(now, cushion));
            // What the cushion leaves of a bucket can be less than one.
            prop_assume!(units > 0);
            let opens_at = bucket.opens_at(now, 0, units, cushion);
            prop_assert!(bucket.left(opens_at, cushion) >= units);
            prop_assert_eq!(bucket.opens_at(opens_at, 0, units, cushion), opens_at);
            if let Some(wait) = (opens_at - now).checked_sub(NANOSECOND) {
                for early in [now + wait, now + wait.mul_f64(early_ratio)] {
                    prop_assert!(bucket.left(early, cushion) < units);
                    prop_assert_eq!(bucket.opens_at(early, 0, units, cushion), opens_at);
                }
            }
        }

        /// Each request arrives late by at most the cushion, and the server has the same bucket.
        #[test]
        fn what_is_sent_is_within_the_bucket_however_late_it_arrives(
            per_second in 1_u64..200,
            room in 0_u64..50,
            latencies_ns in prop::collection::vec(0_u64..=100_000_000, 200),
            passes_ns in prop::collection::vec(0_u64..300_000_000, 200),
        ) {
            let cushion = Duration::from_millis(100);
            // What flows in during the cushion is at most half of the burst.
            let burst = per_second.div_ceil(5).max(2) + room;
            let span = Duration::from_secs(1);
            let mut ours = Steady::new(per_second, span, burst);
            let mut now = Instant::now();
            let mut arrivals = Vec::new();
            for (latency, pass) in latencies_ns.iter().zip(passes_ns) {
                now = ours.opens_at(now + Duration::from_nanos(pass / 4), 0, 1, cushion);
                ours.take(now, 1);
                arrivals.push(now + Duration::from_nanos(*latency));
            }
            arrivals.sort();
            let mut theirs = Steady::new(per_second, span, burst);
            for arrival in arrivals {
                prop_assert_eq!(theirs.opens_at(arrival, 0, 1, NONE), arrival);
                theirs.take(arrival, 1);
            }
        }
    }
}
