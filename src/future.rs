//! One call, from its first attempt to its answer: the one state machine.

use crate::{
    BoxError,
    body::{MapBody, ReplayBody, ResponseBody},
    call::{Call, Next, Then},
    limiter::Turn,
    retry::{ClassifyError, RetryNone},
};
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use std::{
    fmt,
    future::Future,
    ops::ControlFlow::{self, Break, Continue},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::time::Sleep;
use tower_service::Service;

/// Why there is a service in every state but the last.
const UNFINISHED: &str = "a call that is not over has a service";

pin_project! {
    /// The future of [`RateLimitRetry`](crate::RateLimitRetry).
    ///
    /// # Panics
    ///
    /// A call that has to wait panics when it is polled outside a Tokio runtime with its timer
    /// enabled; and every call when it is polled after it was ready.
    ///
    /// # Cancellation
    ///
    /// Dropping it in any state is safe: its place in the queue passes on, what it reserved is
    /// given back, and nothing is sent later.
    pub struct ResponseFuture<S, M, B, ResB, R = RetryNone>
    where
        S: Service<Request<M::Out>>,
        M: MapBody<ReplayBody<B>>,
        ResB: Body,
    {
        #[pin]
        kind: Kind<S, M, B, ResB, R>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<S, M, B, ResB, R>
    where
        S: Service<Request<M::Out>>,
        M: MapBody<ReplayBody<B>>,
        ResB: Body,
    {
        // The layer is disabled.
        Passthrough { #[pin] future: S::Future },
        Limited { #[pin] limited: Limited<S, M, B, ResB, R> },
    }
}

pin_project! {
    struct Limited<S, M, B, ResB, R>
    where
        S: Service<Request<M::Out>>,
        M: MapBody<ReplayBody<B>>,
        ResB: Body,
    {
        // `None` when the call is over.
        service: Option<S>,
        call: Call<M, R, B, ResB, S::Error>,
        #[pin]
        state: State<S::Future>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        // The attempt is under way: waits for its answer.
        Calling { #[pin] future: F },
        // The attempt was refused, or has failed: waits for what the answer's body says.
        Reading,
        // The partition is closed, older calls wait, or a backoff is on: waits for the turn, and holds
        // no service that is ready.
        Waiting { #[pin] timer: Option<Sleep> },
        // The turn has come: waits for the service to be ready.
        Readying { #[pin] timer: Option<Sleep> },
        // The call is over: waits for nothing.
        Done,
    }
}

impl<S, M, B, ResB, R> ResponseFuture<S, M, B, ResB, R>
where
    S: Service<Request<M::Out>>,
    M: MapBody<ReplayBody<B>>,
    ResB: Body,
{
    /// Of a disabled layer.
    pub(crate) fn passthrough(future: S::Future) -> Self {
        Self {
            kind: Kind::Passthrough { future },
        }
    }

    /// With the first attempt under way.
    #[inline]
    pub(crate) fn calling(
        service: S,
        call: Call<M, R, B, ResB, S::Error>,
        future: S::Future,
    ) -> Self {
        Self {
            kind: Kind::Limited {
                limited: Limited {
                    service: Some(service),
                    call,
                    state: State::Calling { future },
                },
            },
        }
    }

    /// That has to wait for its turn.
    pub(crate) fn waiting(service: S, call: Call<M, R, B, ResB, S::Error>) -> Self {
        Self {
            kind: Kind::Limited {
                limited: Limited {
                    service: Some(service),
                    call,
                    state: State::Waiting { timer: None },
                },
            },
        }
    }
}

impl<S, M, B, ResB, R> Future for ResponseFuture<S, M, B, ResB, R>
where
    S: Service<Request<M::Out>, Response = Response<ResB>> + Clone,
    M: MapBody<ReplayBody<B>>,
    R: ClassifyError<S::Error>,
    B: Body,
    B::Error: Into<BoxError>,
    ResB: Body,
{
    type Output = Result<Response<ResponseBody<ResB>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProj::Passthrough { future } => future
                .poll(cx)
                .map_ok(|response| response.map(ResponseBody::inner)),
            KindProj::Limited { limited } => limited.poll(cx),
        }
    }
}

impl<S, M, B, ResB, R> Future for Limited<S, M, B, ResB, R>
where
    S: Service<Request<M::Out>, Response = Response<ResB>> + Clone,
    M: MapBody<ReplayBody<B>>,
    R: ClassifyError<S::Error>,
    B: Body,
    B::Error: Into<BoxError>,
    ResB: Body,
{
    type Output = Result<Response<ResponseBody<ResB>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let _in_span = this.call.in_span();
        loop {
            let next = match this.state.as_mut().project() {
                StateProj::Calling { future } => match this.call.hear(ready!(future.poll(cx))) {
                    Break(answer) => Break(answer),
                    Continue(Then::Read) => Continue(State::Reading),
                    Continue(Then::Wait) => Continue(State::Waiting { timer: None }),
                },
                StateProj::Reading => {
                    ready!(this.call.poll_refusal(cx));
                    match this.call.understand() {
                        Some(response) => Break(Ok(response)),
                        None => Continue(State::Waiting { timer: None }),
                    }
                }
                StateProj::Waiting { timer } => match ready!(this.call.poll_turn(cx, timer)) {
                    Turn::Admitted => Continue(State::Readying { timer: None }),
                    Turn::GivenUp(given_up) => Break(this.call.give_up(&given_up)),
                },
                StateProj::Readying { timer } => {
                    let service = this.service.as_mut().expect(UNFINISHED);
                    let next = match service.poll_ready(cx) {
                        Poll::Ready(Ok(())) => this.call.next(),
                        Poll::Ready(Err(error)) => Next::Fail(error),
                        Poll::Pending => Next::GiveUp(ready!(this.call.poll_deadline(cx, timer))),
                    };
                    take(next, service, this.call)
                }
                StateProj::Done => panic!("polled after it was ready"),
            };
            match next {
                Continue(next) => this.state.set(next),
                Break(output) => {
                    // Nothing is held any longer, even if the future is kept: no permit, no place
                    // in a queue for one.
                    this.state.set(State::Done);
                    *this.service = None;
                    this.call.close_span();
                    return Poll::Ready(output);
                }
            }
        }
    }
}

/// The next state, or the end of the call.
type Step<F, ResB, E> = ControlFlow<Result<Response<ResponseBody<ResB>>, E>, State<F>>;

/// Takes the step that the call has chosen for a service that is ready, or will not be.
fn take<S, M, R, B, ResB>(
    next: Next<M::Out, S::Error>,
    service: &mut S,
    call: &mut Call<M, R, B, ResB, S::Error>,
) -> Step<S::Future, ResB, S::Error>
where
    S: Service<Request<M::Out>> + Clone,
    M: MapBody<ReplayBody<B>>,
    R: ClassifyError<S::Error>,
    B: Body,
    B::Error: Into<BoxError>,
    ResB: Body,
{
    match next {
        Next::Send(request) => Continue(State::Calling {
            future: service.call(request),
        }),
        Next::Wait => {
            // What the readied service holds is free for others; at the next turn it is asked
            // afresh.
            let unready = service.clone();
            *service = unready;
            Continue(State::Waiting { timer: None })
        }
        Next::GiveUp(given_up) => Break(call.give_up(&given_up)),
        Next::Fail(error) => Break(Err(call.fail(error))),
    }
}

impl<S, M, B, ResB, R> fmt::Debug for ResponseFuture<S, M, B, ResB, R>
where
    S: Service<Request<M::Out>>,
    M: MapBody<ReplayBody<B>>,
    ResB: Body,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
