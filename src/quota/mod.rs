//! When the next attempt may go: a deterministic model of one partition's quota.
//!
//! Several small models, each in its own file; the strictest wins and says why it holds a caller
//! back. Nothing here reads a clock, takes a lock or awaits: time comes in as an argument, and so a
//! model can be asked about any instant.
//!
//! - [`Pause`]: a refusal closed the partition until an instant.
//! - [`Bucket`](bucket::Bucket): an answer announced a limit, what remains of it, and when it will be
//!   full again.
//! - [`Window`](window::Window): an answer announced a limit, what remains of it, and when all of it
//!   is renewed. Several processes may share one.
//! - [`Declared`]: the user said what the limits are.
//! - [`Opening`]: nothing is known, or a pause is over: so many may be under way that may yet be
//!   refused.
//! - [`Rate`]: refusals have taught how fast quota flows.
//! - [`Concurrency`]: refusals have taught how many may be in flight.
//!
//! A refusal that an announcement explains teaches nothing else. Any other is put down to the
//! concurrency as long as it fits, and to the rate if it does not.

mod account;
mod bucket;
mod concurrency;
mod cost;
mod declared;
mod dimension;
mod end;
mod heads;
mod hold;
mod ledger;
mod level;
mod longest;
mod opening;
mod pause;
mod present;
mod rate;
mod reading;
mod share;
mod streams;
mod tempo;
mod told;
mod window;

use crate::signal::RateLimit;
use concurrency::{Concurrency, Suspicion};
use declared::Declared;
use dimension::{Answer, Dimension};
use heads::Heads;
use ledger::{Ledger, Span};
use opening::{Opening, Step};
use pause::{Pause, Release};
use rate::{Rate, Turn};
use std::{collections::VecDeque, time::Duration};
use tempo::Tempo;
use tokio::time::Instant;

use cost::Unit;
pub(crate) use cost::{Cost, exceeds_limit, is_due_to_size};
pub use declared::Quota;
pub use hold::{Hold, RefusalCause};
pub(crate) use reading::Reading;

/// Servers name two or three dimensions; a hostile one must not make us keep any number of them.
const MAX_DIMENSIONS: usize = 8;

/// How many mean deviations of the round trip a request that has to wait goes later: all but one in
/// some hundred then arrive in time, and nothing is lost, for it is a shift and no lower rate.
const CUSHION: u32 = 6;

/// What is in flight for so many times as long as is usual need not be waited for.
const LONG: u32 = 10;

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

    /// Not before `at`, for this reason, if that is later than it is already.
    fn at_least(&mut self, now: Instant, at: Instant, hold: impl FnOnce() -> Hold) {
        if at > self.opens_at(now) {
            *self = Self::At(at, hold());
        }
    }

    /// What holds it back.
    pub(crate) fn hold(self) -> Option<Hold> {
        match self {
            Self::Now => None,
            Self::At(_, hold) => Some(hold),
        }
    }
}

/// What would be lost if a partition that nobody uses were forgotten; the more, the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Worth {
    /// Nothing: it would be met anew as it is.
    Nothing,
    /// What it has learned or used up, which would be found out anew by refusals.
    Knowledge,
    /// A pause, and then something would be sent before the time that the server asked for.
    Pause,
}

/// The model of one partition.
#[derive(Debug, Default)]
pub(crate) struct Model {
    tempo: Tempo,
    pause: Pause,
    opening: Opening,
    rate: Rate,
    heads: Heads,
    concurrency: Concurrency,
    dimensions: Vec<Dimension>,
    declared: Declared,
    ledger: Ledger,
    /// When the youngest request was sent that was served.
    served_at: Option<Instant>,
    /// How often limits and rates that are forgotten since had changed.
    forgotten: u32,
    /// What the last refusal that concerned all was put down to.
    blamed: Option<RefusalCause>,
}

/// What was taken out of the quota for an admission, so that it can be put back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reserved {
    at: Instant,
    cost: Cost,
    rates: u32,
    span: Span,
    release: Release,
    step: Step,
    turn: Turn,
    depth: u32,
}

/// What an attempt remembers of the moment at which it was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) at: Instant,
    reserved: Reserved,
}

