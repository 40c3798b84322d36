//! The layer around a channel of `tonic`, and a service that pushes back.

pub mod server;

use tonic::body::Body;
use tonic::transport::Channel;
use tonic_health::pb::health_client::HealthClient;
use tower::Layer;
use tower_rate_limit_retry::{MapFn, RateLimitRetry, RateLimitRetryLayer, ReplayBody};

/// A channel whose calls all go through the layer.
pub type Limited = RateLimitRetry<Channel, MapFn<fn(ReplayBody<Body>) -> Body>>;

/// A generated client over the layer; those of other services are made alike.
///
/// A refusal is understood if it comes with `grpc-retry-pushback-ms`, and before there was any
/// answer: then tonic and others send it as a head without a body ("trailers-only"). A
/// `RESOURCE_EXHAUSTED` without push-back comes out as it is, as it may be a matter of memory or
/// disk; and what stands in trailers behind messages is not seen.
pub fn client(channel: Channel) -> HealthClient<Limited> {
    // A channel takes bodies of one type only.
    let layer = RateLimitRetryLayer::new().map_body(Body::new as fn(_) -> _);
    HealthClient::new(layer.layer(channel))
}
