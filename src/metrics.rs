//! The feature `metrics`: an observer that counts and measures through the `metrics` facade.

use crate::{
    GaveUp, LimitChanged, Observer, Partition, Paused, Resumed, RetryScheduled, Snapshot,
    UsageHigh, WaitEnded,
};
use ::metrics::{
    SharedString, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

/// The label of all partitions beyond those that have one of their own.
const OTHER: &str = "other";

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
/// those, what cannot be added up is not told.
#[derive(Clone, Debug)]
pub struct MetricsObserver {
    max_partitions: usize,
    /// Those with labels of their own.
    labelled: Arc<Mutex<HashSet<Partition>>>,
}

impl MetricsObserver {
    /// For a hundred partitions; tells the recorder what all metrics are.
    pub fn new() -> Self {
        describe();
        Self {
            max_partitions: 100,
            labelled: Arc::default(),
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
    pub fn record(&self, snapshot: &Snapshot) {
        let (mut waiting, mut in_flight, mut has_others) = (0, 0, false);
        for known in snapshot.partitions() {
            let Some(label) = self.own_label(known.partition()) else {
                waiting += known.waiting();
                in_flight += known.in_flight();
                has_others = true;
                continue;
            };
            gauge!(WAITING, "partition" => label.clone()).set(known.waiting() as f64);
            gauge!(IN_FLIGHT, "partition" => label.clone()).set(known.in_flight() as f64);
            let is_paused = f64::from(u8::from(known.pause().is_some()));
            gauge!(PAUSED, "partition" => label.clone()).set(is_paused);
            for dimension in known.dimensions() {
                let name = SharedString::from(dimension.name().to_owned());
                let source = dimension.source().as_str();
                let labels = [
                    ("partition", label.clone()),
                    ("dimension", name),
                    ("source", source.into()),
                ];
                gauge!(LIMIT, &labels).set(dimension.limit() as f64);
                gauge!(REMAINING, &labels).set(dimension.remaining() as f64);
            }
        }
        if has_others {
            gauge!(WAITING, "partition" => OTHER).set(waiting as f64);
            gauge!(IN_FLIGHT, "partition" => OTHER).set(in_flight as f64);
        }
        let totals = snapshot.totals();
        counter!(CALLS).absolute(totals.calls());
        counter!(ATTEMPTS).absolute(totals.attempts());
        for (cause, count) in totals.refusals_by_cause() {
            counter!(REFUSALS, "dimension" => cause.name().to_owned()).absolute(count);
        }
    }

    fn label(&self, partition: &Partition) -> SharedString {
        self.own_label(partition)
            .unwrap_or(SharedString::const_str(OTHER))
    }

    /// The label of a partition that has one of its own.
    fn own_label(&self, partition: &Partition) -> Option<SharedString> {
        let mut labelled = self.labelled.lock().unwrap_or_else(PoisonError::into_inner);
        if !labelled.contains(partition) {
            if labelled.len() >= self.max_partitions {
                return None;
            }
            labelled.insert(partition.clone());
        }
        drop(labelled);
        Some(partition.as_str().to_owned().into())
    }
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
        let cause = event.cause.name().to_owned();
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
        let Some(label) = self.own_label(&event.partition) else {
            return;
        };
        let dimension = &event.dimension;
        let labels = [
            ("partition", label),
            ("dimension", dimension.name().to_owned().into()),
            ("source", dimension.source().as_str().into()),
        ];
        gauge!(LIMIT, &labels).set(dimension.limit() as f64);
    }

    fn usage_high(&self, event: &UsageHigh) {
        let label = self.label(&event.partition);
        let name = event.dimension.name().to_owned();
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
