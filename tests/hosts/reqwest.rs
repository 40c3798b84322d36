//! What is particular to `reqwest`: what its requests carry in, and its responses out.

use crate::{
    host::{Kind, body, layer, within_a_minute},
    server::{Reply, Server},
};
use bytes::Bytes;
use reqwest::{Client, Method, Request, Response, Url};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tower::{Service, ServiceBuilder, ServiceExt, util::MapRequest};
use tower_rate_limit_retry::{
    Attempt, Partition, RateLimitRetryLayer, RequestOptions, ReqwestClient, ReqwestService,
    RetryReport, StopReason,
};

const SOON: Duration = Duration::from_millis(20);

#[tokio::test]
async fn an_answer_says_where_it_came_from() {
    let server = Server::start(|sent| match sent.index {
        0 => Reply::refusal(SOON),
        _ => Reply::ok().with_length(),
    })
    .await;
    let client = Client::new();
    let url = server.url("/a%20b?c=d#e");
    let response = layer().reqwest(client.clone()).send(client.get(&url));
    let response = within_a_minute(response).await.unwrap();
    let bare = client.get(&url).send().await.unwrap();

    assert!(url.starts_with(response.url().as_str()));
    assert_eq!(response.url(), bare.url());
    assert!(response.remote_addr().is_some());
    assert_eq!(response.remote_addr(), bare.remote_addr());
    assert_eq!(response.headers().len(), bare.headers().len());
    assert_eq!(response.content_length(), Some(6));
    let report = response.extensions().get::<RetryReport>().unwrap();
    assert_eq!(report.attempts(), 2);
}

#[tokio::test]
async fn an_answer_of_our_own_says_what_was_asked() {
    let server = Server::refusing(1, Duration::from_secs(1_000)).await;
    let client = Client::new();
    let limited = layer().reqwest(client.clone());
    let refused = limited.send(client.get(server.url("/a"))).await.unwrap();
    assert_eq!(refused.url().path(), "/a");

    let ours = limited.send(client.get(server.url("/b"))).await.unwrap();
    assert!(
        ours.extensions()
            .get::<RetryReport>()
            .unwrap()
            .answered_locally()
    );
    assert_eq!((ours.status().as_u16(), ours.url().path()), (429, "/b"));
    let problem: serde_json::Value = ours.json().await.unwrap();
    assert_eq!(problem["error"]["type"], "rate_limit_error");
    assert_eq!(server.log().len(), 1);
}

#[tokio::test]
async fn a_refusal_that_is_given_back_is_one_of_reqwest() {
    let server = Server::start(|_| {
        let spent = r#"{"error":{"code":"insufficient_quota"}}"#;
        let refusal = Reply::new(429).field("content-type", "application/json");
        refusal.field("x-request-id", "req_1").body(spent)
    })
    .await;
    let client = Client::new();
    let response = layer()
        .reqwest(client.clone())
        .send(client.get(server.url("/")));
    let response = within_a_minute(response).await.unwrap();
    assert_eq!(response.headers()["x-request-id"], "req_1");
    let status = response.error_for_status_ref().unwrap_err();
    assert!(status.is_status());
    let reason = response
        .extensions()
        .get()
        .and_then(RetryReport::stop_reason);
    assert_eq!(reason, Some(StopReason::NotRetryable));
    let json: serde_json::Value = response.json().await.unwrap();
    assert_eq!(json["error"]["code"], "insufficient_quota");
}

#[tokio::test]
async fn a_redirected_answer_says_where_it_came_from_in_the_end() {
    let server = Server::start(|sent| match (&*sent.path, sent.index) {
        ("/old", _) => Reply::new(307).field("location", "/new"),
        (_, 1) => Reply::refusal(SOON),
        _ => Reply::ok(),
    })
    .await;
    let client = Client::new();
    let request = client.post(server.url("/old")).body("hello");
    let response = layer().reqwest(client.clone()).send(request);
    let response = within_a_minute(response).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), response.url().path()),
        (200, "/new")
    );
    assert_eq!(server.log().len(), 4);
}

#[tokio::test]
async fn a_redirected_stream_is_given_back_as_without_the_layer() {
    let server = Server::start(|_| Reply::new(307).field("location", "/new")).await;
    let request = Client::new()
        .post(server.url("/old"))
        .body(body(&"hello".into(), Kind::Stream));
    let response = layer().reqwest(Client::new()).send(request);
    let response = within_a_minute(response).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), response.url().path()),
        (307, "/old")
    );
}