/// What a refusal says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused {
    /// Nothing goes before this.
    pub(crate) until: Instant,
    /// How long the server asked to wait, if it did.
    pub(crate) wait: Option<Duration>,
}

impl Model {
    /// Nothing is known but what the user has declared.
    pub(crate) fn new(quotas: &[Quota]) -> Self {
        Self {
            declared: Declared::new(quotas),
            ..Self::default()
        }
    }

    /// Time has passed, and so many wait. To be called before the model is asked.
    #[inline]
    pub(crate) fn pass(&mut self, now: Instant, waiting: u64) {
        let refusal_time = self.tempo.refusal_time();
        let is_blind = self.tempo.is_unknown();
        self.opening.pass(now, refusal_time, is_blind);
        if self.opening.proved() > 0 {
            // Answers may be faster than refusals, and then say nothing of those that are on their way.
            if self.tempo.is_told_by_refusals() {
                self.pause.opened();
            }
            self.rate.opened(&self.tempo);
            if self.rate.is_known() {
                self.opening.open();
            }
        }
        self.opening
            .expect(waiting, self.rate.flow(refusal_time.saturating_mul(2)));
        self.concurrency.lost(self.heads.pass(now));
        self.concurrency.pass(now, &self.tempo);
    }

    /// When a request of this cost may go, if nobody else goes before it.
    #[inline]
    pub(crate) fn admit(&self, now: Instant, cost: Cost) -> Admit {
        self.foreseen(now, Cost::NONE, cost)
    }

    /// When a request of this cost may go, if others of the cost `ahead` go before it; as far as is
    /// known for certain, so without the refusals that are still being read, and without what was
    /// learned from refusals alone.
    pub(crate) fn expected(&self, now: Instant, ahead: Cost, cost: Cost) -> Admit {
        self.known(now, ahead, cost)
    }

    /// The same with all that was learned.
    pub(crate) fn estimated(&self, now: Instant, ahead: Cost, cost: Cost) -> Admit {
        let mut admit = self.known(now, ahead, cost);
        self.learned(now, ahead.requests, &mut admit);
        admit
    }

    /// The end of the pause, if one is on, or of the reading of a refusal.
    pub(crate) fn paused_until(&self, now: Instant) -> Option<Instant> {
        self.pause.ends_at(now)
    }

    /// Pauses in a row, without a request that was admitted between them.
    pub(crate) fn refusals(&self) -> u32 {
        self.pause.refusals()
    }

    /// The end of the last pause, as far as refusals have been understood; it may be past.
    pub(crate) fn closed_until(&self) -> Option<Instant> {
        self.pause.opens_at()
    }

    /// Refusals in a row, with one of a request sent at `sent_at`; those of one episode count as
    /// one.
    pub(crate) fn refusals_with(&self, sent_at: Instant) -> u32 {
        self.pause.refusals_with(sent_at)
    }

    /// After what time it makes sense to ask again, if that has been learned: quota for one request
    /// has flowed in, or one of those in flight may be done.
    pub(crate) fn learned_interval(&self) -> Option<Duration> {
        let work = self.concurrency.usual_work(&self.tempo);
        let work = work.map(|usual| usual / 2);
        let concurrency = work.filter(|_| self.concurrency.is_limited());
        self.rate.interval().or(concurrency)
    }

    /// For how long nothing was served, with a refusal of a request sent at `sent_at`.
    pub(crate) fn refused_for(&self, now: Instant, sent_at: Instant) -> Duration {
        let since = self.pause.refused_since().unwrap_or(sent_at);
        now.saturating_duration_since(since)
    }

    /// Whether a request was served that was sent after `at`.
    pub(crate) fn has_served_since(&self, at: Instant) -> bool {
        self.served_at > Some(at)
    }

    /// Whether a dimension is known that counts tokens.
    #[inline]
    pub(crate) fn counts_tokens(&self) -> bool {
        self.dimensions.iter().any(|d| d.unit() == Unit::Tokens) || self.declared.counts_tokens()
    }

    /// Whether the user has declared how many tokens there are.
    pub(crate) fn declares_tokens(&self) -> bool {
        self.declared.counts_tokens()
    }

