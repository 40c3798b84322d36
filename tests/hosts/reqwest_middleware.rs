//! What is particular to `reqwest-middleware`: the layer in a chain of middlewares.

use crate::{
    host::{layer, within_a_minute},
    server::{Reply, Server},
};
use async_trait::async_trait;
use futures_util::future::join_all;
use http::Extensions;
use reqwest::{Client, Request, Response};
use reqwest_middleware::{ClientBuilder, Error, Middleware, Next, Result};
use std::{
    error::Error as _,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tower::{ServiceBuilder, limit::GlobalConcurrencyLimitLayer, timeout::error::Elapsed};
use tower_rate_limit_retry::{Attempt, RequestOptions, RetryReport, StopReason, TowerMiddleware};

const SOON: Duration = Duration::from_millis(20);

/// Counts how often it runs, and how often it has been in what it was given.
#[derive(Clone, Default)]
struct Counter {
    runs: Arc<Mutex<Vec<Run>>>,
}

/// The extensions that a middleware has found, and then counted up.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Run {
    count: Option<Count>,
    attempt: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Count(u32);

#[async_trait]
impl Middleware for Counter {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        let count = extensions.get::<Count>().copied();
        let attempt = extensions.get::<Attempt>().map(|attempt| attempt.number());
        self.runs.lock().unwrap().push(Run { count, attempt });
        extensions.insert(Count(count.map_or(0, |count| count.0) + 1));
        next.run(request, extensions).await
    }
}

impl Counter {
    fn runs(&self) -> Vec<(Option<u32>, Option<u32>)> {
        let runs = self.runs.lock().unwrap();
        let tell = |run: &Run| (run.count.map(|count| count.0), run.attempt);
        runs.iter().map(tell).collect()
    }
}

#[tokio::test]
async fn middlewares_before_it_run_once_and_those_after_it_for_each_attempt() {
    let server = Server::refusing(2, SOON).await;
    let (outer, inner) = (Counter::default(), Counter::default());
    let client = ClientBuilder::new(Client::new())
        .with(outer.clone())
        .with(layer())
        .with(inner.clone())
        .build();
    let response = within_a_minute(client.get(server.url("/a#b")).send())
        .await
        .unwrap();
    assert_eq!(
        (response.status().as_u16(), response.url().path()),
        (200, "/a")
    );
    assert!(response.remote_addr().is_some());
    assert_eq!(outer.runs(), [(None, None)]);
    let each_from_the_start = [(Some(1), None), (Some(1), Some(2)), (Some(1), Some(3))];
    assert_eq!(inner.runs(), each_from_the_start);
}

#[tokio::test]
async fn what_the_last_attempt_has_put_in_the_extensions_is_seen_outside() {
    struct Outer(Arc<Mutex<Option<Count>>>);

    #[async_trait]
    impl Middleware for Outer {
        async fn handle(
            &self,
            request: Request,
            extensions: &mut Extensions,
            next: Next<'_>,
        ) -> Result<Response> {
            let response = next.run(request, extensions).await;
            *self.0.lock().unwrap() = extensions.get().copied();
            response
        }
    }

    let server = Server::refusing(2, SOON).await;
    let seen = Arc::default();
    let client = ClientBuilder::new(Client::new())
        .with(Outer(Arc::clone(&seen)))
        .with(layer())
        .with(Counter::default())
        .build();
    let response = client.get(server.url("/")).with_extension(Count(4)).send();
    assert_eq!(within_a_minute(response).await.unwrap().status(), 200);
    assert_eq!(*seen.lock().unwrap(), Some(Count(5)));
}

#[tokio::test]
async fn the_number_of_an_attempt_is_not_seen_outside() {
    let server = Server::refusing(1, SOON).await;
    let inner = Counter::default();
    let client = ClientBuilder::new(Client::new())
        .with(layer())
        .with(inner.clone())
        .build();
    let mut extensions = Extensions::new();
    for _ in 0..2 {
        let request = client.get(server.url("/")).build().unwrap();
        let response = client.execute_with_extensions(request, &mut extensions);
        assert_eq!(within_a_minute(response).await.unwrap().status(), 200);
        assert_eq!(extensions.get::<Attempt>(), None);
    }
    let attempts: Vec<_> = inner.runs().iter().map(|run| run.1).collect();
    assert_eq!(attempts, [None, Some(2), None]);
}

