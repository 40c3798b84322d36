//! Under all layers: a client of `reqwest` as a service of `http` requests.

use super::{
    convert::{into_http, into_reqwest},
    sent::Sent,
};
use pin_project_lite::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower_service::Service;

/// A client of `reqwest` as a service that takes an `http::Request`: what lies under the layers of
/// a stack.
///
/// The client is any service that takes a `reqwest::Request`: a `reqwest::Client`, a
/// `reqwest_middleware::ClientWithMiddleware`. The request's body is whatever becomes a
/// `reqwest::Body`, [`ReplayBody`](crate::ReplayBody) among it: bytes that are known stay bytes, so
/// that `as_bytes` has them in each attempt and redirects with status 307 and 308 are followed; a
/// stream stays a stream.
///
/// The timeouts of the client and of its requests bound each attempt by itself.
///
/// Needs the Cargo feature `reqwest`.
///
/// # Errors
///
/// Those of the client; and its error for a request that it cannot make, where a layer has put in a
/// URI that is no URL.
#[derive(Clone)]
pub struct ReqwestService<C> {
    client: C,
}

impl<C> ReqwestService<C> {
    /// With this client.
    pub fn new(client: C) -> Self {
        Self { client }
    }

    /// The client.
    pub fn get_ref(&self) -> &C {
        &self.client
    }

    /// The client.
    pub fn into_inner(self) -> C {
        self.client
    }
}

impl<C, B> Service<http::Request<B>> for ReqwestService<C>
where
    C: Service<reqwest::Request, Response = reqwest::Response>,
    C::Error: From<reqwest::Error>,
    B: Into<reqwest::Body>,
{
    type Response = http::Response<reqwest::Body>;
    type Error = C::Error;
    type Future = ReqwestServiceFuture<C::Future, C::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.client.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let request = into_reqwest(request).map_err(C::Error::from);
        let sent = Sent::new(request.map(|request| self.client.call(request)));
        ReqwestServiceFuture { sent }
    }
}

/// Without the client, whose own `Debug` shows its default headers.
impl<C> fmt::Debug for ReqwestService<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReqwestService").finish_non_exhaustive()
    }
}

pin_project! {
    /// The future of [`ReqwestService`].
    pub struct ReqwestServiceFuture<F, E> {
        #[pin]
        sent: Sent<F, E>,
    }
}

impl<F, E> Future for ReqwestServiceFuture<F, E>
where
    F: Future<Output = Result<reqwest::Response, E>>,
{
    type Output = Result<http::Response<reqwest::Body>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(self.project().sent.poll(cx));
        Poll::Ready(response.map(into_http))
    }
}

impl<F, E> fmt::Debug for ReqwestServiceFuture<F, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReqwestServiceFuture")
            .finish_non_exhaustive()
    }
}
