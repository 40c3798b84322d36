//! One place that says what happens: to logs, and to the observers.
//!
//! It is never called under a lock, for whoever listens may come back here. Levels are chosen so that
//! a healthy program is silent at `info`, and one that is paused says so once for each pause.

use crate::{
    observer::{
        GaveUp, LimitChanged, Observer, Paused, Resumed, RetryScheduled, UsageHigh, WaitEnded,
    },
    partition::Partition,
    quota::{Hold, RefusalCause},
};
use std::{
    fmt,
    panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};
use tracing::{
    Level, Span, debug, debug_span, enabled, error, field, info, level_filters::LevelFilter,
};

/// What all spans and events are told by, wherever they arise.
const TARGET: &str = "tower_rate_limit_retry";

/// Who is told, and from when on a limit counts as nearly used up.
#[derive(Clone)]
pub(crate) struct Observers {
    observers: Vec<Arc<dyn Observer>>,
    /// From 0.0 to 1.0.
    pub(crate) usage_threshold_ratio: f64,
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observers")
            .field("observers", &self.observers.len())
            .field("usage_threshold_ratio", &self.usage_threshold_ratio)
            .finish()
    }
}

impl Default for Observers {
    fn default() -> Self {
        Self {
            observers: Vec::new(),
            usage_threshold_ratio: 0.8,
        }
    }
}

// What a panic leaves behind in an observer is the observer's; nothing here depends on it.
impl UnwindSafe for Observers {}
impl RefUnwindSafe for Observers {}

/// What has happened to a partition.
#[derive(Debug)]
pub(crate) enum Notice {
    Paused(Paused),
    Resumed(Resumed),
    LimitChanged(LimitChanged),
    UsageHigh(UsageHigh),
}

impl Observers {
    pub(crate) fn add(&mut self, observer: impl Observer + 'static) {
        self.observers.push(Arc::new(observer));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.observers.is_empty()
    }

    pub(crate) fn tell(&self, notice: &Notice) {
        match notice {
            Notice::Paused(event) => self.paused(event),
            Notice::Resumed(event) => self.resumed(event),
            Notice::LimitChanged(event) => self.limit_changed(event),
            Notice::UsageHigh(event) => self.usage_high(event),
        }
    }

    /// A request that was refused or has failed goes back into the queue.
    pub(crate) fn retry_scheduled(&self, event: &RetryScheduled) {
        debug!(
            name: "rate_limit_retry.retry_scheduled",
            target: TARGET,
            partition = %event.partition,
            http.request.resend_count = event.attempts,
            http.response.status_code = event.status.map(|status| status.as_u16()),
            delay_s = event.delay.as_secs_f64(),
            reason = event.reason.as_str(),
            dimension = event.cause.as_ref().map(RefusalCause::name),
            "retry scheduled"
        );
        self.each(|observer| observer.retry_scheduled(event));
    }

    /// A call that was held back is sent.
    pub(crate) fn wait_ended(&self, event: &WaitEnded) {
        debug!(
            name: "rate_limit_retry.wait_ended",
            target: TARGET,
            partition = %event.partition,
            http.request.resend_count = event.attempts,
            waited_s = event.waited.as_secs_f64(),
            "wait ended"
        );
        self.each(|observer| observer.wait_ended(event));
    }

    /// A refusal or a failure is given back, or a call that could not be sent is answered locally.
    pub(crate) fn gave_up(&self, event: &GaveUp) {
        let held_by = event.held_by.as_ref().map(Hold::name);
        let cause = event.cause.as_ref().map(RefusalCause::name);
        debug!(
            name: "rate_limit_retry.gave_up",
            target: TARGET,
            partition = %event.partition,
            http.request.resend_count = event.attempts.saturating_sub(1),
            http.response.status_code = event.status.map(|status| status.as_u16()),
            waited_s = event.waited.as_secs_f64(),
            reason = event.reason.as_str(),
            dimension = held_by.or(cause),
            answered_locally = event.answered_locally,
            "gave up"
        );
        self.each(|observer| observer.gave_up(event));
    }

