//! What becomes of a refusal's body: given back as it came, or read no further than it is worth and
//! let go of before the wait.

use bytes::Bytes;
use futures_util::{
    FutureExt, Stream, StreamExt,
    future::join_all,
    stream::{self, BoxStream},
};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Either, Empty, Full, StreamBody};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use simulation::Server;
use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_rate_limit_retry::{
    RateLimitRetryLayer, ReplayBody, ResponseBody, RetryReport, StopReason,
};

const KIB: usize = 1024;
const LIMIT: usize = 64 * KIB;
const READING_TIME: Duration = Duration::from_millis(250);

#[tokio::test(start_paused = true)]
async fn a_refusal_is_given_back_as_it_came() {
    // Without a hint the body is read for one; with a hint there is nothing to be learnt.
    for hint in [None, Some("7")] {
        for length in [0, 1, 1_000, LIMIT - 1, LIMIT, LIMIT + 1, 3 * LIMIT] {
            for frame in [1_000, 16 * KIB, 4 * LIMIT] {
                for trailers in [None, Some(trailers())] {
                    let body = framed(&content(length), frame, trailers.clone());
                    let (refusal, watch) = refusal(hint, body);
                    let head = refusal.headers().clone();
                    let server = Upstream::new([refusal]);
                    let answer = server.ask(&layer().max_retries(0)).await;
                    assert_eq!(stop_reason(&answer), Some(StopReason::MaxRetries));
                    assert_eq!((answer.status().as_u16(), answer.headers()), (429, &head));
                    let seen = read(answer).await;
                    assert!(
                        seen.bytes == content(length),
                        "{length} in {frame}: other bytes"
                    );
                    assert_eq!((seen.trailers, seen.failed), (trailers, false));
                    assert_eq!(watch.pulled(), length);
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_explanation_that_ends_the_call_is_given_back_as_it_came() {
    let explanation = r#"{"error":{"message":"Quota exceeded","code":"insufficient_quota"}}"#;
    for hint in [None, Some("7")] {
        for frame in [1, 10, 1_000] {
            let body = framed(explanation.as_bytes(), frame, Some(trailers()));
            let (refusal, _) = refusal(hint, body);
            let head = refusal.headers().clone();
            let server = Upstream::new([refusal]);
            let answer = server.ask(&layer()).await;
            assert_eq!(stop_reason(&answer), Some(StopReason::NotRetryable));
            assert_eq!((answer.status().as_u16(), answer.headers()), (429, &head));
            let seen = read(answer).await;
            assert_eq!(seen.bytes, explanation);
            assert_eq!(seen.trailers, Some(trailers()));
            assert_eq!(server.times(), [ms(0)]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_is_met_at_its_place() {
    for length in [0, 1_000, LIMIT, LIMIT + 1, 3 * LIMIT] {
        let frames = framed(&content(length), 1_000, None).chain(stream::iter([Err(Broken)]));
        let (refusal, _) = refusal(None, frames);
        let server = Upstream::new([refusal]);
        let answer = server.ask(&layer().max_retries(0)).await;
        assert_eq!(stop_reason(&answer), Some(StopReason::MaxRetries));
        let seen = read(answer).await;
        assert!(seen.bytes == content(length), "{length}: other bytes");
        assert!(seen.failed, "{length}: no error");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_in_the_body_does_not_keep_from_sending_again() {
    let frames = framed(&content(1_000), 100, None).chain(stream::iter([Err(Broken)]));
    let (refusal, watch) = refusal(Some("7"), frames);
    let server = Upstream::new([refusal]);
    assert_eq!(server.ask(&layer()).await.status(), 200);
    assert_eq!(server.times(), [ms(0), ms(7_000)]);
    assert_eq!(watch.let_go_at(), Some(ms(0)));
}

#[tokio::test(start_paused = true)]
async fn a_huge_body_is_given_back_whole() {
    for is_known in [false, true] {
        let (refusal, watch) = huge(is_known, None);
        let server = Upstream::new([refusal]);
        let answer = server.ask(&layer().max_retries(0)).await;
        assert!(watch.pulled() <= LIMIT + 16 * KIB, "{}", watch.pulled());
        let mut body = answer.into_body();
        let (frame, mut seen) = (huge_frame(), 0);
        while let Some(read) = body.frame().await {
            for piece in read.unwrap().into_data().unwrap().chunks(frame.len()) {
                assert!(frame.starts_with(piece), "after {seen}");
                seen += piece.len();
            }
        }
        assert_eq!(seen, HUGE);
    }
}

#[tokio::test(start_paused = true)]
async fn a_huge_body_costs_no_more_than_64_kib_when_the_request_is_sent_again() {
    for (is_known, at_most) in [(false, LIMIT + 16 * KIB), (true, 0)] {
        let (refusal, watch) = huge(is_known, Some("1"));
        let server = Upstream::new([refusal]);
        assert_eq!(server.ask(&layer()).await.status(), 200);
        assert_eq!(server.times(), [ms(0), ms(1_000)]);
        assert!(watch.pulled() <= at_most, "{}", watch.pulled());
        assert_eq!(watch.let_go_at(), Some(ms(0)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_without_an_end_delays_nothing_but_hints_of_less_than_250_ms() {
    let bodies: [fn() -> Frames; 2] = [|| trickle(usize::MAX).boxed(), || stalled().boxed()];
    for body in bodies {
        for (hint, expected) in [("1", 1_000), ("0.251", 251), ("0.25", 250), ("0.1", 250)] {
            let (refusal, watch) = refusal(Some(hint), body());
            let server = Upstream::new([refusal]);
            assert_eq!(server.ask(&layer()).await.status(), 200);
            assert_eq!(server.times(), [ms(0), ms(expected)], "{hint}");
            assert_eq!(watch.let_go_at(), Some(READING_TIME));
            assert!(watch.pulled() <= 26);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_is_waited_for_no_longer_than_it_takes() {
    // A byte every 10 ms.
    for (bytes, hint, expected) in [(5, "0.1", 100), (15, "0.1", 150), (15, "0", 150)] {
        let (refusal, watch) = refusal(Some(hint), trickle(bytes));
        let server = Upstream::new([refusal]);
        assert_eq!(server.ask(&layer()).await.status(), 200);
        assert_eq!(server.times(), [ms(0), ms(expected)]);
        assert_eq!(watch.pulled(), bytes);
        assert_eq!(watch.let_go_at(), Some(ms(10 * bytes as u64)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_without_an_end_is_given_back_after_250_ms_and_goes_on() {
    let (refusal, watch) = refusal(None, trickle(usize::MAX));
    let server = Upstream::new([refusal]);
    let began = Instant::now();
    let answer = server.ask(&layer().max_retries(0)).await;
    assert_eq!(
        (answer.status().as_u16(), began.elapsed()),
        (429, READING_TIME)
    );
    let mut body = answer.into_body();
    let mut seen = Vec::new();
    while seen.len() < 1_000 {
        let frame = body.frame().await.unwrap().unwrap();
        seen.extend_from_slice(frame.data_ref().unwrap());
    }
    assert!(seen == content(1_000), "other bytes");
    assert_eq!(began.elapsed(), ms(10_000));
    drop(body);
    assert_eq!(watch.let_go_at(), Some(ms(10_000)));
}

#[tokio::test(start_paused = true)]
async fn empty_frames_without_an_end_are_not_read_for_ever() {
    // An end all the same, so that a test that fails has one too.
    let empty = stream::repeat_with(|| Ok(Frame::data(Bytes::new())));
    let frames = empty.take(4 * LIMIT).chain(stream::pending());
    let (refusal, watch) = refusal(Some("1"), frames);
    let server = Upstream::new([refusal]);
    assert_eq!(server.ask(&layer()).await.status(), 200);
    assert_eq!(server.times(), [ms(0), ms(1_000)]);
    assert!(watch.frames() <= LIMIT + 1, "{}", watch.frames());
    assert!(watch.let_go_at() <= Some(READING_TIME));
}

#[tokio::test(start_paused = true)]
async fn what_was_read_whole_is_the_answer_if_there_is_no_further_attempt() {
    for (length, is_kept) in [(0, true), (1_000, true), (LIMIT, true), (LIMIT + 1, false)] {
        let body = framed(&content(length), 1_000, Some(trailers()));
        let (first, watch) = refusal(Some("7"), body);
        let (second, _) = refusal(Some("1000"), framed(&[], 1, None));
        let head = first.headers().clone();
        // The second call hears when the first one waits that it will not be sent in time.
        let server = Upstream::answering([(ms(1), first), (ms(10), second)]);
        let layer = layer();
        let (first, second) = tokio::join!(server.ask(&layer), server.ask(&layer));
        assert_eq!(stop_reason(&second), Some(StopReason::MaxDelay));
        assert_eq!(stop_reason(&first), Some(StopReason::MaxDelay));
        assert_eq!(watch.let_go_at(), Some(ms(1)));
        let report = first.extensions().get::<RetryReport>().unwrap();
        assert_eq!(report.answered_locally(), !is_kept);
        if is_kept {
            assert_eq!((first.status().as_u16(), first.headers()), (429, &head));
            let seen = read(first).await;
            assert!(seen.bytes == content(length), "{length}: other bytes");
            assert_eq!(seen.trailers, Some(trailers()));
        }
    }
}

#[tokio::test]
async fn calls_in_sequence_that_are_each_refused_use_one_connection() {
    let explanations = [
        Explanation::Late(20),
        Explanation::Sized(30_000),
        Explanation::Sized(LIMIT),
        Explanation::Chunked(30_000),
        Explanation::Chunked(LIMIT),
    ];
    let cases = explanations.map(|explanation| async move {
        let requests = Arc::new(AtomicUsize::new(0));
        let server = Server::start(move |_| {
            let is_first_attempt = requests.fetch_add(1, Ordering::Relaxed) % 2 == 0;
            let answer = if is_first_attempt {
                explanation.refusal()
            } else {
                Response::new(Either::Left(Full::from("ok")))
            };
            std::future::ready(answer)
        });
        let server = server.await.unwrap();
        let client = Client::builder(TokioExecutor::new()).build_http();
        let mut service = layer().layer(client);
        for _ in 0..5 {
            let request = Request::get(server.url())
                .body(Empty::<Bytes>::new())
                .unwrap();
            let answer = service.ready().await.unwrap().call(request).await.unwrap();
            assert_eq!(answer.status(), 200);
            answer.into_body().collect().await.unwrap();
        }
        assert_eq!(
            (server.requests(), server.connections()),
            (10, 1),
            "{explanation:?}"
        );
    });
    let all = timeout(Duration::from_secs(60), join_all(cases));
    all.await.expect("an end within a minute");
}

/// A server without a network: gives these answers, then successes.
#[derive(Clone)]
struct Upstream {
    began: Instant,
    times: Arc<Mutex<Vec<Duration>>>,
    answers: Arc<Mutex<VecDeque<Late>>>,
}

/// An answer, and the time that it takes.
type Late = (Duration, Response<Watched>);

type Answer = Response<ResponseBody<Watched>>;

impl Upstream {
    /// At once.
    fn new(answers: impl IntoIterator<Item = Response<Watched>>) -> Self {
        Self::answering(answers.into_iter().map(|answer| (ms(0), answer)))
    }

    /// After these times.
    fn answering(answers: impl IntoIterator<Item = Late>) -> Self {
        Self {
            began: Instant::now(),
            times: Arc::default(),
            answers: Arc::new(Mutex::new(answers.into_iter().collect())),
        }
    }

    /// The answer to one call, which is never an error.
    async fn ask(&self, layer: &RateLimitRetryLayer) -> Answer {
        let upstream = self.clone();
        let service = service_fn(move |_: Request<ReplayBody<Empty<Bytes>>>| {
            upstream
                .times
                .lock()
                .unwrap()
                .push(upstream.began.elapsed());
            let answer = upstream.answers.lock().unwrap().pop_front();
            async move {
                let success = || Response::new(Watched::new(stream::empty()));
                let (latency, answer) = answer.unwrap_or_else(|| (ms(0), success()));
                sleep(latency).await;
                Ok::<_, Infallible>(answer)
            }
        });
        let request = Request::get("http://api.example.com/v1");
        let answer = layer
            .layer(service)
            .oneshot(request.body(Empty::new()).unwrap());
        answer.await.unwrap()
    }

    /// When each attempt was made.
    fn times(&self) -> Vec<Duration> {
        self.times.lock().unwrap().clone()
    }
}

type Frames = BoxStream<'static, Result<Frame<Bytes>, Broken>>;

/// A body that is watched from outside.
struct Watched {
    frames: Frames,
    size: SizeHint,
    watch: Watch,
}

#[derive(Clone)]
struct Watch {
    began: Instant,
    state: Arc<Mutex<WatchState>>,
}

#[derive(Default)]
struct WatchState {
    pulled: usize,
    frames: usize,
    let_go_at: Option<Duration>,
}

impl Watched {
    fn new(frames: impl Stream<Item = Result<Frame<Bytes>, Broken>> + Send + 'static) -> Self {
        Self {
            frames: frames.boxed(),
            size: SizeHint::new(),
            watch: Watch {
                began: Instant::now(),
                state: Arc::default(),
            },
        }
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let frame = ready!(self.frames.poll_next_unpin(cx));
        let mut state = self.watch.state.lock().unwrap();
        if let Some(Ok(frame)) = &frame {
            state.frames += 1;
            state.pulled += frame.data_ref().map_or(0, Bytes::len);
        }
        drop(state);
        Poll::Ready(frame)
    }

    fn size_hint(&self) -> SizeHint {
        self.size
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let let_go_at = self.watch.began.elapsed();
        self.watch.state.lock().unwrap().let_go_at = Some(let_go_at);
    }
}

impl Watch {
    /// The bytes that were read.
    fn pulled(&self) -> usize {
        self.state.lock().unwrap().pulled
    }

    /// The frames that were read.
    fn frames(&self) -> usize {
        self.state.lock().unwrap().frames
    }

    /// When the body was dropped, and with it what it would hold of a connection.
    fn let_go_at(&self) -> Option<Duration> {
        self.state.lock().unwrap().let_go_at
    }
}

/// The error of a body.
#[derive(Debug)]
struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("broken")
    }
}

impl std::error::Error for Broken {}

/// A 429 with this hint, if any, and this body.
fn refusal(
    hint: Option<&str>,
    frames: impl Stream<Item = Result<Frame<Bytes>, Broken>> + Send + 'static,
) -> (Response<Watched>, Watch) {
    let mut refusal = Response::builder().status(429);
    for (name, value) in [("x-request-id", "42"), ("via", "1.1 a"), ("via", "1.1 b")] {
        refusal = refusal.header(name, value);
    }
    if let Some(hint) = hint {
        refusal = refusal.header("retry-after", hint);
    }
    let body = Watched::new(frames);
    let watch = body.watch.clone();
    (refusal.body(body).unwrap(), watch)
}

/// The length of a huge body.
const HUGE: usize = 100 * KIB * KIB;

/// One frame of it.
fn huge_frame() -> Bytes {
    content(16 * KIB)
}

/// A refusal of 100 MiB, which may say so before.
fn huge(is_known: bool, hint: Option<&str>) -> (Response<Watched>, Watch) {
    let frame = huge_frame();
    let frames = (0..HUGE / frame.len()).map(move |_| Ok(Frame::data(frame.clone())));
    let (mut refusal, watch) = refusal(hint, stream::iter(frames));
    if is_known {
        refusal.body_mut().size = SizeHint::with_exact(HUGE as u64);
    }
    (refusal, watch)
}

/// These bytes in frames of this size, and then the trailers.
fn framed(
    bytes: &[u8],
    frame: usize,
    trailers: Option<HeaderMap>,
) -> impl Stream<Item = Result<Frame<Bytes>, Broken>> + Send + use<> {
    let frames: Vec<_> = bytes.chunks(frame).map(Bytes::copy_from_slice).collect();
    let frames = frames.into_iter().map(Frame::data);
    stream::iter(frames.chain(trailers.map(Frame::trailers))).map(Ok)
}

/// So many bytes, one every 10 ms.
fn trickle(bytes: usize) -> impl Stream<Item = Result<Frame<Bytes>, Broken>> + Send {
    stream::iter(0..bytes).then(|at| async move {
        sleep(ms(10)).await;
        Ok(Frame::data(content_from(at, 1)))
    })
}

/// Ten bytes, and no end.
fn stalled() -> impl Stream<Item = Result<Frame<Bytes>, Broken>> + Send {
    stream::iter([Ok(Frame::data(content(10)))]).chain(stream::pending())
}

fn trailers() -> HeaderMap {
    HeaderMap::from_iter([(header::ETAG, HeaderValue::from_static("sum"))])
}

/// So many bytes; what is left out or comes twice shows.
fn content(length: usize) -> Bytes {
    content_from(0, length)
}

/// So many bytes of it, from this place on.
fn content_from(start: usize, length: usize) -> Bytes {
    (start..start + length)
        .map(|at| (at / 1_000 + at) as u8)
        .collect()
}

/// What was read of an answer's body.
struct Seen {
    bytes: Bytes,
    trailers: Option<HeaderMap>,
    failed: bool,
}

async fn read(answer: Answer) -> Seen {
    let mut body = answer.into_body();
    let (mut bytes, mut trailers, mut failed) = (Vec::new(), None, false);
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => bytes.extend_from_slice(&data),
            Ok(Err(frame)) => trailers = frame.into_trailers().ok(),
            Err(Broken) => {
                failed = true;
                break;
            }
        }
    }
    Seen {
        bytes: bytes.into(),
        trailers,
        failed,
    }
}

fn stop_reason(answer: &Answer) -> Option<StopReason> {
    answer.extensions().get::<RetryReport>()?.stop_reason()
}

/// The body of a refusal on a real socket.
#[derive(Clone, Copy, Debug)]
enum Explanation {
    /// So many bytes of known length, 30 ms after the head.
    Late(usize),
    /// So many bytes of known length.
    Sized(usize),
    /// So many bytes, the end of which shows when it comes.
    Chunked(usize),
}

impl Explanation {
    fn refusal(self) -> Response<Either<Full<Bytes>, StreamBody<Frames>>> {
        let refusal = Response::builder().status(429).header("retry-after", "0.1");
        match self {
            Self::Late(length) => {
                let frame = sleep(ms(30)).map(move |()| Ok(Frame::data(content(length))));
                let body = StreamBody::new(stream::once(frame).boxed());
                let refusal = refusal.header(header::CONTENT_LENGTH, length);
                refusal.body(Either::Right(body)).unwrap()
            }
            Self::Sized(length) => refusal
                .body(Either::Left(Full::new(content(length))))
                .unwrap(),
            Self::Chunked(length) => {
                let body = StreamBody::new(framed(&content(length), 1_000, None).boxed());
                refusal.body(Either::Right(body)).unwrap()
            }
        }
    }
}

fn layer() -> RateLimitRetryLayer {
    RateLimitRetryLayer::new()
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
