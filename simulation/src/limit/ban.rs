//! A limit that punishes those who ask while it is closed.

use std::time::Duration;

use tokio::time::Instant;

use super::{Limit, Opening, Standing};

/// Closes another limit for a while at each refusal, and for longer with each
/// request that comes while it is closed.
#[derive(Debug)]
pub struct Ban<L> {
    limit: L,
    first: Duration,
    further: Duration,
    /// The end of the last ban.
    until: Option<Instant>,
}

impl<L: Limit> Ban<L> {
    /// A refusal by `limit` closes it for `first`; each request during a ban makes
    /// that `further` longer.
    pub fn new(limit: L, first: Duration, further: Duration) -> Self {
        Self {
            limit,
            first,
            further,
            until: None,
        }
    }

    fn until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }
}

impl<L: Limit> Limit for Ban<L> {
    fn admit(&mut self, tokens: u32, now: Instant) -> bool {
        if let Some(until) = self.until(now) {
            self.until = Some(until + self.further);
            return false;
        }
        let admits = self.limit.admit(tokens, now);
        if !admits {
            self.until = Some(now + self.first);
        }
        admits
    }

    fn leave(&mut self) {
        self.limit.leave();
    }

    fn opening(&self, tokens: u32, now: Instant) -> Opening {
        let end = Opening::At(self.until(now).unwrap_or(now));
        end.and(self.limit.opening(tokens, now))
    }

    fn standings(&self, now: Instant) -> Vec<Standing> {
        self.limit.standings(now)
    }
}
