//! The layer: configuration, and the state that all its services share.

use crate::{
    body::{Identity, MapFn},
    config::Config,
    error::ConfigError,
    limiter::Limiter,
    limits::Limits,
    observer::Observer,
    partition::{Partition, Request},
    quota::Quota,
    retry::{Backoff, RetryFn, RetryNone},
    service::RateLimitRetry,
};
use http::response::Parts;
use std::{fmt, sync::Arc, time::Duration};
use tower_layer::Layer;

/// Makes any HTTP service a good citizen of a rate-limited API.
///
/// It reads what the server says about its limits, holds all callers of a quota back together,
/// sends a refused request again when the server will say yes, and gives the answer back as it
/// came. The defaults need no configuration.
///
/// The layer is its own builder. Its clones, and all services made from it and from them, share one
/// limiter: make one layer for each quota, or one for the whole program, and clone it.
///
/// ```
/// use http_body_util::Full;
/// use hyper_util::{client::legacy::Client, rt::TokioExecutor};
/// use tower::{Service, ServiceBuilder, ServiceExt};
/// use tower_rate_limit_retry::RateLimitRetryLayer;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut client = ServiceBuilder::new()
///     .layer(RateLimitRetryLayer::new())
///     .concurrency_limit(16)
///     .service(Client::builder(TokioExecutor::new()).build_http());
///
/// let request = http::Request::get("http://api.example.com/").body(Full::<bytes::Bytes>::default())?;
/// let response = client.ready().await?.call(request).await?;
/// # let _ = response;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RateLimitRetryLayer<M = Identity, R = RetryNone> {
    config: Arc<Config>,
    limiter: Arc<Limiter>,
    map_body: M,
    retry_error: R,
}

impl RateLimitRetryLayer {
    /// A layer with the defaults, and with nothing known of any server.
    pub fn new() -> Self {
        Self {
            config: Arc::new(Config::default()),
            limiter: Arc::default(),
            map_body: Identity,
            retry_error: RetryNone,
        }
    }
}

impl Default for RateLimitRetryLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<M, R> RateLimitRetryLayer<M, R> {
    /// Whether the layer does anything at all; `false` keeps the types and passes everything
    /// through.
    ///
    /// Default: `true`.
    pub fn enabled(self, enabled: bool) -> Self {
        self.with(|config| config.enabled = enabled)
    }

    /// How often a refused request is sent again at the most; what [`retry_if`](Self::retry_if) and
    /// [`retry_error`](Self::retry_error) add counts as well. Zero: a refusal is given back, and
    /// still holds back all others of its quota.
    ///
    /// Where many calls wait for a server that has served nobody for longer than
    /// [`max_delay`](Self::max_delay), all its refusals in a row count for each of them, those of a burst
    /// as one: each call that is sent and refused is given back when there have been more than this, and
    /// not each of them asks as often.
    ///
    /// Default: 60. With one queue in front of the server a second refusal of the same request is
    /// rare; but where several processes share a small quota, which of them is admitted is chance, and
    /// who has just been admitted is the most likely to be again. Waiting in a queue costs next to
    /// nothing: who cannot wait for so long sets a [`deadline`](Self::deadline). Refusals that give no
    /// hint outlast it after some half an hour.
    pub fn max_retries(self, max_retries: u32) -> Self {
        self.with(|config| config.policy.max_retries = max_retries)
    }

    /// The longest single wait that is sat out. A refusal that asks for more is given back as soon
    /// as it has been read (in 250 ms at most), never retried early; and so long as the partition is
    /// closed for longer, other calls are answered locally at once.
    ///
    /// Default: 5 minutes. Limits by the minute and small buckets reopen within three; whether to
    /// sit out an hour or a day is for the program to say.
    pub fn max_delay(self, max_delay: Duration) -> Self {
        self.with(|config| config.policy.max_delay = max_delay)
    }

    /// How long after `call` the last attempt may start. A call that cannot be sent by then ends as
    /// soon as that is known: with the server's refusal if there was one, else with a local 429.
    ///
    /// An attempt that has started is not cut short: that is for a timeout layer below (one
    /// attempt) or above (the whole). Default: none.
    /// [`RequestOptions::deadline`](crate::RequestOptions::deadline) sets it for one request.
    pub fn deadline(self, deadline: Duration) -> Self {
        self.with(|config| config.deadline = Some(deadline))
    }

    /// How many calls may wait in each partition; one more is answered locally with a 429. Zero: no
    /// new call waits, but those that were refused and are to be sent again still do.
    ///
    /// Default: 10,000. Each waiting call keeps its request, of whose body up to
    /// [`max_replay`](Self::max_replay), and up to 64 KiB of its last refusal: where bodies are large,
    /// let fewer wait.
    pub fn max_waiting(self, max_waiting: usize) -> Self {
        self.with(|config| config.max_waiting = max_waiting)
    }

