//! `async-openai`: one small service between its requests, which are made of factories, and a client.

mod common;

use async_openai::{
    Client,
    config::OpenAIConfig,
    error::OpenAIError,
    middleware::HttpRequestFactory,
    types::chat::{CreateChatCompletionRequest, CreateChatCompletionResponse},
};
use common::{Api, layer};
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};
use tower::Service;
use tower_rate_limit_retry::{ReqwestClient, partition};

/// What `Client::with_http_service` takes.
#[derive(Clone)]
struct Limited(ReqwestClient);

impl Service<HttpRequestFactory> for Limited {
    type Response = reqwest::Response;
    type Error = OpenAIError;
    type Future = Pin<Box<dyn Future<Output = Result<reqwest::Response, OpenAIError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), OpenAIError>> {
        Poll::Ready(Ok(())) // `execute` waits for it
    }

    fn call(&mut self, factory: HttpRequestFactory) -> Self::Future {
        let client = self.0.clone();
        Box::pin(async move { Ok(client.execute(factory.build().await?).await?) })
    }
}

#[tokio::test]
async fn a_chat_is_refused_twice_and_answered() {
    let api = Api::start(
        r#"{"id": "x", "model": "m", "choices": [], "created": 0, "object": "chat.completion"}"#,
    )
    .await;
    let answer = chat(&api).await.unwrap();
    assert_eq!(answer.id, "x");
    assert!(api.body().starts_with(b"{"));
}

#[tokio::test]
async fn a_spent_quota_comes_out_as_an_error_of_the_api_at_once() {
    let api = Api::start(
        r#"{"error": {"message": "You exceeded your current quota", "type": "insufficient_quota", "param": null, "code": "insufficient_quota"}}"#,
    )
    .await;
    let error = chat(&api).await.unwrap_err();
    let OpenAIError::ApiError(error) = error else {
        panic!("expected an error of the API, found {error:?}");
    };
    let error = error.to_string();
    assert!(error.contains("insufficient_quota"), "{error}");
    assert_eq!(api.requests(), 1);
}

async fn chat(api: &Api) -> Result<CreateChatCompletionResponse, OpenAIError> {
    let config = OpenAIConfig::new()
        .with_api_base(api.url())
        .with_api_key("key");
    let layer = layer().partition_by(partition::by_model);
    let limited = Limited(layer.reqwest(reqwest::Client::new()));
    let client = Client::with_config(config).with_http_service(limited);
    let request: CreateChatCompletionRequest =
        serde_json::from_str(r#"{"model": "m", "messages": []}"#).unwrap();
    client.chat().create(request).await
}
