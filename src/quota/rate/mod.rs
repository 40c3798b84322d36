//! The rate at which a quota flows, learned from refusals alone.
//!
//! When a request is refused the quota is used up at that moment. Between two such moments just as
//! many are admitted as flow in: that number over that time *is* the rate, exactly for a bucket, and
//! on the average for windows of any kind. A burst that meets the limit is one such moment, however
//! many of its requests are refused. What happens from one pause to the next is a [`Cycle`], and what
//! it tells of the rate a [`Sample`]; the [`Pace`] is what is made of that.
//!
//! A pause after which nothing is admitted tells nothing: the server was out of order, or the wait
//! that it named too short. One that names too short a wait time and again names none. A cycle in
//! which nobody waited tells the least that the rate can be, for it was the callers that set the
//! pace.

mod contrary;
mod cycle;
mod pace;
mod patience;
mod probe;

use super::{CEILING, Hold, tempo::Tempo};
use crate::snapshot::{DimensionSnapshot, Source};
use cycle::{Closed, Cycle, Empty, First};
use pace::Pace;
use std::time::Duration;
use tokio::time::Instant;

#[derive(Debug, Default)]
pub(super) struct Rate {
    pace: Option<Pace>,
    /// The present cycle, and the number of it.
    cycle: Option<Cycle>,
    cycles: u32,
    /// The one before, while it is not known whether the quota is open again; and the number of it.
    /// Few of many partitions have one, so the others keep no room for it.
    closed: Option<(u32, Box<Closed>)>,
    /// The very first one.
    first: Option<First>,
    /// How many at the least were had at once after a pause.
    least_burst: f64,
    /// When the quota was used up before the present cycle.
    empty: Option<Empty>,
    /// Whether a refusal has been seen that nothing else explains.
    is_to_blame: bool,
    /// Pauses in a row that were far longer than the server had said.
    misled: u32,
    /// When a pause was last over after which the rate was known anew.
    taught_at: Option<Instant>,
}

/// Which cycle a request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    cycle: u32,
}

impl Rate {
    /// Whether a rate is known.
    pub(super) fn is_known(&self) -> bool {
        self.pace.is_some()
    }

    /// Whether requests go before they are due.
    pub(super) fn is_probing(&self) -> bool {
        self.is_to_blame && self.pace.as_ref().is_some_and(Pace::is_probing)
    }

    /// Whether a refusal has been seen that nothing else explains. Until then the rate is measured,
    /// but holds nobody back.
    pub(super) fn is_to_blame(&self) -> bool {
        self.is_to_blame
    }

    /// Nothing else explains a refusal.
    pub(super) fn blame(&mut self) {
        self.is_to_blame = true;
    }

    /// The time from one request to the next, if the rate is known.
    pub(super) fn interval(&self) -> Option<Duration> {
        self.pace.as_ref().map(Pace::interval)
    }

    /// What is to be seen of it, if a rate is known that holds callers back.
    pub(super) fn snapshot(&self, now: Instant) -> Option<DimensionSnapshot> {
        let pace = self.pace.as_ref().filter(|_| self.is_to_blame)?;
        Some(DimensionSnapshot {
            source: Source::LearnedRate,
            hold: Hold::Rate,
            limit: pace.burst(),
            remaining: pace.due_by(now),
            reset: Some(pace.full_at().saturating_duration_since(now)),
            interval: Some(pace.interval()),
            age: self.taught_at.map(|at| now.saturating_duration_since(at)),
        })
    }

    /// How many flow in within that time, if the rate is known.
    #[inline]
    pub(super) fn flow(&self, span: Duration) -> u64 {
        self.pace.as_ref().map_or(0, |pace| pace.flow(span))
    }

    /// When the next may go after `ahead` others; before it is due only where it `may_try` that. The
    /// first after a pause always may: the server said so.
    #[inline]
    pub(super) fn opens_at(&self, ahead: u64, may_try: bool) -> Option<Instant> {
        let is_open = self.closed.is_none() && self.cycle.as_ref().is_some_and(Cycle::is_open);
        let pace = self.pace.as_ref().filter(|_| self.is_to_blame && is_open);
        pace.map(|pace| pace.opens_at(ahead, may_try))
    }

    /// Whether as many are due as can be had at once, so that quota is lost for as long as none goes.
    /// Of a single one that may be had that can be a moment.
    #[inline]
    pub(super) fn is_full(&self, now: Instant) -> bool {
        let is_full = |pace: &Pace| pace.due_by(now) >= pace.burst().max(2);
        self.pace.as_ref().is_none_or(is_full)
    }

