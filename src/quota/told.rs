//! What one answer tells of a window, in units of its dimension.

use super::{
    Unit,
    dimension::Answer,
    end::{End, Rounding},
};
use crate::signal::RateLimit;
use std::time::Duration;
use tokio::time::Instant;

/// No request is on its way for longer, unless the network is in trouble.
const LONGEST_WAY: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    /// When the answer came, and when its request was sent.
    pub(super) now: Instant,
    pub(super) sent_at: Instant,
    limit: Option<u64>,
    pub(super) remaining: u64,
    pub(super) reset: Duration,
    /// What the request cost, whether or not it was refused.
    pub(super) cost: u64,
    pub(super) is_refused: bool,
    /// What the server may not have counted then, of all that is under way.
    pub(super) uncounted: u64,
    /// How long a request is on its way to the server at most.
    pub(super) on_the_way: Duration,
}

impl Told {
    /// `None` if it does not tell what remains, or until when.
    pub(super) fn of(answer: &Answer, announced: &RateLimit, unit: Unit) -> Option<Self> {
        let told = Self {
            now: answer.now,
            sent_at: answer.sent_at,
            // Zero is what some servers send with every refusal.
            limit: announced.limit().filter(|&limit| limit > 0),
            remaining: announced.remaining()?,
            reset: announced.reset()?,
            cost: answer.cost.count(unit),
            is_refused: answer.is_refused,
            uncounted: answer.uncounted.count(unit),
            on_the_way: answer.on_the_way.min(LONGEST_WAY),
        };
        // Of a window that is over, of no known size, nothing can be learned: so some fill in fields
        // that do not apply.
        let is_empty = told.limit.is_none() && told.reset.is_zero();
        (!is_empty).then_some(told)
    }

    /// The limit; if there is no word of it, what remains and the answered request at the least.
    pub(super) fn limit_from(&self, known: u64) -> u64 {
        match self.limit {
            Some(limit) => limit.max(self.remaining),
            None => self.remaining.saturating_add(1).max(known),
        }
    }

    /// What of the window was used by the answered request.
    pub(super) fn used(&self) -> u64 {
        if self.is_refused { 0 } else { self.cost }
    }

    /// When the window ends.
    pub(super) fn end(&self, rounding: Rounding) -> End {
        End::announced(self.now, self.sent_at, self.reset, rounding)
    }

    /// Whether the reset is a whole number of seconds.
    pub(super) fn is_whole(&self) -> bool {
        self.reset.subsec_nanos() == 0
    }

    /// Whether no time is left and yet something of the window: who rounds up would have said a
    /// second.
    pub(super) fn is_rounded_down(&self) -> bool {
        self.reset.is_zero() && self.remaining > 0
    }
}
