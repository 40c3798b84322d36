//! The way of a request, and of its answer.

use std::error::Error;
use std::iter;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::Body;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{self, Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use tower::{Layer, ServiceExt};
use tower_rate_limit_retry::{RateLimitRetry, RateLimitRetryLayer, ReplayBody, ResponseBody};

use super::upload::Upload;
use super::upstream::Upstream;
use super::{head, log, problem::problem};

type HttpClient = Client<HttpsConnector<HttpConnector>, ReplayBody<Upload<Incoming>>>;

/// The upstream's, or the proxy's own.
type Answer = Response<Either<ResponseBody<Incoming>, Full<Bytes>>>;

/// Sends requests on, through the layer.
pub(crate) struct Forward {
    upstream: Upstream,
    service: RateLimitRetry<HttpClient>,
    max_replay: usize,
    pseudonym: String,
}

impl Forward {
    /// Of JSON, up to `max_replay` bytes are read before a request is sent.
    pub(crate) fn new(upstream: Upstream, layer: &RateLimitRetryLayer, max_replay: usize) -> Self {
        Self {
            upstream,
            service: layer.layer(http_client()),
            max_replay,
            pseudonym: head::pseudonym(),
        }
    }

    /// # Cancellation
    ///
    /// Dropped, it leaves the queue, or ends the attempt that is under way.
    pub(super) async fn answer(&self, mut request: Request<Incoming>) -> Answer {
        let method = request.method().clone();
        if !head::count_forward(&method, request.headers_mut()) {
            return last_recipient(&method).map(Either::Right);
        }
        match self.forward(request).await {
            Ok(response) => response.map(Either::Left),
            Err((status, detail)) => problem(status, &detail).map(Either::Right),
        }
    }

    async fn forward(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<ResponseBody<Incoming>>, (StatusCode, String)> {
        let request = self.outgoing(request).await?;
        let mut response = self
            .service
            .clone()
            .oneshot(request)
            .await
            .map_err(|error| {
                let detail = broken(&error);
                tracing::info!(target: log::TARGET, upstream = %self.upstream, "{detail}");
                (StatusCode::BAD_GATEWAY, detail)
            })?;
        head::remove_hop_by_hop(response.headers_mut());
        // The server knows what its client speaks.
        *response.version_mut() = Version::default();
        Ok(response)
    }

    /// The request as the upstream gets it.
    async fn outgoing(
        &self,
        request: Request<Incoming>,
    ) -> Result<Request<Upload<Incoming>>, (StatusCode, String)> {
        let (incoming, body) = request.into_parts();
        let mut headers = incoming.headers;
        if head::has_passed(&headers, &self.pseudonym) {
            let detail = "the upstream of this proxy is the proxy itself".to_owned();
            return Err((StatusCode::LOOP_DETECTED, detail));
        }
        let uri = self.upstream.target(&incoming.uri).ok_or_else(|| {
            let detail = "expected a target that begins with a slash".to_owned();
            (StatusCode::BAD_REQUEST, detail)
        })?;
        // To rewrite it would send the credentials that are meant for another host to the upstream.
        // HTTP/2 names the authority in every request, which is then that of the proxy.
        if incoming.version < Version::HTTP_2 && incoming.uri.authority().is_some() {
            let detail = "expected a target that begins with a slash: this is no forward proxy";
            return Err((StatusCode::MISDIRECTED_REQUEST, detail.to_owned()));
        }
        head::remove_hop_by_hop(&mut headers);
        // The client writes the one of the URI.
        headers.remove(header::HOST);
        head::join_cookies(&mut headers);
        head::append_via(&mut headers, incoming.version, &self.pseudonym);

        // Its model says which limit it counts against, and must be known before it is sent.
        let mut body = if head::may_be_json(&headers) {
            let read = Upload::read_up_to(self.max_replay, body).await;
            read.map_err(|_| (StatusCode::BAD_REQUEST, "the body broke off".to_owned()))?
        } else {
            Upload::stream(body)
        };
        // Over HTTP/1.1 nothing can follow a body whose length is told: RFC 9112, section 6.2. Only
        // HTTP/2 has both. Where the body is not read here, `Trailer` says whether any will.
        if headers.contains_key(header::TRAILER) {
            body.expect_trailers();
        }
        if body.has_trailers() {
            headers.remove(header::CONTENT_LENGTH);
        }
        // Of a GET or HEAD whose length is unknown, the client sends the body over HTTP/1.1 only if
        // told so. Over HTTP/2 it removes the field.
        let is_of_unknown_length = !body.is_end_stream() && body.size_hint().exact().is_none();
        if is_of_unknown_length && !headers.contains_key(header::CONTENT_LENGTH) {
            let chunked = HeaderValue::from_static("chunked");
            headers.insert(header::TRANSFER_ENCODING, chunked);
        }
        let mut request = Request::new(body);
        *request.method_mut() = incoming.method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

/// To a TRACE or OPTIONS that goes no further than this. What a TRACE has brought is not shown, for it
/// has credentials in it.
fn last_recipient(method: &Method) -> Response<Full<Bytes>> {
    if method == Method::OPTIONS {
        return Response::default();
    }
    problem(StatusCode::NOT_IMPLEMENTED, "this proxy traces no requests")
}

/// An ordinary HTTP client, for HTTP/1.1 and, where TLS negotiates it, HTTP/2.
fn http_client() -> HttpClient {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    // The operating system's own would be minutes.
    tcp.set_connect_timeout(Some(Duration::from_secs(10)));
    let connector = HttpsConnectorBuilder::new()
        .with_webpki_roots()
        .https_or_http()
        .enable_all_versions()
        .wrap_connector(tcp);
    Client::builder(TokioExecutor::new()).build(connector)
}

/// Why there is no answer. The errors of the client name neither header fields nor the target.
fn broken(error: &legacy::Error) -> String {
    // The outermost error only says that something went wrong.
    let causes = iter::successors(error.source(), |&error| error.source());
    let causes: Vec<String> = causes.map(ToString::to_string).collect();
    let what = if error.is_connect() {
        "the upstream cannot be reached"
    } else {
        "the upstream broke off before it answered"
    };
    format!("{what}: {}", causes.join(": "))
}
