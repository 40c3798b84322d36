//! How a client may behave: those who race.
//!
//! All but the first and ours are given as many retries as they want: with the two or ten that are
//! usual, most of their calls would fail.

mod aws;
mod backoff;
mod governor;
mod nothing;
mod openai;
mod ours;
mod retry_after;

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
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
    pub(crate) const ALL: [Self; 8] = [
        Self::new("nothing", nothing::client),
        Self::new("backoff", backoff::client),
        Self::new("retry-after", retry_after::client),
        Self::new("openai-python", openai::client),
        Self::new("aws-adaptive", aws::client),
        Self::new("governor", governor::client),
        Self::OURS,
        Self::new("ours-told", ours::told),
    ];

    /// This crate, told nothing.
    pub(crate) const OURS: Self = Self::new("ours", ours::client);

    const fn new(name: &'static str, client: fn(&World, Wire) -> Client) -> Self {
        Self { name, client }
    }
}

type Sent = Request<Full<Bytes>>;
type Answered = Response<Full<Bytes>>;
type Outcome = Result<Answered, Infallible>;

/// The answer, if it is a refusal.
fn refusal(outcome: &Outcome) -> Option<&Answered> {
    let response = outcome.as_ref().ok();
    response.filter(|response| !response.status().is_success())
}

fn status(response: Answered) -> StatusCode {
    response.into_parts().0.status
}
