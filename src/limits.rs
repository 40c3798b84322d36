//! What the program tells of its limits while the layer is in use, and what the layer shows of them.

use crate::{
    config::Config,
    limiter::{Bounds, Charged, Limiter},
    options::RequestOptions,
    partition::Partition,
    payload,
    snapshot::{PartitionSnapshot, Snapshot},
};
use bytes::Bytes;
use http::{Extensions, Request};
use std::{fmt, sync::Arc, time::Duration};
use tokio::time::Instant;

/// A handle by which a program sees its limits, and tells what it knows of them; from
/// [`RateLimitRetryLayer::limits`](crate::RateLimitRetryLayer::limits).
///
/// Its clones, the layer, the layer's clones and their services share what is known.
///
/// # Partitions
///
/// [`partition`](Self::partition), [`charge`](Self::charge) and [`forget`](Self::forget) take the partition that they are about: the
/// one that the program has named itself
/// ([`partition_by`](crate::RateLimitRetryLayer::partition_by),
/// [`RequestOptions::partition`](crate::RequestOptions::partition)), or the one that the
/// [`RetryReport`](crate::RetryReport::partition) of an answer names; its name is also in logs and in
/// local answers, and [`Partition::new`] makes a partition of that. [`settle`](Self::settle) needs
/// none: the answer knows.
///
/// Of a partition that is not known, nothing changes.
#[derive(Clone)]
pub struct Limits {
    limiter: Arc<Limiter>,
    config: Arc<Config>,
}

impl Limits {
    pub(crate) fn new(limiter: Arc<Limiter>, config: Arc<Config>) -> Self {
        Self { limiter, config }
    }

    /// What is known now: of each partition its limits, what holds callers back, who waits and what
    /// was counted; and what the whole layer has counted.
    ///
    /// Each partition is held up for no longer than by a call that arrives. Nothing is changed by
    /// looking.
    ///
    /// ```
    /// # use tower_rate_limit_retry::RateLimitRetryLayer;
    /// # let layer = RateLimitRetryLayer::new();
    /// let snapshot = layer.limits().snapshot();
    /// for partition in snapshot.partitions() {
    ///     println!("{}: {} waiting", partition.partition(), partition.waiting());
    ///     for dimension in partition.dimensions() {
    ///         let (name, source) = (dimension.name(), dimension.source());
    ///         println!("  {name} ({source}): {} of {}", dimension.remaining(), dimension.limit());
    ///     }
    ///     if let Some(hold) = partition.held_by() {
    ///         println!("  held by {hold} for {:.1?}", partition.opens_in());
    ///     }
    /// }
    /// let totals = snapshot.totals();
    /// println!("{} calls, {} attempts, {} refused", totals.calls(), totals.attempts(), totals.refusals());
    /// ```
    pub fn snapshot(&self) -> Snapshot {
        self.limiter.snapshot()
    }

    /// The same of one partition; `None` if it is not known.
    ///
    /// ```
    /// use tower_rate_limit_retry::{Partition, RateLimitRetryLayer};
    ///
    /// let layer = RateLimitRetryLayer::new();
    /// assert!(layer.limits().partition(&Partition::new("reports")).is_none());
    /// ```
    pub fn partition(&self, partition: &Partition) -> Option<PartitionSnapshot> {
        let gate = self.limiter.known(partition)?;
        Some(gate.snapshot())
    }

    /// How long a call with this request would wait if it were made now, as far as is known: zero, if
    /// it would go at once. `None` if it would not wait, because it cannot be sent in the time that it
    /// has or too many wait already: then it would be answered locally.
    ///
    /// It is asked before anything is sent, and reserves nothing. The body is given as bytes, because
    /// both its cost and its partition may depend on it, and a body that is a stream cannot be looked
    /// into; of such a one, as of none, give `""`. The partition, the cost and the deadline are those
    /// that the call would have, by the layer as it was set when this handle was made and by the
    /// request's [`RequestOptions`].
    ///
    /// What refusals have taught may turn out otherwise, and a call may be overtaken by those with a
    /// head start. One that has a head start itself is expected to pass all who wait, if it passes
    /// any.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::Request;
    /// use http_body_util::Full;
    /// use std::time::Duration;
    /// use tower_rate_limit_retry::RateLimitRetryLayer;
    ///
    /// let layer = RateLimitRetryLayer::new();
    /// let body = Bytes::from(r#"{"model": "gpt-4o", "max_tokens": 200}"#);
    /// let request = Request::post("https://api.example.com/").body(body).unwrap();
    /// match layer.limits().expected_wait(&request) {
    ///     Some(wait) if wait < Duration::from_secs(5) => {
    ///         let request = request.map(Full::new);
    ///         // Call the service with it.
    ///         # drop(request);
    ///     }
    ///     _ => println!("another server may be faster"),
    /// }
    /// ```
    pub fn expected_wait<T: AsRef<[u8]>>(&self, request: &Request<T>) -> Option<Duration> {
        let (now, config) = (Instant::now(), &*self.config);
        let unset = RequestOptions::new();
        let options = request.extensions().get().unwrap_or(&unset);
        let deadline = options.deadline.or(config.deadline);
        let deadline = deadline.and_then(|deadline| now.checked_add(deadline));
        let bounds = Bounds::of(config, deadline);
        let body = request.body().as_ref();
        let (mut head, ()) = Request::new(()).into_parts();
        head.method.clone_from(request.method());
        head.uri.clone_from(request.uri());
        head.headers.clone_from(request.headers());
        head.extensions.clone_from(request.extensions());
        let bytes = Bytes::copy_from_slice(body);
        let partition = options.partition.as_ref();
        let Some(gate) = self.limiter.known_to(&head, &bytes, partition, config) else {
            return Some(Duration::ZERO);
        };
        let cost = payload::cost_of_bytes(options.tokens, body, gate.counts_tokens());
        gate.expected_wait(now, options.head_start, cost, bounds)
    }

