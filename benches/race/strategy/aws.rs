//! The adaptive mode of AWS's SDKs: a rate limiter that learns from throttling after CUBIC.
//!
//! Its attempts and its quota of retries (500, five for each) are unlimited here: else most of the
//! calls would fail at once. Between attempts it waits for a random share of 1, 2, 4, … seconds, up
//! to 20; it does not read `Retry-After`.

use std::{convert::Infallible, sync::Arc, time::Duration};

use tokio::{
    sync::Mutex,
    time::{Instant, Sleep, sleep},
};
use tower::{ServiceBuilder, ServiceExt, retry::Policy, service_fn};

use super::{Answered, Client, Outcome, Sent, refusal, status};
use crate::{wire::Wire, world::World};

mod limiter;

use limiter::Limiter;

pub(crate) fn client(_: &World, wire: Wire) -> Client {
    let limiter = Arc::new(Mutex::new(Limiter::default()));
    let queue = Arc::new(Mutex::new(()));
    let began = Instant::now();
    let now = move || began.elapsed().as_secs_f64();
    let limited = service_fn(move |request: Sent| {
        let (limiter, queue, wire) = (Arc::clone(&limiter), Arc::clone(&queue), wire.clone());
        async move {
            let turn = queue.lock().await;
            loop {
                let wait = limiter.lock().await.acquire(now());
                let Err(wait) = wait else { break };
                sleep(wait).await;
            }
            drop(turn);
            let outcome = wire.oneshot(request).await;
            let mut limiter = limiter.lock().await;
            limiter.answered(refusal(&outcome).is_some(), now());
            outcome
        }
    });
    let builder = ServiceBuilder::new().map_response(status);
    Client::new(builder.retry(Standard { retries: 0 }).service(limited))
}

#[derive(Clone)]
struct Standard {
    retries: i32,
}

impl Policy<Sent, Answered, Infallible> for Standard {
    type Future = Sleep;

    fn retry(&mut self, _: &mut Sent, outcome: &mut Outcome) -> Option<Sleep> {
        refusal(outcome).map(|_| {
            let seconds = (fastrand::f64() * 2_f64.powi(self.retries)).min(20.0);
            self.retries += 1;
            sleep(Duration::from_secs_f64(seconds))
        })
    }

    fn clone_request(&mut self, request: &Sent) -> Option<Sent> {
        Some(request.clone())
    }
}
