//! Where the server announces a window, its quota is used up and not overdrawn: by one process
//! exactly, and by several that know nothing of each other nearly so.

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use http::{Request, Response};
use http_body_util::Full;
use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::{Instant, sleep};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_rate_limit_retry::{RateLimitRetryLayer, ReplayBody};

/// How the server counts, and what it says of the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Windows at multiples of their length; the reset is rounded up.
    Fixed,
    /// The reset is rounded down.
    RoundsDown,
    /// A window begins with the first request after the last one.
    Lazy,
    /// A request is forgotten after the window's length; the reset is that of the oldest.
    UntilOldest,
    /// The reset is that of the newest.
    UntilNewest,
}

/// A race of processes for a quota.
#[derive(Clone, Copy, Debug)]
struct Race {
    kind: Kind,
    limit: usize,
    window: Duration,
    processes: usize,
    /// Of each process, all at once, and so many under way.
    requests: usize,
    at_a_time: usize,
    /// How long a success takes at the least and at the most.
    service_ms: (u64, u64),
}

const RACE: Race = Race {
    kind: Kind::Fixed,
    limit: 100,
    window: Duration::from_secs(10),
    processes: 1,
    requests: 1_000,
    at_a_time: 64,
    service_ms: (20, 20),
};

/// The ideal is a client that uses each window up at its very beginning.
#[tokio::test(start_paused = true)]
async fn one_process_uses_windows_up_and_does_not_overdraw_them() {
    for kind in [Kind::Fixed, Kind::RoundsDown, Kind::Lazy] {
        for seed in 1..=5 {
            let outcome = Race { kind, ..RACE }.run(seed).await;
            assert!(outcome.time <= 1.03, "{kind:?} {seed}: {outcome:?}");
            // Those who round down say that a window ends a second before it does.
            assert!(outcome.refused <= 10, "{kind:?} {seed}: {outcome:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn windows_that_slide_are_kept_to() {
    for kind in [Kind::UntilOldest, Kind::UntilNewest] {
        for seed in 1..=5 {
            let outcome = Race { kind, ..RACE }.run(seed).await;
            assert!(outcome.time <= 1.25, "{kind:?} {seed}: {outcome:?}");
            assert!(outcome.sent <= 1.1, "{kind:?} {seed}: {outcome:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn processes_that_know_nothing_of_each_other_share_a_window() {
    for seeds in [1..=5, 6..=10] {
        let mut outcomes = Vec::new();
        for seed in seeds {
            let race = Race {
                processes: 4,
                requests: 250,
                at_a_time: 250,
                ..RACE
            };
            outcomes.push(race.run(seed).await);
        }
        let median = |measure: fn(&Outcome) -> f64| {
            let mut measured: Vec<_> = outcomes.iter().map(measure).collect();
            measured.sort_by(f64::total_cmp);
            measured[measured.len() / 2]
        };
        let (time, sent) = (median(|o| o.time), median(|o| o.sent));
        assert!(time <= 1.03 && sent <= 1.05, "x{time}, {sent} sent");
    }
}

struct Server {
    race: Race,
    began: Instant,
    /// When those that count were served.
    counted: VecDeque<Duration>,
    served: usize,
    refused: usize,
    last: Duration,
}

impl Server {
    fn new(race: Race) -> Self {
        Self {
            race,
            began: Instant::now(),
            counted: VecDeque::new(),
            served: 0,
            refused: 0,
            last: Duration::ZERO,
        }
    }

    /// How long ago a request may have been served that counts.
    fn forget(&mut self, age: Duration) {
        let window = self.race.window;
        let since = match self.race.kind {
            Kind::Fixed | Kind::RoundsDown => {
                window * (age.as_millis() / window.as_millis()) as u32
            }
            Kind::Lazy => match self.counted.front() {
                Some(&first) if first + window > age => first,
                _ => age,
            },
            Kind::UntilOldest | Kind::UntilNewest => {
                (age + Duration::from_nanos(1)).saturating_sub(window)
            }
        };
        self.counted.retain(|&served| served >= since);
    }

    fn reset(&self, age: Duration) -> u128 {
        let window = self.race.window;
        let until = |served: Option<&Duration>| {
            served.map_or(window, |&served| (served + window).saturating_sub(age))
        };
        let left = match self.race.kind {
            Kind::Fixed | Kind::RoundsDown => {
                (window * (age.as_millis() / window.as_millis() + 1) as u32).saturating_sub(age)
            }
            Kind::Lazy | Kind::UntilOldest => until(self.counted.front()),
            Kind::UntilNewest => until(self.counted.back()),
        };
        match self.race.kind {
            Kind::RoundsDown => left.as_nanos() / 1_000_000_000,
            _ => left.as_nanos().div_ceil(1_000_000_000),
        }
    }

    fn answer(&mut self) -> Response<Full<Bytes>> {
        let age = self.began.elapsed();
        self.forget(age);
        let is_open = self.counted.len() < self.race.limit;
        if is_open {
            self.counted.push_back(age);
            self.served += 1;
        } else {
            self.refused += 1;
        }
        let limit = self.race.limit;
        let remaining = limit - self.counted.len();
        let reset = self.reset(age);
        let window = self.race.window.as_secs();
        let response = Response::builder()
            .header(
                "ratelimit-policy",
                format!(r#""default";q={limit};w={window}"#),
            )
            .header("ratelimit", format!(r#""default";r={remaining};t={reset}"#));
        let response = if is_open {
            response
        } else {
            response
                .status(429)
                .header("retry-after", reset.to_string())
        };
        response.body(Full::default()).unwrap()
    }
}

/// One way of a request or of an answer: lognormal, with a median of 40 ms.
fn latency() -> Duration {
    let radius = (-2.0 * (1.0 - fastrand::f64()).ln()).sqrt();
    let normal = radius * (std::f64::consts::TAU * fastrand::f64()).cos();
    Duration::from_millis(40).mul_f64((0.5 * normal).exp())
}

/// One process, with a layer of its own.
async fn process(server: Arc<Mutex<Server>>, race: Race) {
    let inner = service_fn(move |_: Request<ReplayBody<Full<Bytes>>>| {
        let server = Arc::clone(&server);
        async move {
            sleep(latency()).await;
            let response = server.lock().unwrap().answer();
            let is_served = response.status().is_success();
            if is_served {
                sleep(Duration::from_millis(fastrand::u64(
                    race.service_ms.0..=race.service_ms.1,
                )))
                .await;
            }
            sleep(latency()).await;
            let mut server = server.lock().unwrap();
            if is_served {
                server.last = server.began.elapsed();
            }
            Ok::<_, Infallible>(response)
        }
    });
    let service = ServiceBuilder::new()
        .layer(RateLimitRetryLayer::new())
        .concurrency_limit(race.at_a_time)
        .service(inner);
    let request = || Request::get("http://localhost/").body(Full::<Bytes>::default());
    let calls: FuturesUnordered<_> = (0..race.requests)
        .map(|_| service.clone().oneshot(request().unwrap()))
        .collect();
    calls
        .for_each(|answer| async move { assert_eq!(answer.unwrap().status(), 200) })
        .await;
}

/// How long it took, of the ideal; how many requests were sent for each success.
#[derive(Debug)]
struct Outcome {
    time: f64,
    sent: f64,
    refused: usize,
}

impl Race {
    async fn run(self, seed: u64) -> Outcome {
        fastrand::seed(seed);
        let server = Arc::new(Mutex::new(Server::new(self)));
        let all: FuturesUnordered<_> = (0..self.processes)
            .map(|_| process(Arc::clone(&server), self))
            .collect();
        all.collect::<Vec<()>>().await;
        let server = server.lock().unwrap();
        let windows = (server.served as u32).div_ceil(self.limit as u32) - 1;
        let ideal = self.window * windows;
        Outcome {
            time: server.last.as_secs_f64() / ideal.as_secs_f64(),
            sent: (server.served + server.refused) as f64 / server.served as f64,
            refused: server.refused,
        }
    }
}