    /// What a request has cost in the end, in tokens: as the `usage` in its answer says. The
    /// [`Quota`](crate::Quota)s of tokens that were declared are corrected by the difference to what
    /// it was charged with when it was sent, upwards or downwards.
    ///
    /// It takes the extensions of the answer, in which the layer has noted that charge, because they
    /// are what a program has at hand then, whatever the type of its body: the partition of a request
    /// and the estimate of its cost are not. Told twice, the last word counts; so what a stream has
    /// cost can be told while it goes on. Nothing happens for an answer without a charge: where no
    /// quota of tokens is declared (so nothing is noted either), and for the layer's own answers.
    ///
    /// What a server announces itself needs no such telling: its next answer corrects it.
    ///
    /// ```
    /// use std::{convert::Infallible, num::NonZero};
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::{BodyExt, Full};
    /// use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
    /// use tower_rate_limit_retry::{Quota, RateLimitRetryLayer, ReplayBody};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()
    /// # .unwrap().block_on(async {
    /// // Stands for an HTTP client.
    /// let api = service_fn(async |_: Request<ReplayBody<Full<Bytes>>>| {
    ///     let answer = Bytes::from(r#"{"usage": {"total_tokens": 200}}"#);
    ///     Ok::<_, Infallible>(Response::new(Full::new(answer)))
    /// });
    ///
    /// let tokens = Quota::tokens(NonZero::new(10_000).unwrap()).per_minute();
    /// let layer = RateLimitRetryLayer::new().quota(tokens);
    /// let limits = layer.limits();
    /// let mut client = ServiceBuilder::new().layer(layer).service(api);
    ///
    /// # let began = tokio::time::Instant::now();
    /// for _ in 0..10 {
    ///     let request = Request::post("http://api.example.com/")
    ///         .body(Full::from(r#"{"max_tokens": 4000}"#))
    ///         .unwrap();
    ///     let (head, body) = client.ready().await.unwrap().call(request).await.unwrap().into_parts();
    ///     let answer: serde_json::Value =
    ///         serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
    ///     limits.settle(&head.extensions, answer["usage"]["total_tokens"].as_u64().unwrap());
    /// }
    /// // Nobody has waited: all have cost 2,000 of the 10,000, where 40,000 was to be feared.
    /// # assert_eq!(began.elapsed(), std::time::Duration::ZERO);
    /// # });
    /// ```
    pub fn settle(&self, answer: &Extensions, tokens: u64) {
        if let Some(charged) = answer.get::<Charged>() {
            if let Some(gate) = self.limiter.known(charged.partition()) {
                gate.settle(charged, tokens);
            }
        }
    }

    /// So many tokens were used of a partition's quota besides what its requests have cost: by
    /// another program, or by hand. The [`Quota`](crate::Quota)s of tokens that were declared hold so
    /// much less. Zero changes nothing; and however much it is, no more is overdrawn than a span
    /// makes up for.
    ///
    /// ```
    /// use tower_rate_limit_retry::{Partition, RateLimitRetryLayer};
    ///
    /// let layer = RateLimitRetryLayer::new();
    /// layer.limits().charge(&Partition::new("reports"), 20_000);
    /// ```
    pub fn charge(&self, partition: &Partition, tokens: u64) {
        if let Some(gate) = self.limiter.known(partition) {
            gate.charge(tokens);
        }
    }

    /// Drops all that the server has said of a partition's limits: the quota was raised, or a
    /// `Retry-After` of years was a mistake.
    ///
    /// A pause ends, and those who wait are let go as after any pause: one, and with each that is
    /// served one more. What was declared stays, and so does what
    /// was sent of it. A refusal that comes after this is news again, even of a request that was sent
    /// before; and a request that the server has told to wait for its own size goes on waiting.
    ///
    /// ```
    /// # use tower_rate_limit_retry::{RateLimitRetryLayer, RetryReport};
    /// # fn raised<B>(layer: &RateLimitRetryLayer, refusal: &http::Response<B>) {
    /// if let Some(report) = refusal.extensions().get::<RetryReport>() {
    ///     layer.limits().forget(report.partition());
    /// }
    /// # }
    /// ```
    pub fn forget(&self, partition: &Partition) {
        if let Some(gate) = self.limiter.known(partition) {
            gate.forget();
        }
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits").finish_non_exhaustive()
    }
}
