//! So many requests in any span of some length.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::{Limit, Opening, Standing, Unit};

/// Admits a request if fewer than the limit were admitted within the length before
/// it. One that was admitted exactly a length ago no longer counts.
#[derive(Debug, Clone)]
pub struct SlidingLog {
    limit: u32,
    length: Duration,
    /// The admissions that counted when the last one was made.
    log: VecDeque<Instant>,
}

impl SlidingLog {
    /// So many requests in any span of this length.
    pub fn new(limit: u32, length: Duration) -> Self {
        Self {
            limit,
            length,
            log: VecDeque::new(),
        }
    }

    /// Those that count now, from the oldest.
    fn log(&self, now: Instant) -> impl Iterator<Item = Instant> {
        let counts = move |admission: &Instant| *admission + self.length > now;
        self.log.iter().copied().filter(counts)
    }

    fn used(&self, now: Instant) -> u32 {
        let past = self
            .log
            .partition_point(|admission| *admission + self.length <= now);
        (self.log.len() - past) as u32
    }
}

impl Limit for SlidingLog {
    fn admit(&mut self, _tokens: u32, now: Instant) -> bool {
        let admits = self.used(now) < self.limit;
        if admits {
            while self.log.len() >= self.limit as usize {
                self.log.pop_front();
            }
            self.log.push_back(now);
        }
        admits
    }

    fn opening(&self, _tokens: u32, now: Instant) -> Opening {
        if self.used(now) < self.limit {
            return Opening::At(now);
        }
        match self.log(now).next() {
            Some(oldest) => Opening::At(oldest + self.length),
            None => Opening::Never,
        }
    }

    fn standings(&self, now: Instant) -> Vec<Standing> {
        let until = |admission: Instant| (admission + self.length).saturating_duration_since(now);
        vec![Standing {
            unit: Unit::Requests,
            limit: self.limit,
            remaining: self.limit - self.used(now),
            window: self.length,
            reset: self.log.back().copied().map(until).unwrap_or_default(),
            next: self.log(now).next().map(until).unwrap_or_default(),
        }]
    }
}
