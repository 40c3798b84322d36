//! A Tower layer for rate-limit-aware retries.

#[allow(dead_code, unused_imports)]
mod body;
pub mod signal;

pub use body::{BoxError, Identity, MapBody, MapFn, ReplayBody, ResponseBody};
