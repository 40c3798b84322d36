//! Which errors of the inner service are retried.

use std::fmt;

/// Tells which errors of the inner service are retried; see
/// [`retry_error`](crate::RateLimitRetryLayer::retry_error).
///
/// None is by default: that is [`RetryNone`]. With a function it is [`RetryFn`]. The trait is there
/// to be named in the bounds of code that is generic over layers.
///
/// # Examples
///
/// ```
/// use std::io;
/// use tower_rate_limit_retry::{ClassifyError, RetryNone};
///
/// let error = io::Error::from(io::ErrorKind::ConnectionRefused);
/// assert!(!RetryNone.is_retryable(&error));
/// ```
pub trait ClassifyError<E> {
    /// Whether the request of an attempt that has failed with this error may be sent again.
    fn is_retryable(&self, error: &E) -> bool;
}

/// Retries no error.
#[derive(Clone, Copy, Debug, Default)]
pub struct RetryNone;

impl<E> ClassifyError<E> for RetryNone {
    fn is_retryable(&self, _: &E) -> bool {
        false
    }
}

/// Retries the errors that a function names.
#[derive(Clone, Copy)]
pub struct RetryFn<F>(F);

impl<F> RetryFn<F> {
    pub(crate) fn new(f: F) -> Self {
        Self(f)
    }
}

impl<E, F> ClassifyError<E> for RetryFn<F>
where
    F: Fn(&E) -> bool,
{
    fn is_retryable(&self, error: &E) -> bool {
        (self.0)(error)
    }
}

impl<F> fmt::Debug for RetryFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryFn").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_names_what_is_retried() {
        let empty = RetryFn::new(String::is_empty);
        assert!(empty.is_retryable(&String::new()));
        assert!(!empty.is_retryable(&"word".to_owned()));
        assert_eq!(format!("{empty:?}"), "RetryFn { .. }");
    }
}
