//! A model of OpenAI's chat completions API and of its limits.
//!
//! Each API key has, for each model, a bucket of requests and one of tokens.
//! Both hold a minute's worth, are full at first and refill continuously. A
//! request costs one request and its [tokens](token_cost), both on arrival; what
//! the answer took in the end changes nothing.
//!
//! OpenAI documents that "unsuccessful requests contribute to your per-minute
//! limit", but not how. Here a refusal takes one request, or what there is of
//! one, and no tokens. The wait that it names is counted from after that: a client
//! that is alone and obeys it is admitted, and one that knocks in between pushes
//! its own admission back. If both limits refuse, the later to let go is named.
//!
//! A model may also limit how many requests of a key are in service at once, as
//! OpenAI's fine-tuned models do without saying how many. Such a refusal takes one
//! request too, and names no wait; its words are ours.

mod chat;
mod error;
mod quota;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use tokio::time::Instant;

use crate::Api;
use chat::ChatRequest;
use error::ApiError;

pub use chat::token_cost;
pub use quota::Quota;

/// The API: which keys and models it knows, and what is left of their quotas.
///
/// By default it knows the key [`OpenAi::KEY`], the model `gpt-4o-mini` with the
/// 500 requests and 200,000 tokens per minute of OpenAI's first tier, and the
/// fine-tuned `ft:gpt-4o-mini:acme:support:AbC123` with 200 and 40,000, and sixteen
/// requests at once.
#[derive(Debug, Clone)]
pub struct OpenAi {
    models: BTreeMap<String, Limits>,
    keys: BTreeMap<String, Account>,
    /// By API key and model; made by the first request, full.
    quotas: BTreeMap<(String, String), Quota>,
    counts: BTreeMap<String, Counts>,
    answers: u64,
}

/// What a model allows each API key per minute, which is also the most that can
/// be had at once, and perhaps how many requests may be in service at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    requests: NonZeroU32,
    tokens: NonZeroU32,
    concurrent: Option<NonZeroU32>,
}

/// The chat requests that a model was asked, by all API keys together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Those that were answered with a completion.
    pub completed: u64,
    /// Those that were answered with a 429.
    pub refused: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Account {
    Funded,
    Spent,
}

impl OpenAi {
    /// The API key that is known by default.
    pub const KEY: &str = "sk-simulation";

    /// The API with the default key and models.
    pub fn new() -> Self {
        let fine_tuned = "ft:gpt-4o-mini:acme:support:AbC123";
        Self {
            models: BTreeMap::new(),
            keys: BTreeMap::new(),
            quotas: BTreeMap::new(),
            counts: BTreeMap::new(),
            answers: 0,
        }
        .key(Self::KEY)
        .model("gpt-4o-mini", Limits::per_minute(500, 200_000))
        .model(fine_tuned, Limits::per_minute(200, 40_000).concurrent(16))
    }

    /// Adds a model, or changes its limits for API keys that have not used it yet.
    pub fn model(mut self, name: impl Into<String>, limits: Limits) -> Self {
        self.models.insert(name.into(), limits);
        self
    }

