//! A world in one line.

use std::fmt;

use simulation::RetryAfter;

use super::draw::{Drawn, Kind};

/// All that is needed to understand what happens.
impl fmt::Display for Drawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.length().as_secs_f64();
        match self.kind {
            Kind::Bucket => write!(f, "bucket of {}, {:.2}/s", self.burst, self.rate)?,
            Kind::Window => write!(f, "window of {} in {length:.2} s", self.burst)?,
            Kind::Log => write!(f, "log of {} in {length:.2} s", self.burst)?,
            Kind::Concurrency => write!(f, "{} at a time", self.cap)?,
            Kind::RateAndConcurrency => write!(
                f,
                "{} at a time and bucket of {}, {:.2}/s",
                self.cap, self.burst, self.rate
            )?,
            Kind::Tokens {
                are_windows,
                median,
                ..
            } => write!(
                f,
                "{} of {} and {} tokens (median {median:.0}) in {length:.2} s",
                if are_windows { "windows" } else { "buckets" },
                self.burst,
                self.tokens(1.0)
            )?,
        }
        write!(
            f,
            "; round trip {:.0} ms, service {:.0} ms; ",
            self.round_trip * 1_000.0,
            self.service * 1_000.0
        )?;
        match self.retry_after {
            None => write!(f, "no Retry-After")?,
            Some(RetryAfter::Seconds(ratio)) => write!(f, "{ratio:.2} of Retry-After")?,
            Some(RetryAfter::Millis(ratio)) => write!(f, "{ratio:.2} of retry-after-ms")?,
            Some(RetryAfter::Both) => write!(f, "Retry-After and retry-after-ms")?,
            Some(RetryAfter::Date) => write!(f, "Retry-After: a date")?,
            Some(RetryAfter::Constant(seconds)) => write!(f, "always Retry-After: {seconds}")?,
        }
        if let Some(fields) = self.fields {
            write!(f, ", fields {fields:?} until {:?}", self.reset)?;
        }
        let keys: Vec<String> = self.keys.iter().map(|key| format!("{key:.2}")).collect();
        write!(
            f,
            "; processes: {}, keys: {}",
            self.processes,
            keys.join(" and ")
        )
    }
}
