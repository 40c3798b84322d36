//! A day in virtual time: a hundred tasks call one after the other, every minute something else goes
//! wrong, and each hour all is quiet for a while. Then nothing is counted any longer, and no memory is
//! held that was not held before.
//!
//! `SOAK_HOURS` says how many hours it takes, and `SOAK_SEED` which day it is.

use allocation_counter::measure;
use bytes::Bytes;
use futures_util::{StreamExt, future::join_all, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use simulation::{
    Fields, Hints, Limit, RetryAfter,
    limit::{Concurrency, FixedWindow, SlidingLog, TokenBucket, Unit},
};
use std::{
    convert::Infallible,
    env,
    future::{Future, poll_fn},
    num::{NonZeroU32, NonZeroU64},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tower::{Layer, Service, ServiceExt};
use tower_rate_limit_retry::{
    Attempt, Partition, Quota, RateLimitRetryLayer, ReplayBody, RequestOptions, RetryReport,
};

const HOURS: u64 = 2;
const TASKS: u64 = 100;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// After each hour nobody calls for so long.
const QUIET: Duration = Duration::from_secs(1_800);

/// So many partitions are used all the time; each minute there is another one besides.
const LASTING: u64 = 4;
const MAX_PARTITIONS: usize = 32;

/// A refusal of a later attempt may be put down to the request itself, where others are served.
const MAX_PROBES: u32 = 3;

/// What is held after the first hour may differ by this from what is held after each later one: the
/// room in collections that grow and shrink by chance, but not three bytes of each call.
const SLACK_BYTES: u64 = 32 * 1024;

/// What goes wrong in a minute, in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Nothing,
    /// The server refuses all for a third of the minute.
    Refusals,
    /// Every connection breaks in a third of the minute.
    Outage,
    /// Others have used up all quotas.
    Reset,
    /// Bodies do not end.
    StalledBodies,
    /// Heads do not come.
    StalledHeads,
    /// Callers give up at any time.
    Cancelled,
    /// Futures are not polled for a while.
    Unpolled,
    /// The service takes its time to be ready.
    Unready,
}

impl Fault {
    const ALL: [Self; 9] = [
        Self::Nothing,
        Self::Refusals,
        Self::Outage,
        Self::Reset,
        Self::StalledBodies,
        Self::StalledHeads,
        Self::Cancelled,
        Self::Unpolled,
        Self::Unready,
    ];

    fn at(elapsed: Duration) -> Self {
        let minute = elapsed.as_secs() / MINUTE.as_secs();
        Self::ALL[minute as usize % Self::ALL.len()]
    }
}

#[test]
fn a_day_of_faults_leaves_nothing_behind() {
    let number = |name, otherwise| {
        let set = env::var(name).ok();
        set.map_or(otherwise, |set| set.parse().expect("a number"))
    };
    let (hours, seed) = (number("SOAK_HOURS", HOURS), number("SOAK_SEED", 1));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime that needs nothing of the system");
    fastrand::seed(seed);
    let soak = runtime.block_on(async { Soak::new() });
    // Since the end of the first hour.
    let mut grown = 0;
    for hour in 1..=hours {
        let seed = seed * 1_000_000 + hour * 1_000;
        let held = measure(|| runtime.block_on(soak.hour(seed)));
        if hour > 1 {
            grown += held.bytes_current;
            assert!(
                grown.unsigned_abs() <= SLACK_BYTES,
                "{grown} bytes more in hour {hour}"
            );
        }
        println!(
            "hour {hour}: {} bytes, {:?}",
            held.bytes_current,
            soak.told()
        );
    }
}

/// What is the same for the whole day.
struct Soak {
    layer: RateLimitRetryLayer,
    world: Arc<World>,
}

impl Soak {
    fn new() -> Self {
        let declared = NonZeroU64::new(400).expect("at least one");
        Self {
            layer: RateLimitRetryLayer::new()
                .deadline(MINUTE)
                .max_partitions(MAX_PARTITIONS)
                .quota(Quota::requests(declared).per_minute()),
            world: Arc::new(World::new()),
        }
    }

    /// All call for an hour; then nobody does, and nothing is counted any longer.
    async fn hour(&self, seed: u64) {
        let service = self.layer.layer(Server::new(&self.world));
        let ends_at = Instant::now() + HOUR;
        let tasks = (0..TASKS).map(|task| {
            let caller = Caller {
                service: service.clone(),
                world: Arc::clone(&self.world),
                rng: fastrand::Rng::with_seed(seed + task),
            };
            tokio::spawn(caller.call_until(ends_at))
        });
        for ended in join_all(tasks.collect::<Vec<_>>()).await {
            ended.expect("no task panics");
        }
        sleep(QUIET).await;
        let snapshot = self.layer.limits().snapshot();
        assert!(snapshot.partitions().len() <= MAX_PARTITIONS);
        for partition in snapshot.partitions() {
            let counts = (
                partition.waiting(),
                partition.admitted(),
                partition.in_flight(),
            );
            assert_eq!(counts, (0, 0, 0), "{partition:?}");
        }
        let (totals, told) = (snapshot.totals(), *self.world.told.lock().unwrap());
        assert_eq!((totals.calls(), totals.attempts()), (told.calls, told.sent));
    }

    /// What has happened so far.
    fn told(&self) -> Told {
        *self.world.told.lock().unwrap()
    }
}

#[derive(Clone, Copy, Debug, Default)]
#[allow(dead_code, reason = "they are printed")]
struct Told {
    calls: u64,
    sent: u64,
    served: u64,
    refused: u64,
    broken: u64,
    given_up: u64,
    retried: u64,
}

/// The servers, one for each partition, and what goes wrong with them.
struct World {
    began: Instant,
    limits: Mutex<Vec<(Box<dyn Limit>, Hints)>>,
    /// Until when the refusals that were heard have closed each partition.
    closed_until: Mutex<[Instant; LASTING as usize]>,
    told: Mutex<Told>,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let refuses = Hints {
            retry_after: Some(RetryAfter::Seconds(1.0)),
            ..Hints::default()
        };
        let window = Hints {
            fields: Some(Fields::Structured),
            ..refuses
        };
        let per_minute = NonZeroU32::new(100).expect("at least one");
        let limits: Vec<(Box<dyn Limit>, Hints)> = vec![
            (
                Box::new(TokenBucket::new(Unit::Requests, 20, per_minute, now)),
                Hints::OPENAI,
            ),
            (
                Box::new(FixedWindow::new(Unit::Requests, 100, MINUTE, now)),
                window,
            ),
            (Box::new(SlidingLog::new(20, MINUTE / 5)), refuses),
            (Box::new(Concurrency::new(3)), Hints::default()),
        ];
        assert_eq!(limits.len() as u64, LASTING);
        Self {
            began: now,
            limits: Mutex::new(limits),
            closed_until: Mutex::new([now; LASTING as usize]),
            told: Mutex::default(),
        }
    }

    fn fault(&self) -> Fault {
        Fault::at(self.began.elapsed())
    }

    /// Whether this is the third of the minute in which faults are there that come and go.
    fn is_bad(&self) -> bool {
        self.began.elapsed().as_secs() % MINUTE.as_secs() < MINUTE.as_secs() / 3
    }

    fn tell(&self, tell: impl FnOnce(&mut Told)) {
        tell(&mut self.told.lock().unwrap());
    }

    /// What the server says to a request that arrives now: the head of its answer.
    fn answer(&self, place: Place) -> Response<()> {
        let (now, mut response) = (Instant::now(), Response::new(()));
        let Some(lasting) = place.0 else {
            return response;
        };
        let (limit, hints) = &mut self.limits.lock().unwrap()[lasting];
        if self.fault() == Fault::Reset && self.is_bad() {
            while limit.admit(0, now) {}
        }
        let admitted = limit.admit(0, now);
        *response.headers_mut() = hints.headers(&**limit, (!admitted).then_some(0), now);
        if !admitted {
            *response.status_mut() = http::StatusCode::TOO_MANY_REQUESTS;
        }
        if self.fault() == Fault::Refusals && self.is_bad() {
            *response.status_mut() = http::StatusCode::TOO_MANY_REQUESTS;
            let headers = response.headers_mut();
            headers.clear();
            headers.insert("retry-after", 5.into());
        }
        response
    }

    /// The server is done with a request.
    fn leave(&self, place: Place) {
        if let Some(lasting) = place.0 {
            self.limits.lock().unwrap()[lasting].0.leave();
        }
    }
}

