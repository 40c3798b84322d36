//! A Tower layer that makes any HTTP client a good citizen of a rate-limited API.
//!
//! [`RateLimitRetryLayer`] reads what a server says about its limits, holds *all* callers of a quota
//! back together, sends a refused request again when the server will say yes, and gives the answer
//! back as it came.
//!
//! ```
//! use std::convert::Infallible;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//! use tower_rate_limit_retry::{Attempt, RateLimitRetryLayer, ReplayBody, RetryReport};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()
//! # .unwrap().block_on(async {
//! // Stands for an HTTP client: refuses the first attempt, and serves the second.
//! let api = service_fn(async |request: Request<ReplayBody<Full<bytes::Bytes>>>| {
//!     let response = match request.extensions().get::<Attempt>() {
//!         None => Response::builder().status(429).header("retry-after", "2"),
//!         Some(_) => Response::builder(),
//!     };
//!     Ok::<_, Infallible>(response.body(Full::<bytes::Bytes>::from("hello")).unwrap())
//! });
//!
//! let mut client = ServiceBuilder::new()
//!     .layer(RateLimitRetryLayer::new())
//!     .concurrency_limit(16)
//!     .service(api);
//!
//! let request = Request::post("http://api.example.com/").body(Full::from("hi")).unwrap();
//! let response = client.ready().await.unwrap().call(request).await.unwrap();
//!
//! assert_eq!(response.status(), 200);
//! let report = response.extensions().get::<RetryReport>().unwrap();
//! assert_eq!((report.attempts(), report.waited().as_secs()), (2, 2));
//! # });
//! ```
//!
//! # When the next attempt is sent
//!
//! The way of a request: the partition it belongs to → its turn in that partition's queue → the
//! readiness of the inner service → the attempt → its answer. An answer is read twice: its head says
//! at once whether the partition is held back ([`signal`]), and the body of a refusal says what it
//! means; so does that of an error that may prove to be one ([`signal::might_refuse`]). Reading
//! takes at most 64 KiB and 250 ms, and what is given back is given back whole. If the request is to
//! be sent again, it goes back to its old place in the queue. (One that was refused three times in a
//! row lets another one find out whether the server has opened again: a request that no server would
//! take does not block those behind it.)
//!
//! What [`retry_if`](RateLimitRetryLayer::retry_if) and
//! [`retry_error`](RateLimitRetryLayer::retry_error) name as failures concerns their call alone: it
//! backs off by itself, within a budget of retries, and then has its old place.
//!
//! A turn comes when nobody older waits and the partition is open:
//!
//! - A refusal closes the partition for as long as the server asks; without a hint, for a backoff
//!   that grows by half with each refusal in a row. When that is over one request goes, and with each
//!   that proves to be admitted one more: because it was served, or because it was not refused in the
//!   time that refusals take.
//! - Where answers announce a bucket (a limit, what remains, and the time until it is full again, as
//!   [OpenAI] has it), a request goes when what it costs has flowed in. Where they announce a window
//!   (what remains of it, and when it ends), it goes while something remains, or when the next one
//!   begins; if others use the window too, by the share that was ours.
//! - Where nothing is announced, a first burst opens by an eighth with each request that is served;
//!   as long as no answer has come at all it doubles every 100 ms. Refusals then teach the rate, or
//!   how many may be in flight; requests are paced by that, and from time to time one more is tried.
//!   A request is in flight until the body of its answer has ended or was dropped. One that is short,
//!   and says so, does not count once its head has come; nor one that has been out for four times as
//!   long as the long ones take (for ten seconds at least), for nobody seems to read it.
//! - Where the program declares a [`Quota`], it is kept from the first request on.
//!
//! # Placement
//!
//! A concurrency limit *below* the layer is free for others while a call waits; one *above* holds its
//! permit through all waits, on purpose. A timeout below bounds each attempt, one above the whole
//! call. A buffer belongs above: what it has queued below would be sent after a pause has begun.
//!
//! The state that calls share lives in the layer: its clones, and all services made from it, share
//! it. [`hosts`] goes through clients and other layers one by one; [`contract`] through what Tower asks
//! of a service.
//!
//! # Why a request waits
//!
//! [`Limits::snapshot`] shows what is known and what holds callers back, live; [`waiting`] goes from
//! what is seen there, and in logs, to what it means and what to do about it.
//!
//! # Features
//!
//! None by default. With `metrics`, `MetricsObserver` counts and measures through the facade of that
//! name ([`events`]). With `reqwest`, `RateLimitRetryLayer::new().reqwest(client)` is the layer over a
//! client of that crate; with `reqwest-middleware` the layer is a middleware of that one. Both work
//! with the Rust version that this crate asks for, and bring those crates without their default
//! features.
//!
//! [OpenAI]: https://platform.openai.com/docs/guides/rate-limits

#![cfg_attr(docsrs, feature(doc_cfg))]

mod answer;
mod body;
mod call;
mod config;
mod error;
mod future;
mod layer;
mod limiter;
mod limits;
#[cfg(feature = "metrics")]
mod metrics;
mod observe;
mod observer;
mod options;
pub mod partition;
mod payload;
mod quota;
mod refusal;
mod report;
#[cfg(feature = "reqwest")]
mod reqwest;
#[cfg(feature = "reqwest-middleware")]
mod reqwest_middleware;
mod retry;
mod service;
pub mod signal;
mod snapshot;
mod timer;

#[cfg(feature = "metrics")]
pub use self::metrics::MetricsObserver;
#[cfg(feature = "reqwest")]
pub use self::reqwest::{ReqwestClient, ReqwestClientFuture, ReqwestService, ReqwestServiceFuture};
#[cfg(feature = "reqwest-middleware")]
pub use self::reqwest_middleware::{NextService, TowerMiddleware};
pub use body::{BoxError, Identity, MapBody, MapFn, ReplayBody, ResponseBody};
pub use error::{ConfigError, ConfigErrorKind};
pub use future::ResponseFuture;
pub use layer::RateLimitRetryLayer;
pub use limits::Limits;
pub use observer::{
    GaveUp, LimitChanged, Observer, Paused, Resumed, RetryReason, RetryScheduled, UsageHigh,
    WaitEnded,
};
pub use options::RequestOptions;
pub use partition::Partition;
pub use quota::{Hold, Quota, RefusalCause};
pub use report::{Attempt, RetryReport, StopReason};
pub use retry::{ClassifyError, RetryFn, RetryNone};
pub use service::RateLimitRetry;
pub use snapshot::{DimensionSnapshot, PartitionSnapshot, PauseSnapshot, Snapshot, Source, Totals};

#[doc = include_str!("hosts.md")]
#[cfg_attr(
    not(feature = "reqwest-middleware"),
    allow(rustdoc::broken_intra_doc_links)
)]
pub mod hosts {}

#[doc = include_str!("contract.md")]
pub mod contract {}

#[doc = include_str!("waiting.md")]
pub mod waiting {}

#[doc = include_str!("events.md")]
#[cfg_attr(not(feature = "metrics"), allow(rustdoc::broken_intra_doc_links))]
pub mod events {}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
