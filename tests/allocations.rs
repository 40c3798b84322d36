//! What a call costs that is answered at once: as much as with `tower::retry`, which has to keep
//! the request as well, and one box for a body.

use allocation_counter::measure;
use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use std::{
    convert::Infallible,
    future::{Future, Ready, pending},
    num::NonZero,
    task::Context,
    time::Duration,
};
use tower::{Layer, Service, ServiceExt, retry::RetryLayer, service_fn};
use tower_rate_limit_retry::{Quota, RateLimitRetryLayer, ReplayBody};

type Headers = &'static [(&'static str, &'static str)];

const NONE: Headers = &[];

/// The two dimensions that `OpenAI` announces with every answer.
const OPENAI: Headers = &[
    ("x-ratelimit-limit-requests", "10000"),
    ("x-ratelimit-limit-tokens", "2000000"),
    ("x-ratelimit-remaining-requests", "9999"),
    ("x-ratelimit-remaining-tokens", "1999980"),
    ("x-ratelimit-reset-requests", "6ms"),
    ("x-ratelimit-reset-tokens", "1ms"),
];

const BODY: &str = r#"{"model":"gpt-4o","max_tokens":20,"messages":[]}"#;

#[test]
fn a_body_costs_one_box_more_than_tower_retry_does() {
    assert_eq!(
        per_call(layered, NONE, BODY),
        per_call(kept, NONE, BODY) + 1
    );
}

#[test]
fn an_empty_body_costs_nothing_more_than_tower_retry_does() {
    assert_eq!(per_call(layered, NONE, ""), per_call(kept, NONE, ""));
}

#[test]
fn announced_limits_cost_nothing_more() {
    let (of_body, of_none) = (per_call(kept, OPENAI, BODY), per_call(kept, OPENAI, ""));
    assert_eq!(per_call(layered, OPENAI, BODY), of_body + 1);
    assert_eq!(per_call(layered, OPENAI, ""), of_none);
}

#[test]
fn a_declared_quota_of_requests_costs_nothing_more() {
    let (of_body, of_none) = (per_call(kept, NONE, BODY), per_call(kept, NONE, ""));
    assert_eq!(per_call(declared, NONE, BODY), of_body + 1);
    assert_eq!(per_call(declared, NONE, ""), of_none);
}

#[test]
fn a_body_that_is_streamed_costs_nothing_more() {
    let (of_body, of_none) = (per_call(kept, NONE, BODY), per_call(kept, NONE, ""));
    assert_eq!(per_call(streamed, NONE, BODY), of_body + 1);
    assert_eq!(per_call(streamed, NONE, ""), of_none);
}

#[test]
fn a_disabled_layer_keeps_nothing_but_the_box() {
    assert_eq!(
        per_call(disabled, NONE, BODY),
        per_call(bare, NONE, BODY) + 1
    );
    assert_eq!(per_call(disabled, NONE, ""), per_call(bare, NONE, ""));
}

#[test]
fn nothing_is_left_behind_by_a_call() {
    let mut service = layered(OPENAI);
    service(request(BODY));
    let left = measure(|| (0..100).for_each(|_| service(request(BODY))));
    assert_eq!((left.count_current, left.bytes_current), (0, 0));
}

/// What waits is the future, in which its timer is, and its place in the queue. All of it counts,
/// embedded or allocated, but what is not the layer's: the request, which waits in any case, and the
/// service and its future, which here take no room.
#[test]
fn a_call_that_waits_takes_at_most_four_hundred_bytes_beyond_its_request() {
    let bytes = per_waiter(RateLimitRetryLayer::new());
    assert!(bytes <= 400, "{bytes}");
}

/// It is to be told when the quota opens too late for it.
#[test]
fn a_deadline_takes_no_more_than_another_place_in_an_index() {
    let deadline = Duration::from_secs(3_600 * 24 * 365);
    let bytes = per_waiter(RateLimitRetryLayer::new().deadline(deadline));
    assert!(bytes <= 430, "{bytes}");
}

