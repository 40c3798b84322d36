//! So many in each window of time.

use std::time::Duration;

use tokio::time::Instant;

use super::{Limit, Opening, Standing, Unit};

/// Admits up to the limit in each window; the windows follow each other without a
/// gap, whatever is asked.
#[derive(Debug, Clone)]
pub struct FixedWindow {
    unit: Unit,
    limit: u32,
    length: Duration,
    began: Instant,
    /// How much of the first window had passed when the server began.
    age: Duration,
    /// The number of the window that `used` belongs to.
    window: u128,
    used: u32,
}

impl FixedWindow {
    /// So many requests or tokens in each window of this length, the first of which
    /// begins now.
    ///
    /// # Panics
    ///
    /// If the length is zero.
    pub fn new(unit: Unit, limit: u32, length: Duration, now: Instant) -> Self {
        assert!(!length.is_zero(), "a window takes time");
        Self {
            unit,
            limit,
            length,
            began: now,
            age: Duration::ZERO,
            window: 0,
            used: 0,
        }
    }

    /// So much of the first window has passed already.
    #[must_use]
    pub fn age(self, age: Duration) -> Self {
        Self { age, ..self }
    }

    /// Since the first window began.
    fn passed(&self, now: Instant) -> u128 {
        let served = now.saturating_duration_since(self.began);
        (served + self.age).as_nanos()
    }

    fn window(&self, now: Instant) -> u128 {
        self.passed(now) / self.length.as_nanos()
    }

    fn used(&self, now: Instant) -> u32 {
        if self.window(now) == self.window {
            self.used
        } else {
            0
        }
    }

    fn until_next(&self, now: Instant) -> Duration {
        let passed = self.passed(now) % self.length.as_nanos();
        // At most a window, whose nanoseconds fit for centuries.
        Duration::from_nanos((self.length.as_nanos() - passed) as u64)
    }
}

impl Limit for FixedWindow {
    fn admit(&mut self, tokens: u32, now: Instant) -> bool {
        let used = self.used(now).saturating_add(self.unit.of(tokens));
        let admits = used <= self.limit;
        if admits {
            self.window = self.window(now);
            self.used = used;
        }
        admits
    }

    fn opening(&self, tokens: u32, now: Instant) -> Opening {
        let units = self.unit.of(tokens);
        if units > self.limit {
            Opening::Never
        } else if units <= self.limit - self.used(now) {
            Opening::At(now)
        } else {
            Opening::At(now + self.until_next(now))
        }
    }

    fn standings(&self, now: Instant) -> Vec<Standing> {
        let reset = self.until_next(now);
        vec![Standing {
            unit: self.unit,
            limit: self.limit,
            remaining: self.limit - self.used(now),
            window: self.length,
            reset,
            next: reset,
        }]
    }
}