/// Which of the lasting partitions, if it is one, a request belongs to; in its extensions.
#[derive(Clone, Copy, Debug)]
struct Place(Option<usize>);

/// A request at the server, until it is answered or dropped.
struct Work {
    world: Arc<World>,
    place: Place,
}

impl Drop for Work {
    fn drop(&mut self) {
        self.world.leave(self.place);
    }
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

#[derive(Debug)]
struct Broken;

/// The inner service; each clone has to become ready.
struct Server {
    world: Arc<World>,
    timer: Option<Pin<Box<Sleep>>>,
    is_ready: bool,
}

impl Server {
    fn new(world: &Arc<World>) -> Self {
        Self {
            world: Arc::clone(world),
            timer: None,
            is_ready: false,
        }
    }
}

impl Clone for Server {
    fn clone(&self) -> Self {
        Self::new(&self.world)
    }
}

impl Service<Request<ReplayBody<Full<Bytes>>>> for Server {
    type Response = Response<Body>;
    type Error = Broken;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Broken>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        if self.world.fault() == Fault::Unready && !self.is_ready {
            let time = Duration::from_millis(fastrand::u64(0..300));
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(time)));
            ready!(timer.as_mut().poll(cx));
        }
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReplayBody<Full<Bytes>>>) -> Self::Future {
        assert!(std::mem::take(&mut self.is_ready), "it was not ready");
        self.timer = None;
        let Some(&place) = request.extensions().get::<Place>() else {
            panic!("the extensions of a request are those of the call");
        };
        let attempt = request.extensions().get::<Attempt>();
        let attempt = attempt.map_or(1, |attempt| attempt.number());
        let world = Arc::clone(&self.world);
        world.tell(|told| told.sent += 1);
        if let Some(lasting) = place.0 {
            let closed_until = world.closed_until.lock().unwrap()[lasting];
            assert!(closed_until <= Instant::now(), "sent inside a pause");
        }
        Box::pin(async move {
            sleep(Duration::from_millis(fastrand::u64(5..20))).await;
            let fault = world.fault();
            if fault == Fault::Outage && world.is_bad() {
                world.tell(|told| told.broken += 1);
                return Err(Broken);
            }
            let head = world.answer(place);
            if head.status().is_success() {
                let _work = Work {
                    world: Arc::clone(&world),
                    place,
                };
                let stalls = fault == Fault::StalledHeads && fastrand::u8(..) < 50;
                let time = if stalls {
                    30_000
                } else {
                    fastrand::u64(50..500)
                };
                sleep(Duration::from_millis(time)).await;
                world.tell(|told| told.served += 1);
            } else {
                world.tell(|told| told.refused += 1);
                // One that is refused again and again may be told to wait alone.
                if attempt <= MAX_PROBES {
                    world.close(place, &head);
                }
            }
            let stalls = fault == Fault::StalledBodies && fastrand::u8(..) < 100;
            let body = if stalls { stalled() } else { whole() };
            Ok(head.map(|()| body))
        })
    }
}

