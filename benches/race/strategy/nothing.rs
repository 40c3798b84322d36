//! Each request once.

use tower::ServiceBuilder;

use super::{Client, status};
use crate::{wire::Wire, world::World};

pub(crate) fn client(_: &World, wire: Wire) -> Client {
    Client::new(ServiceBuilder::new().map_response(status).service(wire))
}
