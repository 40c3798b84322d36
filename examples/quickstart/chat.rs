//! One chat request, and what its answer says.

use std::error::Error;
use std::iter;

use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use serde_json::{Value, json};

const CONTENT: &str = "Hello";
const MAX_TOKENS: u32 = 16;

/// What a request costs of the simulation's tokens per minute.
pub(crate) const TOKENS: u32 = simulation::openai::token_cost(CONTENT.len(), Some(MAX_TOKENS));

/// Where and by whom the API is asked. The key is never printed, so no `Debug`.
#[derive(Clone)]
pub(crate) struct Endpoint {
    url: Uri,
    key: String,
    authorization: HeaderValue,
}

/// Why a request failed.
pub(crate) struct Failure {
    /// In one line, without the API key.
    pub(crate) message: String,
    /// Whether all other requests will fail for the same reason.
    pub(crate) fatal: bool,
}

impl Endpoint {
    /// # Errors
    ///
    /// What is wrong with the settings, in one line.
    pub(crate) fn new(base_url: &str, key: &str) -> Result<Self, String> {
        let url = format!("{}/chat/completions", base_url.trim_end_matches('/'));
        let url = url.parse().ok().filter(is_plain_http).ok_or_else(|| {
            // Not what was found: a URL with a password is one of the mistakes.
            "OPENAI_BASE_URL: expected http(s)://host[:port]/path, without user or query".to_owned()
        })?;
        let mut authorization = HeaderValue::try_from(format!("Bearer {key}"))
            .map_err(|_| "OPENAI_API_KEY has characters that no API key has".to_owned())?;
        authorization.set_sensitive(true);
        Ok(Self {
            url,
            key: key.to_owned(),
            authorization,
        })
    }

    pub(crate) fn url(&self) -> &Uri {
        &self.url
    }

    pub(crate) fn request(&self, model: &str) -> Request<Full<Bytes>> {
        let body = json!({
            "model": model,
            "messages": [{"role": "user", "content": CONTENT}],
            "max_completion_tokens": MAX_TOKENS,
        });
        let mut request = Request::new(Full::from(body.to_string()));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.url.clone();
        let json = HeaderValue::from_static("application/json");
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, json);
        headers.insert(header::AUTHORIZATION, self.authorization.clone());
        request
    }

    /// Whether the answer is a chat completion; if not, what the API says instead.
    pub(crate) fn check(&self, response: &Response<Bytes>) -> Result<(), Failure> {
        let status = response.status();
        let body: Value = serde_json::from_slice(response.body()).unwrap_or_default();
        if status.is_success() && body["choices"].is_array() {
            return Ok(());
        }
        let error = &body["error"];
        let message = match error["message"].as_str() {
            Some(message) => format!("{}: {message}", status.as_u16()),
            None => format!("{status}, without a chat completion or an error message"),
        };
        Err(Failure {
            message: self.printable(&message),
            fatal: match status {
                StatusCode::TOO_MANY_REQUESTS => {
                    error["code"] == "insufficient_quota" || error["type"] == "insufficient_quota"
                }
                StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT => false,
                _ => status.is_client_error(),
            },
        })
    }

    /// What to say if there was no answer, or none that could be read to its end.
    pub(crate) fn broken(&self, error: &(dyn Error + 'static)) -> Failure {
        // The outermost error only says that something went wrong.
        let causes = iter::successors(Some(error), |&error| error.source());
        let causes: Vec<String> = causes.map(ToString::to_string).collect();
        Failure {
            message: self.printable(&causes.join(": ")),
            fatal: false,
        }
    }

    /// `message` in one line and without the API key, which some APIs repeat.
    fn printable(&self, message: &str) -> String {
        let line = message.replace(&self.key, "[the API key]");
        line.replace(|c: char| c.is_control(), " ")
    }
}

fn is_plain_http(url: &Uri) -> bool {
    let host = url.authority().map(Authority::as_str);
    matches!(url.scheme_str(), Some("http" | "https"))
        && host.is_some_and(|host| !host.contains('@'))
        && url.query().is_none()
}
