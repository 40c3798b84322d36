//! Mistakes that limiters make, each with a server that shows it.
//!
//! The servers say exactly when they would admit, so the ideal is known: the time that a client
//! needs which is told all of it. The margins are ratios of that.

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;
use simulation::{
    Fields, Hints, Limit, RetryAfter,
    limit::{All, Ban, Concurrency, FixedWindow, Outage, SlidingLog, TokenBucket, Unit, Unlimited},
};
use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    num::NonZeroU32,
    ops::Range,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_rate_limit_retry::{RateLimitRetryLayer, ReplayBody};

const SECOND: Duration = Duration::from_secs(1);

/// RFC 9110 knows whole seconds only.
const SECONDS: Hints = Hints {
    retry_after: Some(RetryAfter::Seconds(1.0)),
    ..NOTHING
};
const NOTHING: Hints = Hints {
    retry_after: None,
    fields: None,
    reset: simulation::Reset::Full,
    clock: None,
};

/// What a request asks of the simulated server.
#[derive(Clone, Copy, Debug, Default)]
struct Asks {
    tokens: u32,
    /// How long the server works on it, where that is not what it usually takes.
    work: Option<Duration>,
}

/// One limit at the end of a network on which requests overtake each other.
#[derive(Clone)]
struct Server {
    door: Arc<Mutex<Door>>,
    /// One way, and the work, in milliseconds.
    network: Range<u64>,
    work: Range<u64>,
}

struct Door {
    limit: Box<dyn Limit>,
    hints: Hints,
    sent: u32,
    refused: u32,
    served: u32,
}

impl Server {
    /// A round trip takes about 80 ms, and the work 20.
    fn new(limit: impl Limit + 'static, hints: Hints) -> Self {
        let door = Door {
            limit: Box::new(limit),
            hints,
            sent: 0,
            refused: 0,
            served: 0,
        };
        Self {
            door: Arc::new(Mutex::new(door)),
            network: 25..55,
            work: 20..21,
        }
    }

    fn network(self, network: Range<u64>) -> Self {
        Self { network, ..self }
    }

    fn work(self, work: Range<u64>) -> Self {
        Self { work, ..self }
    }

    async fn answer(self, asks: Asks) -> Response<Full<Bytes>> {
        let millis = |range: Range<u64>| Duration::from_millis(fastrand::u64(range));
        let (there, back) = (millis(self.network.clone()), millis(self.network));
        let work = asks.work.unwrap_or_else(|| millis(self.work));
        sleep(there).await;
        let (is_admitted, headers) = self.door.lock().unwrap().admit(asks.tokens);
        if is_admitted {
            sleep(work).await;
            let mut door = self.door.lock().unwrap();
            door.limit.leave();
            door.served += 1;
        }
        sleep(back).await;
        let mut response = Response::default();
        *response.headers_mut() = headers;
        if !is_admitted {
            *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        }
        response
    }

    fn counts(&self) -> Counts {
        let door = self.door.lock().unwrap();
        Counts {
            sent: door.sent,
            refused: door.refused,
            served: door.served,
        }
    }

