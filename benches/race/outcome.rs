//! How a race went.

use std::time::Duration;

use crate::{
    records::{Record, Records},
    workload::Workload,
};

/// What is measured, over the calls that count: those that can succeed, of callers that do not give
/// up by themselves.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) calls: f64,
    pub(crate) succeeded: f64,
    /// The time until the last success, over the ideal.
    pub(crate) time: f64,
    /// Per success.
    pub(crate) sent: f64,
    /// Per success.
    pub(crate) refusals: f64,
    pub(crate) latency: Latency,
    /// The share of first attempts that would have to stay where they are if all were put in the
    /// order of their calls.
    pub(crate) order: f64,
    pub(crate) cpu_seconds: f64,
    ran_out: bool,
}

/// How a race ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    AllSucceeded,
    /// Some did not, or not in time.
    Starved,
    /// So many requests were sent that it was stopped.
    OutOfRequests,
}

/// Of the calls that succeeded, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Latency {
    pub(crate) median: f64,
    pub(crate) p99: f64,
    pub(crate) longest: f64,
}

impl Outcome {
    pub(crate) fn new(
        records: &Records,
        workload: &Workload,
        ideal: Duration,
        cpu: Duration,
    ) -> Self {
        let all = records.calls().iter().zip(&workload.calls);
        let counted: Vec<&Record> = all
            .filter(|(_, call)| call.counts())
            .map(|(record, _)| record)
            .collect();
        let succeeded = counted.iter().filter_map(|call| call.succeeded_at());
        let last_success = succeeded.clone().max().unwrap_or_default();
        let succeeded = succeeded.count() as f64;
        let sent: u32 = counted.iter().map(|call| call.attempts).sum();
        let refusals: u32 = counted.iter().map(|call| call.refusals).sum();
        Self {
            calls: counted.len() as f64,
            succeeded,
            time: last_success.as_secs_f64() / ideal.as_secs_f64(),
            sent: f64::from(sent) / succeeded,
            refusals: f64::from(refusals) / succeeded,
            latency: Latency::of(&counted),
            order: order(records, workload),
            cpu_seconds: cpu.as_secs_f64(),
            ran_out: records.ran_out(),
        }
    }

    pub(crate) fn starved(&self) -> f64 {
        self.calls - self.succeeded
    }

    pub(crate) fn finish(&self) -> Finish {
        if self.ran_out {
            Finish::OutOfRequests
        } else if self.starved() > 0.0 {
            Finish::Starved
        } else {
            Finish::AllSucceeded
        }
    }

    /// The median of each measure; but of what succeeded, the least.
    pub(crate) fn median(outcomes: &[Self]) -> Self {
        let median =
            |measure: fn(&Self) -> f64| quantile(outcomes.iter().map(measure).collect(), 0.5);
        Self {
            calls: median(|o| o.calls),
            succeeded: outcomes
                .iter()
                .map(|o| o.succeeded)
                .fold(f64::MAX, f64::min),
            time: median(|o| o.time),
            sent: median(|o| o.sent),
            refusals: median(|o| o.refusals),
            latency: Latency {
                median: median(|o| o.latency.median),
                p99: median(|o| o.latency.p99),
                longest: median(|o| o.latency.longest),
            },
            order: median(|o| o.order),
            cpu_seconds: median(|o| o.cpu_seconds),
            ran_out: outcomes.iter().any(|o| o.ran_out),
        }
    }
}

impl Latency {
    fn of(calls: &[&Record]) -> Self {
        let latencies = calls.iter().filter_map(|call| call.latency());
        let latencies: Vec<_> = latencies.map(|latency| latency.as_secs_f64()).collect();
        let quantile = |ratio| quantile(latencies.clone(), ratio);
        Self {
            median: quantile(0.5),
            p99: quantile(0.99),
            longest: quantile(1.0),
        }
    }
}

/// The smallest value that this share of all does not exceed; NaN if there are none.
pub(crate) fn quantile(mut values: Vec<f64>, ratio: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let rank = (values.len() as f64 * ratio).ceil() as usize;
    values
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or(f64::NAN)
}

/// Each process and key by itself: they do not wait for each other.
fn order(records: &Records, workload: &Workload) -> f64 {
    let mut queues = std::collections::BTreeMap::<_, Vec<_>>::new();
    for (record, call) in records.calls().iter().zip(&workload.calls) {
        if let Some(sent_as) = record.sent_as {
            let queue = queues.entry((call.process, call.key)).or_default();
            queue.push((sent_as, record.place));
        }
    }
    let (mut kept, mut all) = (0, 0);
    for mut queue in queues.into_values() {
        queue.sort_unstable();
        kept += longest_rise(queue.iter().map(|&(_, place)| place));
        all += queue.len();
    }
    kept as f64 / all as f64
}

/// The length of the longest rising subsequence.
fn longest_rise(values: impl Iterator<Item = u32>) -> usize {
    // The least last value of a rise of each length.
    let mut lasts: Vec<u32> = Vec::new();
    for value in values {
        let at = lasts.partition_point(|last| *last < value);
        if at == lasts.len() {
            lasts.push(value);
        } else {
            lasts[at] = value;
        }
    }
    lasts.len()
}
