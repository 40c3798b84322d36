//! The host `reqwest-middleware`: the layer, or a stack of layers, as a middleware.

use crate::{
    body::{BoxError, Identity},
    layer::RateLimitRetryLayer,
    options::RequestOptions,
    report::Attempt,
    reqwest::{ReqwestClient, into_http, into_reqwest},
    retry::ClassifyError,
};
use async_trait::async_trait;
use http::Extensions;
use reqwest_middleware::{Error, Middleware, Next, Result};
use std::{
    error, fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};
use tower_layer::Layer;
use tower_service::Service;

/// A stack of Tower layers as a `reqwest_middleware::Middleware`.
///
/// Our layer alone needs no wrapping: it is one itself (with the Cargo feature
/// `reqwest-middleware`).
///
/// ```
/// use reqwest_middleware::ClientBuilder;
/// use std::time::Duration;
/// use tower::ServiceBuilder;
/// use tower_rate_limit_retry::{RateLimitRetryLayer, TowerMiddleware};
///
/// let layer = RateLimitRetryLayer::new();
/// let client = ClientBuilder::new(reqwest::Client::new()).with(layer.clone()).build();
///
/// let stack = ServiceBuilder::new().timeout(Duration::from_secs(60)).layer(layer);
/// let in_time = ClientBuilder::new(reqwest::Client::new()).with(TowerMiddleware::new(stack)).build();
/// # let _ = (client, in_time);
/// ```
///
/// Middlewares that are added after it run once per attempt, those before it once per call. Each
/// attempt starts from the extensions as they were at the call, with [`Attempt`] in them from the
/// second one on; what the last one that came to its end has put in is seen outside, its number not.
/// [`RequestOptions`] are taken from there: `.with_extension(RequestOptions::new().…)`. The
/// [`RetryReport`](crate::RetryReport) is among the extensions of the response.
///
/// The layers are applied anew for each request. Ours shares its state all the same; of others that
/// hold some, take the global variant (tower's `GlobalConcurrencyLimitLayer`). Those that box or
/// spawn the service below them (`buffer`, `BoxCloneServiceLayer`) cannot be in such a stack, for the
/// chain of middlewares is borrowed: put them above the client, which is a service itself.
///
/// # Errors
///
/// Those of the client and of the middlewares come out as they went in. An error that a layer of the
/// stack makes comes out as `Error::Middleware`, and is the `source` of what is in there.
#[derive(Clone, Debug)]
pub struct TowerMiddleware<L> {
    layers: L,
}

impl<L> TowerMiddleware<L> {
    /// With these layers, the outermost first: a layer, or a `tower::ServiceBuilder` of several.
    pub fn new(layers: L) -> Self {
        Self { layers }
    }
}

/// The layers around the rest of the chain: made for one request.
type Stack<'a, L> = ReqwestClient<<L as Layer<NextService<'a>>>::Service>;

#[async_trait]
impl<L> Middleware for TowerMiddleware<L>
where
    L: for<'a> Layer<NextService<'a>> + Send + Sync + 'static,
    for<'a> <L as Layer<NextService<'a>>>::Service: Send,
    for<'a> Stack<'a, L>: Service<reqwest::Request, Response = reqwest::Response>,
    for<'a> <Stack<'a, L> as Service<reqwest::Request>>::Error: Into<BoxError>,
    for<'a> <Stack<'a, L> as Service<reqwest::Request>>::Future: Send,
{
    async fn handle(
        &self,
        request: reqwest::Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<reqwest::Response> {
        let seen = Seen::default();
        let next = NextService {
            next,
            extensions: extensions.clone(),
            seen: Arc::clone(&seen),
        };
        let mut client: Stack<'_, L> = ReqwestClient::new(self.layers.layer(next));
        if let Some(options) = extensions.get::<RequestOptions>() {
            client = client.options(options.clone());
        }
        poll_fn(|cx| client.poll_ready(cx))
            .await
            .map_err(into_error)?;
        let response = client.call(request).await.map_err(into_error);
        if let Some(mut seen) = lock(&seen).take() {
            // The number of an attempt is for those inside; outside it would be one of the next call.
            number(&mut seen, extensions.get().copied());
            *extensions = seen;
        }
        response
    }
}

/// `ClientBuilder::with(RateLimitRetryLayer::new())`: see [`TowerMiddleware`]. Needs the Cargo
/// feature `reqwest-middleware`.
#[async_trait]
impl<R> Middleware for RateLimitRetryLayer<Identity, R>
where
    R: ClassifyError<Error> + Clone + Send + Sync + 'static,
{
    async fn handle(
        &self,
        request: reqwest::Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<reqwest::Response> {
        let middleware = TowerMiddleware::new(self.clone());
        middleware.handle(request, extensions, next).await
    }
}

/// The extensions as the last attempt has left them that came to its end.
type Seen = Arc<Mutex<Option<Extensions>>>;

/// The middlewares that come after, and the client, as a service.
///
/// Each call runs all of them.
#[derive(Clone)]
pub struct NextService<'a> {
    next: Next<'a>,
    /// As they were at the call.
    extensions: Extensions,
    seen: Seen,
}

impl<'a, B> Service<http::Request<B>> for NextService<'a>
where
    B: Into<reqwest::Body>,
{
    type Response = http::Response<reqwest::Body>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response>> + Send + 'a>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let Self {
            next,
            mut extensions,
            seen,
        } = self.clone();
        number(&mut extensions, request.extensions().get().copied());
        let request = into_reqwest(request);
        Box::pin(async move {
            let response = next.run(request?, &mut extensions).await;
            *lock(&seen) = Some(extensions);
            response.map(into_http)
        })
    }
}

impl fmt::Debug for NextService<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NextService").finish_non_exhaustive()
    }
}

/// Sets which attempt it is, or that it is a first one.
fn number(extensions: &mut Extensions, attempt: Option<Attempt>) {
    match attempt {
        Some(attempt) => extensions.insert(attempt),
        None => extensions.remove::<Attempt>(),
    };
}

fn lock(seen: &Mutex<Option<Extensions>>) -> MutexGuard<'_, Option<Extensions>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What went through a layer that boxes errors is unpacked again.
fn into_error(error: impl Into<BoxError>) -> Error {
    let error = match error.into().downcast::<Error>() {
        Ok(error) => return *error,
        Err(error) => error,
    };
    match error.downcast::<reqwest::Error>() {
        Ok(error) => Error::Reqwest(*error),
        Err(error) => Error::middleware(LayerError(error)),
    }
}

/// Gives an error that has only a box the type that `reqwest-middleware` asks for.
#[derive(Debug)]
struct LayerError(BoxError);

impl fmt::Display for LayerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a layer around the client failed")
    }
}

impl error::Error for LayerError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&*self.0)
    }
}
