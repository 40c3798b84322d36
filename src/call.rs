//! What one call knows and decides between its attempts: everything but the waiting itself.

mod end;
mod failure;
mod refused;

use end::Why;

use crate::{
    BoxError,
    body::{MapBody, ReplayBody, Replayer, ResponseBody},
    config::Config,
    limiter::{Caller, GivenUp, Lesson, Limiter, Turn},
    observe::{self, InSpan},
    observer::{RetryReason, RetryScheduled, WaitEnded},
    options::RequestOptions,
    payload,
    quota::{RefusalCause, after},
    refusal::{Last, Moment, READING_TIME, Refusal, Scope},
    report::{Attempt, StopReason},
    retry::{ClassifyError, Decision},
    signal,
    timer::poll_until,
};
use http::{Request, Response, StatusCode, request::Parts};
use http_body::Body;
use std::{
    ops::ControlFlow::{self, Break, Continue},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep};
use tracing::Span;

/// One call's own state.
pub(crate) struct Call<M, R, B, ResB: Body, E> {
    head: Parts,
    body: Replayer<B>,
    map_body: M,
    /// Which errors are failures to be retried.
    retry_error: R,
    caller: Caller,
    attempts: u32,
    /// How many of them have failed and were to be retried for that.
    failures: u32,
    last: Last<ResB, E>,
    /// What all of it happens in, for those who look at spans.
    span: Option<Arc<Span>>,
}

/// What the inner service's answer means for the call: its end, or what comes next.
pub(crate) type Heard<ResB, E> = ControlFlow<Result<Response<ResponseBody<ResB>>, E>, Then>;

/// What comes after an answer that is not the end of the call.
pub(crate) enum Then {
    /// Its body is to be read: it is a refusal or may prove to be one, or a failure to be retried.
    Read,
    /// The request is to be sent again.
    Wait,
}

/// What to do when the turn has come.
pub(crate) enum Next<T, E> {
    Send(Request<T>),
    /// The turn was lost.
    Wait,
    GiveUp(GivenUp),
    /// The service will never be ready.
    Fail(E),
}

