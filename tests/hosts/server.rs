//! A server on a real socket that answers by rule and keeps a log.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, header};
use http_body_util::{BodyExt, Collected, channel::Channel};
use hyper::body::Incoming;
use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// What the server has seen of one request.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// How many came before it.
    pub(crate) index: usize,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    /// Empty until all of it was read; rules do not see it.
    pub(crate) bytes: Bytes,
    pub(crate) arrived: Instant,
}

impl Sent {
    pub(crate) fn has(&self, name: header::HeaderName) -> bool {
        self.headers.contains_key(name)
    }
}

/// What the server answers.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    status: u16,
    fields: Vec<(&'static str, String)>,
    body: Bytes,
    /// Of the head, after the request was read.
    latency: Duration,
    /// Of the body, after the head. Half of it comes half as late.
    body_latency: Duration,
    has_length: bool,
    is_early: bool,
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self {
            status,
            fields: Vec::new(),
            body: Bytes::new(),
            latency: Duration::ZERO,
            body_latency: Duration::ZERO,
            has_length: false,
            is_early: false,
        }
    }

    pub(crate) fn ok() -> Self {
        Self::new(200).body("served")
    }

    /// A 429 that asks to come back after so long.
    pub(crate) fn refusal(wait: Duration) -> Self {
        Self::new(429).field("retry-after-ms", wait.as_millis().to_string())
    }

    pub(crate) fn field(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    pub(crate) fn body(self, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        Self { body, ..self }
    }

    pub(crate) fn late(self, latency: Duration) -> Self {
        Self { latency, ..self }
    }

    pub(crate) fn late_body(self, body_latency: Duration) -> Self {
        Self {
            body_latency,
            ..self
        }
    }

    /// The body is announced by its length, and not chunked.
    pub(crate) fn with_length(self) -> Self {
        Self {
            has_length: true,
            ..self
        }
    }

    /// It comes when the head of the request is there; the rest is read behind.
    pub(crate) fn early(self) -> Self {
        Self {
            is_early: true,
            ..self
        }
    }

    async fn send(self) -> Response<Channel<Bytes, Infallible>> {
        sleep(self.latency).await;
        let mut response = Response::builder().status(self.status);
        for (name, value) in self.fields {
            response = response.header(name, value);
        }
        if self.has_length || self.body.is_empty() {
            response = response.header(header::CONTENT_LENGTH, self.body.len());
        }
        let (mut sender, body) = Channel::new(1);
        let (bytes, latency) = (self.body, self.body_latency / 2);
        tokio::spawn(async move {
            let (first, rest) = (
                bytes.slice(..bytes.len() / 2),
                bytes.slice(bytes.len() / 2..),
            );
            for half in [first, rest] {
                sleep(latency).await;
                // A client that has gone away is no matter of the server's.
                let _ = sender.send_data(half).await;
            }
        });
        response.body(body).unwrap()
    }
}

/// A running server.
pub(crate) struct Server {
    server: simulation::Server,
    log: Arc<Mutex<Vec<Sent>>>,
}

impl Server {
    pub(crate) async fn start(rule: impl Fn(&Sent) -> Reply + Send + Sync + 'static) -> Self {
        let log = Arc::<Mutex<Vec<Sent>>>::default();
        let rule = Arc::new(rule);
        let handler = {
            let log = log.clone();
            move |request: Request<Incoming>| {
                let arrived = Instant::now();
                let (log, rule) = (log.clone(), rule.clone());
                async move {
                    let (head, body) = request.into_parts();
                    let (index, reply) = {
                        let mut log = log.lock().unwrap();
                        let sent = Sent {
                            index: log.len(),
                            method: head.method,
                            path: head.uri.path().to_owned(),
                            headers: head.headers,
                            bytes: Bytes::new(),
                            arrived,
                        };
                        let reply = rule(&sent);
                        log.push(sent);
                        (log.len() - 1, reply)
                    };
                    let reading = tokio::spawn(async move {
                        let body = body.collect().await;
                        // What was cut short is to be seen as such.
                        let bytes = body.map_or_else(|_| "cut short".into(), Collected::to_bytes);
                        log.lock().unwrap()[index].bytes = bytes;
                    });
                    if !reply.is_early {
                        reading.await.unwrap();
                    }
                    reply.send().await
                }
            }
        };
        let server = simulation::Server::start(handler).await.unwrap();
        Self { server, log }
    }

    /// That refuses so many requests, and serves all others.
    pub(crate) async fn refusing(count: usize, wait: Duration) -> Self {
        Self::start(move |sent| {
            if sent.index < count {
                Reply::refusal(wait)
            } else {
                Reply::ok()
            }
        })
        .await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.url())
    }

    pub(crate) fn log(&self) -> Vec<Sent> {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> u64 {
        self.server.connections()
    }
}
