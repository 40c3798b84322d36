//! What one call knows and decides between its attempts: everything but the waiting itself.

mod failure;

use crate::{
    BoxError, answer,
    body::{MapBody, ReplayBody, Replayer, ResponseBody},
    config::Config,
    limiter::{Bounds, Caller, GivenUp, Lesson, Limiter, Turn, Waited},
    observe::{self, InSpan},
    observer::{GaveUp, RetryReason, RetryScheduled, WaitEnded},
    options::RequestOptions,
    payload,
    quota::{Hold, Refused, after, exceeds_limit, is_due_to_size},
    refusal::{Kept, Moment, READING_TIME, Refusal, Scope, answered_by_us},
    report::{Attempt, RetryReport, StopReason},
    retry::{self, ClassifyError, Decision, Policy},
    signal::{self, Signal},
    snapshot::Totals,
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

/// How often in a row a request tries whether the server has opened again.
const MAX_PROBES: u32 = 3;

/// One call's own state.
pub(crate) struct Call<M, R, B, ResB: Body, E> {
    head: Parts,
    body: Replayer<B>,
    map_body: M,
    /// Which errors are failures to be retried.
    retry_error: R,
    caller: Caller,
    config: Arc<Config>,
    max_retries: u32,
    /// What the request costs, if the caller says so.
    tokens: Option<u64>,
    attempts: u32,
    /// How many of them have failed and were to be retried for that.
    failures: u32,
    /// How long the call was held back, and since when it is again.
    waited: Duration,
    waiting_since: Option<Instant>,
    /// The refusal, or the failure, that is being read.
    refusal: Option<Box<Refusal<ResB>>>,
    /// What is left of the last answer while the call waits to be sent again.
    kept: Kept<E>,
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
        let max_retries = options.max_retries.unwrap_or(config.policy.max_retries);
        let deadline = options
            .deadline
            .or(config.deadline)
            .and_then(|deadline| now.checked_add(deadline));
        let bounds = Bounds {
            deadline,
            max_delay: config.policy.max_delay,
            max_waiting: config.max_waiting,
        };
        let tokens = options.tokens;
        let cost = payload::cost(tokens, &body, gate.counts_tokens());
        let mut caller = Caller::arrive(gate, now, options.head_start, cost, bounds);
        if !caller.is_in_flight() {
            // Who waits has the time to look into the body; by its turn tokens may be counted.
            caller.revalue(payload::cost(tokens, &body, true));
        }
        let span = observe::span(caller.gate().partition());
        Self {
            head,
            body,
            map_body,
            retry_error,
            span,
            caller,
            config: Arc::clone(config),
            max_retries,
            tokens,
            attempts: 0,
            failures: 0,
            waited: Duration::ZERO,
            waiting_since: None,
            refusal: None,
            kept: Kept::Nothing,
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
    pub(crate) fn send_at_once(&mut self) -> Option<Request<M::Out>> {
        if self.caller.is_in_flight() {
            return self.request();
        }
        let now = Instant::now();
        if let Some((delay, hold)) = self.caller.expected_wait(now) {
            observe::queued(self.caller.gate().partition(), delay, hold.as_ref());
            self.waiting_since = Some(now);
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
        let time = self.waits(now);
        let is_retry = self.attempts > 0;
        if !self.caller.confirm(now, Waited { time, is_retry }) {
            return Next::Wait;
        }
        self.waited(now);
        self.config.observers.wait_ended(&WaitEnded {
            partition: self.caller.gate().partition().clone(),
            attempts: self.attempts,
            waited: time,
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
        let heard = Moment::now();
        let signal = signal::read(response.status(), response.headers(), None, heard.on);
        let scope = self.scope();
        if !scope.is_refusal(&response, &signal) {
            let (response, failure) = self.look_for_failure(response, &signal, heard.at);
            let retries = matches!(failure, Some(Decision::Retry { .. }));
            if retries || scope.might_be_refusal(&response, &signal) {
                // Nobody else is held back for it, and it does not count as waiting.
                let refusal = Refusal::new(response, heard, failure.is_some());
                self.refusal = Some(Box::new(refusal));
                return Continue(Then::Read);
            }
            let response = response.map(ResponseBody::inner);
            let stopped = failure.and_then(Decision::stop_reason);
            return Break(Ok(self.pass_on(response, &signal, heard.at, stopped)));
        }
        let decision = self.decide(response.status(), &signal, heard.at);
        if let Decision::Return {
            reason,
            delay: None,
        } = decision
        {
            // The head alone says that no wait can help, and nothing that the body could say would
            // change that.
            self.caller
                .answered(heard.at, signal.limits(), Lesson::Pointless);
            let response = response.map(ResponseBody::inner);
            return Break(Ok(self.give_back(response, reason, None)));
        }
        let until = after(heard.at, signal.wait().unwrap_or(READING_TIME));
        self.caller
            .answered(heard.at, signal.limits(), Lesson::Reading { until });
        self.waiting_since = Some(heard.at);
        self.refusal = Some(Box::new(Refusal::new(response, heard, false)));
        Continue(Then::Read)
    }

    /// Reads the refusal's body as far as it will be read.
    pub(crate) fn poll_refusal(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.refusal {
            Some(refusal) => refusal.poll_read(cx),
            None => Poll::Ready(()),
        }
    }

    /// What has been read says what to do: the answer, if it is given back; `None` if the request
    /// is to be sent again.
    pub(crate) fn understand(&mut self) -> Option<Response<ResponseBody<ResB>>> {
        let refusal = self
            .refusal
            .take()
            .expect("a refusal is read before it is understood");
        let (heard, status) = (refusal.heard, refusal.head().status);
        let signal = refusal.signal();
        if self.caller.is_in_flight() {
            let now = Instant::now();
            let head = refusal.head();
            if !self.scope().refuses(status, &head.headers, &signal) {
                return self.understand_failure(*refusal, &signal, now);
            }
            let until = after(now, READING_TIME);
            let lesson = Lesson::Reading { until };
            self.caller.answered(now, signal.limits(), lesson);
            self.waiting_since = Some(heard.at);
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
                self.hold_back(delay, &signal, heard.at);
                self.waiting_since = None;
                Some(self.give_back(refusal.into_response(), reason, None))
            }
            Decision::Retry { delay } => {
                let is_pause = self.hold_back(Some(delay), &signal, heard.at);
                // One that is refused again and again lets another find out whether it is the
                // server or this very request.
                let yields = is_pause && self.yields(after(heard.at, delay * 2));
                let rest = if yields { delay * 2 } else { delay };
                let resting = Some(after(heard.at, rest)).filter(|_| yields || !is_pause);
                let cost = payload::cost(self.tokens, &self.body, true);
                self.caller.queue_again(Instant::now(), cost, resting);
                self.kept = Kept::of(*refusal);
                self.schedules_retry(rest, RetryReason::Refused, Some(status));
                None
            }
        }
    }

    /// The end of a call that could not be sent, or not again: the answer that came before, or one of
    /// our own.
    pub(crate) fn give_up(
        &mut self,
        given_up: &GivenUp,
    ) -> Result<Response<ResponseBody<ResB>>, E> {
        let now = Moment::now();
        let waited = self.waits(now.at);
        self.waited(now.at);
        self.caller.leave();
        let count = |totals: &mut Totals| totals.waited = totals.waited.saturating_add(waited);
        self.caller.count(count);
        self.body.release();
        let refused = match self.kept.take() {
            Kept::Whole(refusal) => {
                let refusal = refusal.map(ResponseBody::from);
                return Ok(self.give_back(refusal, given_up.reason, given_up.hold.as_ref()));
            }
            Kept::Error(error) => {
                let hold = given_up.hold.as_ref();
                return Err(self.give_back_error(*error, given_up.reason, hold));
            }
            Kept::Status(status) => Some(status),
            Kept::Nothing => None,
        };
        self.caller.count(|totals| {
            totals.gave_back(given_up.reason);
            totals.answered_locally += 1;
        });
        let (partition, report) = (self.caller.gate().partition(), self.report());
        let answer = answer::too_many_requests(partition, given_up, refused, now, report);
        self.config.observers.gave_up(&GaveUp {
            held_by: given_up.hold.clone(),
            answered_locally: true,
            ..self.gives_up(given_up.reason, Some(answer.status()))
        });
        Ok(answer)
    }

    /// The inner service has failed, and its error is the end of the call.
    pub(crate) fn fail(&mut self, error: E) -> E {
        self.caller.leave();
        self.body.release();
        error
    }

    /// Which answers count as refusals.
    fn scope(&self) -> Scope {
        Scope {
            successes: self.config.read_success_bodies,
        }
    }

    /// The next attempt's request; `None` if its body cannot be sent from the first byte.
    fn request(&mut self) -> Option<Request<M::Out>> {
        let body = self.body.attempt()?;
        self.attempts += 1;
        if self.attempts == 1 && self.config.retries_failures {
            self.caller.deposit(Instant::now());
        }
        let mut request = Request::from_parts(self.head.clone(), self.map_body.map_body(body));
        if self.attempts > 1 {
            request.extensions_mut().insert(Attempt::new(self.attempts));
            if let Some(span) = &self.span {
                observe::resent(span, self.attempts - 1);
            }
        }
        Some(request)
    }

    /// Whether another call is to find out if the server has opened again, and this one goes after it.
    fn yields(&self, until: Instant) -> bool {
        let has_time = self
            .caller
            .deadline()
            .is_none_or(|deadline| until < deadline);
        self.attempts > MAX_PROBES && has_time && self.caller.has_company()
    }

    /// Whether it is this very request that the server does not want, for it serves others.
    fn is_singled_out(&self) -> bool {
        self.attempts > MAX_PROBES && self.caller.is_passed_over()
    }

    fn decide(&self, status: StatusCode, signal: &Signal, heard_at: Instant) -> Decision {
        let episode = self.caller.episode();
        let refusals = if self.is_singled_out() {
            episode.refusals.max(self.attempts)
        } else {
            episode.refusals
        };
        self.policy().decide(&retry::Refusal {
            signal,
            attempt: self.attempts,
            refusals,
            interval: episode.interval,
            random_ratio: episode.random_ratio,
            can_replay: self.body.can_replay(),
            is_repeatable: retry::is_repeatable(status, &self.head.method, &self.head.headers),
            is_oversized: self.tokens.is_some_and(|tokens| {
                episode.exceeds_declared || exceeds_limit(signal.limits(), tokens)
            }),
            time_left: self.time_left(heard_at),
        })
    }

    /// The user's limits, as they are for this call.
    fn policy(&self) -> Policy {
        Policy {
            max_retries: self.max_retries,
            ..self.config.policy
        }
    }

    fn time_left(&self, now: Instant) -> Option<Duration> {
        let deadline = self.caller.deadline();
        deadline.map(|deadline| deadline.saturating_duration_since(now))
    }

    /// Tells the partition what the whole refusal means for all; whether it is a pause. A request
    /// that is larger than what is left has to wait by itself: smaller ones have not.
    fn hold_back(&mut self, delay: Option<Duration>, signal: &Signal, heard_at: Instant) -> bool {
        let is_its_own =
            is_due_to_size(signal.limits(), self.caller.tokens()) || self.is_singled_out();
        let pause = delay.filter(|_| !is_its_own);
        let refused = pause.map(|delay| Refused {
            until: after(heard_at, delay),
            wait: signal.wait(),
        });
        self.caller.understood(Instant::now(), refused);
        pause.is_some()
    }

    /// The answer is no refusal, and goes to the caller as it is; if it is a failure, for that reason.
    fn pass_on(
        &mut self,
        mut response: Response<ResponseBody<ResB>>,
        signal: &Signal,
        heard_at: Instant,
        stopped: Option<StopReason>,
    ) -> Response<ResponseBody<ResB>> {
        if answered_by_us(&response) {
            self.caller.leave();
        } else {
            let charged = self.caller.charged();
            let served = !response.status().is_server_error();
            let lesson = match served {
                true if response.body().is_stream() => Lesson::Streams,
                true => Lesson::Served,
                false => Lesson::Nothing,
            };
            let watched = self.caller.answered(heard_at, signal.limits(), lesson);
            if let Some(watched) = watched {
                response.body_mut().watch(watched);
            }
            if let Some(charged) = charged {
                response.extensions_mut().insert(charged);
            }
        }
        self.body.release();
        if let Some(reason) = stopped {
            return self.give_back(response, reason, None);
        }
        if self.attempts > 1 || !self.waited.is_zero() {
            response.extensions_mut().insert(self.report());
        }
        response
    }

    fn give_back(
        &mut self,
        mut response: Response<ResponseBody<ResB>>,
        reason: StopReason,
        held_by: Option<&Hold>,
    ) -> Response<ResponseBody<ResB>> {
        self.caller.count(|totals| totals.gave_back(reason));
        self.body.release();
        let report = self.report().stopped(reason);
        response.extensions_mut().insert(report);
        self.config.observers.gave_up(&GaveUp {
            held_by: held_by.cloned(),
            ..self.gives_up(reason, Some(response.status()))
        });
        response
    }

    /// The call waits to be sent again.
    fn schedules_retry(&self, delay: Duration, reason: RetryReason, status: Option<StatusCode>) {
        self.config.observers.retry_scheduled(&RetryScheduled {
            partition: self.caller.gate().partition().clone(),
            attempts: self.attempts,
            delay,
            reason,
            status,
        });
    }

    /// What is told of the end of a call that was to be sent again, or at all.
    fn gives_up(&self, reason: StopReason, status: Option<StatusCode>) -> GaveUp {
        GaveUp {
            partition: self.caller.gate().partition().clone(),
            reason,
            attempts: self.attempts,
            waited: self.waited,
            status,
            held_by: None,
            answered_locally: false,
        }
    }

    fn report(&self) -> RetryReport {
        let partition = self.caller.gate().partition().clone();
        RetryReport::new(partition, self.attempts, self.waited)
    }

    /// How long the call has been held back since it last was not.
    fn waits(&self, now: Instant) -> Duration {
        let since = self.waiting_since;
        since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// The call is no longer held back.
    fn waited(&mut self, now: Instant) {
        self.waited += self.waits(now);
        self.waiting_since = None;
    }
}
