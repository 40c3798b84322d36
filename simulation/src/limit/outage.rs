//! A server that refuses all for a while.

use std::time::Duration;

use tokio::time::Instant;

use super::{Limit, Opening, Standing};

/// Refuses everything from one instant to another; what the limit behind it counts
/// goes on coming back meanwhile.
#[derive(Debug)]
pub struct Outage<L> {
    limit: L,
    begin: Instant,
    end: Instant,
    longest_wait: Duration,
}

impl<L: Limit> Outage<L> {
    /// From `begin` to before `end`. Nobody is asked to wait for longer than
    /// `longest_wait`: while it lasts, none knows how long it will.
    pub fn new(limit: L, begin: Instant, end: Instant, longest_wait: Duration) -> Self {
        Self {
            limit,
            begin,
            end,
            longest_wait,
        }
    }

    fn has(&self, now: Instant) -> bool {
        (self.begin..self.end).contains(&now)
    }
}

impl<L: Limit> Limit for Outage<L> {
    fn admit(&mut self, tokens: u32, now: Instant) -> bool {
        !self.has(now) && self.limit.admit(tokens, now)
    }

    fn leave(&mut self) {
        self.limit.leave();
    }

    fn opening(&self, tokens: u32, now: Instant) -> Opening {
        match self.limit.opening(tokens, now) {
            Opening::At(opening) if self.has(opening.max(now)) => Opening::At(self.end),
            opening => opening,
        }
    }

    fn wait(&self, tokens: u32, now: Instant) -> Option<Duration> {
        if !self.has(now) {
            return self.limit.wait(tokens, now);
        }
        Some(
            self.end
                .saturating_duration_since(now)
                .min(self.longest_wait),
        )
    }

    fn standings(&self, now: Instant) -> Vec<Standing> {
        self.limit.standings(now)
    }
}