/// What a middleware under the layer sees of a body: whether there is one, and of which bytes, if
/// they are known.
type Seen = Option<Option<Bytes>>;

/// Sends a request with this body through the layer, and returns what each attempt had.
async fn spy(layer: RateLimitRetryLayer, body: Option<reqwest::Body>) -> Vec<Seen> {
    let seen = Arc::<Mutex<Vec<Seen>>>::default();
    let spied = {
        let seen = Arc::clone(&seen);
        MapRequest::new(Client::new(), move |request: Request| {
            let bytes = |body: &reqwest::Body| body.as_bytes().map(Bytes::copy_from_slice);
            assert_eq!(request.url().fragment(), Some("there"));
            seen.lock().unwrap().push(request.body().map(bytes));
            request
        })
    };
    let server = Server::refusing(2, SOON).await;
    let mut request = Request::new(Method::POST, server.url("/#there").parse().unwrap());
    *request.body_mut() = body;
    let answer = layer.reqwest(spied).execute(request);
    let answer = within_a_minute(answer).await.unwrap();
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    let is_last = answer.status() == 200;
    assert_eq!(
        (seen.len(), server.log().len()),
        if is_last { (3, 3) } else { (1, 1) }
    );
    seen
}

#[tokio::test]
async fn the_bytes_can_be_signed_in_each_attempt_and_no_body_stays_none() {
    let hello = Bytes::from_static(b"hello");
    for (body, expected) in [
        (Some("hello".into()), Some(Some(hello.clone()))),
        (Some("".into()), Some(Some(Bytes::new()))),
        (None, None),
        (Some(body(&hello, Kind::Stream)), Some(None)),
    ] {
        let seen = spy(layer(), body).await;
        assert_eq!(seen, [expected.clone(), expected.clone(), expected]);
    }
}

#[tokio::test]
async fn a_layer_that_is_disabled_hands_on_what_it_was_given() {
    let hello = Bytes::from_static(b"hello");
    for (body, expected) in [
        (Some("hello".into()), Some(Some(hello.clone()))),
        (Some("".into()), Some(Some(Bytes::new()))),
        (None, None),
        (Some(body(&hello, Kind::Stream)), Some(None)),
    ] {
        assert_eq!(spy(layer().enabled(false), body).await, [expected]);
    }
}

#[tokio::test]
async fn bytes_that_are_too_many_to_be_kept_are_sent_once_as_a_stream() {
    let seen = spy(layer().max_replay(4), Some("hello".into())).await;
    assert_eq!(seen, [Some(None)]);
}

#[tokio::test]
async fn each_attempt_has_the_time_that_the_request_asks_for() {
    // Three times 200 ms and two waits are more than the 700 ms that each may take.
    let server = Server::start(|sent| {
        let reply = match sent.index {
            0 | 1 => Reply::refusal(Duration::from_millis(400)),
            _ => Reply::ok(),
        };
        reply.late(Duration::from_millis(200))
    })
    .await;
    let client = Client::new();
    let began = Instant::now();
    let request = client
        .get(server.url("/"))
        .timeout(Duration::from_millis(700));
    let response = layer().reqwest(client.clone()).send(request);
    assert_eq!(within_a_minute(response).await.unwrap().status(), 200);
    assert!(began.elapsed() > Duration::from_secs(1));
}

/// The answer through the layer, where each attempt has 200 ms.
async fn impatient(server: &Server) -> reqwest::Result<Response> {
    let client = Client::new();
    let request = client
        .get(server.url("/"))
        .timeout(Duration::from_millis(200));
    within_a_minute(layer().reqwest(client).send(request)).await
}

#[tokio::test]
async fn the_timeout_of_the_last_attempt_comes_out_as_reqwest_has_it() {
    let server = Server::start(|sent| match sent.index {
        0 => Reply::refusal(SOON),
        _ => Reply::ok().late(Duration::from_secs(50)),
    })
    .await;
    let error = impatient(&server).await.unwrap_err();
    assert!(error.is_timeout());
    assert_eq!(error.url().unwrap().as_str(), server.url("/"));
    assert_eq!(server.log().len(), 2);
}