impl<M, R, B, ResB, E> Call<M, R, B, ResB, E>
where
    M: MapBody<ReplayBody<B>>,
    R: ClassifyError<E>,
    B: Body,
    B::Error: Into<BoxError>,
    ResB: Body,
{
    #[inline]
    pub(crate) fn new(
        request: Request<B>,
        config: &Arc<Config>,
        limiter: &Limiter,
        map_body: M,
        retry_error: R,
    ) -> Self {
        let now = Instant::now();
        let (head, body) = request.into_parts();
        let body = Replayer::new(body, config.max_replay);
        let unset = RequestOptions::new();
        let options = head.extensions.get::<RequestOptions>().unwrap_or(&unset);
        let partition = options.partition.as_ref();
        let gate = limiter.gate(&head, &body, partition, config);
        let deadline = options
            .deadline
            .or(config.deadline)
            .and_then(|deadline| now.checked_add(deadline));
        let tokens = payload::tokens(options.tokens, &body, gate.counts_tokens());
        let (config, head_start) = (Arc::clone(config), options.head_start);
        let mut caller = Caller::arrive(gate, config, now, head_start, deadline, tokens);
        if !caller.is_in_flight() {
            // Who waits has the time to look into the body; by its turn tokens may be counted.
            caller.revalue(payload::tokens(options.tokens, &body, true));
        }
        let span = observe::span(caller.gate().partition());
        Self {
            head,
            body,
            map_body,
            retry_error,
            caller,
            attempts: 0,
            failures: 0,
            last: Last::Nothing,
            span,
        }
    }

    /// Enters the span of the call, if it has one.
    pub(crate) fn in_span(&self) -> InSpan {
        InSpan::enter(self.span.as_ref())
    }

    /// The call is over.
    pub(crate) fn close_span(&mut self) {
        self.span = None;
    }

    /// The first attempt, if the partition is open and nobody older waits.
    #[inline]
    pub(crate) fn send_at_once(&mut self) -> Option<Request<M::Out>> {
        if self.caller.is_in_flight() {
            return self.request();
        }
        let now = Instant::now();
        if let Some((delay, hold)) = self.caller.expected_wait(now) {
            observe::queued(self.caller.gate().partition(), delay, hold.as_ref());
        }
        None
    }

    /// Waits for the turn.
    pub(crate) fn poll_turn(
        &mut self,
        cx: &mut Context<'_>,
        timer: Pin<&mut Option<Sleep>>,
    ) -> Poll<Turn> {
        self.caller.poll_turn(cx, timer)
    }

    /// Waits until the time is up for a service that does not become ready.
    pub(crate) fn poll_deadline(
        &self,
        cx: &mut Context<'_>,
        timer: Pin<&mut Option<Sleep>>,
    ) -> Poll<GivenUp> {
        let Some(deadline) = self.caller.deadline() else {
            return Poll::Pending;
        };
        ready!(poll_until(timer, deadline, cx));
        Poll::Ready(GivenUp::now(StopReason::Deadline, deadline))
    }

    /// The service is ready and the turn has come: the next attempt, unless the turn was lost
    /// meanwhile.
    pub(crate) fn next(&mut self) -> Next<M::Out, E> {
        let now = Instant::now();
        let deadline = self.caller.deadline();
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Next::GiveUp(GivenUp::now(StopReason::Deadline, now));
        }
        if !self.body.can_replay() {
            return Next::GiveUp(GivenUp::now(StopReason::BodyNotReplayable, now));
        }
        let Some(waited) = self.caller.confirm(now, self.attempts > 0) else {
            return Next::Wait;
        };
        self.config().observers.wait_ended(&WaitEnded {
            partition: self.caller.gate().partition().clone(),
            attempts: self.attempts,
            waited,
        });
        match self.request() {
            Some(request) => Next::Send(request),
            None => Next::GiveUp(GivenUp::now(StopReason::BodyNotReplayable, now)),
        }
    }

    /// The inner service has answered.
    pub(crate) fn hear(&mut self, response: Result<Response<ResB>, E>) -> Heard<ResB, E> {
        let response = match response {
            Ok(response) => response,
            Err(error) => return self.hear_error(error),
        };
        // Most answers say nothing that has to do with the time of day.
        let mut heard = None;
        let time_of_day = || heard.insert(Moment::now()).on;
        let signal = signal::read_at(response.status(), response.headers(), None, time_of_day);
        let heard_at = heard.map_or_else(Instant::now, |heard| heard.at);
        let scope = self.scope();
        if !scope.is_refusal(&response, &signal) {
            let (response, failure) = self.look_for_failure(response, &signal, heard_at);
            let retries = matches!(failure, Some(Decision::Retry { .. }));
            if retries || scope.might_be_refusal(&response, &signal) {
                // Nobody else is held back for it, and it does not count as waiting.
                let heard = heard.unwrap_or_else(Moment::now);
                let refusal = Refusal::new(response, heard, failure.is_some());
                self.last = Last::Unread(Box::new(refusal));
                return Continue(Then::Read);
            }
            let mut response = response.map(ResponseBody::inner);
            let stopped = failure.and_then(Decision::stop_reason);
            self.pass_on(&mut response, &signal, heard_at, stopped);
            return Break(Ok(response));
        }
        let decision = self.decide(response.status(), &signal, heard_at);
        if let Decision::Return {
            reason,
            delay: None,
        } = decision
        {
            // The head alone says that no wait can help, and nothing that the body could say would
            // change that.
            self.caller
                .answered(heard_at, signal.limits(), Lesson::Pointless);
            let mut response = response.map(ResponseBody::inner);
            self.give_back(&mut response, reason, Why::Refused(RefusalCause::Request));
            return Break(Ok(response));
        }
        let until = after(heard_at, signal.wait().unwrap_or(READING_TIME));
        self.caller.refused(heard_at, signal.limits(), until);
        let heard = heard.unwrap_or_else(Moment::now);
        self.last = Last::Unread(Box::new(Refusal::new(response, heard, false)));
        Continue(Then::Read)
    }

    /// Reads the refusal's body as far as it will be read.
    pub(crate) fn poll_refusal(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.last {
            Last::Unread(answer) => answer.poll_read(cx),
            _ => Poll::Ready(()),
        }
    }

    /// The inner service has failed, and its error is the end of the call.
    pub(crate) fn fail(&mut self, error: E) -> E {
        self.caller.leave();
        self.body.release();
        error
    }

    fn config(&self) -> &Config {
        self.caller.config()
    }

    /// What the caller has set for this request.
    fn options(&self) -> Option<&RequestOptions> {
        self.head.extensions.get()
    }

    /// What the next attempt costs in tokens. Whoever waits has the time to look into the body.
    fn tokens(&self) -> u64 {
        let told = self.options().and_then(|options| options.tokens);
        payload::tokens(told, &self.body, true)
    }

    /// Which answers count as refusals.
    fn scope(&self) -> Scope {
        Scope {
            successes: self.config().read_success_bodies,
        }
    }

    /// The next attempt's request; `None` if its body cannot be sent from the first byte.
    #[inline]
    fn request(&mut self) -> Option<Request<M::Out>> {
        let body = self.body.attempt()?;
        self.attempts += 1;
        if self.attempts == 1 && self.config().retries_failures {
            self.caller.deposit(Instant::now());
        }
        let mut head = self.head.clone();
        if self.attempts > 1 {
            head.extensions.insert(Attempt::new(self.attempts));
            if let Some(span) = &self.span {
                observe::resent(span, self.attempts - 1);
            }
        }
        Some(Request::from_parts(head, self.map_body.map_body(body)))
    }

    /// The call waits to be sent again.
    fn schedules_retry(
        &self,
        delay: Duration,
        status: Option<StatusCode>,
        refused: Option<RefusalCause>,
    ) {
        let reason = match refused {
            Some(_) => RetryReason::Refused,
            None => RetryReason::Failed,
        };
        self.config().observers.retry_scheduled(&RetryScheduled {
            partition: self.caller.gate().partition().clone(),
            attempts: self.attempts,
            delay,
            reason,
            cause: refused,
            status,
        });
    }
}
