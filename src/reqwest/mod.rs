//! The host `reqwest`: a client under the layer, and requests and responses of `reqwest` above it.
//!
//! The layer speaks `http`. So there are two adapters: [`ReqwestService`] lies under all layers and
//! turns each attempt into a request of `reqwest`; [`ReqwestClient`] lies above them and takes what
//! the program has made with the client's own builders. `convert` has what is lost on the way if it
//! is not carried along.

mod client;
mod convert;
mod sent;
mod service;

pub use self::{
    client::{ReqwestClient, ReqwestClientFuture},
    service::{ReqwestService, ReqwestServiceFuture},
};
#[cfg(feature = "reqwest-middleware")]
pub(crate) use convert::{into_http, into_reqwest};

use crate::{body::Identity, layer::RateLimitRetryLayer, service::RateLimitRetry};
use tower_layer::Layer;

impl<R: Clone> RateLimitRetryLayer<Identity, R> {
    /// Wraps a client of `reqwest`; what comes out is used like one.
    ///
    /// The client can be a `reqwest::Client`, a `reqwest_middleware::ClientWithMiddleware`, or any
    /// other service that takes a `reqwest::Request`. Needs the Cargo feature `reqwest`; other
    /// layers go around this one as [`ReqwestClient::new`] shows.
    ///
    /// ```
    /// use tower_rate_limit_retry::{RateLimitRetryLayer, RetryReport};
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = reqwest::Client::new();
    /// let limited = RateLimitRetryLayer::new().reqwest(client.clone());
    ///
    /// let request = client.post("https://api.example.com/v1/chat/completions").body("{}");
    /// let response: reqwest::Response = limited.send(request).await?;
    /// if let Some(report) = response.extensions().get::<RetryReport>() {
    ///     println!("attempts: {}", report.attempts());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn reqwest<C>(
        &self,
        client: C,
    ) -> ReqwestClient<RateLimitRetry<ReqwestService<C>, Identity, R>> {
        ReqwestClient::new(self.layer(ReqwestService::new(client)))
    }
}
