//! When requests are due, at a rate that is known more or less well.
//!
//! Requests go one interval after another, counted from when the quota was last used up or, if
//! callers went on until they heard of it, from the last of these: what flowed in during a pause is
//! had at once, a little later than that, so that the network's jitter makes none arrive too early.
//! Where quota comes back at once (the server asks for a far longer wait than one interval) and in
//! small numbers, it is spread over its time instead.
//!
//! A rate that is too high corrects itself, at the cost of one refusal. One that is too low never
//! does: so from time to time ([`Patience`]) a higher one is tried ([`Probe`]). A server that names no
//! time punishes a probe with a wait of unknown length: there the pace rises by small steps. So it does
//! where no more than one can be had at once: one that goes early is refused there at any rate, and
//! what is not used in time is lost.
//!
//! And so it does where pauses cost more than they tell. Who may send ten in any second, sends them at once
//! and is then told to wait for a second, loses most of the next one: unlike in a bucket nothing
//! flows in. If such cycles follow each other, requests go evenly from then on, until one is refused
//! before the pace has risen in that cycle: then the quota is shared, and who goes evenly leaves it to
//! the others.

use super::{
    contrary::{Contrary, Verdict},
    cycle::{Closed, Sample},
    nanoseconds,
    patience::Patience,
    probe::{Early, Probe, Rise, Step},
    ratio,
};
use crate::quota::{after, level::SLOWEST, tempo::Tempo};
use std::time::Duration;
use tokio::time::Instant;

/// Admissions that the mean is taken over.
const MEMORY: f64 = 100.0;

/// From fewer admissions than this no least rate is taken, and no other one believed.
pub(super) const FEW: f64 = 8.0;

/// What was learned in a busy hour is tried anew after so long without need of it: the time by which
/// most limits count.
const DOUBT: Duration = Duration::from_secs(60);

/// The share of a burst that is sent at once: what is in a bucket is known less well than its rate.
const SAFE: f64 = 0.9;

/// A window of at least so many is used up at its beginning, and the refusal that tells its end is
/// the cheapest clock. A smaller one is spread over its time.
const LARGE_WINDOW: u64 = 50;

/// So many costly pauses in a row are no chance.
const ENOUGH: u32 = 3;

/// A pause is costly if it took more than this part of its cycle. Those of a bucket that is probed often
/// take a quarter as well.
const COSTLY: f64 = 1.0 / 3.0;

/// A pace is held no longer than this before it rises: a long pause may have been that of a server out
/// of order.
const HOLD: Duration = Duration::from_secs(60);

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
    patience: Patience,
    /// How long pauses have been of late.
    block: Duration,
    admitted: u64,
    /// The samples of late that the rate is far from.
    contrary: Contrary,
    /// The first step by which the pace rises next.
    step: Step,
    /// Cycles in a row whose pauses were costly.
    costly_pauses: u32,
}

