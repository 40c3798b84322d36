//! What a layer knows and holds at one instant, to be looked at.
//!
//! A snapshot takes the lock of one partition after the other and copies out of each a few numbers;
//! all else is computed without a lock. So it is exact for each partition, and not of the same
//! instant for all of them.
//!
//! Times are [`Duration`]s from the instant of the snapshot, for those are what one shows, compares
//! and exports; it is over when it is zero.

mod totals;

pub use totals::Totals;

use crate::{
    partition::Partition,
    quota::{Hold, RefusalCause},
};
use std::time::Duration;

/// What a layer knows of all its partitions; from [`Limits::snapshot`](crate::Limits::snapshot).
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub(crate) partitions: Vec<PartitionSnapshot>,
    pub(crate) totals: Totals,
}

impl Snapshot {
    /// The partitions that are known, in the order of their names.
    pub fn partitions(&self) -> &[PartitionSnapshot] {
        &self.partitions
    }

    /// This partition, if it is known.
    pub fn partition(&self, partition: &Partition) -> Option<&PartitionSnapshot> {
        let place = self
            .partitions
            .binary_search_by(|known| known.partition.cmp(partition));
        place.ok().and_then(|place| self.partitions.get(place))
    }

    /// What was counted by the whole layer since it was made: by these partitions, and by those that
    /// had to make room for others since
    /// ([`max_partitions`](crate::RateLimitRetryLayer::max_partitions)).
    pub fn totals(&self) -> &Totals {
        &self.totals
    }
}

/// What is known of one partition; from [`Limits::partition`](crate::Limits::partition), and one of
/// [`Snapshot::partitions`].
#[derive(Clone, Debug)]
pub struct PartitionSnapshot {
    pub(crate) partition: Partition,
    pub(crate) dimensions: Vec<DimensionSnapshot>,
    pub(crate) pause: Option<PauseSnapshot>,
    pub(crate) opens_in: Duration,
    pub(crate) held_by: Option<Hold>,
    pub(crate) waiting: usize,
    pub(crate) admitted: usize,
    pub(crate) in_flight: usize,
    pub(crate) totals: Totals,
}

impl PartitionSnapshot {
    /// The partition. Its name holds no credential, but a keyed hash of one; what
    /// [`partition_by`](crate::RateLimitRetryLayer::partition_by) names is as it named it.
    pub fn partition(&self) -> &Partition {
        &self.partition
    }

    /// All limits that hold callers back: first what the server has announced, then what was
    /// declared, then what refusals have taught.
    pub fn dimensions(&self) -> &[DimensionSnapshot] {
        &self.dimensions
    }

    /// The dimension of this name, if there is one; of several the first.
    pub fn dimension(&self, name: &str) -> Option<&DimensionSnapshot> {
        self.dimensions.iter().find(|known| known.name() == name)
    }

    /// The pause, if one is on.
    pub fn pause(&self) -> Option<&PauseSnapshot> {
        self.pause.as_ref()
    }

    /// How long until the next one may go, as far as is known: the first of those who wait; if nobody
    /// does, a call of one request and no tokens that would arrive now. Zero: it may go now.
    ///
    /// What holds it back may let go earlier: a refusal that is still being read, or what was learned
    /// from refusals alone and depends on answers.
    pub fn opens_in(&self) -> Duration {
        self.opens_in
    }

    /// What holds the next one back until then; `None` if it may go now.
    pub fn held_by(&self) -> Option<&Hold> {
        self.held_by.as_ref()
    }

    /// Calls that wait for their turn.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Calls whose turn has come, and that are not sent yet: their inner service is not ready, or
    /// they were not polled since. It lapses after 100 ms, and then they do not count here any more.
    pub fn admitted(&self) -> usize {
        self.admitted
    }

    /// Requests that the server works on, as far as is known: until their answer has come, or its body
    /// has ended where that takes time; those that nobody waits for any longer for as long as an
    /// answer usually takes.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// What was counted since the partition was first seen.
    ///
    /// That begins anew when it had to make room for others and is seen again; the layer's own
    /// [totals](Snapshot::totals) do not.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }
}

/// A pause of a partition: nothing may be sent.
#[derive(Clone, Debug)]
pub struct PauseSnapshot {
    pub(crate) ends_in: Duration,
    pub(crate) cause: Option<RefusalCause>,
    pub(crate) refusals: u32,
}

impl PauseSnapshot {
    /// How long until it ends.
    pub fn ends_in(&self) -> Duration {
        self.ends_in
    }

    /// What the refusal was put down to that asked for it; `None` while a refusal is being read.
    pub fn cause(&self) -> Option<&RefusalCause> {
        self.cause.as_ref()
    }

    /// How many times the partition was refused in a row; the refusals of one burst count as one.
    pub fn refusals(&self) -> u32 {
        self.refusals
    }
}

/// From where a limit is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// The program has declared it as a [`Quota`](crate::Quota).
    Declared,
    /// The server has announced it in its answers.
    Announced,
    /// Refusals have taught how fast quota flows.
    LearnedRate,
    /// Refusals have taught how many may be in flight.
    LearnedConcurrency,
}

impl Source {
    /// A name for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Declared => "declared",
            Self::Announced => "announced",
            Self::LearnedRate => "learned-rate",
            Self::LearnedConcurrency => "learned-concurrency",
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One limit of a partition.
///
/// `remaining` is what would be let go at once: by our own account, so less what is on its way and
/// not announced yet.
#[derive(Clone, Debug)]
pub struct DimensionSnapshot {
    pub(crate) source: Source,
    pub(crate) hold: Hold,
    pub(crate) limit: u64,
    pub(crate) remaining: u64,
    pub(crate) reset: Option<Duration>,
    pub(crate) interval: Option<Duration>,
    pub(crate) age: Option<Duration>,
}

impl DimensionSnapshot {
    /// Its name: as the server names it; `requests` or `tokens` of what is declared; `rate` or
    /// `concurrency` of what is learned.
    pub fn name(&self) -> &str {
        self.hold.name()
    }

    /// From where it is known.
    pub fn source(&self) -> Source {
        self.source
    }

    /// The [`Hold`] by which it holds callers back.
    pub fn hold(&self) -> &Hold {
        &self.hold
    }

    /// How much there is at the most, in units of the dimension: in each window, or in the full
    /// bucket; of a learned rate, what can be had at once; of a learned concurrency, how many may be in
    /// flight.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// How much of it is left now, in the same units.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// How long until all of it is there if nobody takes any: the bucket is full, the window ends, or
    /// what was taken last no longer counts. `None` where that is not known: a window of which no
    /// answer has told yet, and a concurrency.
    pub fn reset(&self) -> Option<Duration> {
        self.reset
    }

    /// In what time one unit flows in, where it flows in steadily: an announced or declared bucket, and
    /// a learned rate. `None` for what is renewed otherwise.
    pub fn interval(&self) -> Option<Duration> {
        self.interval
    }

    /// How long ago the server has last announced it, or a refusal has last taught it. `None` for what
    /// is declared.
    pub fn age(&self) -> Option<Duration> {
        self.age
    }
}
