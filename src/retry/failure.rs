//! What to do about a failure: an attempt that the server answered with something else than a
//! refusal, or the inner service with an error, and that the user wants to be retried.
//!
//! A refusal says that nothing was done and when to come back, and concerns all. A failure says
//! neither, and so concerns its call alone: no other is held back for it. The call backs off by its
//! own failures, for as long as the server asked if it did, and only where doing the work twice does
//! no harm.

use super::{Another, Decision, Policy};
use crate::{report::StopReason, signal::Signal};
use http::{HeaderMap, Method};
use std::time::Duration;

/// All that the decision depends on.
#[derive(Debug)]
pub(crate) struct Failure<'a> {
    /// What the server said; nothing, if it is an error.
    pub(crate) signal: &'a Signal,
    /// Which attempt failed, counted from 1.
    pub(crate) attempt: u32,
    /// How many attempts of this call have failed, this one included.
    pub(crate) failures: u32,
    /// From 0.0 to 1.0; the random share of the backoff.
    pub(crate) random_ratio: f64,
    /// Whether every byte of the request's body is still to be had.
    pub(crate) can_replay: bool,
    /// Whether doing the work twice does no harm.
    pub(crate) is_repeatable: bool,
    /// The time until the deadline, if there is one.
    pub(crate) time_left: Option<Duration>,
}

impl Policy {
    /// What to do about a failure; nobody else is held back in any case.
    pub(crate) fn decide_failure(&self, failure: &Failure<'_>) -> Decision {
        let delay = self.backoff.delay(failure.failures, failure.random_ratio);
        let delay = delay
            .min(self.max_delay)
            .max(failure.signal.wait().unwrap_or_default());
        let stopped = if failure.signal.is_terminal() {
            Some(StopReason::NotRetryable)
        } else {
            self.forbids(&Another {
                delay,
                attempt: failure.attempt,
                can_replay: failure.can_replay,
                is_repeatable: failure.is_repeatable,
                time_left: failure.time_left,
            })
        };
        match stopped {
            Some(reason) => Decision::Return {
                reason,
                delay: None,
            },
            None => Decision::Retry { delay },
        }
    }
}

/// Whether doing the work of a request twice does no harm: its method is idempotent (RFC 9110,
/// section 9.2.2), or the server can tell by its key that it is the same request.
pub(crate) fn is_idempotent(method: &Method, headers: &HeaderMap) -> bool {
    method.is_idempotent() || headers.contains_key("idempotency-key")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{retry::Backoff, signal};
    use http::{HeaderName, HeaderValue, StatusCode};
    use std::time::SystemTime;

    const POLICY: Policy = Policy {
        max_retries: 3,
        max_delay: Duration::from_secs(60),
        backoff: Backoff::DEFAULT,
    };

    fn signal(name: &'static str, value: &'static str) -> Signal {
        let field = (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
        let headers = HeaderMap::from_iter([field]);
        signal::read(StatusCode::BAD_GATEWAY, &headers, None, SystemTime::now())
    }

    fn failure(signal: &Signal) -> Failure<'_> {
        Failure {
            signal,
            attempt: 1,
            failures: 1,
            random_ratio: 0.0,
            can_replay: true,
            is_repeatable: true,
            time_left: None,
        }
    }

    fn reason(failure: &Failure<'_>) -> Option<StopReason> {
        match POLICY.decide_failure(failure) {
            Decision::Return { reason, delay } => {
                assert_eq!(delay, None, "nobody else is held back");
                Some(reason)
            }
            Decision::Retry { .. } => None,
        }
    }

    #[test]
    fn each_limit_ends_it_exactly_where_it_says() {
        let none = Signal::default();
        let base = || failure(&none);
        let attempt = |attempt| Failure { attempt, ..base() };
        let left = |millis| Failure {
            time_left: Some(Duration::from_millis(millis)),
            ..base()
        };
        assert_eq!(reason(&attempt(3)), None);
        assert_eq!(reason(&attempt(4)), Some(StopReason::MaxRetries));
        assert_eq!(reason(&left(501)), None);
        assert_eq!(reason(&left(500)), Some(StopReason::Deadline));
        assert_eq!(reason(&failure(&signal("retry-after", "60"))), None);
        let long = signal("retry-after", "61");
        assert_eq!(reason(&failure(&long)), Some(StopReason::MaxDelay));
        let never = signal("x-should-retry", "false");
        assert_eq!(reason(&failure(&never)), Some(StopReason::NotRetryable));
        let not_replayable = Failure {
            can_replay: false,
            ..base()
        };
        assert_eq!(reason(&not_replayable), Some(StopReason::BodyNotReplayable));
        let not_repeatable = Failure {
            is_repeatable: false,
            ..base()
        };
        assert_eq!(reason(&not_repeatable), Some(StopReason::NotIdempotent));
    }

    #[test]
    fn backs_off_by_its_own_failures_and_never_less_than_was_asked() {
        let delay = |signal: &Signal, failures| {
            let failure = Failure {
                failures,
                ..failure(signal)
            };
            match POLICY.decide_failure(&failure) {
                Decision::Retry { delay } => delay.as_millis(),
                Decision::Return { .. } => unreachable!("nothing limits it"),
            }
        };
        let none = Signal::default();
        assert_eq!(
            [1, 2, 3, 30].map(|n| delay(&none, n)),
            [500, 750, 1_125, 30_000]
        );
        let two = signal("retry-after", "2");
        assert_eq!([1, 2, 30].map(|n| delay(&two, n)), [2_000, 2_000, 30_000]);
    }

    #[test]
    fn idempotent_are_methods_that_say_so_and_requests_with_a_key() {
        let none = HeaderMap::new();
        let key = [(
            HeaderName::from_static("idempotency-key"),
            HeaderValue::from_static("1"),
        )];
        let key = HeaderMap::from_iter(key);
        for method in [
            Method::GET,
            Method::HEAD,
            Method::OPTIONS,
            Method::TRACE,
            Method::PUT,
            Method::DELETE,
        ] {
            assert!(is_idempotent(&method, &none), "{method}");
        }
        for method in [Method::POST, Method::PATCH, Method::CONNECT] {
            assert!(!is_idempotent(&method, &none), "{method}");
            assert!(is_idempotent(&method, &key), "{method}");
        }
    }
}
