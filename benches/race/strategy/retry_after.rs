//! `tower::retry` that waits as long as `Retry-After` says; without one, tower's own backoff.

use std::{convert::Infallible, time::Duration};

use http::{HeaderMap, header};
use tokio::time::{Sleep, sleep};
use tower::{ServiceBuilder, retry::Policy};

use super::{Answered, Client, Outcome, Sent, backoff::Backoff, refusal, status};
use crate::{wire::Wire, world::World};

pub(crate) fn client(_: &World, wire: Wire) -> Client {
    let builder = ServiceBuilder::new().map_response(status);
    Client::new(builder.retry(Obedient(Backoff::new())).service(wire))
}

#[derive(Clone)]
pub(super) struct Obedient(Backoff);

impl Obedient {
    pub(super) fn new() -> Self {
        Self(Backoff::new())
    }
}

impl Policy<Sent, Answered, Infallible> for Obedient {
    type Future = Sleep;

    fn retry(&mut self, _: &mut Sent, outcome: &mut Outcome) -> Option<Sleep> {
        let refusal = refusal(outcome)?;
        Some(match retry_after(refusal.headers()) {
            Some(wait) => sleep(wait),
            None => self.0.next(),
        })
    }

    fn clone_request(&mut self, request: &Sent) -> Option<Sent> {
        Some(request.clone())
    }
}

/// `Retry-After` in seconds; dates are for others to read.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    Some(Duration::from_secs(seconds.parse().ok()?))
}
