//! No secret gets out: not of the header fields, not of the query, not of the body.

mod support;

use bytes::Bytes;
use futures_util::{FutureExt, future::join_all};
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use metrics_util::debugging::DebuggingRecorder;
use std::{
    fmt::{self, Debug, Write as _},
    io,
    num::NonZero,
    sync::{Arc, Mutex},
    time::Duration,
};
use support::{Answer, Server, call, ms, ok, refuse, status};
use tokio::time::{sleep, timeout};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_rate_limit_retry::{
    Attempt, GaveUp, LimitChanged, MetricsObserver, Observer, Paused, Quota, RateLimitRetry,
    RateLimitRetryLayer, ReplayBody, RequestOptions, Resumed, RetryReport, RetryScheduled,
    TowerMiddleware, UsageHigh, WaitEnded, partition, signal,
};
use tracing_subscriber::fmt::{MakeWriter, format::FmtSpan};

/// What must be nowhere.
const SECRET: &str = "hunter2secret";

/// What is everywhere where anything is.
const PARTITION: &str = "api.example.com";

#[test]
fn no_secret_is_in_anything_that_gets_out() {
    let output = Output::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(FmtSpan::FULL)
        .with_ansi(false)
        .with_writer(output.clone())
        .finish();
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    tracing::subscriber::with_default(subscriber, || {
        metrics::with_local_recorder(&recorder, || runtime.block_on(drive_all(&output)));
    });
    output.note("metrics", &snapshotter.snapshot().into_vec());

    let all = output.take();
    for event in [
        "queued",
        "retry scheduled",
        "wait ended",
        "gave up",
        "paused",
        "resumed",
        "limit changed",
        "usage high",
        "observer panicked",
        "rate_limit_retry{",
        "metrics: ",
        "local answer: ",
        "snapshot: ",
        "partition of: ",
        "signal of a body: ",
        "metrics observer: ",
        "reqwest future: ",
        "middleware: ",
        "RetryScheduled {",
        "UsageHigh {",
        "max-waiting",
        "not-retryable",
        "reason=\"failed\"",
    ] {
        assert!(all.contains(event), "nothing was done about {event}");
    }
    assert!(all.matches(PARTITION).count() > 100);
    // Base64 of it, and what percent-encoding leaves of it, are secrets as well.
    for secret in [SECRET, "aHVudGVyMnNlY3JldA", "hunter2", "sk-"] {
        let lines: Vec<_> = all.lines().filter(|line| line.contains(secret)).collect();
        assert!(lines.is_empty(), "{secret} is in {lines:#?}");
    }
}

#[test]
fn a_secret_would_be_found() {
    let output = Output::default();
    output.note("request", &request(0).headers()["x-api-key"].to_str());
    assert!(output.take().contains(SECRET));
}

/// All that a layer does and says.
async fn drive_all(output: &Output) {
    for by in [partition::by_credential, partition::by_model] {
        let metrics = MetricsObserver::new();
        let noted = output.clone();
        let layer = RateLimitRetryLayer::new()
            .partition_by(move |request| {
                noted.note("partition of", request);
                by(request)
            })
            .retry_if(|head| head.status == 502)
            .max_waiting(3)
            .max_retries(3)
            .read_success_bodies(true)
            .quota(Quota::tokens(NonZero::new(100_000).unwrap()).per_minute())
            .observer(metrics.clone())
            .observer(Noted(output.clone()))
            .observer(Panics);
        let server = Server::new(|sent| {
            let reply = match (sent.id, sent.index) {
                (1, _) => status(429).header("x-should-retry", "false"),
                (2, _) => refuse("400"),
                (3, _) => status(502),
                (_, index) if index % 6 == 1 => refuse("1").slow(ms(20), SECRET),
                _ => ok()
                    .header(
                        "ratelimit-limit",
                        if sent.index < 9 { "100" } else { "200" },
                    )
                    .header("ratelimit-remaining", "9")
                    .header("ratelimit-reset", "60"),
            };
            reply.header("set-cookie", SECRET).after(ms(30))
        });
        let service = layer.layer(server);
        output.note("layer", &layer);
        output.note("service", &layer.layer(()));
        let calls = (10..50).map(|id| service.clone().oneshot(request(id)));
        for answer in join_all(calls).await {
            look(output, answer.unwrap()).await;
        }
        // Dropped while they wait.
        let calls = (60..70).map(|id| service.clone().oneshot(request(id)));
        let _ = timeout(ms(50), join_all(calls)).await;
        let mut future = call(&mut service.clone(), request(70)).await;
        output.note("future", &future);
        output.note("report", &(&mut future).now_or_never().map(|_| ()));
        drop(future);
        sleep(Duration::from_secs(120)).await;
        for id in [1, 3, 2, 10, 11] {
            let answer = service.clone().oneshot(request(id)).await.unwrap();
            look(output, answer).await;
        }
        let limits = layer.limits();
        let snapshot = limits.snapshot();
        metrics.record(&snapshot);
        output.note("snapshot", &snapshot);
        output.note("limits", &limits);
        output.note("quota", &Quota::requests(NonZero::<u64>::MIN).per_minute());
        for partition in snapshot.partitions() {
            output.note("partition", partition.partition());
            limits.forget(partition.partition());
        }
        output.note("metrics observer", &metrics);
        errors(output).await;
    }
    configuration(output);
    adapters(output);
}

