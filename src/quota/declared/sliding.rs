//! Never more than so much in any span of a length.

use super::super::{CEILING, after};
use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;

/// What is taken within one part of so many of a span goes into one entry, and leaves with the last
/// of it. So a span is at the most so much longer, and a log holds some 150 entries however much it
/// counts.
const PARTS: u32 = 128;

/// A cushion is at the most this part of a span.
const LARGEST_CUSHION: u32 = 10;

/// In how many parts the use of others is assumed to leave the log.
const OTHERS: u32 = 8;

/// A log of what was taken in the last span.
#[derive(Debug)]
pub(super) struct Sliding {
    limit: u64,
    span: Duration,
    /// In order of time.
    entries: VecDeque<Entry>,
    /// The sum of all entries.
    units: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    first: Instant,
    last: Instant,
    units: u64,
}

impl Sliding {
    /// Of nothing.
    pub(super) fn new(limit: u64, span: Duration) -> Self {
        Self {
            limit,
            span: span.min(CEILING),
            entries: VecDeque::new(),
            units: 0,
        }
    }

    /// When so many units may be taken, after `ahead` others were. What exceeds the limit by itself
    /// needs all of it.
    pub(super) fn opens_at(
        &self,
        now: Instant,
        ahead: u64,
        units: u64,
        cushion: Duration,
    ) -> Instant {
        let counts_for = self.counts_for(cushion);
        let taken = ahead.saturating_add(units.min(self.limit));
        // Those ahead who fill whole spans; what they take leaves the log in the order of what is in
        // it now.
        let spans = taken.saturating_sub(1) / self.limit;
        let rest = taken - spans * self.limit;
        let wanted = u128::from(self.units) + u128::from(rest);
        let mut in_the_way = wanted.saturating_sub(self.limit.into());
        let mut opens_at = now;
        for entry in &self.entries {
            if in_the_way == 0 {
                break;
            }
            opens_at = after(entry.last, counts_for).max(now);
            in_the_way = in_the_way.saturating_sub(entry.units.into());
        }
        let spans = u32::try_from(spans).unwrap_or(u32::MAX);
        after(opens_at, counts_for.saturating_mul(spans))
    }

    /// Whether what was taken at that instant counts.
    pub(super) fn still_counts(&self, at: Instant, now: Instant, cushion: Duration) -> bool {
        after(at, self.counts_for(cushion)) > now
    }

    /// How much may be taken.
    pub(super) fn left(&self, now: Instant, cushion: Duration) -> u64 {
        let counts_for = self.counts_for(cushion);
        // Those that no longer count are few: the others are not looked at.
        let entries = self.entries.iter();
        let over = entries.take_while(|e| after(e.last, counts_for) <= now);
        let over: u64 = over.map(|entry| entry.units).sum();
        self.limit.saturating_sub(self.units - over)
    }

    /// When nothing that was taken counts any longer.
    pub(super) fn empty_at(&self, now: Instant, cushion: Duration) -> Instant {
        let mut entries = self.entries.iter().rev();
        let last = entries.find(|entry| entry.units > 0);
        last.map_or(now, |last| after(last.last, self.counts_for(cushion)))
    }

    /// Whether nothing that was taken counts any longer, whatever the cushion.
    pub(super) fn is_empty(&self, now: Instant) -> bool {
        let counts_for = self.counts_for(CEILING);
        let last = self.entries.back();
        last.is_none_or(|last| after(last.last, counts_for) <= now)
    }

    /// Takes them, whether they may be taken or not.
    pub(super) fn take(&mut self, now: Instant, units: u64) {
        self.clear(now);
        let units = units.min(u64::MAX - self.units);
        if units == 0 {
            return;
        }
        self.units += units;
        let part = self.span / PARTS;
        match self.entries.back_mut() {
            Some(back) if now.saturating_duration_since(back.first) <= part => {
                back.first = back.first.min(now);
                back.last = back.last.max(now);
                back.units += units;
            }
            _ => self.entries.push_back(Entry {
                first: now,
                last: now,
                units,
            }),
        }
    }

    /// Puts back what was taken at that instant, if it still counts.
    pub(super) fn put_back(&mut self, at: Instant, units: u64) {
        let place = self.entries.partition_point(|entry| entry.last < at);
        let entry = self.entries.get_mut(place);
        if let Some(entry) = entry.filter(|entry| entry.first <= at) {
            let units = units.min(entry.units);
            entry.units -= units;
            self.units -= units;
        }
    }

    /// Nothing is left, as the server says, and something will be at `until`: what we have not taken
    /// others have, and it leaves the log by degrees from then on.
    pub(super) fn drain(&mut self, now: Instant, until: Instant) {
        self.clear(now);
        let by_others = u128::from(self.limit.saturating_sub(self.units));
        let wait = until.saturating_duration_since(now);
        let rest = self.span.saturating_sub(wait);
        let up_to = |part: u32| (by_others * u128::from(part)).div_ceil(OTHERS.into()) as u64;
        for part in 0..OTHERS {
            let at = now.checked_sub(rest / OTHERS * (OTHERS - part));
            self.add(at.unwrap_or(now), up_to(part + 1) - up_to(part));
        }
    }

