//! What Tower asks of a `Service` and of a `Layer`: the lines of the page `contract` that no story of
//! the other tests holds.

mod support;

use http::{Request, Response};
use std::{
    cell::Cell,
    future::{Future, Ready, ready},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
};
use support::{AnswerBody, Body, Server, call, ms, ok, poll_once, refuse, request, status};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};
use tokio_test::{assert_pending, assert_ready_ok};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_rate_limit_retry::{
    Limits, Partition, RateLimitRetry, RateLimitRetryLayer, ReplayBody, ResponseBody,
    ResponseFuture, RetryReport,
};
use tower_test::mock;

#[tokio::test]
async fn readiness_is_that_of_the_inner_service_and_nothing_else() {
    type Inner = Request<ReplayBody<Body>>;
    let layer = RateLimitRetryLayer::new();
    let (mut service, mut handle) = mock::spawn_layer::<Inner, Response<Body>, _>(layer.clone());
    handle.allow(0);
    assert_pending!(service.poll_ready::<Request<Body>>());
    handle.allow(1);
    // As often as one likes.
    for _ in 0..3 {
        assert_ready_ok!(service.poll_ready::<Request<Body>>());
    }
    assert_eq!(
        layer.limits().snapshot().partitions().len(),
        0,
        "it takes no place and reserves nothing"
    );
    handle.send_error("gone");
    let Poll::Ready(Err(error)) = service.poll_ready::<Request<Body>>() else {
        panic!("a service that has failed is not ready");
    };
    assert_eq!(error.to_string(), "gone");
}

#[tokio::test(start_paused = true)]
async fn readiness_belongs_to_one_call_and_to_no_clone() {
    let server = Server::new(|_| ok());
    let mut service = RateLimitRetryLayer::new().layer(server.clone());
    let _ = ServiceExt::<Request<Body>>::ready(&mut service)
        .await
        .unwrap();
    assert!(call_panics(&mut service.clone()), "a clone is not ready");
    service.call(request(0)).await.unwrap();
    assert!(call_panics(&mut service), "what was used is used up");
    let readied = ServiceExt::<Request<Body>>::ready(&mut service).await;
    readied.unwrap().call(request(1)).await.unwrap();
    assert_eq!(server.ids(), [0, 1]);
}

/// Whether the server complains of a call that nobody has asked it about.
fn call_panics(service: &mut RateLimitRetry<Server>) -> bool {
    catch_unwind(AssertUnwindSafe(|| drop(service.call(request(9))))).is_err()
}

#[tokio::test(start_paused = true)]
async fn a_layer_neither_asks_nor_clones_what_it_is_put_around() {
    let server = Server::new(|sent| if sent.index == 0 { refuse("1") } else { ok() });
    let (clones, polls) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
    let counted = Counted {
        server: server.clone(),
        clones: Arc::clone(&clones),
        polls: Arc::clone(&polls),
    };
    let layer = RateLimitRetryLayer::new();
    let mut service = layer.layer(counted);
    let counts = || (clones.load(SeqCst), polls.load(SeqCst));
    assert_eq!(counts(), (0, 0));
    let refused = call(&mut service, request(0)).await;
    assert_eq!(counts(), (1, 1), "one clone for a call that goes at once");
    refused.await.unwrap();
    assert_eq!(counts(), (1, 2), "and none for its retry");
    // Another service of the same layer closes the partition.
    let closing = Server::new(|sent| if sent.index == 0 { refuse("1") } else { ok() });
    let mut closing = call(&mut layer.layer(closing), request(1)).await;
    assert_pending!(poll_once(&mut closing).await);
    call(&mut service, request(2)).await.await.unwrap();
    assert_eq!(counts(), (3, 4), "two for one that waits from the start");
}

/// Counts how often it is cloned and asked.
struct Counted {
    server: Server,
    clones: Arc<AtomicUsize>,
    polls: Arc<AtomicUsize>,
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.clones.fetch_add(1, SeqCst);
        Self {
            server: self.server.clone(),
            clones: Arc::clone(&self.clones),
            polls: Arc::clone(&self.polls),
        }
    }
}

impl Service<Request<ReplayBody<Body>>> for Counted {
    type Response = Response<AnswerBody>;
    type Error = std::convert::Infallible;
    type Future = <Server as Service<Request<ReplayBody<Body>>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.polls.fetch_add(1, SeqCst);
        Service::<Request<ReplayBody<Body>>>::poll_ready(&mut self.server, cx)
    }

    fn call(&mut self, request: Request<ReplayBody<Body>>) -> Self::Future {
        self.server.call(request)
    }
}

