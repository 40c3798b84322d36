//! How many may be in flight at once, learned from refusals alone.
//!
//! A server that bounds what it works on at the same time refuses whatever comes beyond, and admits
//! the next as soon as one is done. At the first refusals of a partition that looks like any other
//! limit, so it is assumed: as many as are in flight when all refusals of the burst have come back
//! are the *cap*. A refusal at a depth that the cap allows, and at which as many were admitted
//! before, is due to something else. A refusal beyond it confirms the cap, and holds nobody back but
//! the cap itself does. From time to time, and at once when something else was to blame, one more is
//! tried: as long as these are admitted the cap grows, by a quarter each time that what is beyond it
//! has not been refused. One that shrinks by more than a quarter is given up, and what was served at a
//! greater depth is forgotten little by little: the limit may be a lower one, or none of the
//! concurrency at all.
//!
//! A request is in flight until its answer's body has ended ([`Streams`]), or until nothing has been
//! heard of it for far too long ([`Heads`](super::heads::Heads)).

use super::{Hold, after, streams::Streams, tempo::Tempo};
use crate::snapshot::{DimensionSnapshot, Source};
use std::{collections::VecDeque, num::NonZeroU32, time::Duration};
use tokio::time::Instant;

/// By what share of the cap it grows while nothing is refused.
const GROWTH: u32 = 4;

/// By how much tries become rarer at most, as long as the cap is found to be what it was.
const MAX_PATIENCE: u32 = 64;

/// A cap is given up after more refusals than this at a depth that is lower by more than a blur.
const MAX_UNEXPLAINED: u32 = 6;

#[derive(Debug, Default)]
pub(super) struct Concurrency {
    in_flight: u32,
    /// Requests that nobody waits for any longer; the server works on them until then.
    lingering: VecDeque<Instant>,
    /// Of those in flight, the ones whose answer has begun.
    streams: Streams,
    /// The deepest that was served.
    deepest: u32,
    cap: Option<Cap>,
    /// When a refusal has last said something of the cap.
    taught_at: Option<Instant>,
}

#[derive(Debug)]
struct Cap {
    size: u32,
    /// What it was at the last refusal, and how many have been admitted since that filled it.
    refused_at: u32,
    filled: u32,
    /// How many must fill it before more are tried.
    patience: u32,
    /// How many more are tried, and since when all of them are.
    beyond: u32,
    tried_at: Option<Instant>,
    /// Whether the burst that led to it is still coming back.
    is_new: bool,
    /// What it was when it was found again; and how many were refused since then that were far less
    /// deep.
    confirmed: Option<NonZeroU32>,
    unexplained: u32,
}

impl Concurrency {
    /// A refusal has said something of the cap.
    pub(super) fn taught(&mut self, now: Instant) {
        self.taught_at = Some(now);
    }

    /// Whether one more may go.
    pub(super) fn is_open(&self) -> bool {
        self.cap
            .as_ref()
            .is_none_or(|cap| self.in_flight < cap.size + cap.beyond)
    }

    /// Whether one more fills the cap.
    pub(super) fn is_full(&self) -> bool {
        self.cap
            .as_ref()
            .is_some_and(|cap| self.in_flight + 1 >= cap.size)
    }

    /// Whether something is in flight, so that room for another will come of itself.
    pub(super) fn is_in_use(&self) -> bool {
        self.in_flight > 0
    }

    /// Whether a refusal of one more would tell of a rate, where one goes in each `interval`: it is
    /// alone; or others are not either; or more were served at once than can have been there one after
    /// another.
    pub(super) fn leaves_rate_to_blame(&self, interval: Option<Duration>, tempo: &Tempo) -> bool {
        let work = self.usual_work(tempo).unwrap_or_default();
        self.in_flight == 0 || self.deepest > 2 || interval < Some(work.saturating_mul(2))
    }

    /// Whether one that is in flight is being answered since then, or nobody waits for it any longer.
    pub(super) fn any_since(&self, at: Instant) -> bool {
        !self.lingering.is_empty() || self.streams.any_since(at)
    }

    /// Whether a cap is known.
    pub(super) fn is_limited(&self) -> bool {
        self.cap.is_some()
    }

