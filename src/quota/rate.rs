//! The rate at which a quota flows, learned from refusals alone.
//!
//! When a request is refused the quota is used up at that moment. Between two such moments just as
//! many are admitted as flow in: that number over that time *is* the rate, exactly for a bucket, and
//! on the average for windows of any kind. A burst that meets the limit is one such moment, however
//! many of its requests are refused. From then on requests go when they are *due*: one interval
//! after another, from the last moment at which the quota was used up, so that what flowed in during
//! the pause is had at once.
//!
//! A rate that is too high corrects itself, at the cost of one refusal. One that is too low never
//! does: so from time to time one request goes before it is due; if it is not refused, two more,
//! then four, until the quota is used up again and the rate is known anew. The patience between two
//! such probes grows as long as they find the rate to be what it was.

use super::{after, tempo::Tempo};
use std::time::Duration;
use tokio::time::Instant;

/// Admissions that the mean is taken over.
const MEMORY: f64 = 100.0;

/// A sample that is off by more than this ratio, and by more than [`BLUR`] requests, shows another
/// rate and not the noise of measuring.
const CHANGE: f64 = 0.25;
const BLUR: f64 = 2.0;

/// From fewer admissions than this no least rate is taken.
const FEW: f64 = 8.0;

/// Admissions from one probe to the next, while the rate is new or has fallen, and at most.
const PATIENCE: f64 = 12.0;
const UNCONFIRMED: f64 = 3.0;
const MAX_PATIENCE: f64 = 200.0;
const PATIENCE_GROWTH: f64 = 1.25;

/// The share of a burst that is sent at once: what is in a bucket is known less well than its rate.
const SAFE: f64 = 0.9;

/// At most one in so many goes too early, all at once.
const STEP: u64 = 10;

/// A window of at least so many is used up at its beginning, and the refusal that tells its end is
/// the cheapest clock. A smaller one is spread over its time.
const LARGE_WINDOW: u64 = 50;

/// The first step by which an even pace rises.
const RISE: f64 = 0.08;

/// Retry-After counts whole seconds.
const ROUNDING: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Rate {
    pace: Option<Pace>,
    /// The present cycle, from one pause to the next.
    cycle: Option<Cycle>,
    cycles: u32,
    closed: Option<Closed>,
    /// How many were admitted at first, and in how many nanoseconds, until the quota was used up.
    first: Option<(f64, f64)>,
    /// How many at the least were had at once after a pause.
    least_burst: f64,
    /// When the quota was used up before the present cycle.
    empty_at: Option<Empty>,
    /// Whether a refusal has been seen that nothing else explains.
    is_to_blame: bool,
}

#[derive(Debug)]
struct Pace {
    /// Nanoseconds from one request to the next.
    interval: f64,
    /// The admissions that it is the mean of.
    weight: f64,
    /// How many can be had at once.
    burst: f64,
    /// When the next request is due.
    due: Instant,
    /// Whether what flowed in during a pause must not be had at once, and by which ratio the pace
    /// then rises.
    rises: bool,
    rise: f64,
    proved: f64,
    /// How long the last pause was.
    block: Duration,
    /// How many go before they are due, and when that grows.
    extra: u64,
    grows_at: Instant,
    /// Since the last pause.
    admitted: u64,
    /// Whether the last pause was so long that the quota ran over.
    is_costly: bool,
    patience: f64,
    /// Whether the rate was higher before: it may be so again.
    has_fallen: bool,
}

#[derive(Debug)]
struct Cycle {
    began: Instant,
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
    /// How long the server asked to wait.
    wait: Option<Duration>,
}

/// A cycle that is over, while it is not known whether the quota is open again.
#[derive(Debug)]
struct Closed {
    began: Instant,
    end: End,
    admitted: u64,
    was_idle: bool,
    probed: Option<(Instant, u64)>,
    /// When the quota was used up according to the last refusal, if it was refused again.
    last_empty_at: Instant,
}

