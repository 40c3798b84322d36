//! What is to be seen of a layer: each field in a situation that a user may be in.

mod support;

use bytes::Bytes;
use futures_util::future::join_all;
use http::Request;
use http_body_util::Full;
use std::{num::NonZero, time::Duration};
use support::{Answer, Body, Server, call, ms, ok, poll_once, refuse, request, status};
use tokio::time::{Instant, advance, sleep};
use tower::Layer;
use tower_rate_limit_retry::{
    DimensionSnapshot, Hold, Limits, Partition, PartitionSnapshot, Quota, RateLimitRetry,
    RateLimitRetryLayer, RefusalCause, RequestOptions, RetryReport, Source, StopReason, partition,
};

const API: &str = "api.example.com";

fn api() -> Partition {
    Partition::new(API)
}

/// A service of this server, and what is to be seen of it.
fn served(layer: &RateLimitRetryLayer, server: &Server) -> (RateLimitRetry<Server>, Limits) {
    let limits = layer.limits();
    (layer.layer(server.clone()), limits)
}

fn seen(limits: &Limits) -> PartitionSnapshot {
    limits.partition(&api()).expect("it has been called")
}

/// Source, limit, remaining, and in milliseconds the reset, interval and age.
type Shown = (Source, u64, u64, Option<u128>, Option<u128>, Option<u128>);

fn shown(dimension: &DimensionSnapshot) -> Shown {
    let millis = |time: Option<Duration>| time.map(|time| time.as_millis());
    (
        dimension.source(),
        dimension.limit(),
        dimension.remaining(),
        millis(dimension.reset()),
        millis(dimension.interval()),
        millis(dimension.age()),
    )
}

fn many(count: u64) -> NonZero<u64> {
    NonZero::new(count).unwrap()
}

/// As `OpenAI` announces 60 requests and 6,000 tokens a minute, of which so much is left.
fn openai(requests: u64, tokens: u64) -> support::Reply {
    let reset = |limit: u64, left: u64| format!("{}ms", (limit - left) * 60_000 / limit);
    ok().header("x-ratelimit-limit-requests", "60")
        .header("x-ratelimit-remaining-requests", requests.to_string())
        .header("x-ratelimit-reset-requests", reset(60, requests))
        .header("x-ratelimit-limit-tokens", "6000")
        .header("x-ratelimit-remaining-tokens", tokens.to_string())
        .header("x-ratelimit-reset-tokens", reset(6_000, tokens))
}

fn with_tokens(id: usize, tokens: u64) -> Request<Body> {
    let mut request = request(id);
    let options = RequestOptions::new().tokens(tokens);
    request.extensions_mut().insert(options);
    request
}

#[tokio::test(start_paused = true)]
async fn what_openai_announces_is_seen_and_flows_in() {
    let server = Server::new(|_| openai(50, 3_000));
    let (mut service, limits) = served(&RateLimitRetryLayer::new(), &server);
    let _ = call(&mut service, with_tokens(0, 100)).await.await;
    // The tenth unit may be missing by anything up to a whole one, so a unit takes up to 10/9 s.
    let of_requests = |remaining, reset, age| {
        let (reset, age) = (Some(reset), Some(age));
        (Source::Announced, 60, remaining, reset, Some(1_111), age)
    };
    let partition = seen(&limits);
    let names: Vec<_> = partition
        .dimensions()
        .iter()
        .map(DimensionSnapshot::name)
        .collect();
    assert_eq!(names, ["requests", "tokens"]);
    let requests = partition.dimension("requests").unwrap();
    let expected = of_requests(50, 10_000, 0);
    assert_eq!(shown(requests), expected);
    assert_eq!(requests.hold(), &Hold::Dimension("requests".into()));
    let tokens = partition.dimension("tokens").unwrap();
    let expected = (
        Source::Announced,
        6_000,
        3_000,
        Some(30_000),
        Some(10),
        Some(0),
    );
    assert_eq!(shown(tokens), expected);

    advance(ms(4_000)).await;
    let partition = seen(&limits);
    let requests = shown(partition.dimension("requests").unwrap());
    let expected = of_requests(54, 6_000, 4_000);
    assert_eq!(requests, expected);
    advance(ms(60_000)).await;
    let requests = shown(seen(&limits).dimension("requests").unwrap());
    let expected = of_requests(60, 0, 64_000);
    assert_eq!(requests, expected);

    let _ = call(&mut service, with_tokens(0, 100)).await.await;
    let requests = shown(seen(&limits).dimension("requests").unwrap());
    let expected = of_requests(50, 10_000, 0);
    assert_eq!(requests, expected, "announced anew");
}

