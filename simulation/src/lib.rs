//! Simulated rate-limited APIs, for the tests, examples and benches of
//! `tower-rate-limit-retry`.
//!
//! An API is a pure model, [`Api`]: its state, a request and the time give the
//! answer. [`Simulated`] shares one between callers and lets each success take
//! its time, on tokio's clock, which a test can pause.

mod bucket;
pub mod openai;
mod simulated;

pub use bucket::Bucket;
pub use openai::{Limits, OpenAi};
pub use simulated::{Api, Simulated};
