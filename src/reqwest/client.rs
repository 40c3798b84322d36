//! Above all layers: a stack of them, used like the client that lies under it.

use super::{
    convert::{from_reqwest, into_response},
    sent::Sent,
    service::ReqwestService,
};
use crate::{body::BoxError, options::RequestOptions, service::RateLimitRetry};
use bytes::Bytes;
use http_body::Body;
use pin_project_lite::pin_project;
use reqwest::Url;
use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower_service::Service;

/// A stack of layers over a client of `reqwest`, used like that client:
/// [`send`](Self::send) takes what its builders make, [`execute`](Self::execute) a request, and the
/// answer is a `reqwest::Response`. It is a service of such requests, too.
///
/// [`RateLimitRetryLayer::reqwest`](crate::RateLimitRetryLayer::reqwest) makes one with nothing but
/// our layer, and that is the type that stands without parameters:
///
/// ```
/// struct Api {
///     http: tower_rate_limit_retry::ReqwestClient,
/// }
/// ```
///
/// The URL of the answer (after redirects), the remote address and the extensions are as the client
/// has set them; a [`RetryReport`](crate::RetryReport) is among the extensions. An answer of the
/// layer's own has the URL of the request.
///
/// Its clones share the client, and what is known of each quota.
///
/// Needs the Cargo feature `reqwest`.
///
/// # Errors
///
/// Those of the stack: nothing between the client and the caller makes another type of them.
#[derive(Clone)]
pub struct ReqwestClient<S = RateLimitRetry<ReqwestService<reqwest::Client>>> {
    stack: S,
    options: Option<RequestOptions>,
}

impl<S> ReqwestClient<S> {
    /// With this stack, at whose bottom lies a [`ReqwestService`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower::ServiceBuilder;
    /// use tower_rate_limit_retry::{RateLimitRetryLayer, ReqwestClient, ReqwestService};
    ///
    /// let stack = ServiceBuilder::new()
    ///     .timeout(Duration::from_secs(60)) // for the whole call
    ///     .layer(RateLimitRetryLayer::new())
    ///     .concurrency_limit(16) // permits are free while a call waits
    ///     .service(ReqwestService::new(reqwest::Client::new()));
    /// let limited = ReqwestClient::new(stack);
    /// # let _ = limited;
    /// ```
    pub fn new(stack: S) -> Self {
        let options = None;
        Self { stack, options }
    }

    /// Gives these options to each request that goes through this value; other clones go on without
    /// them.
    ///
    /// Default: none. There is no place for them in a `reqwest::Request`; one that was made of an
    /// `http::Request` which had options keeps those.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_rate_limit_retry::{RequestOptions, ReqwestClient};
    ///
    /// # async fn example(limited: ReqwestClient, request: reqwest::Request) -> reqwest::Result<()> {
    /// let options = RequestOptions::new().deadline(Duration::from_secs(20)).tokens(1_200);
    /// let response = limited.clone().options(options).execute(request).await?;
    /// # let _ = response;
    /// # Ok(())
    /// # }
    /// ```
    pub fn options(self, options: RequestOptions) -> Self {
        Self {
            options: Some(options),
            ..self
        }
    }

    /// The stack.
    pub fn get_ref(&self) -> &S {
        &self.stack
    }

    /// The stack.
    pub fn into_inner(self) -> S {
        self.stack
    }
}

impl<S, RB> ReqwestClient<S>
where
    S: Service<http::Request<reqwest::Body>, Response = http::Response<RB>> + Clone,
    S::Error: From<reqwest::Error>,
    RB: Body + Send + Sync + 'static,
    RB::Data: Into<Bytes>,
    RB::Error: Into<BoxError>,
{
    /// Builds a request and sends it through the stack: in place of `request.send()`, which would
    /// go past it.
    ///
    /// # Errors
    ///
    /// Those of the stack, and that of the builder.
    ///
    /// # Cancellation
    ///
    /// Dropping the future is safe: nothing is sent later.
    pub fn send(
        &self,
        request: reqwest::RequestBuilder,
    ) -> impl Future<Output = Result<reqwest::Response, S::Error>> + use<S, RB> {
        let client = self.clone();
        async move { client.execute(request.build()?).await }
    }

    /// Sends a request through the stack, as `reqwest::Client::execute` does without one.
    ///
    /// # Errors
    ///
    /// Those of the stack.
    ///
    /// # Cancellation
    ///
    /// Dropping the future is safe: nothing is sent later.
    pub fn execute(
        &self,
        request: reqwest::Request,
    ) -> impl Future<Output = Result<reqwest::Response, S::Error>> + use<S, RB> {
        let mut client = self.clone();
        async move {
            poll_fn(|cx| client.stack.poll_ready(cx)).await?;
            client.call(request).await
        }
    }
}

impl<S, RB> Service<reqwest::Request> for ReqwestClient<S>
where
    S: Service<http::Request<reqwest::Body>, Response = http::Response<RB>>,
    S::Error: From<reqwest::Error>,
    RB: Body + Send + Sync + 'static,
    RB::Data: Into<Bytes>,
    RB::Error: Into<BoxError>,
{
    type Response = reqwest::Response;
    type Error = S::Error;
    type Future = ReqwestClientFuture<S::Future, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.stack.poll_ready(cx)
    }

    fn call(&mut self, request: reqwest::Request) -> Self::Future {
        let url = request.url().clone();
        let request = from_reqwest(request).map_err(S::Error::from);
        let sent = Sent::new(request.map(|mut request| {
            let extensions = request.extensions_mut();
            if let Some(options) = &self.options {
                // What the request has of its own, it keeps.
                extensions.get_or_insert_with(|| options.clone());
            }
            self.stack.call(request)
        }));
        let url = Some(url);
        ReqwestClientFuture { sent, url }
    }
}

impl<S: fmt::Debug> fmt::Debug for ReqwestClient<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReqwestClient")
            .field("stack", &self.stack)
            .field("options", &self.options)
            .finish()
    }
}

pin_project! {
    /// The future of [`ReqwestClient`].
    pub struct ReqwestClientFuture<F, E> {
        #[pin]
        sent: Sent<F, E>,
        // Of the request; `None` when the answer was given.
        url: Option<Url>,
    }
}

impl<F, RB, E> Future for ReqwestClientFuture<F, E>
where
    F: Future<Output = Result<http::Response<RB>, E>>,
    RB: Body + Send + Sync + 'static,
    RB::Data: Into<Bytes>,
    RB::Error: Into<BoxError>,
{
    type Output = Result<reqwest::Response, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.sent.poll(cx));
        let url = this.url.take().expect("polled after it was ready");
        Poll::Ready(response.map(|response| into_response(response, url)))
    }
}

impl<F, E> fmt::Debug for ReqwestClientFuture<F, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReqwestClientFuture")
            .finish_non_exhaustive()
    }
}
