//! What holds for chats that go through the layer, seen from both ends.

use std::process::Command;
use std::time::Duration;

use async_openai::config::OpenAIConfig;
use async_openai::error::OpenAIError;
use async_openai::types::chat::CreateChatCompletionResponse;
use http::Response;
use simulation::{OpenAi, Script, Server, Simulated};

const ANSWER: &str =
    r#"{"id": "x", "model": "m", "choices": [], "created": 0, "object": "chat.completion"}"#;
const RATE_LIMITED: &str = r#"{"error": {"message": "Rate limit reached for m", "type": "requests", "param": null, "code": "rate_limit_exceeded"}}"#;

#[test]
fn the_example_runs() {
    let mut example = Command::new(env!("CARGO_BIN_EXE_example-async-openai"));
    let output = example.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(said.contains(" 10 answered."), "{said}");
}

#[tokio::test]
async fn a_chat_that_is_refused_twice_is_answered_and_never_comes_early() {
    let refusal = || {
        let head = Response::builder().status(429).header("retry-after", "1");
        head.body(RATE_LIMITED.into()).unwrap()
    };
    let script = [refusal(), refusal(), Response::new(ANSWER.into())];
    let api = Simulated::new(Script::new(script));
    let server = Server::simulate(&api).await.unwrap();
    assert_eq!(ask(&server, "key").await.unwrap().id, "x");

    let api = api.lock();
    let received = api.received();
    assert_eq!(received.len(), 3);
    let body = received[0].1.body();
    let chat: serde_json::Value = serde_json::from_slice(body).unwrap();
    assert_eq!(chat["messages"][0]["content"], "Hello");
    for pair in received.windows(2) {
        assert_eq!(pair[1].1.body(), body);
        let waited = pair[1].0 - pair[0].0;
        assert!(waited >= Duration::from_secs(1), "{waited:?}");
    }
}

#[tokio::test]
async fn a_spent_quota_comes_out_at_once_as_the_error_of_the_api() {
    let api = Simulated::new(OpenAi::new().spent_key("sk-spent"));
    let server = Server::simulate(&api).await.unwrap();
    let error = ask(&server, "sk-spent").await.unwrap_err();
    let OpenAIError::ApiError(error) = error else {
        panic!("expected an error of the API, found {error:?}");
    };
    assert_eq!(error.status_code, 429);
    let error = error.api_error;
    assert_eq!(error.code.as_deref(), Some("insufficient_quota"));
    assert_eq!(error.r#type.as_deref(), Some("insufficient_quota"));
    let message = "You exceeded your current quota, please check your plan";
    assert!(error.message.starts_with(message), "{}", error.message);
    assert_eq!(server.requests(), 1);
}

async fn ask(server: &Server, key: &str) -> Result<CreateChatCompletionResponse, OpenAIError> {
    let url = format!("{}/v1", server.url());
    let config = OpenAIConfig::new().with_api_base(url).with_api_key(key);
    let client = example_async_openai::client(config, reqwest::Client::new());
    example_async_openai::chat(&client, "gpt-4o-mini", "Hello").await
}
