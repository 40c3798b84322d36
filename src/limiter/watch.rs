//! What was told of a partition, so that only what is new is told.
//!
//! Whoever has changed the model looks here before it frees the lock, and tells what is found
//! afterwards. Pauses cost the comparison of two numbers; limits are looked at only if somebody
//! wants to know of them.

use crate::{
    observe::Notice,
    observer::{LimitChanged, Paused, Resumed, UsageHigh},
    partition::Partition,
    quota::{Model, RefusalCause},
    snapshot::{DimensionSnapshot, Source},
};
use tokio::time::Instant;

/// A learned limit, or the pace of one, is another when it differs by more than this share of what was
/// told.
const DIFFERENCE_RATIO: f64 = 0.1;

/// A usage is told again when it was below this share of the threshold meanwhile.
const REARM_RATIO: f64 = 0.75;

#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Pauses in a row.
    refusals: u32,
    /// Since when they last.
    paused_at: Option<Instant>,
    limits: Vec<Told>,
}

/// A limit that was told.
#[derive(Debug)]
struct Told {
    dimension: DimensionSnapshot,
    /// Whether most of it was in use, and was not free again since.
    is_high: bool,
}

impl Watch {
    /// A pause that has begun or ended, if one has.
    #[inline]
    pub(super) fn news(
        &mut self,
        now: Instant,
        partition: &Partition,
        quota: &Model,
    ) -> Option<Box<Notice>> {
        (self.refusals != quota.refusals())
            .then(|| Box::new(self.begun_or_ended(now, partition.clone(), quota)))
    }

    #[cold]
    fn begun_or_ended(&mut self, now: Instant, partition: Partition, quota: &Model) -> Notice {
        let before = std::mem::replace(&mut self.refusals, quota.refusals());
        if self.refusals > before {
            self.paused_at = self.paused_at.or(Some(now));
            let ends_at = quota.closed_until().unwrap_or(now);
            return Notice::Paused(Paused {
                partition,
                delay: ends_at.saturating_duration_since(now),
                cause: quota.blamed().cloned().unwrap_or(RefusalCause::Rate),
                refusals: self.refusals,
            });
        }
        let began = self.paused_at.take().unwrap_or(now);
        Notice::Resumed(Resumed {
            partition,
            paused_for: now.saturating_duration_since(began),
            refusals: before,
        })
    }

    /// Limits that are new or have changed, and those that are nearly used up.
    pub(super) fn look_at_limits(
        &mut self,
        partition: &Partition,
        dimensions: Vec<DimensionSnapshot>,
        usage_threshold_ratio: f64,
    ) -> Vec<Notice> {
        let mut notices = Vec::new();
        let mut known = std::mem::take(&mut self.limits);
        for dimension in dimensions {
            // Of several by the same name the first is the first.
            let same = known.iter().position(|told| told.is(&dimension));
            let told = same.map(|place| known.remove(place));
            if is_news(told.as_ref().map(|told| &told.dimension), &dimension) {
                notices.push(Notice::LimitChanged(LimitChanged {
                    partition: partition.clone(),
                    dimension: dimension.clone(),
                    previous: told.as_ref().map(|told| told.dimension.limit()),
                }));
            }
            let usage_ratio = usage_ratio(&dimension);
            let was_high = told.as_ref().is_some_and(|told| told.is_high);
            let lower = if was_high { REARM_RATIO } else { 1.0 };
            let is_high = usage_ratio >= usage_threshold_ratio * lower;
            if is_high && !was_high {
                notices.push(Notice::UsageHigh(UsageHigh {
                    partition: partition.clone(),
                    dimension: dimension.clone(),
                    usage_ratio,
                }));
            }
            let dimension = match told {
                Some(told) if !is_news(Some(&told.dimension), &dimension) => told.dimension,
                _ => dimension,
            };
            self.limits.push(Told { dimension, is_high });
        }
        notices
    }
}

impl Told {
    fn is(&self, dimension: &DimensionSnapshot) -> bool {
        let (known, other) = (&self.dimension, dimension);
        known.source() == other.source() && known.hold() == other.hold()
    }
}

/// Whether a limit is to be told, in place of what was told of it.
fn is_news(told: Option<&DimensionSnapshot>, dimension: &DimensionSnapshot) -> bool {
    if dimension.source() == Source::Declared {
        return false;
    }
    let Some(told) = told else {
        return true;
    };
    let is_learned = dimension.source() != Source::Announced;
    let (before, after) = (told.limit(), dimension.limit());
    let limit_differs = if is_learned {
        differs(before as f64, after as f64)
    } else {
        before != after
    };
    let pace_differs = match (told.interval(), dimension.interval()) {
        (Some(before), Some(after)) => differs(before.as_secs_f64(), after.as_secs_f64()),
        (before, after) => before.is_some() != after.is_some(),
    };
    limit_differs || pace_differs
}

fn differs(before: f64, after: f64) -> bool {
    (after - before).abs() > before * DIFFERENCE_RATIO
}

/// How much of it is in use, from 0.0 to 1.0; 0.0 of what refusals have taught, for that is always used
/// up.
fn usage_ratio(dimension: &DimensionSnapshot) -> f64 {
    let is_told = matches!(dimension.source(), Source::Announced | Source::Declared);
    let (limit, remaining) = (dimension.limit(), dimension.remaining());
    if !is_told || limit == 0 {
        return 0.0;
    }
    1.0 - remaining.min(limit) as f64 / limit as f64
}
