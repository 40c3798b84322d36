//! Simulated rate-limited APIs, for the tests, examples and benches of
//! `tower-rate-limit-retry`.

mod bucket;

pub use bucket::Bucket;