#[tokio::test(start_paused = true)]
async fn a_window_is_seen_until_it_ends_and_then_the_next_one() {
    let server = Server::new(|_| {
        ok().header("ratelimit-limit", "100")
            .header("ratelimit-remaining", "40")
            .header("ratelimit-reset", "30")
    });
    let (mut service, limits) = served(&RateLimitRetryLayer::new(), &server);
    let _ = call(&mut service, request(0)).await.await;
    let dimension = |limits| shown(&seen(limits).dimensions()[0]);
    let expected = (Source::Announced, 100, 40, Some(30_000), None, Some(0));
    assert_eq!(dimension(&limits), expected);
    advance(ms(31_000)).await;
    let expected = (Source::Announced, 100, 100, None, None, Some(31_000));
    assert_eq!(dimension(&limits), expected);
}

#[tokio::test(start_paused = true)]
async fn what_was_declared_is_seen_from_the_first_call_on() {
    let quota = Quota::requests(many(10)).per(ms(10_000));
    let tokens = Quota::tokens(many(600)).per_minute().burst(many(600));
    let server = Server::new(|_| ok());
    let layer = RateLimitRetryLayer::new().quota(quota).quota(tokens);
    let (mut service, limits) = served(&layer, &server);
    for _ in 0..3 {
        let _ = call(&mut service, with_tokens(0, 100)).await.await;
    }
    advance(ms(2_000)).await;
    let partition = seen(&limits);
    let requests = shown(partition.dimension("requests").unwrap());
    // What was taken counts for the span and a cushion: 1 ms, where all answers come at once.
    let expected = (Source::Declared, 10, 7, Some(8_001), None, None);
    assert_eq!(requests, expected);
    let dimension = partition.dimension("tokens").unwrap();
    assert_eq!(dimension.hold(), &Hold::Declared("tokens"));
    let expected = (Source::Declared, 600, 319, Some(28_000), Some(100), None);
    assert_eq!(shown(dimension), expected);
}

/// Refuses without a word whatever comes earlier than 100 ms after the last it has admitted.
fn one_each_100_ms() -> Server {
    let next = std::sync::Mutex::new(Duration::ZERO);
    Server::new(move |sent| {
        let mut next = next.lock().unwrap();
        if sent.at < *next {
            return status(429);
        }
        *next = sent.at + ms(100);
        ok()
    })
}

#[tokio::test(start_paused = true)]
async fn a_learned_rate_is_seen() {
    let server = one_each_100_ms();
    let (mut service, limits) = served(&RateLimitRetryLayer::new(), &server);
    let mut calls = Vec::new();
    for id in 0..200 {
        calls.push(call(&mut service, request(id)).await);
    }
    join_all(calls).await;
    let partition = seen(&limits);
    let rate = partition.dimension("rate").unwrap();
    assert_eq!(rate.source(), Source::LearnedRate);
    assert_eq!(rate.hold(), &Hold::Rate);
    let interval = rate.interval().unwrap();
    assert!((ms(90)..ms(125)).contains(&interval), "{interval:?}");
    assert!(rate.remaining() <= rate.limit(), "{rate:?}");
    assert!(rate.age().is_some());
    let by_rate = partition.totals().refusals_by(&RefusalCause::Rate);
    assert!(by_rate > 0);
    assert!(2 * by_rate > partition.totals().refusals());
    advance(ms(60_000)).await;
    let partition = seen(&limits);
    let rate = partition.dimension("rate").unwrap();
    assert_eq!(
        (rate.remaining(), rate.reset()),
        (rate.limit(), Some(ms(0)))
    );
}

