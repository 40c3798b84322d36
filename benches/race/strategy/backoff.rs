//! `tower::retry` with tower's own backoff: from 50 ms, its default, to a minute, with its default
//! jitter of up to as much again.

use std::{convert::Infallible, time::Duration};

use tokio::time::Sleep;
use tower::{
    ServiceBuilder,
    retry::{
        Policy,
        backoff::{Backoff as _, ExponentialBackoff, ExponentialBackoffMaker, MakeBackoff as _},
    },
    util::rng::Rng,
};

use super::{Answered, Client, Outcome, Sent, refusal, status};
use crate::{wire::Wire, world::World};

pub(crate) fn client(_: &World, wire: Wire) -> Client {
    let builder = ServiceBuilder::new().map_response(status);
    Client::new(builder.retry(Backoff::new()).service(wire))
}

#[derive(Clone)]
pub(super) struct Backoff(ExponentialBackoff<Chance>);

impl Backoff {
    pub(super) fn new() -> Self {
        let (min, max) = (Duration::from_millis(50), Duration::from_secs(60));
        let maker = ExponentialBackoffMaker::new(min, max, 0.99, Chance);
        Self(maker.expect("a backoff that can be").make_backoff())
    }

    pub(super) fn next(&mut self) -> Sleep {
        self.0.next_backoff()
    }
}

impl Policy<Sent, Answered, Infallible> for Backoff {
    type Future = Sleep;

    fn retry(&mut self, _: &mut Sent, outcome: &mut Outcome) -> Option<Sleep> {
        refusal(outcome).map(|_| self.next())
    }

    fn clone_request(&mut self, request: &Sent) -> Option<Sent> {
        Some(request.clone())
    }
}

/// The thread's generator, which is seeded; and its clones draw different numbers.
#[derive(Clone)]
struct Chance;

impl Rng for Chance {
    fn next_u64(&mut self) -> u64 {
        fastrand::u64(..)
    }
}