    /// How many partitions are remembered. When one more is met, one to which no call belongs is
    /// forgotten: rather one of which nothing is known that still matters, then one that is not
    /// paused, and of several the one that was used the longest time ago. Those to which calls belong
    /// stay, however many they are; and while fewer than an eighth of all can be forgotten without a
    /// loss, there may be an eighth too many. Zero: hardly any is remembered for longer than its
    /// calls.
    ///
    /// Default: 10,000, which take about 19 MB. More are for gateways, where more credentials than
    /// that are in use within minutes.
    pub fn max_partitions(self, max_partitions: usize) -> Self {
        self.with(|config| config.max_partitions = max_partitions)
    }

    /// The delay after a refusal without a hint: `initial` after the first, half as long again after each one
    /// that follows in the same partition, up to `max`. Most limits count by a second, ten, a minute or
    /// an hour: where the delay would pass the end of one of these, counted from the first of the
    /// refusals in a row, it is shortened to there, but never below `initial`; of a request that is
    /// refused while others are served, it is not. A random share of up to a quarter is added.
    ///
    /// Default: 500 ms to 30 s, so that a dozen retries outlast the minute that most limits are counted
    /// by.
    ///
    /// # Errors
    ///
    /// If `initial` is zero, or `max` is less.
    pub fn backoff(self, initial: Duration, max: Duration) -> Result<Self, ConfigError> {
        let backoff = Backoff::new(initial, max)?;
        Ok(self.with(|config| config.policy.backoff = backoff))
    }

    /// How many bytes of a request's body are kept so that it can be sent again. A larger one is
    /// sent once, and its answer comes back as it is.
    ///
    /// Default: 1 MiB, more than any prompt, less than an upload. Bodies of bytes that are known
    /// before they are sent are shared and not copied.
    pub fn max_replay(self, bytes: usize) -> Self {
        self.with(|config| config.max_replay = bytes)
    }

    /// Whether the bodies of successes are read as well, for APIs that refuse with a status of 200:
    /// `GraphQL`, Slack, JSON-RPC. Read are those that are JSON, XML or of no stated type and not
    /// compressed, up to 64 KiB and 250 ms; and they are given back whole.
    ///
    /// Default: `false`. A success passes through untouched; with `true` its head comes as late as
    /// its body, within those bounds.
    pub fn read_success_bodies(self, read: bool) -> Self {
        self.with(|config| config.read_success_bodies = read)
    }

    /// Which responses that are no refusals are retried as well, by their heads: such as a 502 of a
    /// gateway. Refusals keep their own rules. The last use counts.
    ///
    /// Such a response is a *failure*. It does not say that nothing was done, nor when to come back,
    /// and it concerns its call alone:
    ///
    /// - Only idempotent methods ([RFC 9110, section 9.2.2][idempotent]) and requests with an
    ///   `Idempotency-Key` are sent again, and only if their body can be.
    /// - The call waits for a [`backoff`](Self::backoff) that grows with its own failures, and for a
    ///   `Retry-After` if that is longer; nobody else is held back. Then it has its old place in the
    ///   queue. While it waits it holds nothing: the response is read like a refusal, up to 64 KiB and
    ///   250 ms, and its rest is dropped.
    /// - [`max_retries`](Self::max_retries), [`max_delay`](Self::max_delay) and
    ///   [`deadline`](Self::deadline) count refusals and failures together.
    /// - What a broken server has to bear is bounded by a budget of each partition: a fifth of the
    ///   first attempts in the last ten seconds or so, and ten per second besides, of which a hundred
    ///   are saved up; the numbers of `tower::retry::budget` and of Finagle.
    ///
    /// A failure that is not retried comes back untouched, and with a
    /// [`RetryReport`](crate::RetryReport) that says why. One whose body was larger than 64 KiB or took
    /// longer than 250 ms is not kept while the call waits: if the call then cannot be sent again in the
    /// time it has, it ends with a local 429 that names the status of the failure.
    ///
    /// Default: none.
    ///
    /// ```
    /// use tower_rate_limit_retry::RateLimitRetryLayer;
    ///
    /// let layer = RateLimitRetryLayer::new()
    ///     .retry_if(|head| matches!(head.status.as_u16(), 502..=504));
    /// # let _ = layer;
    /// ```
    ///
    /// [idempotent]: https://www.rfc-editor.org/rfc/rfc9110.html#section-9.2.2
    pub fn retry_if(self, f: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        self.with(|config| {
            config.retry_if = Some(Arc::new(f));
            config.retries_failures = true;
        })
    }

