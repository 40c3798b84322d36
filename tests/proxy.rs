//! The reverse proxy of the examples, over real sockets: between clients and a server that sees what
//! came through.

#[allow(dead_code, reason = "its `main` is not run here")]
#[path = "../examples/proxy/main.rs"]
mod proxy;

use bytes::Bytes;
use futures_util::{
    FutureExt, StreamExt,
    future::{BoxFuture, join_all},
    stream,
};
use http::{HeaderValue, Request, Response, header};
use http_body::{Body, Frame};
use http_body_util::{
    BodyExt, Full, StreamBody,
    channel::{Channel, Sender},
};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
    server::graceful::GracefulShutdown,
};
use proxy::{Forward, Options, Settings, upstream::Upstream};
use serde_json::{Value, json};
use simulation::{Limits, OpenAi, Server, Simulated};
use std::{
    convert::Infallible,
    ffi::OsString,
    future::{Future, pending, ready},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tower_rate_limit_retry::RateLimitRetryLayer;

/// Stands wherever a request has something that must not be logged.
const SECRET: &str = "hunter2";

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// No test needs as long; one that hangs fails.
const FOR_EVER: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_refusal_is_waited_for_and_the_client_sees_one_answer() {
    for http2 in [false, true] {
        let upstream = Recorder::start(|index| match index {
            0 => answer(429, "slow down").header("retry-after", "1"),
            _ => answer(200, "whole"),
        });
        let upstream = upstream.await;
        let proxy = Proxy::before(&upstream.url()).await;
        let response = proxy.ask(http2, chat("gpt-4o", "Hello")).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.body(), "whole");
        let seen = upstream.seen();
        assert_eq!(seen.len(), 2);
        let expected = chat("gpt-4o", "Hello").into_body();
        assert!(seen.iter().all(|seen| *seen.body() == expected));
    }
}

#[tokio::test]
async fn what_no_wait_can_cure_is_passed_through_as_it_is() {
    let unpaid = r#"{ "error": {"message": "You exceeded your current quota.", "type": "insufficient_quota", "param": null, "code": "insufficient_quota"} }"#;
    let upstream = Recorder::start(move |_| {
        answer(429, unpaid)
            .header("content-type", "application/json")
            .header("x-request-id", "req_1")
    });
    let upstream = upstream.await;
    let proxy = Proxy::before(&upstream.url()).await;
    let response = proxy.ask(false, chat("gpt-4o", "Hello")).await;
    assert_eq!(response.status(), 429);
    assert_eq!(response.body(), unpaid);
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.headers()["x-request-id"], "req_1");
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn events_of_a_stream_arrive_one_by_one() {
    for http2 in [false, true] {
        let mut upstream = Streamer::start().await;
        let proxy = Proxy::before(&upstream.server.url()).await;
        let request = chat("gpt-4o", "Hello");
        let call = client(http2).request(proxy.to(request));
        let head = timeout(FOR_EVER, call).await;
        let mut response = head.expect("the head is held back").unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut events = upstream.answering().await;
        for event in ["data: 1\n\n", "data: 2\n\n", "data: [DONE]\n\n"] {
            // The next one is not sent before this one has come.
            events.send_data(Bytes::from(event)).await.unwrap();
            let frame = timeout(FOR_EVER, response.body_mut().frame()).await;
            let frame = frame.expect("the event is held back").unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), event);
        }
        drop(events);
        let rest = response.into_body().collect().await.unwrap();
        assert!(rest.to_bytes().is_empty());
    }
}

