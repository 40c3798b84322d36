//! What a model shows of itself.
//!
//! Whoever looks holds the lock that callers wait for. So only what is needed is copied into a
//! [`Reading`] that has the room for it, and the rest is computed from that afterwards.

use super::{Admit, Cost, Dimension, Hold, MAX_DIMENSIONS, Model, RefusalCause};
use crate::snapshot::{DimensionSnapshot, PauseSnapshot};
use tokio::time::Instant;

/// Most programs declare fewer quotas, and two limits at most are learned.
const OTHERS: usize = 8;

/// A copy of what a model knows at an instant.
#[derive(Debug)]
pub(crate) struct Reading {
    now: Instant,
    announced: Vec<Dimension>,
    others: Vec<DimensionSnapshot>,
    pause: Option<(Instant, Option<RefusalCause>, u32)>,
    pub(crate) in_flight: usize,
}

impl Reading {
    /// Of nothing yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            now,
            announced: Vec::with_capacity(MAX_DIMENSIONS),
            others: Vec::with_capacity(OTHERS),
            pause: None,
            in_flight: 0,
        }
    }

    /// The pause, if one is on.
    pub(crate) fn pause(&self) -> Option<PauseSnapshot> {
        let (ends_at, cause, refusals) = self.pause.clone()?;
        let ends_in = ends_at.saturating_duration_since(self.now);
        Some(PauseSnapshot {
            ends_in,
            cause,
            refusals,
        })
    }

    /// All that limits.
    pub(crate) fn dimensions(self) -> Vec<DimensionSnapshot> {
        let announced = self.announced.iter().map(|d| d.snapshot(self.now));
        announced.chain(self.others).collect()
    }
}

impl Model {
    /// Copies what is known now.
    pub(crate) fn read(&self, reading: &mut Reading) {
        let now = reading.now;
        reading.announced.extend_from_slice(&self.dimensions);
        reading.others.extend(self.declared.snapshots(now));
        let rate = self.rate.snapshot(now);
        let concurrency = self.concurrency.snapshot(now);
        reading.others.extend(rate.into_iter().chain(concurrency));
        reading.pause = self.paused_until(now).map(|ends_at| {
            let is_reading = self.pause.opens_at() != Some(ends_at);
            let cause = self.blamed.clone().filter(|_| !is_reading);
            (ends_at, cause, self.pause.refusals())
        });
        reading.in_flight = self.concurrency.in_flight() as usize;
    }

    /// When a call of this cost that arrives now is expected to go, with others of the cost `ahead`
    /// before it, and what holds it back: all that is known, and the refusals that are being read.
    #[inline]
    pub(crate) fn foreseen(&self, now: Instant, ahead: Cost, cost: Cost) -> Admit {
        let mut admit = self.known(now, ahead, cost);
        if let Some(at) = self.pause.reading_until() {
            admit.at_least(now, at, || Hold::Pause);
        }
        self.learned(now, ahead.requests, &mut admit);
        admit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{quota::Quota, snapshot::Source};
    use std::{num::NonZeroU64, time::Duration};

    const SECOND: Duration = Duration::from_secs(1);

    fn read(model: &Model, now: Instant) -> Reading {
        let mut reading = Reading::new(now);
        model.read(&mut reading);
        reading
    }

    #[test]
    fn shows_what_is_declared_and_under_way() {
        let now = Instant::now();
        let quota = Quota::requests(NonZeroU64::new(10).unwrap());
        let mut model = Model::new(&[quota, quota.per_day()]);
        let cost = Cost::of_request(0);
        let reserved = model.reserve(now, cost, false);
        model.sent(reserved, now);
        let reading = read(&model, now);
        assert_eq!(reading.in_flight, 1);
        assert!(reading.pause().is_none());
        let dimensions = reading.dimensions();
        let seen: Vec<_> = dimensions
            .iter()
            .map(|d| (d.source(), d.remaining()))
            .collect();
        assert_eq!(seen, [(Source::Declared, 9); 2]);
    }

    #[test]
    fn a_refusal_that_is_being_read_is_a_pause_without_a_cause() {
        let now = Instant::now();
        let mut model = Model::default();
        let cost = Cost::of_request(0);
        model.pause.reading(now + SECOND);
        let pause = read(&model, now).pause().unwrap();
        assert_eq!((pause.ends_in(), pause.cause()), (SECOND, None));
        let foreseen = model.foreseen(now, Cost::NONE, cost);
        assert_eq!(foreseen, Admit::At(now + SECOND, Hold::Pause));

        model.blamed = Some(RefusalCause::Request);
        let pause = read(&model, now).pause().unwrap();
        assert_eq!(pause.cause(), None, "of the refusal before");
        model.pause.refused(now, now + 5 * SECOND);
        let pause = read(&model, now + SECOND).pause().unwrap();
        assert_eq!(pause.ends_in(), 4 * SECOND);
        assert_eq!(pause.cause(), Some(&RefusalCause::Request));
        assert_eq!(pause.refusals(), 1);
        assert!(read(&model, now + 5 * SECOND).pause().is_none());
    }
}
