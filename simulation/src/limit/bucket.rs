//! A bucket that refills continuously, at a rate that may change.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

use super::{Limit, Opening, Standing, Unit};
use crate::Bucket;

/// A [`Bucket`] of requests or of tokens, full at first.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    unit: Unit,
    capacity: u32,
    per_minute: NonZeroU32,
    bucket: Bucket,
    /// The rates to come, in order of their beginnings.
    changes: Vec<(Instant, NonZeroU32)>,
}

impl TokenBucket {
    /// A full bucket that holds `capacity` and gains `per_minute`.
    pub fn new(unit: Unit, capacity: u32, per_minute: NonZeroU32, now: Instant) -> Self {
        Self {
            unit,
            capacity,
            per_minute,
            bucket: Bucket::new(capacity, per_minute, now),
            changes: Vec::new(),
        }
    }

    /// From `at` on, which is later than all earlier changes, it gains `per_minute`.
    ///
    /// The server does not know beforehand: the waits that it announces are those of
    /// its present rate.
    #[must_use]
    pub fn then(mut self, at: Instant, per_minute: NonZeroU32) -> Self {
        self.changes.push((at, per_minute));
        self
    }

    /// Makes the changes that are due.
    fn change(&mut self, now: Instant) {
        while let Some(&(at, per_minute)) = self.changes.first().filter(|(at, _)| *at <= now) {
            self.changes.remove(0);
            self.bucket.set_rate(per_minute, at);
            self.per_minute = per_minute;
        }
    }

    fn at(&self, now: Instant) -> Self {
        let mut bucket = self.clone();
        bucket.change(now);
        bucket
    }
}

impl Limit for TokenBucket {
    fn admit(&mut self, tokens: u32, now: Instant) -> bool {
        self.change(now);
        self.bucket.try_take(self.unit.of(tokens), now)
    }

    fn opening(&self, tokens: u32, now: Instant) -> Opening {
        let mut bucket = self.at(now);
        let mut now = now;
        loop {
            let Some(wait) = bucket.bucket.time_until(self.unit.of(tokens), now) else {
                return Opening::Never;
            };
            match bucket.changes.first() {
                Some(&(change, _)) if change < now + wait => now = change,
                _ => return Opening::At(now + wait),
            }
            bucket.change(now);
        }
    }

    fn wait(&self, tokens: u32, now: Instant) -> Option<Duration> {
        let bucket = self.at(now).bucket;
        bucket.time_until(self.unit.of(tokens), now)
    }

    fn standings(&self, now: Instant) -> Vec<Standing> {
        let Self {
            bucket, per_minute, ..
        } = self.at(now);
        let remaining = bucket.remaining(now);
        let window = Duration::from_secs(60).mul_f64(f64::from(self.capacity));
        vec![Standing {
            unit: self.unit,
            limit: self.capacity,
            remaining,
            window: window.div_f64(f64::from(per_minute.get())),
            reset: bucket.time_to_full(now),
            next: bucket.time_until(remaining + 1, now).unwrap_or_default(),
        }]
    }
}