    fn paused(&self, event: &Paused) {
        info!(
            name: "rate_limit_retry.paused",
            target: TARGET,
            partition = %event.partition,
            delay_s = event.delay.as_secs_f64(),
            dimension = event.cause.name(),
            refusals = event.refusals,
            "paused"
        );
        self.each(|observer| observer.paused(event));
    }

    fn resumed(&self, event: &Resumed) {
        info!(
            name: "rate_limit_retry.resumed",
            target: TARGET,
            partition = %event.partition,
            paused_for_s = event.paused_for.as_secs_f64(),
            refusals = event.refusals,
            "resumed"
        );
        self.each(|observer| observer.resumed(event));
    }

    fn limit_changed(&self, event: &LimitChanged) {
        debug!(
            name: "rate_limit_retry.limit_changed",
            target: TARGET,
            partition = %event.partition,
            dimension = event.dimension.name(),
            source = event.dimension.source().as_str(),
            limit = event.dimension.limit(),
            interval_s = event.dimension.interval().map(|interval| interval.as_secs_f64()),
            previous_limit = event.previous,
            "limit changed"
        );
        self.each(|observer| observer.limit_changed(event));
    }

    fn usage_high(&self, event: &UsageHigh) {
        debug!(
            name: "rate_limit_retry.usage_high",
            target: TARGET,
            partition = %event.partition,
            dimension = event.dimension.name(),
            source = event.dimension.source().as_str(),
            limit = event.dimension.limit(),
            remaining = event.dimension.remaining(),
            usage_ratio = event.usage_ratio,
            "usage high"
        );
        self.each(|observer| observer.usage_high(event));
    }

    /// A panic of an observer ends here: it may come from the dropping of a body, and no call is to
    /// blame for it.
    fn each(&self, tell: impl Fn(&dyn Observer)) {
        for observer in &self.observers {
            let told = catch_unwind(AssertUnwindSafe(|| tell(&**observer)));
            if told.is_err() {
                error!(name: "rate_limit_retry.observer_panicked", target: TARGET, "observer panicked");
            }
        }
    }
}

/// Whether limits and their usage are logged, which takes looking at them.
pub(crate) fn logs_limits() -> bool {
    enabled!(target: TARGET, Level::DEBUG)
}

/// The span of a call, which all its attempts and events are in; `None` if nobody wants it.
#[inline]
pub(crate) fn span(partition: &Partition) -> Option<Arc<Span>> {
    if Level::DEBUG <= LevelFilter::current() {
        open_span(partition)
    } else {
        None
    }
}

#[cold]
fn open_span(partition: &Partition) -> Option<Arc<Span>> {
    let span = debug_span!(
        target: TARGET,
        "rate_limit_retry",
        %partition,
        http.request.resend_count = field::Empty,
    );
    (!span.is_disabled()).then(|| Arc::new(span))
}

/// The span of a call is entered as long as this lives. Most calls have none, and for them this is one
/// comparison at its beginning and one at its end.
pub(crate) struct InSpan(Option<Arc<Span>>);

impl InSpan {
    #[inline]
    pub(crate) fn enter(span: Option<&Arc<Span>>) -> Self {
        Self(span.map(enter))
    }
}

impl Drop for InSpan {
    #[inline]
    fn drop(&mut self) {
        if let Some(span) = self.0.take() {
            exit(&span);
        }
    }
}

#[cold]
fn enter(span: &Arc<Span>) -> Arc<Span> {
    span.with_subscriber(|(id, dispatch)| dispatch.enter(id));
    Arc::clone(span)
}

#[cold]
fn exit(span: &Arc<Span>) {
    span.with_subscriber(|(id, dispatch)| dispatch.exit(id));
}

/// A further attempt is made in this span.
pub(crate) fn resent(span: &Span, resend_count: u32) {
    span.record("http.request.resend_count", resend_count);
}

/// A new call has to wait for its turn, about so long as far as is known.
pub(crate) fn queued(partition: &Partition, delay: Duration, hold: Option<&Hold>) {
    debug!(
        name: "rate_limit_retry.queued",
        target: TARGET,
        %partition,
        delay_s = delay.as_secs_f64(),
        dimension = hold.map(Hold::name),
        "queued"
    );
}