#[tokio::test]
async fn an_upload_is_passed_on_piece_by_piece() {
    let (pieces, received) = mpsc::unbounded_channel();
    let upstream = Server::start(move |request: Request<Incoming>| {
        let pieces = pieces.clone();
        async move {
            let mut body = request.into_body();
            while let Some(Ok(frame)) = body.frame().await {
                pieces.send(frame.into_data().unwrap()).unwrap();
            }
            Response::new(Full::<Bytes>::default())
        }
    });
    let (upstream, mut received) = (upstream.await.unwrap(), received);
    let proxy = Proxy::before(&upstream.url()).await;
    let (mut sender, body) = Channel::<Bytes>::new(1);
    let request = Request::post("/v1/audio").header("content-type", "audio/mpeg");
    let request = proxy.to(request.body(body).unwrap());
    let answer = tokio::spawn(client(false).request(request));
    for piece in ["one", "two", "three"] {
        sender.send_data(Bytes::from(piece)).await.unwrap();
        let arrived = timeout(FOR_EVER, received.recv()).await;
        assert_eq!(arrived.expect("the piece is held back").unwrap(), piece);
    }
    drop(sender);
    assert_eq!(answer.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn json_that_is_too_large_to_be_sent_again_arrives_whole() {
    let sizes = [99, 100, 101, 250, 1_000_000];
    let chunk_sizes = [1, 99, 100, 101, 16_384];
    for (size, chunk_size) in sizes.iter().flat_map(|&a| chunk_sizes.map(|b| (a, b))) {
        if size / chunk_size > 20_000 {
            continue;
        }
        let upstream = Recorder::start(|_| answer(200, "")).await;
        let options = Options {
            max_replay: 100,
            ..Options::default()
        };
        let proxy = Proxy::start(&upstream.url(), &options).await;
        let whole: Vec<u8> = (0..size).map(|i| b'a' + (i % 23) as u8).collect();
        let chunks: Vec<_> = whole
            .chunks(chunk_size)
            .map(Bytes::copy_from_slice)
            .collect();
        let frames = stream::iter(chunks).map(|chunk| Ok::<_, Infallible>(Frame::data(chunk)));
        let request = Request::post("/").header("content-type", "application/json");
        let response = proxy
            .ask(false, request.body(StreamBody::new(frames)).unwrap())
            .await;
        assert_eq!(response.status(), 200);
        assert_eq!(
            *upstream.seen()[0].body(),
            whole,
            "{size} in pieces of {chunk_size}"
        );
    }
}

#[tokio::test]
async fn what_is_too_large_to_be_kept_is_sent_once() {
    let upstream = Recorder::start(|index| match index {
        0 => answer(429, "").header("retry-after", "1"),
        _ => answer(200, ""),
    });
    let upstream = upstream.await;
    let args = ["--upstream", &upstream.url(), "--max-replay", "100"];
    let settings = parse(&args).unwrap().unwrap();
    let proxy = Proxy::start(&upstream.url(), &settings.options).await;
    let response = proxy.ask(false, chat("gpt-4o", &"x".repeat(100))).await;
    assert_eq!(response.status(), 429);
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn models_do_not_hold_each_other_back() {
    // The second request of this model would have to wait for longer than the test takes.
    let upstream = Recorder::start(|index| match index {
        0 => answer(429, "slow down").header("retry-after", "299"),
        _ => answer(200, "whole"),
    });
    let upstream = upstream.await;
    let proxy = Proxy::before(&upstream.url()).await;
    // Its model comes in pieces, after its head, and is known all the same.
    let frames = stream::iter([r#"{"model":"#, r#""gpt-"#, r#"4o"}"#]).then(async |piece| {
        tokio::task::yield_now().await;
        Ok::<_, Infallible>(Frame::data(Bytes::from(piece)))
    });
    let request = chat("", "").map(|_| StreamBody::new(Box::pin(frames)));
    let waiting = tokio::spawn(proxy.ask(false, request));
    proxy.log.wait_for("paused").await;
    assert!(
        proxy.log.text().contains(" gpt-4o "),
        "{}",
        proxy.log.text()
    );
    let other = proxy.ask(false, chat("gpt-4o-mini", "Hello")).await;
    assert_eq!(other.status(), 200);
    waiting.abort();
}

#[tokio::test]
async fn a_head_has_the_length_of_what_it_is_the_head_of() {
    let upstream = Recorder::start(|_| answer(200, "whole")).await;
    let proxy = Proxy::before(&upstream.url()).await;
    let text = "HEAD / HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n";
    let answer = proxy.write(text).await;
    assert!(answer.contains("\r\ncontent-length: 5\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    assert_eq!(upstream.seen()[0].method(), "HEAD");
}

#[tokio::test]
async fn a_body_of_unknown_length_passes_with_any_method() {
    for method in ["GET", "HEAD", "DELETE", "POST"] {
        let upstream = Recorder::start(|_| answer(200, "")).await;
        let proxy = Proxy::before(&upstream.url()).await;
        let text = format!(
            "{method} /v1/x HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\
             content-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n\
             4\r\nbody\r\n0\r\n\r\n"
        );
        let answer = proxy.write(&text).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert_eq!(*upstream.seen()[0].body(), "body", "{method}");
    }
}

#[tokio::test]
async fn a_length_that_transfer_encoding_overrides_does_not_pass() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\
                          transfer-encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\n\r\n";
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let proxy = Proxy::before(&url).await;
    let text = "GET / HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n";
    let answer = proxy.write(text).await.to_ascii_lowercase();
    assert!(!answer.contains("content-length"), "{answer}");
    assert!(answer.contains("whole"), "{answer}");
}

#[tokio::test]
async fn cookies_that_came_one_by_one_go_on_as_one_field() {
    let upstream = Recorder::start(|_| answer(200, "")).await;
    let proxy = Proxy::before(&upstream.url()).await;
    let mut request = chat("gpt-4o", "Hello");
    for cookie in ["a=1", "b=2; c=3"] {
        let cookie = HeaderValue::from_static(cookie);
        request.headers_mut().append(header::COOKIE, cookie);
    }
    assert_eq!(proxy.ask(true, request).await.status(), 200);
    let seen = upstream.seen();
    let cookies: Vec<_> = seen[0].headers().get_all(header::COOKIE).iter().collect();
    assert_eq!(cookies, ["a=1; b=2; c=3"]);
}

#[tokio::test]
async fn what_concerns_one_connection_does_not_pass() {
    let fields = [
        ("connection", "close, X-Private ,keep-alive"),
        ("connection", "x-other"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authorization", "Basic hunter2"),
        ("te", "trailers"),
        ("upgrade", "websocket"),
        ("x-private", "1"),
        ("x-other", "1"),
        ("x-kept", "1"),
        ("x-kept", "2"),
    ];
    let upstream = Recorder::start(move |_| {
        fields
            .iter()
            .fold(answer(200, "whole"), |answer, (name, value)| {
                answer.header(name, value)
            })
    });
    let upstream = upstream.await;
    let proxy = Proxy::before(&upstream.url()).await;
    let lines = fields
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .concat();
    let text = format!(
        "POST /v1/x HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n{lines}\r\n\
         4\r\nbody\r\n0\r\n\r\n"
    );
    let answer = proxy.write(&text).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let seen = upstream.seen();
    let request = seen[0].headers();
    assert_eq!(*seen[0].body(), "body");
    let kept: Vec<_> = request.get_all("x-kept").iter().collect();
    assert_eq!(kept, ["1", "2"]);
    for name in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "te",
        "transfer-encoding",
        "upgrade",
        "x-private",
        "x-other",
    ] {
        assert!(
            !request.contains_key(name),
            "{name} came through to the server"
        );
        let field = format!("\r\n{name}:");
        // The connection to this client is closed, as it has asked.
        let of_ours = (name == "connection").then_some("close");
        let lower = head.to_ascii_lowercase();
        let found = lower.split_once(&field).map(|(_, rest)| {
            let line = rest.lines().next().unwrap_or_default();
            line.trim().to_owned()
        });
        assert_eq!(found.as_deref(), of_ours, "{name} of the answer");
    }
    assert_eq!(head.matches("x-kept:").count(), 2);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert_eq!(body, "whole");
}

#[tokio::test]
async fn the_target_keeps_path_and_query_and_gets_the_upstreams_host_and_prefix() {
    for (prefix, target, expected) in [
        ("", "/v1/chat?a=%20b&c", "/v1/chat?a=%20b&c"),
        ("/", "/", "/"),
        ("/proxied/here/", "/v1//x/?q", "/proxied/here/v1//x/?q"),
        ("/api", "/?q", "/api/?q"),
    ] {
        let upstream = Recorder::start(|_| answer(200, "")).await;
        let proxy = Proxy::before(&format!("{}{prefix}", upstream.url())).await;
        let text = format!("GET {target} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n");
        let answer = proxy.write(&text).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let seen = upstream.seen();
        assert_eq!(*seen[0].uri(), expected);
        let host = upstream.server.address().to_string();
        assert_eq!(seen[0].headers()["host"], host);
        assert!(!seen[0].headers().contains_key("content-length"));
    }
}

#[tokio::test]
async fn a_target_without_a_path_is_refused() {
    let upstream = Recorder::start(|_| answer(200, "")).await;
    let proxy = Proxy::before(&upstream.url()).await;
    for line in ["OPTIONS *", "CONNECT elsewhere.example:443"] {
        let text = format!("{line} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n");
        let answer = proxy.write(&text).await;
        assert!(
            answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
            "{answer}"
        );
    }
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn a_request_meant_for_another_host_is_refused() {
    let upstream = Recorder::start(|_| answer(200, "")).await;
    let proxy = Proxy::before(&upstream.url()).await;
    let text = "GET http://elsewhere.example/v1 HTTP/1.1\r\nhost: elsewhere.example\r\n\
                authorization: Bearer hunter2\r\nconnection: close\r\n\r\n";
    let answer = proxy.write(text).await;
    assert!(
        answer.starts_with("HTTP/1.1 421 Misdirected Request\r\n"),
        "{answer}"
    );
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn credentials_pass_and_nothing_of_a_request_is_logged() {
    let upstream = Recorder::start(|index| match index {
        0 => answer(429, SECRET).header("retry-after", "0.05"),
        1 => answer(429, r#"{"error": {"code": "insufficient_quota"}}"#),
        _ => answer(200, SECRET).header("x-secret", SECRET),
    });
    let upstream = upstream.await;
    let proxy = Proxy::before(&upstream.url()).await;
    let request = || {
        let content = json!({ "model": "gpt-4o", "messages": SECRET }).to_string();
        Request::post(format!("/v1/{SECRET}?key={SECRET}"))
            .header("authorization", format!("Bearer {SECRET}"))
            .header("x-api-key", SECRET)
            .header("cookie", SECRET)
            .body(content)
            .unwrap()
    };
    for (http2, status) in [(false, 429), (true, 200)] {
        assert_eq!(proxy.ask(http2, request()).await.status(), status);
    }
    for seen in upstream.seen() {
        assert_eq!(seen.headers()["authorization"], "Bearer hunter2");
        assert_eq!(seen.headers()["x-api-key"], SECRET);
        assert_eq!(seen.uri(), "/v1/hunter2?key=hunter2");
    }
    drop(upstream);
    let proxy_of_nobody = Proxy::before("http://127.0.0.1:1").await;
    assert_eq!(proxy_of_nobody.ask(false, request()).await.status(), 502);

    let log = proxy.log.text() + &proxy_of_nobody.log.text();
    for event in ["paused", "retry scheduled", "gave up", "cannot be reached"] {
        assert!(log.contains(event), "{event}: {log}");
    }
    assert!(!log.contains(SECRET), "{log}");
}

#[tokio::test]
async fn each_event_is_one_line_that_says_who_waits_why_and_how_long() {
    let upstream = Recorder::start(|index| match index {
        0 => answer(429, "").header("retry-after", "1"),
        _ => answer(200, ""),
    });
    let upstream = upstream.await;
    let proxy = Proxy::before(&upstream.url()).await;
    proxy.ask(false, chat("gpt-4o", "Hello")).await;
    let log = proxy.log.text();
    let paused: Vec<_> = log
        .lines()
        .filter(|line| line.contains(" paused "))
        .collect();
    let [line] = paused[..] else { panic!("{log}") };
    for part in ["partition=127.0.0.1:", " gpt-4o ", "dimension=", "delay_s="] {
        assert!(line.contains(part), "{part}: {line}");
    }
    for line in log.lines() {
        assert_eq!(line.matches("partition=").count(), 1, "{line}");
    }

    let upstream = Recorder::start(|_| answer(429, "").header("retry-after", "200"));
    let upstream = upstream.await;
    let options = Options {
        max_delay: Duration::from_secs(100),
        ..Options::default()
    };
    let proxy = Proxy::start(&upstream.url(), &options).await;
    proxy.ask(false, chat("gpt-4o", "Hello")).await;
    let log = proxy.log.text();
    let delay = log.split_once("delay_s=").unwrap().1;
    let delay = delay.split_whitespace().next().unwrap();
    let delay = delay.parse::<f64>().unwrap();
    // What the server said, less the time that the refusal took to be read; a second of that would
    // be four times what is allowed for it.
    assert!((199.0..=200.0).contains(&delay), "{log}");

    let upstream = Recorder::start(|_| answer(429, "").header("x-should-retry", "false"));
    let upstream = upstream.await;
    let options = Options {
        quiet: true,
        ..Options::default()
    };
    let proxy = Proxy::start(&upstream.url(), &options).await;
    proxy.ask(false, chat("gpt-4o", "Hello")).await;
    assert!(!proxy.log.text().contains("gave up"));
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_is_a_502() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let proxy = Proxy::before(&url).await;
    let response = proxy.ask(false, chat("gpt-4o", "Hello")).await;
    assert_problem(&response, 502, "the upstream cannot be reached: ");
}

#[tokio::test]
async fn an_upstream_that_breaks_off_is_a_502() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
        }
    });
    let proxy = Proxy::before(&url).await;
    let response = proxy.ask(false, chat("gpt-4o", "Hello")).await;
    assert_problem(&response, 502, "the upstream broke off before it answered");
}

#[tokio::test]
async fn a_proxy_whose_upstream_is_itself_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let proxy = Proxy::serve(listener, &url, &Options::default());
    let response = proxy.ask(false, chat("gpt-4o", "Hello")).await;
    assert_problem(
        &response,
        508,
        "the upstream of this proxy is the proxy itself",
    );
    // Another proxy is no loop.
    let upstream = Recorder::start(|_| answer(200, "")).await;
    let inner = Proxy::before(&upstream.url()).await;
    let outer = Proxy::before(&format!("http://{}", inner.address)).await;
    assert_eq!(
        outer.ask(false, chat("gpt-4o", "Hello")).await.status(),
        200
    );
    assert_eq!(
        upstream.seen()[0]
            .headers()
            .get_all(header::VIA)
            .iter()
            .count(),
        2
    );
}

#[tokio::test]
async fn a_loop_is_found_whatever_else_is_in_the_field() {
    let upstream = Recorder::start(|_| answer(200, "")).await;
    let proxy = Proxy::before(&upstream.url()).await;
    let get = |via: &[u8]| {
        let head = b"GET / HTTP/1.0\r\nhost: here\r\nvia: ";
        [&head[..], via, b"\r\n\r\n"].concat()
    };
    let foreign = b"1.0 fred (caf\xe9)";
    let answer = proxy.write(&get(foreign)).await;
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
    let seen = upstream.seen();
    let via: Vec<_> = seen[0].headers().get_all(header::VIA).iter().collect();
    assert_eq!(via[0].as_bytes(), foreign);
    let own = via[1].as_bytes();
    let pseudonym = own
        .strip_prefix(b"1.0 ")
        .expect("the version that it came by");
    for version in [b"1.0 ", b"1.1 ", b"2.0 "] {
        let passed = [&foreign[..], b",", version, pseudonym, b" (back),1.1 last"].concat();
        let answer = proxy.write(&get(&passed)).await;
        assert!(answer.starts_with("HTTP/1.0 508 "), "{answer}");
    }
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn max_forwards_is_counted_down_and_ends_here_at_zero() {
    let upstream = Recorder::start(|_| answer(200, "upstream")).await;
    let proxy = Proxy::before(&upstream.url()).await;
    let ask = |method, max| {
        let request = Request::builder().method(method).uri("/");
        let request = request.header("max-forwards", max);
        proxy.ask(false, request.body(Full::<Bytes>::default()).unwrap())
    };
    for (method, max, expected) in [
        ("OPTIONS", "1", "0"),
        ("TRACE", "10", "9"),
        ("OPTIONS", "99999999999", "4294967294"),
        ("OPTIONS", "-1", "-1"),
        ("GET", "0", "0"),
    ] {
        assert_eq!(ask(method, max).await.body(), "upstream");
        let seen = upstream.seen();
        let last = seen.last().unwrap();
        assert_eq!(last.headers()["max-forwards"], expected, "{method}");
    }
    let passed = upstream.seen().len();
    let options = ask("OPTIONS", "0").await;
    assert_eq!((options.status().as_u16(), options.body().len()), (200, 0));
    assert_problem(
        &ask("TRACE", "00").await,
        501,
        "this proxy traces no requests",
    );
    assert_eq!(upstream.seen().len(), passed);
}

/// Over HTTP/1.1 a body of known length can have none.
#[tokio::test]
async fn trailers_pass_even_of_a_body_whose_length_was_told() {
    for content_type in ["application/json", "text/plain"] {
        let (told, mut seen) = mpsc::unbounded_channel();
        let upstream = Server::start(move |request: Request<Incoming>| {
            let told = told.clone();
            async move {
                let body = request.into_body().collect().await.unwrap();
                told.send((body.trailers().cloned(), body.to_bytes()))
                    .unwrap();
                answer(200, "").0
            }
        });
        let upstream = upstream.await.unwrap();
        let proxy = Proxy::before(&upstream.url()).await;
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-checksum", HeaderValue::from_static("7"));
        let frames = [Frame::data(Bytes::from("body")), Frame::trailers(trailers)];
        let body = StreamBody::new(stream::iter(frames.map(Ok::<_, Infallible>)));
        let request = Request::post("/")
            .header("content-type", content_type)
            .header("content-length", "4")
            .header("trailer", "x-checksum")
            .body(body);
        assert_eq!(proxy.ask(true, request.unwrap()).await.status(), 200);
        let (trailers, body) = seen.recv().await.unwrap();
        assert_eq!(body, "body");
        let trailers = trailers.expect("they pass");
        assert_eq!(trailers["x-checksum"], "7", "{content_type}");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_attempt() {
    for http2 in [false, true] {
        let (started, mut has_started) = mpsc::unbounded_channel();
        let upstream = Server::start(move |_| {
            // Dropped with the call.
            let (alive, gone) = oneshot::channel::<Infallible>();
            started.send(gone).unwrap();
            async move {
                let _alive = alive;
                pending::<Response<Full<Bytes>>>().await
            }
        });
        let upstream = upstream.await.unwrap();
        let proxy = Proxy::before(&upstream.url()).await;
        let call = tokio::spawn(ask(proxy.address, http2, chat("gpt-4o", "Hello")));
        let gone = has_started.recv().await.unwrap();
        call.abort();
        let gone = timeout(FOR_EVER, gone)
            .await
            .expect("the call goes on without its client");
        assert!(gone.is_err());
    }
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_stream() {
    for http2 in [false, true] {
        let mut upstream = Streamer::start().await;
        let proxy = Proxy::before(&upstream.server.url()).await;
        let request = chat("gpt-4o", "Hello");
        let client = client(http2);
        let mut response = client.request(proxy.to(request)).await.unwrap();
        let mut events = upstream.answering().await;
        events.send_data(Bytes::from("data: 1\n\n")).await.unwrap();
        response.body_mut().frame().await.unwrap().unwrap();
        drop((response, client));
        let ended = async { while events.send_data(Bytes::from("data: 2\n\n")).await.is_ok() {} };
        timeout(FOR_EVER, ended)
            .await
            .expect("the stream goes on without its client");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_frees_its_place_in_the_queue() {
    let upstream = Recorder::start(|_| answer(429, "").header("retry-after", "299")).await;
    let layer = proxy::layer(&Options::default()).max_waiting(1);
    let proxy = Proxy::with_layer(&upstream.url(), &layer).await;
    let spawn = |content| tokio::spawn(ask(proxy.address, false, chat("gpt-4o", content)));
    let refused = spawn("1");
    proxy.log.wait_for("retry scheduled").await;
    // The retry takes the one place; when its client goes, somebody else can have it.
    assert_problem(
        &spawn("2").await.unwrap(),
        429,
        "the request was not sent: as many calls",
    );
    assert_eq!(proxy.log.count("queued"), 0);
    refused.abort();
    let next = async {
        loop {
            let call = spawn("3");
            tokio::select! {
                response = call => assert_eq!(response.unwrap().status(), 429),
                () = proxy.log.wait_for("queued") => break,
            }
        }
    };
    timeout(FOR_EVER, next)
        .await
        .expect("the place is never free");
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn a_call_beyond_its_deadline_is_answered_at_once() {
    let upstream = Recorder::start(|_| answer(429, "all of it").header("retry-after", "250"));
    let upstream = upstream.await;
    let options = Options {
        deadline: Some(Duration::from_secs(100)),
        ..Options::default()
    };
    let proxy = Proxy::start(&upstream.url(), &options).await;
    let response = proxy.ask(false, chat("gpt-4o", "Hello")).await;
    assert_eq!(
        (response.status().as_u16(), &response.body()[..]),
        (429, &b"all of it"[..])
    );
    assert_eq!(response.headers()["retry-after"], "250");
    let response = proxy.ask(false, chat("gpt-4o", "Hello")).await;
    assert_problem(&response, 429, "the request was not sent: ");
    assert!(response.headers().contains_key("retry-after"));
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn what_is_under_way_is_finished_before_the_end() {
    let mut upstream = Streamer::start().await;
    let mut proxy = Proxy::before(&upstream.server.url()).await;
    let idle = TcpStream::connect(proxy.address).await.unwrap();
    let request = chat("gpt-4o", "Hello");
    let mut response = client(false).request(proxy.to(request)).await.unwrap();
    let mut events = upstream.answering().await;
    events.send_data(Bytes::from("1")).await.unwrap();

    let connections = proxy.stop().await;
    let refused = TcpStream::connect(proxy.address).await;
    assert!(refused.is_err(), "the port is closed");
    let finished = tokio::spawn(proxy::finish(connections, FOR_EVER, pending()));
    for event in ["2", "3"] {
        events.send_data(Bytes::from(event)).await.unwrap();
    }
    assert!(!finished.is_finished());
    drop(events);
    let body = response.body_mut().collect().await.unwrap().to_bytes();
    assert_eq!(body, "123");
    assert!(finished.await.unwrap());
    drop(idle);
}

#[tokio::test]
async fn the_end_does_not_wait_for_ever() {
    for told_again in [false, true] {
        let upstream = Streamer::start().await;
        let mut proxy = Proxy::before(&upstream.server.url()).await;
        let request = chat("gpt-4o", "Hello");
        let _response = client(false).request(proxy.to(request)).await.unwrap();
        let connections = proxy.stop().await;
        let (grace, told): (_, BoxFuture<'_, ()>) = if told_again {
            (Duration::MAX, ready(()).boxed())
        } else {
            (Duration::ZERO, pending().boxed())
        };
        let finished = timeout(FOR_EVER, proxy::finish(connections, grace, told)).await;
        let finished = finished.expect("the end waits for what is under way");
        assert!(!finished);
    }
}

#[tokio::test]
async fn many_at_once_see_no_refusal_of_the_simulated_api() {
    let api = OpenAi::new().spent_key("sk-spent");
    let api = Simulated::new(api.model("small", Limits::per_minute(40, 1_000_000)));
    let upstream = Server::simulate(&api).await.unwrap();
    let proxy = Proxy::before(&upstream.url()).await;
    let ask = |key: &str| {
        let mut request = chat("small", "Hello");
        let authorization = HeaderValue::try_from(format!("Bearer {key}")).unwrap();
        request
            .headers_mut()
            .insert(header::AUTHORIZATION, authorization);
        request
            .headers_mut()
            .insert("x-keep", HeaderValue::from_static("1"));
        proxy.ask(true, request)
    };
    // Two more than the bucket holds: they have to wait for a second and a half each.
    let answers = join_all((0..42).map(|_| ask(OpenAi::KEY))).await;
    for answer in &answers {
        assert_eq!(answer.status(), 200, "{:?}", answer.body());
        let body: Value = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(body["model"], "small");
    }
    let unpaid = ask("sk-spent").await;
    assert_eq!(unpaid.status(), 429);
    let body: Value = serde_json::from_slice(unpaid.body()).unwrap();
    assert_eq!(body["error"]["code"], "insufficient_quota");
    assert_eq!(api.lock().counts("small").completed, 42);
}

#[tokio::test]
async fn a_wait_beyond_the_maximum_is_for_the_client() {
    let upstream = Recorder::start(|_| answer(429, "").header("retry-after", "8")).await;
    let args = ["--upstream", &upstream.url(), "--max-delay", "7"];
    let settings = parse(&args).unwrap().unwrap();
    let proxy = Proxy::start(&upstream.url(), &settings.options).await;
    let response = proxy.ask(false, chat("gpt-4o", "Hello")).await;
    assert_eq!(response.headers()["retry-after"], "8");
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn declared_limits_are_kept_from_the_first_request_on() {
    let upstream = Recorder::start(|_| answer(200, "")).await;
    for (option, count) in [
        ("--requests-per-minute", "3"),
        ("--tokens-per-minute", "30"),
    ] {
        let args = [
            "--upstream",
            &upstream.url(),
            option,
            count,
            "--deadline",
            "5",
        ];
        let settings = parse(&args).unwrap().unwrap();
        let proxy = Proxy::start(&upstream.url(), &settings.options).await;
        let mut statuses = Vec::new();
        for _ in 0..4 {
            // Forty bytes are estimated as ten tokens.
            let request = Request::post("/").body("x".repeat(40)).unwrap();
            statuses.push(proxy.ask(false, request).await.status().as_u16());
        }
        assert_eq!(statuses, [200, 200, 200, 429], "{option}");
    }
}

#[test]
fn arguments_set_what_they_name() {
    let settings = parse(&["--upstream", "https://api.openai.com"])
        .unwrap()
        .unwrap();
    assert_eq!(settings.upstream.to_string(), "https://api.openai.com");
    let options = settings.options;
    assert_eq!(options.listen, SocketAddr::from(([127, 0, 0, 1], 8080)));
    assert_eq!((options.deadline, options.quotas), (None, vec![]));

    let args = [
        "--listen=[::1]:9",
        "--upstream=HTTP://h:81/a/",
        "--deadline=0",
        "--max-delay=7",
        "--max-replay=8",
        "--grace=9",
        "--quiet",
    ];
    let settings = parse(&args).unwrap().unwrap();
    assert_eq!(settings.upstream.to_string(), "http://h:81/a");
    let options = settings.options;
    assert_eq!(options.listen, "[::1]:9".parse().unwrap());
    assert_eq!(options.deadline, Some(Duration::ZERO));
    assert_eq!(options.max_delay, Duration::from_secs(7));
    assert_eq!((options.max_replay, options.quiet), (8, true));
    assert_eq!(options.grace, Duration::from_secs(9));
    assert!(parse(&["--help"]).unwrap().is_none());
    assert!(parse(&["-h", "--nonsense"]).unwrap().is_none());
}

#[test]
fn wrong_arguments_are_told_in_one_line() {
    let url = "--upstream: expected http(s)://host[:port][/path], without user or query";
    let with_upstream = |args: &[&'static str]| [&["--upstream=http://a"], args].concat();
    let cases: Vec<(Vec<&str>, &str)> = vec![
        (vec![], "--upstream is missing; --help lists what there is"),
        (vec!["--upstream", "api.openai.com"], url),
        (vec!["--upstream", "ftp://a"], url),
        (vec!["--upstream", "http://u:hunter2@a"], url),
        (vec!["--upstream", "http://a/?key=hunter2"], url),
        (vec!["--upstream", ""], url),
        (vec!["--upstream", "http://127.0.0.1:80800"], url),
        (vec!["--upstream", "http://127.0.0.1:/v1"], url),
        (vec!["--upstream", "http://[::1]:80800"], url),
        (
            with_upstream(&["--listen", "8080"]),
            "--listen: expected an address and a port such as 127.0.0.1:8080, found \"8080\"",
        ),
        (
            with_upstream(&["--deadline", "1.5"]),
            "--deadline: expected a whole number of seconds, found \"1.5\"",
        ),
        (
            with_upstream(&["--max-replay", "1M"]),
            "--max-replay: expected a number of bytes, found \"1M\"",
        ),
        (
            with_upstream(&["--requests-per-minute", "0"]),
            "--requests-per-minute: expected a number from 1 on, found \"0\"",
        ),
        (
            with_upstream(&["--grace"]),
            "missing argument for option '--grace'; --help lists what there is",
        ),
        (
            with_upstream(&["--verbose"]),
            "invalid option '--verbose'; --help lists what there is",
        ),
        (
            with_upstream(&["more"]),
            "unexpected argument \"more\"; --help lists what there is",
        ),
    ];
    for (args, expected) in cases {
        assert_eq!(parse(&args).err().as_deref(), Some(expected), "{args:?}");
    }
}

fn parse(args: &[&str]) -> Result<Option<Settings>, String> {
    Settings::parse(args.iter().map(OsString::from))
}

/// The proxy as a process of its own: the tests' binary is started as a child that runs nothing
/// else.
#[cfg(unix)]
mod process {
    use super::*;
    use std::{env, process::Stdio};
    use tokio::{
        io::{AsyncBufReadExt, BufReader},
        process::{Child, Command},
    };

    const ARGS: &str = "TEST_OF_PROXY_ARGS";

    #[test]
    #[ignore = "is the child of the others"]
    fn itself() {
        if let Ok(args) = env::var(ARGS) {
            let code = proxy::run(args.split_whitespace().map(OsString::from));
            std::process::exit(code.into());
        }
    }

    fn start(args: &str) -> Child {
        Command::new(env::current_exe().unwrap())
            .args(["--exact", "process::itself", "--ignored", "--nocapture"])
            .env(ARGS, args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    #[tokio::test]
    async fn wrong_arguments_end_it_with_exit_code_2() {
        let output = start("--upstream nowhere")
            .wait_with_output()
            .await
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(
            error.starts_with("error: --upstream: expected http"),
            "{error}"
        );
        assert_eq!(error.lines().count(), 1);
    }

    #[tokio::test]
    async fn help_is_no_error() {
        let output = start("--help").wait_with_output().await.unwrap();
        assert_eq!(output.status.code(), Some(0));
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(
            help.contains("Usage: cargo run --release --example proxy"),
            "{help}"
        );
    }

    #[tokio::test]
    async fn a_port_that_is_taken_ends_it_with_exit_code_1() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let args = format!("--upstream http://127.0.0.1:1 --listen {address}");
        let output = start(&args).wait_with_output().await.unwrap();
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(
            error.starts_with(&format!("error: cannot listen on {address}: ")),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_signal_ends_it_when_all_is_answered_and_a_second_one_at_once() {
        for (signal, again) in [("TERM", false), ("INT", false), ("TERM", true)] {
            let mut upstream = Streamer::start().await;
            let url = upstream.server.url();
            let args = format!("--upstream {url} --listen 127.0.0.1:0 --grace 3600");
            let mut child = start(&args);
            let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
            let first = log.next_line().await.unwrap().unwrap();
            let address = first.split("http://").nth(1).unwrap();
            let address = address.split_whitespace().next().unwrap().parse().unwrap();
            let request = to(address, chat("gpt-4o", "Hello"));
            let response = client(false).request(request).await.unwrap();
            let events = upstream.answering().await;
            kill(&child, signal).await;
            let second = timeout(FOR_EVER, log.next_line()).await;
            let second = second.expect("the signal has no effect").unwrap().unwrap();
            assert!(second.contains("finishing what is under way"), "{second}");
            if again {
                kill(&child, signal).await;
                assert_eq!(code_of(&mut child).await, Some(1));
                drop(events);
            } else {
                drop(events);
                response.into_body().collect().await.unwrap();
                assert_eq!(code_of(&mut child).await, Some(0));
            }
        }
    }

    async fn code_of(child: &mut Child) -> Option<i32> {
        let end = timeout(FOR_EVER, child.wait()).await;
        end.expect("the process goes on").unwrap().code()
    }

    async fn kill(child: &Child, signal: &str) {
        let id = child.id().unwrap().to_string();
        let kill = Command::new("kill")
            .args(["-s", signal, &id])
            .status()
            .await;
        assert!(kill.unwrap().success());
    }
}

/// A proxy that runs in this process, and what it has logged.
struct Proxy {
    address: SocketAddr,
    log: Log,
    stop: Option<oneshot::Sender<()>>,
    accepting: Option<JoinHandle<GracefulShutdown>>,
    _subscriber: tracing::subscriber::DefaultGuard,
}

impl Proxy {
    async fn before(upstream: &str) -> Self {
        Self::start(upstream, &Options::default()).await
    }

    async fn start(upstream: &str, options: &Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::serve(listener, upstream, options)
    }

    async fn with_layer(upstream: &str, layer: &RateLimitRetryLayer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::serve_with_layer(listener, upstream, layer, &Options::default())
    }

    fn serve(listener: TcpListener, upstream: &str, options: &Options) -> Self {
        Self::serve_with_layer(listener, upstream, &proxy::layer(options), options)
    }

    fn serve_with_layer(
        listener: TcpListener,
        upstream: &str,
        layer: &RateLimitRetryLayer,
        options: &Options,
    ) -> Self {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = proxy::subscriber(options.quiet, move || writer.clone());
        let guard = tracing::subscriber::set_default(subscriber);
        let upstream = Upstream::parse(upstream).unwrap();
        let forward = Forward::new(upstream, layer, options.max_replay);
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let stopped = async {
            let _ = stopped.await;
        };
        Self {
            address,
            log,
            stop: Some(stop),
            accepting: Some(tokio::spawn(proxy::accept(listener, forward, stopped))),
            _subscriber: guard,
        }
    }

    async fn stop(&mut self) -> GracefulShutdown {
        self.stop.take().unwrap().send(()).unwrap();
        self.accepting.take().unwrap().await.unwrap()
    }

    fn to<B>(&self, request: Request<B>) -> Request<B> {
        to(self.address, request)
    }

    fn ask<B>(
        &self,
        http2: bool,
        request: Request<B>,
    ) -> impl Future<Output = Response<Bytes>> + use<B>
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        ask(self.address, http2, request)
    }

    /// What is answered to these bytes, until the connection is closed.
    async fn write(&self, text: &(impl AsRef<[u8]> + ?Sized)) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(text.as_ref()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

/// Lines that were written to it.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn count(&self, event: &str) -> usize {
        self.text().matches(event).count()
    }

    async fn wait_for(&self, event: &str) {
        while self.count(event) == 0 {
            tokio::task::yield_now().await;
        }
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A server that answers by the number of requests before, and keeps them.
struct Recorder {
    server: Server,
    seen: Arc<Mutex<Vec<Request<Bytes>>>>,
}

impl Recorder {
    async fn start(rule: impl Fn(usize) -> Reply + Clone + Send + Sync + 'static) -> Self {
        let seen = Arc::<Mutex<Vec<_>>>::default();
        let log = Arc::clone(&seen);
        let handler = move |request: Request<Incoming>| {
            let (rule, log) = (rule.clone(), Arc::clone(&log));
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let mut log = log.lock().unwrap();
                log.push(Request::from_parts(head, body));
                rule(log.len() - 1).0
            }
        };
        Self {
            server: Server::start(handler).await.unwrap(),
            seen,
        }
    }

    fn url(&self) -> String {
        self.server.url()
    }

    /// All requests so far, in order.
    fn seen(&self) -> Vec<Request<Bytes>> {
        self.seen.lock().unwrap().clone()
    }
}

struct Reply(Response<Full<Bytes>>);

fn answer(status: u16, body: &'static str) -> Reply {
    let response = Response::builder().status(status);
    Reply(response.body(Full::from(body)).unwrap())
}

impl Reply {
    fn header(mut self, name: &'static str, value: &'static str) -> Self {
        let headers = self.0.headers_mut();
        headers.append(name, HeaderValue::from_static(value));
        self
    }
}

/// A server whose answers are streams that the test writes.
struct Streamer {
    server: Server,
    answering: mpsc::UnboundedReceiver<Sender<Bytes>>,
}

impl Streamer {
    async fn start() -> Self {
        let (answers, answering) = mpsc::unbounded_channel();
        let handler = move |_| {
            let (sender, body) = Channel::<Bytes>::new(1);
            let _ = answers.send(sender);
            let response = Response::builder().header("content-type", "text/event-stream");
            ready(response.body(body).unwrap())
        };
        let server = Server::start(handler).await.unwrap();
        Self { server, answering }
    }

    /// What the next request is answered with.
    async fn answering(&mut self) -> Sender<Bytes> {
        self.answering.recv().await.unwrap()
    }
}

fn client<B>(http2: bool) -> Client<HttpConnector, B>
where
    B: Body<Data = Bytes> + Send,
{
    let mut client = Client::builder(TokioExecutor::new());
    client.http2_only(http2).build_http()
}

/// Sends a request to the proxy, and reads the whole answer.
async fn ask<B>(address: SocketAddr, http2: bool, request: Request<B>) -> Response<Bytes>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let call = client(http2).request(to(address, request));
    let response = timeout(FOR_EVER, call)
        .await
        .expect("no answer comes")
        .unwrap();
    let (head, body) = response.into_parts();
    Response::from_parts(head, body.collect().await.unwrap().to_bytes())
}

/// The request with its target at this address.
fn to<B>(address: SocketAddr, mut request: Request<B>) -> Request<B> {
    let uri = format!("http://{address}{}", request.uri());
    *request.uri_mut() = uri.parse().unwrap();
    request
}

fn chat(model: &str, content: &str) -> Request<String> {
    let messages = json!([{ "role": "user", "content": content }]);
    Request::post("/v1/chat/completions")
        .header("content-type", "application/json; charset=utf-8")
        .body(json!({ "model": model, "messages": messages }).to_string())
        .unwrap()
}

/// That the answer is one of our own, in both forms.
fn assert_problem(response: &Response<Bytes>, status: u16, detail: &str) {
    assert_eq!(response.status(), status, "{:?}", response.body());
    let content_type = &response.headers()["content-type"];
    assert_eq!(content_type, "application/problem+json");
    let body: Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(body["status"], status);
    let found = body["detail"].as_str().unwrap();
    assert!(found.starts_with(detail), "{found}");
    assert_eq!(body["error"]["message"], found);
}
