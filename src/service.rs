//! The service: where a call begins.

use crate::{
    BoxError,
    body::{Identity, MapBody, ReplayBody, Replayer, ResponseBody},
    call::Call,
    config::Config,
    future::ResponseFuture,
    limiter::Limiter,
    retry::{ClassifyError, RetryNone},
};
use http::{Request, Response};
use http_body::Body;
use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
};
use tower_service::Service;

/// The service that [`RateLimitRetryLayer`](crate::RateLimitRetryLayer) makes of another.
///
/// Its readiness is that of the inner service, so back-pressure reaches the caller. The inner
/// service is given `http::Request<ReplayBody<B>>`, or what `map_body` makes of it.
#[derive(Clone)]
pub struct RateLimitRetry<S, M = Identity, R = RetryNone> {
    inner: S,
    config: Arc<Config>,
    limiter: Arc<Limiter>,
    map_body: M,
    retry_error: R,
}

impl<S, M, R> RateLimitRetry<S, M, R> {
    pub(crate) fn new(
        inner: S,
        config: Arc<Config>,
        limiter: Arc<Limiter>,
        map_body: M,
        retry_error: R,
    ) -> Self {
        Self {
            inner,
            config,
            limiter,
            map_body,
            retry_error,
        }
    }

    /// The inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, M, R, B, ResB> Service<Request<B>> for RateLimitRetry<S, M, R>
where
    S: Service<Request<M::Out>, Response = Response<ResB>> + Clone,
    M: MapBody<ReplayBody<B>> + Clone,
    R: ClassifyError<S::Error> + Clone,
    B: Body,
    B::Error: Into<BoxError>,
    ResB: Body,
{
    type Response = Response<ResponseBody<ResB>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, M, B, ResB, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let unready = self.inner.clone();
        let mut service = mem::replace(&mut self.inner, unready);
        if !self.config.enabled {
            let request = request.map(|body| {
                let first = Replayer::passthrough(body).attempt();
                self.map_body
                    .map_body(first.expect("the first attempt can always be made"))
            });
            let future = service.call(request);
            return ResponseFuture::passthrough(future);
        }
        let (map_body, retry_error) = (self.map_body.clone(), self.retry_error.clone());
        let mut call = Call::new(request, &self.config, &self.limiter, map_body, retry_error);
        let _in_span = call.in_span();
        if let Some(first) = call.send_at_once() {
            let future = service.call(first);
            return ResponseFuture::calling(service, call, future);
        }
        // What the readied service holds, such as a permit, is free for others while this call
        // waits.
        drop(service);
        ResponseFuture::waiting(self.inner.clone(), call)
    }
}

impl<S: fmt::Debug, M, R> fmt::Debug for RateLimitRetry<S, M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitRetry")
            .field("inner", &self.inner)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
