//! One call, from its first attempt to its answer: the one state machine.

use crate::{
    BoxError,
    body::{MapBody, ReplayBody, ResponseBody},
    call::{Call, Next},
    limiter::Turn,
};
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::time::Sleep;
use tower_service::Service;

pin_project! {
    /// The future of [`RateLimitRetry`](crate::RateLimitRetry).
    ///
    /// # Panics
    ///
    /// A call that has to wait panics when it is polled outside a Tokio runtime with its timer
    /// enabled.
    ///
    /// # Cancellation
    ///
    /// Dropping it in any state is safe: its place in the queue passes on, what it reserved is
    /// given back, and nothing is sent later.
    pub struct ResponseFuture<S, M, B, ResB>
    where
        S: Service<Request<M::Out>>,
        M: MapBody<ReplayBody<B>>,
        ResB: Body,
    {
        #[pin]
        kind: Kind<S, M, B, ResB>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<S, M, B, ResB>
    where
        S: Service<Request<M::Out>>,
        M: MapBody<ReplayBody<B>>,
        ResB: Body,
    {
        // The layer is disabled.
        Passthrough { #[pin] future: S::Future },
        Limited { #[pin] limited: Limited<S, M, B, ResB> },
    }
}

pin_project! {
    struct Limited<S, M, B, ResB>
    where
        S: Service<Request<M::Out>>,
        M: MapBody<ReplayBody<B>>,
        ResB: Body,
    {
        service: S,
        call: Call<M, B, ResB>,
        #[pin]
        state: State<S::Future>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        // The attempt is under way: waits for its answer.
        Calling { #[pin] future: F },
        // The attempt was refused: waits for what the refusal's body says.
        Reading,
        // The partition is closed, or older calls wait: waits for the turn, and holds no service
        // that is ready.
        Waiting { #[pin] timer: Option<Sleep> },
        // The turn has come: waits for the service to be ready.
        Readying { #[pin] timer: Option<Sleep> },
    }
}

impl<S, M, B, ResB> ResponseFuture<S, M, B, ResB>
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
    pub(crate) fn calling(service: S, call: Call<M, B, ResB>, future: S::Future) -> Self {
        Self {
            kind: Kind::Limited {
                limited: Limited {
                    service,
                    call,
                    state: State::Calling { future },
                },
            },
        }
    }

    /// That has to wait for its turn.
    pub(crate) fn waiting(service: S, call: Call<M, B, ResB>) -> Self {
        Self {
            kind: Kind::Limited {
                limited: Limited {
                    service,
                    call,
                    state: State::Waiting { timer: None },
                },
            },
        }
    }
}

impl<S, M, B, ResB> Future for ResponseFuture<S, M, B, ResB>
where
    S: Service<Request<M::Out>, Response = Response<ResB>> + Clone,
    M: MapBody<ReplayBody<B>>,
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

impl<S, M, B, ResB> Future for Limited<S, M, B, ResB>
where
    S: Service<Request<M::Out>, Response = Response<ResB>> + Clone,
    M: MapBody<ReplayBody<B>>,
    B: Body,
    B::Error: Into<BoxError>,
    ResB: Body,
{
    type Output = Result<Response<ResponseBody<ResB>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.state.as_mut().project() {
                StateProj::Calling { future } => match this.call.hear(ready!(future.poll(cx))) {
                    Some(answer) => return Poll::Ready(answer),
                    None => State::Reading,
                },
                StateProj::Reading => {
                    ready!(this.call.poll_refusal(cx));
                    match this.call.understand() {
                        Some(response) => return Poll::Ready(Ok(response)),
                        None => State::Waiting { timer: None },
                    }
                }
                StateProj::Waiting { timer } => match ready!(this.call.poll_turn(cx, timer)) {
                    Turn::Admitted => State::Readying { timer: None },
                    Turn::GivenUp(given_up) => {
                        return Poll::Ready(Ok(this.call.give_up(&given_up)));
                    }
                },
                StateProj::Readying { timer } => {
                    let next = match this.service.poll_ready(cx) {
                        Poll::Ready(Ok(())) => this.call.next(),
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(this.call.fail(error))),
                        Poll::Pending => Next::GiveUp(ready!(this.call.poll_deadline(cx, timer))),
                    };
                    match next {
                        Next::Send(request) => State::Calling {
                            future: this.service.call(request),
                        },
                        Next::GiveUp(given_up) => {
                            return Poll::Ready(Ok(this.call.give_up(&given_up)));
                        }
                        Next::Wait => {
                            // What the readied service holds is free for others; at the next turn
                            // it is asked afresh.
                            let unready = this.service.clone();
                            *this.service = unready;
                            State::Waiting { timer: None }
                        }
                    }
                }
            };
            this.state.set(next);
        }
    }
}

impl<S, M, B, ResB> fmt::Debug for ResponseFuture<S, M, B, ResB>
where
    S: Service<Request<M::Out>>,
    M: MapBody<ReplayBody<B>>,
    ResB: Body,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