#[tokio::test(start_paused = true)]
async fn a_learned_concurrency_is_seen() {
    let in_flight = std::sync::Mutex::new(Vec::<Duration>::new());
    let server = Server::new(move |sent| {
        let mut ends = in_flight.lock().unwrap();
        ends.retain(|&end| end > sent.at);
        if ends.len() >= 4 {
            return status(429).after(ms(10));
        }
        ends.push(sent.at + ms(500));
        ok().after(ms(500))
    });
    let (mut service, limits) = served(&RateLimitRetryLayer::new(), &server);
    let mut calls = Vec::new();
    for id in 0..100 {
        calls.push(call(&mut service, request(id)).await);
    }
    let watch = async {
        sleep(ms(8_000)).await;
        seen(&limits)
    };
    let (partition, _) = tokio::join!(watch, join_all(calls));
    let concurrency = partition.dimension("concurrency").unwrap();
    assert_eq!(concurrency.source(), Source::LearnedConcurrency);
    assert_eq!(concurrency.limit(), 4);
    assert_eq!(
        concurrency.limit() - concurrency.remaining(),
        partition.in_flight() as u64
    );
    assert_eq!((concurrency.reset(), concurrency.interval()), (None, None));
    assert!(concurrency.age().is_some_and(|age| age <= ms(8_000)));
    assert_eq!(partition.held_by(), Some(&Hold::Concurrency));
    assert!(partition.totals().refusals_by(&RefusalCause::Concurrency) > 0);
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_seen_with_its_cause_and_its_end() {
    let server = Server::new(|sent| match sent.index {
        0 => refuse("20")
            .header("x-ratelimit-limit-requests", "60")
            .header("x-ratelimit-remaining-requests", "0")
            .header("x-ratelimit-reset-requests", "60s"),
        _ => ok(),
    });
    let (mut service, limits) = served(&RateLimitRetryLayer::new(), &server);
    let mut first = call(&mut service, request(0)).await;
    assert!(poll_once(&mut first).await.is_pending());
    advance(ms(5_000)).await;
    let partition = seen(&limits);
    let pause = partition.pause().unwrap();
    let cause = RefusalCause::Dimension("requests".into());
    assert_eq!(pause.cause(), Some(&cause));
    assert_eq!(partition.totals().refusals_by(&cause), 1);
    assert_eq!((pause.ends_in(), pause.refusals()), (ms(15_000), 1));
    assert_eq!(
        (partition.opens_in(), partition.held_by()),
        (ms(15_000), Some(&Hold::Pause))
    );
    assert_eq!((partition.waiting(), partition.in_flight()), (1, 0));
    assert!(first.await.is_ok());
    assert_eq!(server.times(), [0, 20_000]);
    let partition = seen(&limits);
    assert!(partition.pause().is_none());
    assert_eq!((partition.opens_in(), partition.held_by()), (ms(0), None));
    assert_eq!((partition.waiting(), partition.in_flight()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_is_being_read_holds_back_without_a_cause() {
    let server = Server::new(|sent| match sent.index {
        0..2 => refuse("20").slow(ms(200), "later"),
        _ => ok(),
    });
    let (mut service, limits) = served(&RateLimitRetryLayer::new(), &server);
    let mut first = call(&mut service, request(0)).await;
    assert!(poll_once(&mut first).await.is_pending());
    let partition = seen(&limits);
    let pause = partition.pause().unwrap();
    assert_eq!((pause.cause(), pause.ends_in()), (None, ms(20_000)));
    advance(ms(200)).await;
    assert!(poll_once(&mut first).await.is_pending());
    let partition = seen(&limits);
    let pause = partition.pause().unwrap();
    assert_eq!(
        (pause.cause(), pause.ends_in()),
        (Some(&RefusalCause::Rate), ms(19_800))
    );
    advance(ms(19_800)).await;
    assert!(poll_once(&mut first).await.is_pending());
    let partition = seen(&limits);
    let pause = partition.pause().unwrap();
    assert_eq!((pause.cause(), pause.ends_in()), (None, ms(20_000)));
}

#[tokio::test(start_paused = true)]
async fn who_waits_and_what_is_in_flight_is_counted() {
    let server = Server::new(|_| ok().after(ms(1_000)));
    let layer = RateLimitRetryLayer::new().quota(Quota::requests(many(3)).per(ms(10_000)));
    let (mut service, limits) = served(&layer, &server);
    let mut calls = Vec::new();
    for id in 0..8 {
        calls.push(call(&mut service, request(id)).await);
    }
    for call in &mut calls {
        assert!(poll_once(call).await.is_pending());
    }
    let partition = seen(&limits);
    assert_eq!(
        (
            partition.waiting(),
            partition.admitted(),
            partition.in_flight()
        ),
        (5, 0, 3)
    );
    assert_eq!(partition.held_by(), Some(&Hold::Declared("requests")));
    let opens_in = partition.opens_in();
    assert_eq!(
        opens_in,
        ms(10_100),
        "the span, and the cushion before an answer"
    );
    assert_eq!(
        (partition.totals().calls(), partition.totals().attempts()),
        (8, 3)
    );

    calls.remove(7);
    for call in &mut calls[..3] {
        assert!(call.await.is_ok());
    }
    let partition = seen(&limits);
    assert_eq!((partition.waiting(), partition.in_flight()), (4, 0));
    drop(calls);
    assert_eq!(seen(&limits).waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_is_not_used_yet_is_told_apart() {
    let server = Server::new(|_| ok());
    let layer = RateLimitRetryLayer::new().quota(Quota::requests(many(1)).per(ms(1_000)));
    let (mut service, limits) = served(&layer, &server);
    let mut calls = Vec::new();
    for id in 0..3 {
        calls.push(call(&mut service, request(id)).await);
    }
    for call in &mut calls {
        let _ = poll_once(call).await;
    }
    advance(ms(1_001)).await;
    assert!(
        poll_once(&mut calls[2]).await.is_pending(),
        "it lets the one before it go"
    );
    let partition = seen(&limits);
    assert_eq!(
        (
            partition.waiting(),
            partition.admitted(),
            partition.in_flight()
        ),
        (1, 1, 0)
    );
    // It lapses, though nobody comes to see that.
    advance(ms(99)).await;
    assert_eq!(seen(&limits).admitted(), 1);
    advance(ms(1)).await;
    let partition = seen(&limits);
    assert_eq!((partition.admitted(), partition.in_flight()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn totals_tell_attempts_retries_and_the_time_waited() {
    let server = Server::new(|sent| match (sent.id, sent.attempt) {
        (0, 1..=2) => refuse("3"),
        _ => ok(),
    });
    let (mut service, limits) = served(&RateLimitRetryLayer::new(), &server);
    let mut waited = Duration::ZERO;
    for id in 0..3 {
        let answer = call(&mut service, request(id)).await.await.unwrap();
        let report = answer.extensions().get::<RetryReport>();
        waited += report.map_or(ms(0), RetryReport::waited);
    }
    let totals = limits.snapshot().totals().clone();
    assert_eq!(
        (totals.calls(), totals.attempts(), totals.retries()),
        (3, 5, 2)
    );
    assert_eq!(
        (totals.refusals(), totals.refusals_by(&RefusalCause::Rate)),
        (2, 2)
    );
    assert_eq!((totals.given_back(), totals.answered_locally()), (0, 0));
    assert_eq!((totals.waited(), waited), (ms(6_000), ms(6_000)));
    assert_eq!(&totals, seen(&limits).totals());
}

#[tokio::test(start_paused = true)]
async fn totals_tell_why_calls_were_given_back() {
    const QUOTA: &str =
        r#"{"error": {"code": "insufficient_quota", "type": "insufficient_quota"}}"#;
    let server = Server::new(|sent| match sent.id {
        0 => refuse("1"),
        1 => status(429).body(QUOTA),
        2 => refuse("1").header("x-should-retry", "false"),
        3 => refuse("1000"),
        4 => status(500),
        _ => ok(),
    });
    let layer = RateLimitRetryLayer::new().max_retries(1);
    let (mut service, limits) = served(&layer, &server);
    let mut reasons = Vec::new();
    for id in [0, 1, 2, 4, 5, 3, 5] {
        let answer: Answer = call(&mut service, request(id)).await.await.unwrap();
        let report = answer.extensions().get::<RetryReport>();
        reasons.push(report.and_then(RetryReport::stop_reason));
    }
    let [max_retries, not_retryable, max_delay] = [
        Some(StopReason::MaxRetries),
        Some(StopReason::NotRetryable),
        Some(StopReason::MaxDelay),
    ];
    let expected = [
        max_retries,
        not_retryable,
        not_retryable,
        None,
        None,
        max_delay,
        max_delay,
    ];
    assert_eq!(reasons, expected);
    let snapshot = limits.snapshot();
    let totals = snapshot.totals();
    assert_eq!(
        (totals.calls(), totals.attempts(), totals.retries()),
        (7, 7, 1)
    );
    assert_eq!((totals.given_back(), totals.answered_locally()), (5, 1));
    let given_back: Vec<_> = totals.given_back_by_reason().collect();
    let expected = [
        (StopReason::MaxRetries, 1),
        (StopReason::NotRetryable, 2),
        (StopReason::MaxDelay, 2),
    ];
    assert_eq!(given_back, expected);
    assert_eq!(totals.given_back_by(StopReason::Deadline), 0);
    let refusals: Vec<_> = totals.refusals_by_cause().collect();
    assert_eq!(
        refusals,
        [(&RefusalCause::Rate, 3), (&RefusalCause::Request, 2)]
    );
}

#[tokio::test(start_paused = true)]
async fn failures_are_counted_when_they_are_retried_and_given_back() {
    let server = Server::new(|_| status(502));
    let layer = RateLimitRetryLayer::new().max_retries(2);
    let layer = layer.retry_if(|response| response.status == 502);
    let (mut service, limits) = served(&layer, &server);
    let mut request = request(0);
    *request.method_mut() = http::Method::GET;
    let _ = call(&mut service, request).await.await;
    let totals = limits.snapshot().totals().clone();
    assert_eq!((totals.attempts(), totals.retries()), (3, 2));
    assert_eq!((totals.refusals(), totals.given_back()), (0, 1));
    assert_eq!(totals.given_back_by(StopReason::MaxRetries), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_gives_up_has_waited_too() {
    let server = Server::new(|_| refuse("60").after(ms(500)));
    let quota = Quota::requests(many(1)).per(ms(1_000));
    let layer = RateLimitRetryLayer::new().quota(quota).deadline(ms(5_000));
    let (mut service, limits) = served(&layer, &server);
    let first = call(&mut service, request(0)).await;
    let second = call(&mut service, request(1)).await;
    let (_, second) = tokio::join!(first, second);
    let second = second.unwrap();
    let report = second.extensions().get::<RetryReport>().unwrap();
    assert_eq!((report.attempts(), report.waited()), (0, ms(500)));
    let totals = limits.snapshot().totals().clone();
    assert_eq!(totals.given_back_by(StopReason::Deadline), 2);
    assert_eq!(totals.answered_locally(), 1);
    assert_eq!(totals.waited(), ms(500));
}

#[tokio::test(start_paused = true)]
async fn nothing_that_is_seen_holds_a_credential() {
    let server = Server::new(|_| openai(50, 3_000));
    let layer = RateLimitRetryLayer::new();
    let (mut service, limits) = served(&layer, &server);
    for (name, secret) in [
        ("authorization", "Bearer hunter2"),
        ("x-api-key", "hunter2"),
    ] {
        let mut request = request(0);
        request.headers_mut().insert(name, secret.parse().unwrap());
        *request.uri_mut() = "http://user:hunter2@api.example.com/?key=hunter2"
            .parse()
            .unwrap();
        let _ = call(&mut service, request).await.await;
    }
    let snapshot = limits.snapshot();
    assert_eq!(snapshot.partitions().len(), 2);
    let text = format!("{snapshot:?} {limits:?}");
    assert!(text.contains(API) && !text.contains("hunter2"), "{text}");
    for partition in snapshot.partitions() {
        assert!(!partition.partition().as_str().contains("hunter2"));
    }
}

fn named(name: &str) -> Request<Body> {
    let mut request = request(0);
    let options = RequestOptions::new().partition(Partition::new(name));
    request.extensions_mut().insert(options);
    request
}

#[tokio::test(start_paused = true)]
async fn a_thousand_partitions_are_seen_in_order() {
    let server = Server::new(|_| ok());
    let (mut service, limits) = served(&RateLimitRetryLayer::new(), &server);
    for number in 0..1_000 {
        let _ = call(&mut service, named(&format!("{number:03}")))
            .await
            .await;
    }
    let snapshot = limits.snapshot();
    let partitions = snapshot.partitions().iter();
    let names: Vec<_> = partitions.map(|p| p.partition().to_string()).collect();
    let expected: Vec<_> = (0..1_000).map(|number| format!("{number:03}")).collect();
    assert_eq!(names, expected);
    assert_eq!(snapshot.totals().attempts(), 1_000);
    let one = snapshot.partition(&Partition::new("417")).unwrap();
    assert_eq!(one.totals().calls(), 1);
    assert!(snapshot.partition(&Partition::new("none")).is_none());
}

#[tokio::test(start_paused = true)]
async fn totals_outlast_the_partitions_that_had_to_leave() {
    let server = Server::new(|sent| match sent.index % 3 {
        0 => refuse("1000"),
        _ => ok(),
    });
    let layer = RateLimitRetryLayer::new().max_partitions(10);
    let (mut service, limits) = served(&layer, &server);
    let mut calls = 0;
    for number in 0..300 {
        let _ = call(&mut service, named(&number.to_string())).await.await;
        calls += 1;
        assert_eq!(limits.snapshot().totals().calls(), calls);
    }
    let snapshot = limits.snapshot();
    assert!(snapshot.partitions().len() <= 11);
    let totals = snapshot.totals();
    assert_eq!((totals.attempts(), totals.refusals()), (300, 100));
    assert_eq!(totals.given_back_by(StopReason::MaxDelay), 100);
}

#[tokio::test(start_paused = true)]
async fn what_is_forgotten_is_no_longer_seen_and_what_was_counted_stays() {
    let quota = Quota::requests(many(10)).per(ms(10_000));
    let server = Server::new(|_| {
        refuse("200")
            .header("ratelimit-limit", "100")
            .header("ratelimit-remaining", "0")
            .header("ratelimit-reset", "200")
    });
    let layer = RateLimitRetryLayer::new().quota(quota).max_retries(0);
    let (mut service, limits) = served(&layer, &server);
    let _ = call(&mut service, request(0)).await.await;
    assert_eq!(seen(&limits).dimensions().len(), 2);
    limits.forget(&api());
    let partition = seen(&limits);
    assert!(partition.pause().is_none());
    let sources: Vec<_> = partition
        .dimensions()
        .iter()
        .map(DimensionSnapshot::source)
        .collect();
    assert_eq!(sources, [Source::Declared]);
    assert_eq!(partition.totals().refusals(), 1);
}

/// What is asked for before the call, and how long the call waits then, in milliseconds.
async fn foreseen_and_waited(
    service: &mut RateLimitRetry<Server>,
    limits: &Limits,
    options: RequestOptions,
) -> (Option<u128>, u128) {
    let mut request = request(0);
    request.extensions_mut().insert(options);
    let asked = request.clone().map(|_| Bytes::from("hello"));
    let foreseen = limits.expected_wait(&asked);
    let answer = call(service, request).await.await.unwrap();
    let waited = answer.extensions().get::<RetryReport>();
    let waited = waited.map_or(ms(0), RetryReport::waited);
    (foreseen.map(|wait| wait.as_millis()), waited.as_millis())
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_as_long_as_was_foreseen() {
    let quota = Quota::requests(many(1)).per(ms(1_000)).burst(many(1));
    let server = Server::new(|_| ok());
    let (mut service, limits) = served(&RateLimitRetryLayer::new().quota(quota), &server);
    let unset = RequestOptions::new;
    let first = foreseen_and_waited(&mut service, &limits, unset()).await;
    assert_eq!(first, (Some(0), 0), "nothing is known yet");
    let mut others = Vec::new();
    for id in 0..3 {
        others.push(call(&mut service, request(id)).await);
    }
    let others = join_all(others);
    let last = foreseen_and_waited(&mut service, &limits, unset());
    let (_, last) = tokio::join!(others, last);
    assert_eq!(last, (Some(4_000), 4_000));
}

#[tokio::test(start_paused = true)]
async fn an_announced_wait_is_foreseen() {
    let server = Server::new(|sent| match sent.index {
        0 => refuse("7"),
        _ => ok(),
    });
    let layer = RateLimitRetryLayer::new().max_retries(0);
    let (mut service, limits) = served(&layer, &server);
    let _ = call(&mut service, request(0)).await.await;
    advance(ms(2_000)).await;
    let next = foreseen_and_waited(&mut service, &limits, RequestOptions::new()).await;
    assert_eq!(next, (Some(5_000), 5_000));
}

#[tokio::test(start_paused = true)]
async fn tokens_that_are_announced_are_foreseen_by_the_cost() {
    let server = Server::new(|_| openai(59, 0));
    let (mut service, limits) = served(&RateLimitRetryLayer::new(), &server);
    let _ = call(&mut service, with_tokens(0, 100)).await.await;
    let wait = |tokens| {
        let request = with_tokens(0, tokens).map(|_| "");
        limits.expected_wait(&request).map(|wait| wait.as_secs())
    };
    assert_eq!(
        [wait(100), wait(1_000), wait(6_000)],
        [Some(1), Some(10), Some(60)]
    );
    let options = RequestOptions::new().tokens(500);
    let (foreseen, waited) = foreseen_and_waited(&mut service, &limits, options).await;
    assert_eq!(foreseen, Some(waited));
}

#[tokio::test(start_paused = true)]
async fn the_partition_is_that_of_the_call() {
    let server = Server::new(|sent| match sent.index {
        0 => refuse("7"),
        _ => ok(),
    });
    let layer = RateLimitRetryLayer::new().max_retries(0);
    let layer = layer.partition_by(partition::by_model);
    let limits = layer.limits();
    let mut service = layer.layer(server);
    let request = |model: &str| {
        let body = format!(r#"{{"model": "{model}"}}"#);
        Request::post("http://api.example.com/")
            .body(Bytes::from(body))
            .unwrap()
    };
    let refused = request("a").map(Full::new);
    let _ = call(&mut service, refused).await.await;
    assert_eq!(limits.expected_wait(&request("a")), Some(ms(7_000)));
    assert_eq!(limits.expected_wait(&request("b")), Some(ms(0)));
    let mut named = request("b");
    let options = RequestOptions::new().partition(Partition::new("api.example.com a"));
    named.extensions_mut().insert(options);
    assert_eq!(limits.expected_wait(&named), Some(ms(7_000)));
}

#[tokio::test(start_paused = true)]
async fn who_would_not_be_let_in_is_told_so() {
    let server = Server::new(|sent| match sent.index {
        1 => refuse("7"),
        _ => ok(),
    });
    let layer = RateLimitRetryLayer::new().max_retries(0).max_waiting(1);
    let (mut service, limits) = served(&layer, &server);
    let short = RequestOptions::new().deadline(ms(6_000));
    let none = RequestOptions::new().deadline(ms(0));
    let _ = call(&mut service, request(0)).await.await;
    let open = foreseen_and_waited(&mut service, &limits, none.clone()).await;
    assert_eq!(open, (Some(0), 0), "what goes at once needs no time");
    let late = foreseen_and_waited(&mut service, &limits, short).await;
    assert_eq!(late, (None, 0));
    let _waits = call(&mut service, request(0)).await;
    let full = foreseen_and_waited(&mut service, &limits, RequestOptions::new()).await;
    assert_eq!(full, (None, 0));
}

#[tokio::test(start_paused = true)]
async fn looking_changes_nothing() {
    async fn times(looks: bool) -> Vec<u128> {
        let server = one_each_100_ms();
        let (mut service, limits) = served(&RateLimitRetryLayer::new(), &server);
        fastrand::seed(7);
        let mut calls = Vec::new();
        for id in 0..100 {
            calls.push(call(&mut service, request(id)).await);
        }
        let began = Instant::now();
        let look = async {
            while looks && began.elapsed() < ms(60_000) {
                let snapshot = limits.snapshot();
                assert!(snapshot.partitions().len() == 1);
                let request = request(0).map(|_| "");
                assert!(limits.expected_wait(&request).is_some());
                sleep(ms(7)).await;
            }
        };
        tokio::join!(look, join_all(calls));
        server.times()
    }
    assert_eq!(times(true).await, times(false).await);
}
