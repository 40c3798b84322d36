//! A server that refuses the first two requests, and what it has seen.
#![allow(dead_code, reason = "each test binary uses its own share")]

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use simulation::Server;
use std::sync::{Arc, Mutex};
use tower_rate_limit_retry::RateLimitRetryLayer;

pub struct Api {
    server: Server,
    bodies: Arc<Mutex<Vec<Bytes>>>,
}

impl Api {
    /// Refuses the first two requests with a 429, then serves; the body is this each time.
    pub async fn start(answer: &'static str) -> Self {
        let bodies = Arc::<Mutex<Vec<Bytes>>>::default();
        let log = Arc::clone(&bodies);
        let handler = move |request: Request<Incoming>| {
            let log = Arc::clone(&log);
            async move {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let mut log = log.lock().unwrap();
                log.push(body);
                let response = Response::builder().header("content-type", "application/json");
                let response = match log.len() {
                    1 | 2 => response.status(429).header("retry-after-ms", "1"),
                    _ => response,
                };
                response.body(Full::<Bytes>::from(answer)).unwrap()
            }
        };
        let server = Server::start(handler).await.unwrap();
        Self { server, bodies }
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    /// How many requests came.
    pub fn requests(&self) -> usize {
        self.bodies.lock().unwrap().len()
    }

    /// The body that came three times.
    #[track_caller]
    pub fn body(&self) -> Bytes {
        let bodies = self.bodies.lock().unwrap();
        assert_eq!(bodies.len(), 3);
        assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
        bodies[0].clone()
    }
}

pub fn layer() -> RateLimitRetryLayer {
    RateLimitRetryLayer::new()
}

pub fn hyper<B>() -> Client<HttpConnector, B>
where
    B: http_body::Body<Data: Send> + Send,
{
    Client::builder(TokioExecutor::new()).build_http()
}
