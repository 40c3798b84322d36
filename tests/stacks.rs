//! Each layer of `tower` and `tower-http` above ours and below it: the stack compiles, can be cloned
//! and sent to another thread, and takes a request through a refusal over a real socket.

#[allow(dead_code, reason = "each test binary uses its own share")]
#[path = "hosts/server.rs"]
mod server;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use server::{Reply, Server};
use std::{fmt::Debug, time::Duration};
use tokio::time::timeout;
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt,
    limit::{ConcurrencyLimit, GlobalConcurrencyLimitLayer},
    util::{BoxCloneServiceLayer, BoxCloneSyncService, BoxCloneSyncServiceLayer, BoxService},
};
use tower_http::{
    decompression::DecompressionLayer, follow_redirect::FollowRedirectLayer,
    set_header::SetRequestHeaderLayer, timeout::TimeoutLayer, trace::TraceLayer,
};
use tower_rate_limit_retry::{
    BoxError, RateLimitRetry, RateLimitRetryLayer, ReplayBody, RetryReport, StopReason,
};

type Body = Full<Bytes>;
type Hyper = Client<HttpConnector, ReplayBody<Body>>;

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn above() {
    let base = || ServiceBuilder::new();
    check(base().buffer(8).layer(layer()).service(client())).await;
    check(base().timeout(LONG).layer(layer()).service(client())).await;
    check(base().load_shed().layer(layer()).service(client())).await;
    check(base().concurrency_limit(1).layer(layer()).service(client())).await;
    check(
        base()
            .layer(GlobalConcurrencyLimitLayer::new(1))
            .layer(layer())
            .service(client()),
    )
    .await;
    check(
        base()
            .layer(TraceLayer::new_for_http())
            .layer(layer())
            .service(client()),
    )
    .await;
    check(base().layer(set_header()).layer(layer()).service(client())).await;
    check(
        base()
            .layer(FollowRedirectLayer::new())
            .layer(layer())
            .service(client()),
    )
    .await;
    check(
        base()
            .layer(DecompressionLayer::new())
            .layer(layer())
            .service(client()),
    )
    .await;
    check(
        base()
            .layer(timeout_with_status())
            .layer(layer())
            .service(client()),
    )
    .await;
    check(
        base()
            .map_err(BoxError::from)
            .layer(layer())
            .service(client()),
    )
    .await;
    check(
        base()
            .layer(BoxCloneSyncServiceLayer::new(layer()))
            .service(client()),
    )
    .await;
    check(BoxCloneSyncService::new(layer().layer(client()))).await;
    // Neither `Sync` nor, the last ones, `Clone`, above whatever they are.
    check_once(
        base()
            .layer(BoxCloneServiceLayer::new(layer()))
            .service(client()),
    )
    .await;
    check_once(layer().layer(client()).boxed_clone()).await;
    check_once(layer().layer(client()).boxed()).await;
    check_once(
        base()
            .rate_limit(100, LONG)
            .layer(layer())
            .service(client()),
    )
    .await;
}

#[tokio::test]
async fn below() {
    let base = || ServiceBuilder::new().layer(layer());
    check(base().buffer(8).service(client())).await;
    check(base().timeout(LONG).service(client())).await;
    check(base().load_shed().service(client())).await;
    check(base().concurrency_limit(1).service(client())).await;
    check(
        base()
            .layer(GlobalConcurrencyLimitLayer::new(1))
            .service(client()),
    )
    .await;
    check(base().layer(TraceLayer::new_for_http()).service(client())).await;
    check(base().layer(set_header()).service(client())).await;
    check(base().layer(FollowRedirectLayer::new()).service(client())).await;
    check(base().layer(DecompressionLayer::new()).service(client())).await;
    check(base().map_err(BoxError::from).service(client())).await;
    check(base().service(BoxCloneSyncService::new(client()))).await;
    check_once(base().service(client().boxed_clone())).await;
    // What is not `Clone` becomes it by a buffer.
    check(base().buffer(8).rate_limit(100, LONG).service(client())).await;
    check(base().buffer(8).service(BoxService::new(client()))).await;
    // What answers by itself has to have a body for that.
    let boxed = client().map_response(|response: Response<hyper::body::Incoming>| {
        response.map(UnsyncBoxBody::<Bytes, hyper::Error>::new)
    });
    check(base().layer(timeout_with_status()).service(boxed)).await;
}

#[tokio::test]
async fn all_at_once() {
    let stack = ServiceBuilder::new()
        .timeout(LONG)
        .load_shed()
        .concurrency_limit(64)
        .layer(TraceLayer::new_for_http())
        .layer(layer())
        .layer(TraceLayer::new_for_http())
        .layer(set_header())
        .layer(FollowRedirectLayer::new())
        .layer(DecompressionLayer::new())
        .concurrency_limit(8)
        .timeout(LONG)
        .service(client());
    check(stack.clone()).await;
    check(BoxCloneSyncService::new(stack)).await;
}

