//! This crate's layer, with its defaults.

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use tower::ServiceBuilder;
use tower_rate_limit_retry::{RateLimitRetryLayer, ResponseBody};

use super::Client;
use crate::{wire::Wire, world::World};

/// Told nothing of the server; only as many may wait as there are.
pub(crate) fn client(world: &World, wire: Wire) -> Client {
    let layer = RateLimitRetryLayer::new().max_waiting(world.requests.max(10_000));
    let status = |response: Response<ResponseBody<Full<Bytes>>>| response.status();
    let builder = ServiceBuilder::new().map_response(status).layer(layer);
    Client::new(builder.service(wire))
}
