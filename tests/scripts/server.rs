//! Answers as the script says, or as a limit does, and logs what it is sent and what it says.

use crate::{
    log::{Event, Log},
    script::{Ms, Reply, SERVED, Says, Script},
};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use simulation::{Hints, Limit};
use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};
use tokio::time::{Instant, sleep};
use tower::Service;
use tower_rate_limit_retry::ReplayBody;

pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The connection has broken.
#[derive(Debug)]
pub(crate) struct Broken;

/// The number of a call, in the extensions of its requests.
#[derive(Clone, Copy)]
pub(crate) struct Id(pub(crate) usize);

/// A limit of the server's own, and what it tells of it.
pub(crate) struct Limited {
    pub(crate) limit: Box<dyn Limit>,
    pub(crate) hints: Hints,
    /// How many it has refused.
    pub(crate) refused: usize,
}

#[derive(Clone)]
pub(crate) struct Server {
    log: Log,
    replies: Arc<Mutex<std::vec::IntoIter<Reply>>>,
    pub(crate) limited: Option<Arc<Mutex<Limited>>>,
    is_ready: bool,
}

impl Server {
    pub(crate) fn new(script: &Script, log: &Log, limited: Option<Limited>) -> Self {
        Self {
            log: log.clone(),
            replies: Arc::new(Mutex::new(script.replies.clone().into_iter())),
            limited: limited.map(|limited| Arc::new(Mutex::new(limited))),
            is_ready: false,
        }
    }
}

impl<B> Service<Request<ReplayBody<B>>> for Server
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<tower::BoxError>,
{
    type Response = Response<Body>;
    type Error = Broken;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Broken>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReplayBody<B>>) -> Self::Future {
        assert!(
            std::mem::take(&mut self.is_ready),
            "was not asked whether it is ready"
        );
        let Some(&Id(id)) = request.extensions().get() else {
            panic!("the extensions of a request are those of the call");
        };
        self.log.add(id, Event::Sent);
        let mut reply = self.replies.lock().unwrap().next().unwrap_or(SERVED);
        let mut response = Response::new(body(reply.body_after, id, self.log.clone()));
        if let Some(limited) = &self.limited {
            let tokens = request
                .extensions()
                .get::<Tokens>()
                .map_or(0, |tokens| tokens.0);
            limited
                .lock()
                .unwrap()
                .answer(tokens, &mut reply, &mut response);
        }
        let log = self.log.clone();
        Box::pin(async move {
            // A request whose answer does not need all of it is not read to its end.
            if reply.says == Says::Ok {
                let _ = request.into_body().collect().await;
            }
            sleep(reply.after.into()).await;
            log.add(id, Event::Heard(reply.says));
            let status = match reply.says {
                Says::Ok => StatusCode::OK,
                Says::Refused(_) => StatusCode::TOO_MANY_REQUESTS,
                Says::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
                Says::Fails => StatusCode::INTERNAL_SERVER_ERROR,
                Says::Breaks => return Err(Broken),
            };
            *response.status_mut() = status;
            if let Says::Refused(Some(Ms(wait))) | Says::Unavailable(Ms(wait)) = reply.says {
                response.headers_mut().insert("retry-after-ms", wait.into());
            }
            Ok(response)
        })
    }
}

/// How many tokens a request has, in its extensions.
#[derive(Clone, Copy)]
pub(crate) struct Tokens(pub(crate) u32);

impl Limited {
    pub(crate) fn new(limit: impl Limit + 'static, hints: Hints) -> Self {
        Self {
            limit: Box::new(limit),
            hints,
            refused: 0,
        }
    }

    /// Counts the request when it comes; what the answer tells is of that moment.
    fn answer(&mut self, tokens: u32, reply: &mut Reply, response: &mut Response<Body>) {
        let now = Instant::now();
        let admitted = self.limit.admit(tokens, now);
        self.limit.leave();
        if !admitted {
            self.refused += 1;
            reply.says = Says::Refused(None);
        }
        let refused = (!admitted).then_some(tokens);
        response
            .headers_mut()
            .extend(self.hints.headers(&*self.limit, refused, now));
    }
}

/// Some bytes, so much later.
fn body(after: Ms, id: usize, log: Log) -> Body {
    let frames = futures_util::stream::once(async move {
        sleep(after.into()).await;
        log.add(id, Event::Read);
        Ok(http_body::Frame::data(Bytes::from_static(b"answered")))
    });
    StreamBody::new(frames).boxed_unsync()
}