    /// A service of this server behind a layer of its own.
    fn client(
        &self,
    ) -> impl Service<
        Request<Full<Bytes>>,
        Error = Infallible,
        Response = Response<impl Sized + Send + 'static>,
        Future: Send,
    > + Clone
    + Send
    + 'static {
        let server = self.clone();
        let inner = service_fn(move |request: Request<ReplayBody<Full<Bytes>>>| {
            let asks = request
                .extensions()
                .get::<Asks>()
                .copied()
                .unwrap_or_default();
            let answer = server.clone().answer(asks);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        RateLimitRetryLayer::new().layer(inner)
    }
}

impl Door {
    fn admit(&mut self, tokens: u32) -> (bool, HeaderMap) {
        let now = Instant::now();
        let is_admitted = self.limit.admit(tokens, now);
        self.sent += 1;
        self.refused += u32::from(!is_admitted);
        let refused = (!is_admitted).then_some(tokens);
        (is_admitted, self.hints.headers(&*self.limit, refused, now))
    }
}

#[derive(Clone, Copy, Debug)]
struct Counts {
    sent: u32,
    refused: u32,
    served: u32,
}

impl Counts {
    fn since(self, before: Self) -> Self {
        Self {
            sent: self.sent - before.sent,
            refused: self.refused - before.refused,
            served: self.served - before.served,
        }
    }
}

/// Several weathers: the same test has the same outcome.
const SEEDS: Range<u64> = 1..4;

fn request(key: &str, asks: Asks) -> Request<Full<Bytes>> {
    Request::get("http://api.example.com/v1")
        .header("authorization", format!("Bearer {key}"))
        .extension(asks)
        .body(Full::default())
        .unwrap()
}

/// Sends so many at once, which are all served; how long the last of them took.
async fn race(server: &Server, requests: u32) -> Duration {
    let requests = vec![Asks::default(); requests as usize];
    race_through(server.client(), requests).await
}

async fn race_through<C, B>(client: C, requests: Vec<Asks>) -> Duration
where
    C: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible>,
    C: Clone + Send + 'static,
    C::Future: Send,
    B: Send + 'static,
{
    let began = Instant::now();
    let call = |asks| tokio::spawn(client.clone().oneshot(request("key", asks)));
    for answer in join_all(requests.into_iter().map(call)).await {
        assert_eq!(answer.unwrap().unwrap().status(), 200);
    }
    began.elapsed()
}

/// Within so many times the ideal time, and so many sent for each that was served.
#[track_caller]
fn assert_near(took: Duration, ideal: Duration, counts: Counts, most: (f64, f64)) {
    let times = took.as_secs_f64() / ideal.as_secs_f64();
    let sent = f64::from(counts.sent) / f64::from(counts.served);
    assert!(
        times <= most.0 && sent <= most.1,
        "x{times:.3}, {sent:.3} sent: {took:?} of {ideal:?}, {counts:?}"
    );
}

fn per_minute(units: u32) -> NonZeroU32 {
    NonZeroU32::new(units).unwrap()
}

fn bucket(burst: u32, a_minute: u32) -> TokenBucket {
    TokenBucket::new(Unit::Requests, burst, per_minute(a_minute), Instant::now())
}

/// All that a bucket has at once, then one after another; and one round trip.
fn bucket_ideal(requests: u32, burst: u32, a_minute: u32) -> Duration {
    (60 * SECOND * (requests - burst)) / a_minute + Duration::from_millis(100)
}

// What was met in a prototype.

#[tokio::test(start_paused = true)]
async fn the_refusals_of_one_burst_are_one_event() {
    for seed in SEEDS {
        fastrand::seed(seed);
        let server = Server::new(bucket(20, 600), SECONDS);
        let took = race(&server, 500).await;
        let ideal = bucket_ideal(500, 20, 600);
        assert_near(took, ideal, server.counts(), (1.03, 1.08));
    }
}

/// One-way delays differ by more than the time between two.
#[tokio::test(start_paused = true)]
async fn a_network_that_scrambles_does_not_blur_the_rate() {
    for seed in SEEDS {
        fastrand::seed(seed);
        let server = Server::new(bucket(60, 360), SECONDS).network(10..210);
        let took = race(&server, 400).await;
        let ideal = bucket_ideal(400, 60, 360) + SECOND / 5;
        assert_near(took, ideal, server.counts(), (1.03, 1.16));
    }
}

/// Twenty windows: an error of a tenth of a second in each would be two seconds in the end.
#[tokio::test(start_paused = true)]
async fn windows_are_used_up_one_after_another_without_drift() {
    for seed in SEEDS {
        fastrand::seed(seed);
        let window = FixedWindow::new(Unit::Requests, 60, 10 * SECOND, Instant::now());
        let server = Server::new(window, SECONDS);
        let took = race(&server, 1_200).await;
        assert_near(took, 190 * SECOND, server.counts(), (1.03, 1.05));
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_not_learned_as_a_rate() {
    for seed in SEEDS {
        fastrand::seed(seed);
        let now = Instant::now();
        let (begin, end) = (now + 20 * SECOND, now + 50 * SECOND);
        let outage = Outage::new(bucket(20, 600), begin, end, 5 * SECOND);
        let server = Server::new(outage, SECONDS);
        let took = race(&server, 800).await;
        // 220 are served before it. The last wait that the server names may end five seconds after
        // it; the bucket is full then. So this is the slowest that its hints allow, and nothing is lost
        // beside that but some round trips.
        let slowest = 55 * SECOND + bucket_ideal(800 - 220, 20, 600);
        assert_near(took, slowest, server.counts(), (1.005, 1.035));
    }
}

/// Each attempt comes later than the one before, by up to half of it again: the one after the end of
/// the outage comes up to ten seconds late.
#[tokio::test(start_paused = true)]
async fn an_outage_without_hints_is_not_learned_as_a_rate() {
    for seed in SEEDS {
        fastrand::seed(seed);
        let now = Instant::now();
        let (begin, end) = (now + 20 * SECOND, now + 50 * SECOND);
        let outage = Outage::new(bucket(20, 600), begin, end, 5 * SECOND);
        let server = Server::new(outage, NOTHING);
        let took = race(&server, 800).await;
        let slowest = 60 * SECOND + bucket_ideal(800 - 220, 20, 600);
        assert_near(took, slowest, server.counts(), (1.05, 1.10));
    }
}

/// Half of what the limit allows, for a minute, and then all at once.
#[tokio::test(start_paused = true)]
async fn what_was_admitted_one_by_one_is_no_burst() {
    for seed in SEEDS {
        fastrand::seed(seed);
        let server = Server::new(bucket(20, 600), SECONDS);
        let client = server.client();
        for _ in 0..300 {
            let call = client.clone().oneshot(request("key", Asks::default()));
            drop(tokio::spawn(call));
            sleep(SECOND / 5).await;
        }
        let before = server.counts();
        assert_eq!((before.sent, before.refused), (300, 0));
        let took = race_through(client, vec![Asks::default(); 300]).await;
        let ideal = bucket_ideal(300, 20, 600);
        assert_near(took, ideal, server.counts().since(before), (1.05, 1.15));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_overtakes_its_siblings_does_not_promise_what_they_took() {
    for seed in SEEDS {
        fastrand::seed(seed);
        let server = Server::new(bucket(60, 600), Hints::OPENAI).network(10..130);
        let took = race(&server, 600).await;
        let ideal = bucket_ideal(600, 60, 600);
        assert_near(took, ideal, server.counts(), (1.01, 1.01));
    }
}

#[tokio::test(start_paused = true)]
async fn each_of_ten_thousand_is_woken_for_itself_and_not_for_all_others() {
    fastrand::seed(1);
    let server = Server::new(bucket(1_000, 60_000), SECONDS);
    let client = server.client();
    let polls = Arc::new(AtomicU32::new(0));
    let calls = (0..10_000).map(|_| {
        let (client, polls) = (client.clone(), Arc::clone(&polls));
        tokio::spawn(async move {
            let mut call = pin!(client.oneshot(request("key", Asks::default())));
            poll_fn(|cx| {
                polls.fetch_add(1, Relaxed);
                call.as_mut().poll(cx)
            })
            .await
        })
    });
    for answer in join_all(calls).await {
        assert_eq!(answer.unwrap().unwrap().status(), 200);
    }
    // It comes, is woken for its turn, travels there, is worked on, and travels back; few have to
    // do that twice, and some look in vain.
    let polls = f64::from(polls.load(Relaxed)) / 10_000.0;
    assert!(polls <= 8.0, "{polls} polls of each");
}

/// Who asks during a ban makes it longer, so that one who asked for each that waits would never be
/// served again. The bucket runs over in a ban of more than two seconds: what the first burst has
/// overshot by is lost, second by second.
#[tokio::test(start_paused = true)]
async fn retries_do_not_pass_the_gate_and_a_ban_comes_to_an_end() {
    for seed in SEEDS {
        fastrand::seed(seed);
        let ban = Ban::new(bucket(20, 600), SECOND, SECOND);
        let server = Server::new(ban, SECONDS);
        let took = race(&server, 1_000).await;
        let ideal = bucket_ideal(1_000, 20, 600);
        assert_near(took, ideal, server.counts(), (1.35, 1.03));
    }
}

#[tokio::test(start_paused = true)]
async fn no_two_calls_back_off_alike() {
    let mut waits = Vec::new();
    let layer = RateLimitRetryLayer::new();
    for key in 0..100 {
        let attempts = Arc::new(AtomicU32::new(0));
        let client = layer.layer(service_fn(move |_: Request<ReplayBody<Full<Bytes>>>| {
            let mut response = Response::new(Full::<Bytes>::default());
            if attempts.fetch_add(1, Relaxed) == 0 {
                *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            }
            async move { Ok::<_, Infallible>(response) }
        }));
        let began = Instant::now();
        let call = client.oneshot(request(&key.to_string(), Asks::default()));
        assert_eq!(call.await.unwrap().status(), 200);
        waits.push(began.elapsed().as_millis());
    }
    // Half a second, a quarter of it at random, and the millisecond of the timer.
    assert!(
        waits.iter().all(|wait| (500..=626).contains(wait)),
        "{waits:?}"
    );
    waits.sort_unstable();
    waits.dedup();
    // Of 125 milliseconds a hundred draws meet 69 on the average.
    assert!(waits.len() >= 50, "{waits:?}");
}

// Where the prototype broke.

#[tokio::test(start_paused = true)]
async fn where_there_is_no_limit_caution_costs_nothing() {
    for seed in SEEDS {
        fastrand::seed(seed);
        let server = Server::new(Unlimited, NOTHING);
        let work: Vec<_> = (0..1_000)
            .map(|_| Duration::from_millis(fastrand::u64(2_000..10_000)))
            .collect();
        let ideal = *work.iter().max().unwrap() + SECOND / 10;
        let asks = work.into_iter().map(|work| Asks {
            work: Some(work),
            ..Asks::default()
        });
        let took = race_through(server.client(), asks.collect()).await;
        assert_near(took, ideal, server.counts(), (1.08, 1.0));
    }
}

/// It is refused again and again, and each of its first tries stops everybody until the backoff is
/// over: of thirty seconds some six, a fifth. What is under way then is refused as well: of 400 some
/// fifty.
#[tokio::test(start_paused = true)]
async fn an_impossible_request_at_the_head_does_not_block_the_others() {
    for seed in SEEDS {
        fastrand::seed(seed);
        let tokens = TokenBucket::new(Unit::Tokens, 1_000, per_minute(6_000), Instant::now());
        let server = Server::new(tokens, SECONDS);
        let client = server.client();
        let impossible = Asks {
            tokens: 5_000,
            work: None,
        };
        let impossible = client.clone().oneshot(request("key", impossible));
        let impossible = tokio::spawn(impossible);
        sleep(SECOND / 10).await;
        let small = Asks {
            tokens: 10,
            work: None,
        };
        let took = race_through(client, vec![small; 400]).await;
        // A hundred at once, and ten a second.
        let ideal = bucket_ideal(400, 100, 600);
        assert_near(took, ideal, server.counts(), (1.21, 1.15));
        let answer = timeout(3_600 * SECOND, impossible).await.unwrap();
        assert_eq!(answer.unwrap().unwrap().status(), 429);
    }
}

#[tokio::test(start_paused = true)]
async fn who_gave_up_in_flight_is_not_waited_for() {
    for seed in SEEDS {
        fastrand::seed(seed);
        let server = Server::new(bucket(20, 600), SECONDS);
        let client = server.client();
        let endless = Asks {
            tokens: 0,
            work: Some(3_600 * SECOND),
        };
        let hopeless = |_| {
            let call = client.clone().oneshot(request("key", endless));
            tokio::spawn(timeout(SECOND, call))
        };
        let hopeless: Vec<_> = (0..10).map(hopeless).collect();
        sleep(SECOND / 10).await;
        let took = race_through(client, vec![Asks::default(); 290]).await;
        let ideal = bucket_ideal(300, 20, 600);
        assert_near(took, ideal, server.counts(), (1.06, 1.15));
        for call in hopeless {
            assert!(call.await.unwrap().is_err(), "it gave up");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_late_answer_delays_nobody_else() {
    for seed in SEEDS {
        fastrand::seed(seed);
        let server = Server::new(bucket(20, 600), SECONDS);
        let client = server.client();
        let late = Asks {
            tokens: 0,
            work: Some(600 * SECOND),
        };
        let late = tokio::spawn(client.clone().oneshot(request("key", late)));
        let took = race_through(client, vec![Asks::default(); 299]).await;
        let ideal = bucket_ideal(300, 20, 600);
        assert_near(took, ideal, server.counts(), (1.06, 1.12));
        assert_eq!(late.await.unwrap().unwrap().status(), 200);
    }
}

/// Retry-After is rounded up to a second, so that who asked for each anew would need two for one,
/// and up to a second more for each.
#[tokio::test(start_paused = true)]
async fn one_in_several_seconds_is_met() {
    for seed in SEEDS {
        for (burst, a_minute) in [(1, 8), (1, 20), (2, 4), (5, 10)] {
            fastrand::seed(seed);
            let server = Server::new(bucket(burst, a_minute), SECONDS);
            let took = race(&server, 60).await;
            let ideal = bucket_ideal(60, burst, a_minute);
            assert_near(took, ideal, server.counts(), (1.2, 1.45));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn so_many_at_a_time_and_so_many_a_second_are_both_met() {
    for seed in SEEDS {
        fastrand::seed(seed);
        let both: Vec<Box<dyn Limit>> =
            vec![Box::new(Concurrency::new(10)), Box::new(bucket(20, 600))];
        let server = Server::new(All::new(both), SECONDS).work(400..600);
        let took = race(&server, 600).await;
        let ideal = bucket_ideal(600, 20, 600) + SECOND / 2;
        assert_near(took, ideal, server.counts(), (1.12, 1.07));
    }
}

/// Each place is idle for a round trip between two, for nobody can know that one has left.
#[tokio::test(start_paused = true)]
async fn so_many_at_a_time_are_kept_busy() {
    for seed in SEEDS {
        fastrand::seed(seed);
        let server = Server::new(Concurrency::new(10), NOTHING).work(200..800);
        let took = race(&server, 600).await;
        let ideal = (SECOND / 2 + SECOND * 8 / 100) * 60;
        assert_near(took, ideal, server.counts(), (1.25, 1.10));
    }
}

/// A burst of which one was served and all others refused has shown no depth but that of one. Each
/// refusal costs a second, in which ten could be served.
#[tokio::test(start_paused = true)]
async fn one_at_a_time_is_no_rate() {
    for seed in SEEDS {
        fastrand::seed(seed);
        let a_second = Some(RetryAfter::Constant(1));
        let hints = Hints {
            retry_after: a_second,
            ..NOTHING
        };
        let server = Server::new(Concurrency::new(1), hints)
            .network(10..20)
            .work(10..12);
        let took = race(&server, 1_000).await;
        // A thousand times two ways of 15 ms each and 11 ms of work, one after another.
        let ideal = 41 * SECOND;
        assert_near(took, ideal, server.counts(), (1.25, 1.02));
    }
}

/// Each is refused by the luck of the other, and takes that for a rate. If it tries a higher one while a
/// request of its own is in flight, that is refused each time: both go slower and slower, beside a
/// place that is free.
#[tokio::test(start_paused = true)]
async fn one_place_that_two_share_is_not_left_to_nobody() {
    for seed in SEEDS {
        fastrand::seed(seed);
        let hints = Hints {
            retry_after: Some(RetryAfter::Constant(1)),
            ..NOTHING
        };
        let server = Server::new(Concurrency::new(1), hints)
            .network(5..10)
            .work(50..60);
        let clients = [(); 2].map(|()| {
            let requests = vec![Asks::default(); 500];
            tokio::spawn(race_through(server.client(), requests))
        });
        let mut took = Duration::ZERO;
        for client in clients {
            took = took.max(client.await.unwrap());
        }
        // A thousand times two ways of 7.5 ms each and 55 ms of work, one after another.
        let ideal = 70 * SECOND;
        assert_near(took, ideal, server.counts(), (5.0, 1.1));
    }
}

/// Before an answer tells when a window ends some others have passed.
#[tokio::test(start_paused = true)]
async fn a_service_slower_than_a_window_is_not_waited_for() {
    for seed in SEEDS {
        for fields in [Fields::Structured, Fields::Seconds] {
            fastrand::seed(seed);
            let window = FixedWindow::new(Unit::Requests, 10, 2 * SECOND, Instant::now());
            let fields = Some(fields);
            let server = Server::new(window, Hints { fields, ..NOTHING }).work(4_000..8_000);
            let took = race(&server, 300).await;
            assert_near(took, 66 * SECOND, server.counts(), (1.3, 1.08));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reset_opens_the_next_window_in_time() {
    for seed in SEEDS {
        for fields in [Fields::Structured, Fields::Seconds] {
            fastrand::seed(seed);
            let window = FixedWindow::new(Unit::Requests, 60, 10 * SECOND, Instant::now());
            let fields = Some(fields);
            let server = Server::new(window, Hints { fields, ..NOTHING });
            let took = race(&server, 600).await;
            assert_near(took, 90 * SECOND, server.counts(), (1.05, 1.08));
        }
    }
}

/// An even pace needs one length more than bursts at its ends do: that is the ideal here.
#[tokio::test(start_paused = true)]
async fn a_log_that_slides_is_no_bucket() {
    for seed in SEEDS {
        for hints in [SECONDS, NOTHING] {
            fastrand::seed(seed);
            let server = Server::new(SlidingLog::new(60, 10 * SECOND), hints);
            let took = race(&server, 600).await;
            assert_near(took, 100 * SECOND, server.counts(), (1.08, 1.40));
        }
    }
}

/// To wait for a second whenever ten of a second are used up would take nearly twice as long.
#[tokio::test(start_paused = true)]
async fn so_many_in_a_second_go_evenly() {
    for seed in SEEDS {
        for (limit, seconds) in [(10, 1), (100, 1), (20, 2)] {
            fastrand::seed(seed);
            let server = Server::new(SlidingLog::new(limit, seconds * SECOND), SECONDS);
            let took = race(&server, 60 * limit / seconds).await;
            assert_near(took, 60 * SECOND, server.counts(), (1.45, 1.07));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_keys_do_not_pause_each_other() {
    fastrand::seed(1);
    let small = Server::new(bucket(1, 1), SECONDS);
    let large = Server::new(Unlimited, NOTHING);
    let doors = [small.clone(), large.clone()];
    let client = RateLimitRetryLayer::new().layer(service_fn(
        move |request: Request<ReplayBody<Full<Bytes>>>| {
            let is_large = request.headers()["authorization"] == "Bearer large";
            let door = doors[usize::from(is_large)].clone();
            async move { Ok::<_, Infallible>(door.answer(Asks::default()).await) }
        },
    ));
    let call = |key| client.clone().oneshot(request(key, Asks::default()));
    let waiting: Vec<_> = (0..5).map(|_| tokio::spawn(call("small"))).collect();
    sleep(SECOND).await;
    assert_eq!(small.counts().served, 1);
    assert!(
        small.counts().refused > 0,
        "the small one is closed for a minute"
    );
    let began = Instant::now();
    for _ in 0..100 {
        assert_eq!(call("large").await.unwrap().status(), 200);
    }
    // The longest round trip is 130 ms.
    assert!(began.elapsed() <= 13 * SECOND, "{:?}", began.elapsed());
    assert_eq!((large.counts().sent, large.counts().refused), (100, 0));
    waiting.iter().for_each(JoinHandle::abort);
}

/// Four fifths of the rate, at random: the bucket never runs empty, unless it is asked to.
#[tokio::test(start_paused = true)]
async fn under_a_light_load_hardly_anybody_is_banned() {
    for seed in SEEDS {
        fastrand::seed(seed);
        let ban = Ban::new(bucket(20, 600), 10 * SECOND, 2 * SECOND);
        let server = Server::new(ban, SECONDS);
        let client = server.client();
        let began = Instant::now();
        let mut calls = Vec::new();
        for _ in 0..800 {
            let call = client.clone().oneshot(request("key", Asks::default()));
            calls.push(tokio::spawn(call));
            sleep(Duration::from_millis(fastrand::u64(0..250))).await;
        }
        let ideal = began.elapsed() + SECOND / 10;
        for answer in join_all(calls).await {
            assert_eq!(answer.unwrap().unwrap().status(), 200);
        }
        assert_near(began.elapsed(), ideal, server.counts(), (1.02, 1.005));
    }
}
