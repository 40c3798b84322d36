//! What the user says of a server's limit.

use super::Unit;
use std::{num::NonZeroU64, time::Duration};

/// A limit that a server has and its user knows: so many requests, or tokens, in so much time.
///
/// Declared with [`quota`](crate::RateLimitRetryLayer::quota), it is kept from the first request on,
/// before the server has said anything.
///
/// ```
/// use std::{num::NonZero, time::Duration};
/// use tower_rate_limit_retry::{Quota, RateLimitRetryLayer};
///
/// // "60 requests in 10 seconds", and no word of how the server counts them.
/// const PER_10_S: Quota = Quota::requests(NonZero::new(60).unwrap()).per(Duration::from_secs(10));
/// // "5,000 a day" on top of it.
/// const PER_DAY: Quota = Quota::requests(NonZero::new(5_000).unwrap()).per_day();
///
/// let layer = RateLimitRetryLayer::new().quota(PER_10_S).quota(PER_DAY);
/// # let _ = layer;
/// ```
///
/// # How servers count
///
/// "60 in 10 seconds" means different things to different servers, and the documentation seldom says
/// which:
///
/// | the server | admits at once, and then | what to declare |
/// | --- | --- | --- |
/// | counts in fixed windows, or keeps a log of the last 10 s | 60, and 60 more in the next window | `requests(60).per(10 s)` |
/// | has a bucket that refills steadily | 60, and one more every 167 ms from then on | the same, or faster: `.burst(60)` |
/// | smooths: enforces 60 in 10 s as 6 in each second | 6, and 6 more in the next second | `requests(6).per_second()` |
///
/// Without a [`burst`](Self::burst) never more than the count is sent in *any* span of that length.
/// That is within the limit of each server of the first two kinds, wherever its windows begin; so it
/// is the default. It has a price where the server is a bucket, for what flows in during the first
/// span is not used before that is over: 90 requests take 10 s, where `.burst(60)` takes 5 s. In the
/// long run both are as fast, but for the cushion.
///
/// # The cushion
///
/// Requests that are sent at an even pace arrive at an uneven one. So that this pushes none over the
/// edge, a cushion is left: four times the mean deviation of the round trips, as TCP's retransmission
/// timer has it ([RFC 6298]); at the least 1 ms, at the most 100 ms, and so much before the first
/// answer. (The latency of usual networks spreads by 30 to 100 ms; where round trips vary by more, it
/// is by the work of the server, which has counted the request before.)
///
/// - A span lasts longer by the cushion, but by no more than a tenth.
/// - A bucket with a burst holds less by what flows in during the cushion, but by no more than half.
///   That makes all who wait later by the cushion, and nobody slower. A small burst has little room
///   for it, and a burst of one has none: there the unevenness of the network will show in refusals.
///
/// # What the server shows
///
/// A refusal in spite of it all means that others use the same quota, or that it is smaller than
/// declared. Then all quotas of up to a minute count as used up at that moment; when the pause that
/// the server asks for is over, they open by degrees. Longer ones do not, for one refusal by another
/// limit would cost hours: there the pause has to do. Nothing makes a quota larger than declared.
///
/// When a quota is used up for longer than [`max_delay`](crate::RateLimitRetryLayer::max_delay) (5
/// minutes), calls are answered locally at once, with a 429 that says so.
///
/// [RFC 6298]: https://www.rfc-editor.org/rfc/rfc6298#section-2
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    pub(super) unit: Unit,
    pub(super) count: NonZeroU64,
    pub(super) span: Duration,
    pub(super) burst: Option<NonZeroU64>,
}

impl Quota {
    /// So many requests; every attempt counts as one, refused ones too.
    ///
    /// The span is a minute, by which most APIs count, until one is set.
    pub const fn requests(count: NonZeroU64) -> Self {
        Self::of(Unit::Requests, count)
    }

    /// So many tokens; what a request costs is what
    /// [`RequestOptions::tokens`](crate::RequestOptions::tokens) says, or the estimate named there;
    /// [`Limits::settle`](crate::Limits::settle) corrects it when the answer has told. A request that
    /// is refused costs none.
    ///
    /// A request of more than all of it is sent on its turn, as if it cost what is left then: the
    /// server may know better. If that refuses it, and the request had said its cost itself, the
    /// refusal is given back, and nobody else is held back for it.
    ///
    /// The span is a minute, by which most APIs count, until one is set.
    pub const fn tokens(count: NonZeroU64) -> Self {
        Self::of(Unit::Tokens, count)
    }

    const fn of(unit: Unit, count: NonZeroU64) -> Self {
        Self {
            unit,
            count,
            span: Duration::from_secs(60),
            burst: None,
        }
    }

    /// In how much time. Zero: the quota holds nobody back. More than 2^31 s count as that.
    pub const fn per(self, span: Duration) -> Self {
        Self { span, ..self }
    }

    /// In a second.
    pub const fn per_second(self) -> Self {
        self.per(Duration::from_secs(1))
    }

    /// In 60 seconds.
    pub const fn per_minute(self) -> Self {
        self.per(Duration::from_secs(60))
    }

    /// In 3,600 seconds.
    pub const fn per_hour(self) -> Self {
        self.per(Duration::from_secs(60 * 60))
    }

    /// In 24 hours.
    pub const fn per_day(self) -> Self {
        self.per(Duration::from_secs(24 * 60 * 60))
    }

    /// The server has a bucket that refills steadily, by the count in each span, and this much can
    /// be had at once when it is full.
    ///
    /// The bucket of a limit by the minute holds a minute's worth, as a rule. Default: the server is
    /// not known to have a bucket, and never more than the count is sent in any span of that length.
    ///
    /// ```
    /// use std::num::NonZero;
    /// use tower_rate_limit_retry::Quota;
    ///
    /// // OpenAI's 500 requests per minute: 500 at once, and one every 120 ms from then on.
    /// let count = NonZero::new(500).unwrap();
    /// let quota = Quota::requests(count).per_minute().burst(count);
    /// # let _ = quota;
    /// ```
    pub const fn burst(self, burst: NonZeroU64) -> Self {
        Self {
            burst: Some(burst),
            ..self
        }
    }
}