    /// How many are.
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// What is to be seen of the cap, if one is known.
    pub(super) fn snapshot(&self, now: Instant) -> Option<DimensionSnapshot> {
        let cap = self.cap.as_ref()?;
        let limit = cap.size + cap.beyond;
        Some(DimensionSnapshot {
            source: Source::LearnedConcurrency,
            hold: Hold::Concurrency,
            limit: limit.into(),
            remaining: limit.saturating_sub(self.in_flight).into(),
            reset: None,
            interval: None,
            age: self.taught_at.map(|at| now.saturating_duration_since(at)),
        })
    }

    /// Forgets what was learned; what is in flight stays so.
    pub(super) fn forget(&mut self) {
        self.cap = None;
        self.deepest = 0;
    }

    /// Time passes.
    #[inline]
    pub(super) fn pass(&mut self, now: Instant, tempo: &Tempo) {
        while self.lingering.front().is_some_and(|&until| until <= now) {
            self.lingering.pop_front();
            self.in_flight = self.in_flight.saturating_sub(1);
        }
        let overdue = self.streams.pass(now);
        self.lost(overdue);
        if self.cap.is_none() {
            return;
        }
        let (usual_work, refusal_time) = (self.usual_work(tempo), tempo.refusal_time());
        if let Some(cap) = &mut self.cap {
            cap.pass(now, refusal_time, usual_work.unwrap_or(refusal_time));
        }
    }

    /// How long a request usually keeps its place, if that is known: until its answer's head, or
    /// where answers are streamed until their end.
    pub(super) fn usual_work(&self, tempo: &Tempo) -> Option<Duration> {
        tempo.usual_answer().max(self.streams.longest())
    }

    /// A request is admitted; the depth that it has.
    #[inline]
    pub(super) fn reserve(&mut self, now: Instant) -> u32 {
        self.in_flight += 1;
        if let Some(cap) = &mut self.cap {
            cap.reserve(now, self.in_flight);
        }
        self.in_flight
    }

    /// An admission was not used.
    pub(super) fn give_back(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// The server is done with a request.
    #[inline]
    pub(super) fn done(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// So many that are in flight no longer count: nothing has been heard of them for too long.
    pub(super) fn lost(&mut self, overdue: u32) {
        self.in_flight = self.in_flight.saturating_sub(overdue);
    }

    /// The answer to one that no longer counted begins after all.
    pub(super) fn found(&mut self) {
        self.in_flight += 1;
    }

    /// A request was served.
    #[inline]
    pub(super) fn served(&mut self, depth: u32) {
        self.deepest = self.deepest.max(depth);
    }

    /// The head of an answer has come, and its body will take time; its number.
    pub(super) fn streams(&mut self, now: Instant) -> u64 {
        self.streams.begin(now)
    }

    /// The body of an answer has ended or was dropped; and how long the server has worked on it, as
    /// far as is known.
    pub(super) fn ended(&mut self, number: u64, took: Option<Duration>) {
        if self.streams.end(number) {
            self.done();
        }
        if let Some(took) = took {
            self.streams.took(took);
        }
    }

    /// Nobody waits for a request any longer, but the server will work on it until then.
    pub(super) fn abandoned(&mut self, until: Instant) {
        self.lingering.push_back(until);
    }

    /// A request of this depth was refused, and is off the count; `again`: and so were others of the
    /// same burst before. All have to wait `pause_ratio` times as long as an answer takes. Whether the
    /// concurrency was the cause.
    pub(super) fn refused(&mut self, depth: u32, again: bool, pause_ratio: f64) -> Suspicion {
        // Requests that were sent together overtake each other.
        let depth = depth.max(self.in_flight + 1);
        let Some(cap) = &mut self.cap else {
            // One that was alone was not one too many.
            let is_shallow = is_shallow(self.in_flight, self.deepest);
            if is_shallow && !again {
                // Or the limit is lower than when so many were served.
                self.deepest -= 1;
            }
            if again || self.in_flight == 0 || is_shallow {
                return Suspicion::Refuted;
            }
            self.cap = Some(Cap::new(self.in_flight));
            return Suspicion::Possible;
        };
        if again && cap.is_new {
            cap.size = (cap.size - 1).max(1);
            if is_shallow(cap.size, self.deepest) {
                self.cap = None;
                return Suspicion::Refuted;
            }
            return Suspicion::Possible;
        }
        let suspicion = cap.refused(depth, self.in_flight, again, pause_ratio);
        if cap.has_shrunk() {
            // Whatever is in flight then, it is too many: that is no limit of the concurrency. Or it is
            // another one, and found anew.
            self.deepest = self.in_flight;
            self.cap = None;
            return Suspicion::Refuted;
        }
        let is_refuted = suspicion == Suspicion::Refuted && cap.is_refuted();
        self.cap.take_if(|_| is_refuted);
        suspicion
    }
}

/// Whether the concurrency was the cause of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suspicion {
    /// It was something else.
    Refuted,
    /// Or something else.
    Possible,
    /// It was.
    Confirmed,
}

/// Whether so many in flight cannot have been too many, where others were served that were so deep.
fn is_shallow(in_flight: u32, deepest: u32) -> bool {
    in_flight < deepest - deepest / 4
}

impl Cap {
    fn new(size: u32) -> Self {
        let size = size.max(1);
        Self {
            size,
            refused_at: size,
            filled: 0,
            patience: share(size),
            beyond: 0,
            tried_at: None,
            is_new: true,
            confirmed: None,
            unexplained: 0,
        }
    }

