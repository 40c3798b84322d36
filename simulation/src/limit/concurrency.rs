//! So many at a time.

use tokio::time::Instant;

use super::{Limit, Opening};

/// Admits so many requests that have not [left](Limit::leave) yet.
///
/// It cannot know when one will leave, and announces no wait.
#[derive(Debug, Clone, Copy)]
pub struct Concurrency {
    limit: u32,
    in_service: u32,
}

impl Concurrency {
    /// So many at a time.
    pub fn new(limit: u32) -> Self {
        Self {
            limit,
            in_service: 0,
        }
    }
}

impl Limit for Concurrency {
    fn admit(&mut self, _tokens: u32, _now: Instant) -> bool {
        let admits = self.in_service < self.limit;
        self.in_service += u32::from(admits);
        admits
    }

    fn leave(&mut self) {
        self.in_service = self.in_service.saturating_sub(1);
    }

    fn opening(&self, _tokens: u32, now: Instant) -> Opening {
        if self.limit == 0 {
            Opening::Never
        } else if self.in_service < self.limit {
            Opening::At(now)
        } else {
            Opening::AfterLeaving
        }
    }
}
