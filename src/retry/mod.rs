//! Whether a request that was refused or has failed is sent again, and after which delay: pure rules
//! that see every refusal and every failure.

mod backoff;
mod budget;
mod classify;
mod failure;

pub(crate) use backoff::Backoff;
pub(crate) use budget::Budget;
pub use classify::{ClassifyError, RetryFn, RetryNone};
pub(crate) use failure::{Failure, is_idempotent};

use crate::{report::StopReason, signal::Signal};
use http::{HeaderMap, Method, StatusCode};
use std::time::Duration;

/// The floor below hints that have proved too short grows to this in the first [`TRUSTED`] refusals
/// in a row: a server that says "now" is asked once a second at most, and one whose hints are seconds
/// is taken at its word.
const MAX_FLOOR: Duration = Duration::from_secs(1);

/// With more refusals in a row than this a hint has proved to be wrong, and not only another client
/// to be faster: "1" from a gateway, whatever the limit.
const TRUSTED: u32 = 3;

/// The floor grows to this with more than [`TRUSTED`] refusals in a row, or to this part of the time
/// in which nothing was served, if that is longer: more would miss the end by too much.
const MAX_UNTRUSTED_FLOOR: Duration = Duration::from_secs(4);
const OUTAGE_PARTS: u32 = 8;

/// All that the decision depends on.
#[derive(Debug)]
pub(crate) struct Refusal<'a> {
    /// What the server said.
    pub(crate) signal: &'a Signal,
    /// Which attempt was refused, counted from 1.
    pub(crate) attempt: u32,
    /// How many times in a row the partition has refused, this time included; or this request, if it
    /// is singled out.
    pub(crate) refusals: u32,
    /// For how long the partition has served nobody; `None` if others are served, so that it is not
    /// the end of a window that has to be waited for.
    pub(crate) refused_for: Option<Duration>,
    /// The time in which quota for one request flows in, if that is known: earlier than that it
    /// makes no sense to ask again.
    pub(crate) interval: Option<Duration>,
    /// From 0.0 to 1.0; the random share of a backoff.
    pub(crate) random_ratio: f64,
    /// Whether every byte of the request's body is still to be had.
    pub(crate) can_replay: bool,
    /// Whether sending the request twice does no harm, should the server have done the work after
    /// all.
    pub(crate) is_repeatable: bool,
    /// Whether the request costs more than the whole limit, as the caller says.
    pub(crate) is_oversized: bool,
    /// The time until the deadline, if there is one.
    pub(crate) time_left: Option<Duration>,
}

/// What the user's limits say of another attempt.
#[derive(Debug)]
struct Another {
    delay: Duration,
    /// The number of the one before it.
    attempt: u32,
    can_replay: bool,
    is_repeatable: bool,
    time_left: Option<Duration>,
}

/// The limits that the user set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    pub(crate) max_retries: u32,
    pub(crate) max_delay: Duration,
    pub(crate) backoff: Backoff,
}

/// What to do with a refusal or a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Give it back. The partition is held back for `delay` all the same, unless the refusal
    /// concerns this request alone.
    Return {
        reason: StopReason,
        delay: Option<Duration>,
    },
    /// Send the request again after `delay`; before that nothing else goes either, unless it
    /// concerns this request alone.
    Retry { delay: Duration },
}

impl Decision {
    /// Why there is to be no other attempt, if so.
    pub(crate) fn stop_reason(self) -> Option<StopReason> {
        match self {
            Self::Return { reason, .. } => Some(reason),
            Self::Retry { .. } => None,
        }
    }
}

impl Policy {
    /// What to do with a refusal.
    pub(crate) fn decide(&self, refusal: &Refusal<'_>) -> Decision {
        if refusal.signal.is_terminal() || refusal.is_oversized {
            return Decision::Return {
                reason: StopReason::NotRetryable,
                delay: None,
            };
        }
        let delay = self.delay(refusal);
        let another = Another {
            delay,
            attempt: refusal.attempt,
            can_replay: refusal.can_replay,
            is_repeatable: refusal.is_repeatable,
            time_left: refusal.time_left,
        };
        match self.forbids(&another) {
            Some(reason) => Decision::Return {
                reason,
                delay: Some(delay),
            },
            None => Decision::Retry { delay },
        }
    }

