//! Many calls at once before a server that cannot have them all, in virtual time.

mod support;

use futures_util::future::join_all;
use simulation::{
    Limit,
    limit::{TokenBucket, Unit},
};
use std::{
    collections::HashMap,
    num::NonZero,
    sync::{Arc, Mutex},
    time::Duration,
};
use support::{Sent, Server, ms, ok, refuse, request, status};
use tokio::time::Instant;
use tower::{Layer, ServiceExt};
use tower_rate_limit_retry::{RateLimitRetryLayer, RetryReport, StopReason};

/// Round trips.
const LATENCIES: [Duration; 4] = [ms(0), ms(1), ms(10), ms(50)];

const SECOND: Duration = Duration::from_secs(1);

/// Of servers that refuse: with a wait that is nothing, too short or right, and with none.
const HINTS: [Option<&str>; 4] = [None, Some("0"), Some("1"), Some("30")];

#[tokio::test(start_paused = true)]
async fn a_hundred_calls_share_a_bucket_of_ten() {
    for latency in LATENCIES {
        let per_minute = NonZero::new(20 * 60).unwrap();
        let began = Instant::now();
        let bucket = TokenBucket::new(Unit::Requests, 10, per_minute, began);
        let bucket = Mutex::new(bucket);
        let admits = move |sent: &Sent| bucket.lock().unwrap().admit(0, began + sent.at);
        let herd = Herd::new(100, latency, Some("1"), admits);
        let outcome = herd.run(layer()).await;
        outcome.assert_all_are_served();
        outcome.assert_none_is_early(SECOND);
        assert!(outcome.took <= 10 * SECOND, "{:?}", outcome.took);
        assert!(outcome.refused.len() <= 40, "{}", outcome.refused.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_herd_is_served_soon_after_a_server_has_opened() {
    let hints = [None, Some("0"), Some("1")];
    let cases = LATENCIES
        .iter()
        .flat_map(|latency| hints.map(|hint| (*latency, hint)));
    // The door opens by degrees, of a dozen round trips. Where those are long, only who was told the
    // time is served so soon: by a backoff it is found late.
    let cases = cases.filter(|(latency, hint)| *latency < ms(50) || *hint == Some("1"));
    for (latency, hint) in cases {
        let herd = Herd::new(100, latency, hint, |sent| sent.at >= ms(900));
        let outcome = herd.run(layer()).await;
        outcome.assert_all_are_served();
        if hint == Some("1") {
            outcome.assert_none_is_early(SECOND);
        }
        assert!(outcome.took <= ms(2_500), "{:?} {hint:?}", outcome.took);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_for_ever_is_asked_by_few_until_the_deadline() {
    for (latency, hint) in LATENCIES.into_iter().flat_map(|l| HINTS.map(|h| (l, h))) {
        for deadline in [10 * SECOND, 60 * SECOND] {
            let outcome = refused_for_ever(latency, hint)
                .run(layer().deadline(deadline))
                .await;
            outcome.assert_given_back(&[(StopReason::Deadline, 200)]);
            assert!(outcome.took <= deadline + latency, "{:?}", outcome.took);
            let sent = outcome.refused.len();
            assert!(sent <= 40, "{sent} requests for 200 calls, {hint:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_too_long_a_wait_is_asked_by_the_first_burst_alone() {
    for latency in LATENCIES {
        let cases = [
            (layer(), Some("301")),
            (layer().max_delay(10 * SECOND), Some("30")),
        ];
        for (layer, hint) in cases {
            let outcome = refused_for_ever(latency, hint).run(layer).await;
            outcome.assert_given_back(&[(StopReason::MaxDelay, 200)]);
            assert_eq!(outcome.took, latency);
            let sent = outcome.refused.len();
            assert!(sent <= 5, "{sent} requests for 200 calls");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn calls_without_a_deadline_ask_a_server_that_refuses_for_ever_as_often_as_one_may_and_once_each()
 {
    for (latency, hint) in [(ms(0), None), (ms(10), Some("1")), (ms(50), Some("0"))] {
        for max_retries in [0, 2, 20] {
            let herd = refused_for_ever(latency, hint);
            let outcome = herd.run(layer().max_retries(max_retries)).await;
            outcome.assert_given_back(&[(StopReason::MaxRetries, 200)]);
            let sent = outcome.refused.len();
            assert!(
                (200..=240).contains(&sent),
                "{sent} requests for 200 calls, {hint:?}"
            );
            let mut by_call = HashMap::<_, usize>::new();
            for (sent, _) in &outcome.refused {
                *by_call.entry(sent.id).or_default() += 1;
            }
            assert!(
                by_call
                    .values()
                    .all(|&count| count <= max_retries as usize + 1)
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn those_for_whom_there_is_no_room_to_wait_cost_no_request() {
    let outcome = refused_for_ever(ms(10), Some("1"))
        .run(layer().max_waiting(20).max_retries(3))
        .await;
    // Five are sent at once, and come to wait besides the twenty.
    outcome.assert_given_back(&[(StopReason::MaxRetries, 25), (StopReason::MaxWaiting, 175)]);
    let sent = outcome.refused.len();
    assert!((25..=60).contains(&sent), "{sent} requests");
}

fn layer() -> RateLimitRetryLayer {
    RateLimitRetryLayer::new()
}

fn refused_for_ever(latency: Duration, hint: Option<&'static str>) -> Herd {
    Herd::new(200, latency, hint, |_| false)
}

/// Calls that come at once, and the server that they come to.
struct Herd {
    calls: usize,
    latency: Duration,
    server: Server,
    refused: Arc<Mutex<Vec<(Sent, Duration)>>>,
}

/// What came of a herd.
struct Outcome {
    calls: usize,
    /// Until the last call was over.
    took: Duration,
    /// All attempts.
    sent: Vec<Sent>,
    /// Those that were refused, and when their answers came.
    refused: Vec<(Sent, Duration)>,
    /// Of those that were not served.
    reasons: HashMap<StopReason, usize>,
}

impl Herd {
    fn new(
        calls: usize,
        latency: Duration,
        hint: Option<&'static str>,
        admits: impl Fn(&Sent) -> bool + Send + Sync + 'static,
    ) -> Self {
        let refused = Arc::<Mutex<Vec<_>>>::default();
        let server = Server::new({
            let refused = refused.clone();
            move |sent| {
                if admits(sent) {
                    return ok().after(latency);
                }
                let answered = sent.at + latency;
                refused.lock().unwrap().push((sent.clone(), answered));
                hint.map_or_else(|| status(429), refuse).after(latency)
            }
        });
        Self {
            calls,
            latency,
            server,
            refused,
        }
    }

    async fn run(self, layer: RateLimitRetryLayer) -> Outcome {
        let began = Instant::now();
        let service = layer.layer(self.server.clone());
        let calls = (0..self.calls).map(|id| service.clone().oneshot(request(id)));
        let mut reasons = HashMap::new();
        for answer in join_all(calls).await {
            let answer = answer.unwrap();
            let report = answer.extensions().get::<RetryReport>();
            let reason = report.and_then(RetryReport::stop_reason);
            let status = if reason.is_some() { 429 } else { 200 };
            assert_eq!(answer.status(), status);
            if let Some(reason) = reason {
                *reasons.entry(reason).or_default() += 1;
            }
        }
        let took = began.elapsed();
        for partition in layer.limits().snapshot().partitions() {
            let held = (partition.waiting(), partition.admitted());
            assert_eq!((held, partition.in_flight()), ((0, 0), 0));
        }
        let sent = self.server.log();
        let refused = std::mem::take(&mut *self.refused.lock().unwrap());
        assert!(took >= self.latency && sent.len() >= refused.len());
        Outcome {
            calls: self.calls,
            took,
            sent,
            refused,
            reasons,
        }
    }
}

impl Outcome {
    #[track_caller]
    fn assert_all_are_served(&self) {
        assert!(self.reasons.is_empty(), "{:?}", self.reasons);
        assert_eq!(self.sent.len() - self.refused.len(), self.calls);
    }

    #[track_caller]
    fn assert_given_back(&self, reasons: &[(StopReason, usize)]) {
        assert_eq!(self.reasons, reasons.iter().copied().collect());
        assert_eq!(self.sent.len(), self.refused.len());
    }

    /// From the answer of a refusal on, nothing is sent for as long as it asked for.
    #[track_caller]
    fn assert_none_is_early(&self, wait: Duration) {
        for (refused, answered) in &self.refused {
            let pause = *answered..*answered + wait;
            let later = self.sent.iter().filter(|sent| sent.index > refused.index);
            // What was sent at the instant of the answer may have been sent before it.
            let early = later.filter(|sent| sent.at > *answered && pause.contains(&sent.at));
            assert_eq!(early.count(), 0, "refused at {answered:?}");
        }
    }
}
