//! What happens from one pause to the next, and what it tells of the rate.
//!
//! The plain measure is what was admitted over the time between the two moments at which the quota
//! was used up, or over that between the two at which it opened, if that is shorter: windows and
//! buckets agree in one of them. Three things can make it too low, and each is told apart:
//!
//! - the pause was so long that the bucket was full before its end. What was had at first, when it
//!   was full too, tells how much that is; only the rest has flowed in;
//! - requests were held back by a rate that was too low. Of those that went before they were due
//!   ([`Pace`](super::pace::Pace)) all beyond one bucketful have flowed in since;
//! - the server was out of order for a while. If the time is far longer than the rate that is known
//!   would need, the pause at its end does not count, and of that at its beginning only what came
//!   behind the last refusal.

use super::{nanoseconds, pace::FEW, ratio};
use std::time::Duration;
use tokio::time::Instant;

/// How far a count may be off by the order in which requests arrive.
pub(super) const BLUR: f64 = 2.0;

/// A rate that is off by more than this ratio is another one.
pub(super) const CHANGE: f64 = 0.25;

/// A time this many times as long as expected is that of a server out of order.
const OUTAGE: f64 = 2.0;

#[derive(Debug)]
pub(super) struct Cycle {
    began: Instant,
    last_sent_at: Instant,
    sent: u64,
    refused: u64,
    /// Whether nobody waited at some time, so that the callers and not the quota set the pace.
    was_idle: bool,
    /// When requests began to go before they were due, and how many had been sent by then.
    probed: Option<(Instant, u64)>,
    end: Option<End>,
}

#[derive(Clone, Copy, Debug)]
struct End {
    /// When the last request was sent that was refused.
    empty_at: Instant,
    /// The longest time that the server asked to wait.
    wait: Option<Duration>,
}

/// A cycle that is over.
#[derive(Debug)]
pub(super) struct Closed {
    cycle: Cycle,
    end: End,
    /// When the quota was used up according to the last refusal, if it was refused again.
    last_empty_at: Instant,
    /// How often it was.
    again: u32,
}

/// When the quota was used up, and when it still was according to the last refusal of that pause.
#[derive(Clone, Copy, Debug)]
pub(super) struct Empty {
    first: Instant,
    last: Instant,
}

/// How many were admitted at first, when the quota was full, and in which time.
#[derive(Clone, Copy, Debug)]
pub(super) struct First {
    admitted: f64,
    took: Duration,
}

/// What a cycle tells of the rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// The time from one request to the next, in nanoseconds.
    pub(super) interval: f64,
    pub(super) admitted: f64,
    /// Whether the rate may be higher than that.
    pub(super) is_least: bool,
}

impl Sample {
    /// Whether the server may have been out of order, if the interval was taken to be `known`.
    fn may_be_outage(&self, known: Option<Duration>) -> bool {
        known.is_some_and(|known| self.interval > known.as_nanos() as f64 * OUTAGE)
    }
}

impl Cycle {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            began: now,
            last_sent_at: now,
            sent: 0,
            refused: 0,
            was_idle: false,
            probed: None,
            end: None,
        }
    }

    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// Whether nothing was refused in it.
    pub(super) fn is_open(&self) -> bool {
        self.end.is_none()
    }

    pub(super) fn admitted(&self) -> u64 {
        self.sent.saturating_sub(self.refused)
    }

    pub(super) fn sent(&mut self, now: Instant, waited: bool) {
        self.sent += 1;
        self.last_sent_at = now;
        self.was_idle |= !waited;
    }

    pub(super) fn give_back(&mut self) {
        self.sent = self.sent.saturating_sub(1);
    }

    /// The first request goes before it is due.
    pub(super) fn probed(&mut self, now: Instant) {
        self.probed.get_or_insert((now, self.sent));
    }

    pub(super) fn refused(&mut self, sent_at: Instant, wait: Option<Duration>) {
        self.refused += 1;
        let end = self.end.get_or_insert(End {
            empty_at: sent_at,
            wait,
        });
        end.empty_at = end.empty_at.max(sent_at);
        end.wait = end.wait.max(wait);
    }

    pub(super) fn close(self) -> Option<Closed> {
        let mut end = self.end?;
        // Callers went on until they heard of the refusal, and took what flowed in meanwhile.
        end.empty_at = end.empty_at.max(self.last_sent_at);
        Some(Closed {
            cycle: self,
            end,
            last_empty_at: end.empty_at,
            again: 0,
        })
    }
}

impl Closed {
    pub(super) fn admitted(&self) -> u64 {
        self.cycle.admitted()
    }

    /// Whether the server refused again and again after the time that it had named.
    pub(super) fn is_misleading(&self) -> bool {
        self.end.wait.is_some() && self.again > 1
    }

    pub(super) fn was_refused_again(&self) -> bool {
        self.again > 0
    }

    /// As if the server had named no time.
    pub(super) fn distrust(&mut self) {
        self.end.wait = None;
    }

    /// How long the server asked to wait.
    pub(super) fn wait(&self) -> Option<Duration> {
        self.end.wait
    }

    pub(super) fn empty(&self) -> Empty {
        Empty {
            first: self.end.empty_at,
            last: self.last_empty_at,
        }
    }

    pub(super) fn first(&self) -> First {
        First {
            admitted: self.admitted() as f64,
            took: self.flowed(),
        }
    }

