//! The errors of the API, in the words of the real one.

use std::fmt::Display;

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use serde::Serialize;

/// An answer other than a completion: a status and `{"error": {…}}`.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    body: Body,
}

#[derive(Debug, Serialize)]
struct Body {
    message: String,
    r#type: &'static str,
    param: Option<&'static str>,
    code: Option<&'static str>,
}

impl ApiError {
    pub(super) fn unknown_route(method: &Method, path: &str) -> Self {
        let message = format!("Invalid URL ({method} {path})");
        Self::invalid_request(StatusCode::NOT_FOUND, message)
    }

    pub(super) fn wrong_method(method: &Method, path: &str) -> Self {
        let message = format!(
            "Not allowed to {method} on {path} (HINT: Perhaps you meant to make your HTTP request \
             with a different method.)"
        );
        Self::invalid_request(StatusCode::METHOD_NOT_ALLOWED, message)
    }

    pub(super) fn no_key() -> Self {
        let message = "You didn't provide an API key. You need to provide your API key in an \
             Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY). You can \
             obtain an API key from https://platform.openai.com/account/api-keys.";
        Self::invalid_request(StatusCode::UNAUTHORIZED, message)
    }

    pub(super) fn wrong_key(key: &str) -> Self {
        let message = format!(
            "Incorrect API key provided: {}. You can find your API key at \
             https://platform.openai.com/account/api-keys.",
            masked(key)
        );
        Self::invalid_request(StatusCode::UNAUTHORIZED, message).code("invalid_api_key")
    }

    pub(super) fn not_json() -> Self {
        let message = "We could not parse the JSON body of your request. (HINT: This likely means \
             you aren't using your HTTP library correctly. The OpenAI API expects a JSON payload, \
             but what was sent was not valid JSON. If you have trouble figuring out how to fix \
             this, please contact us through our help center at help.openai.com.)";
        Self::invalid_request(StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn no_model() -> Self {
        Self::invalid_request(
            StatusCode::BAD_REQUEST,
            "you must provide a model parameter",
        )
    }

    pub(super) fn missing(param: &'static str) -> Self {
        let message = format!("Missing required parameter: '{param}'.");
        let mut error = Self::invalid_request(StatusCode::BAD_REQUEST, message)
            .code("missing_required_parameter");
        error.body.param = Some(param);
        error
    }

    /// Anything else that is wrong with the request; the words are ours.
    pub(super) fn invalid(what: &impl Display) -> Self {
        let message = format!("Invalid request: {what}.");
        Self::invalid_request(StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn unknown_model(model: &str) -> Self {
        let message =
            format!("The model `{model}` does not exist or you do not have access to it.");
        Self::invalid_request(StatusCode::NOT_FOUND, message).code("model_not_found")
    }

    pub(super) fn insufficient_quota() -> Self {
        let message = "You exceeded your current quota, please check your plan and billing \
             details. For more information on this error, read the docs: \
             https://platform.openai.com/docs/guides/error-codes/api-errors.";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "insufficient_quota", message)
            .code("insufficient_quota")
    }

    /// A 429 by the limit of a dimension, which its type names.
    pub(super) fn rate_limit(dimension: &'static str, message: String) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, dimension, message).code("rate_limit_exceeded")
    }

    pub(super) fn response(&self) -> Response<Bytes> {
        #[derive(Serialize)]
        struct Envelope<'a> {
            error: &'a Body,
        }
        let body = serde_json::to_vec(&Envelope { error: &self.body });
        let body = body.expect("strings and nulls are JSON");
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = self.status;
        response
    }

    fn invalid_request(status: StatusCode, message: impl Into<String>) -> Self {
        Self::new(status, "invalid_request_error", message)
    }

    fn new(status: StatusCode, r#type: &'static str, message: impl Into<String>) -> Self {
        let body = Body {
            message: message.into(),
            r#type,
            param: None,
            code: None,
        };
        Self { status, body }
    }

    fn code(mut self, code: &'static str) -> Self {
        self.body.code = Some(code);
        self
    }
}

/// The key as the API repeats it: its first eight and last four characters, and
/// the whole of one that has no more.
fn masked(key: &str) -> String {
    let last = key.chars().count().saturating_sub(4);
    let mask = |(i, c)| if (8..last).contains(&i) { '*' } else { c };
    key.chars().enumerate().map(mask).collect()
}
