//! What the page on waiting says of cases that are not obvious.

mod support;

use http::Request;
use std::{num::NonZero, time::Duration};
use support::{Body, Server, call, ms, ok, poll_once, request, status};
use tokio::time::Instant;
use tower::Layer;
use tower_rate_limit_retry::{
    Hold, Limits, Partition, PartitionSnapshot, Quota, RateLimitRetryLayer, RequestOptions,
    RetryReport, StopReason,
};

fn seen(limits: &Limits) -> PartitionSnapshot {
    let partition = Partition::new("api.example.com");
    limits.partition(&partition).expect("it has been called")
}

fn many(count: u64) -> NonZero<u64> {
    NonZero::new(count).unwrap()
}

fn with(id: usize, options: RequestOptions) -> Request<Body> {
    let mut request = request(id);
    request.extensions_mut().insert(options);
    request
}

#[tokio::test(start_paused = true)]
async fn a_call_that_backs_off_waits_while_the_partition_is_open() {
    let server = Server::new(|sent| match sent.index {
        0 => status(502),
        _ => ok(),
    });
    let layer = RateLimitRetryLayer::new().retry_if(|head| head.status == 502);
    let limits = layer.limits();
    let mut service = layer.layer(server);
    let get = Request::get("http://api.example.com/").extension(0_usize);
    let mut failed = call(&mut service, get.body(Body::default()).unwrap()).await;
    assert!(poll_once(&mut failed).await.is_pending());
    let partition = seen(&limits);
    assert_eq!(partition.waiting(), 1);
    assert_eq!((partition.held_by(), partition.opens_in()), (None, ms(0)));
    assert!(partition.pause().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_large_request_at_the_front_holds_back_small_ones_but_those_with_a_head_start() {
    let server = Server::new(|_| ok());
    let tokens = Quota::tokens(many(600)).per_minute().burst(many(600));
    let layer = RateLimitRetryLayer::new().quota(tokens);
    let limits = layer.limits();
    let mut service = layer.layer(server.clone());
    let cost = |tokens| RequestOptions::new().tokens(tokens);
    let _ = call(&mut service, with(0, cost(400))).await.await;
    let mut large = call(&mut service, with(1, cost(500))).await;
    let mut small = call(&mut service, with(2, cost(1))).await;
    for waiting in [&mut large, &mut small] {
        assert!(poll_once(waiting).await.is_pending());
    }
    let partition = seen(&limits);
    assert_eq!(partition.waiting(), 2);
    assert_eq!(partition.held_by(), Some(&Hold::Declared("tokens")));
    let head_start = cost(1).head_start(ms(10_000));
    let (urgent, began) = (
        call(&mut service, with(3, head_start)).await,
        Instant::now(),
    );
    assert!(urgent.await.is_ok());
    assert_eq!(
        began.elapsed(),
        ms(0),
        "and not when those before it have let their turn pass"
    );
    assert_eq!(server.ids(), [0, 3]);
}

#[tokio::test(start_paused = true)]
async fn the_line_counts_towards_the_deadline_and_not_towards_the_maximum_delay() {
    let server = Server::new(|_| ok());
    let layer = RateLimitRetryLayer::new()
        .quota(Quota::requests(many(1)).per_minute())
        .max_delay(ms(120_000));
    let limits = layer.limits();
    let mut service = layer.layer(server);
    let mut calls = Vec::new();
    for id in 0..20 {
        calls.push(call(&mut service, request(id)).await);
    }
    for call in &mut calls[1..] {
        assert!(poll_once(call).await.is_pending());
    }
    assert_eq!(seen(&limits).waiting(), 19);

    let options = RequestOptions::new().deadline(Duration::from_secs(120));
    let mut late = call(&mut service, with(20, options)).await;
    let answer = match poll_once(&mut late).await {
        std::task::Poll::Ready(answer) => answer.unwrap(),
        std::task::Poll::Pending => panic!("it is answered at once"),
    };
    let report = answer.extensions().get::<RetryReport>().unwrap();
    assert!(report.answered_locally());
    assert_eq!(report.stop_reason(), Some(StopReason::Deadline));
}
