//! What libFuzzer comes up with; in this directory, with cargo-fuzz:
//!
//! ```sh
//! cargo run -- --corpus corpus/response
//! cargo +nightly fuzz run --fuzz-dir . --features libfuzzer response
//! ```
#![no_main]

#[path = "../../tests/mutated/response.rs"]
#[allow(dead_code, reason = "libFuzzer has mutations of its own")]
mod response;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| response::check(bytes));