#[tokio::test]
async fn a_body_that_stalls_times_out_as_without_the_layer() {
    let server = Server::start(|sent| match sent.index {
        0 => Reply::refusal(SOON),
        _ => Reply::ok().late_body(Duration::from_secs(50)),
    })
    .await;
    let response = impatient(&server).await.unwrap();
    assert_eq!(response.status(), 200);
    let error = within_a_minute(response.bytes()).await.unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
}

#[tokio::test]
async fn an_answer_comes_chunk_by_chunk() {
    let server = Server::start(|sent| match sent.index {
        0 => Reply::refusal(SOON),
        // The second half never comes while the test lasts.
        _ => Reply::ok()
            .body("firstothers")
            .late_body(Duration::from_secs(4)),
    })
    .await;
    let client = Client::new();
    let response = layer()
        .reqwest(client.clone())
        .send(client.get(server.url("/")));
    let mut response = within_a_minute(response).await.unwrap();
    let began = Instant::now();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "first");
    assert!(began.elapsed() < Duration::from_secs(4), "before the rest");
}

#[tokio::test]
async fn options_hold_for_the_clone_that_has_them() {
    let server = Server::refusing(usize::MAX, SOON).await;
    let client = Client::new();
    let limited = layer().max_retries(1).reqwest(client.clone());
    let once = limited
        .clone()
        .options(RequestOptions::new().max_retries(0));
    let attempts = |response: Response| {
        let report = response.extensions().get::<RetryReport>().unwrap().clone();
        report.attempts()
    };
    let get = || client.get(server.url("/"));
    assert_eq!(
        attempts(within_a_minute(once.send(get())).await.unwrap()),
        1
    );
    assert_eq!(
        attempts(within_a_minute(limited.send(get())).await.unwrap()),
        2
    );

    let own = http::Request::get(server.url("/"))
        .extension(
            RequestOptions::new()
                .max_retries(2)
                .partition(Partition::new("own")),
        )
        .body("")
        .unwrap();
    let own = Request::try_from(own).unwrap();
    let response = within_a_minute(once.execute(own)).await.unwrap();
    assert_eq!(attempts(response), 3, "a request's own options come first");
}

#[tokio::test]
async fn a_stack_of_other_layers_goes_around_the_client() {
    let server = Server::refusing(2, SOON).await;
    let attempts = Arc::<Mutex<Vec<u32>>>::default();
    let stack = ServiceBuilder::new()
        .timeout(Duration::from_secs(50))
        .layer(layer())
        .concurrency_limit(1)
        .map_request({
            let attempts = attempts.clone();
            move |request: http::Request<_>| {
                let attempt = request.extensions().get::<Attempt>();
                let number = attempt.map_or(1, |attempt| attempt.number());
                attempts.lock().unwrap().push(number);
                request
            }
        })
        .service(ReqwestService::new(Client::new()));
    let mut client = ReqwestClient::new(stack);
    let url: Url = server.url("/").parse().unwrap();
    // As a service of `reqwest`'s requests.
    let client = client.ready().await.unwrap();
    let response = client.call(Request::new(Method::GET, url));
    let response = within_a_minute(response).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(*attempts.lock().unwrap(), [1, 2, 3]);
}

#[tokio::test]
async fn a_request_that_cannot_be_made_fails_as_without_the_layer() {
    let client = Client::new();
    let limited = layer().reqwest(client.clone());
    for url in [
        "https://{{hostname}}/",
        "hxxp://example.com/",
        "file:///etc",
    ] {
        let bare = client.get(url).send().await.unwrap_err();
        let error = limited.send(client.get(url)).await.unwrap_err();
        assert!(error.is_builder());
        assert_eq!(error.url(), bare.url());
    }
    let stack = ServiceBuilder::new()
        .map_request(|mut request: http::Request<reqwest::Body>| {
            *request.uri_mut() = "/relative".parse().unwrap();
            request
        })
        .service(ReqwestService::new(client.clone()));
    let error = ReqwestClient::new(stack)
        .send(client.get("http://example.com/"))
        .await;
    assert!(error.unwrap_err().is_builder());
}

#[test]
fn no_debug_output_has_a_credential() {
    let mut headers = http::HeaderMap::new();
    headers.insert("authorization", "Bearer secret".parse().unwrap());
    let client = Client::builder().default_headers(headers).build().unwrap();
    let limited = layer().reqwest(client);
    assert!(!format!("{limited:?}").contains("secret"));
}