    /// Which errors of the inner service are retried: such as a connection that could not be made.
    /// The rules are those of [`retry_if`](Self::retry_if), and the budget is the same. The last use
    /// counts.
    ///
    /// The function takes a reference to the error type of the inner service, which a closure has to
    /// name: `|error: &reqwest::Error|` under `reqwest`, `|error: &reqwest_middleware::Error|` in a
    /// chain of `reqwest-middleware`. An error that is not retried, or not any more, is given back as it
    /// is; and so is one after which the call could not be sent again in the time it has. One of
    /// [`poll_ready`](tower_service::Service::poll_ready) is never retried: a service that has failed
    /// so is not to be used again.
    ///
    /// Default: none.
    ///
    /// ```
    /// use http_body_util::Full;
    /// use hyper_util::{client::legacy::{Client, Error}, rt::TokioExecutor};
    /// use tower::ServiceBuilder;
    /// use tower_rate_limit_retry::RateLimitRetryLayer;
    ///
    /// let client = ServiceBuilder::new()
    ///     .layer(RateLimitRetryLayer::new().retry_error(|error: &Error| error.is_connect()))
    ///     .service(Client::builder(TokioExecutor::new()).build_http());
    /// # async fn example<S>(client: S) where S: tower::Service<http::Request<Full<bytes::Bytes>>> {}
    /// # let _ = example(client);
    /// ```
    pub fn retry_error<F, E>(self, f: F) -> RateLimitRetryLayer<M, RetryFn<F>>
    where
        F: Fn(&E) -> bool,
    {
        let layer = self.with(|config| config.retries_failures = true);
        RateLimitRetryLayer {
            config: layer.config,
            limiter: layer.limiter,
            map_body: layer.map_body,
            retry_error: RetryFn::new(f),
        }
    }

    /// A limit that the server is known to have: it is kept from the first request on. Each use adds
    /// one, each partition has an account of its own of each, and the strictest holds.
    ///
    /// Default: none; what the server says is all that is known of it. A partition keeps the quotas
    /// of the layer by which it was first met: declare them before the layer is cloned.
    pub fn quota(self, quota: Quota) -> Self {
        self.with(|config| config.quotas.push(quota))
    }

    /// Which quota a request counts against.
    ///
    /// Default: [`partition::by_credential`](crate::partition::by_credential).
    pub fn partition_by(
        self,
        partition: impl Fn(&Request<'_>) -> Partition + Send + Sync + 'static,
    ) -> Self {
        self.with(|config| config.partition_by = Some(Arc::new(partition)))
    }

    /// Functions to be told of what happens: retries, pauses, limits, and that most of a limit is in use.
    /// Each use adds one.
    ///
    /// Default: none, and then it costs nothing. A call tells the observers of the layer by which it was
    /// made. What concerns all calls, such as a pause, is told to those of the layer by which the
    /// partition was first met: add them before the layer is cloned or used.
    pub fn observer(self, observer: impl Observer + 'static) -> Self {
        self.with(|config| Arc::make_mut(&mut config.observers).add(observer))
    }

    /// How much of a limit must be in use for [`Observer::usage_high`] to be called, from 0.0 to 1.0.
    ///
    /// Default: 0.8, which leaves a fifth as a warning.
    ///
    /// # Errors
    ///
    /// If it is not above zero, or above one.
    pub fn usage_threshold_ratio(self, ratio: f64) -> Result<Self, ConfigError> {
        if !(ratio > 0.0 && ratio <= 1.0) {
            return Err(ConfigError::usage_threshold());
        }
        Ok(self.with(|config| {
            Arc::make_mut(&mut config.observers).usage_threshold_ratio = ratio;
        }))
    }

    /// A handle by which the program tells what it knows of its limits, while the layer is in use.
    /// It belongs to the state that the layer, its clones and their services share.
    pub fn limits(&self) -> Limits {
        Limits::new(Arc::clone(&self.limiter), Arc::clone(&self.config))
    }

    /// Turns the body of each attempt into the type that the inner service takes, for services that
    /// take only one.
    ///
    /// ```
    /// use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
    /// use tower_rate_limit_retry::{BoxError, RateLimitRetryLayer, ReplayBody};
    ///
    /// let layer = RateLimitRetryLayer::new()
    ///     .map_body(|body: ReplayBody<Full<bytes::Bytes>>| UnsyncBoxBody::<bytes::Bytes, BoxError>::new(body));
    /// # let _ = layer;
    /// ```
    pub fn map_body<F>(self, f: F) -> RateLimitRetryLayer<MapFn<F>, R> {
        RateLimitRetryLayer {
            config: self.config,
            limiter: self.limiter,
            map_body: MapFn::new(f),
            retry_error: self.retry_error,
        }
    }

    fn with(mut self, set: impl FnOnce(&mut Config)) -> Self {
        set(Arc::make_mut(&mut self.config));
        self
    }
}

impl<S, M: Clone, R: Clone> Layer<S> for RateLimitRetryLayer<M, R> {
    type Service = RateLimitRetry<S, M, R>;

    fn layer(&self, inner: S) -> Self::Service {
        RateLimitRetry::new(
            inner,
            Arc::clone(&self.config),
            Arc::clone(&self.limiter),
            self.map_body.clone(),
            self.retry_error.clone(),
        )
    }
}

impl<M, R> fmt::Debug for RateLimitRetryLayer<M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitRetryLayer")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
