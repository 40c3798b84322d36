//! What is counted and measured, by which names.
#![allow(clippy::float_cmp, reason = "counts and whole seconds are exact")]

mod support;

use futures_util::future::join_all;
use metrics::Unit;
use metrics_util::{
    MetricKind,
    debugging::{DebugValue, DebuggingRecorder},
};
use std::{collections::BTreeMap, future::Future};
use support::{Server, ms, ok, refuse, request};
use tower::{Layer, ServiceExt};
use tower_rate_limit_retry::{MetricsObserver, Partition, RateLimitRetryLayer, RequestOptions};

#[test]
fn what_happens_is_counted_and_measured() {
    let all = recorded(async {
        let metrics = MetricsObserver::new();
        let layer = RateLimitRetryLayer::new().observer(metrics.clone());
        let server = Server::new(|sent| match (sent.id, sent.index) {
            (7, _) => refuse("400"),
            (_, 0) => refuse("10"),
            _ => ok()
                .header("ratelimit-limit", "100")
                .header("ratelimit-remaining", "10")
                .header("ratelimit-reset", "60"),
        });
        let service = layer.layer(server);
        for id in [0, 1, 7] {
            service.clone().oneshot(request(id)).await.unwrap();
        }
        metrics.record(&layer.limits().snapshot());
    });
    let partition = "partition=api.example.com";
    let announced = format!("{partition},dimension=default,source=announced");
    let expected = [
        (format!("retries_total{{{partition},reason=refused}}"), 1.0),
        (
            format!("gave_up_total{{{partition},reason=max-delay}}"),
            1.0,
        ),
        (format!("pauses_total{{{partition},dimension=rate}}"), 1.0),
        (
            format!("pauses_total{{{partition},dimension=default}}"),
            1.0,
        ),
        (
            format!("usage_high_total{{{partition},dimension=default}}"),
            1.0,
        ),
        (format!("wait_duration_seconds{{{partition}}}"), 10.0),
        (format!("pause_duration_seconds{{{partition}}}"), 410.0),
        (format!("paused{{{partition}}}"), 1.0),
        (format!("limit{{{announced}}}"), 100.0),
        (format!("waiting_calls{{{partition}}}"), 0.0),
        (format!("in_flight_requests{{{partition}}}"), 0.0),
        ("calls_total{}".to_owned(), 3.0),
        ("attempts_total{}".to_owned(), 4.0),
        ("refusals_total{dimension=rate}".to_owned(), 1.0),
        ("refusals_total{dimension=default}".to_owned(), 1.0),
    ];
    for (name, value) in expected {
        assert_eq!(all.get(&name), Some(&value), "{name} of {all:#?}");
    }
    assert!(all[&format!("remaining{{{announced}}}")] <= 10.0);
}

#[test]
fn a_pause_is_over_when_a_request_is_served() {
    let all = recorded(async {
        let layer = RateLimitRetryLayer::new().observer(MetricsObserver::new());
        let server = Server::new(|sent| if sent.index < 3 { refuse("1") } else { ok() });
        layer.layer(server).oneshot(request(0)).await.unwrap();
    });
    assert_eq!(all["paused{partition=api.example.com}"], 0.0);
    assert_eq!(
        all["pauses_total{partition=api.example.com,dimension=rate}"],
        3.0
    );
}

#[test]
fn partitions_beyond_the_bound_share_a_label() {
    let all = recorded(async {
        let metrics = MetricsObserver::new().max_partitions(3);
        let layer = RateLimitRetryLayer::new().observer(metrics.clone());
        // Each is refused, then served after a while.
        let server = Server::new(|sent| {
            let refused = sent.at < ms(1_000);
            if refused { refuse("1") } else { ok() }.after(ms(100))
        });
        let service = layer.layer(server);
        let calls = (0..40).map(|id| {
            let mut request = request(id);
            let partition = Partition::new(format!("p{:02}", id % 20));
            let options = RequestOptions::new().partition(partition);
            request.extensions_mut().insert(options);
            service.clone().oneshot(request)
        });
        let calls = join_all(calls);
        let look = async {
            tokio::time::sleep(ms(500)).await;
            metrics.record(&layer.limits().snapshot());
        };
        tokio::join!(calls, look);
    });
    let labels: std::collections::BTreeSet<_> = all
        .keys()
        .filter_map(|name| name.split("partition=").nth(1))
        .map(|label| label.split([',', '}']).next().unwrap())
        .collect();
    assert_eq!(labels.len(), 4, "{all:#?}");
    assert!(labels.contains("other"));
    assert_eq!(all["pauses_total{partition=other,dimension=rate}"], 17.0);
    assert_eq!(all["waiting_calls{partition=other}"], 34.0);
    assert!(!all.contains_key("paused{partition=other}"));
}

