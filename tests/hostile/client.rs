//! A client of hyper-util under the layer, and what it is asked to do.

use crate::{
    content::{Body, Digest, content, known},
    server::{Asked, ID, Received, Reply, SOCKET_BUFFER, Server},
};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, Error, connect::HttpConnector},
    rt::TokioExecutor,
};
use std::{future::Future, time::Duration};
use tokio::time::timeout;
use tower::{Layer, ServiceExt};
use tower_rate_limit_retry::{
    Limits, RateLimitRetry, RateLimitRetryLayer, ReplayBody, ResponseBody, RetryReport, StopReason,
};

pub(crate) const VERSIONS: [http::Version; 2] = [http::Version::HTTP_11, http::Version::HTTP_2];

type HyperClient = Client<HttpConnector, ReplayBody<Body>>;

/// A server, and a client of it that speaks one version.
pub(crate) struct Host {
    pub(crate) server: Server,
    pub(crate) limits: Limits,
    pub(crate) client: HyperClient,
    service: RateLimitRetry<HyperClient>,
}

/// What the program gets, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) bytes: Bytes,
    pub(crate) report: Option<RetryReport>,
}

impl Answer {
    pub(crate) fn attempts(&self) -> u32 {
        self.report.as_ref().map_or(1, RetryReport::attempts)
    }

    pub(crate) fn stop_reason(&self) -> Option<StopReason> {
        self.report.as_ref().and_then(RetryReport::stop_reason)
    }
}

impl Host {
    pub(crate) fn start(
        version: http::Version,
        layer: &RateLimitRetryLayer,
        rule: impl Fn(Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_send_buffer_size(Some(SOCKET_BUFFER as usize));
        connector.set_recv_buffer_size(Some(SOCKET_BUFFER as usize));
        let client = Client::builder(TokioExecutor::new())
            .http2_only(version == http::Version::HTTP_2)
            .build(connector);
        Self {
            server: Server::start(version, rule),
            limits: layer.limits(),
            service: layer.layer(client.clone()),
            client,
        }
    }

    /// Calls, and leaves the answer unread.
    pub(crate) async fn ask(
        &self,
        id: usize,
        body: Body,
    ) -> Result<Response<ResponseBody<Incoming>>, Error> {
        let request = request(&self.server, id, body);
        in_time(self.service.clone().oneshot(request)).await
    }

    /// Calls, and reads the answer to its end.
    pub(crate) async fn post(&self, id: usize, body: Body) -> Result<Answer, String> {
        let answer = self.ask(id, body).await;
        read(answer.map_err(|error| format!("{error:?}"))?).await
    }

    /// However long the server has asked to stay away, the program can overrule it.
    pub(crate) fn forget(&self) {
        self.server.forget();
        for partition in self.limits.snapshot().partitions() {
            self.limits.forget(partition.partition());
        }
    }

    /// Whatever has happened before, a call that is refused once and then served has its body sent
    /// whole both times.
    pub(crate) async fn assert_next_call_is_unharmed(&self) {
        const NEXT: usize = 1_000_000;
        let bytes = content(NEXT, 20_000);
        let answer = self.post(NEXT, known(&bytes)).await.unwrap();
        assert_eq!((answer.status, &answer.bytes[..]), (200, &b"served"[..]));
        assert_eq!(answer.attempts(), 2);
        let log = self.server.log();
        let received: Vec<_> = log.into_iter().filter(|sent| sent.id == NEXT).collect();
        assert_eq!(received.len(), 2);
        let whole = Received::Whole(Digest::of(&bytes));
        assert!(received.iter().all(|sent| sent.received == whole));
        assert_eq!(self.server.early(), []);
        let seen = self.limits.snapshot();
        for partition in seen.partitions() {
            let held = (partition.waiting(), partition.admitted());
            assert_eq!((held, partition.in_flight()), ((0, 0), 0));
        }
    }
}

/// The rule for all calls but those that a case is about.
pub(crate) fn refuse_once(asked: Asked) -> Reply {
    match asked.before {
        0 => Reply::refusal(Duration::from_millis(20)),
        _ => Reply::ok(),
    }
}

pub(crate) fn request(server: &Server, id: usize, body: Body) -> Request<Body> {
    let request = Request::builder().method(Method::POST).uri(server.url());
    request.header(ID, id).body(body).unwrap()
}

pub(crate) async fn read(response: Response<ResponseBody<Incoming>>) -> Result<Answer, String> {
    let (head, body) = response.into_parts();
    let body = in_time(body.collect()).await;
    Ok(Answer {
        status: head.status.as_u16(),
        bytes: body.map_err(|error| format!("{error:?}"))?.to_bytes(),
        report: head.extensions.get().cloned(),
    })
}

/// Generous: it is to find what hangs, not what is slow.
pub(crate) async fn in_time<F: Future>(work: F) -> F::Output {
    let work = timeout(Duration::from_secs(60), work).await;
    work.expect("it hangs")
}
