//! Where the user says what the limits are, nothing is refused and hardly any time is lost, whatever
//! the server's kind is and however unevenly requests arrive.

mod support;

use bytes::Bytes;
use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use http::{Request, Response};
use http_body_util::Full;
use simulation::Bucket;
use std::{
    collections::VecDeque,
    convert::Infallible,
    num::{NonZero, NonZeroU32, NonZeroU64},
    sync::{Arc, Mutex},
    time::Duration,
};
use support::{Server, call, ms, ok, read, refuse, request};
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_rate_limit_retry::{
    Partition, Quota, RateLimitRetryLayer, ReplayBody, RequestOptions, RetryReport, StopReason,
};

const SPAN: Duration = Duration::from_secs(10);

#[tokio::test(start_paused = true)]
async fn of_a_token_bucket() {
    let quota = Quota::requests(count(10)).per_second().burst(count(20));
    let ideal = Duration::from_secs(98);
    for seed in 0..5 {
        let bucket = || TokenBucket::new(600, 20);
        assert_ideal(send(Box::new(bucket()), quota, 1_000, seed).await, ideal);
        assert_ideal(send(banning(bucket()), quota, 16, seed).await, ideal);
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_fixed_window() {
    let ideal = 16 * SPAN;
    for seed in 0..5 {
        let window = FixedWindow::default;
        assert_ideal(
            send(Box::new(window()), sixty_per_span(), 1_000, seed).await,
            ideal,
        );
        assert_ideal(
            send(banning(window()), sixty_per_span(), 1_000, seed).await,
            ideal,
        );
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_fixed_window_wherever_it_begins() {
    for seed in 0..20 {
        let window = FixedWindow {
            phase: Duration::from_millis(seed * 20 + 9_750),
            ..FixedWindow::default()
        };
        send(banning(window), sixty_per_span(), 1_000, seed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_sliding_log() {
    let ideal = 16 * SPAN;
    for seed in 0..5 {
        let log = SlidingLog::default;
        assert_ideal(
            send(Box::new(log()), sixty_per_span(), 1_000, seed).await,
            ideal,
        );
        assert_ideal(
            send(banning(log()), sixty_per_span(), 1_000, seed).await,
            ideal,
        );
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_server_of_unknown_kind() {
    // Behind a bucket, no window is needed; what that costs is said in the documentation.
    for seed in 0..5 {
        let bucket = banning(TokenBucket::new(360, 60));
        let took = send(bucket, sixty_per_span(), 1_000, seed).await;
        assert_ideal(took, 16 * SPAN);
    }
}

#[tokio::test(start_paused = true)]
async fn the_strictest_of_several_holds() {
    let layer = RateLimitRetryLayer::new()
        .quota(Quota::requests(count(2)).per_second())
        .quota(Quota::requests(count(3)).per(SPAN));
    let server = Server::new(|_| ok());
    send_all(&layer, &server, (0..5).map(request)).await;
    assert_eq!(server.times(), [0, 0, 1_001, 10_001, 10_001]);
}

#[tokio::test(start_paused = true)]
async fn each_partition_has_an_account_of_its_own() {
    let layer = RateLimitRetryLayer::new().quota(Quota::requests(count(1)).per(SPAN));
    let server = Server::new(|_| ok());
    let of_partition = |id: usize| {
        let partition = Partition::new(["a", "b"][id % 2]);
        with(id, RequestOptions::new().partition(partition))
    };
    send_all(&layer, &server, (0..4).map(of_partition)).await;
    assert_eq!(server.times(), [0, 0, 10_001, 10_001]);
}

#[tokio::test(start_paused = true)]
async fn tokens_are_counted_from_the_first_request_on() {
    let layer = RateLimitRetryLayer::new().quota(Quota::tokens(count(1_000)).per(SPAN));
    let server = Server::new(|_| ok());
    let asking_for = |id: usize| {
        let mut request = request(id);
        *request.body_mut() = Full::from(r#"{"max_tokens":400}"#);
        request
    };
    send_all(&layer, &server, (0..5).map(asking_for)).await;
    assert_eq!(server.times(), [0, 0, 10_001, 10_001, 20_002]);
}

#[tokio::test(start_paused = true)]
async fn what_is_larger_than_the_limit_goes_on_its_turn_and_costs_what_is_left() {
    let layer = RateLimitRetryLayer::new().quota(Quota::tokens(count(1_000)).per(SPAN));
    let server = Server::new(|_| ok());
    let requests = [600, 5_000, 300, 1_000].into_iter().enumerate();
    let requests = requests.map(|(id, tokens)| with(id, RequestOptions::new().tokens(tokens)));
    send_all(&layer, &server, requests).await;
    assert_eq!(server.ids(), [0, 1, 2, 3]);
    assert_eq!(server.times(), [0, 0, 10_001, 20_002]);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_what_is_larger_than_the_limit_is_given_back_and_holds_back_nobody() {
    let layer = RateLimitRetryLayer::new().quota(Quota::tokens(count(1_000)).per(SPAN));
    let server = Server::new(|sent| if sent.id == 0 { refuse("60") } else { ok() });
    let large = with(0, RequestOptions::new().tokens(1_001));
    let answer = layer.layer(server.clone()).oneshot(large).await.unwrap();
    assert_eq!(reason(&answer), Some(StopReason::NotRetryable));
    let small = with(1, RequestOptions::new().tokens(0));
    send_all(&layer, &server, [small]).await;
    assert_eq!(server.times(), [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_in_spite_of_it_leaves_nothing_in_the_bucket() {
    let quota = Quota::requests(count(10)).per_second().burst(count(20));
    let server = Server::new(|sent| if sent.index == 0 { refuse("1") } else { ok() });
    let layer = RateLimitRetryLayer::new().quota(quota);
    let first = tokio::spawn(layer.layer(server.clone()).oneshot(request(0)));
    sleep(ms(500)).await;
    send_all(&layer, &server, (1..15).map(request)).await;
    first.await.unwrap().unwrap();
    // Ten have flowed in during the pause.
    let expected = [
        1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 1_001, 1_101, 1_201, 1_301,
        1_401, 1_501,
    ];
    assert_eq!(server.times()[1..], expected);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_in_spite_of_it_opens_a_window_by_degrees() {
    let quota = Quota::requests(count(16)).per(SPAN);
    let server = Server::new(|sent| if sent.index == 0 { refuse("2") } else { ok() });
    let layer = RateLimitRetryLayer::new().quota(quota);
    let first = tokio::spawn(layer.layer(server.clone()).oneshot(request(0)));
    sleep(ms(500)).await;
    send_all(&layer, &server, (1..6).map(request)).await;
    first.await.unwrap().unwrap();
    // Fifteen by others, in eight parts of the eight seconds that are left of the span.
    assert_eq!(
        server.times(),
        [0, 2_001, 2_001, 3_001, 3_001, 4_001, 4_001]
    );
}

#[tokio::test(start_paused = true)]
async fn a_refusal_does_not_use_up_a_day() {
    let quota = Quota::requests(count(100)).per_day();
    let server = Server::new(|sent| if sent.index == 0 { refuse("1") } else { ok() });
    let layer = RateLimitRetryLayer::new().quota(quota);
    send_all(&layer, &server, [request(0)]).await;
    send_all(&layer, &server, (0..50).map(request)).await;
    assert!(server.times()[51] <= 1_600, "{:?}", server.times());
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_costs_no_tokens() {
    let thousand = Quota::tokens(count(1_000)).per_hour();
    for quota in [thousand, thousand.burst(count(1_000))] {
        let server = Server::new(|sent| match sent.index {
            0 => refuse("1"),
            1 => refuse("2")
                .header("x-ratelimit-limit-tokens", "1000")
                .header("x-ratelimit-remaining-tokens", "10"),
            _ => ok(),
        });
        let layer = RateLimitRetryLayer::new().quota(quota);
        send_all(
            &layer,
            &server,
            [with(0, RequestOptions::new().tokens(600))],
        )
        .await;
        assert_eq!(server.times(), [0, 1_000, 3_000], "{quota:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_for_good_costs_no_tokens() {
    let thousand = Quota::tokens(count(1_000)).per_hour();
    for quota in [thousand, thousand.burst(count(1_000))] {
        let server = Server::new(|sent| match sent.index {
            0 => refuse("1").header("x-should-retry", "false"),
            _ => ok(),
        });
        let layer = RateLimitRetryLayer::new().quota(quota);
        let service = layer.layer(server.clone());
        for status in [429, 200] {
            let all = RequestOptions::new().tokens(1_000);
            let answer = service.clone().oneshot(with(0, all)).await.unwrap();
            assert_eq!(answer.status(), status);
        }
        assert_eq!(server.times(), [0, 0], "{quota:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_late_counts_from_then_on() {
    let server = Server::new(|sent| {
        if sent.id == 100 {
            ok().after(ms(100))
        } else {
            ok()
        }
    });
    let service = ServiceBuilder::new()
        .layer(RateLimitRetryLayer::new().quota(Quota::requests(count(1)).per_second()))
        .concurrency_limit(1)
        .service(server.clone());
    let calls: Vec<_> = (0..3)
        .map(|id| tokio::spawn(service.clone().oneshot(request(id))))
        .collect();
    sleep(ms(950)).await;
    // Has the permit when the second's turn comes.
    let elsewhere = RequestOptions::new().partition(Partition::new("elsewhere"));
    service.oneshot(with(100, elsewhere)).await.unwrap();
    join_all(calls).await;
    assert_eq!(server.times(), [0, 950, 1_050, 2_051]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_sent_does_not_count() {
    let one = Quota::requests(count(1)).per(SPAN);
    for (quota, opens_at) in [(one, 10_001), (one.burst(count(1)), 10_000)] {
        let server = Server::new(|_| ok());
        let layer = RateLimitRetryLayer::new().quota(quota);
        let mut service = layer.layer(server.clone());
        send_all(&layer, &server, [request(0)]).await;
        // Is admitted, and not polled: after 100 ms that lapses.
        let mut held = call(&mut service, request(1)).await;
        assert!(support::poll_once(&mut held).await.is_pending());
        send_all(&layer, &server, [request(2)]).await;
        assert_eq!(
            (server.ids(), server.times()),
            (vec![0, 2], vec![0, opens_at + 100])
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_that_cannot_be_reached_in_time_is_not_taken() {
    let server = Server::new(|_| ok());
    let layer = RateLimitRetryLayer::new()
        .deadline(Duration::from_secs(15))
        .quota(sixty_per_span());
    let began = Instant::now();
    let calls = (0..150).map(|id| {
        let call = layer.layer(server.clone()).oneshot(request(id));
        async move { (reason(&call.await.unwrap()), began.elapsed()) }
    });
    let ends = join_all(calls).await;
    let turned_away = (Some(StopReason::Deadline), Duration::ZERO);
    let turned_away = ends.into_iter().filter(|end| *end == turned_away);
    assert_eq!((server.log().len(), turned_away.count()), (120, 30));
}

#[tokio::test(start_paused = true)]
async fn when_a_day_is_used_up_calls_are_told_so() {
    let server = Server::new(|_| ok());
    let layer = RateLimitRetryLayer::new().quota(Quota::requests(count(2)).per_day());
    send_all(&layer, &server, (0..2).map(request)).await;
    let answer = layer
        .layer(server.clone())
        .oneshot(request(2))
        .await
        .unwrap();
    assert_eq!(reason(&answer), Some(StopReason::MaxDelay));
    assert_eq!(answer.headers()["retry-after"], "86401");
    let (_, body) = read(answer).await;
    assert!(body.contains(r#""held-by":"declared requests""#), "{body}");
    assert_eq!(server.ids(), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn no_time_at_all_is_no_limit() {
    let server = Server::new(|_| ok());
    let one = Quota::requests(count(1)).per(Duration::ZERO);
    let layer = RateLimitRetryLayer::new()
        .quota(one)
        .quota(one.burst(count(1)));
    send_all(&layer, &server, (0..100).map(request)).await;
    assert_eq!(server.times(), [0; 100]);
}

/// How a server counts; `now` is the time since it was started. A refusal says how long to wait.
trait Rule: Send {
    fn admit(&mut self, now: Duration) -> Result<(), Duration>;
}

/// 60 in each window, and windows begin at multiples of ten seconds, or so much earlier.
#[derive(Default)]
struct FixedWindow {
    phase: Duration,
    window: u128,
    admitted: u32,
}

impl Rule for FixedWindow {
    fn admit(&mut self, now: Duration) -> Result<(), Duration> {
        let now = (now + self.phase).as_nanos();
        let window = now / SPAN.as_nanos();
        if window != self.window {
            (self.window, self.admitted) = (window, 0);
        }
        if self.admitted == 60 {
            let left = (window + 1) * SPAN.as_nanos() - now;
            return Err(Duration::from_nanos(left.try_into().unwrap()));
        }
        self.admitted += 1;
        Ok(())
    }
}

/// 60 in any ten seconds.
#[derive(Default)]
struct SlidingLog(VecDeque<Duration>);

impl Rule for SlidingLog {
    fn admit(&mut self, now: Duration) -> Result<(), Duration> {
        self.0.retain(|&at| at + SPAN > now);
        if self.0.len() == 60 {
            return Err((self.0[0] + SPAN).saturating_sub(now));
        }
        self.0.push_back(now);
        Ok(())
    }
}

/// A bucket, full at first.
struct TokenBucket {
    began: Instant,
    bucket: Bucket,
}

impl TokenBucket {
    fn new(per_minute: u32, burst: u32) -> Self {
        let began = Instant::now();
        let per_minute = NonZeroU32::new(per_minute).unwrap();
        let bucket = Bucket::new(burst, per_minute, began);
        Self { began, bucket }
    }
}

impl Rule for TokenBucket {
    fn admit(&mut self, now: Duration) -> Result<(), Duration> {
        let now = self.began + now;
        if self.bucket.try_take(1, now) {
            return Ok(());
        }
        Err(self.bucket.time_until(1, now).unwrap())
    }
}

/// Punishes each refusal, and each request in the time of that, with a minute without any service.
struct Banning<R> {
    rule: R,
    until: Duration,
}

impl<R: Rule> Rule for Banning<R> {
    fn admit(&mut self, now: Duration) -> Result<(), Duration> {
        if now >= self.until && self.rule.admit(now).is_ok() {
            return Ok(());
        }
        let ban = Duration::from_secs(60);
        self.until = now + ban;
        Err(ban)
    }
}

fn banning(rule: impl Rule + 'static) -> Box<dyn Rule> {
    let until = Duration::ZERO;
    Box::new(Banning { rule, until })
}

fn with(id: usize, options: RequestOptions) -> Request<Full<Bytes>> {
    let mut request = request(id);
    request.extensions_mut().insert(options);
    request
}

fn reason(answer: &support::Answer) -> Option<StopReason> {
    answer.extensions().get::<RetryReport>()?.stop_reason()
}

/// Sends all at once, and waits until all are served.
async fn send_all(
    layer: &RateLimitRetryLayer,
    server: &Server,
    requests: impl IntoIterator<Item = Request<Full<Bytes>>>,
) {
    let calls = requests
        .into_iter()
        .map(|request| layer.layer(server.clone()).oneshot(request));
    for answer in join_all(calls).await {
        assert_eq!(answer.unwrap().status(), 200);
    }
}

fn count(count: u64) -> NonZeroU64 {
    NonZero::new(count).unwrap()
}

fn sixty_per_span() -> Quota {
    Quota::requests(count(60)).per(SPAN)
}

/// One way: its median is 40 ms, and its logarithm has a deviation of 0.25.
fn latency() -> Duration {
    let (radius, angle) = (fastrand::f64(), fastrand::f64() * std::f64::consts::TAU);
    let normal = (-2.0 * (1.0 - radius).ln()).sqrt() * angle.cos();
    Duration::from_millis(40).mul_f64((0.25 * normal).exp())
}

/// Sends a thousand requests at once, so many of them at a time, and asserts that none is refused.
/// Gives the time that it took.
async fn send(rule: Box<dyn Rule>, quota: Quota, at_a_time: usize, seed: u64) -> Duration {
    fastrand::seed(seed);
    let began = Instant::now();
    let server = Arc::new(Mutex::new((rule, 0_u32, 0_u32)));
    let counts = Arc::clone(&server);
    let inner = service_fn(move |_: Request<ReplayBody<Full<Bytes>>>| {
        let server = Arc::clone(&server);
        async move {
            sleep(latency()).await;
            let answer = {
                let (rule, sent, refused) = &mut *server.lock().unwrap();
                let answer = rule.admit(began.elapsed());
                *sent += 1;
                *refused += u32::from(answer.is_err());
                answer
            };
            let mut response = Response::new(Full::<Bytes>::default());
            match answer {
                Ok(()) => sleep(ms(20)).await,
                Err(wait) => {
                    *response.status_mut() = http::StatusCode::TOO_MANY_REQUESTS;
                    let seconds = wait.as_secs_f64().ceil().to_string();
                    let headers = response.headers_mut();
                    headers.insert("retry-after", seconds.parse().unwrap());
                }
            }
            sleep(latency()).await;
            Ok::<_, Infallible>(response)
        }
    });
    let service = ServiceBuilder::new()
        .layer(RateLimitRetryLayer::new().quota(quota))
        .concurrency_limit(at_a_time)
        .service(inner);
    let calls: FuturesUnordered<_> = (0..1_000)
        .map(|id| service.clone().oneshot(request(id)))
        .collect();
    calls
        .for_each(|answer| async move { assert_eq!(answer.unwrap().status(), 200) })
        .await;
    let (_, sent, refused) = &*counts.lock().unwrap();
    assert_eq!(
        (*sent, *refused),
        (1_000, 0),
        "sent and refused, seed {seed}"
    );
    began.elapsed()
}

/// At most a hundredth longer than the limit makes it.
fn assert_ideal(took: Duration, ideal: Duration) {
    let most = ideal.mul_f64(1.01);
    assert!(took <= most, "{took:?}, where {ideal:?} would do");
    println!("{took:?}, where {ideal:?} would do");
}
