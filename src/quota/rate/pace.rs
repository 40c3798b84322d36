//! When requests are due, at a rate that is known more or less well.
//!
//! Requests go one interval after another, counted from when the quota was last used up or, if
//! callers went on until they heard of it, from the last of these: what flowed in during a pause is
//! had at once, a little later than that, so that the network's jitter makes none arrive too early.
//! Where quota comes back at once (the server asks for a far longer wait than one interval) and in
//! small numbers, it is spread over its time instead.
//!
//! A rate that is too high corrects itself, at the cost of one refusal. One that is too low never
//! does: so from time to time, right behind one that is due, one more goes before it is; if it is not
//! refused another one, then two, then four, until the quota is used up and the rate is known anew.
//! The patience between two such probes grows as long as they find the rate to be what it was. Who
//! is refused without one shares the quota with others, and has found out nothing. A
//! server that names no time punishes a probe with a wait of unknown length: there the pace rises by
//! small steps instead, and falls back to what went well before.
//!
//! So it does where pauses cost more than they tell. Who may send ten in any second, sends them at once
//! and is then told to wait for a second, loses most of the next one: unlike in a bucket nothing
//! flows in. If such cycles follow each other, requests go evenly from then on, until one is refused at
//! a pace that had gone well: then the quota is shared, and who goes evenly leaves it to the others.

use super::{
    contrary::{Contrary, Verdict},
    cycle::{Closed, Sample},
    nanoseconds, ratio,
};
use crate::quota::{after, level::SLOWEST, tempo::Tempo};
use std::time::Duration;
use tokio::time::Instant;

/// Admissions that the mean is taken over.
const MEMORY: f64 = 100.0;

/// From fewer admissions than this no least rate is taken, and no other one believed.
pub(super) const FEW: f64 = 8.0;

/// Admissions from one probe to the next: while the rate is new or has fallen, when it has just
/// risen, and at most; and by what they grow.
const PATIENCE: f64 = 12.0;
const RISEN: f64 = 3.0;
const MAX_PATIENCE: f64 = 200.0;
const PATIENCE_GROWTH: f64 = 1.25;

/// What was learned in a busy hour is tried anew after so long without need of it: the time by which
/// most limits count.
const DOUBT: Duration = Duration::from_secs(60);

/// The share of a burst that is sent at once: what is in a bucket is known less well than its rate.
const SAFE: f64 = 0.9;

/// Of those that were admitted since the pause at most one in so many goes too early at once.
const STEP: u64 = 10;

/// A window of at least so many is used up at its beginning, and the refusal that tells its end is
/// the cheapest clock. A smaller one is spread over its time.
const LARGE_WINDOW: u64 = 50;

/// The first step by which the pace rises, and the largest; the first is half of it after a rise that
/// was too large.
const RISE: f64 = 0.16;
const MAX_RISE: f64 = 1.0;

/// So many cycles in a row of which a pause took more than this part are no chance. Those of a bucket
/// that is probed often have pauses of a quarter as well.
const ENOUGH: u32 = 3;
const LOST: u32 = 3;

/// Retry-After counts whole seconds.
const ROUNDING: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Pace {
    /// Nanoseconds from one request to the next, and the admissions that it is the mean of.
    interval: f64,
    weight: f64,
    /// How many can be had at once.
    burst: f64,
    due: Instant,
    probe: Probe,
    /// When the next probe begins or goes on.
    grows_at: Instant,
    patience: f64,
    /// Whether the rate was higher before: it may be so again.
    has_fallen: bool,
    /// How long pauses have been of late.
    block: Duration,
    admitted: u64,
    /// The samples of late that the rate is far from.
    contrary: Contrary,
    /// The first step by which the pace rises next.
    rise: f64,
    /// Cycles in a row of which a pause took much.
    lost: u32,
}

/// How a higher rate is tried.
#[derive(Debug)]
enum Probe {
    /// So many go before they are due; fewer more each time, if a refusal is `costly`.
    Early { extra: u64, is_costly: bool },
    /// By a pace that rises from `proved` nanoseconds, by the next `step` when it was held for so
    /// long.
    Rise {
        step: f64,
        proved: f64,
        hold: Duration,
    },
}

impl Pace {
    pub(super) fn new(now: Instant, sample: &Sample) -> Self {
        Self {
            interval: bounded(sample.interval),
            weight: sample.admitted,
            burst: sample.admitted,
            due: now,
            probe: Probe::Early {
                extra: 0,
                is_costly: false,
            },
            grows_at: now,
            patience: PATIENCE.min(sample.admitted),
            has_fallen: false,
            block: Duration::ZERO,
            admitted: 0,
            contrary: Contrary::default(),
            rise: RISE,
            lost: 0,
        }
    }

    pub(super) fn interval(&self) -> Duration {
        nanoseconds(self.interval)
    }

