//! The feature `metrics`: an observer that counts and measures through the `metrics` facade.

use crate::{
    DimensionSnapshot, GaveUp, LimitChanged, Observer, Partition, PartitionSnapshot, Paused,
    Resumed, RetryScheduled, Snapshot, UsageHigh, WaitEnded,
};
use ::metrics::{
    SharedString, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The label of all partitions, and dimensions, beyond those that have one of their own.
const OTHER: &str = "other";

/// Servers name a few; none can make a recorder show any number of them.
const MAX_DIMENSIONS: usize = 100;

const RETRIES: &str = "rate_limit_retry_retries_total";
const GAVE_UP: &str = "rate_limit_retry_gave_up_total";
const PAUSES: &str = "rate_limit_retry_pauses_total";
const USAGE_HIGH: &str = "rate_limit_retry_usage_high_total";
const WAIT: &str = "rate_limit_retry_wait_duration_seconds";
const PAUSE: &str = "rate_limit_retry_pause_duration_seconds";
const PAUSED: &str = "rate_limit_retry_paused";
const LIMIT: &str = "rate_limit_retry_limit";
const REMAINING: &str = "rate_limit_retry_remaining";
const WAITING: &str = "rate_limit_retry_waiting_calls";
const IN_FLIGHT: &str = "rate_limit_retry_in_flight_requests";
const CALLS: &str = "rate_limit_retry_calls_total";
const ATTEMPTS: &str = "rate_limit_retry_attempts_total";
const REFUSALS: &str = "rate_limit_retry_refusals_total";

/// Counts and measures through the [`metrics`](::metrics) facade, by the names that are listed
/// [here](crate::events#metrics); feature `metrics`.
///
/// It is an [`Observer`] like any other, so that the feature alone changes nothing: a program that
/// wants no metrics, or that uses two layers and wants them of one, has what it wants. What only a
/// look at the layer can tell, [`record`](Self::record) takes from a snapshot. Its clones are one.
///
/// ```
/// use tower_rate_limit_retry::{MetricsObserver, RateLimitRetryLayer};
///
/// // Once a recorder is installed, so that it hears the descriptions.
/// let metrics = MetricsObserver::new();
/// let layer = RateLimitRetryLayer::new().observer(metrics.clone());
/// let limits = layer.limits();
/// // Every few seconds, or whenever metrics are asked for.
/// metrics.record(&limits.snapshot());
/// ```
///
/// # Partitions
///
/// Each partition has a label of its own as long as there are no more than 100 of them
/// ([`max_partitions`](Self::max_partitions)); all that are met after these have the label `other`. For
/// those, what cannot be added up is not told. Of the names of dimensions, which servers choose, 100
/// are told apart as well.
///
/// What is gone, because a partition had to make room or a limit is [forgotten](crate::Limits::forget),
/// is told as such by the next [`record`](Self::record): zero waiting, in flight and paused; and NaN,
/// which no comparison takes for little, as its limits and what remains of them.
#[derive(Clone, Debug)]
pub struct MetricsObserver {
    max_partitions: usize,
    labels: Arc<Mutex<Labels>>,
}

/// What has a label of its own.
#[derive(Debug, Default)]
struct Labels {
    /// The partitions, and the limits of each that were told.
    partitions: HashMap<Partition, HashSet<LimitLabels>>,
    dimensions: HashSet<String>,
}

/// The dimension and the source.
type LimitLabels = (String, &'static str);

/// The same and the partition, each with the name of its label.
type LabelPairs = [(&'static str, SharedString); 3];

impl MetricsObserver {
    /// For a hundred partitions; tells the recorder what all metrics are.
    pub fn new() -> Self {
        describe();
        Self {
            max_partitions: 100,
            labels: Arc::default(),
        }
    }

    /// How many partitions have labels of their own. Zero: all have the label `other`.
    ///
    /// Default: 100. Each takes some dozen time series, and programs rarely have more credentials.
    pub fn max_partitions(self, max_partitions: usize) -> Self {
        Self {
            max_partitions,
            ..self
        }
    }

    /// Tells what is known at the moment: the gauges, and the counters that have no events.
    ///
    /// The counters are those of one layer and its clones; those of another one would need a recorder
    /// of their own.
    pub fn record(&self, snapshot: &Snapshot) {
        self.record_what_is_gone(snapshot);
        let (mut waiting, mut in_flight) = (0, 0);
        for known in snapshot.partitions() {
            let Some(label) = self.own_label(known.partition()) else {
                waiting += known.waiting();
                in_flight += known.in_flight();
                continue;
            };
            set_calls(&label, known.waiting(), known.in_flight());
            let is_paused = f64::from(u8::from(known.pause().is_some()));
            gauge!(PAUSED, "partition" => label).set(is_paused);
            for dimension in known.dimensions() {
                if let Some(labels) = self.limit_labels(known.partition(), dimension) {
                    gauge!(LIMIT, &labels).set(dimension.limit() as f64);
                    gauge!(REMAINING, &labels).set(dimension.remaining() as f64);
                }
            }
        }
        // Also when all of the others are gone.
        if self.is_full() {
            set_calls(&SharedString::const_str(OTHER), waiting, in_flight);
        }
        let totals = snapshot.totals();
        counter!(CALLS).absolute(totals.calls());
        counter!(ATTEMPTS).absolute(totals.attempts());
        for (cause, count) in totals.refusals_by_cause() {
            counter!(REFUSALS, "dimension" => cause.name().to_owned()).absolute(count);
        }
    }

    /// A gauge keeps what it was last set to: partitions and limits that are not there any longer
    /// would be shown for ever.
    fn record_what_is_gone(&self, snapshot: &Snapshot) {
        let (mut partitions, mut limits) = (Vec::new(), Vec::new());
        for (partition, told) in &mut self.labels().partitions {
            let known = snapshot.partition(partition);
            if known.is_none() {
                partitions.push(label_of(partition));
            }
            let dimensions = known.map_or(&[][..], PartitionSnapshot::dimensions);
            told.retain(|(name, source)| {
                let is_there = dimensions
                    .iter()
                    .any(|known| known.name() == name && known.source().as_str() == *source);
                if !is_there {
                    limits.push(labels_of(partition, name, source));
                }
                is_there
            });
        }
        // Not under the lock: a recorder may do what it likes.
        for label in partitions {
            set_calls(&label, 0, 0);
            gauge!(PAUSED, "partition" => label).set(0.0);
        }
        for labels in limits {
            gauge!(LIMIT, &labels).set(f64::NAN);
            gauge!(REMAINING, &labels).set(f64::NAN);
        }
    }

    fn labels(&self) -> MutexGuard<'_, Labels> {
        self.labels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no further partition gets a label of its own.
    fn is_full(&self) -> bool {
        self.labels().partitions.len() >= self.max_partitions
    }

    fn label(&self, partition: &Partition) -> SharedString {
        self.own_label(partition)
            .unwrap_or(SharedString::const_str(OTHER))
    }

    /// The label of a partition that has one of its own.
    fn own_label(&self, partition: &Partition) -> Option<SharedString> {
        let mut labels = self.labels();
        if !labels.partitions.contains_key(partition) {
            if labels.partitions.len() >= self.max_partitions {
                return None;
            }
            labels.partitions.insert(partition.clone(), HashSet::new());
        }
        Some(label_of(partition))
    }

    fn dimension_label(&self, name: &str) -> SharedString {
        if self.labels().tells_apart(name) {
            name.to_owned().into()
        } else {
            SharedString::const_str(OTHER)
        }
    }

    /// The labels of a limit that is told now, if it has some of its own.
    fn limit_labels(
        &self,
        partition: &Partition,
        dimension: &DimensionSnapshot,
    ) -> Option<LabelPairs> {
        self.own_label(partition)?;
        let (name, source) = (dimension.name(), dimension.source().as_str());
        let mut labels = self.labels();
        if !labels.tells_apart(name) {
            return None;
        }
        let told = labels.partitions.entry(partition.clone()).or_default();
        told.insert((name.to_owned(), source));
        Some(labels_of(partition, name, source))
    }
}

impl Labels {
    /// Whether a dimension has a label of its own.
    fn tells_apart(&mut self, dimension: &str) -> bool {
        if self.dimensions.contains(dimension) {
            return true;
        }
        let has_room = self.dimensions.len() < MAX_DIMENSIONS;
        if has_room {
            self.dimensions.insert(dimension.to_owned());
        }
        has_room
    }
}

fn set_calls(label: &SharedString, waiting: usize, in_flight: usize) {
    gauge!(WAITING, "partition" => label.clone()).set(waiting as f64);
    gauge!(IN_FLIGHT, "partition" => label.clone()).set(in_flight as f64);
}

fn label_of(partition: &Partition) -> SharedString {
    partition.as_str().to_owned().into()
}

fn labels_of(partition: &Partition, dimension: &str, source: &'static str) -> LabelPairs {
    [
        ("partition", label_of(partition)),
        ("dimension", dimension.to_owned().into()),
        ("source", source.into()),
    ]
}

impl Default for MetricsObserver {
    fn default() -> Self {
        Self::new()
    }
}

impl Observer for MetricsObserver {
    fn retry_scheduled(&self, event: &RetryScheduled) {
        let label = self.label(&event.partition);
        counter!(RETRIES, "partition" => label, "reason" => event.reason.as_str()).increment(1);
    }

    fn wait_ended(&self, event: &WaitEnded) {
        let label = self.label(&event.partition);
        histogram!(WAIT, "partition" => label).record(event.waited);
    }

    fn paused(&self, event: &Paused) {
        let label = self.label(&event.partition);
        histogram!(PAUSE, "partition" => label.clone()).record(event.delay);
        let cause = self.dimension_label(event.cause.name());
        counter!(PAUSES, "partition" => label, "dimension" => cause).increment(1);
        if let Some(label) = self.own_label(&event.partition) {
            gauge!(PAUSED, "partition" => label).set(1.0);
        }
    }

    fn resumed(&self, event: &Resumed) {
        if let Some(label) = self.own_label(&event.partition) {
            gauge!(PAUSED, "partition" => label).set(0.0);
        }
    }

    fn gave_up(&self, event: &GaveUp) {
        let label = self.label(&event.partition);
        counter!(GAVE_UP, "partition" => label, "reason" => event.reason.as_str()).increment(1);
    }

    fn limit_changed(&self, event: &LimitChanged) {
        if let Some(labels) = self.limit_labels(&event.partition, &event.dimension) {
            gauge!(LIMIT, &labels).set(event.dimension.limit() as f64);
        }
    }

    fn usage_high(&self, event: &UsageHigh) {
        let label = self.label(&event.partition);
        let name = self.dimension_label(event.dimension.name());
        counter!(USAGE_HIGH, "partition" => label, "dimension" => name).increment(1);
    }
}

/// Tells the recorder what all these are.
fn describe() {
    let counters = [
        (RETRIES, "Calls that wait to be sent again"),
        (
            GAVE_UP,
            "Calls that ended with a refusal or a failure, or were answered locally",
        ),
        (
            PAUSES,
            "Refusals that have closed a partition; those of one burst count as one",
        ),
        (
            USAGE_HIGH,
            "How often the usage of a limit has crossed the threshold",
        ),
        (CALLS, "Calls that have arrived"),
        (ATTEMPTS, "Requests that were sent, the first ones included"),
        (REFUSALS, "Requests that the server has refused"),
    ];
    for (name, description) in counters {
        describe_counter!(name, Unit::Count, description);
    }
    let histograms = [
        (WAIT, "How long a call was held back before it was sent"),
        (PAUSE, "For how long a refusal has closed a partition"),
    ];
    for (name, description) in histograms {
        describe_histogram!(name, Unit::Seconds, description);
    }
    let gauges = [
        (PAUSED, "1 while a partition is closed by a refusal, else 0"),
        (
            LIMIT,
            "How much of a dimension there is at the most, in its own unit",
        ),
        (
            REMAINING,
            "How much of a dimension is left, in its own unit",
        ),
        (WAITING, "Calls that wait for their turn"),
        (IN_FLIGHT, "Requests that the server works on"),
    ];
    for (name, description) in gauges {
        describe_gauge!(name, Unit::Count, description);
    }
}
