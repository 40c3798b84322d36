//! What a call does about its failures: what the user wants to be retried though no limit is the
//! reason.

use super::{Call, Heard, Then};
use crate::{
    BoxError,
    body::{MapBody, ReplayBody, ResponseBody},
    limiter::Lesson,
    observer::GaveUp,
    quota::{Hold, after},
    refusal::{Last, Refusal, answered_by_us},
    report::StopReason,
    retry::{ClassifyError, Decision, Failure, is_idempotent},
    signal::Signal,
};
use http::{Response, StatusCode};
use http_body::Body;
use std::{
    ops::ControlFlow::{Break, Continue},
    time::Duration,
};
use tokio::time::Instant;

impl<M, R, B, ResB, E> Call<M, R, B, ResB, E>
where
    M: MapBody<ReplayBody<B>>,
    R: ClassifyError<E>,
    B: Body,
    B::Error: Into<BoxError>,
    ResB: Body,
{
    /// What to do about a response that is no refusal, if the user calls it a failure.
    #[inline]
    pub(super) fn look_for_failure(
        &self,
        response: Response<ResB>,
        signal: &Signal,
        heard_at: Instant,
    ) -> (Response<ResB>, Option<Decision>) {
        let Some(retry_if) = &self.config().retry_if else {
            return (response, None);
        };
        let is_ours = answered_by_us(&response);
        let (head, body) = response.into_parts();
        let is_failure = !is_ours && retry_if(&head);
        let response = Response::from_parts(head, body);
        let failure = is_failure.then(|| self.decide_failure(signal, heard_at));
        (response, failure)
    }

    /// The response that was read is no refusal: the end of the call, unless it is a failure that is
    /// retried.
    pub(super) fn understand_failure(
        &mut self,
        response: Refusal<ResB>,
        signal: &Signal,
        now: Instant,
    ) -> Option<Response<ResponseBody<ResB>>> {
        let heard_at = response.heard.at;
        let mut stopped = None;
        if response.is_failure {
            match self.retry_failure(signal, heard_at) {
                Ok(delay) => {
                    let status = response.head().status;
                    let served = !status.is_server_error();
                    let lesson = if served {
                        Lesson::Served
                    } else {
                        Lesson::Nothing
                    };
                    self.caller.answered(now, signal.limits(), lesson);
                    self.last = Last::of(response);
                    self.rest(heard_at, delay, Some(status));
                    return None;
                }
                Err(reason) => stopped = Some(reason),
            }
        }
        let mut response = response.into_response();
        self.pass_on(&mut response, signal, now, stopped);
        Some(response)
    }

    /// The inner service has failed: the end of the call, unless that is retried.
    pub(super) fn hear_error(&mut self, error: E) -> Heard<ResB, E> {
        if !self.retry_error.is_retryable(&error) {
            return Break(Err(self.fail(error)));
        }
        let now = Instant::now();
        match self.retry_failure(&Signal::default(), now) {
            Ok(delay) => {
                self.caller.leave();
                self.last = Last::Error(Box::new(error));
                self.rest(now, delay, None);
                Continue(Then::Wait)
            }
            Err(reason) => Break(Err(self.give_back_error(error, reason, None))),
        }
    }

    /// An error that was to be retried is the end of the call all the same.
    pub(super) fn give_back_error(
        &mut self,
        error: E,
        reason: StopReason,
        held_by: Option<&Hold>,
    ) -> E {
        self.caller.count(|totals| totals.gave_back(reason));
        let error = self.fail(error);
        self.config().observers.gave_up(&GaveUp {
            held_by: held_by.cloned(),
            ..self.gives_up(reason, None)
        });
        error
    }

    fn decide_failure(&self, signal: &Signal, failed_at: Instant) -> Decision {
        let decision = self.policy().decide_failure(&Failure {
            signal,
            attempt: self.attempts,
            failures: self.failures.saturating_add(1),
            random_ratio: self.caller.random_ratio(),
            can_replay: self.body.can_replay(),
            is_repeatable: is_idempotent(&self.head.method, &self.head.headers),
            time_left: self.time_left(failed_at),
        });
        match decision {
            Decision::Retry { .. } if !self.caller.can_withdraw(failed_at) => Decision::Return {
                reason: StopReason::RetryBudget,
                delay: None,
            },
            decision => decision,
        }
    }

    /// How long the call backs off before it is sent again, paid for out of the budget; or why it is
    /// not.
    fn retry_failure(
        &mut self,
        signal: &Signal,
        failed_at: Instant,
    ) -> Result<Duration, StopReason> {
        let delay = match self.decide_failure(signal, failed_at) {
            Decision::Retry { delay } => delay,
            Decision::Return { reason, .. } => return Err(reason),
        };
        if !self.caller.withdraw(failed_at) {
            return Err(StopReason::RetryBudget);
        }
        // Last, as the attempt that has failed cannot send the rest of its body from here on.
        if !self.body.freeze() {
            self.caller.refund(failed_at);
            return Err(StopReason::BodyNotReplayable);
        }
        self.failures = self.failures.saturating_add(1);
        Ok(delay)
    }

    /// Beside the line for so long, so that nobody else is held back, and then in its old place.
    fn rest(&mut self, failed_at: Instant, delay: Duration, status: Option<StatusCode>) {
        let until = after(failed_at, delay);
        self.caller
            .queue_again(failed_at, self.tokens(), Some(until));
        self.schedules_retry(delay, status, None);
    }
}
