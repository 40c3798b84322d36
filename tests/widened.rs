//! What is retried beside refusals: responses and errors that the user calls failures.

mod support;

use bytes::Bytes;
use futures_util::{FutureExt, future::join_all, stream};
use http::{Method, Request, Response, response::Parts};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use std::{
    array,
    convert::Infallible,
    num::NonZero,
    sync::{Arc, Mutex},
};
use support::{
    Answer, AnswerBody, Body, Reply, Server, call, ms, ok, read, refuse, request, status,
};
use tokio::time::{Instant, advance, timeout};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn, util::MapResult};
use tower_rate_limit_retry::{
    Attempt, Identity, Partition, Quota, RateLimitRetryLayer, ReplayBody, RequestOptions, RetryFn,
    RetryReport, StopReason,
};

/// A body of which nothing is known before it is read.
type Frames = StreamBody<stream::Iter<array::IntoIter<Result<Frame<Bytes>, Infallible>, 3>>>;

type AnyError = RetryFn<fn(&Broken) -> bool>;

/// What a server answers that is to be an error instead.
const BROKEN: &str = "x-broken";

/// An error of the inner service, and which request it was of.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Broken(usize);

#[tokio::test(start_paused = true)]
async fn nothing_is_widened_by_default() {
    let server = Server::new(|_| status(502));
    let answer = ask(&server, &RateLimitRetryLayer::new(), get(0)).await;
    assert!(report(&answer).is_none());
    assert_eq!(read(answer).await, (502, "ok".into()));
    assert_eq!(server.times(), [0]);

    let server = Server::new(|_| broken());
    let service = RateLimitRetryLayer::new().layer(failing(&server));
    assert_eq!(service.oneshot(get(0)).await.unwrap_err(), Broken(0));
    assert_eq!(server.times(), [0]);
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_named_is_retried_after_a_backoff() {
    let server = first(3, || status(502));
    let answer = ask(&server, &gateway(), get(0)).await;
    let times = server.times();
    let delays: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (delay, least) in delays.iter().zip([500, 750, 1_125]) {
        assert!((least..=least * 5 / 4 + 1).contains(delay), "{delays:?}");
    }
    let attempts: Vec<_> = server.log().iter().map(|sent| sent.attempt).collect();
    assert_eq!(attempts, [1, 2, 3, 4]);
    let report = report(&answer).unwrap();
    assert_eq!((report.attempts(), report.stop_reason()), (4, None));
    assert_eq!(report.waited().as_millis(), times[3]);
    assert_eq!(read(answer).await, (200, "ok".into()));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_named_is_untouched() {
    for code in [200, 302, 400, 404, 500, 501] {
        let server = Server::new(move |_| status(code));
        let answer = ask(&server, &gateway(), get(0)).await;
        assert!(report(&answer).is_none());
        assert_eq!(read(answer).await, (code, "ok".into()));
        assert_eq!(server.times(), [0]);
    }
    let server = Server::new(|_| broken());
    let layer = RateLimitRetryLayer::new().retry_error(|error: &Broken| error.0 > 0);
    let answer = layer.layer(failing(&server)).oneshot(get(0)).await;
    assert_eq!(answer.unwrap_err(), Broken(0));
    assert_eq!(server.times(), [0]);
}

#[tokio::test(start_paused = true)]
async fn work_that_may_be_done_already_is_not_done_twice() {
    let began = Instant::now();
    let server = Server::new(|_| status(502).endless());
    let answer = ask(&server, &gateway(), request(0)).await;
    assert_eq!(stop_reason(&answer), Some(StopReason::NotIdempotent));
    assert_eq!(answer.status(), 502);
    assert_eq!(began.elapsed(), ms(0), "not even its body is waited for");
    assert_eq!(server.log().len(), 1);

    let server = Server::new(|_| broken());
    let service = any_error().layer(failing(&server));
    assert_eq!(service.oneshot(request(0)).await.unwrap_err(), Broken(0));
    assert_eq!(server.log().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn work_with_a_key_is_known_to_be_the_same() {
    let keyed = || {
        let mut request = request(0);
        let headers = request.headers_mut();
        headers.insert("idempotency-key", "k".parse().unwrap());
        request
    };
    let server = first(1, || status(502));
    let answer = ask(&server, &gateway(), keyed()).await;
    assert_eq!((answer.status().as_u16(), server.log().len()), (200, 2));

    let server = first(1, broken);
    let service = any_error().layer(failing(&server));
    let answer = service.oneshot(keyed()).await.unwrap();
    assert_eq!((answer.status().as_u16(), server.log().len()), (200, 2));
}

#[tokio::test(start_paused = true)]
async fn an_error_that_is_named_is_retried() {
    let server = first(2, broken);
    let service = any_error().layer(failing(&server));
    let answer = service.oneshot(get(0)).await.unwrap();
    let report = report(&answer).unwrap();
    assert_eq!((report.attempts(), report.stop_reason()), (3, None));
    let times = server.times();
    assert_eq!(report.waited().as_millis(), times[2]);
    assert!((500..=626).contains(&times[1]), "{times:?}");
    assert!((750..=939).contains(&(times[2] - times[1])), "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn an_error_for_ever_ends_with_the_last_of_them() {
    let server = Server::new(|_| broken());
    let service = any_error().max_retries(7).layer(failing(&server));
    assert_eq!(service.oneshot(get(0)).await.unwrap_err(), Broken(7));
    assert_eq!(server.log().len(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_broken_server_is_sent_a_fifth_more_and_the_minimum() {
    let began = Instant::now();
    let server = Server::new(|_| status(502));
    let service = gateway().layer(server.clone());
    let calls = (0..200).map(|id| service.clone().oneshot(get(id)));
    let answers = join_all(calls).await;
    let reasons: Vec<_> = answers
        .iter()
        .map(|answer| stop_reason(answer.as_ref().unwrap()))
        .collect();
    let spent = Some(StopReason::RetryBudget);
    assert!(reasons.contains(&spent));
    let sent = server.log().len() as f64;
    let most = 200.0 * 1.2 + 100.0 + 10.0 * began.elapsed().as_secs_f64();
    assert!(sent <= most, "{sent} of {most}");
    assert!(sent > 300.0, "and the budget is used: {sent}");
}

#[tokio::test(start_paused = true)]
async fn errors_and_responses_are_paid_for_out_of_one_budget() {
    let server = Server::new(|sent| match sent.index % 2 {
        0 => status(502),
        _ => broken(),
    });
    let layer = gateway().retry_error(|_: &Broken| true);
    let service = layer.max_retries(1).layer(failing(&server));
    let mut tries = Vec::new();
    for id in 0..302 {
        let before = server.log().len();
        // Without a wait of its own no call is later than the one before it.
        let mut call = Box::pin(service.clone().oneshot(get(id)));
        let at_once = support::poll_once(&mut call).await.is_ready();
        tries.push((server.log().len() - before, at_once));
    }
    let granted = tries.iter().filter(|(_, at_once)| !at_once).count();
    assert_eq!(tries.iter().map(|(sent, _)| sent).sum::<usize>(), 302);
    assert_eq!(granted, 100 + 302 / 5);
}

#[tokio::test(start_paused = true)]
async fn each_partition_has_a_budget_of_its_own() {
    let of = |partition| {
        let options = RequestOptions::new().partition(Partition::new(partition));
        let mut request = get(0);
        request.extensions_mut().insert(options);
        request
    };
    let server = Server::new(|_| broken());
    let service = any_error().layer(failing(&server));
    let mut backing_off = Vec::new();
    loop {
        let mut call = Box::pin(service.clone().oneshot(of("one")));
        if support::poll_once(&mut call).await.is_ready() {
            break;
        }
        backing_off.push(call);
    }
    // Each deposits before it withdraws: n = 100 + n / 5.
    assert_eq!(backing_off.len(), 125);
    let mut other = Box::pin(service.oneshot(of("two")));
    assert!(support::poll_once(&mut other).await.is_pending());
}

#[tokio::test(start_paused = true)]
async fn nobody_else_is_held_back() {
    let server = Server::new(|sent| match (sent.id, sent.attempt) {
        (0, 1) => status(503).header("content-type", "text/html"),
        (1, 1) => broken(),
        _ => ok(),
    });
    let layer = any_error().retry_if(|head| head.status == 503);
    let mut service = layer.layer(failing(&server));
    let mut failed = Vec::new();
    for id in [0, 1] {
        let mut call = call(&mut service, get(id)).await;
        assert!(support::poll_once(&mut call).await.is_pending());
        failed.push(call);
    }
    for id in 2..6 {
        let answer = call(&mut service, request(id)).await;
        let answer = answer.now_or_never().expect("at once").unwrap();
        assert!(report(&answer).is_none());
    }
    join_all(failed).await;
    let ids = server.ids();
    assert_eq!(ids[..6], [0, 1, 2, 3, 4, 5]);
    assert_eq!(ids.len(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_is_the_least_that_is_waited() {
    for (retry_after, least, most) in [("0", 500, 626), ("3", 3_000, 3_000)] {
        let server = first(1, move || status(502).header("retry-after", retry_after));
        ask(&server, &gateway(), get(0)).await;
        let waited = server.times()[1];
        assert!((least..=most).contains(&waited), "{waited}");
    }
    let server = first(1, || status(502).header("retry-after", "301"));
    let answer = ask(&server, &gateway(), get(0)).await;
    assert_eq!(stop_reason(&answer), Some(StopReason::MaxDelay));
    assert_eq!(server.times(), [0]);
}

#[tokio::test(start_paused = true)]
async fn no_attempt_starts_after_the_deadline() {
    for (deadline, sent, reason) in [
        (ms(3_000), 1, Some(StopReason::Deadline)),
        (ms(3_001), 2, None),
    ] {
        let began = Instant::now();
        let server = first(1, || status(502).header("retry-after", "3"));
        let answer = ask(&server, &gateway().deadline(deadline), get(0)).await;
        assert_eq!(stop_reason(&answer), reason);
        assert_eq!(server.log().len(), sent);
        assert!(began.elapsed() < deadline);
    }
    let began = Instant::now();
    let server = Server::new(|_| broken());
    let layer = any_error().deadline(ms(5_000));
    let error = layer.layer(failing(&server)).oneshot(get(0)).await;
    assert_eq!(error.unwrap_err(), Broken(server.log().len() - 1));
    assert!(server.log().len() > 3 && began.elapsed() < ms(5_000));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_held_while_a_call_backs_off() {
    let server = Server::new(|sent| match (sent.id, sent.attempt) {
        (0, 1) => status(502),
        (1, 1) => broken(),
        (2, 1) => status(502).endless(),
        _ => ok(),
    });
    let mut service = ServiceBuilder::new()
        .layer(gateway().retry_error(|_: &Broken| true))
        .concurrency_limit(1)
        .service(failing(&server));
    let mut failed = Vec::new();
    for id in 0..3 {
        let mut call = call(&mut service, get(id)).await;
        assert!(support::poll_once(&mut call).await.is_pending());
        failed.push(call);
        let ready = timeout(ms(0), service.ready()).await;
        ready.expect("the permit is free").unwrap();
    }
    // What was asked for readiness has the permit.
    drop(service);
    advance(ms(250)).await;
    assert!(support::poll_once(&mut failed[2]).await.is_pending());
    let answers = join_all(failed).await;
    assert!(
        answers
            .iter()
            .all(|answer| answer.as_ref().unwrap().status() == 200)
    );
}

#[tokio::test(start_paused = true)]
async fn every_attempt_sends_the_same_body() {
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&bodies);
    let service = service_fn(move |request: Request<ReplayBody<Frames>>| {
        let seen = Arc::clone(&seen);
        async move {
            let attempt = request.extensions().get::<Attempt>().copied();
            if attempt.is_some_and(|attempt| attempt.number() == 2) {
                // Fails before it has read anything.
                return Err(Broken(2));
            }
            let bytes = request.into_body().collect().await.unwrap().to_bytes();
            let mut seen = seen.lock().unwrap();
            seen.push(bytes);
            match seen.len() {
                1 => Ok(response(502)),
                2 => Err(Broken(3)),
                3 => Ok(response(504)),
                _ => Ok(response(200)),
            }
        }
    });
    let request = Request::put("http://api.example.com/v1").body(frames());
    let layer = gateway().retry_error(|_: &Broken| true);
    let answer = layer
        .layer(service)
        .oneshot(request.unwrap())
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(*bodies.lock().unwrap(), ["one, two, three"; 4]);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_not_kept_is_sent_once() {
    let put = || {
        let mut request = get(0);
        *request.method_mut() = Method::PUT;
        *request.body_mut() = Full::from("hello");
        request.map(|body| body.map_frame(|frame| frame))
    };
    let consume = |answer: fn() -> Result<Response<Body>, Broken>| {
        service_fn(move |request: Request<ReplayBody<_>>| async move {
            request.into_body().collect().await.unwrap();
            answer()
        })
    };
    let layer = any_error()
        .retry_if(|head| head.status == 502)
        .max_replay(4);
    let answer = layer.layer(consume(|| Ok(response(502)))).oneshot(put());
    let answer = answer.await.unwrap();
    let reason = answer
        .extensions()
        .get::<RetryReport>()
        .unwrap()
        .stop_reason();
    assert_eq!(reason, Some(StopReason::BodyNotReplayable));
    let error = layer.layer(consume(|| Err(Broken(7)))).oneshot(put()).await;
    assert_eq!(error.unwrap_err(), Broken(7));
}

#[tokio::test(start_paused = true)]
async fn refusals_in_between_keep_their_own_rules() {
    let server = Server::new(|sent| match sent.index {
        0 | 2 => status(502),
        1 => refuse("7"),
        _ => ok(),
    });
    let answer = ask(&server, &gateway(), get(0)).await;
    assert_eq!(report(&answer).unwrap().attempts(), 4);
    let times = server.times();
    assert_eq!(times[2] - times[1], 7_000);
    assert!((750..=939).contains(&(times[3] - times[2])), "{times:?}");

    // Of any method, as a refusal says that nothing was done.
    let server = Server::new(|sent| match sent.index {
        0 => refuse("7"),
        _ => status(502),
    });
    let answer = ask(&server, &gateway(), request(0)).await;
    assert_eq!(server.times(), [0, 7_000]);
    assert_eq!(stop_reason(&answer), Some(StopReason::NotIdempotent));
    assert_eq!(report(&answer).unwrap().waited(), ms(7_000));

    // One that no wait cures is no failure, whatever is named.
    let server = Server::new(|_| status(429).header("x-should-retry", "false"));
    let layer = RateLimitRetryLayer::new().retry_if(|_| true);
    let answer = ask(&server, &layer, get(0)).await;
    assert_eq!(stop_reason(&answer), Some(StopReason::NotRetryable));
    assert_eq!(server.times(), [0]);
}

#[tokio::test(start_paused = true)]
async fn retries_of_both_kinds_are_counted_together() {
    let server = Server::new(|sent| {
        if sent.index == 0 {
            refuse("1")
        } else {
            status(502)
        }
    });
    let answer = ask(&server, &gateway().max_retries(2), get(0)).await;
    assert_eq!(stop_reason(&answer), Some(StopReason::MaxRetries));
    assert_eq!(report(&answer).unwrap().attempts(), 3);
    assert_eq!(read(answer).await, (502, "ok".into()));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_not_to_is_not_asked_again() {
    let server = Server::new(|_| status(502).header("x-should-retry", "false"));
    let answer = ask(&server, &gateway(), get(0)).await;
    assert_eq!(stop_reason(&answer), Some(StopReason::NotRetryable));
    assert_eq!(server.times(), [0]);
}

#[tokio::test(start_paused = true)]
async fn an_error_that_may_prove_to_be_a_limit_is_read_before_it_is_a_failure() {
    let throttled = r#"{"__type": "ThrottlingException"}"#;
    let layer = RateLimitRetryLayer::new().retry_if(|head| head.status == 500);
    let json = |body: &'static str| {
        status(500)
            .header("content-type", "application/json")
            .body(body)
    };

    let server = first(1, move || json(throttled).header("retry-after", "2"));
    ask(&server, &layer, get(0)).await;
    assert_eq!(server.times(), [0, 2_000]);

    let server = first(1, move || json("{}"));
    ask(&server, &layer, get(0)).await;
    assert!((500..=626).contains(&server.times()[1]));

    let server = Server::new(move |_| json("{}"));
    let answer = ask(&server, &layer, request(0)).await;
    assert_eq!(stop_reason(&answer), Some(StopReason::NotIdempotent));
    assert_eq!(read(answer).await, (500, "{}".into()));
}

#[tokio::test(start_paused = true)]
async fn who_cannot_be_sent_again_is_given_the_last_answer() {
    // Another call is refused for longer than anybody waits, while the first backs off.
    let server = Server::new(|sent| match sent.id {
        0 => status(502).body("bad gateway"),
        1 => broken(),
        _ => refuse("301"),
    });
    let layer = gateway().retry_error(|_: &Broken| true);
    let mut service = layer.layer(failing(&server));
    let mut with_response = call(&mut service, get(0)).await;
    let mut with_error = call(&mut service, get(1)).await;
    assert!(support::poll_once(&mut with_response).await.is_pending());
    assert!(support::poll_once(&mut with_error).await.is_pending());
    call(&mut service, get(2)).await.await.unwrap();
    let answer = with_response.await.unwrap();
    assert_eq!(stop_reason(&answer), Some(StopReason::MaxDelay));
    assert!(!report(&answer).unwrap().answered_locally());
    assert_eq!(read(answer).await, (502, "bad gateway".into()));
    assert_eq!(with_error.await.unwrap_err(), Broken(1));
    assert_eq!(server.log().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_while_it_backs_off_leaves_nothing_behind() {
    let server = first(1, broken);
    let mut service = any_error().layer(failing(&server));
    let mut failed = call(&mut service, get(0)).await;
    assert!(support::poll_once(&mut failed).await.is_pending());
    drop(failed);
    let answer = call(&mut service, get(1)).await;
    assert!(answer.now_or_never().expect("at once").is_ok());
    advance(ms(60_000)).await;
    assert_eq!(server.ids(), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_an_inner_layer_is_no_failure() {
    let server = Server::new(|_| ok());
    let quota = Quota::requests(NonZero::<u64>::MIN).per_minute();
    let inner = RateLimitRetryLayer::new().quota(quota).max_delay(ms(0));
    let outer = RateLimitRetryLayer::new().retry_if(|head| head.status == 429);
    let service = outer.layer(inner.layer(server.clone()));
    let began = Instant::now();
    for status in [200, 429] {
        let answer = service.clone().oneshot(get(0)).await.unwrap();
        assert_eq!(answer.status(), status);
    }
    assert_eq!(began.elapsed(), ms(0));
    assert_eq!(server.log().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_success_can_be_named_as_well() {
    let server = first(2, || status(202));
    let layer = RateLimitRetryLayer::new().retry_if(|head| head.status == 202);
    let answer = ask(&server, &layer, get(0)).await;
    assert_eq!((answer.status().as_u16(), server.log().len()), (200, 3));
}

#[tokio::test(start_paused = true)]
async fn the_type_of_an_error_is_named_wherever_the_layer_is_built() {
    let server = first(1, broken);
    let before = RateLimitRetryLayer::new()
        .retry_error(|_: &Broken| true)
        .map_body(|body: ReplayBody<Body>| body);
    let after = RateLimitRetryLayer::new()
        .map_body(|body: ReplayBody<Body>| body)
        .retry_error(Broken::is_any);
    let before = before.layer(failing(&server)).oneshot(get(0)).await;
    let after = after.layer(failing(&server)).oneshot(get(1)).await;
    assert!(before.is_ok() && after.is_ok());
    assert_eq!(server.ids(), [0, 0, 1]);
}

impl From<Infallible> for Broken {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl Broken {
    fn is_any(&self) -> bool {
        self.0 < usize::MAX
    }
}

/// Responses of gateways are failures.
fn gateway() -> RateLimitRetryLayer {
    RateLimitRetryLayer::new().retry_if(|head: &Parts| matches!(head.status.as_u16(), 502..=504))
}

/// All errors are failures.
fn any_error() -> RateLimitRetryLayer<Identity, AnyError> {
    RateLimitRetryLayer::new().retry_error(Broken::is_any as fn(&Broken) -> bool)
}

/// So many answers of this kind, and then successes.
fn first(count: usize, failure: impl Fn() -> Reply + Send + Sync + 'static) -> Server {
    Server::new(
        move |sent| {
            if sent.index < count { failure() } else { ok() }
        },
    )
}

/// An answer that [`failing`] makes an error of.
fn broken() -> Reply {
    status(200).header(BROKEN, "")
}

/// The server as a service that has errors.
fn failing(
    server: &Server,
) -> impl Service<
    Request<ReplayBody<Body>>,
    Response = Response<AnswerBody>,
    Error = Broken,
    Future: Send,
> + Clone {
    let server = server.clone();
    let log = server.clone();
    let fail = move |answer: Response<AnswerBody>| {
        if answer.headers().contains_key(BROKEN) {
            Err(Broken(log.log().len() - 1))
        } else {
            Ok(answer)
        }
    };
    MapResult::new(server, move |answer: Result<_, Infallible>| fail(answer?))
}

fn get(id: usize) -> Request<Body> {
    let mut request = request(id);
    *request.method_mut() = Method::GET;
    *request.body_mut() = Full::default();
    request
}

fn frames() -> Frames {
    let frames = ["one, ", "two, ", "three"].map(|word| Ok(Frame::data(Bytes::from(word))));
    StreamBody::new(stream::iter(frames))
}

fn response(status: u16) -> Response<Body> {
    let mut response = Response::new(Full::from("ok"));
    *response.status_mut() = status.try_into().unwrap();
    response
}

async fn ask(server: &Server, layer: &RateLimitRetryLayer, request: Request<Body>) -> Answer {
    let service = layer.layer(server.clone());
    service.oneshot(request).await.unwrap()
}

fn report(answer: &Answer) -> Option<&RetryReport> {
    answer.extensions().get::<RetryReport>()
}

fn stop_reason(answer: &Answer) -> Option<StopReason> {
    report(answer).and_then(RetryReport::stop_reason)
}