impl Pace {
    pub(super) fn new(now: Instant, sample: &Sample) -> Self {
        Self {
            interval: bounded(sample.interval),
            weight: sample.admitted,
            burst: sample.admitted,
            due: now,
            probe: Probe::Early(Early::new(false)),
            grows_at: now,
            patience: Patience::new(sample.admitted),
            block: Duration::ZERO,
            admitted: 0,
            contrary: Contrary::default(),
            step: Step::default(),
            costly_pauses: 0,
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
        matches!(&self.probe, Probe::Early(early) if early.extra() > 0)
    }

    /// So many can be had at once.
    pub(super) fn set_burst(&mut self, burst: f64) {
        self.burst = (burst * SAFE).max(1.0);
    }

    /// When the next may go after `ahead` others; before it is due only in a probe that it `may_try`.
    pub(super) fn opens_at(&self, ahead: u64, may_try: bool) -> Instant {
        let due = after(self.due, self.requests(ahead));
        match &self.probe {
            Probe::Early(early) if may_try && early.extra() > 0 => {
                let grown = early.grown(self.admitted).extra();
                let grown = before(due, self.requests(grown));
                before(due, self.requests(early.extra())).min(grown.max(self.grows_at))
            }
            Probe::Early(_) | Probe::Rise(_) => due,
        }
    }

    /// A higher rate is tried, if it is time to, before a request goes. With it so many were
    /// `admitted` since the pause, and it is so long ago that the quota was used up. Whether a probe
    /// begins.
    pub(super) fn probe(
        &mut self,
        now: Instant,
        admitted: u64,
        since: Option<Duration>,
        refusal_time: Duration,
    ) -> bool {
        let was_probing = self.is_probing();
        if now.saturating_duration_since(self.due) > DOUBT {
            self.grows_at = self.grows_at.min(now);
            self.patience.doubt();
        }
        if now >= self.grows_at {
            self.grow(now, admitted, since, refusal_time);
        }
        self.is_probing() && !was_probing
    }

    /// A request goes; with it so many were `admitted` since the pause.
    pub(super) fn reserve(&mut self, now: Instant, admitted: u64) {
        let at_once = nanoseconds((self.burst - 1.0).max(0.0) * self.interval);
        self.due = after(self.due.max(before(now, at_once)), self.requests(1));
        self.admitted = admitted;
    }

    pub(super) fn give_back(&mut self) {
        self.due = before(self.due, self.requests(1));
    }

    pub(super) fn learn(&mut self, sample: &Sample) {
        let has_risen = self.fall_back();
        if sample.is_least {
            if sample.admitted >= FEW {
                self.interval = bounded(self.interval.min(sample.interval));
            }
            return;
        }
        let is_slower = sample.interval > self.interval;
        match self.contrary.hear(sample, self.interval) {
            // The pause behind a rise that was too large is no reason to be slower than before it.
            Verdict::Changed { .. } | Verdict::Doubtful if has_risen && is_slower => {
                self.patience.confirmed();
            }
            // Nor is that what flows in during such a pause is lost.
            Verdict::Same if has_risen && is_slower && self.is_single() => {
                self.weight = (self.weight + sample.admitted).min(MEMORY);
                self.patience.confirmed();
            }
            Verdict::Changed { interval, admitted } => {
                self.costly_pauses = 0;
                self.patience.changed(interval > self.interval, admitted);
                self.interval = bounded(interval);
                self.weight = admitted;
            }
            Verdict::Same | Verdict::Doubtful => {
                let share = sample.admitted / (sample.admitted + self.weight);
                let off = sample.interval - self.interval;
                self.interval = bounded(self.interval + off * share);
                self.weight = (self.weight + sample.admitted).min(MEMORY);
                if has_risen || self.is_probing() {
                    self.patience.confirmed();
                } else {
                    self.patience.disturbed(sample.admitted);
                }
            }
        }
    }

    /// What has risen was refused, and falls back to what had gone well. Whether it had risen.
    fn fall_back(&mut self) -> bool {
        let Probe::Rise(rise) = &self.probe else {
            return false;
        };
        let has_risen = rise.has_risen(self.interval);
        self.interval = self.interval.max(rise.proved());
        if has_risen {
            self.step = Step::SMALL;
        } else {
            // Others use the quota as well.
            self.costly_pauses = 0;
        }
        has_risen
    }

    /// The pause is over, and the first request has gone.
    pub(super) fn resume(&mut self, now: Instant, closed: &Closed, tempo: &Tempo) {
        let empty = closed.empty();
        let pause = empty.since_last(now);
        let wait = closed.wait();
        let is_lump = wait > Some(self.requests(2).saturating_add(ROUNDING));
        let is_costly = pause > self.requests(2) && pause > closed.took(now).mul_f64(COSTLY);
        self.costly_pauses = match wait {
            Some(_) if !is_lump && (is_costly || self.is_even()) => {
                self.costly_pauses.saturating_add(1)
            }
            _ => 0,
        };
        let rises = wait.is_none() || self.is_even() || self.is_single();
        let is_spread = rises || is_lump && closed.admitted() < LARGE_WINDOW;
        let first = if is_spread {
            now
        } else {
            let jitter = tempo.jitter().saturating_mul(2);
            after(empty.last(), self.requests(1).saturating_add(jitter))
        };
        self.due = after(first, self.requests(1));
        self.block = empty.since(now).max(self.block.mul_f64(0.9));
        let loses_quota = ratio(pause, self.interval()) > 0.8 * self.burst;
        let price = loses_quota.then_some(pause);
        let patience = self
            .patience
            .first(self.interval, price, tempo.refusal_time());
        let (probe, patience) = if rises {
            let rise = Rise::new(self.step, self.interval);
            (Probe::Rise(rise), patience.max(self.hold()))
        } else {
            (Probe::Early(Early::new(loses_quota)), patience)
        };
        self.probe = probe;
        self.grows_at = after(now, patience);
    }

    fn grow(
        &mut self,
        now: Instant,
        admitted: u64,
        since: Option<Duration>,
        refusal_time: Duration,
    ) {
        match self.probe {
            Probe::Rise(ref mut rise) => {
                if rise.has_risen(self.interval) {
                    self.step = Step::default();
                }
                self.interval = bounded(rise.rise(self.interval));
                let patience = self.patience.next(self.interval, rise.is_far_off());
                self.grows_at = after(now, patience.max(self.hold()));
            }
            // Right behind one that is due, so that it is early by a whole interval.
            Probe::Early(early) if early.extra() == 0 => {
                if now < after(self.due, self.requests(1)) {
                    self.go_earlier(now, early, refusal_time);
                }
            }
            Probe::Early(early) if now < before(self.due, self.requests(early.extra())) => {
                // What was sent before the last growth is admitted.
                self.prove(now, admitted.saturating_sub(early.extra()), since);
                self.go_earlier(now, early, refusal_time);
            }
            // Nobody was held back.
            Probe::Early(_) => {}
        }
    }

    fn go_earlier(&mut self, now: Instant, early: Early, refusal_time: Duration) {
        self.probe = Probe::Early(early.grown(self.admitted));
        self.grows_at = after(now, refusal_time);
    }

    /// So many at the least flow in within that time.
    fn prove(&mut self, now: Instant, admitted: u64, since: Option<Duration>) {
        let Some(since) = since.filter(|_| admitted > 0) else {
            return;
        };
        let known = self.interval;
        self.interval = bounded(known.min(since.as_nanos() as f64 / admitted as f64));
        // What went early was so by fewer intervals.
        let early = self.due.saturating_duration_since(now).as_nanos() as f64;
        self.due = after(now, nanoseconds(early * (self.interval / known)));
    }

    /// How long a pace is held before it rises: what is too fast shows only when the window is over.
    fn hold(&self) -> Duration {
        (self.block * if self.is_even() { 2 } else { 1 }).min(HOLD)
    }

    /// Whether requests go evenly because pauses cost too much.
    fn is_even(&self) -> bool {
        self.costly_pauses >= ENOUGH
    }

    /// Whether no more than one can be had at once, so that nothing is kept of what is not used in
    /// time.
    fn is_single(&self) -> bool {
        self.burst < 1.5
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
