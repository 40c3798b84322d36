//! The clients that the promises are kept for, each used as its own users do.

use bytes::Bytes;
use futures_util::stream;
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware};
use std::{convert::Infallible, future::Future, time::Duration};
use tokio::time::{sleep, timeout};
use tower::{Layer, Service, ServiceExt};
use tower_rate_limit_retry::{
    RateLimitRetry, RateLimitRetryLayer, ReplayBody, ReqwestClient, ReqwestService, RetryReport,
};

pub(crate) type HyperBody = UnsyncBoxBody<Bytes, Infallible>;
pub(crate) type HyperClient = Client<HttpConnector, ReplayBody<HyperBody>>;

/// A client of each host, with the layer.
#[derive(Clone, Debug)]
pub(crate) enum Host {
    HyperUtil(RateLimitRetry<HyperClient>),
    Reqwest(ReqwestClient),
    /// The layer as a middleware.
    Middleware(ClientWithMiddleware),
    /// A client with middlewares under the layer.
    OverMiddleware(ReqwestClient<RateLimitRetry<ReqwestService<ClientWithMiddleware>>>),
}

/// What the program gets.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) bytes: Bytes,
    pub(crate) report: Option<RetryReport>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    /// All bytes at hand.
    Known,
    /// Chunk by chunk, and nobody knows how many.
    Stream,
}

pub(crate) const KINDS: [Kind; 2] = [Kind::Known, Kind::Stream];

impl Host {
    /// One of each, each with a layer of its own.
    pub(crate) fn all() -> [Self; 4] {
        let plain = || ClientBuilder::new(reqwest::Client::new());
        [
            Self::HyperUtil(layer().layer(hyper())),
            Self::Reqwest(layer().reqwest(reqwest::Client::new())),
            Self::Middleware(plain().with(layer()).build()),
            Self::OverMiddleware(layer().reqwest(plain().build())),
        ]
    }

    pub(crate) async fn post(&self, url: &str, bytes: &Bytes, kind: Kind) -> Answer {
        within_a_minute(async {
            match self {
                Self::HyperUtil(service) => {
                    let body = match kind {
                        Kind::Known => http_body_util::Full::new(bytes.clone()).boxed_unsync(),
                        Kind::Stream => stream_of(bytes).boxed_unsync(),
                    };
                    let request = Request::post(url).body(body).unwrap();
                    let mut service = service.clone();
                    let response = service.ready().await.unwrap().call(request).await.unwrap();
                    Answer {
                        status: response.status().as_u16(),
                        report: response.extensions().get().cloned(),
                        bytes: response.into_body().collect().await.unwrap().to_bytes(),
                    }
                }
                Self::Reqwest(client) => {
                    let request = reqwest::Client::new().post(url).body(body(bytes, kind));
                    read(client.send(request).await.unwrap()).await
                }
                Self::Middleware(client) => {
                    let request = client.post(url).body(body(bytes, kind));
                    read(request.send().await.unwrap()).await
                }
                Self::OverMiddleware(client) => {
                    let request = reqwest::Client::new().post(url).body(body(bytes, kind));
                    read(client.send(request).await.unwrap()).await
                }
            }
        })
        .await
    }
}

pub(crate) fn layer() -> RateLimitRetryLayer {
    RateLimitRetryLayer::new()
}

pub(crate) fn hyper<B>() -> Client<HttpConnector, B>
where
    B: http_body::Body<Data: Send> + Send,
{
    Client::builder(TokioExecutor::new()).build_http()
}

pub(crate) fn body(bytes: &Bytes, kind: Kind) -> reqwest::Body {
    match kind {
        Kind::Known => bytes.clone().into(),
        Kind::Stream => reqwest::Body::wrap(stream_of(bytes)),
    }
}

async fn read(response: reqwest::Response) -> Answer {
    Answer {
        status: response.status().as_u16(),
        report: response.extensions().get().cloned(),
        bytes: response.bytes().await.unwrap(),
    }
}

/// In chunks of a thousand bytes, each a little late.
fn stream_of(
    bytes: &Bytes,
) -> impl http_body::Body<Data = Bytes, Error = Infallible> + Send + Sync + use<> {
    let bytes = bytes.clone();
    StreamBody::new(stream::unfold(bytes, |mut bytes| async move {
        sleep(Duration::from_millis(1)).await;
        let chunk = bytes.split_to(bytes.len().min(1_000));
        (!chunk.is_empty()).then(|| (Ok(Frame::data(chunk)), bytes))
    }))
}

/// So that what hangs is found.
pub(crate) async fn within_a_minute<F: Future>(future: F) -> F::Output {
    let timed = timeout(Duration::from_secs(60), future);
    timed.await.expect("an end within a minute")
}