impl World {
    /// The layer is told to wait.
    fn close(&self, place: Place, head: &Response<()>) {
        let wait = head.headers().get("retry-after");
        let wait = wait.map(|wait| wait.to_str().unwrap().parse().unwrap());
        if let (Some(lasting), Some(wait)) = (place.0, wait) {
            let until = Instant::now() + Duration::from_secs(wait);
            // Where the milliseconds are told as well they are more exact than the seconds.
            let until = match head.headers().get("retry-after-ms") {
                Some(ms) => {
                    Instant::now() + Duration::from_millis(ms.to_str().unwrap().parse().unwrap())
                }
                None => until,
            };
            let closed_until = &mut self.closed_until.lock().unwrap()[lasting];
            *closed_until = until.max(*closed_until);
        }
    }
}

fn whole() -> Body {
    Full::from("answered").boxed_unsync()
}

/// Begins and does not end.
fn stalled() -> Body {
    let frame = Ok(Frame::data(Bytes::from_static(b"and so on")));
    let frames = stream::once(async { frame }).chain(stream::pending());
    StreamBody::new(frames).boxed_unsync()
}

/// One of the tasks.
struct Caller {
    service: tower_rate_limit_retry::RateLimitRetry<Server>,
    world: Arc<World>,
    rng: fastrand::Rng,
}

impl Caller {
    async fn call_until(mut self, ends_at: Instant) {
        loop {
            let pause = Duration::from_millis(self.rng.u64(5_000..25_000));
            if Instant::now() + pause > ends_at {
                return;
            }
            sleep(pause).await;
            self.call().await;
        }
    }

    async fn call(&mut self) {
        let request = self.request();
        let service = self.service.ready().await.unwrap();
        self.world.tell(|told| told.calls += 1);
        let mut calling = Box::pin(service.call(request));
        let fault = self.world.fault();
        if fault == Fault::Unpolled && self.rng.bool() {
            // Polled once, if at all, and then not for a while.
            if self.rng.bool() {
                poll_fn(|cx| {
                    let _ = calling.as_mut().poll(cx);
                    Poll::Ready(())
                })
                .await;
            }
            sleep(Duration::from_millis(self.rng.u64(0..8_000))).await;
        }
        let patience = match fault {
            Fault::Cancelled => self.rng.u64(0..3_000),
            Fault::StalledHeads => self.rng.u64(2_000..40_000),
            _ => 3_600_000,
        };
        let answer = timeout(Duration::from_millis(patience), calling).await;
        let Ok(Ok(answer)) = answer else {
            self.world.tell(|told| told.given_up += 1);
            return;
        };
        if answer.extensions().get::<RetryReport>().is_some() {
            self.world.tell(|told| told.retried += 1);
        }
        // Some do not read, and keep what they have for a while.
        if self.rng.u8(..) < 20 {
            sleep(Duration::from_secs(self.rng.u64(0..60))).await;
            return;
        }
        let body = timeout(Duration::from_secs(3), answer.into_body().collect()).await;
        drop(body);
    }

    fn request(&mut self) -> Request<Full<Bytes>> {
        let mut request = Request::post("http://api.example.com/v1")
            .body(Full::from("asked"))
            .unwrap();
        let minute = self.world.began.elapsed().as_secs() / MINUTE.as_secs();
        let (name, place) = match self.rng.u64(0..=LASTING) {
            LASTING => (format!("minute {minute}"), Place(None)),
            lasting => (format!("lasting {lasting}"), Place(Some(lasting as usize))),
        };
        let options = RequestOptions::new().partition(Partition::new(name));
        let head_start = Duration::from_millis(self.rng.u64(0..2_000));
        request
            .extensions_mut()
            .insert(options.head_start(head_start));
        request.extensions_mut().insert(place);
        request
    }
}
