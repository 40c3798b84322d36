//! The layer around hyper's own client: one request more than the API allows at once.
//!
//! ```text
//! cargo run --example hyper
//! ```
//!
//! The API is a simulated OpenAI on this machine.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::{Value, json};
use simulation::{Limits, OpenAi, Server, Simulated};
use tower::{ServiceBuilder, ServiceExt};
use tower_rate_limit_retry::{RateLimitRetryLayer, RetryReport, partition};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What the API lets through in a minute: so many at once, and then one every two seconds.
const PER_MINUTE: u32 = 30;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let sent = run().await?;
    println!("{sent} requests were sent for {} answers", PER_MINUTE + 1);
    Ok(())
}

/// Returns how many requests the API has received.
pub(crate) async fn run() -> Result<u64, BoxError> {
    let api = OpenAi::new().model("gpt-4o", Limits::per_minute(PER_MINUTE, 100_000));
    let server = Server::simulate(&Simulated::new(api)).await?;
    let url = format!("{}/v1/chat/completions", server.url());

    // One client for the whole program. Its clones share what is known of the API's limits.
    let client = ServiceBuilder::new()
        // OpenAI's limits are per model: no model waits for another one's quota.
        .layer(RateLimitRetryLayer::new().partition_by(partition::by_model))
        // Below the layer, where a request that waits for quota holds no permit.
        .concurrency_limit(8)
        .service(Client::builder(TokioExecutor::new()).build_http());

    let calls = (1..=PER_MINUTE + 1).map(async |number| {
        let body = json!({
            "model": "gpt-4o",
            "messages": [{ "role": "user", "content": format!("Hello, I am number {number}") }],
        });
        let request = Request::post(&url)
            .header("authorization", format!("Bearer {}", OpenAi::KEY))
            .header("content-type", "application/json")
            .body(Full::<Bytes>::from(body.to_string()))?;
        let response = client.clone().oneshot(request).await?;

        // The answer is the API's own; what the layer did is beside it.
        let waited = match response.extensions().get::<RetryReport>() {
            Some(report) => report.waited(),
            None => Duration::ZERO,
        };
        let status = response.status();
        let answer = response.into_body().collect().await?.to_bytes();
        let answer: Value = serde_json::from_slice(&answer)?;
        let Some(said) = answer["choices"][0]["message"]["content"].as_str() else {
            return Err(format!("{status}: {answer}").into());
        };
        println!("{number}: {said} (waited {:.1} s)", waited.as_secs_f64());
        Ok::<(), BoxError>(())
    });
    try_join_all(calls).await?;
    Ok(server.requests())
}