/// What a program sets, and what it cannot.
fn configuration(output: &Output) {
    let layer = RateLimitRetryLayer::new()
        .map_body(|body: ReplayBody<Full<Bytes>>| body)
        .retry_error(|_: &Failed| true);
    output.note("layer", &layer);
    let wrong = RateLimitRetryLayer::new().usage_threshold_ratio(2.0);
    let error = wrong.unwrap_err();
    output.note("error", &(error.kind(), error.to_string(), error));
    output.note("options", &request(0).extensions().get::<RequestOptions>());
}

/// The layer over clients of other crates. What they show themselves is theirs.
fn adapters(output: &Output) {
    let headers = request(0).headers().clone();
    let client = reqwest::Client::builder().default_headers(headers);
    let client = client.build().unwrap();
    let mut limited = RateLimitRetryLayer::new().reqwest(client.clone());
    output.note("reqwest client", &limited);
    output.note("reqwest service", limited.get_ref());
    let request = client
        .post(format!("http://127.0.0.1:1/{SECRET}?key={SECRET}"))
        .bearer_auth(SECRET)
        .body(SECRET);
    let future = limited.call(request.build().unwrap());
    output.note("reqwest future", &future);
    let middleware = TowerMiddleware::new(RateLimitRetryLayer::new());
    output.note("middleware", &middleware);
}

/// The inner service fails, and says itself what it was given; the layer does not say it.
async fn errors(output: &Output) {
    let layer = RateLimitRetryLayer::new()
        .retry_error(|_: &Failed| true)
        .max_retries(1)
        .observer(Noted(output.clone()));
    let noted = output.clone();
    let server = service_fn(move |request: Request<ReplayBody<Full<Bytes>>>| {
        noted.note("attempt", &request.extensions().get::<Attempt>());
        noted.note("body", request.body());
        std::future::ready(Err::<http::Response<Full<Bytes>>, _>(Failed))
    });
    let mut service: RateLimitRetry<_, _, _> = layer.layer(server);
    let service = ServiceExt::<Request<Full<Bytes>>>::ready(&mut service)
        .await
        .unwrap();
    let failed = service.call(request(0)).await;
    assert!(failed.is_err());
}

/// All that an answer shows.
async fn look(output: &Output, answer: Answer) {
    let (head, body) = answer.into_parts();
    let report = head.extensions.get::<RetryReport>();
    output.note("report", &report);
    output.note("extensions", &head.extensions);
    output.note("response body", &body);
    let parsed = signal::read(
        head.status,
        &head.headers,
        None,
        std::time::SystemTime::UNIX_EPOCH,
    );
    output.note("signal", &parsed);
    let bytes = body.collect().await.unwrap().to_bytes();
    let error = format!(r#"{{"error": {{"message": "{SECRET}", "code": "{SECRET}"}}}}"#);
    for body in [&bytes[..], error.as_bytes()] {
        let parsed = signal::read(
            head.status,
            &head.headers,
            Some(body),
            std::time::SystemTime::UNIX_EPOCH,
        );
        output.note("signal of a body", &parsed);
    }
    if report.is_some_and(RetryReport::answered_locally) {
        output.note("local answer", &(head.headers, bytes));
    }
}

/// With secrets wherever there is room for them.
fn request(id: usize) -> Request<Full<Bytes>> {
    let body = format!(r#"{{"model":"gpt-4o","max_tokens":20,"prompt":"{SECRET}"}}"#);
    let uri = format!("https://user:{SECRET}@{PARTITION}/v1/{SECRET}?key={SECRET}");
    let mut request = Request::builder()
        .method(Method::PUT)
        .uri(uri)
        .header("x-id", id)
        .header(header::AUTHORIZATION, format!("Bearer sk-{SECRET}"))
        .header(header::COOKIE, SECRET)
        .header("x-api-key", SECRET)
        .header("idempotency-key", SECRET)
        .header("openai-organization", SECRET)
        .body(Full::from(body))
        .unwrap();
    let options = RequestOptions::new().deadline(Duration::from_secs(600));
    request.extensions_mut().insert(options);
    request
}

#[derive(Debug)]
struct Failed;

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it has failed")
    }
}

impl std::error::Error for Failed {}

/// All that got out.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<String>>);

impl Output {
    fn note(&self, what: &str, value: &dyn Debug) {
        let _ = writeln!(self.0.lock().unwrap(), "{what}: {value:?} {value:#?}");
    }

    fn take(&self) -> String {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap()
            .push_str(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Output {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Notes each event as a whole.
struct Noted(Output);

impl Observer for Noted {
    fn retry_scheduled(&self, event: &RetryScheduled) {
        self.0.note("event", event);
    }
    fn wait_ended(&self, event: &WaitEnded) {
        self.0.note("event", event);
    }
    fn paused(&self, event: &Paused) {
        self.0.note("event", event);
    }
    fn resumed(&self, event: &Resumed) {
        self.0.note("event", event);
    }
    fn gave_up(&self, event: &GaveUp) {
        self.0.note("event", event);
    }
    fn limit_changed(&self, event: &LimitChanged) {
        self.0.note("event", event);
    }
    fn usage_high(&self, event: &UsageHigh) {
        self.0.note("event", event);
    }
}

struct Panics;

impl Observer for Panics {
    fn usage_high(&self, _: &UsageHigh) {
        panic!("an observer that panics");
    }
}
