//! How a client may behave: those who race.

mod ours;

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use tower::util::BoxCloneSyncService;

use crate::{wire::Wire, world::World};

/// What one process calls; says with which status a call ended.
pub(crate) type Client = BoxCloneSyncService<Request<Full<Bytes>>, StatusCode, Infallible>;

/// One way to behave.
pub(crate) struct Strategy {
    pub(crate) name: &'static str,
    /// The client of one process over the network.
    pub(crate) client: fn(&World, Wire) -> Client,
}

impl Strategy {
    pub(crate) const ALL: &'static [Self] = &[Self::OURS];

    /// This crate, told nothing.
    pub(crate) const OURS: Self = Self {
        name: "ours",
        client: ours::client,
    };
}
