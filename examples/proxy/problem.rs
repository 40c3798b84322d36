//! The proxy's own answers.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::json;

/// An error in the form of RFC 9457, with the member `error` for clients that expect OpenAI's form.
pub(super) fn problem(status: StatusCode, detail: &str) -> Response<Full<Bytes>> {
    let body = json!({
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": detail,
        "error": { "message": detail, "type": "proxy_error", "param": null, "code": null },
    });
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = status;
    let problem_json = HeaderValue::from_static("application/problem+json");
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, problem_json);
    response
}