    /// How long what was taken counts.
    fn counts_for(&self, cushion: Duration) -> Duration {
        self.span + cushion.min(self.span / LARGEST_CUSHION)
    }

    /// Adds an entry at its place.
    fn add(&mut self, at: Instant, units: u64) {
        let place = self.entries.partition_point(|entry| entry.last <= at);
        let (first, last) = (at, at);
        self.entries.insert(place, Entry { first, last, units });
        self.units += units;
    }

    /// Drops what no longer counts, whatever the cushion.
    fn clear(&mut self, now: Instant) {
        let counts_for = self.counts_for(CEILING);
        while let Some(front) = self.entries.front() {
            if after(front.last, counts_for) > now {
                break;
            }
            self.units -= front.units;
            self.entries.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NANOSECOND: Duration = Duration::from_nanos(1);
    const SPAN: Duration = Duration::from_secs(10);
    const NONE: Duration = Duration::ZERO;

    /// How long until so many may be taken after so many others.
    fn wait(log: &Sliding, now: Instant, ahead: u64, units: u64) -> Duration {
        log.opens_at(now, ahead, units, NONE) - now
    }

    #[test]
    fn all_of_it_can_be_had_at_once_and_again_when_a_span_is_over() {
        let now = Instant::now();
        let mut log = Sliding::new(60, SPAN);
        assert_eq!(wait(&log, now, 59, 1), NONE);
        assert_eq!(wait(&log, now, 60, 1), SPAN);
        log.take(now, 60);
        assert_eq!(wait(&log, now, 0, 1), SPAN);
        assert_eq!(wait(&log, now, 59, 1), SPAN);
        assert_eq!(wait(&log, now, 60, 1), 2 * SPAN);
        assert_eq!(wait(&log, now, 599, 1), 10 * SPAN);
        assert_eq!(wait(&log, now + SPAN, 0, 60), NONE);
    }

    #[test]
    fn each_leaves_by_itself() {
        let began = Instant::now();
        let mut log = Sliding::new(3, SPAN);
        (0..3_u32).for_each(|n| log.take(began + n * SPAN / 5, 1));
        let now = began + SPAN / 2;
        for (ahead, fifths) in [(0, 5), (1, 6), (2, 7), (3, 10), (4, 11)] {
            assert_eq!(log.opens_at(now, ahead, 1, NONE), began + fifths * SPAN / 5);
        }
        assert_eq!(log.opens_at(now, 0, 3, NONE), began + 7 * SPAN / 5);
        assert_eq!(log.left(began + 6 * SPAN / 5, NONE), 2);
    }

    #[test]
    fn what_is_in_one_entry_leaves_with_the_last() {
        let began = Instant::now();
        let mut log = Sliding::new(3, SPAN);
        let part = SPAN / PARTS;
        for age in [NONE, part / 2, part] {
            log.take(began + age, 1);
        }
        assert_eq!(log.entries.len(), 1);
        assert_eq!(log.opens_at(began + part, 0, 1, NONE), began + part + SPAN);
    }

    #[test]
    fn a_cushion_makes_the_span_longer_by_a_tenth_at_most() {
        let now = Instant::now();
        let mut log = Sliding::new(1, SPAN);
        log.take(now, 1);
        for (cushion_ms, wait_ms) in [(50, 10_050), (1_000, 11_000), (2_000, 11_000)] {
            let opens_at = log.opens_at(now, 0, 1, Duration::from_millis(cushion_ms));
            assert_eq!(opens_at, now + Duration::from_millis(wait_ms));
        }
    }

    #[test]
    fn what_is_put_back_is_that_which_was_taken_then() {
        let began = Instant::now();
        let mut log = Sliding::new(3, SPAN);
        (0..3_u32).for_each(|n| log.take(began + n * SPAN / 5, 1));
        let now = began + SPAN / 2;
        log.put_back(began + SPAN / 5, 1);
        assert_eq!(wait(&log, now, 0, 1), NONE);
        log.take(now, 1);
        for (ahead, at) in [
            (0, began + SPAN),
            (1, began + 7 * SPAN / 5),
            (2, now + SPAN),
        ] {
            assert_eq!(log.opens_at(now, ahead, 1, NONE), at);
        }
        for at in [SPAN / 5, SPAN / 4, SPAN].map(|age| began + age) {
            log.put_back(at, 1);
            assert_eq!(log.left(now, NONE), 0, "and nothing else");
        }
    }

    #[test]
    fn is_empty_when_the_last_that_was_not_put_back_has_left() {
        let began = Instant::now();
        let mut log = Sliding::new(3, SPAN);
        assert_eq!(log.empty_at(began, NONE), began);
        (0..2_u32).for_each(|n| log.take(began + n * SPAN / 5, 1));
        let now = began + SPAN / 5;
        assert_eq!(log.empty_at(now, NONE), now + SPAN);
        log.put_back(now, 1);
        assert_eq!(log.empty_at(now, NONE), began + SPAN);
        let longest = SPAN + SPAN / LARGEST_CUSHION;
        assert!(log.is_empty(now + longest) && !log.is_empty(began + longest - NANOSECOND));
    }

    #[test]
    fn a_drained_one_opens_by_degrees_from_when_the_server_says() {
        let now = Instant::now();
        let mut log = Sliding::new(60, SPAN);
        log.take(now, 20);
        log.drain(now, now + SPAN / 5);
        for (tenths, left) in [(0, 0), (1, 0), (2, 5), (3, 10), (4, 15), (9, 40), (10, 60)] {
            assert_eq!(log.left(now + tenths * SPAN / 10, NONE), left, "{tenths}");
        }
        log.drain(now, now + 2 * SPAN);
        assert_eq!(
            log.left(now + SPAN, NONE),
            60,
            "and does not outlast the span"
        );
    }

    #[test]
    fn one_of_few_can_be_had_when_the_server_says() {
        let now = Instant::now();
        let mut log = Sliding::new(3, SPAN);
        log.drain(now, now + SPAN / 10);
        assert_eq!(log.opens_at(now, 0, 1, NONE), now + SPAN / 10);
        assert!(log.opens_at(now, 1, 1, NONE) > now + SPAN / 4);
    }

    #[test]
    fn a_million_requests_leave_a_few_entries_and_are_late_by_less_than_a_hundredth() {
        let began = Instant::now();
        let interval = SPAN / 100_000;
        let mut log = Sliding::new(100_000, SPAN);
        let mut entries = 0;
        for n in 0..1_000_000 {
            // They come as fast as the limit allows, and no faster.
            let due = began + n * interval;
            let now = log.opens_at(due, 0, 1, NONE);
            log.take(now, 1);
            entries = entries.max(log.entries.len());
            assert!(now - due <= (due - began) / 100, "{n}: {:?}", now - due);
        }
        assert!(entries <= 150, "{entries}");
    }

    #[test]
    fn no_more_is_remembered_than_there_is() {
        let now = Instant::now();
        for span in [Duration::ZERO, Duration::MAX] {
            let mut log = Sliding::new(u64::MAX, span);
            (0..3).for_each(|_| log.take(now, u64::MAX));
            log.drain(now, now);
            let opens_at = log.opens_at(now, u64::MAX, u64::MAX, Duration::MAX);
            assert_eq!(opens_at == now, span.is_zero());
            log.put_back(now, u64::MAX);
            assert_eq!(log.left(now, NONE), u64::MAX);
        }
    }

    #[test]
    fn a_thread_that_comes_late_counts_with_the_last() {
        let now = Instant::now();
        let mut log = Sliding::new(2, SPAN);
        log.take(now + SPAN / 2, 1);
        log.take(now, 1);
        assert_eq!(log.opens_at(now, 0, 1, NONE), now + 3 * SPAN / 2);
    }

    proptest! {
        #[test]
        fn is_refused_before_the_time_it_names_and_admitted_exactly_at_it(
            limit in 1_u64..1_000,
            span_ns in 1_u64..100_000_000_000,
            cushion_ns in 0_u64..200_000_000,
            // Each step: what is taken, and the nanoseconds that pass before it.
            steps in prop::collection::vec((0_u64..500, 0_u64..5_000_000_000), 0..20),
            units in 1_u64..1_000,
            early_ratio in 0.0..1.0_f64,
        ) {
            let cushion = Duration::from_nanos(cushion_ns);
            let mut log = Sliding::new(limit, Duration::from_nanos(span_ns));
            let mut now = Instant::now();
            for (units, pass) in steps {
                now += Duration::from_nanos(pass);
                log.take(now, units);
            }
            let units = units.min(limit);
            let opens_at = log.opens_at(now, 0, units, cushion);
            prop_assert!(log.left(opens_at, cushion) >= units);
            prop_assert_eq!(log.opens_at(opens_at, 0, units, cushion), opens_at);
            if let Some(wait) = (opens_at - now).checked_sub(NANOSECOND) {
                for early in [now + wait, now + wait.mul_f64(early_ratio)] {
                    prop_assert!(log.left(early, cushion) < units);
                    prop_assert_eq!(log.opens_at(early, 0, units, cushion), opens_at);
                }
            }
        }

        /// Each arrives late by at most the cushion.
        #[test]
        fn no_span_of_that_length_ever_has_more_however_late_they_arrive(
            limit in 1_usize..30,
            latencies_ns in prop::collection::vec(0_u64..=1_000_000_000, 200),
            passes_ns in prop::collection::vec(0_u64..2_000_000_000, 200),
        ) {
            let cushion = SPAN / LARGEST_CUSHION;
            let mut log = Sliding::new(limit as u64, SPAN);
            let mut now = Instant::now();
            let mut arrivals = Vec::new();
            for (latency, pass) in latencies_ns.iter().zip(passes_ns) {
                now = log.opens_at(now + Duration::from_nanos(pass / 4), 0, 1, cushion);
                log.take(now, 1);
                arrivals.push(now + Duration::from_nanos(*latency));
            }
            arrivals.sort();
            for pair in arrivals.windows(limit + 1) {
                prop_assert!(pair[limit] - pair[0] >= SPAN);
            }
        }
    }
}
