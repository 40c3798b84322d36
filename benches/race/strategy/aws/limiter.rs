//! The client's own token bucket, and how its rate follows what is throttled.

use std::time::Duration;

/// What a throttled rate is multiplied with.
const BETA: f64 = 0.7;
/// How fast the rate grows again, as a share per second cubed.
const SCALE: f64 = 0.4;
/// The weight of the newest measurement of the rate.
const SMOOTH: f64 = 0.8;
/// Of the measurements, in seconds.
const INTERVAL: f64 = 0.5;
const MIN_RATE: f64 = 0.5;
const MIN_CAPACITY: f64 = 1.0;

/// All times in seconds since the first request, all rates in requests per second.
#[derive(Default)]
pub(super) struct Limiter {
    /// From the first throttling on.
    is_enabled: bool,
    rate: f64,
    capacity: f64,
    level: f64,
    filled_at: f64,
    measured_rate: f64,
    measured_at: f64,
    answers: f64,
    /// The rate that was throttled last, and when.
    max_rate: f64,
    throttled_at: f64,
}

impl Limiter {
    /// Takes a token, or says how long to wait for one: at least the millisecond of tokio's timers.
    pub(super) fn acquire(&mut self, now: f64) -> Result<(), Duration> {
        if !self.is_enabled {
            return Ok(());
        }
        self.fill(now);
        if self.level < 1.0 {
            let wait = Duration::from_secs_f64((1.0 - self.level) / self.rate);
            return Err(wait.max(Duration::from_millis(1)));
        }
        self.level -= 1.0;
        Ok(())
    }

    pub(super) fn answered(&mut self, is_throttled: bool, now: f64) {
        self.measure(now);
        let rate = if is_throttled {
            let limited = if self.is_enabled { self.rate } else { f64::MAX };
            self.max_rate = self.measured_rate.min(limited);
            self.throttled_at = now;
            self.is_enabled = true;
            self.max_rate * BETA
        } else {
            let recovery = (self.max_rate * (1.0 - BETA) / SCALE).cbrt();
            SCALE * (now - self.throttled_at - recovery).powi(3) + self.max_rate
        };
        self.fill(now);
        let rate = rate.min(2.0 * self.measured_rate);
        self.rate = rate.max(MIN_RATE);
        self.capacity = rate.max(MIN_CAPACITY);
        self.level = self.level.min(self.capacity);
    }

    fn measure(&mut self, now: f64) {
        let interval = (now / INTERVAL).floor() * INTERVAL;
        self.answers += 1.0;
        if interval > self.measured_at {
            let rate = self.answers / (interval - self.measured_at);
            self.measured_rate = rate * SMOOTH + self.measured_rate * (1.0 - SMOOTH);
            self.measured_at = interval;
            self.answers = 0.0;
        }
    }

    fn fill(&mut self, now: f64) {
        self.level = (self.level + (now - self.filled_at) * self.rate).min(self.capacity);
        self.filled_at = now;
    }
}