#[test]
fn what_is_gone_is_not_shown_as_it_last_was() {
    let all = recorded(async {
        let metrics = MetricsObserver::new();
        let layer = RateLimitRetryLayer::new()
            .max_partitions(1)
            .observer(metrics.clone());
        let server = Server::new(|sent| match sent.id {
            0 => refuse("400").after(ms(100)),
            _ => ok()
                .header("ratelimit-limit", "100")
                .header("ratelimit-remaining", "10")
                .header("ratelimit-reset", "60"),
        });
        let service = layer.layer(server);
        let named = |id, name| {
            let mut request = request(id);
            let options = RequestOptions::new().partition(Partition::new(name));
            request.extensions_mut().insert(options);
            service.clone().oneshot(request)
        };
        let look = async {
            tokio::time::sleep(ms(50)).await;
            metrics.record(&layer.limits().snapshot());
        };
        let (refused, ()) = tokio::join!(named(0, "gone"), look);
        refused.unwrap();
        named(1, "forgotten").await.unwrap();
        metrics.record(&layer.limits().snapshot());
        layer.limits().forget(&Partition::new("forgotten"));
        metrics.record(&layer.limits().snapshot());
    });
    assert_eq!(all["in_flight_requests{partition=gone}"], 0.0);
    assert_eq!(all["paused{partition=gone}"], 0.0);
    for name in ["limit", "remaining"] {
        let name = format!("{name}{{partition=forgotten,dimension=default,source=announced}}");
        assert!(all[&name].is_nan(), "{all:#?}");
    }
}

/// A window that only refusals speak of is dropped by the next answer, and so makes room for others.
#[test]
fn no_server_can_name_any_number_of_dimensions() {
    let all = recorded(async {
        let metrics = MetricsObserver::new();
        let layer = RateLimitRetryLayer::new().observer(metrics.clone());
        let server = Server::new(|sent| {
            let policy = format!("\"d{}\";r=1;t=60", sent.id);
            ok().header("ratelimit", policy)
        });
        let service = layer.layer(server);
        for id in 0..200 {
            let mut request = request(id);
            let partition = Partition::new(format!("p{}", id % 50));
            let options = RequestOptions::new().partition(partition);
            request.extensions_mut().insert(options);
            service.clone().oneshot(request).await.unwrap();
            metrics.record(&layer.limits().snapshot());
        }
    });
    let named: std::collections::BTreeSet<_> = all
        .keys()
        .filter_map(|name| name.split("dimension=").nth(1))
        .map(|label| label.split([',', '}']).next().unwrap())
        .collect();
    assert_eq!(named.len(), 101, "{named:#?}");
    assert!(named.contains("other"));
}

#[test]
fn each_has_a_unit_and_a_description() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        runtime().block_on(async {
            let metrics = MetricsObserver::new();
            let layer = RateLimitRetryLayer::new().observer(metrics.clone());
            let server = Server::new(|sent| match sent.index {
                0 => refuse("1"),
                1 => refuse("400"),
                _ => ok(),
            });
            layer.layer(server).oneshot(request(0)).await.unwrap();
            metrics.record(&layer.limits().snapshot());
        });
    });
    let all = snapshotter.snapshot().into_vec();
    assert!(all.len() >= 9, "{all:?}");
    for (key, unit, description, _) in all {
        let name = key.key().name();
        assert!(name.starts_with("rate_limit_retry_"), "{name}");
        let is_counter = key.kind() == MetricKind::Counter;
        assert_eq!(name.ends_with("_total"), is_counter, "{name}");
        let seconds = name.ends_with("_seconds");
        let expected = if seconds { Unit::Seconds } else { Unit::Count };
        assert_eq!(unit, Some(expected), "{name}");
        assert!(description.is_some_and(|text| text.len() > 10), "{name}");
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
}

/// All metrics after this, by names without the prefix and with labels; of a histogram the sum.
fn recorded(work: impl Future<Output = ()>) -> BTreeMap<String, f64> {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || runtime().block_on(work));
    let all = snapshotter.snapshot().into_vec().into_iter();
    let all = all.map(|(key, _, _, value)| {
        let labels = key.key().labels();
        let labels: Vec<_> = labels
            .map(|label| format!("{}={}", label.key(), label.value()))
            .collect();
        let name = key.key().name().strip_prefix("rate_limit_retry_").unwrap();
        let value = match value {
            DebugValue::Counter(count) => count as f64,
            DebugValue::Gauge(value) => value.into_inner(),
            DebugValue::Histogram(values) => values.iter().map(|value| value.into_inner()).sum(),
        };
        (format!("{name}{{{}}}", labels.join(",")), value)
    });
    all.collect()
}
