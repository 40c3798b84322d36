//! A Tower layer for rate-limit-aware retries.

pub mod signal;
