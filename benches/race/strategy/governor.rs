//! `governor`, told the true quota; behind it, a retry when `Retry-After` says so.
//!
//! Told means: the rate and the burst of requests, those of tokens, and how many at a time; with
//! several processes, a fair share of that for each. There is a queue before the limiter, so that
//! one caller waits for it and not all, of whom all but one would wake in vain.

use std::{num::NonZeroU32, sync::Arc};

use governor::{
    NotUntil, Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};
use tokio::{
    sync::{Mutex, Semaphore, SemaphorePermit},
    time::{Instant, sleep},
};
use tower::{ServiceBuilder, ServiceExt, service_fn};

use super::{Client, Sent, retry_after::Obedient, status};
use crate::{
    wire::{Ticket, Wire},
    world::{Rate, World},
};

pub(crate) fn client(world: &World, wire: Wire) -> Client {
    let gate = Arc::new(Gate::new(world));
    let gated = service_fn(move |request: Sent| {
        let (gate, wire) = (Arc::clone(&gate), wire.clone());
        async move {
            let _place = gate.pass(Ticket::of(&request).tokens).await;
            wire.oneshot(request).await
        }
    });
    let builder = ServiceBuilder::new().map_response(status);
    Client::new(builder.retry(Obedient::new()).service(gated))
}

struct Gate {
    queue: Mutex<()>,
    requests: Option<Limiter>,
    tokens: Option<Limiter>,
    places: Semaphore,
}

type StdInstant = std::time::Instant;
type Limiter = RateLimiter<NotKeyed, InMemoryState, Paused, NoOpMiddleware<StdInstant>>;

impl Gate {
    fn new(world: &World) -> Self {
        let limiter = |rate: Rate| {
            let share = world.processes as u32;
            let burst = NonZeroU32::new(rate.burst / share).expect("a burst for each process");
            let quota = Quota::with_period(rate.interval() * share).expect("a rate");
            Limiter::direct_with_clock(quota.allow_burst(burst), Paused)
        };
        let places = world.told.at_a_time.unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            queue: Mutex::new(()),
            requests: world.told.requests.map(limiter),
            tokens: world.told.tokens.map(limiter),
            places: Semaphore::new(places),
        }
    }

    async fn pass(&self, tokens: u32) -> SemaphorePermit<'_> {
        let _turn = self.queue.lock().await;
        if let Some(requests) = &self.requests {
            until_open(|| requests.check()).await;
        }
        if let Some((limiter, tokens)) = self.tokens.as_ref().zip(NonZeroU32::new(tokens)) {
            until_open(|| limiter.check_n(tokens).expect("less than a burst")).await;
        }
        let place = self.places.acquire().await;
        place.expect("the semaphore is never closed")
    }
}

/// What `governor` itself does, but for its timers, which are real ones.
async fn until_open(check: impl Fn() -> Result<(), NotUntil<StdInstant>>) {
    while let Err(not_until) = check() {
        sleep(not_until.wait_time_from(Paused.now())).await;
    }
}

/// The clock of the race.
#[derive(Clone)]
struct Paused;

impl Clock for Paused {
    type Instant = StdInstant;

    fn now(&self) -> StdInstant {
        Instant::now().into_std()
    }
}
