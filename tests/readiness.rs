//! Readiness is asked for before every attempt, and nothing is held while a call waits.

mod support;

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use http::{Request, Response};
use std::{
    future::{Future, Ready, ready},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
};
use support::{AnswerBody, Body, Server, call, ms, ok, poll_once, refuse, request};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimit};
use tower_rate_limit_retry::{
    Partition, RateLimitRetryLayer, ReplayBody, RequestOptions, RetryReport,
};

fn of_partition(id: usize, partition: &str) -> Request<Body> {
    let mut request = request(id);
    request
        .extensions_mut()
        .insert(RequestOptions::new().partition(Partition::new(partition)));
    request
}

#[tokio::test(start_paused = true)]
async fn is_asked_for_before_every_attempt() {
    let server = Server::new(|sent| if sent.index < 2 { refuse("1") } else { ok() });
    let answer = RateLimitRetryLayer::new()
        .layer(server.clone())
        .oneshot(request(0))
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(
        server.times(),
        [0, 1_000, 2_000],
        "the server panics where it is not asked"
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_holds_no_permit() {
    let permits = Arc::new(Semaphore::new(1));
    let server = Server::new(|sent| if sent.index == 0 { refuse("5") } else { ok() });
    let mut service = RateLimitRetryLayer::new().layer(ConcurrencyLimit::with_semaphore(
        server.clone(),
        Arc::clone(&permits),
    ));
    let mut refused = call(&mut service, of_partition(1, "closed")).await;
    assert!(poll_once(&mut refused).await.is_pending());
    assert_eq!(permits.available_permits(), 1);
    let other = call(&mut service, of_partition(2, "open"))
        .await
        .await
        .unwrap();
    assert_eq!(other.status(), 200);
    let mut late = call(&mut service, of_partition(3, "closed")).await;
    assert!(poll_once(&mut late).await.is_pending());
    assert_eq!(
        permits.available_permits(),
        1,
        "nor does one that was never sent"
    );
    assert_eq!(
        (
            refused.await.unwrap().status(),
            late.await.unwrap().status()
        ),
        (200.try_into().unwrap(), 200.try_into().unwrap())
    );
    assert_eq!(server.ids(), [1, 2, 1, 3]);
}

#[tokio::test(start_paused = true)]
async fn above_the_layer_a_permit_is_held_on_purpose() {
    let server = Server::new(|sent| if sent.index == 0 { refuse("5") } else { ok() });
    let mut service = ServiceBuilder::new()
        .concurrency_limit(1)
        .layer(RateLimitRetryLayer::new())
        .service(server);
    let first = call(&mut service, of_partition(1, "closed")).await;
    let began = Instant::now();
    let both = tokio::join!(first, async {
        call(&mut service, of_partition(2, "open")).await.await
    });
    assert_eq!(
        (both.0.unwrap().status(), both.1.unwrap().status()),
        (200.try_into().unwrap(), 200.try_into().unwrap())
    );
    assert_eq!(began.elapsed(), ms(5_000));
}

/// Fails as it is told to, in readiness or in the call, after so many successes of either.
#[derive(Clone)]
struct Failing {
    calls: Arc<AtomicUsize>,
    in_readiness: bool,
}

impl<B> Service<Request<ReplayBody<B>>> for Failing {
    type Response = Response<Body>;
    type Error = &'static str;
    type Future = Ready<Result<Response<Body>, &'static str>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        let fails = self.in_readiness && self.calls.load(SeqCst) > 0;
        Poll::Ready(if fails {
            Err("not ready, and never again")
        } else {
            Ok(())
        })
    }

    fn call(&mut self, _: Request<ReplayBody<B>>) -> Self::Future {
        let first = self.calls.fetch_add(1, SeqCst) == 0;
        let mut response = Response::new(Body::default());
        *response.status_mut() = http::StatusCode::TOO_MANY_REQUESTS;
        ready(if first {
            Ok(response)
        } else {
            Err("connection reset")
        })
    }
}

#[tokio::test(start_paused = true)]
async fn errors_come_through_unchanged() {
    for (in_readiness, expected) in [
        (false, "connection reset"),
        (true, "not ready, and never again"),
    ] {
        let inner = Failing {
            calls: Arc::default(),
            in_readiness,
        };
        let error = RateLimitRetryLayer::new()
            .layer(inner)
            .oneshot(request(0))
            .await
            .unwrap_err();
        assert_eq!(error, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn two_partitions_share_a_single_permit_and_both_end() {
    let server = Server::new(|sent| {
        if sent.id < 100 && sent.index % 3 != 2 {
            refuse("1")
        } else {
            ok()
        }
        .after(ms(10))
    });
    let layer = RateLimitRetryLayer::new().max_retries(1_000);
    let service = ServiceBuilder::new()
        .layer(layer)
        .concurrency_limit(1)
        .service(server.clone());
    let calls: FuturesUnordered<_> = (0..40)
        .map(|i| {
            let request = if i % 2 == 0 {
                of_partition(i, "paused")
            } else {
                of_partition(100 + i, "open")
            };
            service.clone().oneshot(request)
        })
        .collect();
    let answers = timeout(ms(3_600_000), calls.collect::<Vec<_>>())
        .await
        .expect("no call hangs");
    assert!(
        answers
            .into_iter()
            .all(|answer| answer.unwrap().status() == 200)
    );
}

#[tokio::test(start_paused = true)]
async fn a_retry_goes_before_all_who_came_after_the_refusal() {
    let server = Server::new(|sent| if sent.index == 2 { refuse("2") } else { ok() }.after(ms(50)));
    let service = ServiceBuilder::new()
        .layer(RateLimitRetryLayer::new())
        .concurrency_limit(16)
        .service(server.clone());
    let calls: FuturesUnordered<_> = (0..500)
        .map(|id| service.clone().oneshot(request(id)))
        .collect();
    let answers: Vec<_> = calls.collect().await;
    assert!(
        answers
            .into_iter()
            .all(|answer| answer.unwrap().status() == 200)
    );
    let log = server.log();
    let retry = log.iter().position(|sent| sent.attempt == 2).unwrap();
    assert_eq!(log[retry].id, 2);
    assert_eq!(log[retry].at, ms(2_050));
    assert!(log[retry..].iter().skip(1).all(|sent| sent.at >= ms(2_050)));
    assert!(
        log[..retry].iter().all(|sent| sent.at <= ms(50)),
        "all before it were sent before the refusal was known"
    );
}

/// Ready once, and then only when it is let.
#[derive(Clone)]
struct Stuck {
    server: Server,
    open: Arc<AtomicBool>,
}

impl Service<Request<ReplayBody<Body>>> for Stuck {
    type Response = Response<AnswerBody>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<AnswerBody>, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if !self.open.load(SeqCst) {
            return Poll::Pending;
        }
        Service::<Request<ReplayBody<Body>>>::poll_ready(&mut self.server, cx)
    }

    fn call(&mut self, request: Request<ReplayBody<Body>>) -> Self::Future {
        self.server.call(request)
    }
}

/// A server that announces one steady bucket of 20 requests a second.
fn paced() -> Server {
    let full_at = Mutex::new(ms(0));
    Server::new(move |sent| {
        let mut full_at = full_at.lock().unwrap();
        *full_at = (*full_at).max(sent.at) + ms(50);
        let missing = full_at.saturating_sub(sent.at);
        let reset = format!("{}ms", missing.as_millis());
        let remaining = 20_u128.saturating_sub(missing.as_millis().div_ceil(50));
        let reply = if missing > ms(1_000) {
            refuse("1")
        } else {
            ok()
        };
        let reply = reply
            .header("x-ratelimit-limit-requests", "20")
            .header("x-ratelimit-reset-requests", reset);
        reply.header("x-ratelimit-remaining-requests", remaining.to_string())
    })
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_never_ready_costs_the_others_next_to_nothing() {
    let server = paced();
    let layer = RateLimitRetryLayer::new();
    let open = Arc::new(AtomicBool::new(true));
    let mut stuck = layer.layer(Stuck {
        server: server.clone(),
        open: Arc::clone(&open),
    });
    let mut service = layer.layer(server.clone());
    let mut calls = FuturesUnordered::new();
    // The bucket is empty after twenty; from then on all wait.
    for id in 0..220 {
        calls.push(call(&mut service, request(id)).await.boxed());
        if id >= 20 && id % 20 == 0 {
            calls.push(call(&mut stuck, request(1_000 + id)).await.boxed());
        }
        if id < 20 {
            calls.next().await;
        }
    }
    open.store(false, SeqCst);
    let began = Instant::now();
    for _ in 0..200 {
        assert_eq!(calls.next().await.unwrap().unwrap().status(), 200);
    }
    assert!(began.elapsed() <= ms(10_500), "{:?}", began.elapsed());
    assert_eq!(
        server.log().iter().filter(|sent| sent.id >= 1_000).count(),
        0
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_over_holds_nothing_even_if_it_is_kept() {
    let server = Server::new(|sent| match sent.index {
        0 => refuse("1"),
        _ => ok().after(ms(1_000)),
    });
    let layer = RateLimitRetryLayer::new();
    let mut service = ServiceBuilder::new()
        .layer(layer)
        .concurrency_limit(1)
        .service(server);
    let first = tokio::spawn(call(&mut service.clone(), request(1)).await);
    let mut hurried = request(2);
    let options = RequestOptions::new().deadline(ms(1_500));
    hurried.extensions_mut().insert(options);
    let mut second = call(&mut service.clone(), hurried).await;
    let answer = (&mut second).await.unwrap();
    assert_eq!(answer.status(), 429, "its turn came, but not the permit");
    first.await.unwrap().unwrap();
    let third = call(&mut service, request(3));
    timeout(ms(10_000), third).await.unwrap().await.unwrap();
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn whoever_is_dropped_while_its_service_is_not_ready_passes_the_turn_on() {
    for held_for in [0, 50, 100, 5_000] {
        let server = Server::new(|sent| if sent.index == 0 { refuse("1") } else { ok() });
        let layer = RateLimitRetryLayer::new();
        let open = Arc::new(AtomicBool::new(true));
        let mut stuck = layer.layer(Stuck {
            server: server.clone(),
            open: Arc::clone(&open),
        });
        let mut refused = call(&mut stuck, request(0)).await;
        assert!(poll_once(&mut refused).await.is_pending());
        open.store(false, SeqCst);
        let next = tokio::spawn(layer.layer(server.clone()).oneshot(request(1)));
        sleep(ms(1_000)).await;
        assert!(
            poll_once(&mut refused).await.is_pending(),
            "admitted, but its service is not ready"
        );
        sleep(ms(held_for)).await;
        drop(refused);
        let answer = next.await.unwrap().unwrap();
        let waited = answer.extensions().get::<RetryReport>().unwrap().waited();
        assert!(waited <= ms(1_100), "{held_for}: {waited:?}");
        assert_eq!(server.ids(), [0, 1], "what was dropped is not sent again");
    }
}

#[tokio::test(start_paused = true)]
async fn readiness_that_does_not_come_before_the_deadline_ends_the_call() {
    let server = Server::new(|_| refuse("1"));
    let open = Arc::new(AtomicBool::new(true));
    let layer = RateLimitRetryLayer::new().deadline(ms(3_000));
    let mut service = layer.layer(Stuck {
        server: server.clone(),
        open: Arc::clone(&open),
    });
    let began = Instant::now();
    let refused = call(&mut service, request(0)).await;
    open.store(false, SeqCst);
    let answer = refused.await.unwrap();
    assert_eq!(server.times(), [0]);
    assert_eq!(began.elapsed(), ms(3_000));
    assert_eq!(
        support::read(answer).await,
        (429, "ok".into()),
        "the refusal that came before"
    );
}
