//! When the next attempt may go: a deterministic model of one partition's quota.
//!
//! Several small models, each in its own file; the strictest wins and says why it holds a caller
//! back. Nothing here reads a clock, takes a lock or awaits: time comes in as an argument, and so a
//! model can be asked about any instant.
//!
//! - [`Pause`]: a refusal closed the partition until an instant; behind it the door opens by
//!   degrees.
//! - [`Bucket`]: an answer announced a limit, what remains of it, and when it will be full again.

mod bucket;
mod cost;
mod pause;

use crate::signal::RateLimit;
use bucket::Bucket;
use pause::Pause;
use std::{fmt, sync::Arc, time::Duration};
use tokio::time::Instant;

use cost::Unit;
pub(crate) use cost::{Cost, exceeds_limit, is_due_to_size};

/// Servers name two or three dimensions; a hostile one must not make us keep any number of them.
const MAX_DIMENSIONS: usize = 8;

/// The longest time that any model looks ahead: 2^31 s, where RFC 9111, section 1.2.2 caps
/// delay-seconds.
const CEILING: Duration = Duration::from_secs(1 << 31);

/// Whether an attempt may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Admit {
    /// At this instant.
    Now,
    /// At the instant named and not before; and what holds it back until then.
    At(Instant, Hold),
}

impl Admit {
    pub(crate) fn opens_at(&self, now: Instant) -> Instant {
        match self {
            Self::Now => now,
            Self::At(at, _) => *at,
        }
    }
}

/// What holds a caller back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// A refusal closed the partition, or its end is so fresh that the door is not yet wide open.
    Pause,
    /// A dimension, here named, has too little left.
    Dimension(Arc<str>),
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pause => f.write_str("pause"),
            Self::Dimension(name) => f.write_str(name),
        }
    }
}

/// The model of one partition.
#[derive(Debug, Default)]
pub(crate) struct Quota {
    pause: Pause,
    buckets: Vec<Bucket>,
    /// What was admitted and is not answered, sent already or not.
    outstanding: Cost,
}

impl Quota {
    /// When a request of this cost may go, if nobody else goes before it.
    pub(crate) fn admit(&self, now: Instant, cost: Cost) -> Admit {
        self.expected(now, Cost::NONE, cost)
    }

    /// When a request of this cost may go, if others of the cost `ahead` go before it.
    pub(crate) fn expected(&self, now: Instant, ahead: Cost, cost: Cost) -> Admit {
        let pause = self
            .pause
            .opens_at(now, ahead.requests)
            .map(|at| (at, Hold::Pause));
        let buckets = self
            .buckets
            .iter()
            .map(|b| (b.opens_at(now, ahead, cost), Hold::Dimension(b.dimension())));
        // Of two that name the same instant the first is the reason: a pause is what people look
        // for.
        let strictest = pause
            .into_iter()
            .chain(buckets)
            .reduce(|a, b| if b.0 > a.0 { b } else { a });
        match strictest {
            Some((at, hold)) if at > now => Admit::At(at, hold),
            _ => Admit::Now,
        }
    }

    /// The end of the pause, if one is on.
    pub(crate) fn paused_until(&self, now: Instant) -> Option<Instant> {
        self.pause.ends_at(now)
    }

    /// Refusals in a row, with one of a request sent at `sent_at`; those of one episode count as
    /// one.
    pub(crate) fn refusals_with(&self, sent_at: Instant) -> u32 {
        self.pause.refusals_with(sent_at)
    }

    /// Whether a dimension is known that counts tokens.
    pub(crate) fn counts_tokens(&self) -> bool {
        self.buckets.iter().any(|b| b.unit() == Unit::Tokens)
    }

    /// Whether nothing is admitted and nothing is being read.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.outstanding == Cost::NONE && self.pause.is_understood()
    }

    /// Takes a request's cost out of what is left, because it was admitted.
    pub(crate) fn reserve(&mut self, now: Instant, cost: Cost) {
        self.outstanding = self.outstanding.plus(cost);
        self.pause.released(1);
        self.buckets.iter_mut().for_each(|b| b.reserve(now, cost));
    }

    /// Gives back the cost of an admission that was not used.
    pub(crate) fn give_back(&mut self, cost: Cost) {
        self.outstanding = self.outstanding.minus(cost);
        self.pause.took_back(1);
        self.buckets.iter_mut().for_each(|b| b.give_back(cost));
    }

    /// The request will not be heard of again: dropped, or failed without an answer.
    pub(crate) fn abandoned(&mut self, cost: Cost) {
        self.outstanding = self.outstanding.minus(cost);
    }

    /// An answer announced what is left.
    pub(crate) fn announced(
        &mut self,
        now: Instant,
        sent_at: Instant,
        cost: Cost,
        limits: &[RateLimit],
    ) {
        self.abandoned(cost);
        let outstanding = self.outstanding;
        for announced in limits.iter().filter(|l| l.refills_continuously()) {
            if let Some(known) = self
                .buckets
                .iter_mut()
                .find(|b| b.is(announced.dimension()))
            {
                known.announced(now, sent_at, outstanding, announced);
            } else if self.buckets.len() < MAX_DIMENSIONS {
                self.buckets
                    .extend(Bucket::new(now, outstanding, announced));
            }
        }
    }

    /// A request that was sent after the pause was not refused.
    pub(crate) fn served(&mut self, sent_at: Instant) {
        self.pause.served(sent_at);
    }

    /// A refusal's head has arrived and its body is being read: closed until `until`, at the latest
    /// until [`Quota::understood`] says what the refusal means.
    pub(crate) fn reading(&mut self, until: Instant) {
        self.pause.reading(until);
    }

    /// The reading that was announced by [`Quota::reading`] is over.
    pub(crate) fn understood(&mut self) {
        self.pause.understood();
    }

    /// A refusal of a request sent at `sent_at`: nothing goes before `until`. Whether it began a
    /// new pause.
    pub(crate) fn refused(&mut self, sent_at: Instant, until: Instant) -> bool {
        self.pause.refused(sent_at, until)
    }
}

/// `at + span`, or as far ahead as can be said.
pub(crate) fn after(at: Instant, span: Duration) -> Instant {
    at.checked_add(span.min(CEILING)).unwrap_or(at)
}
