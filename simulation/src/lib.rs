//! Simulated rate-limited APIs.
