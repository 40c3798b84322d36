//! A refusal, or a failure that is to be retried: read for what it says, and kept in case it has to be
//! given back.

use crate::{
    body::{self, RefusalBody, ResponseBody},
    quota::after,
    report::RetryReport,
    signal::{self, Signal},
};
use http::{HeaderMap, Response, StatusCode, response::Parts};
use http_body::Body;
use std::{
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};
use tokio::time::{Instant, Sleep, sleep_until};

/// How much of a refusal's body is read: far more than any explanation, little enough for thousands
/// at once.
const MAX_BYTES: usize = 64 * 1024;

/// How long a refusal's body is read: a few round trips, and no longer than anybody would notice.
pub(crate) const READING_TIME: Duration = Duration::from_millis(250);

/// When an answer arrived, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) at: Instant,
    pub(crate) on: SystemTime,
}

impl Moment {
    /// The time of day first, so that nothing that is told by it is reckoned to be earlier.
    pub(crate) fn now() -> Self {
        let on = SystemTime::now();
        let at = Instant::now();
        Self { at, on }
    }
}

/// A refusal whose body is being read.
pub(crate) struct Refusal<B: Body> {
    head: Parts,
    body: RefusalBody<B>,
    pub(crate) heard: Moment,
    /// Whether it is to be retried even if it proves to be no refusal.
    pub(crate) is_failure: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<B: Body> Refusal<B> {
    pub(crate) fn new(response: Response<B>, heard: Moment, is_failure: bool) -> Self {
        let (head, body) = response.into_parts();
        let body = RefusalBody::new(body, MAX_BYTES);
        Self {
            head,
            body,
            heard,
            is_failure,
            timer: None,
        }
    }

    /// Reads until the end, the limit of bytes or that of time.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.body.poll_read(cx).is_ready() {
            return Poll::Ready(());
        }
        let until = after(self.heard.at, READING_TIME);
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(until)));
        timer.as_mut().poll(cx)
    }

    pub(crate) fn head(&self) -> &Parts {
        &self.head
    }

    /// What it says, as far as it has been read.
    pub(crate) fn signal(&self) -> Signal {
        let body = self.body.bytes();
        signal::read(self.head.status, &self.head.headers, body, self.heard.on)
    }

    /// As it came: what was read, and then the rest.
    pub(crate) fn into_response(self) -> Response<ResponseBody<B>> {
        Response::from_parts(self.head, self.body.into_body())
    }
}

/// What a call has of its last answer. While it waits to be sent again, that is nothing that would hold
/// a connection.
pub(crate) enum Last<B: Body, E> {
    /// There was none.
    Nothing,
    /// It is a refusal or a failure, and is being read.
    Unread(Box<Refusal<B>>),
    /// All of it.
    Whole(Box<Response<body::Refusal>>),
    /// Its status; its body was not read to the end.
    Status(StatusCode),
    /// The inner service has failed. Boxed, for few calls fail, and all have the room for it.
    Error(Box<E>),
}

impl<B: Body, E> Last<B, E> {
    /// What is kept of one that was read.
    pub(crate) fn of(refusal: Refusal<B>) -> Self {
        let head = refusal.head;
        match refusal.body.kept() {
            Some(body) => Self::Whole(Box::new(Response::from_parts(head, body))),
            None => Self::Status(head.status),
        }
    }

    pub(crate) fn take(&mut self) -> Self {
        mem::replace(self, Self::Nothing)
    }
}

/// Which answers may be refusals.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope {
    /// Successes as well, by their bodies.
    pub(crate) successes: bool,
}

impl Scope {
    /// Whether the answer is one that a rate limit has given.
    pub(crate) fn is_refusal<B>(self, response: &Response<B>, signal: &Signal) -> bool {
        self.refuses(response.status(), response.headers(), signal) && !answered_by_us(response)
    }

    /// Whether the answer seems to be none that a rate limit has given, but its body may prove that
    /// it is.
    pub(crate) fn might_be_refusal<B>(self, response: &Response<B>, signal: &Signal) -> bool {
        let (status, headers) = (response.status(), response.headers());
        let success = self.successes && status.is_success() && signal::has_readable_body(headers);
        let might_refuse = success || signal::might_refuse(status, headers);
        might_refuse && !signal.is_terminal() && !answered_by_us(response)
    }

    /// Whether an answer with this head that says this was given by a rate limit.
    pub(crate) fn refuses(self, status: StatusCode, headers: &HeaderMap, signal: &Signal) -> bool {
        let is_error = || status.is_client_error() || status.is_server_error();
        let success = || status.is_success() && (self.successes || is_failed_call(headers));
        (signal.is_throttle() || matches!(status.as_u16(), 429 | 529)) && (is_error() || success())
    }
}

/// Whether the head is all there is of a [gRPC] call that failed: "trailers-only". Behind other heads
/// there may be an answer, and what stands in them does not refuse it.
///
/// [gRPC]: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#responses
fn is_failed_call(headers: &HeaderMap) -> bool {
    let status = headers.get("grpc-status");
    status.is_some_and(|status| status != "0")
}

/// Whether another layer of ours, further in, has answered in the server's place: that is no news
/// of the server.
pub(crate) fn answered_by_us<B>(response: &Response<B>) -> bool {
    let report = response.extensions().get::<RetryReport>();
    report.is_some_and(RetryReport::answered_locally)
}
