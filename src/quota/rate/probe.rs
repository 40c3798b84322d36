//! How a higher rate is tried.
//!
//! Right behind a request that is due one more goes before it is; if it is not refused another one,
//! then two, then four, until the quota is used up and the rate is known anew. Where only one may be
//! in flight a refusal would tell nothing of the rate; so as long as nobody has seen several being
//! served at once, it waits until the one before it has been.
//!
//! Where a refusal is punished with a pause that costs more than it teaches, or whatever goes early is
//! refused because only one can be had at once, the pace rises instead, by small steps, and falls back
//! to what went well before.

/// Of those that were admitted since the pause at most one in so many goes too early at once.
const EARLY: u64 = 10;

/// The first step by which the pace rises, and the largest; the first is half of it after a rise that
/// was too large.
const RISE: f64 = 0.16;
const MAX_RISE: f64 = 1.0;

#[derive(Debug)]
pub(super) enum Probe {
    Early(Early),
    Rise(Rise),
}

/// So many go before they are due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Early {
    extra: u64,
    /// Whether a refusal is: then fewer more go each time.
    is_costly: bool,
}

impl Early {
    pub(super) fn new(is_costly: bool) -> Self {
        Self {
            extra: 0,
            is_costly,
        }
    }

    pub(super) fn extra(self) -> u64 {
        self.extra
    }

    /// Of so many that were `admitted` twice as many go, but only so many more that few of all are
    /// refused at the end.
    pub(super) fn grown(self, admitted: u64) -> Self {
        let Self { extra, is_costly } = self;
        let more = if is_costly { extra / 4 } else { extra };
        let more = more.min(admitted / EARLY).max(1);
        Self {
            extra: extra.saturating_add(more),
            is_costly,
        }
    }
}

/// The pace rises from `proved` nanoseconds, next by `step`.
#[derive(Debug)]
pub(super) struct Rise {
    step: f64,
    proved: f64,
}

impl Rise {
    pub(super) fn new(step: Step, interval: f64) -> Self {
        Self {
            step: step.0,
            proved: interval,
        }
    }

    pub(super) fn proved(&self) -> f64 {
        self.proved
    }

    /// Whether the pace has risen to `interval`, and it is not known whether that goes well.
    pub(super) fn has_risen(&self, interval: f64) -> bool {
        interval < self.proved
    }

    /// Whether so large a step is next that the rate may be far higher.
    pub(super) fn is_far_off(&self) -> bool {
        self.step > 2.0 * RISE
    }

    /// The pace has been held, and none was refused: the next interval.
    pub(super) fn rise(&mut self, interval: f64) -> f64 {
        if self.has_risen(interval) {
            // That a larger one was refused before may have been the doing of others.
            self.step = self.step.max(2.0 * RISE);
        }
        self.proved = interval;
        let next = interval / (1.0 + self.step);
        self.step = (self.step * 2.0).min(MAX_RISE);
        next
    }
}

/// The first step by which the pace rises.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step(f64);

impl Step {
    /// If the last rise was too large.
    pub(super) const SMALL: Self = Self(RISE / 2.0);
}

impl Default for Step {
    fn default() -> Self {
        Self(RISE)
    }
}
