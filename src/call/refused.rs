//! What a call does about its refusals.

use super::{Call, end::Why};
use crate::{
    BoxError,
    body::{MapBody, ReplayBody, ResponseBody},
    quota::{RefusalCause, Refused, after, exceeds_limit, is_due_to_size},
    refusal::{Last, READING_TIME},
    report::StopReason,
    retry::{self, ClassifyError, Decision, Policy},
    signal::Signal,
};
use http::{Response, StatusCode};
use http_body::Body;
use std::time::Duration;
use tokio::time::Instant;

/// How often in a row a request tries whether the server has opened again.
const MAX_PROBES: u32 = 3;

impl<M, R, B, ResB, E> Call<M, R, B, ResB, E>
where
    M: MapBody<ReplayBody<B>>,
    R: ClassifyError<E>,
    B: Body,
    B::Error: Into<BoxError>,
    ResB: Body,
{
    /// What has been read says what to do: the answer, if it is given back; `None` if the request
    /// is to be sent again.
    pub(crate) fn understand(&mut self) -> Option<Response<ResponseBody<ResB>>> {
        let Last::Unread(refusal) = self.last.take() else {
            unreachable!("a refusal is read before it is understood");
        };
        let (heard, status) = (refusal.heard, refusal.head().status);
        let signal = refusal.signal();
        if self.caller.is_in_flight() {
            let now = Instant::now();
            let head = refusal.head();
            if !self.scope().refuses(status, &head.headers, &signal) {
                return self.understand_failure(*refusal, &signal, now);
            }
            let until = after(now, READING_TIME);
            self.caller.refused(now, signal.limits(), until);
        }
        let mut decision = self.decide(status, &signal, heard.at);
        if let Decision::Retry { delay } = decision {
            // From here on no earlier attempt reads the request's body: what it read would be lost
            // to the next one.
            if !self.body.freeze() {
                let (reason, delay) = (StopReason::BodyNotReplayable, Some(delay));
                decision = Decision::Return { reason, delay };
            }
        }
        match decision {
            Decision::Return { reason, delay } => {
                let cause = self.hold_back(delay, &signal, heard.at);
                let mut response = refusal.into_response();
                self.give_back(&mut response, reason, Why::Refused(cause));
                Some(response)
            }
            Decision::Retry { delay } => {
                let cause = self.hold_back(Some(delay), &signal, heard.at);
                let is_pause = cause != RefusalCause::Request;
                // One that is refused again and again lets another find out whether it is the
                // server or this very request.
                let yields = is_pause && self.yields(heard.at, delay * 2);
                let rest = if yields { delay * 2 } else { delay };
                let resting = Some(after(heard.at, rest)).filter(|_| yields || !is_pause);
                self.caller.queue_again(heard.at, self.tokens(), resting);
                self.last = Last::of(*refusal);
                self.schedules_retry(rest, Some(status), Some(cause));
                None
            }
        }
    }

    /// Whether another call is to find out if the server has opened again, and this one goes after it.
    fn yields(&self, heard_at: Instant, rest: Duration) -> bool {
        let deadline = self.caller.deadline();
        let has_time = rest <= self.policy().max_delay
            && deadline.is_none_or(|deadline| after(heard_at, rest) < deadline);
        self.attempts > MAX_PROBES && has_time && self.caller.has_company()
    }

    /// Whether it is this very request that the server does not want, for it serves others.
    fn is_singled_out(&self) -> bool {
        self.attempts > MAX_PROBES && self.caller.is_passed_over()
    }

    pub(super) fn decide(
        &self,
        status: StatusCode,
        signal: &Signal,
        heard_at: Instant,
    ) -> Decision {
        let episode = self.caller.episode();
        let tokens = self.options().and_then(|options| options.tokens);
        let is_singled_out = self.is_singled_out();
        let refusals = if is_singled_out {
            episode.refusals.max(self.attempts)
        } else {
            episode.refusals
        };
        let policy = self.policy();
        let attempt = if episode.refused_for > policy.max_delay {
            // A server that serves nobody for longer than anybody would wait is not asked as often again
            // by each of those who do.
            self.attempts.max(episode.refusals)
        } else {
            self.attempts
        };
        policy.decide(&retry::Refusal {
            signal,
            attempt,
            refusals,
            refused_for: (!is_singled_out).then_some(episode.refused_for),
            interval: episode.interval,
            random_ratio: episode.random_ratio,
            can_replay: self.body.can_replay(),
            is_repeatable: retry::is_repeatable(status, &self.head.method, &self.head.headers),
            is_oversized: tokens.is_some_and(|tokens| {
                episode.exceeds_declared || exceeds_limit(signal.limits(), tokens)
            }),
            time_left: self.time_left(heard_at),
        })
    }

    /// The user's limits, as they are for this call.
    pub(super) fn policy(&self) -> Policy {
        let policy = self.config().policy;
        let max_retries = self.options().and_then(|options| options.max_retries);
        Policy {
            max_retries: max_retries.unwrap_or(policy.max_retries),
            ..policy
        }
    }

    pub(super) fn time_left(&self, now: Instant) -> Option<Duration> {
        let deadline = self.caller.deadline();
        deadline.map(|deadline| deadline.saturating_duration_since(now))
    }

    /// Tells the partition what the whole refusal means for all, and gives what it is put down to: the
    /// request itself, if it is no pause. One that is larger than what is left has to wait by itself:
    /// smaller ones have not.
    fn hold_back(
        &mut self,
        delay: Option<Duration>,
        signal: &Signal,
        heard_at: Instant,
    ) -> RefusalCause {
        let is_its_own =
            is_due_to_size(signal.limits(), self.caller.tokens()) || self.is_singled_out();
        let pause = delay.filter(|_| !is_its_own);
        let refused = pause.map(|delay| Refused {
            until: after(heard_at, delay),
            wait: signal.wait(),
        });
        let cause = self.caller.understood(Instant::now(), refused);
        cause.unwrap_or(RefusalCause::Request)
    }
}