    /// A request is admitted; it `waited`, or came when the quota was open.
    #[inline]
    pub(super) fn reserve(&mut self, now: Instant, waited: bool, tempo: &Tempo) -> Turn {
        if !self.cycle.as_ref().is_some_and(Cycle::is_open) {
            let last = self.cycle.take();
            self.close(last);
            self.cycles = self.cycles.wrapping_add(1);
        }
        let cycle = self.cycle.get_or_insert_with(|| Cycle::new(now));
        cycle.sent(now, waited);
        if let Some(pace) = &mut self.pace {
            let since = self.empty.as_ref().map(|empty| empty.since(now));
            // While it is not known whether the quota is open again nothing is tried, nor proved.
            if self.closed.is_none()
                && pace.probe(now, cycle.admitted(), since, tempo.refusal_time())
            {
                cycle.probed(now);
            }
            pace.reserve(now, cycle.admitted());
        }
        Turn { cycle: self.cycles }
    }

    /// An admission was not used.
    pub(super) fn give_back(&mut self, turn: Turn) {
        if turn.cycle == self.cycles {
            self.cycle.as_mut().map(Cycle::give_back);
            self.pace.as_mut().map(Pace::give_back);
        }
    }

    /// A request was refused because the quota was used up, and the server asked to wait so long.
    /// Returns how many were admitted since the pause before; `None` for a late one of an earlier
    /// cycle.
    pub(super) fn refused(
        &mut self,
        turn: Turn,
        sent_at: Instant,
        wait: Option<Duration>,
    ) -> Option<u64> {
        if let Some((number, closed)) = &mut self.closed {
            if turn.cycle == *number {
                closed.refused_late(sent_at);
            }
        }
        let cycle = self.cycle.as_mut().filter(|_| turn.cycle == self.cycles)?;
        cycle.refused(sent_at, wait);
        Some(cycle.admitted())
    }

    /// The first request after a pause was not refused: the quota is open again.
    #[inline]
    pub(super) fn opened(&mut self, tempo: &Tempo) {
        let Some(opened_at) = self.cycle.as_ref().map(Cycle::began) else {
            return;
        };
        let Some((_, mut closed)) = self.closed.take() else {
            return;
        };
        self.misled = if closed.is_misleading() {
            self.misled + 1
        } else {
            0
        };
        // Once may have been an outage.
        if self.misled > 1 {
            closed.distrust();
        }
        // Of one that is shorter than refusals take, most may yet be refused.
        let is_decided = closed.wait().is_none() || closed.took(opened_at) >= tempo.refusal_time();
        if closed.admitted() > 0 && is_decided {
            self.learn(opened_at, &closed);
            self.taught_at = Some(opened_at);
        }
        if let Some(pace) = &mut self.pace {
            pace.resume(opened_at, &closed, tempo);
        }
        self.empty = Some(closed.empty());
    }

    /// Forgets all that was learned.
    pub(super) fn forget(&mut self) {
        *self = Self {
            cycles: self.cycles.wrapping_add(1),
            ..Self::default()
        };
    }

    /// A cycle is over; whether the quota is open again the next request will tell.
    fn close(&mut self, cycle: Option<Cycle>) {
        let Some(next) = cycle.and_then(Cycle::close) else {
            return;
        };
        match &mut self.closed {
            Some((_, closed)) if next.admitted() == 0 => closed.refused_again(&next),
            closed => *closed = Some((self.cycles, Box::new(next))),
        }
    }

    fn learn(&mut self, opened_at: Instant, closed: &Closed) {
        let Some(empty) = &self.empty else {
            self.first = Some(closed.first());
            // A server that names no time is asked until it opens, so that its time is known.
            if let Some(sample) = closed.whole(opened_at).filter(|_| closed.admitted() > 1) {
                self.pace = Some(Pace::new(opened_at, &sample));
            }
            return;
        };
        let known = self.pace.as_ref().map(Pace::interval);
        let sample = closed.sample(opened_at, empty, known, self.first);
        let pace = if let Some(pace) = &mut self.pace {
            pace.learn(&sample);
            pace
        } else {
            let since = empty.since(opened_at);
            let first = self.first.filter(|_| closed.was_refused_again());
            let all = first.map_or(sample, |first| first.with(sample, since));
            self.pace.insert(Pace::new(opened_at, &all))
        };
        let interval = pace.interval();
        self.least_burst = self.least_burst.max(closed.burst(interval));
        let burst = self.first.and_then(|first| first.burst(interval));
        pace.set_burst(burst.unwrap_or(self.least_burst));
    }
}

/// The conversion saturates, and of a NaN it makes zero.
fn nanoseconds(nanoseconds: f64) -> Duration {
    Duration::from_nanos(nanoseconds as u64).min(CEILING)
}

/// How many times the one is the other; of nothing, as if it were a nanosecond.
fn ratio(span: Duration, interval: Duration) -> f64 {
    span.as_nanos() as f64 / interval.as_nanos().max(1) as f64
}

#[cfg(test)]
mod tests;
