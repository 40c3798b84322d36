//! What observers are told, and that whatever they do harms nobody.

mod support;

use futures_util::{FutureExt, future::join_all};
use http::{Request, Response};
use std::{
    num::NonZero,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use support::{Body, Server, ms, ok, refuse, request, status};
use tokio::time::{Instant, sleep, timeout};
use tower::{Layer, Service, ServiceExt};
use tower_rate_limit_retry::{
    ConfigErrorKind, GaveUp, LimitChanged, Limits, Observer, Partition, Paused, Quota,
    RateLimitRetry, RateLimitRetryLayer, RefusalCause, RequestOptions, Resumed, RetryReason,
    RetryScheduled, Source, StopReason, UsageHigh, WaitEnded,
};

const PARTITION: &str = "api.example.com";

#[tokio::test(start_paused = true)]
async fn a_pause_is_told_once_and_so_is_its_end_however_many_call() {
    let server = Server::new(|sent| {
        let refused = sent.at < ms(10_000);
        if refused { refuse("10") } else { ok() }.after(ms(50))
    });
    let log = Log::default();
    let layer = RateLimitRetryLayer::new().observer(log.clone());
    let service = layer.layer(server.clone());
    let calls = (0..50).map(|id| service.clone().oneshot(request(id)));
    for answer in join_all(calls).await {
        assert_eq!(answer.unwrap().status(), 200);
    }
    let told = log.take();
    assert_eq!(count(&told, "paused"), 1, "{told:?}");
    assert_eq!(count(&told, "resumed"), 1, "{told:?}");
    let place = |name: &str| told.iter().position(|told| told.starts_with(name));
    assert_eq!(
        told[place("paused").unwrap()],
        "paused api.example.com 10s rate 1"
    );
    assert_eq!(
        told[place("resumed").unwrap()],
        "resumed api.example.com 10.05s 1"
    );
    assert!(place("paused") < place("resumed"));
    let retries = server.log().len() - 50;
    assert_eq!(count(&told, "retry"), retries);
    assert_eq!(count(&told, "wait"), 50, "each was held back once");
}

#[tokio::test(start_paused = true)]
async fn none_rests_longer_than_the_longest_delay() {
    let server = Server::new(|_| refuse("8"));
    let log = Log::default();
    let layer = RateLimitRetryLayer::new()
        .max_delay(ms(10_000))
        .max_retries(8)
        .observer(log.clone());
    let service = layer.layer(server.clone());
    join_all((0..2).map(|id| service.clone().oneshot(request(id)))).await;
    let told = log.take();
    let delay = |told: &String| {
        let mut words = told.strip_prefix("retry ")?.split(' ');
        let seconds = words.nth(2)?.strip_suffix('s')?.parse().unwrap();
        Some(Duration::from_secs_f64(seconds))
    };
    let delays: Vec<_> = told.iter().filter_map(delay).collect();
    assert!(delays.len() > 4, "{told:?}");
    assert!(
        delays.iter().all(|&delay| delay <= ms(10_000)),
        "{delays:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_row_of_pauses_is_told_one_by_one_and_ends_once() {
    let server = Server::new(|sent| if sent.index < 3 { refuse("1") } else { ok() });
    let log = Log::default();
    let layer = RateLimitRetryLayer::new().observer(log.clone());
    layer.layer(server).oneshot(request(0)).await.unwrap();
    let told = log.take();
    let lines: Vec<_> = told
        .iter()
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    let round = ["paused", "retry", "wait"];
    assert_eq!(lines, [&round[..], &round, &round, &["resumed"]].concat());
    assert_eq!(told[1], "retry api.example.com 1 1s refused 429");
    assert_eq!(told[2], "wait api.example.com 1 1s");
    assert_eq!(told[6], "paused api.example.com 1s rate 3");
    assert_eq!(told[9], "resumed api.example.com 3s 3");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_while_its_refusal_is_read_has_paused_the_partition() {
    let server = Server::new(|_| refuse("10").slow(ms(200), "slow down"));
    let log = Log::default();
    let layer = RateLimitRetryLayer::new().observer(log.clone());
    let call = layer.layer(server).oneshot(request(0));
    assert!(timeout(ms(100), call).await.is_err());
    assert_eq!(log.take(), ["paused api.example.com 9.9s rate 1"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_forgotten_is_no_pause_any_more() {
    let server = Server::new(|_| refuse("10"));
    let log = Log::default();
    let layer = RateLimitRetryLayer::new()
        .max_retries(0)
        .observer(log.clone());
    layer.layer(server).oneshot(request(0)).await.unwrap();
    sleep(ms(2_000)).await;
    for _ in 0..2 {
        layer.limits().forget(&Partition::new(PARTITION));
    }
    assert_eq!(
        log.take(),
        [
            "paused api.example.com 10s rate 1",
            "gave up api.example.com max-retries 1 0ns 429 false, put down to rate",
            "resumed api.example.com 2s 1",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_says_why() {
    let log = Log::default();
    let layer = RateLimitRetryLayer::new().observer(log.clone());
    let server = Server::new(|sent| match sent.id {
        0 => status(429).header("x-should-retry", "false"),
        1 => refuse("400"),
        _ => ok(),
    });
    let service = layer.layer(server);
    for id in 0..3 {
        service.clone().oneshot(request(id)).await.unwrap();
    }
    assert_eq!(
        log.take(),
        [
            "gave up api.example.com not-retryable 1 0ns 429 false, put down to request",
            "paused api.example.com 400s rate 1",
            "gave up api.example.com max-delay 1 0ns 429 false, put down to rate",
            "gave up api.example.com max-delay 0 0ns 429 true, held by pause",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn failures_are_told_like_refusals() {
    let log = Log::default();
    let layer = RateLimitRetryLayer::new()
        .retry_if(|head| head.status == 502)
        .max_retries(1)
        .observer(log.clone());
    let server = Server::new(|_| status(502));
    let mut request = request(0);
    *request.method_mut() = http::Method::PUT;
    layer.layer(server).oneshot(request).await.unwrap();
    let told = log.take();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].starts_with("retry api.example.com 1 "), "{told:?}");
    assert!(told[0].ends_with(" failed 502"), "{told:?}");
    assert!(told[1].starts_with("wait api.example.com 1 "), "{told:?}");
    assert!(
        told[2].starts_with("gave up api.example.com max-retries 2 "),
        "{told:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_limit_is_told_when_it_is_learned_and_when_it_changes() {
    let server = Server::new(|sent| {
        if sent.id < 3 {
            announce("100", "90")
        } else {
            announce("500", "400")
        }
    });
    let log = Log::default();
    let service = RateLimitRetryLayer::new()
        .observer(log.clone())
        .layer(server);
    for id in 0..6 {
        service.clone().oneshot(request(id)).await.unwrap();
    }
    assert_eq!(
        log.take(),
        [
            "limit api.example.com default announced 100",
            "limit api.example.com default announced 500, was 100",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_refusals_teach_is_told() {
    // A bucket of five, one per second, of which nothing is announced.
    let server = simulated(5, Duration::from_secs(1));
    let log = Log::default();
    let service = RateLimitRetryLayer::new()
        .observer(log.clone())
        .layer(server);
    let calls = (0..60).map(|id| service.clone().oneshot(request(id)));
    join_all(calls).await;
    let told = log.take();
    let learned = told.iter().filter(|line| line.contains("learned-rate"));
    assert!((1..20).contains(&learned.count()), "{told:?}");
    assert_eq!(count(&told, "usage"), 0, "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_usage_is_told_once_and_again_only_after_it_was_well_below() {
    const REMAINING: [&str; 12] = [
        "90", "21", "20", "5", "30", "10", "40", "19", "45", "15", "80", "1",
    ];
    let server = Server::new(|sent| announce("100", REMAINING[sent.index]));
    let log = Log::default();
    let service = RateLimitRetryLayer::new()
        .observer(log.clone())
        .layer(server);
    let mut told_at = Vec::new();
    for (index, remaining) in REMAINING.into_iter().enumerate() {
        service.clone().oneshot(request(index)).await.unwrap();
        if count(&log.take(), "usage") > 0 {
            told_at.push(remaining);
        }
        // Each answer tells of a window of its own.
        sleep(Duration::from_secs(61)).await;
    }
    assert_eq!(told_at, ["20", "19", "15", "1"]);
}

#[tokio::test(start_paused = true)]
async fn the_threshold_is_the_programs_and_counts_what_is_declared() {
    let quota = Quota::requests(NonZero::new(10).unwrap()).per_minute();
    let log = Log::default();
    let layer = RateLimitRetryLayer::new()
        .quota(quota)
        .usage_threshold_ratio(0.5)
        .unwrap()
        .observer(log.clone());
    let service = layer.layer(Server::new(|_| ok()));
    for id in 0..4 {
        service.clone().oneshot(request(id)).await.unwrap();
    }
    assert_eq!(log.take(), <[String; 0]>::default());
    for id in 4..10 {
        service.clone().oneshot(request(id)).await.unwrap();
    }
    assert_eq!(
        log.take(),
        ["usage api.example.com requests declared 5 of 10, 0.5"]
    );
}

#[test]
fn a_threshold_that_makes_no_sense_is_an_error() {
    for ratio in [0.0, -0.5, 1.01, f64::NAN, f64::INFINITY] {
        let error = RateLimitRetryLayer::new()
            .usage_threshold_ratio(ratio)
            .unwrap_err();
        assert_eq!(error.kind(), ConfigErrorKind::UsageThreshold);
        assert_eq!(
            error.to_string(),
            "expected a usage threshold above 0.0 and of at most 1.0"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn all_observers_are_told() {
    let (first, second) = (Log::default(), Log::default());
    let layer = RateLimitRetryLayer::new()
        .observer(first.clone())
        .observer(Panics)
        .observer(second.clone());
    let server = Server::new(|sent| if sent.index == 0 { refuse("1") } else { ok() });
    layer.layer(server).oneshot(request(0)).await.unwrap();
    let told = first.take();
    assert_eq!(told.len(), 4);
    assert_eq!(told, second.take());
}

/// An observer that panics whatever it is told.
#[tokio::test(start_paused = true)]
async fn an_observer_that_panics_fails_no_call_and_loses_no_wake_up() {
    let took = |observer: Option<Panics>| async {
        let server = Server::new(|sent| {
            let reply = match sent.index {
                index if index % 7 == 3 => refuse("3").slow(ms(20), "slow down"),
                index if index % 11 == 5 => status(502),
                _ => announce("100", "50"),
            };
            reply.after(ms(30))
        });
        let layer = RateLimitRetryLayer::new().retry_if(|head| head.status == 502);
        let layer = match observer {
            Some(observer) => layer.observer(observer),
            None => layer,
        };
        let service = layer.layer(server);
        let began = Instant::now();
        let calls = (0..40).map(|id| {
            let mut request = request(id);
            *request.method_mut() = http::Method::PUT;
            timeout(ms(500_000), service.clone().oneshot(request))
        });
        for answer in join_all(calls).await {
            assert_eq!(answer.expect("no call hangs").unwrap().status(), 200);
        }
        let snapshot = layer.limits().snapshot();
        let partition = &snapshot.partitions()[0];
        assert_eq!((partition.waiting(), partition.in_flight()), (0, 0));
        began.elapsed()
    };
    let (with, without) = (took(Some(Panics)).await, took(None).await);
    // The backoff of failures is random.
    assert!(
        with < without * 2,
        "{with:?} with an observer, {without:?} without"
    );
}

/// An observer that uses the layer in all the ways there are, whatever it is told.
#[tokio::test(start_paused = true)]
async fn an_observer_may_use_the_layer() {
    let server = Server::new(|sent| {
        let reply = match sent.index {
            index if index % 5 == 2 => refuse("1"),
            _ => announce("100", "10"),
        };
        reply.after(ms(30))
    });
    let uses = Arc::new(Uses::default());
    let layer = RateLimitRetryLayer::new()
        .max_waiting(20)
        .observer(Shared(Arc::clone(&uses)));
    let service = layer.layer(server);
    let shared = (layer.limits(), service.clone());
    assert!(uses.layer.set(shared).is_ok());
    let calls = (0..40).map(|id| {
        let mut request = request(id);
        let deadline = Duration::from_secs(60);
        let options = RequestOptions::new().deadline(deadline);
        request.extensions_mut().insert(options);
        timeout(ms(500_000), service.clone().oneshot(request))
    });
    for answer in join_all(calls).await {
        answer.expect("no call hangs").unwrap();
    }
    assert!(uses.count.load(Ordering::Relaxed) > 20);
    let snapshot = layer.limits().snapshot();
    assert_eq!(snapshot.partitions()[0].waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_layer_is_freed_with_an_observer_that_holds_its_limits() {
    struct Holds(#[allow(dead_code, reason = "it is only held")] Limits);
    impl Observer for Holds {}
    struct Freed(#[allow(dead_code, reason = "it is only held")] Arc<()>);
    impl Observer for Freed {}
    let token = Arc::new(());
    let layer = RateLimitRetryLayer::new().observer(Freed(Arc::clone(&token)));
    let limits = layer.limits();
    let layer = layer.observer(Holds(limits));
    let service = layer.layer(Server::new(|_| ok()));
    service.oneshot(request(0)).await.unwrap();
    assert!(Arc::strong_count(&token) > 1);
    drop(layer);
    assert_eq!(Arc::strong_count(&token), 1);
}

/// Notes in one line each what it is told.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn note(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Observer for Log {
    fn retry_scheduled(&self, event: &RetryScheduled) {
        let RetryScheduled {
            partition,
            attempts,
            delay,
            reason,
            cause,
            status,
            ..
        } = event;
        assert_eq!(cause.is_some(), *reason == RetryReason::Refused);
        assert!(matches!(reason, RetryReason::Refused | RetryReason::Failed));
        let status = status.map_or(0, |status| status.as_u16());
        self.note(format!(
            "retry {partition} {attempts} {delay:?} {reason} {status}"
        ));
    }

    fn wait_ended(&self, event: &WaitEnded) {
        let WaitEnded {
            partition,
            attempts,
            waited,
            ..
        } = event;
        self.note(format!("wait {partition} {attempts} {waited:?}"));
    }

    fn paused(&self, event: &Paused) {
        let Paused {
            partition,
            delay,
            cause,
            refusals,
            ..
        } = event;
        assert_ne!(*cause, RefusalCause::Others);
        self.note(format!("paused {partition} {delay:?} {cause} {refusals}"));
    }

    fn resumed(&self, event: &Resumed) {
        let Resumed {
            partition,
            paused_for,
            refusals,
            ..
        } = event;
        self.note(format!("resumed {partition} {paused_for:?} {refusals}"));
    }

    fn gave_up(&self, event: &GaveUp) {
        let GaveUp {
            partition,
            reason,
            attempts,
            waited,
            status,
            held_by,
            cause,
            answered_locally,
            ..
        } = event;
        assert_ne!(*reason, StopReason::MaxWaiting);
        let status = status.map_or(0, |status| status.as_u16());
        let held = held_by.as_ref();
        let held = held.map_or(String::new(), |hold| format!(", held by {hold}"));
        let cause = cause.as_ref();
        let cause = cause.map_or(String::new(), |cause| format!(", put down to {cause}"));
        self.note(format!(
            "gave up {partition} {reason} {attempts} {waited:?} {status} {answered_locally}{held}{cause}"
        ));
    }

    fn limit_changed(&self, event: &LimitChanged) {
        let (partition, dimension) = (&event.partition, &event.dimension);
        assert_ne!(dimension.source(), Source::Declared);
        let was = event.previous;
        let was = was.map_or(String::new(), |limit| format!(", was {limit}"));
        self.note(format!(
            "limit {partition} {} {} {}{was}",
            dimension.name(),
            dimension.source(),
            dimension.limit()
        ));
    }

    fn usage_high(&self, event: &UsageHigh) {
        let (partition, dimension) = (&event.partition, &event.dimension);
        self.note(format!(
            "usage {partition} {} {} {} of {}, {}",
            dimension.name(),
            dimension.source(),
            dimension.limit() - dimension.remaining(),
            dimension.limit(),
            event.usage_ratio
        ));
    }
}

/// How many of these begin so.
fn count(told: &[String], name: &str) -> usize {
    told.iter().filter(|line| line.starts_with(name)).count()
}

/// An observer that does the same whatever it is told.
macro_rules! whatever_it_is_told {
    ($observer:ty, $action:expr) => {
        impl Observer for $observer {
            fn retry_scheduled(&self, _: &RetryScheduled) {
                $action(self)
            }
            fn wait_ended(&self, _: &WaitEnded) {
                $action(self)
            }
            fn paused(&self, _: &Paused) {
                $action(self)
            }
            fn resumed(&self, _: &Resumed) {
                $action(self)
            }
            fn gave_up(&self, _: &GaveUp) {
                $action(self)
            }
            fn limit_changed(&self, _: &LimitChanged) {
                $action(self)
            }
            fn usage_high(&self, _: &UsageHigh) {
                $action(self)
            }
        }
    };
}

struct Panics;
whatever_it_is_told!(Panics, |_| panic!("an observer that panics"));

#[derive(Default)]
struct Uses {
    layer: OnceLock<(Limits, RateLimitRetry<Server>)>,
    count: AtomicUsize,
    depth: AtomicUsize,
}

struct Shared(Arc<Uses>);
whatever_it_is_told!(Shared, |shared: &Shared| shared.0.use_layer());

impl Uses {
    fn use_layer(&self) {
        // What it does is told to it as well, and may be without an end.
        if self.depth.load(Ordering::Relaxed) == 8 {
            return;
        }
        self.depth.fetch_add(1, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
        let (limits, service) = self.layer.get().unwrap();
        let _ = limits.snapshot();
        let partition = Partition::new(PARTITION);
        let _ = limits.partition(&partition);
        limits.forget(&partition);
        limits.charge(&partition, 1);
        let mut service = service.clone();
        let answer = async move {
            let service: &mut RateLimitRetry<Server> = &mut service;
            let service = ServiceExt::<Request<Body>>::ready(service).await.unwrap();
            service.call(request(7)).await.map(Response::into_body)
        };
        // Dropped wherever it is after its first poll.
        let _ = answer.now_or_never();
        self.depth.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer that announces what remains of a minute's window.
fn announce(limit: &'static str, remaining: &'static str) -> support::Reply {
    ok().header("ratelimit-limit", limit)
        .header("ratelimit-remaining", remaining)
        .header("ratelimit-reset", "60")
}

/// A server with a bucket, of which it says nothing.
fn simulated(burst: u32, interval: Duration) -> Server {
    let full_at = Mutex::new(Duration::ZERO);
    Server::new(move |sent| {
        let mut full_at = full_at.lock().unwrap();
        let next = (*full_at).max(sent.at) + interval;
        if next > sent.at + interval * burst {
            return status(429);
        }
        *full_at = next;
        ok()
    })
}
