//! How a call ends: what its caller is given, and what is counted and told of it.

use super::Call;
use crate::{
    BoxError, answer,
    body::{MapBody, ReplayBody, ResponseBody},
    limiter::{GivenUp, Lesson},
    observer::GaveUp,
    quota::{Hold, RefusalCause},
    refusal::{Last, Moment, answered_by_us},
    report::{RetryReport, StopReason},
    retry::ClassifyError,
    signal::Signal,
};
use http::{Response, StatusCode};
use http_body::Body;
use tokio::time::Instant;

/// Why an answer is given back.
pub(super) enum Why {
    /// It came before, and the call could not be sent again; and what holds it back, if anything else
    /// does.
    Held(Option<Hold>),
    /// It is a refusal.
    Refused(RefusalCause),
    /// It is a failure.
    Failed,
}

impl Why {
    fn held(given_up: &GivenUp) -> Self {
        Self::Held(given_up.hold.clone())
    }
}

impl<M, R, B, ResB, E> Call<M, R, B, ResB, E>
where
    M: MapBody<ReplayBody<B>>,
    R: ClassifyError<E>,
    B: Body,
    B::Error: Into<BoxError>,
    ResB: Body,
{
    /// The end of a call that could not be sent, or not again: the answer that came before, or one of
    /// our own.
    pub(crate) fn give_up(
        &mut self,
        given_up: &GivenUp,
    ) -> Result<Response<ResponseBody<ResB>>, E> {
        let now = Moment::now();
        self.caller.give_up(now.at);
        self.body.release();
        let refused = match self.last.take() {
            Last::Whole(refusal) => {
                let mut refusal = refusal.map(ResponseBody::from);
                self.give_back(&mut refusal, given_up.reason, Why::held(given_up));
                return Ok(refusal);
            }
            Last::Error(error) => {
                let hold = given_up.hold.as_ref();
                return Err(self.give_back_error(*error, given_up.reason, hold));
            }
            Last::Status(status) => Some(status),
            Last::Nothing | Last::Unread(_) => None,
        };
        self.caller.count(|totals| {
            totals.gave_back(given_up.reason);
            totals.answered_locally += 1;
        });
        let (partition, report) = (self.caller.gate().partition(), self.report());
        let answer = answer::too_many_requests(partition, given_up, refused, now, report);
        self.config().observers.gave_up(&GaveUp {
            held_by: given_up.hold.clone(),
            answered_locally: true,
            ..self.gives_up(given_up.reason, Some(answer.status()))
        });
        Ok(answer)
    }

    /// The answer is no refusal, and goes to the caller as it is; if it is a failure, for that reason.
    pub(super) fn pass_on(
        &mut self,
        response: &mut Response<ResponseBody<ResB>>,
        signal: &Signal,
        heard_at: Instant,
        stopped: Option<StopReason>,
    ) {
        if answered_by_us(response) {
            self.caller.leave();
        } else {
            let served = !response.status().is_server_error();
            let lesson = match served {
                true if response.body().is_stream() => Lesson::Streams,
                true => Lesson::Served,
                false => Lesson::Nothing,
            };
            let limits = signal.limits();
            let (charged, watched) = self.caller.answered(heard_at, limits, lesson);
            if let Some(watched) = watched {
                response.body_mut().watch(watched);
            }
            if let Some(charged) = charged {
                response.extensions_mut().insert(charged);
            }
        }
        self.body.release();
        if let Some(reason) = stopped {
            self.give_back(response, reason, Why::Failed);
        } else if !answered_by_us(response)
            && (self.attempts > 1 || !self.caller.waited().is_zero())
        {
            response.extensions_mut().insert(self.report());
        }
    }

    pub(super) fn give_back(
        &mut self,
        response: &mut Response<ResponseBody<ResB>>,
        reason: StopReason,
        why: Why,
    ) {
        self.caller.count(|totals| totals.gave_back(reason));
        self.body.release();
        let report = self.report().stopped(reason);
        response.extensions_mut().insert(report);
        let (held_by, cause) = match why {
            Why::Held(hold) => (hold, None),
            Why::Refused(cause) => (None, Some(cause)),
            Why::Failed => (None, None),
        };
        self.config().observers.gave_up(&GaveUp {
            held_by,
            cause,
            ..self.gives_up(reason, Some(response.status()))
        });
    }

    /// What is told of the end of a call that was to be sent again, or at all.
    pub(super) fn gives_up(&self, reason: StopReason, status: Option<StatusCode>) -> GaveUp {
        GaveUp {
            partition: self.caller.gate().partition().clone(),
            reason,
            attempts: self.attempts,
            waited: self.caller.waited(),
            status,
            held_by: None,
            cause: None,
            answered_locally: false,
        }
    }

    fn report(&self) -> RetryReport {
        let partition = self.caller.gate().partition().clone();
        RetryReport::new(partition, self.attempts, self.caller.waited())
    }
}