    fn pass(&mut self, now: Instant, refusal_time: Duration, answer_time: Duration) {
        // Of a few that are on their way back the client does not know that they are done: one more
        // tells nothing before as much time has passed as all take.
        let trial = if self.is_confirmed() {
            answer_time
        } else {
            refusal_time
        };
        if self.tried_at.is_some_and(|at| after(at, trial) <= now) {
            self.size += self.beyond;
            self.beyond = share(self.size);
            self.tried_at = None;
        }
    }

    fn reserve(&mut self, now: Instant, depth: u32) {
        self.is_new = false;
        if depth < self.size {
            return;
        }
        self.filled += 1;
        if self.beyond == 0 && depth > self.size {
            // The first after a pause.
            self.beyond = depth - self.size;
        } else if self.beyond == 0 && self.filled >= self.patience {
            self.beyond = if self.is_confirmed() {
                1
            } else {
                share(self.size)
            };
        }
        if self.beyond > 0 && depth >= self.size + self.beyond {
            self.tried_at.get_or_insert(now);
        }
    }

    /// Whether the cap explains a refusal of this depth that leaves so many in flight.
    fn refused(&mut self, depth: u32, in_flight: u32, again: bool, pause_ratio: f64) -> Suspicion {
        let (filled, before) = (self.filled, self.refused_at);
        self.filled = 0;
        self.beyond = 0;
        self.tried_at = None;
        self.refused_at = self.size;
        if depth <= self.size {
            let blur = blur(self.size).min(self.size - 1);
            let is_near = self.is_confirmed() && depth > self.size - blur;
            self.unexplained += u32::from(!again && !is_near);
            // Where as many were admitted before, a limit of the concurrency that has not changed
            // would not have refused this one.
            if !is_near || filled > share(self.size) {
                return Suspicion::Refuted;
            }
            // It may be lower. One that comes late knows nothing of what is in flight now.
            if !again {
                self.size = in_flight.max(1);
            }
            return Suspicion::Possible;
        }
        if self.size > before + share(before) {
            self.confirmed = None;
            return Suspicion::Refuted;
        }
        if filled < share(self.size) {
            return Suspicion::Possible;
        }
        // A try that is refused may cost a tenth of what is served between two.
        let lost = f64::from(self.size) * pause_ratio * 10.0;
        let least = (self.size * 4).max(lost as u32);
        let doubled = self.patience.saturating_mul(2);
        let most = least.saturating_mul(MAX_PATIENCE);
        self.patience = if self.is_confirmed() { doubled } else { 0 }.clamp(least, most);
        self.confirmed = NonZeroU32::new(self.size);
        self.unexplained = 0;
        Suspicion::Confirmed
    }

    /// Whether it is lower by more than a blur than it was confirmed to be.
    fn has_shrunk(&self) -> bool {
        let confirmed = self.confirmed.map_or(0, NonZeroU32::get);
        self.size + blur(confirmed) < confirmed
    }

    fn is_confirmed(&self) -> bool {
        self.confirmed.is_some()
    }

    fn is_refuted(&self) -> bool {
        !self.is_confirmed() || self.unexplained > MAX_UNEXPLAINED
    }
}

/// How far the depth of a request may be off that others overtake, at a cap of this size.
fn blur(size: u32) -> u32 {
    (size / GROWTH).max(1)
}

/// By how much a cap of this size grows.
fn share(size: u32) -> u32 {
    (size / GROWTH).max(2)
}

#[cfg(test)]
mod tests;