    /// Whether such a request is larger than a whole limit that the user declared.
    pub(crate) fn exceeds_declared(&self, cost: Cost) -> bool {
        self.declared.is_exceeded_by(cost)
    }

    /// Whether nothing is admitted and nothing is being read.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.ledger.is_settled() && self.pause.is_understood()
    }

    /// Takes a request's cost out of what is left, because it was admitted; it `waited`, or came
    /// when the partition was open.
    #[inline]
    pub(crate) fn reserve(&mut self, now: Instant, cost: Cost, waited: bool) -> Reserved {
        let span = self.ledger.admitted(now, cost);
        let dimensions = self.dimensions.iter_mut();
        dimensions.for_each(|d| d.reserve(now, cost));
        // As long as the rate loses nothing by it, nobody is idle who waits for others to be done.
        let waited = waited && !(self.concurrency.is_full() && self.rate.is_full(now));
        self.declared.reserve(now, cost);
        self.heads.begin(now, span);
        Reserved {
            at: now,
            cost,
            rates: self.rates(),
            span,
            release: self.pause.release(),
            step: self.opening.reserve(now),
            turn: self.rate.reserve(now, waited, &self.tempo),
            depth: self.concurrency.reserve(now),
        }
    }

    /// Whether an admission may still be used: no pause has begun since, even if it is over, and what
    /// the user has declared allows as much now.
    #[inline]
    pub(crate) fn still_holds(&self, now: Instant, reserved: Reserved) -> bool {
        self.paused_until(now).is_none()
            && self.pause.is_current(reserved.release)
            && (self.declared).still_holds(reserved.at, now, reserved.cost)
    }

    /// The admission is used now, which may be somewhat later than it was given.
    #[inline]
    pub(crate) fn sent(&mut self, reserved: Reserved, now: Instant) -> Sent {
        self.declared.sent(reserved.at, now, reserved.cost);
        if reserved.at < now && reserved.rates == self.rates() {
            // Of what was full meanwhile nothing has come back that the server would count.
            for dimension in &mut self.dimensions {
                dimension.give_back(reserved.cost);
                dimension.reserve(now, reserved.cost);
            }
        }
        self.opening.sent(reserved.step, now);
        Sent { at: now, reserved }
    }

    /// Puts back what was taken for an admission that was not used. Where a rate or a limit has
    /// changed since, it is no longer known how much that was.
    pub(crate) fn give_back(&mut self, reserved: Reserved) {
        self.ledger.settled(reserved.span, reserved.cost);
        if reserved.rates == self.rates() {
            let dimensions = self.dimensions.iter_mut();
            dimensions.for_each(|d| d.give_back(reserved.cost));
        }
        self.opening.failed(reserved.step);
        self.rate.give_back(reserved.turn);
        if self.heads.end(reserved.span) {
            self.concurrency.give_back();
        }
        self.declared.give_back(reserved.at, reserved.cost);
    }

    /// The request will not be heard of again: dropped, or failed without an answer.
    pub(crate) fn abandoned(&mut self, sent: Sent) {
        self.ledger
            .abandoned(sent.reserved.span, sent.reserved.cost);
        self.opening.failed(sent.reserved.step);
        if !self.heads.end(sent.reserved.span) {
            return;
        }
        match self.concurrency.usual_work(&self.tempo) {
            Some(usual) => self.concurrency.abandoned(after(sent.at, usual)),
            None => self.concurrency.done(),
        }
    }

    /// A refusal that concerns only the request itself: it has cost nothing, and teaches nothing.
    pub(crate) fn pointless(&mut self, sent: Sent) {
        self.unexplained(sent);
        self.declared.unused(sent.at, sent.reserved.cost);
    }

    /// An answer of which it is not known whether it was served.
    pub(crate) fn unexplained(&mut self, sent: Sent) {
        self.opening.failed(sent.reserved.step);
        self.done(sent);
    }

    /// An answer, by which the request was refused or not, announced what is left.
    #[inline]
    pub(crate) fn announced(
        &mut self,
        now: Instant,
        sent: Sent,
        is_refused: bool,
        limits: &[RateLimit],
    ) {
        self.ledger.settled(sent.reserved.span, sent.reserved.cost);
        self.declared.answered(now, sent.at);
        if !limits.is_empty() {
            self.adopt(now, sent, is_refused, limits);
        }
        if !is_refused && self.served_at >= Some(sent.at) {
            self.forget_unspoken(sent.at);
        }
    }

    /// Takes over what was announced.
    fn adopt(&mut self, now: Instant, sent: Sent, is_refused: bool, limits: &[RateLimit]) {
        let answer = Answer {
            now,
            sent_at: sent.at,
            cost: sent.reserved.cost,
            uncounted: self.ledger.uncounted(sent.reserved.span),
            is_refused,
            on_the_way: self.tempo.refusal_time(),
        };
        for announced in limits {
            let mut dimensions = self.dimensions.iter_mut();
            if let Some(known) = dimensions.find(|d| d.is(announced.dimension())) {
                known.announced(&answer, announced);
            } else if self.dimensions.len() < MAX_DIMENSIONS {
                let new = Dimension::new(&answer, announced);
                self.dimensions.extend(new);
            }
        }
    }

    /// Drops windows that the clock has opened since, and of which the server does not speak when it
    /// serves: it speaks of them in refusals alone. Else each request would wait for the word that
    /// the one before it has not brought.
    fn forget_unspoken(&mut self, sent_at: Instant) {
        let forgotten = &mut self.forgotten;
        self.dimensions.retain(|dimension| {
            let is_unspoken = dimension.is_unspoken(sent_at);
            if is_unspoken {
                *forgotten = forgotten.wrapping_add(dimension.changes()).wrapping_add(1);
            }
            !is_unspoken
        });
    }

    /// A request was not refused, and the server is done with it.
    #[inline]
    pub(crate) fn served(&mut self, now: Instant, sent: Sent) {
        self.proved(now, sent);
        self.done(sent);
    }

    /// A request was not refused, and the server works on it until the body of its answer has
    /// [ended](Model::ended); the number of that body.
    pub(crate) fn streams(&mut self, now: Instant, sent: Sent) -> u64 {
        self.proved(now, sent);
        if !self.heads.end(sent.reserved.span) {
            self.concurrency.found();
        }
        self.concurrency.streams(now)
    }

    /// The body of an answer has ended; and how long it `took` from the sending of the request, unless
    /// it was dropped before.
    pub(crate) fn ended(&mut self, number: u64, took: Option<Duration>) {
        self.concurrency.ended(number, took);
    }

    /// The server is done with a request, which may not have counted any longer.
    #[inline]
    fn done(&mut self, sent: Sent) {
        if self.heads.end(sent.reserved.span) {
            self.concurrency.done();
        }
    }

    /// The server has admitted a request.
    #[inline]
    fn proved(&mut self, now: Instant, sent: Sent) {
        let took = now.saturating_duration_since(sent.at);
        self.tempo.served(took);
        self.heads.took(took);
        self.served_at = self.served_at.max(Some(sent.at));
        self.pause.served(sent.at);
        self.opening.served(sent.reserved.step);
        // Those that were refused did not count in the depth of what was sent with them.
        if !self.pause.is_within_refusals(sent.at) {
            self.concurrency.served(sent.reserved.depth);
        }
    }

    /// A refusal's head has arrived and its body is being read: closed until `until`, at the latest
    /// until [`Model::understood`] says what the refusal means. It has used no tokens in any case.
    pub(crate) fn reading(&mut self, now: Instant, sent: Sent, until: Instant) {
        self.tempo.refused(now, sent.at);
        self.opening.failed(sent.reserved.step);
        self.done(sent);
        self.declared.unused(sent.at, sent.reserved.cost);
        self.pause.reading(until);
    }

    /// The reading that was to hold back until then is over.
    pub(crate) fn understood(&mut self, until: Instant) {
        self.pause.understood(until);
    }

    /// What the last refusal that concerned all was put down to.
    pub(crate) fn blamed(&self) -> Option<&RefusalCause> {
        self.blamed.as_ref()
    }

    /// A refusal that concerns all.
    pub(crate) fn refused(&mut self, now: Instant, sent: Sent, refused: Refused) {
        let suspicion = self.suspect(now, sent, refused);
        self.blamed = Some(match suspicion {
            None => self.announced_cause(now, sent.reserved.cost),
            Some(Suspicion::Confirmed) => RefusalCause::Concurrency,
            Some(Suspicion::Refuted | Suspicion::Possible) => RefusalCause::Rate,
        });
        let is_of_rate = matches!(suspicion, Some(Suspicion::Refuted | Suspicion::Possible));
        let admitted = if is_of_rate {
            self.rate.refused(sent.reserved.turn, sent.at, refused.wait)
        } else {
            // What the rate let go it would count among those that were admitted.
            self.rate.give_back(sent.reserved.turn);
            None
        };
        let is_free_soon = self.concurrency.is_in_use() && refused.wait.is_none();
        if suspicion == Some(Suspicion::Confirmed) && is_free_soon {
            // One of those in flight makes room, and nobody knows when.
            return;
        }
        self.declared.refused(now, sent.at, refused.until);
        let is_new = self.pause.refused(sent.at, refused.until);
        let tells = admitted.filter(|_| self.rate.is_to_blame() && !self.rate.is_known());
        if is_new || tells.is_some() {
            self.opening.refused(tells);
        }
    }

    /// Whether the concurrency has caused a refusal, or else the rate; `None` if it is explained by
    /// what the server announced.
    fn suspect(&mut self, now: Instant, sent: Sent, refused: Refused) -> Option<Suspicion> {
        if self.is_announced(now, sent.reserved.cost) {
            return None;
        }
        if self.rate.is_probing() {
            return Some(Suspicion::Refuted);
        }
        let again = self.pause.is_on_for(sent.at);
        let work = self.concurrency.usual_work(&self.tempo);
        let lost = refused.wait.zip(work).map_or(0.0, |(wait, work)| {
            wait.as_secs_f64() / work.as_secs_f64().max(0.001)
        });
        let suspicion = self.concurrency.refused(sent.reserved.depth, again, lost);
        match suspicion {
            Suspicion::Refuted => self.rate.blame(),
            Suspicion::Possible | Suspicion::Confirmed => self.concurrency.taught(now),
        }
        Some(suspicion)
    }

    /// Whether what the server announced explains a refusal.
    fn is_announced(&self, now: Instant, cost: Cost) -> bool {
        self.used_up(now, cost).next().is_some()
    }

    /// Which of the dimensions that have too little left it is: the one that opens last.
    fn announced_cause(&self, now: Instant, cost: Cost) -> RefusalCause {
        let last = self.used_up(now, cost).max_by_key(|(at, _)| *at);
        last.map_or(RefusalCause::Rate, |(_, d)| {
            RefusalCause::Dimension(d.name())
        })
    }

    /// The dimensions that have too little left for this, and when each will have enough.
    fn used_up(&self, now: Instant, cost: Cost) -> impl Iterator<Item = (Instant, &Dimension)> {
        let opens_at = move |d: &Dimension| d.opens_at(now, Cost::NONE, cost, Duration::ZERO);
        let dimensions = self.dimensions.iter().map(move |d| (opens_at(d), d));
        dimensions.filter(move |(at, _)| *at > now)
    }

    /// So many tokens were used besides what was reserved. What is announced needs no such telling:
    /// the next answer tells it.
    pub(crate) fn charge(&mut self, now: Instant, tokens: u64) {
        self.declared.charge(now, tokens);
    }

    /// What was sent at `at` and was charged with so many tokens has in truth cost so many.
    pub(crate) fn settle(&mut self, now: Instant, at: Instant, charged: u64, cost: u64) {
        self.declared.settle(now, at, charged, cost);
    }

    /// Forgets all that the server has said or taught; what the user has declared stays as it is.
    pub(crate) fn forget(&mut self, now: Instant) {
        self.forgotten = self.rates().wrapping_add(1);
        self.dimensions.clear();
        self.pause.end(now);
        self.opening.refused(None);
        self.rate.forget();
        self.concurrency.forget();
    }

    /// What would be lost without it.
    pub(crate) fn worth(&self, now: Instant) -> Worth {
        let announced = self.dimensions.iter().any(|d| !d.is_full(now));
        if self.paused_until(now).is_some() {
            Worth::Pause
        } else if announced || !self.declared.is_unused(now) || self.pause.was_on_of_late(now) {
            Worth::Knowledge
        } else {
            Worth::Nothing
        }
    }

    /// Which rates and limits are charged by: another number whenever one of them changes.
    #[inline]
    fn rates(&self) -> u32 {
        let changes = self.dimensions.iter().map(Dimension::changes);
        changes.fold(self.forgotten, u32::wrapping_add)
    }

    /// When a request may go by what the server said and by what the user declared.
    #[inline]
    fn known(&self, now: Instant, ahead: Cost, cost: Cost) -> Admit {
        let mut admit = Admit::Now;
        // Of two that name the same instant the first is the reason: a pause is what people look
        // for.
        if let Some(at) = self.pause.opens_at() {
            admit.at_least(now, at, || Hold::Pause);
        }
        let cushion = self.tempo.jitter() * CUSHION;
        for d in &self.dimensions {
            let at = d.opens_at(now, ahead, cost, cushion);
            admit.at_least(now, at, || Hold::Dimension(d.name()));
        }
        for (at, hold) in self.declared.opens_at(now, ahead, cost) {
            admit.at_least(now, at, || hold);
        }
        admit
    }

    /// And by what only refusals have taught.
    #[inline]
    fn learned(&self, now: Instant, ahead: u64, admit: &mut Admit) {
        // Who was told the limits need not try them.
        let is_told = !self.declared.is_empty() && !self.opening.has_paused();
        let opening = self.opening.opens_at(self.tempo.refusal_time());
        if let Some(at) = opening.filter(|_| !is_told) {
            admit.at_least(now, at, || Hold::Opening);
        }
        let interval = self.rate.interval();
        let may_try = self.concurrency.leaves_rate_to_blame(interval, &self.tempo)
            || self.is_as_good_as_alone(now);
        if let Some(mut at) = self.rate.opens_at(ahead, may_try) {
            if !may_try {
                let tried_at = self.rate.opens_at(ahead, true).unwrap_or(at);
                at = at.min(tried_at.max(self.looks_again_at(now)));
            }
            admit.at_least(now, at, || Hold::Rate);
        }
        if !self.concurrency.is_open() && !self.opening.is_at_pause() {
            admit.at_least(now, self.looks_again_at(now), || Hold::Concurrency);
        }
    }

    /// Whether all that is in flight has been so for far longer than usual, as a request is that is
    /// answered when something happens: who waited until it is done might never be alone.
    fn is_as_good_as_alone(&self, now: Instant) -> bool {
        let usual = self.concurrency.usual_work(&self.tempo);
        let long_ago = usual.and_then(|usual| now.checked_sub(usual.saturating_mul(LONG)));
        long_ago.is_some_and(|at| !self.heads.any_since(at) && !self.concurrency.any_since(at))
    }

    /// When it makes sense to look again whether one is done of those in flight. Whoever ends makes
    /// room, and says so; to look for it more often than this would not help.
    fn looks_again_at(&self, now: Instant) -> Instant {
        let least = self.tempo.refusal_time();
        let usual = self.concurrency.usual_work(&self.tempo).unwrap_or(least);
        let usual = after(now, usual.max(least));
        let overdue = self.heads.overdue_at().filter(|&at| at > now);
        overdue.map_or(usual, |overdue| overdue.min(usual))
    }
}

/// Pushes onto a queue that mostly has one at a time. Of many partitions the usual first room for four
/// would be a good part of the memory.
fn push<T>(queue: &mut VecDeque<T>, entry: T) {
    if queue.capacity() == 0 {
        queue.reserve_exact(1);
    }
    queue.push_back(entry);
}

/// `at + span`, and at most [`CEILING`] ahead; `at` where a clock cannot tell that.
pub(crate) fn after(at: Instant, span: Duration) -> Instant {
    at.checked_add(span.min(CEILING)).unwrap_or(at)
}

#[cfg(test)]
mod tests;
