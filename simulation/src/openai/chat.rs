//! What is asked and what is answered.

use bytes::Bytes;
use http::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::ApiError;

/// What an answer may take if the request does not say.
const DEFAULT_MAX_TOKENS: u32 = 16;

/// When the simulation took place: the model knows no wall clock.
const CREATED: u64 = 1_750_000_000;

/// What a request costs of the tokens per minute: a quarter of the bytes of its
/// messages' content, rounded up, and the most that its answer may take, which is
/// 16 if the request has neither `max_completion_tokens` nor `max_tokens`.
pub const fn token_cost(content_bytes: usize, max_tokens: Option<u32>) -> u32 {
    let answer = match max_tokens {
        Some(max_tokens) => max_tokens,
        None => DEFAULT_MAX_TOKENS,
    };
    prompt_tokens(content_bytes).saturating_add(answer)
}

/// The part of a chat completions request that matters here.
#[derive(Debug, Deserialize)]
pub(super) struct ChatRequest {
    pub(super) model: String,
    messages: Vec<Message>,
    max_completion_tokens: Option<u32>,
    max_tokens: Option<u32>,
    stream: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct Message {
    content: Option<Content>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
struct Part {
    #[serde(default)]
    text: String,
}

impl ChatRequest {
    pub(super) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let json: Value = serde_json::from_slice(body).map_err(|_| ApiError::not_json())?;
        if json.get("model").is_none() {
            return Err(ApiError::no_model());
        }
        if json.get("messages").is_none() {
            return Err(ApiError::missing("messages"));
        }
        let chat: Self = serde_json::from_value(json).map_err(|e| ApiError::invalid(&e))?;
        if chat.stream == Some(true) {
            return Err(ApiError::invalid(&"streams are not simulated"));
        }
        Ok(chat)
    }

    pub(super) fn token_cost(&self) -> u32 {
        token_cost(self.content_bytes(), self.max_tokens())
    }

    /// The answer with the `number` given, always the same.
    pub(super) fn completion(&self, number: u64) -> Response<Bytes> {
        let prompt = prompt_tokens(self.content_bytes());
        let answer = self.max_tokens().unwrap_or(DEFAULT_MAX_TOKENS).min(9);
        let body = json!({
            "id": format!("chatcmpl-{number:029}"),
            "object": "chat.completion",
            "created": CREATED,
            "model": self.model,
            "choices": [{
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Hello! How can I assist you today?",
                    "refusal": null,
                },
                "logprobs": null,
                "finish_reason": "stop",
            }],
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": answer,
                "total_tokens": prompt.saturating_add(answer),
            },
        });
        Response::new(Bytes::from(body.to_string()))
    }

    fn max_tokens(&self) -> Option<u32> {
        self.max_completion_tokens.or(self.max_tokens)
    }

    fn content_bytes(&self) -> usize {
        let contents = self.messages.iter().filter_map(|m| m.content.as_ref());
        contents.map(Content::bytes).sum()
    }
}

impl Content {
    fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Parts(parts) => parts.iter().map(|part| part.text.len()).sum(),
        }
    }
}

const fn prompt_tokens(content_bytes: usize) -> u32 {
    let tokens = content_bytes.div_ceil(4);
    if tokens > u32::MAX as usize {
        return u32::MAX;
    }
    tokens as u32
}
