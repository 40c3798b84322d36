//! A server that works on a few requests at once, and on each until the last byte of its answer.

mod support;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
    time::Duration,
};
use support::{ms, request};
use tokio::{
    sync::mpsc,
    task::yield_now,
    time::{Instant, Sleep, sleep},
};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_rate_limit_retry::{RateLimitRetryLayer, ReplayBody, ResponseBody};

const PLACES: usize = 4;

/// How long the server takes for a head, and for a body behind it.
const HEAD: Duration = ms(20);
const BODY: Duration = Duration::from_secs(2);

/// For this long bodies count in any case.
const LEAST: Duration = Duration::from_secs(10);

#[tokio::test(start_paused = true)]
async fn a_request_keeps_its_place_until_its_body_ends() {
    for fails in [false, true] {
        let server = Server {
            fails,
            ..Server::default()
        };
        let (refused, took) = race(&server).await;
        let body = if fails { BODY / 2 } else { BODY };
        let ideal = (HEAD + body) * 400 / PLACES as u32;
        assert!(refused <= 12, "{refused} of 400 refused");
        assert!(took <= ideal * 21 / 20, "{took:?} instead of {ideal:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_drops_a_body_lets_the_next_one_go() {
    let server = Server::default();
    let (_layer, mut answers, _receiver) = full(&server, 20).await;
    let (sent, refused) = (server.sent(), server.refused());
    for more in 0..PLACES {
        sleep(LEAST / 8).await;
        assert_eq!(server.sent(), sent + more, "all places are taken");
        drop(answers.pop());
        settle().await;
        assert_eq!(server.sent(), sent + more + 1);
    }
    assert_eq!(server.refused(), refused);
}

#[tokio::test(start_paused = true)]
async fn who_reads_a_body_to_its_end_lets_the_next_one_go() {
    for fails in [false, true] {
        let server = Server {
            fails,
            ..Server::default()
        };
        let (_layer, mut answers, _receiver) = full(&server, 20).await;
        let sent = server.sent();
        let mut body = answers.pop().unwrap().into_body();
        if !fails {
            body.frame().await.unwrap().unwrap();
            settle().await;
            assert_eq!(server.sent(), sent, "it has not ended");
        }
        assert_eq!(body.frame().await.unwrap().is_err(), fails);
        if !fails {
            // Only then it tells that this was the last one.
            assert!(body.frame().await.is_none());
        }
        settle().await;
        assert_eq!(server.sent(), sent + 1);
        drop(body);
        settle().await;
        assert_eq!(server.sent(), sent + 1, "once");
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_that_nobody_reads_hold_nobody_back_for_ever() {
    let server = Server::default();
    let (_layer, _answers, _receiver) = full(&server, 20).await;
    let sent = server.sent();
    sleep(LEAST * 9 / 10).await;
    assert_eq!(server.sent(), sent);
    sleep(LEAST / 5).await;
    assert!(server.sent() > sent, "they count no longer");
}

#[tokio::test(start_paused = true)]
async fn short_answers_may_be_kept_and_read_later() {
    let server = Server {
        length: Some(10),
        ..Server::default()
    };
    let began = Instant::now();
    let mut receiver = send(&RateLimitRetryLayer::new(), &server, 400);
    let mut answers = Vec::new();
    while let Some(answer) = receiver.recv().await {
        answers.push(answer);
    }
    assert_eq!(answers.len(), 400);
    assert!(began.elapsed() < LEAST, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn calls_that_nobody_polls_hold_nobody_back_for_ever() {
    let server = Server::default();
    fastrand::seed(1);
    let layer = RateLimitRetryLayer::new();
    read_all(&layer, &server, 100).await;
    let held: Vec<_> = (0..PLACES)
        .map(|id| {
            let mut held =
                tokio_test::task::spawn(layer.layer(server.service()).oneshot(request(id)));
            assert!(held.poll().is_pending());
            held
        })
        .collect();
    let sent = server.sent();
    let _answers = send(&layer, &server, 1);
    sleep(LEAST * 9 / 10).await;
    assert_eq!(server.sent(), sent, "all places are taken");
    sleep(LEAST / 5).await;
    assert!(server.sent() > sent, "they count no longer");
    drop(held);
    assert_eq!(in_flight(&layer), 0, "each is off the count once");
}

#[tokio::test(start_paused = true)]
async fn who_is_answered_very_late_counts_for_longer_the_next_time() {
    let (server, layer) = (Server::default(), RateLimitRetryLayer::new());
    // A minute as long as nothing was answered; then four times as long as what has come late, of which
    // twice as much as before is believed, and twenty seconds at first.
    for counts_for in [60, 80, 160] {
        let mut held = tokio_test::task::spawn(layer.layer(server.service()).oneshot(request(0)));
        assert!(held.poll().is_pending());
        sleep(ms(1_000 * counts_for - 1)).await;
        assert_eq!(in_flight(&layer), 1);
        sleep(ms(2)).await;
        assert_eq!(in_flight(&layer), 0);
        let answer = held.poll();
        assert!(answer.is_ready());
        assert_eq!(in_flight(&layer), 1, "the server works on its body");
        drop((answer, held));
        assert_eq!(in_flight(&layer), 0);
    }
}

/// Four hundred at once; how many are refused, and how long it takes.
async fn race(server: &Server) -> (usize, Duration) {
    fastrand::seed(1);
    let took = read_all(&RateLimitRetryLayer::new(), server, 400).await;
    (server.refused(), took)
}

fn in_flight(layer: &RateLimitRetryLayer) -> usize {
    layer.limits().snapshot().partitions()[0].in_flight()
}

/// Lets all tasks go that can, without time passing.
async fn settle() {
    for _ in 0..100 {
        yield_now().await;
    }
}

/// One place at the server, taken.
struct Place(Arc<Mutex<usize>>);

impl Drop for Place {
    fn drop(&mut self) {
        *self.0.lock().unwrap() -= 1;
    }
}

/// The server works on it until its last frame, or until it is dropped.
struct Streamed {
    place: Option<Place>,
    length: Option<u64>,
    timer: Pin<Box<Sleep>>,
    frames: u32,
    fails: bool,
}

impl Body for Streamed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.frames == 0 {
            return Poll::Ready(None);
        }
        ready!(self.timer.as_mut().poll(cx));
        self.frames -= 1;
        self.timer.set(sleep(BODY / 2));
        if self.frames == 0 {
            self.place = None;
        }
        if self.fails {
            return Poll::Ready(Some(Err(io::Error::other("broken"))));
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"frame")))))
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map(SizeHint::with_exact).unwrap_or_default()
    }
}