/// When the quota was used up, and when it still was according to the last refusal of that pause.
#[derive(Clone, Copy, Debug)]
struct Empty {
    first: Instant,
    last: Instant,
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
        self.is_to_blame && self.pace.as_ref().is_some_and(|pace| pace.extra > 0)
    }

    pub(super) fn is_to_blame(&self) -> bool {
        self.is_to_blame
    }

    /// Nothing else explains a refusal.
    pub(super) fn blame(&mut self) {
        self.is_to_blame = true;
    }

    /// The time from one request to the next, if the rate is known.
    pub(super) fn interval(&self) -> Option<Duration> {
        self.pace.as_ref().map(|pace| nanoseconds(pace.interval))
    }

    /// How many flow in within twice that time, if the rate is known.
    pub(super) fn flow(&self, span: Duration) -> u64 {
        let flow = |pace: &Pace| (2.0 * span.as_nanos() as f64 / pace.interval) as u64;
        self.pace.as_ref().map_or(0, flow)
    }

    /// When the next may go after `ahead` others.
    pub(super) fn opens_at(&self, ahead: u64) -> Option<Instant> {
        // The first after a pause always may: it is what the server said.
        if !self.is_to_blame {
            return None;
        }
        if self.closed.is_some() || self.cycle.as_ref().is_none_or(|cycle| cycle.end.is_some()) {
            return None;
        }
        self.pace.as_ref().map(|pace| pace.opens_at(ahead))
    }

    /// A request is admitted; it `waited`, or came when the quota was open.
    pub(super) fn reserve(&mut self, now: Instant, waited: bool, tempo: &Tempo) -> Turn {
        if self.cycle.as_ref().is_none_or(|cycle| cycle.end.is_some()) {
            self.begin(now);
        }
        if let Some(cycle) = &mut self.cycle {
            cycle.sent += 1;
            cycle.was_idle |= !waited;
            if let Some(pace) = &mut self.pace {
                let admitted = cycle.admitted();
                let since = self
                    .empty_at
                    .map(|empty| now.saturating_duration_since(empty.first));
                pace.reserve(now, admitted, since, tempo.refusal_time());
                if pace.extra == 1 {
                    cycle.probed.get_or_insert((now, cycle.sent));
                }
            }
        }
        Turn { cycle: self.cycles }
    }

    /// An admission was not used.
    pub(super) fn give_back(&mut self, turn: Turn) {
        if turn.cycle == self.cycles {
            if let Some(cycle) = &mut self.cycle {
                cycle.sent = cycle.sent.saturating_sub(1);
            }
            if let Some(pace) = &mut self.pace {
                pace.give_back();
            }
        }
    }

    /// A request was refused because the quota was used up. Returns how many were admitted since
    /// the pause before.
    pub(super) fn refused(
        &mut self,
        turn: Turn,
        sent_at: Instant,
        wait: Option<Duration>,
    ) -> Option<u64> {
        let cycle = self.cycle.as_mut().filter(|_| turn.cycle == self.cycles)?;
        cycle.refused += 1;
        let end = cycle.end.get_or_insert(End {
            empty_at: sent_at,
            wait,
        });
        end.empty_at = end.empty_at.max(sent_at);
        end.wait = end.wait.max(wait);
        Some(cycle.admitted())
    }

    /// Forgets all that was learned.
    pub(super) fn forget(&mut self) {
        *self = Self {
            cycles: self.cycles.wrapping_add(1),
            ..Self::default()
        };
    }

    /// A pause is over; whether the quota is open again the first request will tell.
    fn begin(&mut self, now: Instant) {
        self.cycles = self.cycles.wrapping_add(1);
        let next = Cycle {
            began: now,
            sent: 0,
            refused: 0,
            was_idle: false,
            probed: None,
            end: None,
        };
        let Some(last) = self.cycle.replace(next) else {
            return;
        };
        let (Some(end), admitted) = (last.end, last.admitted()) else {
            return;
        };
        match &mut self.closed {
            // Nothing was admitted: the server was out of order, or the wait too short. What was
            // learned before does not change by that.
            Some(closed) if admitted == 0 => closed.again(end),
            _ => {
                self.closed = Some(Closed {
                    began: last.began,
                    end,
                    admitted,
                    was_idle: last.was_idle,
                    probed: last.probed,
                    last_empty_at: end.empty_at,
                });
            }
        }
    }

    /// The first request after a pause was not refused: the quota is open again.
    pub(super) fn opened(&mut self, tempo: &Tempo) {
        let Some(opened_at) = self.cycle.as_ref().map(|cycle| cycle.began) else {
            return;
        };
        let Some(closed) = self.closed.take() else {
            return;
        };
        if closed.admitted > 0 {
            self.learn(opened_at, &closed);
        }
        self.empty_at = Some(Empty {
            first: closed.end.empty_at,
            last: closed.last_empty_at,
        });
        if let Some(pace) = &mut self.pace {
            pace.resume(opened_at, &closed, tempo);
        }
    }

    fn learn(&mut self, opened_at: Instant, closed: &Closed) {
        let whole = opened_at.saturating_duration_since(closed.began);
        let admitted = closed.admitted as f64;
        let flowing = closed.end.empty_at.saturating_duration_since(closed.began);
        let Some(before) = self.empty_at else {
            // The quota was full at the beginning, and nobody knows how much that was; but a server
            // that names no time is asked until it opens.
            self.first = Some((admitted, flowing.as_nanos() as f64));
            if closed.end.wait.is_none() {
                let took = whole - opened_at.saturating_duration_since(closed.last_empty_at) / 2;
                self.pace = Some(Pace::new(took.as_nanos() as f64 / admitted, admitted));
            }
            return;
        };
        let took = match closed.end.wait {
            // A server that names no time may have been open again for a while.
            None => whole - opened_at.saturating_duration_since(closed.last_empty_at) / 2,
            Some(_) => {
                let since = |before| closed.end.empty_at.saturating_duration_since(before);
                let expected = self
                    .interval()
                    .map(|interval| interval.mul_f64(admitted * 2.0));
                // A pause that goes on although the server said that it would be over is that of a
                // window, or the server was out of order: then the rate is what it was.
                let all = since(before.first).min(whole);
                if expected.is_some_and(|expected| all > expected) {
                    since(before.last).min(whole)
                } else {
                    all
                }
            }
        };
        let before = before.last;
        let mut sample = took.as_nanos() as f64 / admitted;
        let mut is_least = closed.was_idle;
        let burst = self.burst(sample);
        let paused = closed.began.saturating_duration_since(before).as_nanos() as f64;
        if burst.is_some_and(|burst| paused > burst * sample * (1.0 + CHANGE)) {
            // It was full before the pause was over, and what came then ran over.
            let flowed = admitted - burst.unwrap_or_default();
            if flowed > 2.0 * BLUR {
                sample = flowing.as_nanos() as f64 / flowed;
            } else {
                is_least = true;
            }
        }
        // Whatever the bucket held when the probe began, the rest has flowed in since.
        if let (Some(burst), Some((probed, sent))) = (burst, closed.probed) {
            let flowed = admitted - sent as f64 - burst;
            let flowing = closed.end.empty_at.saturating_duration_since(probed);
            if flowed > 2.0 * BLUR {
                sample = sample.min(flowing.as_nanos() as f64 / flowed);
            }
        }
        match &mut self.pace {
            Some(pace) => pace.learn(sample, admitted, is_least),
            None => self.pace = Some(Pace::new(sample, admitted)),
        }
        if let Some(pace) = &mut self.pace {
            let least = admitted - flowing.as_nanos() as f64 / pace.interval;
            self.least_burst = self.least_burst.max(least);
            let burst = self.first.and_then(|first| burst_of(first, pace.interval));
            pace.burst = (burst.unwrap_or(self.least_burst) * SAFE).max(1.0);
        }
    }

    /// How many can be had at once, if so much time passes between two.
    fn burst(&self, interval: f64) -> Option<f64> {
        burst_of(self.first?, interval)
    }
}