    /// Why there is to be no other attempt, if so.
    fn forbids(&self, another: &Another) -> Option<StopReason> {
        let is_too_late = |left| another.delay >= left;
        if another.attempt > self.max_retries {
            Some(StopReason::MaxRetries)
        } else if !another.can_replay {
            Some(StopReason::BodyNotReplayable)
        } else if !another.is_repeatable {
            Some(StopReason::NotIdempotent)
        } else if another.delay > self.max_delay {
            Some(StopReason::MaxDelay)
        } else if another.time_left.is_some_and(is_too_late) {
            Some(StopReason::Deadline)
        } else {
            None
        }
    }

    /// As long as the server asked for; without a hint, or where hints have proved too short before,
    /// as long as the backoff says, which never exceeds the maximum.
    fn delay(&self, refusal: &Refusal<'_>) -> Duration {
        let backoff = match refusal.interval {
            Some(interval) => self.backoff.from(interval.max(SHORTEST)),
            None => self.backoff,
        };
        let ratio = refusal.random_ratio;
        match refusal.signal.wait() {
            Some(wait) if refusal.refusals > 1 => {
                let most = if refusal.refusals > TRUSTED {
                    MAX_UNTRUSTED_FLOOR.max(refusal.refused_for.unwrap_or_default() / OUTAGE_PARTS)
                } else {
                    MAX_FLOOR
                };
                let floor = backoff.delay(refusal.refusals - 1, ratio);
                wait.max(floor.min(most).min(self.max_delay))
            }
            Some(wait) => wait,
            None => {
                let delay = match refusal.refused_for {
                    Some(passed) => backoff.delay_for(refusal.refusals, passed, ratio),
                    None => backoff.delay(refusal.refusals, ratio),
                };
                delay.min(self.max_delay)
            }
        }
    }
}

/// A backoff begins at this at the least: a dozen retries then outlast ten seconds.
const SHORTEST: Duration = Duration::from_millis(100);

