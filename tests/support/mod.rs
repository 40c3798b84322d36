//! A server without a network: answers by rule, keeps a log, and panics where the `Service`
//! contract is broken.
#![allow(dead_code, reason = "each test binary uses its own share")]

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Either, Full};
use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep};
use tower::{Service, ServiceExt};
use tower_rate_limit_retry::{Attempt, ReplayBody, ResponseBody};

/// Of a request; and of an answer, which may have no end.
pub(crate) type Body = Full<Bytes>;
pub(crate) type AnswerBody = Either<Full<Bytes>, Slow>;
pub(crate) type Answer = Response<ResponseBody<AnswerBody>>;

/// Yields one frame, some time after it is first polled; and then ends, or does not.
#[derive(Debug)]
pub(crate) struct Slow {
    delay: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    bytes: Option<Bytes>,
    ends: bool,
}

impl http_body::Body for Slow {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let delay = self.delay;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(delay)));
        ready!(timer.as_mut().poll(cx));
        match self.bytes.take() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None if self.ends => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

/// One request as the server saw it.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// How many were sent before it.
    pub(crate) index: usize,
    /// What the request calls itself.
    pub(crate) id: usize,
    pub(crate) attempt: u32,
    /// Since the server was made.
    pub(crate) at: Duration,
}

type Rule = dyn Fn(&Sent) -> Reply + Send + Sync;

/// Answers by a rule; `Clone` is a service of the same server that is not ready.
pub(crate) struct Server {
    began: Instant,
    log: Arc<Mutex<Vec<Sent>>>,
    rule: Arc<Rule>,
    is_ready: bool,
}

/// What the server answers, and how much later.
pub(crate) struct Reply {
    latency: Duration,
    response: Response<AnswerBody>,
}

impl Reply {
    pub(crate) fn after(self, latency: Duration) -> Self {
        Self { latency, ..self }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        let value = http::HeaderValue::from_bytes(value.as_ref()).unwrap();
        self.response.headers_mut().append(name, value);
        self
    }

    pub(crate) fn body(mut self, body: &'static str) -> Self {
        *self.response.body_mut() = Either::Left(Full::from(body));
        self
    }

    /// The body comes so much later than the head.
    pub(crate) fn slow(self, delay: Duration, body: &'static str) -> Self {
        self.late(delay, body, true)
    }

    /// The body begins, and never ends.
    pub(crate) fn endless(self) -> Self {
        self.late(Duration::ZERO, "and so on", false)
    }

    fn late(mut self, delay: Duration, body: &'static str, ends: bool) -> Self {
        let bytes = Some(Bytes::from_static(body.as_bytes()));
        *self.response.body_mut() = Either::Right(Slow {
            delay,
            timer: None,
            bytes,
            ends,
        });
        self
    }
}

/// An answer of this status and nothing else.
pub(crate) fn status(status: u16) -> Reply {
    let mut response = Response::new(Either::Left(Full::from("ok")));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    Reply {
        latency: Duration::ZERO,
        response,
    }
}

pub(crate) fn ok() -> Reply {
    status(200)
}

/// A 429 that asks to come back after so many seconds.
pub(crate) fn refuse(retry_after: &'static str) -> Reply {
    status(429).header("retry-after", retry_after)
}

impl Server {
    pub(crate) fn new(rule: impl Fn(&Sent) -> Reply + Send + Sync + 'static) -> Self {
        Self {
            began: Instant::now(),
            log: Arc::default(),
            rule: Arc::new(rule),
            is_ready: false,
        }
    }

    /// All that was sent, in order.
    pub(crate) fn log(&self) -> Vec<Sent> {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn ids(&self) -> Vec<usize> {
        self.log().iter().map(|sent| sent.id).collect()
    }

    /// When each request was sent, in milliseconds.
    pub(crate) fn times(&self) -> Vec<u128> {
        self.log().iter().map(|sent| sent.at.as_millis()).collect()
    }
}

impl Clone for Server {
    fn clone(&self) -> Self {
        Self {
            log: Arc::clone(&self.log),
            rule: Arc::clone(&self.rule),
            is_ready: false,
            ..*self
        }
    }
}

impl<B> Service<Request<ReplayBody<B>>> for Server {
    type Response = Response<AnswerBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<AnswerBody>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReplayBody<B>>) -> Self::Future {
        assert!(
            std::mem::take(&mut self.is_ready),
            "called without being asked whether it is ready"
        );
        let Reply { latency, response } = {
            let mut log = self.log.lock().unwrap();
            let id = request
                .headers()
                .get("x-id")
                .map_or(0, |id| id.to_str().unwrap().parse().unwrap());
            let attempt = request
                .extensions()
                .get::<Attempt>()
                .map_or(1, |attempt| attempt.number());
            let sent = Sent {
                index: log.len(),
                id,
                attempt,
                at: self.began.elapsed(),
            };
            log.push(sent);
            (self.rule)(&log[log.len() - 1])
        };
        Box::pin(async move {
            if !latency.is_zero() {
                sleep(latency).await;
            }
            Ok(response)
        })
    }
}

/// A request that calls itself `id`.
pub(crate) fn request(id: usize) -> Request<Body> {
    Request::post("http://api.example.com/v1")
        .header("x-id", id)
        .body(Full::from("hello"))
        .unwrap()
}

/// Calls as soon as the service is ready, and does not wait for the answer.
pub(crate) async fn call<S: Service<Request<Body>>>(
    service: &mut S,
    request: Request<Body>,
) -> Pin<Box<S::Future>>
where
    S::Error: std::fmt::Debug,
{
    Box::pin(service.ready().await.unwrap().call(request))
}

/// Status and body of an answer.
pub(crate) async fn read(answer: Answer) -> (u16, String) {
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// Polls once.
pub(crate) async fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await
}

pub(crate) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
