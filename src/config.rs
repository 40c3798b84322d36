//! What the setters of the layer set.

use crate::{
    observe::Observers,
    partition::PartitionBy,
    quota::Quota,
    retry::{Backoff, Policy},
};
use http::response::Parts;
use std::{fmt, sync::Arc, time::Duration};

/// Which responses are failures to be retried, by their heads.
pub(crate) type RetryIf = Arc<dyn Fn(&Parts) -> bool + Send + Sync>;

/// What the setters of the layer set; each says there what it means.
#[derive(Clone)]
pub(crate) struct Config {
    pub(crate) enabled: bool,
    pub(crate) policy: Policy,
    pub(crate) deadline: Option<Duration>,
    pub(crate) max_waiting: usize,
    pub(crate) max_partitions: usize,
    pub(crate) max_replay: usize,
    pub(crate) read_success_bodies: bool,
    pub(crate) retry_if: Option<RetryIf>,
    /// Whether any failures are retried, so that there has to be a budget for it.
    pub(crate) retries_failures: bool,
    pub(crate) partition_by: Option<PartitionBy>,
    pub(crate) quotas: Vec<Quota>,
    pub(crate) observers: Arc<Observers>,
}

impl Default for Config {
    fn default() -> Self {
        let policy = Policy {
            max_retries: 60,
            max_delay: Duration::from_secs(300),
            backoff: Backoff::DEFAULT,
        };
        Self {
            enabled: true,
            policy,
            deadline: None,
            max_waiting: 10_000,
            max_partitions: 10_000,
            max_replay: 1024 * 1024,
            read_success_bodies: false,
            retry_if: None,
            retries_failures: false,
            partition_by: None,
            quotas: Vec::new(),
            observers: Arc::default(),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("enabled", &self.enabled)
            .field("policy", &self.policy)
            .field("deadline", &self.deadline)
            .field("max_waiting", &self.max_waiting)
            .field("max_partitions", &self.max_partitions)
            .field("max_replay", &self.max_replay)
            .field("read_success_bodies", &self.read_success_bodies)
            .field("retries_failures", &self.retries_failures)
            .field("quotas", &self.quotas)
            .finish_non_exhaustive()
    }
}
