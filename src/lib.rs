//! A Tower layer for rate-limit-aware retries.

mod answer;
mod body;
mod call;
mod error;
mod future;
mod layer;
mod limiter;
mod observe;
mod options;
pub mod partition;
mod payload;
mod quota;
mod refusal;
mod report;
mod retry;
mod service;
pub mod signal;

pub use body::{BoxError, Identity, MapBody, MapFn, ReplayBody, ResponseBody};
pub use error::{ConfigError, ConfigErrorKind};
pub use future::ResponseFuture;
pub use layer::RateLimitRetryLayer;
pub use options::RequestOptions;
pub use partition::Partition;
pub use report::{Attempt, RetryReport, StopReason};
pub use service::RateLimitRetry;
