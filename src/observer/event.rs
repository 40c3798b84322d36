//! What observers are told.

use crate::{
    partition::Partition,
    quota::{Hold, RefusalCause},
    report::StopReason,
    snapshot::DimensionSnapshot,
};
use http::StatusCode;
use std::{fmt, time::Duration};

/// Why a request is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RetryReason {
    /// The server has refused it.
    Refused,
    /// It has failed, in a way that the program wants to be retried.
    Failed,
}

impl RetryReason {
    /// A name for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for RetryReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A call waits to be sent again: [`Observer::retry_scheduled`](crate::Observer::retry_scheduled).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RetryScheduled {
    /// The quota that the call counts against.
    pub partition: Partition,
    /// How often the request was sent so far, and which retry will be next: `OpenTelemetry`'s
    /// `http.request.resend_count`.
    pub attempts: u32,
    /// How long it waits at the least. The queue may take longer.
    pub delay: Duration,
    /// Why.
    pub reason: RetryReason,
    /// What its refusal was put down to; `None` if it has failed.
    pub cause: Option<RefusalCause>,
    /// The status of the answer; `None` if it was an error.
    pub status: Option<StatusCode>,
}

/// A call that was held back is sent: [`Observer::wait_ended`](crate::Observer::wait_ended).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WaitEnded {
    /// The quota that the call counts against.
    pub partition: Partition,
    /// How often the request was sent before.
    pub attempts: u32,
    /// How long it was held back this time.
    pub waited: Duration,
}

/// A partition is closed: [`Observer::paused`](crate::Observer::paused).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Paused {
    /// Which one.
    pub partition: Partition,
    /// For how long, from now on, as the first refusal says; others of the same burst may make it
    /// longer, and are not told.
    pub delay: Duration,
    /// What the refusal was put down to.
    pub cause: RefusalCause,
    /// How many times in a row it was refused, this time included; the refusals of one burst count as
    /// one.
    pub refusals: u32,
}

/// A pause is over: [`Observer::resumed`](crate::Observer::resumed).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Resumed {
    /// Of which partition.
    pub partition: Partition,
    /// How long ago the first pause in the row has begun. So it is longer than the pause: by the time
    /// that passed until a request came, and until it was answered or not refused in the time that
    /// refusals take.
    pub paused_for: Duration,
    /// How many pauses there were in the row.
    pub refusals: u32,
}

/// A call ends with what it waited to get rid of: [`Observer::gave_up`](crate::Observer::gave_up).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GaveUp {
    /// The quota that the call counts against.
    pub partition: Partition,
    /// Why it was not retried, or not any more.
    pub reason: StopReason,
    /// How often the request was sent. Zero if it never was.
    pub attempts: u32,
    /// How long the call was held back, in all.
    pub waited: Duration,
    /// The status of the answer; `None` if it is an error.
    pub status: Option<StatusCode>,
    /// What holds back a call that could not be sent in the time it had, if anything else did.
    pub held_by: Option<Hold>,
    /// What the refusal was put down to that the answer is; `None` if it is none, or came before the
    /// last wait.
    pub cause: Option<RefusalCause>,
    /// Whether the answer is the layer's own.
    pub answered_locally: bool,
}

/// A limit was learned, or is another: [`Observer::limit_changed`](crate::Observer::limit_changed).
///
/// What the program has declared is not told, for it does not change. Of what is learned from refusals,
/// only what differs from what was last told by a tenth: it is tried out again and again.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LimitChanged {
    /// Of which partition.
    pub partition: Partition,
    /// The limit as it is now.
    pub dimension: DimensionSnapshot,
    /// What it was; `None` if it was not known.
    pub previous: Option<u64>,
}

/// Most of a limit is in use: [`Observer::usage_high`](crate::Observer::usage_high).
///
/// It is looked at with each answer, and told once; again only after the usage was a quarter below the
/// threshold (60 % by default). So for a window that is nearly used up each time it is told in each. A
/// limit of a few requests is nearly used up by the first.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UsageHigh {
    /// Of which partition.
    pub partition: Partition,
    /// The limit: announced or declared. What refusals have taught is always used up, and not told.
    pub dimension: DimensionSnapshot,
    /// How much of it is in use, from 0.0 to 1.0.
    pub usage_ratio: f64,
}
