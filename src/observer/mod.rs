//! Functions that are told what happens, for programs that want more than logs.

mod event;

pub use event::{
    GaveUp, LimitChanged, Paused, Resumed, RetryReason, RetryScheduled, UsageHigh, WaitEnded,
};

/// Is told what the layer does and learns, as it happens; set by
/// [`RateLimitRetryLayer::observer`](crate::RateLimitRetryLayer::observer). Each function does
/// nothing unless it is written.
///
/// The same is told as [`tracing` events](crate::events). What the layer knows at the moment, whether
/// anything has happened or not, is in [`Limits::snapshot`](crate::Limits::snapshot).
///
/// ```
/// use tower_rate_limit_retry::{Observer, Paused, RateLimitRetryLayer, UsageHigh};
///
/// struct Mail;
///
/// impl Observer for Mail {
///     fn paused(&self, event: &Paused) {
///         println!("{} is paused for {:.1?} ({})", event.partition, event.delay, event.cause);
///     }
///
///     fn usage_high(&self, event: &UsageHigh) {
///         let (name, limit) = (event.dimension.name(), event.dimension.limit());
///         println!("most of {limit} {name} is in use: time to ask for more");
///     }
/// }
///
/// let layer = RateLimitRetryLayer::new().observer(Mail);
/// # let _ = layer;
/// ```
///
/// # When and where it is called
///
/// By the task whose call, answer or body has caused the event, on its thread and at once: what takes
/// long holds up that call and nobody else. So it must not block; let it hand on what takes time.
///
/// No lock is held meanwhile, and all who are to go on have been woken. So it may use the layer itself:
/// look at a snapshot, [`forget`](crate::Limits::forget) a partition, make a call of its own. What it
/// causes by that is told before it returns, to itself as well.
///
/// Two threads may tell of two events in another order than that in which they have happened.
///
/// # Panics
///
/// A panic in an observer ends there: the panic hook has reported it, an event at `error` level says
/// so as well, and the call goes on as if there were no observer. For the call is not to blame, and may
/// be one that another task waits for, or the end of a body in the middle of other cleaning up.
pub trait Observer: Send + Sync {
    /// A call was refused or has failed, and waits to be sent again.
    fn retry_scheduled(&self, event: &RetryScheduled) {
        let _ = event;
    }

    /// A call that was held back is sent.
    fn wait_ended(&self, event: &WaitEnded) {
        let _ = event;
    }

    /// A refusal has closed a partition: once for each pause, however many requests are refused.
    fn paused(&self, event: &Paused) {
        let _ = event;
    }

    /// The server has served a request that was sent after the pause: it was the last one in its row.
    /// Or the program has ended the pause ([`forget`](crate::Limits::forget)).
    fn resumed(&self, event: &Resumed) {
        let _ = event;
    }

    /// A refusal or a failure is the end of its call, or a call that could not be sent is answered
    /// locally.
    fn gave_up(&self, event: &GaveUp) {
        let _ = event;
    }

    /// A limit was learned, or is another than was known.
    fn limit_changed(&self, event: &LimitChanged) {
        let _ = event;
    }

    /// Most of a limit is in use
    /// ([`usage_threshold_ratio`](crate::RateLimitRetryLayer::usage_threshold_ratio)): a larger one may
    /// be asked for before the first refusal.
    fn usage_high(&self, event: &UsageHigh) {
        let _ = event;
    }
}