/// Whether a request may be sent again after this refusal without doing its work twice.
///
/// 429 and its kin say that the work was not done, and so do those that refuse with the status of a
/// success; so whatever the method, it can be sent again. A 5xx does not say so: it may come from a
/// gateway behind which the work goes on. 529 is a 429 of another name.
pub(crate) fn is_repeatable(status: StatusCode, method: &Method, headers: &HeaderMap) -> bool {
    let says_not_done = !status.is_server_error() || status.as_u16() == 529;
    says_not_done || is_idempotent(method, headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use std::time::SystemTime;

    const POLICY: Policy = Policy {
        max_retries: 3,
        max_delay: Duration::from_secs(60),
        backoff: Backoff::DEFAULT,
    };

    fn signal(retry_after: Option<&'static str>) -> Signal {
        let mut headers = HeaderMap::new();
        headers
            .extend(retry_after.map(|v| (http::header::RETRY_AFTER, HeaderValue::from_static(v))));
        crate::signal::read(
            StatusCode::TOO_MANY_REQUESTS,
            &headers,
            None,
            SystemTime::now(),
        )
    }

    fn refusal(signal: &Signal) -> Refusal<'_> {
        Refusal {
            signal,
            attempt: 1,
            refusals: 1,
            refused_for: Some(Duration::ZERO),
            interval: None,
            random_ratio: 0.0,
            can_replay: true,
            is_repeatable: true,
            is_oversized: false,
            time_left: None,
        }
    }

    fn reason(refusal: &Refusal<'_>) -> Option<StopReason> {
        POLICY.decide(refusal).stop_reason()
    }

    #[test]
    fn each_limit_ends_it_exactly_where_it_says() {
        let seven = signal(Some("7"));
        let base = || refusal(&seven);
        let left = |seconds| Refusal {
            time_left: Some(Duration::from_secs(seconds)),
            ..base()
        };
        assert_eq!(reason(&base()), None);
        assert_eq!(
            reason(&Refusal {
                attempt: 3,
                ..base()
            }),
            None
        );
        assert_eq!(
            reason(&Refusal {
                attempt: 4,
                ..base()
            }),
            Some(StopReason::MaxRetries)
        );
        assert_eq!(reason(&left(8)), None);
        assert_eq!(reason(&left(7)), Some(StopReason::Deadline));
        assert_eq!(reason(&refusal(&signal(Some("60")))), None);
        assert_eq!(
            reason(&refusal(&signal(Some("61")))),
            Some(StopReason::MaxDelay)
        );
        let not_replayable = Refusal {
            can_replay: false,
            ..base()
        };
        assert_eq!(reason(&not_replayable), Some(StopReason::BodyNotReplayable));
        let not_repeatable = Refusal {
            is_repeatable: false,
            ..base()
        };
        assert_eq!(reason(&not_repeatable), Some(StopReason::NotIdempotent));
    }

    #[test]
    fn what_is_given_back_holds_back_the_others_unless_it_concerns_nobody_else() {
        let seven = signal(Some("7"));
        let used_up = POLICY.decide(&Refusal {
            attempt: 9,
            ..refusal(&seven)
        });
        let delay = Some(Duration::from_secs(7));
        assert_eq!(
            used_up,
            Decision::Return {
                reason: StopReason::MaxRetries,
                delay
            }
        );
        let oversized = POLICY.decide(&Refusal {
            is_oversized: true,
            ..refusal(&seven)
        });
        let reason = StopReason::NotRetryable;
        assert_eq!(
            oversized,
            Decision::Return {
                reason,
                delay: None
            }
        );
    }

    #[test]
    fn a_server_that_has_refused_for_long_is_asked_once_in_an_eighth_of_that_time() {
        let delay = |retry_after, minutes| {
            let signal = signal(retry_after);
            POLICY.delay(&Refusal {
                refusals: 100,
                refused_for: Some(Duration::from_secs(60) * minutes),
                ..refusal(&signal)
            })
        };
        let seconds = Duration::from_secs;
        assert_eq!(delay(Some("1"), 0), seconds(4));
        assert_eq!(delay(Some("1"), 1), seconds(60) / 8);
        assert_eq!(
            delay(Some("1"), 4),
            Backoff::DEFAULT.delay(100, 0.0),
            "and at most so"
        );
        assert_eq!(delay(Some("50"), 1), seconds(50));
    }

    #[test]
    fn one_that_is_singled_out_waits_for_the_end_of_no_window() {
        let signal = signal(None);
        let delay = |is_singled_out: bool| {
            let refusal = Refusal {
                refusals: 7,
                refused_for: (!is_singled_out).then_some(Duration::from_millis(50)),
                ..refusal(&signal)
            };
            match POLICY.decide(&refusal) {
                Decision::Retry { delay } => delay.as_millis(),
                Decision::Return { .. } => unreachable!("nothing limits it"),
            }
        };
        assert_eq!(delay(false), 950, "a second since the first refusal");
        assert_eq!(delay(true), 5_695, "half as long again after each");
    }

    #[test]
    fn a_hint_is_taken_at_its_word_and_one_of_nothing_only_once() {
        let delay = |retry_after, refusals| {
            let signal = signal(retry_after);
            match POLICY.decide(&Refusal {
                refusals,
                refused_for: Some(Duration::from_secs(12)),
                ..refusal(&signal)
            }) {
                Decision::Retry { delay } => delay.as_millis(),
                Decision::Return { .. } => unreachable!("nothing limits it"),
            }
        };
        assert_eq!(
            [1, 2, 3, 9].map(|row| delay(Some("0"), row)),
            [0, 500, 750, 4_000]
        );
        assert_eq!(
            [1, 2, 3, 9].map(|row| delay(Some("0.7"), row)),
            [700, 700, 750, 4_000]
        );
        assert_eq!([1, 2, 3, 9].map(|row| delay(Some("7"), row)), [7_000; 4]);
        assert_eq!(
            [3, 5, 6, 7, 9].map(|row| delay(Some("1"), row)),
            [1_000, 1_687, 2_531, 3_796, 4_000],
            "one that is wrong again and again"
        );
        assert_eq!(
            [1, 2, 3, 9].map(|row| delay(None, row)),
            [500, 750, 1_125, 12_814]
        );
    }

    #[test]
    fn only_a_5xx_leaves_open_whether_the_work_was_done() {
        let harmless = |status, method, headers: &HeaderMap| {
            is_repeatable(StatusCode::from_u16(status).unwrap(), &method, headers)
        };
        let none = HeaderMap::new();
        let mut key = HeaderMap::new();
        key.insert("idempotency-key", HeaderValue::from_static("1"));
        for status in [403, 413, 429, 529] {
            assert!(harmless(status, Method::POST, &none), "{status}");
        }
        for status in [500, 503] {
            assert!(!harmless(status, Method::POST, &none), "{status}");
            assert!(harmless(status, Method::POST, &key), "{status}");
            assert!(harmless(status, Method::PUT, &none), "{status}");
        }
    }
}