    /// How many flow in within that time.
    pub(super) fn flow(&self, span: Duration) -> u64 {
        ratio(span, self.interval()) as u64
    }

    /// How many can be had at once.
    pub(super) fn burst(&self) -> u64 {
        self.burst.max(1.0) as u64
    }

    /// How many are due now, but for those that a probe lets go earlier.
    pub(super) fn due_by(&self, now: Instant) -> u64 {
        let Some(since) = now.checked_duration_since(self.due) else {
            return 0;
        };
        self.flow(since).saturating_add(1).min(self.burst())
    }

    /// When as many are due as can be had at once.
    pub(super) fn full_at(&self) -> Instant {
        after(self.due, self.requests(self.burst() - 1))
    }

    pub(super) fn is_probing(&self) -> bool {
        matches!(self.probe, Probe::Early { extra, .. } if extra > 0)
    }

    /// So many can be had at once.
    pub(super) fn set_burst(&mut self, burst: f64) {
        self.burst = (burst * SAFE).max(1.0);
    }

    pub(super) fn opens_at(&self, ahead: u64) -> Instant {
        let due = after(self.due, self.requests(ahead));
        match &self.probe {
            Probe::Rise { .. } | Probe::Early { extra: 0, .. } => due,
            Probe::Early { extra, .. } => {
                let grown = before(due, self.requests(self.grown()));
                before(due, self.requests(*extra)).min(grown.max(self.grows_at))
            }
        }
    }

    /// A request goes; with it so many were `admitted` since the pause, and it is so long ago that
    /// the quota was used up. Whether a probe begins.
    pub(super) fn reserve(
        &mut self,
        now: Instant,
        admitted: u64,
        since: Option<Duration>,
        refusal_time: Duration,
    ) -> bool {
        let was_probing = self.is_probing();
        if now.saturating_duration_since(self.due) > DOUBT {
            self.grows_at = self.grows_at.min(now);
            self.patience = self.patience.min(PATIENCE);
        }
        if now >= self.grows_at {
            self.probe(now, admitted, since, refusal_time);
        }
        let at_once = nanoseconds((self.burst - 1.0).max(0.0) * self.interval);
        self.due = after(self.due.max(before(now, at_once)), self.requests(1));
        self.admitted = admitted;
        self.is_probing() && !was_probing
    }

    pub(super) fn give_back(&mut self) {
        self.due = before(self.due, self.requests(1));
    }

    pub(super) fn learn(&mut self, sample: &Sample) {
        let Sample {
            interval, admitted, ..
        } = *sample;
        let (mut has_risen, is_probing) = (false, self.is_probing());
        if let Probe::Rise { proved, .. } = self.probe {
            has_risen = self.interval < proved;
            self.interval = self.interval.max(proved);
            if has_risen {
                self.rise = RISE / 2.0;
            } else {
                // Others use the quota as well.
                self.lost = 0;
            }
        }
        if sample.is_least {
            if admitted >= FEW {
                self.interval = bounded(self.interval.min(interval));
            }
            return;
        }
        let is_slower = interval > self.interval;
        match self.contrary.hear(sample, self.interval) {
            // The pause behind a rise that was too large is no reason to be slower than before it.
            Verdict::Changed { .. } | Verdict::Doubtful if has_risen && is_slower => {
                self.grow_patience();
            }
            Verdict::Changed { interval, admitted } => {
                self.lost = 0;
                self.has_fallen = interval > self.interval;
                let patience = if self.has_fallen { PATIENCE } else { RISEN };
                self.patience = patience.min(admitted);
                self.interval = bounded(interval);
                self.weight = admitted;
            }
            Verdict::Same | Verdict::Doubtful => {
                let share = admitted / (admitted + self.weight);
                self.interval = bounded(self.interval + (interval - self.interval) * share);
                self.weight = (self.weight + admitted).min(MEMORY);
                let was_tried = has_risen || is_probing;
                if was_tried || self.patience < PATIENCE {
                    self.grow_patience();
                }
            }
        }
    }

    fn grow_patience(&mut self) {
        if self.patience < PATIENCE {
            self.patience = (self.patience * 2.0).min(PATIENCE);
        } else if !self.has_fallen {
            self.patience = (self.patience * PATIENCE_GROWTH).min(MAX_PATIENCE);
        }
    }

