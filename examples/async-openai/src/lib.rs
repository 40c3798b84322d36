//! The layer under a client of `async-openai`.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::error::OpenAIError;
use async_openai::middleware::HttpRequestFactory;
use async_openai::types::chat::{
    ChatCompletionRequestUserMessageArgs, CreateChatCompletionRequestArgs,
};
use async_openai::types::chat::{CreateChatCompletionRequest, CreateChatCompletionResponse};
use tower_rate_limit_retry::{RateLimitRetryLayer, ReqwestClient, partition};
use tower_service::Service;

/// A client whose requests all go through the layer.
///
/// `with_http_service` takes the place of the client's own `OpenAIRetryLayer`, and there is nothing
/// to turn off. Do not stack that layer around ours: each of its retries would be a call of its own
/// to us, and the attempts would multiply. Nor call `with_http_client` afterwards: it puts the
/// client's own retries back, and ours away.
pub fn client(config: OpenAIConfig, http: reqwest::Client) -> Client<OpenAIConfig> {
    // OpenAI's limits are per model: no model waits for another one's quota.
    let layer = RateLimitRetryLayer::new().partition_by(partition::by_model);
    Client::with_config(config).with_http_service(Limited(layer.reqwest(http)))
}

/// What stands between the two: `async-openai` does not send requests, but factories of them.
#[derive(Clone, Debug)]
pub struct Limited(pub ReqwestClient);

impl Service<HttpRequestFactory> for Limited {
    type Response = reqwest::Response;
    type Error = OpenAIError;
    type Future = Pin<Box<dyn Future<Output = Result<reqwest::Response, OpenAIError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), OpenAIError>> {
        Poll::Ready(Ok(())) // `execute` waits for it
    }

    fn call(&mut self, factory: HttpRequestFactory) -> Self::Future {
        let client = self.0.clone();
        // Made once: the layer keeps what has to be sent again.
        Box::pin(async move { Ok(client.execute(factory.build().await?).await?) })
    }
}

/// Asks `model` one thing.
///
/// # Errors
///
/// What the API says, if it is not an answer: [`OpenAIError::ApiError`].
pub async fn chat(
    client: &Client<OpenAIConfig>,
    model: &str,
    question: &str,
) -> Result<CreateChatCompletionResponse, OpenAIError> {
    let message = ChatCompletionRequestUserMessageArgs::default()
        .content(question)
        .build()?;
    let request: CreateChatCompletionRequest = CreateChatCompletionRequestArgs::default()
        .model(model)
        .messages([message.into()])
        .build()?;
    client.chat().create(request).await
}
