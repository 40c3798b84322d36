//! The rule of `openai-python`, with `max_retries` at infinity instead of 2.
//!
//! It waits as long as `retry-after-ms` or `Retry-After` says, if that is a minute at the most; else
//! for half a second, doubled with each retry up to eight, less a quarter of that at the most.

use std::{convert::Infallible, time::Duration};

use http::HeaderMap;
use tokio::time::{Sleep, sleep};
use tower::{ServiceBuilder, retry::Policy};

use super::{Answered, Client, Outcome, Sent, refusal, retry_after::retry_after, status};
use crate::{wire::Wire, world::World};

pub(crate) fn client(_: &World, wire: Wire) -> Client {
    let builder = ServiceBuilder::new().map_response(status);
    Client::new(builder.retry(Rule { retries: 0 }).service(wire))
}

#[derive(Clone)]
struct Rule {
    retries: i32,
}

impl Rule {
    const LONGEST_WAIT: Duration = Duration::from_secs(60);

    fn delay(&self, headers: &HeaderMap) -> Duration {
        let asked = millis(headers).or_else(|| retry_after(headers));
        let asked = asked.filter(|asked| !asked.is_zero() && *asked <= Self::LONGEST_WAIT);
        asked.unwrap_or_else(|| {
            let seconds = (0.5 * 2_f64.powi(self.retries)).min(8.0);
            Duration::from_secs_f64(seconds * (1.0 - 0.25 * fastrand::f64()))
        })
    }
}

impl Policy<Sent, Answered, Infallible> for Rule {
    type Future = Sleep;

    fn retry(&mut self, _: &mut Sent, outcome: &mut Outcome) -> Option<Sleep> {
        let refusal = refusal(outcome)?;
        let delay = self.delay(refusal.headers());
        self.retries += 1;
        Some(sleep(delay))
    }

    fn clone_request(&mut self, request: &Sent) -> Option<Sent> {
        Some(request.clone())
    }
}

fn millis(headers: &HeaderMap) -> Option<Duration> {
    let millis = headers.get("retry-after-ms")?.to_str().ok()?;
    Some(Duration::from_millis(millis.parse().ok()?))
}
