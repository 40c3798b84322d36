//! Where the server announces its buckets, nothing is refused and nothing is lost.

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use http::{Request, Response};
use http_body_util::Full;
use simulation::{Limits, OpenAi, Simulated};
use std::{convert::Infallible, time::Duration};
use tokio::time::{Instant, sleep};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_rate_limit_retry::{RateLimitRetryLayer, ReplayBody, RequestOptions};

const MODEL: &str = "gpt-4o-mini";

fn chat(content: &str) -> Request<Full<Bytes>> {
    let body =
        serde_json::json!({ "model": MODEL, "messages": [{ "role": "user", "content": content }] });
    Request::post("http://localhost/v1/chat/completions")
        .header("authorization", format!("Bearer {}", OpenAi::KEY))
        .header("content-type", "application/json")
        .body(Full::from(body.to_string()))
        .unwrap()
}

struct Outcome {
    served: u64,
    refused: u64,
    took: Duration,
}

/// Sends so many requests at once, so many of them at a time, over a network of random delays.
async fn send(
    limits: Limits,
    requests: usize,
    at_a_time: usize,
    request: impl Fn() -> Request<Full<Bytes>>,
) -> Outcome {
    let simulated = Simulated::new(OpenAi::new().model(MODEL, limits));
    let server = simulated.clone();
    let inner = service_fn(move |request: Request<ReplayBody<Full<Bytes>>>| {
        let server = server.clone();
        async move {
            sleep(Duration::from_millis(fastrand::u64(20..80))).await;
            let response: Response<Full<Bytes>> = server.answer(request).await;
            sleep(Duration::from_millis(fastrand::u64(20..80))).await;
            Ok::<_, Infallible>(response)
        }
    });
    let service = ServiceBuilder::new()
        .layer(RateLimitRetryLayer::new())
        .concurrency_limit(at_a_time)
        .service(inner);
    let began = Instant::now();
    let calls: FuturesUnordered<_> = (0..requests)
        .map(|_| service.clone().oneshot(request()))
        .collect();
    calls
        .for_each(|answer| async move { assert_eq!(answer.unwrap().status(), 200) })
        .await;
    let counts = simulated.lock().counts(MODEL);
    Outcome {
        served: counts.completed,
        refused: counts.refused,
        took: began.elapsed(),
    }
}

/// No refusal, and at most one hundredth longer than the quota makes it.
fn assert_ideal(outcome: &Outcome, limits: Limits, requests: u32, tokens: u32) {
    assert_eq!((outcome.served, outcome.refused), (u64::from(requests), 0));
    let ideal = limits.time_for(requests, tokens);
    assert!(
        outcome.took <= ideal.mul_f64(1.01),
        "{:?}, where {ideal:?} would do",
        outcome.took
    );
}

#[tokio::test(start_paused = true)]
async fn requests_per_minute() {
    for seed in 0..5 {
        fastrand::seed(seed);
        let limits = Limits::per_minute(500, 200_000);
        let outcome = send(limits, 1_000, 16, || chat("Hello")).await;
        assert_ideal(&outcome, limits, 1_000, 18);
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_per_minute_as_the_body_says() {
    let limits = Limits::per_minute(10_000, 40_000);
    // The whole body is larger than its messages, so what is estimated is more than what is
    // charged.
    let content = "Hello".repeat(400);
    let outcome = send(limits, 200, 16, || chat(&content)).await;
    let tokens = simulation::openai::token_cost(content.len(), None);
    assert_ideal(&outcome, limits, 200, tokens);
}

#[tokio::test(start_paused = true)]
async fn tokens_per_minute_as_the_caller_says() {
    let limits = Limits::per_minute(10_000, 40_000);
    let tokens = simulation::openai::token_cost(4_000, None);
    let outcome = send(limits, 200, 16, || {
        let mut request = chat(&"!".repeat(4_000));
        request
            .extensions_mut()
            .insert(RequestOptions::new().tokens(u64::from(tokens)));
        request
    })
    .await;
    assert_ideal(&outcome, limits, 200, tokens);
}

#[tokio::test(start_paused = true)]
async fn tokens_per_minute_as_the_answer_may_take() {
    let limits = Limits::per_minute(10_000, 40_000);
    let outcome = send(limits, 200, 16, || {
        let mut request = chat("Hello");
        let body = format!(
            r#"{{"model":"{MODEL}","max_tokens":500,"messages":[{{"role":"user","content":"Hello"}}]}}"#
        );
        *request.body_mut() = Full::from(body);
        request
    })
    .await;
    let tokens = simulation::openai::token_cost("Hello".len(), Some(500));
    let ideal = limits.time_for(200, tokens);
    // Before the first answer nobody knew that tokens are counted: sixteen were on their way.
    assert!(outcome.refused <= 16, "{} refused", outcome.refused);
    assert_eq!(outcome.served, 200);
    assert!(outcome.took <= ideal.mul_f64(1.01), "{:?}", outcome.took);
}
