//! Who waits and in what order: one model per partition behind a lock, and a queue in order of
//! arrival.
//!
//! The state that calls share lives here, behind the one `Arc<Limiter>` of the layer: a [`Table`] of
//! partitions, each a [`Gate`] with its [`Model`](crate::quota::Model) and its queue. A call holds
//! a [`Caller`], which is its place in all of it and takes itself out wherever it is dropped.

mod admissions;
mod caller;
mod charged;
mod claim;
mod gate;
mod in_flight;
#[cfg(test)]
mod interleavings;
mod queue;
mod state;
mod sync;
mod table;
mod watch;

pub(crate) use caller::{Caller, Lesson, Turn};
pub(crate) use charged::Charged;
pub(crate) use claim::{Bounds, GivenUp};
pub(crate) use gate::Gate;

use crate::{
    body::Replayer,
    config::Config,
    partition::{self, Keyed, Partition, PartitionBy, PartitionKey},
    snapshot::Snapshot,
};
use bytes::Bytes;
use http::request::Parts;
use http_body::Body;
use std::sync::{Arc, PoisonError};
use sync::RwLock;
use table::Table;

/// The partitions that one layer, its clones and its services have seen.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    /// What turns credentials and labels into keys: random for each limiter.
    keyed: Keyed,
    table: RwLock<Table>,
}

impl Limiter {
    /// The gate of the partition that a request belongs to: as it says itself, as the user's
    /// function says, or by its origin and credential.
    pub(crate) fn gate<B: Body>(
        &self,
        head: &Parts,
        body: &Replayer<B>,
        partition: Option<&Partition>,
        config: &Config,
    ) -> Arc<Gate> {
        let (key, named) = self.key(head, || body.known_bytes(), partition, config);
        self.use_or_insert(key, config.max_partitions, || {
            let partition = named.unwrap_or_else(|| partition::label(head, &self.keyed));
            Gate::new(partition, &config.quotas, &config.observers)
        })
    }

    /// The gate of that key, new if none is known.
    fn use_or_insert(
        &self,
        key: PartitionKey,
        max_partitions: usize,
        new: impl FnOnce() -> Gate,
    ) -> Arc<Gate> {
        if let Some(gate) = self.look(|table| table.use_known(key)) {
            return gate;
        }
        // Nothing that can panic runs under this lock but the allocator; a table is whole after any of
        // its steps.
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.use_or_insert(key, max_partitions, new)
    }

    /// The gate of that partition, if one is known.
    pub(crate) fn known(&self, partition: &Partition) -> Option<Arc<Gate>> {
        let key = self.keyed.key(partition);
        self.look(|table| table.get(key))
    }

    /// The gate that a call would come to with such a request, if it is there: as
    /// [`gate`](Self::gate) finds it.
    pub(crate) fn known_to(
        &self,
        head: &Parts,
        body: &Bytes,
        partition: Option<&Partition>,
        config: &Config,
    ) -> Option<Arc<Gate>> {
        let (key, _) = self.key(head, || Some(body.clone()), partition, config);
        self.look(|table| table.get(key))
    }

    /// What all partitions show, and what the whole layer has counted.
    ///
    /// Those that are looked at cannot be forgotten meanwhile, so that nothing counts twice or not at
    /// all.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let (gates, mut totals) = self.look(Table::all);
        let gates = gates.into_iter();
        let mut partitions: Vec<_> = gates.map(|gate| gate.snapshot()).collect();
        partitions.sort_unstable_by(|a, b| a.partition.cmp(&b.partition));
        for partition in &partitions {
            totals.add(&partition.totals);
        }
        Snapshot { partitions, totals }
    }

    /// The key of the partition that a request belongs to, and its name if that is not the default.
    fn key(
        &self,
        head: &Parts,
        body: impl FnOnce() -> Option<Bytes>,
        partition: Option<&Partition>,
        config: &Config,
    ) -> (PartitionKey, Option<Partition>) {
        let by_function = |partition_by: &PartitionBy| {
            let body = body();
            partition_by(&partition::Request::new(head, body.as_ref(), &self.keyed))
        };
        let partition_by = config.partition_by.as_ref();
        let named = partition.cloned().or_else(|| partition_by.map(by_function));
        let key = match &named {
            Some(named) => self.keyed.key(named),
            None => self.keyed.default_key(head),
        };
        (key, named)
    }

    fn look<T>(&self, look: impl FnOnce(&Table) -> T) -> T {
        look(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }
}
