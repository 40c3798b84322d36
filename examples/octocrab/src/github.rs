//! A model of GitHub's [limits], at a bad time for its clients.
//!
//! [limits]: https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, Response, response};
use serde_json::json;
use simulation::Api;
use tokio::time::Instant;

const LIMIT: u32 = 5_000;
const HOUR: Duration = Duration::from_secs(3_600);

/// Another program has used up the quota, and the hour ends in two seconds; and the third comment
/// after that comes too soon after the others, which is a matter of the secondary limit.
#[derive(Debug)]
pub(crate) struct GitHub {
    remaining: u32,
    /// A date, as the server tells it to clients: that is why it is not of tokio's clock.
    resets_at: SystemTime,
    comments: u32,
    /// What the secondary limit asks for once it has found out.
    closed_until: Option<Instant>,
    counts: Counts,
}

/// What was answered so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) primary: u32,
    pub(crate) secondary: u32,
}

impl GitHub {
    pub(crate) fn new() -> Self {
        Self {
            remaining: 0,
            resets_at: SystemTime::now() + Duration::from_secs(2),
            comments: 0,
            closed_until: None,
            counts: Counts::default(),
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    fn primary_limit(&mut self) -> Response<Bytes> {
        self.counts.primary += 1;
        // No `retry-after`: that nothing remains, and until when, is all that tells this 403 from
        // a lack of permission.
        let message = json!({
            "message": "API rate limit exceeded for user ID 1.",
            "documentation_url": "https://docs.github.com/rest/overview/rate-limits-for-the-rest-api",
        });
        answer(self.head().status(403), &message)
    }

    fn secondary_limit(&mut self, wait: Duration) -> Response<Bytes> {
        self.counts.secondary += 1;
        let seconds = wait.as_secs_f64().ceil();
        let message = json!({
            "message": "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",
            "documentation_url": "https://docs.github.com/rest/overview/rate-limits-for-the-rest-api#about-secondary-rate-limits",
        });
        let head = self.head().status(403);
        answer(head.header("retry-after", seconds.to_string()), &message)
    }

    /// The fields that every answer has.
    fn head(&self) -> response::Builder {
        let reset = self.resets_at.duration_since(SystemTime::UNIX_EPOCH);
        // Rounded up: a date must not come before what it stands for.
        let reset = reset.unwrap_or_default().as_secs() + 1;
        Response::builder()
            .header("content-type", "application/json; charset=utf-8")
            .header("x-ratelimit-limit", LIMIT)
            .header("x-ratelimit-remaining", self.remaining)
            .header("x-ratelimit-used", LIMIT - self.remaining)
            .header("x-ratelimit-reset", reset)
            .header("x-ratelimit-resource", "core")
    }
}

impl Api for GitHub {
    fn answer(&mut self, _: &Request<Bytes>, now: Instant) -> Response<Bytes> {
        let date = SystemTime::now();
        if date >= self.resets_at {
            self.remaining = LIMIT;
            self.resets_at = date + HOUR;
        }
        if self.remaining == 0 {
            return self.primary_limit();
        }
        self.remaining -= 1;
        if self.comments == 2 {
            let until = *self
                .closed_until
                .get_or_insert(now + Duration::from_secs(1));
            if now < until {
                return self.secondary_limit(until - now);
            }
        }
        self.comments += 1;
        answer(self.head().status(201), &json!({ "id": self.comments }))
    }
}

fn answer(head: response::Builder, body: &serde_json::Value) -> Response<Bytes> {
    let body = Bytes::from(body.to_string());
    head.body(body).expect("the fields are all well-formed")
}
