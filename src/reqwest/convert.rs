//! From `reqwest` to `http` and back, without a loss.

use crate::body::{BoxError, ReplayBody};
use bytes::Bytes;
use http::{Extensions, Uri};
use http_body::Body;
use reqwest::{ResponseBuilderExt, Url};
use std::{mem, pin::Pin};

/// What a request of `reqwest` has and one of `http` has not. It travels in the extensions.
// No `Debug`: the query may hold a credential.
#[derive(Clone)]
struct Origin {
    /// With its fragment.
    url: Url,
    /// What `http` makes of that: whether a layer has changed it since.
    uri: Uri,
    /// Whether there is a body, be it an empty one.
    has_body: bool,
}

/// On the way down, above all layers.
pub(super) fn from_reqwest(
    request: reqwest::Request,
) -> Result<http::Request<reqwest::Body>, reqwest::Error> {
    let url = request.url().clone();
    let has_body = request.body().is_some();
    let mut request = match http::Request::try_from(request) {
        Ok(request) => request,
        // As the client itself says which one is no good.
        Err(error) => return Err(error.with_url(url)),
    };
    let uri = request.uri().clone();
    request
        .extensions_mut()
        .insert(Origin { url, uri, has_body });
    Ok(request)
}

/// On the way down, under all layers.
pub(crate) fn into_reqwest<B>(
    mut request: http::Request<B>,
) -> Result<reqwest::Request, reqwest::Error>
where
    B: Into<reqwest::Body>,
{
    let origin = request.extensions_mut().remove::<Origin>();
    let origin = origin.filter(|origin| origin.uri == *request.uri());
    let mut request = reqwest::Request::try_from(request)?;
    if let Some(origin) = origin {
        *request.url_mut() = origin.url;
        let body = request.body_mut();
        let is_empty = |body: &reqwest::Body| body.as_bytes().is_some_and(<[u8]>::is_empty);
        if !origin.has_body && body.as_ref().is_some_and(is_empty) {
            *body = None;
        }
    }
    Ok(request)
}

/// On the way up, under all layers: with the URL from which the answer came in the end, in the
/// extension where `reqwest` looks for it.
pub(crate) fn into_http(response: reqwest::Response) -> http::Response<reqwest::Body> {
    let url = extensions_with(response.url().clone());
    let mut response = http::Response::<reqwest::Body>::from(response);
    response.extensions_mut().extend(url);
    response
}

/// On the way up, above all layers. An answer that says not where it came from, as one that the
/// layer gives itself, has the URL of the request.
pub(super) fn into_response<B>(mut response: http::Response<B>, asked: Url) -> reqwest::Response
where
    B: Body + Send + Sync + 'static,
    B::Data: Into<Bytes>,
    B::Error: Into<BoxError>,
{
    let mut extensions = extensions_with(asked);
    extensions.extend(mem::take(response.extensions_mut()));
    *response.extensions_mut() = extensions;
    reqwest::Response::from(response.map(reqwest::Body::wrap))
}

/// The type of the extension is private to `reqwest`; only a builder of responses can make it.
fn extensions_with(url: Url) -> Extensions {
    let response = http::Response::builder().url(url).body(());
    let response = response.expect("a response that has nothing but a URL can be built");
    response.into_parts().0.extensions
}

/// Bytes stay bytes, so that middlewares can sign them and redirects can send them once more; a
/// stream stays one in every attempt, also when an earlier attempt has read it to its end. Bytes of
/// which there are more than [`max_replay`](crate::RateLimitRetryLayer::max_replay) become a stream
/// of known length. A layer that is disabled hands on the body that it was given.
impl<B> From<ReplayBody<B>> for reqwest::Body
where
    B: Body + Send + 'static,
    B::Error: Into<BoxError>,
{
    fn from(body: ReplayBody<B>) -> Self {
        let body = match body.downcast_own::<Self>() {
            Ok(own) => return *Pin::into_inner(own),
            Err(body) => body,
        };
        let size = body.size_hint().exact();
        let is_as_announced = |bytes: &Bytes| size == Some(bytes.len() as u64);
        match body.known_bytes().filter(is_as_announced) {
            Some(bytes) => Self::from(bytes),
            None => Self::wrap(body),
        }
    }
}