#[tokio::test(start_paused = true)]
async fn services_of_one_layer_and_of_its_clones_share_what_is_known() {
    let layer = RateLimitRetryLayer::new();
    let refusing = Server::new(|sent| if sent.index == 0 { refuse("2") } else { ok() });
    let mut refused = call(&mut layer.layer(refusing), request(0)).await;
    assert_pending!(poll_once(&mut refused).await);
    let other = Server::new(|_| ok());
    let answer = layer.clone().layer(other.clone()).oneshot(request(1));
    let (answer, refused) = tokio::join!(answer, refused);
    assert_eq!(answer.unwrap().status(), 200);
    assert_eq!(refused.unwrap().status(), 200);
    assert!(other.times()[0] >= 2_000, "{:?}", other.times());
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_nobody_asked_for_sends_nothing_early() {
    let server = Server::new(|sent| if sent.index == 0 { refuse("3") } else { ok() });
    let mut service = RateLimitRetryLayer::new().layer(server.clone());
    let mut refused = call(&mut service, request(0)).await;
    let began = Instant::now();
    for _ in 0..299 {
        assert_pending!(poll_once(&mut refused).await);
        sleep(ms(10)).await;
    }
    assert_eq!(server.times(), [0]);
    assert_eq!(refused.await.unwrap().status(), 200);
    assert_eq!(began.elapsed(), ms(3_000));
    assert_eq!(server.times(), [0, 3_000]);
}

#[tokio::test(start_paused = true)]
async fn of_several_wakers_the_last_is_woken() {
    // While it waits for the answer, for the refusal's body and for its turn.
    let server = Server::new(|sent| match sent.index {
        0 => refuse("3").slow(ms(100), "slow down").after(ms(100)),
        _ => ok(),
    });
    let mut service = RateLimitRetryLayer::new().layer(server);
    let mut future = call(&mut service, request(0)).await;
    for (passes, waits_for) in [(100, "answer"), (100, "body"), (2_900, "turn")] {
        let (old, new) = <(Arc<Woken>, Arc<Woken>)>::default();
        for waker in [&old, &new] {
            let waker = Waker::from(Arc::clone(waker));
            let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending(), "{waits_for}");
        }
        sleep(ms(passes) + ms(1)).await;
        let woken = (old.0.load(SeqCst), new.0.load(SeqCst) > 0);
        assert_eq!(woken, (0, true), "{waits_for}");
    }
    assert_eq!(future.await.unwrap().status(), 200);
}

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn who_polls_a_call_that_is_over_is_told_so_and_nothing_is_sent() {
    let server = Server::new(|sent| if sent.index == 0 { refuse("1") } else { ok() });
    let layer = RateLimitRetryLayer::new();
    let mut future = call(&mut layer.layer(server.clone()), request(0)).await;
    drop((&mut future).await.unwrap());
    let polled = catch_unwind(AssertUnwindSafe(|| {
        let _ = future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
    }));
    let message = polled.unwrap_err();
    assert_eq!(message.downcast_ref(), Some(&"polled after it was ready"));
    assert_eq!(server.log().len(), 2);
    assert_idle(&layer);
}

#[tokio::test(start_paused = true)]
async fn no_task_is_spawned() {
    let server = Server::new(|sent| match sent.index {
        0 => refuse("3").slow(ms(100), "slow down").after(ms(100)),
        _ => ok(),
    });
    let mut service = RateLimitRetryLayer::new().layer(server);
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let mut first = call(&mut service, request(0)).await;
    for passes in [100, 100, 2_700] {
        assert_pending!(poll_once(&mut first).await);
        assert_eq!(tasks(), 0);
        sleep(ms(passes)).await;
    }
    let second = call(&mut service, request(1)).await;
    let (first, second) = tokio::join!(first, second);
    assert_eq!(
        (first.unwrap().status(), second.unwrap().status()),
        (200.try_into().unwrap(), 200.try_into().unwrap())
    );
    assert_eq!(tasks(), 0);
}