    /// A refusal of one of its requests comes when the next cycle has begun: the server asked for a
    /// shorter wait than refusals take.
    pub(super) fn refused_late(&mut self, sent_at: Instant) {
        self.cycle.refused += 1;
        self.end.empty_at = self.end.empty_at.max(sent_at);
        self.last_empty_at = self.last_empty_at.max(sent_at);
    }

    /// Refused again, with nothing admitted between.
    pub(super) fn refused_again(&mut self, next: &Self) {
        self.last_empty_at = self.last_empty_at.max(next.last_empty_at);
        self.again += 1;
        self.end.wait = self.end.wait.max(next.end.wait);
    }

    /// How many were had at once, at the least, if so much time passes between two.
    pub(super) fn burst(&self, interval: Duration) -> f64 {
        self.admitted() as f64 - ratio(self.flowed(), interval)
    }

    /// From opening to opening; of a server that names no time, for another may have been open for a
    /// while: then it is taken to have opened half-way between the last two times that it was asked.
    pub(super) fn whole(&self, opened_at: Instant) -> Option<Sample> {
        let unknown = opened_at.saturating_duration_since(self.last_empty_at) / 2;
        let took = self.took(opened_at).saturating_sub(unknown);
        self.end.wait.is_none().then(|| self.sample_of(took))
    }

    /// What the cycle tells; `known` is the interval that was taken for true.
    pub(super) fn sample(
        &self,
        opened_at: Instant,
        empty: &Empty,
        known: Option<Duration>,
        first: Option<First>,
    ) -> Sample {
        let whole = self.whole(opened_at);
        let whole = whole.filter(|whole| !whole.may_be_outage(known));
        let mut sample = whole.unwrap_or_else(|| self.plain(opened_at, empty, known));
        sample.is_least = self.cycle.was_idle && !self.was_mostly_closed(&sample);
        let Some(burst) = first.and_then(|first| first.burst(nanoseconds(sample.interval))) else {
            return sample;
        };
        let paused = self.cycle.began.saturating_duration_since(empty.last);
        let full = burst * sample.interval;
        let paused = paused.as_nanos() as f64;
        match flow(sample.admitted - burst, self.flowed()) {
            Some(interval) if paused > full => sample.interval = sample.interval.min(interval),
            None if paused > full * (1.0 + CHANGE) => sample.is_least = true,
            _ => {}
        }
        if let Some((probed, sent)) = self.cycle.probed {
            let took = self.end.empty_at.saturating_duration_since(probed);
            let least = flow(sample.admitted - sent as f64 - burst, took);
            sample.interval = least.map_or(sample.interval, |least| least.min(sample.interval));
        }
        sample
    }

    /// Whether it was closed for more than half of its time: that nobody waited while it was open
    /// makes little of a difference then.
    fn was_mostly_closed(&self, sample: &Sample) -> bool {
        2.0 * self.flowed().as_nanos() as f64 <= sample.interval * sample.admitted
    }

    fn plain(&self, opened_at: Instant, empty: &Empty, known: Option<Duration>) -> Sample {
        let whole = self.took(opened_at);
        let since = |before| self.end.empty_at.saturating_duration_since(before);
        let sample = self.sample_of(since(empty.first).min(whole));
        if sample.may_be_outage(known) {
            self.sample_of(since(empty.last).min(whole))
        } else {
            sample
        }
    }

    fn sample_of(&self, took: Duration) -> Sample {
        let admitted = self.admitted() as f64;
        Sample {
            interval: took.as_nanos() as f64 / admitted.max(1.0),
            admitted,
            is_least: false,
        }
    }

    /// From the opening until the quota was used up.
    fn flowed(&self) -> Duration {
        self.end
            .empty_at
            .saturating_duration_since(self.cycle.began)
    }

    /// From the opening to the next.
    pub(super) fn took(&self, opened_at: Instant) -> Duration {
        opened_at.saturating_duration_since(self.cycle.began)
    }
}

/// The interval at which so many flow in within that time, if they are more than a blur.
fn flow(flowed: f64, took: Duration) -> Option<f64> {
    (flowed > 2.0 * BLUR).then(|| took.as_nanos() as f64 / flowed)
}

impl Empty {
    pub(super) fn last(&self) -> Instant {
        self.last
    }

    pub(super) fn since(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.first)
    }

    pub(super) fn since_last(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last)
    }
}

impl First {
    /// How many could be had at once, if so much time passes between two: what was admitted, less
    /// what flowed in meanwhile. Where that is the most of it, the beginning was no burst, and tells
    /// nothing.
    pub(super) fn burst(self, interval: Duration) -> Option<f64> {
        let burst = self.admitted - ratio(self.took, interval);
        (burst > self.admitted / 2.0 && burst > BLUR).then_some(burst)
    }

    /// What the first sample tells, so long after the quota was used up for the first time. A few may
    /// be no more than what a window had left over: then all counts that was admitted until now. Of a
    /// bucket that is too much, and corrects itself; what is too little does not.
    pub(super) fn with(self, sample: Sample, since: Duration) -> Sample {
        if sample.admitted >= FEW || self.admitted < FEW {
            return sample;
        }
        let took = self.took.saturating_add(since).as_nanos() as f64;
        let interval = took / (self.admitted + sample.admitted);
        Sample {
            interval: interval.min(sample.interval),
            ..sample
        }
    }
}