/// The bytes of each of many calls that wait, without its request.
fn per_waiter(layer: RateLimitRetryLayer) -> usize {
    const CALLS: usize = 10_000;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let runtime = runtime.expect("a runtime that needs nothing of the system");
    let _entered = runtime.enter();
    let quota = Quota::requests(NonZero::<u64>::MIN).per_minute();
    let layer = layer.quota(quota);
    let unanswered = pending::<Result<Response<Full<Bytes>>, Infallible>>;
    let mut service = layer.layer(service_fn(move |_: Request<ReplayBody<_>>| unanswered()));
    let _first = service.call(request(""));
    let mut requests: Vec<_> = (0..CALLS).map(|_| request("")).collect();
    let mut cx = Context::from_waker(futures_util::task::noop_waker_ref());
    let mut calls = Vec::with_capacity(CALLS);
    let called = measure(|| calls.extend(requests.drain(..).map(|request| service.call(request))));
    let future = size_of_val(&calls[0]) - size_of::<Request<Full<Bytes>>>();
    let mut calls: Vec<_> = calls.into_iter().map(Box::pin).collect();
    let polled = measure(|| {
        for call in &mut calls {
            assert!(call.as_mut().poll(&mut cx).is_pending());
        }
    });
    let queued = called.bytes_current + polled.bytes_current;
    let queued = usize::try_from(queued).expect("no request is dropped") / CALLS;
    assert!(queued > 0, "all wait");
    future + queued
}

/// Answers a request at once, and drops the answer.
type Answer = Box<dyn FnMut(Request<Full<Bytes>>)>;

/// How often one call allocates, after others that made what is shared.
fn per_call(service: fn(Headers) -> Answer, headers: Headers, body: &'static str) -> u64 {
    let mut service = service(headers);
    (0..3).for_each(|_| service(request(body)));
    let counts = [(); 3].map(|()| {
        let request = request(body);
        measure(|| service(request)).count_total
    });
    assert_eq!(counts, [counts[0]; 3], "each call costs the same");
    counts[0]
}

fn layered(headers: Headers) -> Answer {
    answer(RateLimitRetryLayer::new().layer(server(headers)))
}

/// With answers of unknown length.
fn streamed(headers: Headers) -> Answer {
    let server = server(headers);
    let server = server.map_response(|response| response.map(|body| body.map_frame(|frame| frame)));
    answer(RateLimitRetryLayer::new().layer(server))
}

/// More than are sent, by both kinds of accounts.
fn declared(headers: Headers) -> Answer {
    let many = NonZero::new(1_000).unwrap();
    let quota = Quota::requests(many).per_minute();
    let layer = RateLimitRetryLayer::new()
        .quota(quota)
        .quota(quota.burst(many));
    answer(layer.layer(server(headers)))
}

fn disabled(headers: Headers) -> Answer {
    answer(
        RateLimitRetryLayer::new()
            .enabled(false)
            .layer(server(headers)),
    )
}

fn kept(headers: Headers) -> Answer {
    answer(RetryLayer::new(Never).layer(server(headers)))
}

fn bare(headers: Headers) -> Answer {
    answer(server(headers))
}

fn answer<S>(mut service: S) -> Answer
where
    S: Service<Request<Full<Bytes>>, Error = Infallible> + 'static,
{
    Box::new(move |request| {
        let answer = async { service.ready().await?.call(request).await };
        drop(answer.now_or_never().expect("an answer at once").unwrap());
    })
}

/// Reads the request and answers with these fields.
fn server<B>(
    headers: Headers,
) -> impl Service<Request<B>, Response = Response<Full<Bytes>>, Error = Infallible> + Clone
where
    B: http_body::Body + Unpin,
{
    service_fn(move |request: Request<B>| async move {
        let mut body = request.into_body();
        while let Some(Ok(_)) = body.frame().await {}
        let mut response = Response::new(Full::from("ok"));
        for (name, value) in headers {
            let value = HeaderValue::from_static(value);
            response.headers_mut().insert(*name, value);
        }
        Ok(response)
    })
}

/// With ten fields, names and values of its own among them, and no extensions.
fn request(body: &'static str) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::from(body));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = "https://api.openai.com/v1/chat/completions"
        .parse()
        .unwrap();
    let headers = request.headers_mut();
    headers.insert("authorization", "Bearer sk-secret".parse().unwrap());
    headers.insert("content-type", "application/json".parse().unwrap());
    for index in 0..8 {
        let name = HeaderName::try_from(format!("x-field-{index}")).unwrap();
        headers.insert(name, index.into());
    }
    request
}

/// Keeps every request as if it were to be sent again, and never sends it.
#[derive(Clone)]
struct Never;

impl<A, E> tower::retry::Policy<Request<Full<Bytes>>, A, E> for Never {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<Full<Bytes>>,
        _: &mut Result<A, E>,
    ) -> Option<Self::Future> {
        None
    }

    fn clone_request(&mut self, request: &Request<Full<Bytes>>) -> Option<Request<Full<Bytes>>> {
        Some(request.clone())
    }
}
