//! The spans and events that logs are made of: their names, levels and fields.

mod support;

use futures_util::future::join_all;
use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};
use support::{Server, call, ms, ok, refuse, request, status};
use tower::{Layer, ServiceExt, service_fn};
use tower_rate_limit_retry::{Limits, Observer, RateLimitRetryLayer};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
    subscriber::Interest,
};

#[test]
fn a_healthy_program_is_silent_at_info() {
    let log = logged(Level::INFO, async {
        let server = Server::new(|_| announce("100", "1"));
        let service = RateLimitRetryLayer::new().layer(server);
        for id in 0..10 {
            service.clone().oneshot(request(id)).await.unwrap();
        }
    });
    assert!(log.told().is_empty(), "{:?}", log.told());
}

#[test]
fn a_paused_program_says_so_once_at_info_and_once_that_it_goes_on() {
    let log = logged(Level::INFO, async {
        let server = Server::new(|sent| {
            let refused = sent.at < ms(10_000);
            if refused { refuse("10") } else { ok() }.after(ms(50))
        });
        let service = RateLimitRetryLayer::new().layer(server);
        let calls = (0..50).map(|id| service.clone().oneshot(request(id)));
        join_all(calls).await;
    });
    assert_eq!(
        log.told(),
        [
            "INFO rate_limit_retry.paused: paused {delay_s=10.0, dimension=rate, partition=api.example.com, refusals=1}",
            "INFO rate_limit_retry.resumed: resumed {partition=api.example.com, paused_for_s=10.05, refusals=1}",
        ]
    );
}

#[test]
fn each_event_has_its_name_and_fields() {
    let log = logged(Level::TRACE, async {
        let layer = RateLimitRetryLayer::new();
        let server = Server::new(|sent| match (sent.id, sent.index) {
            (0, 0) => refuse("1"),
            (2, _) => status(429).header("x-should-retry", "false"),
            _ => announce("100", "5"),
        });
        let service = layer.layer(server);
        let first = service.clone().oneshot(request(0));
        let second = async {
            tokio::time::sleep(ms(400)).await;
            service.clone().oneshot(request(1)).await
        };
        let _ = tokio::join!(first, second);
        service.clone().oneshot(request(2)).await.unwrap();
    });
    let at = "partition=api.example.com";
    let expected = [
        format!(
            "INFO rate_limit_retry.paused: paused {{delay_s=1.0, dimension=rate, {at}, refusals=1}}"
        ),
        format!(
            "DEBUG rate_limit_retry.retry_scheduled: retry scheduled {{delay_s=1.0, dimension=rate, http.request.resend_count=1, http.response.status_code=429, {at}, reason=refused}}"
        ),
        format!("DEBUG rate_limit_retry.queued: queued {{delay_s=0.6, dimension=pause, {at}}}"),
        format!(
            "DEBUG rate_limit_retry.wait_ended: wait ended {{http.request.resend_count=1, {at}, waited_s=1.0}}"
        ),
        format!("INFO rate_limit_retry.resumed: resumed {{{at}, paused_for_s=1.0, refusals=1}}"),
        format!(
            "DEBUG rate_limit_retry.limit_changed: limit changed {{dimension=default, limit=100, {at}, source=announced}}"
        ),
        format!(
            "DEBUG rate_limit_retry.usage_high: usage high {{dimension=default, limit=100, {at}, remaining=4, source=announced, usage_ratio=0.96}}"
        ),
        format!(
            "DEBUG rate_limit_retry.wait_ended: wait ended {{http.request.resend_count=0, {at}, waited_s=0.6}}"
        ),
        format!(
            "DEBUG rate_limit_retry.gave_up: gave up {{answered_locally=false, dimension=request, http.request.resend_count=0, http.response.status_code=429, {at}, reason=not-retryable, waited_s=0.0}}"
        ),
    ];
    assert_eq!(log.told(), expected, "{:#?}", log.told());
}

#[test]
fn a_span_holds_the_attempts_of_its_call_and_ends_with_it() {
    let inner = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&inner);
    let log = logged(Level::DEBUG, async move {
        let server = service_fn(move |_| {
            let seen = Arc::clone(&seen);
            let called_in = current();
            async move {
                tokio::task::yield_now().await;
                let polled_in = current();
                assert_eq!(called_in, polled_in);
                let mut seen = seen.lock().unwrap();
                seen.push(polled_in);
                let mut answer =
                    http::Response::new(http_body_util::Full::<bytes::Bytes>::from(""));
                if seen.len() == 1 {
                    *answer.status_mut() = http::StatusCode::TOO_MANY_REQUESTS;
                }
                Ok::<_, std::convert::Infallible>(answer)
            }
        });
        let service = RateLimitRetryLayer::new().layer(server);
        let answer = service.clone().oneshot(request(0)).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(current().is_none());
        let mut kept = call(&mut service.clone(), request(1)).await;
        (&mut kept).await.unwrap();
        service.oneshot(request(2)).await.unwrap();
        drop((answer, kept));
    });
    assert_eq!(*inner.lock().unwrap(), [Some(1), Some(1), Some(2), Some(3)]);
    assert_eq!(
        log.spans(),
        [
            "new 1 DEBUG rate_limit_retry {partition=api.example.com}",
            "record 1 {http.request.resend_count=1}",
            "close 1",
            "new 2 DEBUG rate_limit_retry {partition=api.example.com}",
            "close 2",
            "new 3 DEBUG rate_limit_retry {partition=api.example.com}",
            "close 3",
        ]
    );
}