/// In place of tower's `option_layer`, both of whose arms would have to have the same types.
#[tokio::test]
async fn a_layer_can_be_switched_off() {
    for (enabled, expected) in [(false, 429), (true, 200)] {
        check_status(layer().enabled(enabled).layer(client()), expected).await;
    }
}

/// Stacks can be named in structs.
#[derive(Clone, Debug)]
struct Named {
    plain: RateLimitRetry<Hyper>,
    limited: RateLimitRetry<ConcurrencyLimit<Hyper>>,
    erased: BoxCloneSyncService<Request<Body>, Response<UnsyncBoxBody<Bytes, BoxError>>, BoxError>,
}

#[tokio::test]
async fn a_stack_can_be_named() {
    let erase = |response: Response<tower_rate_limit_retry::ResponseBody<_>>| {
        response.map(|body| body.map_err(BoxError::from).boxed_unsync())
    };
    let erased = layer().layer(client()).map_response(erase);
    let named = Named {
        plain: layer().layer(client()),
        limited: layer().layer(ConcurrencyLimit::new(client(), 1)),
        erased: BoxCloneSyncService::new(erased.map_err(BoxError::from)),
    };
    check(named.plain).await;
    check(named.limited).await;
    check(named.erased).await;
}

#[tokio::test]
async fn a_compressed_refusal_is_understood_above_its_decompression() {
    // {"error":{"code":"insufficient_quota"}}
    const SPENT: &[u8] = &[
        31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 171, 86, 74, 45, 42, 202, 47, 82, 178, 170, 86, 74, 206,
        79, 73, 85, 178, 82, 202, 204, 43, 46, 77, 75, 203, 76, 206, 76, 205, 43, 137, 47, 44, 205,
        47, 73, 84, 170, 173, 5, 0, 5, 34, 4, 6, 39, 0, 0, 0,
    ];
    let server = Server::start(|_| {
        let refusal = Reply::refusal(Duration::from_millis(1)).body(SPENT);
        let refusal = refusal.field("content-encoding", "gzip");
        refusal.field("content-type", "application/json")
    })
    .await;
    let stack = ServiceBuilder::new()
        .layer(layer().max_retries(1))
        .layer(DecompressionLayer::new())
        .service(client());
    let response = stack.oneshot(request(&server)).await.unwrap();
    let report = response.extensions().get::<RetryReport>().unwrap();
    assert_eq!(report.stop_reason(), Some(StopReason::NotRetryable));
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(body.starts_with(br#"{"error":"#));
    assert_eq!(server.log().len(), 1);
}

/// Sends one request through the stack, and one through a clone on another thread.
async fn check<S, R>(stack: S)
where
    S: Service<Request<Body>, Response = Response<R>, Error: Debug + Send, Future: Send>,
    S: Clone + Send + Sync + 'static,
    R: http_body::Body<Data: Send, Error: Debug> + Send + 'static,
{
    let clone = stack.clone();
    tokio::spawn(check_once(clone)).await.unwrap();
    check_once(stack).await;
}

/// Sends one request through the stack.
async fn check_once<S, R>(stack: S)
where
    S: Service<Request<Body>, Response = Response<R>, Error: Debug, Future: Send>,
    S: Send + 'static,
    R: http_body::Body<Error: Debug> + Send + 'static,
{
    check_status(stack, 200).await;
}

async fn check_status<S, R>(mut stack: S, expected: u16)
where
    S: Service<Request<Body>, Response = Response<R>, Error: Debug>,
    R: http_body::Body<Error: Debug>,
{
    let server = Server::refusing(1, Duration::from_millis(1)).await;
    let exchange = async {
        let service = stack.ready().await.unwrap();
        let response = service.call(request(&server)).await.unwrap();
        assert_eq!(response.status(), expected);
        response.into_body().collect().await.unwrap();
    };
    timeout(LONG, exchange)
        .await
        .expect("an end within a minute");
    let log = server.log();
    assert!(log.iter().all(|sent| sent.bytes == "hello"));
    assert_eq!(log.len(), if expected == 200 { 2 } else { 1 });
}

fn request(server: &Server) -> Request<Body> {
    Request::post(server.url("/")).body("hello".into()).unwrap()
}

fn layer() -> RateLimitRetryLayer {
    RateLimitRetryLayer::new()
}

fn client() -> Hyper {
    Client::builder(TokioExecutor::new()).build_http()
}

fn set_header() -> SetRequestHeaderLayer<HeaderValue> {
    SetRequestHeaderLayer::overriding(header::USER_AGENT, HeaderValue::from_static("test"))
}

fn timeout_with_status() -> TimeoutLayer {
    TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, LONG)
}
