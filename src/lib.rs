//! A Tower layer for rate-limit-aware retries.
#![allow(dead_code, unused_imports)]

mod body;
mod error;
mod options;
pub mod partition;
mod payload;
mod quota;
mod report;
mod retry;
pub mod signal;

pub use body::{BoxError, Identity, MapBody, MapFn, ReplayBody, ResponseBody};
pub use error::{ConfigError, ConfigErrorKind};
pub use options::RequestOptions;
pub use partition::Partition;
pub use report::{Attempt, RetryReport, StopReason};