#[test]
fn there_is_no_span_for_those_who_want_none() {
    let log = logged(Level::INFO, async {
        let service = RateLimitRetryLayer::new().layer(Server::new(|_| ok()));
        service.oneshot(request(0)).await.unwrap();
    });
    assert!(log.spans().is_empty());
    let log = logged(Level::TRACE, async {
        let layer = RateLimitRetryLayer::new().enabled(false);
        let service = layer.layer(Server::new(|_| ok()));
        service.oneshot(request(0)).await.unwrap();
    });
    assert!(log.spans().is_empty());
}

#[test]
fn a_pause_is_told_though_the_layer_that_met_the_partition_first_is_gone() {
    struct Silent;
    impl Observer for Silent {}

    let log = logged(Level::INFO, async {
        let layer = RateLimitRetryLayer::new();
        let server = Server::new(|sent| if sent.index == 1 { refuse("10") } else { ok() });
        let first = layer.clone().observer(Silent).layer(server.clone());
        first.oneshot(request(0)).await.unwrap();
        layer.layer(server).oneshot(request(1)).await.unwrap();
    });
    assert_eq!(log.told().len(), 2, "{:?}", log.told());
}

#[test]
fn who_is_asked_what_to_log_may_look_at_the_layer() {
    let layer = RateLimitRetryLayer::new();
    let looks = Looks(layer.limits(), Arc::default());
    let asked = Arc::clone(&looks.1);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    tracing::subscriber::with_default(looks, || {
        runtime.block_on(async {
            let server = Server::new(|sent| if sent.index == 0 { refuse("10") } else { ok() });
            layer.layer(server).oneshot(request(0)).await.unwrap();
        });
    });
    assert!(asked.load(Ordering::Relaxed) > 5);
}

/// Wants nothing, and looks at the layer each time it is asked.
struct Looks(Limits, Arc<AtomicU64>);

impl Subscriber for Looks {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, _: &Metadata<'_>) -> bool {
        self.0.snapshot();
        self.1.fetch_add(1, Ordering::Relaxed);
        false
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        unreachable!("it wants none")
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

fn announce(limit: &'static str, remaining: &'static str) -> support::Reply {
    ok().header("ratelimit-limit", limit)
        .header("ratelimit-remaining", remaining)
        .header("ratelimit-reset", "60")
}

/// What is told up to this level while the work is done.
fn logged(level: Level, work: impl Future<Output = ()>) -> Log {
    let log = Log(Arc::new(Inner {
        level,
        last_id: AtomicU64::new(0),
        current: Mutex::default(),
        references: Mutex::default(),
        told: Mutex::default(),
        spans: Mutex::default(),
    }));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    tracing::subscriber::with_default(log.clone(), || runtime.block_on(work));
    log
}

/// A subscriber that keeps one line of each event, and of what becomes of each span.
#[derive(Clone)]
struct Log(Arc<Inner>);

struct Inner {
    level: Level,
    last_id: AtomicU64,
    current: Mutex<Vec<u64>>,
    references: Mutex<BTreeMap<u64, u64>>,
    told: Mutex<Vec<String>>,
    spans: Mutex<Vec<String>>,
}

impl Log {
    fn told(&self) -> Vec<String> {
        self.0.told.lock().unwrap().clone()
    }

    fn spans(&self) -> Vec<String> {
        self.0.spans.lock().unwrap().clone()
    }

    fn note(&self, line: String) {
        self.0.spans.lock().unwrap().push(line);
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.0.level && metadata.target() == "tower_rate_limit_retry"
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::from_level(self.0.level))
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        let id = self.0.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let mut fields = Fields::default();
        span.record(&mut fields);
        let metadata = span.metadata();
        let (level, name) = (metadata.level(), metadata.name());
        self.note(format!("new {id} {level} {name} {fields}"));
        self.0.references.lock().unwrap().insert(id, 1);
        span::Id::from_u64(id)
    }

    fn record(&self, span: &span::Id, values: &span::Record<'_>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        self.note(format!("record {} {fields}", span.into_u64()));
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let message = fields.0.remove("message").unwrap();
        let (level, name) = (event.metadata().level(), event.metadata().name());
        let line = format!("{level} {name}: {message} {fields}");
        self.0.told.lock().unwrap().push(line);
    }

    fn enter(&self, span: &span::Id) {
        self.0.current.lock().unwrap().push(span.into_u64());
    }

    fn exit(&self, span: &span::Id) {
        let last = self.0.current.lock().unwrap().pop();
        assert_eq!(last, Some(span.into_u64()));
    }

    fn clone_span(&self, span: &span::Id) -> span::Id {
        let mut references = self.0.references.lock().unwrap();
        *references.get_mut(&span.into_u64()).unwrap() += 1;
        span.clone()
    }

    fn try_close(&self, span: span::Id) -> bool {
        let id = span.into_u64();
        let mut references = self.0.references.lock().unwrap();
        let left = references.get_mut(&id).unwrap();
        *left -= 1;
        if *left > 0 {
            return false;
        }
        references.remove(&id);
        self.note(format!("close {id}"));
        true
    }
}

/// The span that is entered.
fn current() -> Option<u64> {
    tracing::dispatcher::get_default(|dispatch| {
        let log = dispatch.downcast_ref::<Log>()?;
        let current = log.0.current.lock().unwrap();
        current.last().copied()
    })
}

#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields: Vec<_> = self
            .0
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        write!(f, "{{{}}}", fields.join(", "))
    }
}