#[tokio::test]
async fn a_pause_holds_all_requests_of_the_client_back() {
    let server = Server::start(|sent| match sent.index {
        0 => Reply::new(429).field("retry-after", "1"),
        _ => Reply::ok(),
    })
    .await;
    let client = ClientBuilder::new(Client::new()).with(layer()).build();
    let first = {
        let request = client.get(server.url("/")).send();
        tokio::spawn(within_a_minute(request))
    };
    while server.log().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The refusal is on its way to the client.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let others = (0..3).map(|_| client.get(server.url("/")).send());
    for response in within_a_minute(join_all(others)).await {
        let response = response.unwrap();
        assert_eq!(response.status(), 200);
        let report = response.extensions().get::<RetryReport>().unwrap();
        assert_eq!(report.attempts(), 1);
    }
    assert_eq!(first.await.unwrap().unwrap().status(), 200);
    let log = server.log();
    for later in &log[1..] {
        assert!(later.arrived - log[0].arrived >= Duration::from_secs(1));
    }
    assert_eq!(log.len(), 5);
}

/// Fails on the second attempt.
struct Failing;

#[derive(Debug, PartialEq)]
struct Failure(u32);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("failed")
    }
}

impl std::error::Error for Failure {}

#[async_trait]
impl Middleware for Failing {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        match extensions.get::<Attempt>() {
            Some(attempt) => Err(Error::middleware(Failure(attempt.number()))),
            None => next.run(request, extensions).await,
        }
    }
}

#[tokio::test]
async fn errors_of_middlewares_and_of_the_client_keep_their_types() {
    let boxes_errors = TowerMiddleware::new(
        ServiceBuilder::new()
            .timeout(Duration::from_secs(50))
            .layer(layer()),
    );
    for client in [
        ClientBuilder::new(Client::new())
            .with(layer())
            .with(Failing),
        ClientBuilder::new(Client::new())
            .with(boxes_errors)
            .with(Failing),
    ] {
        let client = client.build();
        let server = Server::refusing(1, SOON).await;
        let error = within_a_minute(client.get(server.url("/")).send())
            .await
            .unwrap_err();
        let Error::Middleware(error) = error else {
            panic!("expected the middleware's, found {error:?}");
        };
        assert_eq!(error.downcast_ref(), Some(&Failure(2)));

        let error = client.get("hxxp://example.com/").send().await.unwrap_err();
        assert!(
            matches!(&error, Error::Reqwest(error) if error.is_builder()),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn the_error_of_a_layer_is_the_source_of_what_comes_out() {
    let server = Server::refusing(usize::MAX, Duration::from_secs(50)).await;
    let stack = ServiceBuilder::new()
        .timeout(Duration::from_millis(100))
        .layer(layer());
    let client = ClientBuilder::new(Client::new())
        .with(TowerMiddleware::new(stack))
        .build();
    let error = within_a_minute(client.get(server.url("/")).send())
        .await
        .unwrap_err();
    assert!(error.is_middleware());
    assert!(
        error
            .source()
            .is_some_and(<dyn std::error::Error>::is::<Elapsed>),
        "{error:?}"
    );
}

#[tokio::test]
async fn options_come_with_the_extensions_of_a_request() {
    let server = Server::refusing(usize::MAX, SOON).await;
    let client = ClientBuilder::new(Client::new()).with(layer()).build();
    let request = client
        .get(server.url("/"))
        .with_extension(RequestOptions::new().max_retries(1));
    let response = within_a_minute(request.send()).await.unwrap();
    let report = response.extensions().get::<RetryReport>().unwrap();
    assert_eq!(report.attempts(), 2);
    assert_eq!(report.stop_reason(), Some(StopReason::MaxRetries));
    assert_eq!(server.log().len(), 2);
}

#[tokio::test]
async fn a_global_limit_in_the_stack_holds_for_all_requests() {
    /// How many are in service now, and how many were at the most.
    #[derive(Clone, Default)]
    struct Watch(Arc<(AtomicUsize, AtomicUsize)>);

    #[async_trait]
    impl Middleware for Watch {
        async fn handle(
            &self,
            request: Request,
            extensions: &mut Extensions,
            next: Next<'_>,
        ) -> Result<Response> {
            let (now, most) = &*self.0;
            most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            let response = next.run(request, extensions).await;
            now.fetch_sub(1, Ordering::Relaxed);
            response
        }
    }

    let server = Server::start(|_| Reply::ok().late(Duration::from_millis(200))).await;
    let watch = Watch::default();
    let stack = ServiceBuilder::new()
        .layer(layer())
        .layer(GlobalConcurrencyLimitLayer::new(2));
    let client = ClientBuilder::new(Client::new())
        .with(TowerMiddleware::new(stack))
        .with(watch.clone())
        .build();
    let requests = (0..6).map(|_| client.get(server.url("/")).send());
    for response in within_a_minute(join_all(requests)).await {
        assert_eq!(response.unwrap().status(), 200);
    }
    assert_eq!(server.log().len(), 6);
    assert!(watch.0.1.load(Ordering::Relaxed) <= 2);
}