#[derive(Clone, Default)]
struct Server {
    working: Arc<Mutex<usize>>,
    /// How many requests came, and how many of them were refused.
    counts: Arc<Mutex<(usize, usize)>>,
    /// What all bodies say of their length.
    length: Option<u64>,
    fails: bool,
}

impl Server {
    fn service(
        &self,
    ) -> impl Service<
        Request<ReplayBody<support::Body>>,
        Response = Response<Streamed>,
        Error = Infallible,
        Future: Send,
    > + Clone
    + Send
    + 'static {
        let server = self.clone();
        service_fn(move |_| {
            let mut answer = server.answer();
            async {
                sleep(HEAD).await;
                if answer.body().length.is_some() {
                    // It is all on its way.
                    answer.body_mut().place = None;
                }
                Ok(answer)
            }
        })
    }

    fn answer(&self) -> Response<Streamed> {
        let mut working = self.working.lock().unwrap();
        let mut counts = self.counts.lock().unwrap();
        counts.0 += 1;
        let is_full = *working == PLACES;
        *working += usize::from(!is_full);
        counts.1 += usize::from(is_full);
        let mut response = Response::new(Streamed {
            place: (!is_full).then(|| Place(Arc::clone(&self.working))),
            length: self.length,
            timer: Box::pin(sleep(BODY / 2)),
            frames: if is_full { 0 } else { 2 },
            fails: self.fails,
        });
        if is_full {
            *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        }
        response
    }

    fn sent(&self) -> usize {
        self.counts.lock().unwrap().0
    }

    fn refused(&self) -> usize {
        self.counts.lock().unwrap().1
    }
}

type Answer = Response<ResponseBody<Streamed>>;

/// Sends so many at once; what is served of them, as it comes.
fn send(
    layer: &RateLimitRetryLayer,
    server: &Server,
    calls: usize,
) -> mpsc::UnboundedReceiver<Answer> {
    let (sender, receiver) = mpsc::unbounded_channel();
    for id in 0..calls {
        let (sender, service) = (sender.clone(), layer.layer(server.service()));
        tokio::spawn(async move {
            let answer = service.oneshot(request(id)).await.unwrap();
            drop(sender.send(answer));
        });
    }
    receiver
}

/// Sends so many at once, and reads each answer as it comes; how long that takes.
async fn read_all(layer: &RateLimitRetryLayer, server: &Server, calls: usize) -> Duration {
    let began = Instant::now();
    let mut answers = send(layer, server, calls);
    let mut readers = Vec::new();
    while let Some(answer) = answers.recv().await {
        readers.push(tokio::spawn(answer.into_body().collect()));
    }
    for reader in readers {
        drop(reader.await);
    }
    began.elapsed()
}

/// A layer that has learned how many places there are, and the answers that hold all of them while
/// so many other calls wait.
async fn full(
    server: &Server,
    waiting: usize,
) -> (
    RateLimitRetryLayer,
    Vec<Answer>,
    mpsc::UnboundedReceiver<Answer>,
) {
    fastrand::seed(1);
    let layer = RateLimitRetryLayer::new();
    read_all(&layer, server, 100).await;
    let mut receiver = send(&layer, server, PLACES + waiting);
    let mut answers = Vec::new();
    while answers.len() < PLACES {
        answers.push(receiver.recv().await.unwrap());
    }
    (layer, answers, receiver)
}
