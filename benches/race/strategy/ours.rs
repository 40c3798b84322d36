//! This crate's layer, with its defaults; only as many may wait as there are.

use std::num::NonZero;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use tower::{ServiceBuilder, limit::ConcurrencyLimitLayer};
use tower_rate_limit_retry::{Quota, RateLimitRetryLayer, ResponseBody};

use super::Client;
use crate::{
    wire::Wire,
    world::{Rate, World},
};

/// Told nothing of the server.
pub(crate) fn client(world: &World, wire: Wire) -> Client {
    let builder = ServiceBuilder::new().map_response(status);
    Client::new(builder.layer(layer(world)).service(wire))
}

/// Told the true quota, or a fair share of it; and with a concurrency limit below it, where the
/// server has one.
pub(crate) fn told(world: &World, wire: Wire) -> Client {
    let requests = world
        .told
        .requests
        .map(|rate| declared(world, rate, Quota::requests));
    let tokens = world
        .told
        .tokens
        .map(|rate| declared(world, rate, Quota::tokens));
    let quotas = requests.into_iter().chain(tokens);
    let layer = quotas.fold(layer(world), RateLimitRetryLayer::quota);
    let builder = ServiceBuilder::new().map_response(status).layer(layer);
    let places = world.told.at_a_time.map(ConcurrencyLimitLayer::new);
    Client::new(builder.option_layer(places).service(wire))
}

fn layer(world: &World) -> RateLimitRetryLayer {
    RateLimitRetryLayer::new().max_waiting(world.requests.max(10_000))
}

fn declared(world: &World, rate: Rate, quota: fn(NonZero<u64>) -> Quota) -> Quota {
    let share = u64::from(rate.burst) / world.processes as u64;
    let share = NonZero::new(share).expect("one for each process");
    let quota = quota(share).per(rate.per);
    if rate.is_bucket {
        quota.burst(share)
    } else {
        quota
    }
}

fn status(response: Response<ResponseBody<Full<Bytes>>>) -> http::StatusCode {
    response.into_parts().0.status
}
