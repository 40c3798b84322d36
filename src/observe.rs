//! Events: one place that says what is waited for.
//!
//! Levels are chosen so that a healthy program is silent at `info`, and one that is paused says so
//! once for each pause.

use crate::{limiter::GivenUp, partition::Partition, report::StopReason};
use http::StatusCode;
use std::time::Duration;
use tracing::{debug, info};

/// A refusal has closed the partition anew.
pub(crate) fn paused(partition: &Partition, status: StatusCode, delay: Duration) {
    info!(%partition, http.response.status_code = status.as_u16(), delay_s = delay.as_secs_f64(), "paused");
}

/// A request that was refused or has failed goes back into the queue.
pub(crate) fn retry_scheduled(partition: &Partition, attempt: u32, delay: Duration) {
    debug!(%partition, http.request.resend_count = attempt, delay_s = delay.as_secs_f64(), "retry scheduled");
}

/// A new call has to wait for its turn, about so long as far as is known.
pub(crate) fn queued(partition: &Partition, delay: Duration) {
    debug!(%partition, delay_s = delay.as_secs_f64(), "queued");
}

/// A refusal is given back.
pub(crate) fn gave_back(partition: &Partition, attempts: u32, reason: StopReason) {
    debug!(%partition, http.request.resend_count = attempts.saturating_sub(1), %reason, "refusal given back");
}

/// A failure that was to be retried is given back all the same.
pub(crate) fn gave_back_failure(partition: &Partition, attempts: u32, reason: StopReason) {
    debug!(%partition, http.request.resend_count = attempts.saturating_sub(1), %reason, "failure given back");
}

/// A call that could not be sent is answered locally.
pub(crate) fn answered_locally(partition: &Partition, given_up: &GivenUp) {
    debug!(%partition, reason = %given_up.reason, "answered locally");
}
