//! What a request was charged with, to be corrected when its answer has told what it cost.

use crate::partition::Partition;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::time::Instant;

/// In the extensions of an answer. It names the partition and does not hold it: answers may be kept.
#[derive(Clone, Debug)]
pub(crate) struct Charged {
    partition: Partition,
    at: Instant,
    /// Shared by all copies of the extensions, so that nothing is corrected twice.
    tokens: Arc<AtomicU64>,
}

impl Charged {
    pub(super) fn new(partition: Partition, at: Instant, tokens: u64) -> Self {
        let tokens = Arc::new(AtomicU64::new(tokens));
        Self {
            partition,
            at,
            tokens,
        }
    }

    pub(crate) fn partition(&self) -> &Partition {
        &self.partition
    }

    /// When the request was sent.
    pub(super) fn at(&self) -> Instant {
        self.at
    }

    /// So many tokens it is; gives what it was before.
    pub(super) fn replace(&self, tokens: u64) -> u64 {
        self.tokens.swap(tokens, Ordering::Relaxed)
    }
}