#[test]
fn a_runtime_is_needed_only_for_waiting() {
    let layer = RateLimitRetryLayer::new();
    let answer = |status_of_first| {
        let inner = service_fn(move |_: Request<ReplayBody<Body>>| {
            let mut response = Response::new(Body::from("ok"));
            *response.status_mut() = http::StatusCode::from_u16(status_of_first).unwrap();
            ready(Ok::<_, &str>(response))
        });
        let mut service = layer.layer(inner);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Service::<Request<Body>>::poll_ready(&mut service, &mut cx).is_ready());
        let future = service.call(request(0));
        let polled = catch_unwind(AssertUnwindSafe(|| pin!(future).poll(&mut cx)));
        polled.map(|polled| match polled {
            Poll::Ready(answer) => answer.unwrap().status().as_u16(),
            Poll::Pending => 0,
        })
    };
    assert_eq!(answer(200).unwrap(), 200);
    assert_eq!(answer(500).unwrap(), 500);
    assert!(answer(429).is_err(), "a wait needs a timer");
    assert_idle(&layer);
    // No lock is left in a state in which others could not use it.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let answer = runtime.block_on(layer.layer(Server::new(|_| ok())).oneshot(request(1)));
    assert_eq!(answer.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_inner_service_is_that_of_its_call_alone() {
    // In `call` of the first attempt and of a retry, and in the future. Each has a server of its own,
    // whose log is lost with it.
    let layer = RateLimitRetryLayer::new();
    let server = || {
        Server::new(|sent| match (sent.id, sent.attempt) {
            (1, _) | (3, 2) => panic!("inner"),
            (3, 1) => refuse("1"),
            _ => ok(),
        })
    };
    for (id, ends_well) in [(0, true), (1, false), (2, true), (3, false), (4, true)] {
        let answer = tokio::spawn(layer.layer(server()).oneshot(request(id))).await;
        assert_eq!(answer.is_ok(), ends_well, "{id}");
        assert_idle(&layer);
    }
    let fails_later = service_fn(|_: Request<ReplayBody<Body>>| async {
        tokio::task::yield_now().await;
        panic!("inner");
        #[allow(unreachable_code, reason = "names the type")]
        Ok::<Response<Body>, &str>(Response::default())
    });
    let answer = tokio::spawn(layer.layer(fails_later).oneshot(request(5))).await;
    assert!(answer.is_err());
    assert_idle(&layer);
    let answer = layer.layer(server()).oneshot(request(6)).await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_function_of_the_program_is_that_of_its_call_alone() {
    let is_bad = |headers: &http::HeaderMap| headers.get("x-id").is_some_and(|id| id == "1");
    let layer = RateLimitRetryLayer::new()
        .partition_by(move |request| {
            assert!(!is_bad(request.headers()), "partition_by");
            Partition::new("one")
        })
        .retry_if(|head| {
            assert!(head.status != 502, "retry_if");
            false
        });
    let server = Server::new(|sent| if sent.id == 2 { status(502) } else { ok() });
    for (id, ends_well) in [(0, true), (1, false), (2, false), (3, true)] {
        let answer = tokio::spawn(layer.layer(server.clone()).oneshot(request(id))).await;
        assert_eq!(answer.is_ok(), ends_well, "{id}");
        assert_idle(&layer);
    }
    assert_eq!(server.ids(), [0, 2, 3]);
}

/// Nobody waits, and nothing is in flight or admitted.
fn assert_idle<M, R>(layer: &RateLimitRetryLayer<M, R>) {
    for seen in layer.limits().snapshot().partitions() {
        let counts = (seen.waiting(), seen.admitted(), seen.in_flight());
        assert_eq!(counts, (0, 0, 0), "{seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_of_the_inner_service_but_clone() {
    let sent = Cell::new(0);
    let borrowing = Borrowing {
        sent: &sent,
        _here: Rc::new(()),
    };
    let answer = RateLimitRetryLayer::new()
        .layer(borrowing)
        .oneshot(request(0))
        .await;
    let Ok(answer) = answer else {
        panic!("it does not fail");
    };
    let report = answer.extensions().get::<RetryReport>().unwrap();
    assert_eq!((report.attempts(), sent.get()), (2, 2));
}

/// Neither `Send` nor `Sync`, `'static` or `Debug`; nor are its errors `Error`s.
#[derive(Clone)]
struct Borrowing<'a> {
    sent: &'a Cell<u32>,
    _here: Rc<()>,
}

struct Plain;

impl Service<Request<ReplayBody<Body>>> for Borrowing<'_> {
    type Response = Response<Body>;
    type Error = Plain;
    type Future = Ready<Result<Response<Body>, Plain>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Plain>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<ReplayBody<Body>>) -> Self::Future {
        self.sent.set(self.sent.get() + 1);
        let mut response = Response::default();
        if self.sent.get() == 1 {
            *response.status_mut() = http::StatusCode::TOO_MANY_REQUESTS;
        }
        ready(Ok(response))
    }
}

/// What holds is checked when it is compiled.
#[test]
fn it_can_be_sent_shared_and_moved_as_the_inner_service_can() {
    type Call<S> = ResponseFuture<S, tower_rate_limit_retry::Identity, Body, AnswerBody>;
    fn send<T: Send>() {}
    fn sync<T: Sync>() {}
    fn unpin<T: Unpin>() {}
    fn is_static<T: 'static>() {}
    send::<RateLimitRetryLayer>();
    sync::<RateLimitRetryLayer>();
    unpin::<RateLimitRetryLayer>();
    is_static::<RateLimitRetryLayer>();
    send::<RateLimitRetry<Server>>();
    sync::<RateLimitRetry<Server>>();
    unpin::<RateLimitRetry<Server>>();
    // Its own future is `Send` and nothing else.
    send::<Call<Server>>();
    // A `Cell` in the inner service takes nothing from the layer but `Sync` of the service.
    send::<RateLimitRetry<Cell<u8>>>();
    send::<Limits>();
    sync::<Limits>();
    send::<ReplayBody<Pin<Box<dyn http_body::Body<Data = bytes::Bytes, Error = String> + Send>>>>();
    sync::<ReplayBody<Pin<Box<dyn http_body::Body<Data = bytes::Bytes, Error = String> + Send>>>>();
    unpin::<ReplayBody<Pin<Box<dyn http_body::Body<Data = bytes::Bytes, Error = String> + Send>>>>(
    );
    send::<ResponseBody<AnswerBody>>();
    unpin::<ResponseBody<AnswerBody>>();
}
