//! What happened to a call, in the extensions of its response.

use crate::partition::Partition;
use std::{fmt, time::Duration};

/// What happened to a call: in the extensions of every response that was waited for, retried or
/// given back.
///
/// A response without it is that of the first attempt, which was sent at once.
///
/// ```
/// # use tower_rate_limit_retry::RetryReport;
/// # fn look<B>(response: &http::Response<B>) {
/// if let Some(report) = response.extensions().get::<RetryReport>() {
///     println!("attempts: {}, waited: {:?}", report.attempts(), report.waited());
///     if let Some(reason) = report.stop_reason() {
///         println!("not tried again: {reason}");
///     }
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryReport {
    partition: Partition,
    attempts: u32,
    waited: Duration,
    stop_reason: Option<StopReason>,
    answered_locally: bool,
}

impl RetryReport {
    pub(crate) fn new(partition: Partition, attempts: u32, waited: Duration) -> Self {
        Self {
            partition,
            attempts,
            waited,
            stop_reason: None,
            answered_locally: false,
        }
    }

    pub(crate) fn stopped(self, reason: StopReason) -> Self {
        Self {
            stop_reason: Some(reason),
            ..self
        }
    }

    pub(crate) fn local(self) -> Self {
        Self {
            answered_locally: true,
            ..self
        }
    }

    /// The partition that the request counted against: what [`Limits`](crate::Limits) asks for.
    pub fn partition(&self) -> &Partition {
        &self.partition
    }

    /// How often the request was sent, the first time included. Zero if it never was.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// How long the call was held back, in all: in the queue, between its attempts and for the
    /// readiness of the inner service then. The time that the attempts themselves took does not
    /// count.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Why the refusal that this response is was not retried, or the failure that
    /// [`retry_if`](crate::RateLimitRetryLayer::retry_if) has named. `None` if it is neither.
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.stop_reason
    }

    /// Whether the response is the layer's own and not the server's: a 429 for a call that could
    /// not be sent, or whose refusal was too large to be kept.
    pub fn answered_locally(&self) -> bool {
        self.answered_locally
    }
}

/// Why a refusal or a failure was given back instead of being retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopReason {
    /// The server's reason is one that no wait cures: the quota is spent, the request is larger
    /// than the limit, or the server says not to.
    NotRetryable,
    /// All retries were used.
    MaxRetries,
    /// The wait is longer than the maximum delay.
    MaxDelay,
    /// The wait does not end before the deadline.
    Deadline,
    /// The body of the request cannot be sent again: it was larger than what is kept, or failed.
    BodyNotReplayable,
    /// The answer does not say that nothing was done, and the request does not say that doing it
    /// twice is harmless.
    NotIdempotent,
    /// As many failures as may were retried in the last seconds: the server seems to be broken.
    RetryBudget,
    /// Too many calls were waiting already.
    MaxWaiting,
}

impl StopReason {
    /// The name by which logs and local answers call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotRetryable => "not-retryable",
            Self::MaxRetries => "max-retries",
            Self::MaxDelay => "max-delay",
            Self::Deadline => "deadline",
            Self::BodyNotReplayable => "body-not-replayable",
            Self::NotIdempotent => "not-idempotent",
            Self::RetryBudget => "retry-budget",
            Self::MaxWaiting => "max-waiting",
        }
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which attempt a request is: in its extensions from the second attempt on, so that layers below
/// can tell.
///
/// `OpenTelemetry`'s `http.request.resend_count` is this less one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attempt(u32);

impl Attempt {
    /// Counted from 1, the first included.
    pub(crate) fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number of the attempt, counted from 1: 2 is the first retry.
    pub fn number(self) -> u32 {
        self.0
    }
}
