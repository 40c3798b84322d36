//! No limit.

use tokio::time::Instant;

use super::{Limit, Opening};

/// Admits everything.
#[derive(Debug, Clone, Copy)]
pub struct Unlimited;

impl Limit for Unlimited {
    fn admit(&mut self, _tokens: u32, _now: Instant) -> bool {
        true
    }

    fn opening(&self, _tokens: u32, now: Instant) -> Opening {
        Opening::At(now)
    }
}
