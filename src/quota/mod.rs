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
mod ledger;
mod level;
mod pause;

use crate::signal::RateLimit;
use bucket::Bucket;
use ledger::{Ledger, Span};
use pause::{Pause, Release};
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
pub(crate) struct Model {
    pause: Pause,
    buckets: Vec<Bucket>,
    ledger: Ledger,
}

/// What was taken out of the quota for an admission, so that it can be put back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reserved {
    cost: Cost,
    rates: u32,
    span: Span,
    release: Release,
}

/// What an attempt remembers of the moment at which it was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) at: Instant,
    reserved: Reserved,
}

impl Reserved {
    /// The admission is used now.
    pub(crate) fn sent(self, now: Instant) -> Sent {
        Sent {
            at: now,
            reserved: self,
        }
    }
}

impl Model {
    /// When a request of this cost may go, if nobody else goes before it.
    pub(crate) fn admit(&self, now: Instant, cost: Cost) -> Admit {
        let reading = self.pause.reading_until().map(|at| (at, Hold::Pause));
        self.strictest(now, Cost::NONE, cost, reading)
    }

    /// When a request of this cost may go, if others of the cost `ahead` go before it; as far as is
    /// known for certain, so without the refusals that are still being read.
    pub(crate) fn expected(&self, now: Instant, ahead: Cost, cost: Cost) -> Admit {
        self.strictest(now, ahead, cost, None)
    }

    /// The end of the pause, if one is on, or of the reading of a refusal.
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
        self.ledger.is_settled() && self.pause.is_understood()
    }

    /// Takes a request's cost out of what is left, because it was admitted.
    pub(crate) fn reserve(&mut self, now: Instant, cost: Cost) -> Reserved {
        let span = self.ledger.admitted(now, cost);
        self.buckets.iter_mut().for_each(|b| b.reserve(now, cost));
        let release = self.pause.release();
        let rates = self.rates();
        Reserved {
            cost,
            rates,
            span,
            release,
        }
    }

    /// Whether an admission may still be used: no pause has begun since, even if it is over.
    pub(crate) fn still_holds(&self, now: Instant, reserved: Reserved) -> bool {
        self.paused_until(now).is_none() && self.pause.is_current(reserved.release)
    }

    /// Puts back what was taken for an admission that was not used. Where a rate or a limit has
    /// changed since, it is no longer known how much that was.
    pub(crate) fn give_back(&mut self, reserved: Reserved) {
        self.ledger.settled(reserved.span, reserved.cost);
        if reserved.rates == self.rates() {
            let buckets = self.buckets.iter_mut();
            buckets.for_each(|b| b.give_back(reserved.cost));
        }
        self.pause.take_back(reserved.release);
    }

    /// The request will not be heard of again: dropped, or failed without an answer.
    pub(crate) fn abandoned(&mut self, sent: Sent) {
        self.ledger.settled(sent.reserved.span, sent.reserved.cost);
    }

    /// An answer announced what is left.
    pub(crate) fn announced(&mut self, now: Instant, sent: Sent, limits: &[RateLimit]) {
        self.abandoned(sent);
        let uncounted = self.ledger.uncounted(sent.reserved.span);
        for announced in limits.iter().filter(|l| l.refills_continuously()) {
            let known = self
                .buckets
                .iter_mut()
                .find(|b| b.is(announced.dimension()));
            if let Some(known) = known {
                known.announced(now, sent.at, uncounted, announced);
            } else if self.buckets.len() < MAX_DIMENSIONS {
                let new = Bucket::new(now, sent.at, uncounted, announced);
                self.buckets.extend(new);
            }
        }
    }

    /// A request that was sent after the pause was not refused.
    pub(crate) fn served(&mut self, sent: Sent) {
        self.pause.served(sent.at);
    }

    /// A refusal's head has arrived and its body is being read: closed until `until`, at the latest
    /// until [`Model::understood`] says what the refusal means.
    pub(crate) fn reading(&mut self, until: Instant) {
        self.pause.reading(until);
    }

    /// The reading that was to hold back until then is over.
    pub(crate) fn understood(&mut self, until: Instant) {
        self.pause.understood(until);
    }

    /// A refusal: nothing goes before `until`. Whether it began a new pause.
    pub(crate) fn refused(&mut self, sent: Sent, until: Instant) -> bool {
        self.pause.refused(sent.at, until)
    }

    /// Which rates and limits are charged by: another number whenever one of them changes.
    fn rates(&self) -> u32 {
        self.buckets
            .iter()
            .fold(0, |sum, bucket| sum.wrapping_add(bucket.changes()))
    }

    fn strictest(
        &self,
        now: Instant,
        ahead: Cost,
        cost: Cost,
        reading: Option<(Instant, Hold)>,
    ) -> Admit {
        let pause = self
            .pause
            .opens_at(ahead.requests)
            .map(|at| (at, Hold::Pause));
        let buckets = self.buckets.iter();
        let buckets =
            buckets.map(|b| (b.opens_at(now, ahead, cost), Hold::Dimension(b.dimension())));
        // Of two that name the same instant the first is the reason: a pause is what people look
        // for.
        let all = pause.into_iter().chain(reading).chain(buckets);
        match all.reduce(|a, b| if b.0 > a.0 { b } else { a }) {
            Some((at, hold)) if at > now => Admit::At(at, hold),
            _ => Admit::Now,
        }
    }
}

/// `at + span`, and at most [`CEILING`] ahead; `at` where a clock cannot tell that.
pub(crate) fn after(at: Instant, span: Duration) -> Instant {
    at.checked_add(span.min(CEILING)).unwrap_or(at)
}