/// What was admitted at first is what could be had at once, and what flowed in meanwhile. Where that
/// is the most of it, the beginning was no burst, and tells nothing.
fn burst_of((admitted, flowing): (f64, f64), interval: f64) -> Option<f64> {
    let burst = admitted - flowing / interval;
    (burst > admitted / 2.0 && burst > 2.0).then_some(burst)
}

impl Cycle {
    fn admitted(&self) -> u64 {
        self.sent.saturating_sub(self.refused)
    }
}

impl Closed {
    /// Refused again, with nothing admitted between.
    fn again(&mut self, end: End) {
        self.last_empty_at = self.last_empty_at.max(end.empty_at);
        self.end.wait = self.end.wait.max(end.wait);
    }
}

impl Pace {
    fn new(interval: f64, admitted: f64) -> Self {
        let interval = interval.max(1.0);
        let now = Instant::now();
        Self {
            interval,
            weight: admitted,
            burst: admitted,
            due: now,
            rises: false,
            rise: 0.0,
            proved: interval,
            block: Duration::ZERO,
            extra: 0,
            grows_at: now,
            admitted: 0,
            is_costly: false,
            patience: PATIENCE.min(admitted),
            has_fallen: false,
        }
    }

    fn opens_at(&self, ahead: u64) -> Instant {
        let due = after(self.due, self.requests(ahead));
        let at = before(due, self.requests(self.extra));
        if self.rises {
            return at;
        }
        let grown = before(due, self.requests(self.grown()));
        at.min(grown.max(self.grows_at))
    }

