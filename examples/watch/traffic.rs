//! The traffic that is watched, and the simulated APIs that it goes to.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::Full;
use serde_json::json;
use simulation::limit::{FixedWindow, Limit, Unit};
use simulation::{Api, OpenAi, Simulated};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tower::limit::ConcurrencyLimitLayer;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_rate_limit_retry::{Limits, RateLimitRetryLayer, partition};

const CHAT: &str = "https://api.openai.example/v1/chat/completions";
const REPORTS: &str = "https://reports.example/";

/// Of ten chat requests so many go to each model.
const MODELS: [(&str, usize); 2] = [
    ("gpt-4o-mini", 7),
    ("ft:gpt-4o-mini:acme:support:AbC123", 3),
];

/// For each so many chat requests there is one for a report.
const CHATS_PER_REPORT: usize = 10;

/// All requests, under way; dropped, they are given up.
pub(crate) struct Traffic {
    pub(crate) calls: JoinSet<()>,
    served: Arc<AtomicU64>,
    pub(crate) limits: Limits,
}

impl Traffic {
    /// So many chat requests and a tenth as many for reports, all at once, through one layer.
    pub(crate) fn start(chats: usize) -> Self {
        // OpenAI's limits are per model: no model waits for another one's quota.
        let layer = RateLimitRetryLayer::new().partition_by(partition::by_model);
        let limits = layer.limits();
        let (chat, reports) = (
            Simulated::new(OpenAi::new()),
            Simulated::new(Reports::new()),
        );
        let apis = service_fn(move |request: Request<_>| {
            let (chat, reports) = (chat.clone(), reports.clone());
            async move {
                Ok::<_, Infallible>(match request.uri().host() {
                    Some("reports.example") => reports.answer(request).await,
                    _ => chat.answer(request).await,
                })
            }
        });
        let client = ServiceBuilder::new()
            .layer(layer)
            .layer(ConcurrencyLimitLayer::new(16))
            .service(apis);
        let mut traffic = Self {
            calls: JoinSet::new(),
            served: Arc::default(),
            limits,
        };
        let ten = MODELS.map(|(model, share)| vec![model; share]).concat();
        for model in ten.into_iter().cycle().take(chats) {
            traffic.send(client.clone(), chat_request(model));
        }
        for _ in 0..chats.div_ceil(CHATS_PER_REPORT) {
            traffic.send(client.clone(), Request::get(REPORTS).body(Full::default()));
        }
        traffic
    }

    /// How many were answered with a success.
    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    fn send<S, B>(&mut self, client: S, request: http::Result<Request<Full<Bytes>>>)
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible>,
        S: Send + 'static,
        S::Future: Send,
        B: Body + Send,
    {
        let request = request.expect("the parts are constants");
        let served = Arc::clone(&self.served);
        self.calls.spawn(async move {
            let Ok(response) = client.oneshot(request).await;
            served.fetch_add(u64::from(response.status().is_success()), Ordering::Relaxed);
        });
    }
}

fn chat_request(model: &str) -> http::Result<Request<Full<Bytes>>> {
    let body = json!({
        "model": model,
        "messages": [{"role": "user", "content": "Hello"}],
        "max_completion_tokens": 16,
    });
    Request::post(CHAT)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, format!("Bearer {}", OpenAi::KEY))
        .body(Full::from(body.to_string()))
}

/// 30 requests in each window of ten seconds. It says nothing of that, but what it refuses it asks to
/// come back in whole seconds.
struct Reports(FixedWindow);

impl Reports {
    fn new() -> Self {
        let ten_seconds = Duration::from_secs(10);
        Self(FixedWindow::new(
            Unit::Requests,
            30,
            ten_seconds,
            Instant::now(),
        ))
    }
}

impl Api for Reports {
    fn answer(&mut self, _: &Request<Bytes>, now: Instant) -> Response<Bytes> {
        let mut response = Response::default();
        if !self.0.admit(0, now) {
            let wait = self.0.wait(0, now).unwrap_or_default();
            let seconds = wait.as_millis().div_ceil(1_000) as u64;
            *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
