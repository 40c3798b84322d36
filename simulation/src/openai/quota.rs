//! The limits of an API key and a model, and what the headers say of them.

use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response, header};
use tokio::time::Instant;

use super::error::ApiError;
use super::{Limits, text};
use crate::Bucket;
use crate::hint::{go_duration, whole_millis};
use crate::limit::{Limit, Opening, Standing, Unit};

/// What is left of a model's limits for one API key.
///
/// As a [`Limit`] it can be had without the API around it.
#[derive(Debug, Clone)]
pub struct Quota {
    limits: Limits,
    requests: Bucket,
    tokens: Bucket,
    in_service: u32,
}

/// Why a request was refused, and for how long.
#[derive(Debug)]
pub(super) enum Refusal {
    /// So many are in service already.
    Concurrency { limit: NonZeroU32 },
    /// Too little is left of a minute's worth.
    Rate {
        dimension: Dimension,
        limit: u32,
        used: u32,
        requested: u32,
        /// How long until the request fits; `None` if it exceeds the whole limit.
        wait: Option<Duration>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dimension {
    Requests,
    Tokens,
}

impl Quota {
    /// All of it.
    pub fn full(limits: Limits, now: Instant) -> Self {
        Self {
            limits,
            requests: Bucket::new(limits.requests.get(), limits.requests, now),
            tokens: Bucket::new(limits.tokens.get(), limits.tokens, now),
            in_service: 0,
        }
    }

    /// Takes a request and `tokens` into service, or refuses and takes what a refusal
    /// costs.
    pub(super) fn try_take(&mut self, tokens: u32, now: Instant) -> Result<(), Refusal> {
        let concurrent = self.limits.concurrent;
        if let Some(limit) = concurrent.filter(|limit| self.in_service >= limit.get()) {
            self.requests.take_up_to(1, now);
            return Err(Refusal::Concurrency { limit });
        }
        let fits = self.tokens.remaining(now) >= tokens;
        if fits && self.requests.try_take(1, now) {
            self.tokens.take_up_to(tokens, now);
            self.in_service += 1;
            return Ok(());
        }
        self.requests.take_up_to(1, now);
        Err(self.refusal(tokens, now))
    }

    /// One request is in service no longer.
    pub(super) fn finished(&mut self) {
        self.in_service = self.in_service.saturating_sub(1);
    }

    fn refusal(&self, tokens: u32, now: Instant) -> Refusal {
        let for_request = self.requests.time_until(1, now);
        let for_tokens = self.tokens.time_until(tokens, now);
        // A limit is at least one, so only the tokens can be out of reach.
        let tokens_last = for_tokens.is_none() || for_tokens > for_request;
        let (dimension, bucket, limit, requested, wait) = if tokens_last {
            let limit = self.limits.tokens();
            (Dimension::Tokens, &self.tokens, limit, tokens, for_tokens)
        } else {
            let limit = self.limits.requests();
            (Dimension::Requests, &self.requests, limit, 1, for_request)
        };
        Refusal::Rate {
            dimension,
            limit,
            used: limit - bucket.remaining(now),
            requested,
            wait,
        }
    }

    /// Writes `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, where reset
    /// is the time until all of the limit can be had again.
    pub(super) fn write_headers(&self, headers: &mut HeaderMap, now: Instant) {
        let requests = self.requests.remaining(now).to_string();
        let tokens = self.tokens.remaining(now).to_string();
        let requests_reset = go_duration(self.requests.time_to_full(now));
        let tokens_reset = go_duration(self.tokens.time_to_full(now));
        for (name, value) in [
            (
                "x-ratelimit-limit-requests",
                self.limits.requests.to_string(),
            ),
            ("x-ratelimit-limit-tokens", self.limits.tokens.to_string()),
            ("x-ratelimit-remaining-requests", requests),
            ("x-ratelimit-remaining-tokens", tokens),
            ("x-ratelimit-reset-requests", requests_reset),
            ("x-ratelimit-reset-tokens", tokens_reset),
        ] {
            headers.insert(name, text(value));
        }
    }
}

impl Limit for Quota {
    fn admit(&mut self, tokens: u32, now: Instant) -> bool {
        self.try_take(tokens, now).is_ok()
    }

    fn opening(&self, tokens: u32, now: Instant) -> Opening {
        let for_request = self.requests.time_until(1, now);
        match for_request.zip(self.tokens.time_until(tokens, now)) {
            Some((for_request, for_tokens)) => Opening::At(now + for_request.max(for_tokens)),
            None => Opening::Never,
        }
    }

    fn standings(&self, now: Instant) -> Vec<Standing> {
        let standing = |unit, bucket: &Bucket, limit| {
            let remaining = bucket.remaining(now);
            Standing {
                unit,
                limit,
                remaining,
                window: Duration::from_secs(60),
                reset: bucket.time_to_full(now),
                next: bucket.time_until(remaining + 1, now).unwrap_or_default(),
            }
        };
        vec![
            standing(Unit::Requests, &self.requests, self.limits.requests()),
            standing(Unit::Tokens, &self.tokens, self.limits.tokens()),
        ]
    }
}

impl Refusal {
    /// The 429: what was asked for, and when it can be had, in the message, as
    /// `retry-after-ms` and in whole seconds as `retry-after`, all rounded up.
    pub(super) fn response(&self, model: &str) -> Response<Bytes> {
        let visit = "Visit https://platform.openai.com/account/rate-limits to learn more.";
        let (dimension, limit, used, requested, wait) = match self {
            Self::Rate {
                dimension,
                limit,
                used,
                requested,
                wait,
            } => (dimension, limit, used, requested, wait),
            Self::Concurrency { limit } => {
                let message = format!(
                    "Too many requests in flight for {model} in organization org-simulation: \
                     Limit {limit}. {visit}"
                );
                return ApiError::rate_limit("requests", message).response();
            }
        };
        let (dimension, unit) = match dimension {
            Dimension::Requests => ("requests", "requests per min (RPM)"),
            Dimension::Tokens => ("tokens", "tokens per min (TPM)"),
        };
        let place = format!("for {model} in organization org-simulation on {unit}");
        let Some(wait) = *wait else {
            let message = format!(
                "Request too large {place}: Limit {limit}, Requested {requested}. The input or \
                 output tokens must be reduced in order to run successfully. {visit}"
            );
            return ApiError::rate_limit(dimension, message).response();
        };
        let message = format!(
            "Rate limit reached {place}: Limit {limit}, Used {used}, Requested {requested}. Please \
             try again in {}. {visit}",
            go_duration(wait)
        );
        let mut response = ApiError::rate_limit(dimension, message).response();
        let millis = whole_millis(wait);
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, text(millis.div_ceil(1000).to_string()));
        headers.insert("retry-after-ms", text(millis.to_string()));
        response
    }
}