    /// The pause is over, and the first request has gone.
    pub(super) fn resume(&mut self, now: Instant, closed: &Closed, tempo: &Tempo) {
        let empty = closed.empty();
        let pause = empty.since_last(now);
        let wait = closed.wait();
        let is_lump = wait > Some(self.requests(2).saturating_add(ROUNDING));
        let is_lost = pause > self.requests(2) && pause > closed.took(now) / LOST;
        self.lost = match wait {
            Some(_) if !is_lump && (is_lost || self.is_even()) => self.lost.saturating_add(1),
            _ => 0,
        };
        let rises = wait.is_none() || self.is_even();
        let is_spread = rises || is_lump && closed.admitted() < LARGE_WINDOW;
        let first = if is_spread {
            now
        } else {
            let jitter = tempo.jitter().saturating_mul(2);
            after(empty.last(), self.requests(1).saturating_add(jitter))
        };
        self.due = after(first, self.requests(1));
        self.block = empty.since(now).max(self.block.mul_f64(0.9));
        let is_costly = self.is_even() || ratio(pause, self.interval()) > 0.8 * self.burst;
        self.probe = if rises {
            Probe::Rise {
                step: self.rise,
                proved: self.interval,
                // What is too fast shows only when the window is over.
                hold: self.block * if self.is_even() { 2 } else { 1 },
            }
        } else {
            Probe::Early {
                extra: 0,
                is_costly,
            }
        };
        self.grows_at = after(now, self.patience(pause, is_costly, tempo.refusal_time()));
    }

    /// How long until the next probe: as long as the admissions take that it is worth; no sooner
    /// than refusals would be noticed; and where a refusal loses quota, so long that at most a tenth
    /// is lost, once the rate is known well.
    fn patience(&self, pause: Duration, is_costly: bool, refusal_time: Duration) -> Duration {
        let worth = nanoseconds(self.patience * self.interval);
        let round_trips = if self.patience > RISEN { 20 } else { 3 };
        let price = if self.patience > PATIENCE { 10 } else { 1 };
        let price = pause.saturating_mul(if is_costly { price } else { 0 });
        let hold = match self.probe {
            Probe::Rise { hold, .. } => hold,
            Probe::Early { .. } => Duration::ZERO,
        };
        worth
            .max(refusal_time.saturating_mul(round_trips))
            .max(price)
            .max(hold)
    }

    fn probe(
        &mut self,
        now: Instant,
        admitted: u64,
        since: Option<Duration>,
        refusal_time: Duration,
    ) {
        let grown = self.grown();
        let next_due = after(self.due, self.requests(1));
        match &mut self.probe {
            Probe::Rise { step, proved, hold } => {
                if *proved > self.interval {
                    self.rise = RISE;
                    *step = step.max(2.0 * RISE);
                }
                *proved = self.interval;
                self.interval = bounded(self.interval / (1.0 + *step));
                *step = (*step * 2.0).min(MAX_RISE);
                // A rate that has proved to be higher by more than it was likely to be wrong may be
                // far higher.
                let patience = if *step > 2.0 * RISE {
                    RISEN
                } else {
                    self.patience
                };
                let worth = nanoseconds(self.patience.min(patience) * self.interval);
                self.grows_at = after(now, worth.max(*hold));
            }
            // Right behind one that is due, so that it is early by a whole interval.
            Probe::Early {
                extra: extra @ 0, ..
            } => {
                if now < next_due {
                    *extra = grown;
                    self.grows_at = after(now, refusal_time);
                }
            }
            Probe::Early { extra, .. } if now < self.due => {
                // What was sent before the last growth is admitted, and so much at the least flows
                // in.
                let proved = admitted.saturating_sub(*extra);
                if let Some(since) = since.filter(|_| proved > 0) {
                    let least = since.as_nanos() as f64 / proved as f64;
                    let known = self.interval;
                    self.interval = bounded(known.min(least));
                    // What went early was so by fewer intervals.
                    let early = self.due.saturating_duration_since(now);
                    self.due = after(
                        now,
                        nanoseconds(early.as_nanos() as f64 * (self.interval / known)),
                    );
                }
                *extra = grown;
                self.grows_at = after(now, refusal_time);
            }
            // Nobody was held back.
            Probe::Early { .. } => {}
        }
    }

    /// How many go before they are due when a probe has grown: twice as many, but only so many more
    /// that few of all are refused at the end.
    fn grown(&self) -> u64 {
        match self.probe {
            Probe::Rise { .. } => 0,
            Probe::Early { extra, is_costly } => {
                let more = if is_costly { extra / 4 } else { extra };
                extra.saturating_add(more.min(self.admitted / STEP).max(1))
            }
        }
    }

    /// Whether requests go evenly because pauses cost too much.
    fn is_even(&self) -> bool {
        self.lost >= ENOUGH
    }

    fn requests(&self, requests: u64) -> Duration {
        nanoseconds(self.interval * requests as f64)
    }
}

/// From a nanosecond to an hour: what is measured is finite, and one odd sample closes nothing for
/// good.
fn bounded(interval: f64) -> f64 {
    interval.clamp(1.0, SLOWEST.as_nanos() as f64)
}

fn before(at: Instant, span: Duration) -> Instant {
    at.checked_sub(span).unwrap_or(at)
}
