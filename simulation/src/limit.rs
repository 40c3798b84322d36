//! What servers allow: models of limits, for races in virtual time.
//!
//! A [`Limit`] admits or refuses, and says exactly when it would admit: at
//! [`opening`](Limit::opening), and at no instant before. A server tells its
//! clients less; how it says it is for [`Hints`](crate::Hints).

mod all;
mod ban;
mod bucket;
mod concurrency;
mod outage;
mod sliding_log;
mod unlimited;
mod window;

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

pub use all::All;
pub use ban::Ban;
pub use bucket::TokenBucket;
pub use concurrency::Concurrency;
pub use outage::Outage;
pub use sliding_log::SlidingLog;
pub use unlimited::Unlimited;
pub use window::FixedWindow;

/// What a server allows all who share a quota.
///
/// It has no clock: `now` is passed in, and never goes back.
pub trait Limit: fmt::Debug + Send {
    /// A request of so many tokens arrives. It is admitted and charged, or refused;
    /// says which.
    fn admit(&mut self, tokens: u32, now: Instant) -> bool;

    /// One that was admitted has been served.
    fn leave(&mut self) {}

    /// When a request of so many tokens will be admitted if nothing else happens.
    fn opening(&self, tokens: u32, now: Instant) -> Opening;

    /// How long the server asks one to wait that it has just refused; `None` if it
    /// cannot know. By default it knows what there is to know.
    fn wait(&self, tokens: u32, now: Instant) -> Option<Duration> {
        match self.opening(tokens, now) {
            Opening::At(opening) => Some(opening.saturating_duration_since(now)),
            Opening::AfterLeaving | Opening::Never => None,
        }
    }

    /// What the server knows of what is left, by dimension; empty if it knows nothing
    /// that a header could say.
    fn standings(&self, _now: Instant) -> Vec<Standing> {
        Vec::new()
    }
}

/// When a request will be admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// At this instant and not before; now, if it is not later.
    At(Instant),
    /// When one that is being served has left, whenever that may be; ask again then.
    AfterLeaving,
    /// It exceeds the whole limit.
    Never,
}

impl Opening {
    /// The later of two limits' openings.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Never, _) | (_, Self::Never) => Self::Never,
            (Self::AfterLeaving, _) | (_, Self::AfterLeaving) => Self::AfterLeaving,
            (Self::At(one), Self::At(other)) => Self::At(one.max(other)),
        }
    }

    /// Whether that is now.
    pub fn is_now(self, now: Instant) -> bool {
        matches!(self, Self::At(opening) if opening <= now)
    }
}

/// What a dimension counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Every request is one.
    Requests,
    /// What a request says.
    Tokens,
}

impl Unit {
    /// The quota units of one request of so many tokens.
    pub fn of(self, tokens: u32) -> u32 {
        match self {
            Self::Requests => 1,
            Self::Tokens => tokens,
        }
    }
}

/// What is left of one dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// What it counts.
    pub unit: Unit,
    /// What there is of it when it is full or new.
    pub limit: u32,
    /// What is left, in whole units.
    pub remaining: u32,
    /// The time in which the whole limit comes back.
    pub window: Duration,
    /// The time until it is full or new.
    pub reset: Duration,
    /// The time until another unit is back; zero if it is full.
    pub next: Duration,
}

#[cfg(test)]
mod tests;
