//! The server, asked over real sockets.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use simulation::{Limits, OpenAi, Server, Simulated};

const CHAT: &str = r#"{"model":"m","messages":[{"role":"user","content":"Hello"}]}"#;

#[tokio::test]
async fn admits_what_the_limit_allows_and_refuses_the_rest() {
    for http2 in [false, true] {
        let api = Simulated::new(OpenAi::new().model("m", Limits::per_minute(5, 1_000)));
        let server = Server::simulate(&api).await.unwrap();
        let client = client(http2);

        let mut completed = 0;
        for _ in 0..8 {
            let response = client.request(chat(&server)).await.unwrap();
            let status = response.status();
            assert_eq!(response.headers()["x-ratelimit-limit-requests"], "5");
            assert!(response.headers().contains_key("date"));
            let body = response.into_body().collect().await.unwrap().to_bytes();
            if status == StatusCode::OK {
                completed += 1;
            } else {
                assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
                assert!(body.starts_with(br#"{"error":{"message":"Rate limit reached for m in"#));
            }
        }

        assert_eq!(completed, 5);
        assert_eq!(server.requests(), 8);
        assert_eq!(server.connections(), 1);
        let counts = api.lock().counts("m");
        assert_eq!((counts.completed, counts.refused), (5, 3));
    }
}

#[tokio::test]
async fn any_async_function_can_be_the_handler() {
    let server = Server::start(|request: Request<_>| async move {
        Response::new(Full::new(Bytes::from(request.uri().path().to_owned())))
    });
    let server = server.await.unwrap();
    let request = Request::get(format!("{}/path", server.url()));
    let request = request.body(Full::<Bytes>::default()).unwrap();
    let response = client(false).request(request).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "/path");
}

#[tokio::test]
async fn a_dropped_server_answers_what_it_has_and_accepts_no_more() {
    let (started, has_started) = tokio::sync::oneshot::channel();
    let (proceed, may_proceed) = tokio::sync::oneshot::channel();
    let channels = std::sync::Arc::new(std::sync::Mutex::new(Some((started, may_proceed))));
    let server = Server::start(move |_| {
        let (started, may_proceed) = channels.lock().unwrap().take().expect("one request");
        async move {
            started.send(()).unwrap();
            may_proceed.await.unwrap();
            Response::new(Full::<Bytes>::default())
        }
    });
    let server = server.await.unwrap();
    let address = server.address();
    let answer = tokio::spawn(client(false).request(chat(&server)));
    has_started.await.unwrap();

    drop(server);
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    proceed.send(()).unwrap();
    assert_eq!(answer.await.unwrap().unwrap().status(), StatusCode::OK);
}

fn client(http2: bool) -> Client<HttpConnector, Full<Bytes>> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new())
        .http2_only(http2)
        .build(connector)
}

fn chat(server: &Server) -> Request<Full<Bytes>> {
    Request::post(format!("{}/v1/chat/completions", server.url()))
        .header("authorization", format!("Bearer {}", OpenAi::KEY))
        .body(Full::from(CHAT))
        .unwrap()
}