    fn reserve(
        &mut self,
        now: Instant,
        admitted: u64,
        since: Option<Duration>,
        refusal_time: Duration,
    ) {
        if now >= self.grows_at && self.rises {
            self.proved = self.interval;
            self.interval /= 1.0 + self.rise;
            self.rise = (self.rise * 2.0).min(0.5);
            self.grows_at = after(
                now,
                self.block.max(nanoseconds(self.patience * self.interval)),
            );
        } else if now >= self.grows_at && now < self.due {
            // What was sent before the last growth is admitted, and so many at the least flow in.
            let proved = admitted.saturating_sub(self.extra);
            if let Some(since) = since.filter(|_| proved > 0) {
                let sample = since.as_nanos() as f64 / proved as f64;
                self.interval = self.interval.min(sample.max(1.0));
            }
            self.extra = self.grown();
            self.grows_at = after(now, refusal_time);
        }
        let earliest = before(
            now,
            nanoseconds((self.burst - 1.0).max(0.0) * self.interval),
        );
        self.due = after(self.due.max(earliest), self.requests(1));
        self.admitted = admitted;
    }

    /// Twice as many, but not so many at once that more than a share of what was admitted since the
    /// pause could be refused.
    fn grown(&self) -> u64 {
        let grown = if self.is_costly {
            self.extra / 4
        } else {
            self.extra
        };
        self.extra + grown.min(self.admitted / STEP).max(1)
    }

    fn give_back(&mut self) {
        self.due = before(self.due, self.requests(1));
    }

    fn learn(&mut self, sample: f64, admitted: f64, is_least: bool) {
        if self.rises {
            self.interval = self.interval.max(self.proved);
        }
        let expected = sample * admitted / self.interval;
        let off = (admitted - expected).abs();
        if is_least {
            if admitted >= FEW {
                self.interval = self.interval.min(sample);
            }
        } else if off > BLUR && off > CHANGE * expected {
            self.has_fallen = sample > self.interval;
            let patience = if self.has_fallen {
                PATIENCE
            } else {
                UNCONFIRMED
            };
            self.patience = patience.min(admitted);
            self.interval = sample;
            self.weight = admitted;
        } else {
            let share = admitted / (admitted + self.weight);
            self.interval += (sample - self.interval) * share;
            self.weight = (self.weight + admitted).min(MEMORY);
            if self.patience < PATIENCE {
                self.patience = (self.patience * 2.0).min(PATIENCE);
            } else if !self.has_fallen {
                self.patience = (self.patience * PATIENCE_GROWTH).min(MAX_PATIENCE);
            }
        }
        self.interval = self.interval.max(1.0);
    }

    /// The pause is over, and so much has flowed in since the quota was used up.
    fn resume(&mut self, now: Instant, closed: &Closed, tempo: &Tempo) {
        let empty_at = closed.last_empty_at;
        let pause = now.saturating_duration_since(empty_at);
        let wait = closed.end.wait.unwrap_or(pause);
        let comes_at_once = wait > after_rounding(self.requests(2));
        self.rise = RISE;
        let block = now.saturating_duration_since(closed.end.empty_at);
        self.block = block.max(self.block * 9 / 10);
        self.rises = closed.end.wait.is_none();
        let due = if comes_at_once && closed.admitted < LARGE_WINDOW || self.rises {
            now
        } else {
            after(empty_at, self.requests(1) + tempo.jitter() * 2)
        };
        // The one that found it open has gone.
        self.due = after(due, self.requests(1));
        self.extra = 0;
        self.is_costly = pause > nanoseconds(self.burst * 0.8 * self.interval);
        let patience = nanoseconds(self.patience * self.interval)
            .max(tempo.refusal_time() * if self.patience > UNCONFIRMED { 20 } else { 3 })
            .max(if self.is_costly {
                pause * if self.patience > PATIENCE { 10 } else { 1 }
            } else {
                Duration::ZERO
            })
            .max(if self.rises {
                self.block
            } else {
                Duration::ZERO
            });
        self.grows_at = after(now, patience);
    }

    fn requests(&self, requests: u64) -> Duration {
        nanoseconds(self.interval * requests as f64)
    }
}

fn after_rounding(span: Duration) -> Duration {
    span.saturating_add(ROUNDING)
}

fn before(at: Instant, span: Duration) -> Instant {
    at.checked_sub(span).unwrap_or(at)
}

/// The conversion saturates, and of a NaN it makes zero.
fn nanoseconds(nanoseconds: f64) -> Duration {
    Duration::from_nanos(nanoseconds as u64).min(super::CEILING)
}
