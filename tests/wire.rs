//! What a server on a real socket sees of a request that is sent again, over HTTP/1.1 and HTTP/2.

use bytes::Bytes;
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared, join_all},
    stream,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header, request::Parts};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Either, Empty, Full, StreamBody, channel::Channel};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use simulation::Server;
use std::{
    convert::Infallible,
    future::Future,
    marker::PhantomPinned,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_rate_limit_retry::{
    BoxError, RateLimitRetryLayer, ReplayBody, ResponseBody, RetryReport, StopReason,
};

const VERSIONS: [http::Version; 2] = [http::Version::HTTP_11, http::Version::HTTP_2];

#[tokio::test]
async fn an_empty_body_is_framed_as_if_there_were_no_layer() {
    for version in VERSIONS {
        for method in [Method::GET, Method::DELETE, Method::POST] {
            let host = Host::start(version, &[Rule::Refuse]).await;
            let mut plain = request(Full::<Bytes>::default());
            *plain.method_mut() = method.clone();
            let exchange = host.ask(&layer(), plain.clone()).await;
            assert_eq!((exchange.status, exchange.attempts()), (200, 2));
            exchange.assert_each_is_whole(b"");
            assert_eq!(exchange.connections, 1);

            let host = Host::start(version, &[]).await;
            let bare = host.ask(&layer().enabled(false), plain).await;
            let framing = bare.sent[0].framing.clone();
            assert!(exchange.sent.iter().all(|sent| sent.framing == framing));
            if method == Method::GET {
                assert_eq!(framing, Framing::default());
            }
        }
    }
}

#[tokio::test]
async fn a_known_length_is_announced_in_each_attempt() {
    for version in VERSIONS {
        for length in [1, 20_000, 1024 * 1024] {
            let host = Host::start(version, &[Rule::Refuse]).await;
            let whole = content(length);
            let exchange = host.ask(&layer(), request(Full::new(whole.clone()))).await;
            assert_eq!((exchange.status, exchange.attempts()), (200, 2));
            exchange.assert_each_is_whole(&whole);
            exchange.assert_framing(Some(length), false);
            assert_eq!(exchange.connections, 1);
        }
    }
}

#[tokio::test]
async fn a_stream_is_sent_again_from_its_first_byte_on() {
    for version in VERSIONS {
        let host = Host::start(version, &[Rule::Refuse, Rule::Refuse]).await;
        let whole = content(20_000);
        let body = stream_of(&whole, Pace::Steady, None);
        let exchange = host.ask(&layer(), request(body)).await;
        assert_eq!((exchange.status, exchange.attempts()), (200, 3));
        exchange.assert_each_is_whole(&whole);
        exchange.assert_framing(None, version == http::Version::HTTP_11);
        assert_eq!(exchange.connections, 1);
    }
}

#[tokio::test]
async fn a_stream_that_turns_out_to_be_empty_is_framed_alike_in_each_attempt() {
    for version in VERSIONS {
        let host = Host::start(version, &[Rule::Refuse]).await;
        let body = stream_of(b"", Pace::Steady, None);
        let exchange = host.ask(&layer(), request(body)).await;
        assert_eq!((exchange.status, exchange.attempts()), (200, 2));
        exchange.assert_each_is_whole(b"");
        exchange.assert_framing(None, version == http::Version::HTTP_11);
    }
}

#[tokio::test]
async fn a_body_that_says_it_has_no_bytes_and_not_that_it_is_at_its_end_is_framed_so() {
    for version in VERSIONS {
        let host = Host::start(version, &[]).await;
        let bare = host.ask(&layer().enabled(false), request(Nothing)).await;
        let host = Host::start(version, &[Rule::Refuse]).await;
        let exchange = host.ask(&layer(), request(Nothing)).await;
        assert_eq!((exchange.status, exchange.attempts()), (200, 2));
        exchange.assert_each_is_whole(b"");
        for sent in &exchange.sent {
            assert_eq!(sent.framing, bare.sent[0].framing);
        }
    }
}

#[tokio::test]
async fn trailers_are_sent_again_after_all_frames() {
    for version in VERSIONS {
        for whole in [content(20_000), Bytes::new()] {
            let host = Host::start(version, &[Rule::Refuse]).await;
            let trailers = HeaderMap::from_iter([(header::ETAG, HeaderValue::from_static("sum"))]);
            let body = stream_of(&whole, Pace::Steady, Some(trailers.clone()));
            let mut request = request(body);
            let announced = HeaderValue::from_static("etag");
            request.headers_mut().insert(header::TRAILER, announced);
            let exchange = host.ask(&layer(), request).await;
            assert_eq!((exchange.status, exchange.attempts()), (200, 2));
            exchange.assert_each_is_whole(&whole);
            for sent in &exchange.sent {
                assert_eq!(sent.trailers.as_ref(), Some(&trailers));
            }
            assert_eq!(exchange.connections, 1);
        }
    }
}

#[tokio::test]
async fn a_body_that_must_not_be_moved_is_sent_again() {
    for version in VERSIONS {
        let host = Host::start(version, &[Rule::Refuse]).await;
        let frames = stream::unfold((0_u8, PhantomPinned), |(index, pinned)| async move {
            tokio::task::yield_now().await;
            let frame = Ok::<_, Infallible>(Frame::data(Bytes::from(vec![index; 1_000])));
            (index < 9).then_some((frame, (index + 1, pinned)))
        });
        let whole: Vec<u8> = (0..9).flat_map(|index| [index; 1_000]).collect();
        let exchange = host.ask(&layer(), request(StreamBody::new(frames))).await;
        assert_eq!((exchange.status, exchange.attempts()), (200, 2));
        exchange.assert_each_is_whole(&whole);
    }
}

#[tokio::test]
async fn a_body_over_the_cap_is_sent_once_and_its_refusal_comes_back() {
    for version in VERSIONS {
        let whole = content(20_000);
        for streamed in [false, true] {
            let host = Host::start(version, &[Rule::Refuse]).await;
            let layer = layer().max_replay(19_999);
            let body = if streamed {
                Either::Left(stream_of(&whole, Pace::Steady, None))
            } else {
                Either::Right(Full::new(whole.clone()))
            };
            let exchange = host.ask(&layer, request(body)).await;
            exchange.assert_given_back();
            exchange.assert_each_is_whole(&whole);
            let known = (!streamed).then_some(20_000);
            exchange.assert_framing(known, streamed && version == http::Version::HTTP_11);
        }
    }
}

#[tokio::test]
async fn a_body_that_fills_the_cap_is_sent_again() {
    for version in VERSIONS {
        let host = Host::start(version, &[Rule::Refuse]).await;
        let whole = content(20_000);
        let body = stream_of(&whole, Pace::Steady, None);
        let layer = layer().max_replay(20_000);
        let exchange = host.ask(&layer, request(body)).await;
        assert_eq!((exchange.status, exchange.attempts()), (200, 2));
        exchange.assert_each_is_whole(&whole);
    }
}

#[tokio::test]
async fn a_body_that_passes_the_cap_while_the_refusal_is_read_is_sent_once() {
    for version in VERSIONS {
        let host = Host::start(version, &[Rule::RefuseUntilAllIsRead]).await;
        let whole = content(20_000);
        let body = stream_of(&whole, Pace::AfterTheAnswer(host.answered.clone()), None);
        let layer = layer().max_replay(5_000);
        let exchange = host.ask(&layer, request(body)).await;
        exchange.assert_given_back();
        exchange.assert_each_is_whole(&whole);
    }
}

#[tokio::test]
async fn a_stream_that_would_go_on_during_the_wait_is_not_lost() {
    let ask = |version, rule, max_replay| async move {
        let host = Host::start(version, &[rule]).await;
        let whole = content(20_000);
        let body = stream_of(&whole, Pace::AfterTheAnswer(host.answered.clone()), None);
        let layer = layer().max_replay(max_replay);
        let exchange = host.ask(&layer, request(body)).await;
        assert_eq!((exchange.status, exchange.attempts()), (200, 2));
        exchange.assert_none_is_cut_short(&whole);
        assert_eq!(exchange.sent[1].bytes, whole);
        let own_connections = version == http::Version::HTTP_11;
        assert_eq!(exchange.connections, 1 + u64::from(own_connections));
    };
    let mut cases = Vec::new();
    for version in VERSIONS {
        for rule in [Rule::RefuseTheHead, Rule::RefuseTheHeadAndClose] {
            // The first attempt would pass the cap if it read on during the wait.
            cases.extend([5_000, 1024 * 1024].map(|max_replay| ask(version, rule, max_replay)));
        }
    }
    join_all(cases).await;
}

#[tokio::test]
async fn a_stream_goes_on_where_several_early_refusals_left_it() {
    for version in VERSIONS {
        let refusals = [Rule::RefuseTheHead, Rule::RefuseTheHead, Rule::Refuse];
        let host = Host::start(version, &refusals).await;
        let whole = content(20_000);
        let body = stream_of(&whole, Pace::AfterTheAnswer(host.answered.clone()), None);
        let exchange = host.ask(&layer(), request(body)).await;
        assert_eq!((exchange.status, exchange.attempts()), (200, 4));
        exchange.assert_none_is_cut_short(&whole);
        assert_eq!(exchange.sent[2].bytes, whole);
        assert_eq!(exchange.sent[3].bytes, whole);
    }
}

#[tokio::test]
async fn an_upload_that_is_refused_early_ends_before_its_stream_goes_on() {
    for version in VERSIONS {
        let host = Host::start(version, &[Rule::RefuseTheHead]).await;
        let whole = content(20_000);
        let body = stream_of(&whole, Pace::AfterTheFirstAttempt(host.ended.clone()), None);
        let exchange = host.ask(&layer(), request(body)).await;
        assert_eq!((exchange.status, exchange.attempts()), (200, 2));
        exchange.assert_none_is_cut_short(&whole);
        assert_eq!(exchange.sent[1].bytes, whole);
    }
}

#[tokio::test]
async fn bytes_in_memory_that_are_refused_early_are_sent_again() {
    for version in VERSIONS {
        let host = Host::start(version, &[Rule::RefuseTheHead]).await;
        let whole = content(1024 * 1024);
        let exchange = host.ask(&layer(), request(Full::new(whole.clone()))).await;
        assert_eq!((exchange.status, exchange.attempts()), (200, 2));
        exchange.assert_none_is_cut_short(&whole);
        assert_eq!(exchange.sent[1].bytes, whole);
        exchange.assert_framing(Some(whole.len()), false);
    }
}

#[tokio::test]
async fn an_upload_whose_early_refusal_is_given_back_goes_on() {
    for version in VERSIONS {
        let host = Host::start(version, &[Rule::RefuseTheHead]).await;
        let whole = content(20_000);
        let body = stream_of(&whole, Pace::AfterTheAnswer(host.answered.clone()), None);
        let layer = layer().max_retries(0);
        let exchange = host.ask(&layer, request(body)).await;
        assert_eq!((exchange.status, exchange.attempts()), (429, 1));
        assert_eq!(exchange.stop_reason(), Some(StopReason::MaxRetries));
        exchange.assert_each_is_whole(&whole);
    }
}

#[tokio::test]
async fn a_body_that_the_service_dropped_is_sent_whole() {
    for version in VERSIONS {
        for frames_read in [0, 1, 7] {
            let host = Host::start(version, &[]).await;
            let whole = content(20_000);
            let service = layer().layer(host.client_that_drops(frames_read));
            let body = stream_of(&whole, Pace::Steady, None);
            let exchange = host.ask_through(service, request(body)).await;
            assert_eq!(exchange.status, 200);
            assert_eq!(exchange.report.as_ref().unwrap().attempts(), 2);
            assert_eq!(exchange.sent.len(), 1, "the first one was never sent");
            exchange.assert_each_is_whole(&whole);
            exchange.assert_framing(None, version == http::Version::HTTP_11);
        }
    }
}

/// What the server does with an attempt; what it has no rule for, it serves.
#[derive(Clone, Copy, Debug)]
enum Rule {
    /// Reads all of it, then answers 429.
    Refuse,
    /// Answers 429 with the head alone, and reads the rest behind.
    RefuseTheHead,
    /// Answers 429 with the head alone, and reads no more.
    RefuseTheHeadAndClose,
    /// Answers 429 with the head alone; the body of that answer ends when all is read.
    RefuseUntilAllIsRead,
    Serve,
}

/// A server, and clients of it that speak one version.
struct Host {
    server: Server,
    version: http::Version,
    log: Log,
    /// Told of each answer that reaches the layer.
    answered: Arc<Notify>,
    /// Told of the end of each attempt, however it ends.
    ended: Arc<Notify>,
}

type Log = Arc<Mutex<Vec<Shared<BoxFuture<'static, Sent>>>>>;

/// What the server has seen of one attempt.
#[derive(Clone, Debug)]
struct Sent {
    framing: Framing,
    bytes: Bytes,
    trailers: Option<HeaderMap>,
    /// Whether the end was seen, and no error.
    ended: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Framing {
    content_length: Option<HeaderValue>,
    transfer_encoding: Option<HeaderValue>,
}

/// What came of one call.
struct Exchange {
    status: u16,
    report: Option<RetryReport>,
    sent: Vec<Sent>,
    connections: u64,
}

impl Host {
    async fn start(version: http::Version, rules: &[Rule]) -> Self {
        let (log, ended) = (Log::default(), Arc::<Notify>::default());
        let handler = {
            let (log, ended, rules) = (log.clone(), ended.clone(), rules.to_vec());
            move |request: Request<Incoming>| {
                let mut log = log.lock().unwrap();
                let rule = rules.get(log.len()).copied().unwrap_or(Rule::Serve);
                let (head, body) = request.into_parts();
                let body = match rule {
                    Rule::RefuseTheHeadAndClose => None,
                    _ => Some(body),
                };
                let ended = ended.clone();
                let reading = tokio::spawn(async move {
                    let sent = read(head, body).await;
                    ended.notify_one();
                    sent
                });
                let reading = reading.map(Result::unwrap).boxed().shared();
                log.push(reading.clone());
                answer(rule, reading)
            }
        };
        Self {
            server: Server::start(handler).await.unwrap(),
            version,
            log,
            answered: Arc::default(),
            ended,
        }
    }

    /// A client that connects as often as it likes.
    fn client<B>(&self) -> Client<HttpConnector, B>
    where
        B: Body<Data: Send> + Send,
    {
        Client::builder(TokioExecutor::new())
            .http2_only(self.version == http::Version::HTTP_2)
            .build_http()
    }

    /// In front of a client: the first request's body is dropped when so many frames are read of
    /// it, and a refusal is the answer.
    fn client_that_drops<B>(
        &self,
        frames_read: usize,
    ) -> impl Service<
        Request<ReplayBody<B>>,
        Response = Response<Either<Incoming, Empty<Bytes>>>,
        Error = hyper_util::client::legacy::Error,
    > + Clone
    where
        B: Body<Error: Into<BoxError>> + Send + 'static,
    {
        let client = self.client::<ReplayBody<B>>();
        let is_first = Arc::new(AtomicBool::new(true));
        service_fn(move |mut request: Request<ReplayBody<B>>| {
            let (client, is_first) = (client.clone(), is_first.swap(false, Ordering::Relaxed));
            async move {
                if !is_first {
                    let response = client.request(request).await?;
                    return Ok(response.map(Either::Left));
                }
                for _ in 0..frames_read {
                    assert!(matches!(request.body_mut().frame().await, Some(Ok(_))));
                }
                drop(request);
                Ok(refusal("0.1").map(|()| Either::Right(Empty::new())))
            }
        })
    }

    async fn ask<B>(&self, layer: &RateLimitRetryLayer, request: Request<B>) -> Exchange
    where
        B: Body<Error: Into<BoxError>> + Send + 'static,
    {
        let answered = self.answered.clone();
        let client = self
            .client::<ReplayBody<B>>()
            .map_response(move |response| {
                answered.notify_one();
                response
            });
        self.ask_through(layer.layer(client), request).await
    }

    async fn ask_through<S, B, R>(&self, service: S, mut request: Request<B>) -> Exchange
    where
        S: Service<Request<B>, Response = Response<ResponseBody<R>>, Error: std::fmt::Debug>,
        R: Body<Error: std::fmt::Debug>,
    {
        *request.uri_mut() = self.server.url().parse::<Uri>().unwrap();
        let exchange = async {
            let answer = service.oneshot(request).await.unwrap();
            let (status, report) = (answer.status().as_u16(), answer.extensions().get().cloned());
            answer.into_body().collect().await.unwrap();
            let log = self.log.lock().unwrap().clone();
            Exchange {
                status,
                report,
                sent: join_all(log).await,
                connections: self.server.connections(),
            }
        };
        within_a_minute(exchange).await
    }
}

impl Exchange {
    fn attempts(&self) -> usize {
        let attempts = self.report.as_ref().map_or(1, RetryReport::attempts);
        assert_eq!(attempts as usize, self.sent.len(), "counted and seen");
        self.sent.len()
    }

    fn stop_reason(&self) -> Option<StopReason> {
        self.report.as_ref().and_then(RetryReport::stop_reason)
    }

    #[track_caller]
    fn assert_each_is_whole(&self, whole: &[u8]) {
        for sent in &self.sent {
            assert!(
                sent.ended && sent.bytes == whole,
                "{} bytes",
                sent.bytes.len()
            );
        }
    }

    /// Each attempt has all bytes, or some of them and a visible failure.
    #[track_caller]
    fn assert_none_is_cut_short(&self, whole: &[u8]) {
        for sent in &self.sent {
            let seen = sent.bytes.len();
            assert!(whole.starts_with(&sent.bytes), "{seen} other bytes");
            assert!(!sent.ended || seen == whole.len(), "ended after {seen}");
        }
        assert!(self.sent.last().unwrap().ended);
    }

    #[track_caller]
    fn assert_framing(&self, length: Option<usize>, is_chunked: bool) {
        let expected = Framing {
            content_length: length.map(HeaderValue::from),
            transfer_encoding: is_chunked.then_some(HeaderValue::from_static("chunked")),
        };
        for sent in &self.sent {
            assert_eq!(sent.framing, expected);
        }
    }

    #[track_caller]
    fn assert_given_back(&self) {
        assert_eq!((self.status, self.attempts()), (429, 1));
        assert_eq!(self.stop_reason(), Some(StopReason::BodyNotReplayable));
        assert!(!self.report.as_ref().unwrap().answered_locally());
    }
}

/// Reads a request to its end or its failure.
async fn read(head: Parts, body: Option<Incoming>) -> Sent {
    let mut sent = Sent {
        framing: Framing {
            content_length: head.headers.get(header::CONTENT_LENGTH).cloned(),
            transfer_encoding: head.headers.get(header::TRANSFER_ENCODING).cloned(),
        },
        bytes: Bytes::new(),
        trailers: None,
        ended: false,
    };
    let Some(mut body) = body else {
        return sent;
    };
    let mut bytes = Vec::new();
    loop {
        match body.frame().await {
            None => sent.ended = true,
            Some(Err(_)) => {}
            Some(Ok(frame)) => {
                match frame.into_data() {
                    Ok(data) => bytes.extend_from_slice(&data),
                    Err(frame) => sent.trailers = frame.into_trailers().ok(),
                }
                continue;
            }
        }
        sent.bytes = bytes.into();
        return sent;
    }
}

type AnswerBody = Either<Full<Bytes>, Pin<Box<dyn Body<Data = Bytes, Error = Infallible> + Send>>>;

async fn answer(
    rule: Rule,
    reading: impl Future<Output = Sent> + Send + 'static,
) -> Response<AnswerBody> {
    match rule {
        Rule::Serve => {
            reading.await;
            Response::new(Either::Left(Full::from("ok")))
        }
        Rule::Refuse => {
            reading.await;
            refusal("0.1").map(|()| Either::Left(Full::default()))
        }
        Rule::RefuseTheHead | Rule::RefuseTheHeadAndClose => {
            refusal("1").map(|()| Either::Left(Full::default()))
        }
        Rule::RefuseUntilAllIsRead => {
            let frame = reading.map(|_| Ok(Frame::data(Bytes::from_static(b"read"))));
            let body = StreamBody::new(stream::once(frame));
            refusal("1").map(|()| Either::Right(Box::pin(body) as Pin<Box<_>>))
        }
    }
}

/// Asks to come back after so many seconds: one, where a stream is to have the time to go on.
fn refusal(retry_after: &str) -> Response<()> {
    let refusal = Response::builder().status(429);
    refusal.header("retry-after", retry_after).body(()).unwrap()
}

fn layer() -> RateLimitRetryLayer {
    RateLimitRetryLayer::new()
}

fn request<B>(body: B) -> Request<B> {
    Request::post("/").body(body).unwrap()
}

/// So many bytes; what is left out or comes twice shows.
fn content(length: usize) -> Bytes {
    (0..length).map(|at| (at / 1_000 + at) as u8).collect()
}

/// When the frames of a stream come.
enum Pace {
    /// One after another.
    Steady,
    /// The first one at once, the others one after another when an answer has come.
    AfterTheAnswer(Arc<Notify>),
    /// The first one at once, the others when the server has seen the end of the first attempt.
    AfterTheFirstAttempt(Arc<Notify>),
}

/// A body of unknown length, in frames of a thousand bytes.
fn stream_of(whole: &[u8], pace: Pace, trailers: Option<HeaderMap>) -> Channel<Bytes, Infallible> {
    let (mut sender, body) = Channel::new(1);
    let frames: Vec<_> = whole.chunks(1_000).map(Bytes::copy_from_slice).collect();
    tokio::spawn(async move {
        for (index, frame) in frames.into_iter().enumerate() {
            match &pace {
                Pace::AfterTheAnswer(go) | Pace::AfterTheFirstAttempt(go) if index == 1 => {
                    go.notified().await;
                }
                _ => {}
            }
            sender.send_data(frame).await.unwrap();
            sleep(Duration::from_millis(1)).await;
        }
        if let Some(trailers) = trailers {
            sender.send_trailers(trailers).await.unwrap();
        }
    });
    body
}

/// A body of no bytes that has to be read to find its end.
struct Nothing;

impl Body for Nothing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(0)
    }
}

/// So that what hangs is found.
async fn within_a_minute<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(60), future)
        .await
        .expect("an end within a minute")
}