    /// Adds an API key, with quotas of its own.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.keys.insert(key.into(), Account::Funded);
        self
    }

    /// Adds an API key whose money is spent: every request of it is refused for
    /// good, with `insufficient_quota`.
    pub fn spent_key(mut self, key: impl Into<String>) -> Self {
        self.keys.insert(key.into(), Account::Spent);
        self
    }

    /// The limits of `model`, if there is such a model.
    pub fn limits(&self, model: &str) -> Option<Limits> {
        self.models.get(model).copied()
    }

    /// What `model` was asked so far.
    pub fn counts(&self, model: &str) -> Counts {
        self.counts.get(model).copied().unwrap_or_default()
    }

    fn try_answer(
        &mut self,
        request: &Request<Bytes>,
        now: Instant,
    ) -> Result<Response<Bytes>, ApiError> {
        let (method, path) = (request.method(), request.uri().path());
        if path != "/v1/chat/completions" {
            return Err(ApiError::unknown_route(method, path));
        }
        if method != Method::POST {
            return Err(ApiError::wrong_method(method, path));
        }
        let key = bearer(request.headers()).ok_or_else(ApiError::no_key)?;
        let account = self.keys.get(key).copied();
        let account = account.ok_or_else(|| ApiError::wrong_key(key))?;
        let chat = ChatRequest::parse(request.body())?;
        let limits = self.limits(&chat.model);
        let limits = limits.ok_or_else(|| ApiError::unknown_model(&chat.model))?;

        let counts = self.counts.entry(chat.model.clone()).or_default();
        if account == Account::Spent {
            counts.refused += 1;
            return Err(ApiError::insufficient_quota());
        }
        let quota = self
            .quotas
            .entry((key.to_owned(), chat.model.clone()))
            .or_insert_with(|| Quota::full(limits, now));
        let mut response = match quota.try_take(chat.token_cost(), now) {
            Ok(()) => {
                counts.completed += 1;
                chat.completion(self.answers)
            }
            Err(refusal) => {
                counts.refused += 1;
                refusal.response(&chat.model)
            }
        };
        quota.write_headers(response.headers_mut(), now);
        Ok(response)
    }
}

impl Default for OpenAi {
    fn default() -> Self {
        Self::new()
    }
}

impl Api for OpenAi {
    fn answer(&mut self, request: &Request<Bytes>, now: Instant) -> Response<Bytes> {
        self.answers += 1;
        let answer = self.try_answer(request, now);
        let mut response = answer.unwrap_or_else(|error| error.response());
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        headers.insert("x-request-id", text(format!("req_{:032x}", self.answers)));
        response
    }

    fn finished(&mut self, request: &Request<Bytes>) {
        let key = bearer(request.headers()).map(ToOwned::to_owned);
        let chat = ChatRequest::parse(request.body());
        if let (Some(key), Ok(chat)) = (key, chat) {
            let quota = self.quotas.get_mut(&(key, chat.model));
            quota.into_iter().for_each(Quota::finished);
        }
    }
}

impl Limits {
    /// So many requests and tokens per minute.
    ///
    /// # Panics
    ///
    /// If one of them is zero.
    pub const fn per_minute(requests: u32, tokens: u32) -> Self {
        let requests = NonZeroU32::new(requests).expect("at least one request per minute");
        let tokens = NonZeroU32::new(tokens).expect("at least one token per minute");
        Self {
            requests,
            tokens,
            concurrent: None,
        }
    }

    /// And so many requests in service at once; by default there is no limit to
    /// that.
    ///
    /// # Panics
    ///
    /// If it is zero.
    pub const fn concurrent(self, requests: u32) -> Self {
        let requests = NonZeroU32::new(requests).expect("at least one request at once");
        Self {
            concurrent: Some(requests),
            ..self
        }
    }

    /// The requests per minute.
    pub const fn requests(&self) -> u32 {
        self.requests.get()
    }

    /// The tokens per minute.
    pub const fn tokens(&self) -> u32 {
        self.tokens.get()
    }

    /// The requests in service at once, if there is a limit to them.
    pub const fn max_concurrent(&self) -> Option<u32> {
        match self.concurrent {
            Some(requests) => Some(requests.get()),
            None => None,
        }
    }

    /// How long it takes, at best, until the last of `requests` is admitted, if
    /// each costs `tokens` and the quota is full at the start; as if there were no
    /// limit to those at once.
    pub fn time_for(&self, requests: u32, tokens: u32) -> Duration {
        let wait = |needed: u64, limit: NonZeroU32| {
            let lacking = needed.saturating_sub(u64::from(limit.get()));
            Duration::from_secs(60).mul_f64(lacking as f64 / f64::from(limit.get()))
        };
        let all_tokens = u64::from(requests) * u64::from(tokens);
        wait(u64::from(requests), self.requests).max(wait(all_tokens, self.tokens))
    }
}

/// The key of `authorization: Bearer <key>`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    let key = key.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !key.is_empty()).then_some(key)
}

fn text(value: String) -> HeaderValue {
    HeaderValue::try_from(value).expect("our numbers and units are visible ASCII")
}

#[cfg(test)]
mod tests;
