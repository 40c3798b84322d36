//! Chats with `async-openai`, at a time when another program has used up the quota.
//!
//! ```text
//! cargo run -p example-async-openai
//! ```
//!
//! The API is a simulated OpenAI in this process.

use std::time::Instant;

use async_openai::config::OpenAIConfig;
use async_openai::error::OpenAIError;
use example_async_openai::{chat, client};
use simulation::{Api, Limits, OpenAi, Server, Simulated};
use tokio::task::JoinSet;

const MODEL: &str = "gpt-4o-mini";
const CHATS: u32 = 10;
const SPENT: &str = "sk-spent";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Two requests a second, in the long run.
    let limits = Limits::per_minute(120, 200_000);
    let api = Simulated::new(OpenAi::new().model(MODEL, limits).spent_key(SPENT));
    use_up(&mut api.lock(), limits.requests());
    let server = Server::simulate(&api).await?;
    let config = |key| {
        let url = format!("{}/v1", server.url());
        OpenAIConfig::new().with_api_base(url).with_api_key(key)
    };
    let before = api.lock().counts(MODEL);

    println!("{CHATS} chats at once; {MODEL} takes two a second, and has no quota left.");
    let start = Instant::now();
    // Clones of a client share what the layer knows.
    let limited = client(config(OpenAi::KEY), reqwest::Client::new());
    let mut chats = JoinSet::new();
    for number in 1..=CHATS {
        let limited = limited.clone();
        chats.spawn(async move {
            let answer = chat(&limited, MODEL, &format!("Question {number}")).await?;
            Ok::<_, OpenAIError>((number, answer.id))
        });
    }
    while let Some(answer) = chats.join_next().await {
        let (number, _) = answer??;
        let elapsed = start.elapsed().as_secs_f64();
        println!("{elapsed:6.1} s  question {number} is answered");
    }
    let counts = api.lock().counts(MODEL);
    println!(
        "{} requests sent: {} refused, {} answered.\n",
        server.requests(),
        counts.refused - before.refused,
        counts.completed - before.completed,
    );

    println!("A chat with a key whose money is spent, which no wait can cure:");
    let start = Instant::now();
    let spent = client(config(SPENT), reqwest::Client::new());
    match chat(&spent, MODEL, "Anybody there?").await {
        Err(OpenAIError::ApiError(error)) => println!(
            "{:6.1} s  {}, {:?}",
            start.elapsed().as_secs_f64(),
            error.status_code,
            error.api_error.code.unwrap_or_default(),
        ),
        other => return Err(format!("expected a refusal, found {other:?}").into()),
    }
    Ok(())
}

/// What another program with the same key does.
fn use_up(api: &mut OpenAi, requests: u32) {
    let chat = format!(r#"{{"model": "{MODEL}", "messages": []}}"#);
    let request = http::Request::post("/v1/chat/completions")
        .header("authorization", format!("Bearer {}", OpenAi::KEY))
        .body(chat.into())
        .expect("a path and a key");
    for _ in 0..requests {
        api.answer(&request, tokio::time::Instant::now());
    }
}
