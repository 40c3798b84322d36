//! Who waits, in what order, and what happens when somebody in line is no longer polled.

mod support;

use futures_util::{FutureExt, StreamExt, future::join_all, stream::FuturesUnordered};
use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use support::{Answer, Server, call, ms, ok, poll_once, read, refuse, request, status};
use tokio::time::{Instant, sleep, timeout};
use tower::{Layer, ServiceExt};
use tower_rate_limit_retry::{
    RateLimitRetry, RateLimitRetryLayer, RequestOptions, RetryReport, StopReason,
};

type Calling = Pin<Box<dyn Future<Output = Result<Answer, std::convert::Infallible>> + Send>>;

async fn calls(
    service: &mut RateLimitRetry<Server>,
    ids: impl IntoIterator<Item = usize>,
) -> Vec<Calling> {
    let mut calls = Vec::new();
    for id in ids {
        calls.push(call(service, request(id)).await as Calling);
    }
    calls
}

/// A layer whose only partition is paused for so long, and a service of it.
async fn paused(server: &Server, seconds: &'static str) -> RateLimitRetry<Server> {
    let layer = RateLimitRetryLayer::new();
    let mut service = layer.layer(server.clone());
    let mut refused = request(9_999);
    refused
        .extensions_mut()
        .insert(RequestOptions::new().max_retries(0));
    let answer = call(&mut service, refused).await.await.unwrap();
    assert_eq!(answer.headers()["retry-after"], seconds);
    service
}

/// Refuses the first request for so long, and serves all others.
fn first_refused(seconds: &'static str) -> Server {
    Server::new(move |sent| {
        if sent.index == 0 {
            refuse(seconds)
        } else {
            ok()
        }
    })
}

fn report(answer: &Answer) -> RetryReport {
    answer.extensions().get::<RetryReport>().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn nobody_is_sent_inside_a_pause_and_all_go_after_it_in_order() {
    let server = first_refused("3");
    let mut service = paused(&server, "3").await;
    let waiting = calls(&mut service, 0..10).await;
    for answer in join_all(waiting).await {
        assert_eq!(answer.unwrap().status(), 200);
    }
    assert_eq!(server.ids()[1..], (0..10).collect::<Vec<_>>());
    assert_eq!(
        server.times()[1..],
        [3_000; 10],
        "each that is served at once lets the next ones go"
    );
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_grows_holds_back_those_who_wait_already() {
    let server = Server::new(|sent| match sent.index {
        0 => refuse("2"),
        1 => refuse("5").after(ms(1_000)),
        _ => ok(),
    });
    let mut service = RateLimitRetryLayer::new().layer(server.clone());
    for answer in join_all(calls(&mut service, 0..3).await).await {
        assert_eq!(answer.unwrap().status(), 200);
    }
    assert!(
        server.times()[3..].iter().all(|&time| time >= 6_000),
        "{:?}",
        server.times()
    );
}

#[tokio::test(start_paused = true)]
async fn a_retry_keeps_its_place() {
    let server = Server::new(|sent| if sent.index == 0 { refuse("1") } else { ok() });
    let mut service = RateLimitRetryLayer::new().layer(server.clone());
    let mut first = calls(&mut service, [0]).await;
    assert!(poll_once(&mut first[0]).await.is_pending());
    let later = calls(&mut service, 1..5).await;
    join_all(later.into_iter().chain(first)).await;
    assert_eq!(server.ids(), [0, 0, 1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_head_start_counts_as_having_arrived_earlier() {
    let server = first_refused("10");
    let mut service = paused(&server, "10").await;
    let mut waiting = Vec::new();
    for (id, head_start) in [(0, 0), (1, 0), (2, 1_500), (3, u64::MAX)] {
        let mut request = request(id);
        request
            .extensions_mut()
            .insert(RequestOptions::new().head_start(ms(head_start)));
        // In a task of its own: those whose turns come at the same instant go as they are woken.
        waiting.push(tokio::spawn(call(&mut service, request).await));
        sleep(ms(1_000)).await;
    }
    join_all(waiting).await;
    assert_eq!(
        server.ids()[1..],
        [3, 0, 2, 1],
        "2 came 2 s after 0 and 1 s after 1"
    );
}

/// Polls each once, so that it is in line and can be woken, and then never again.
async fn hold(mut held: Vec<Calling>) -> Vec<Calling> {
    for call in &mut held {
        assert!(poll_once(call).await.is_pending());
    }
    held
}

#[tokio::test(start_paused = true)]
async fn the_held_at_the_front_delay_the_rest_by_a_tenth_of_a_second_each() {
    for polled in [false, true] {
        let server = first_refused("1");
        let mut service = paused(&server, "1").await;
        let mut held = calls(&mut service, 0..30).await;
        if polled {
            held = hold(held).await;
        }
        let mut live = calls(&mut service, [100]).await;
        let answer = live.remove(0).await.unwrap();
        let waited = report(&answer).waited();
        assert!(
            waited >= ms(1_000) && waited <= ms(1_000 + 30 * 100 + 300),
            "{waited:?}"
        );
        assert_eq!(server.ids()[1..], [100]);
        // Polled after all, they go in their own order.
        for answer in join_all(held).await {
            assert_eq!(answer.unwrap().status(), 200);
        }
        assert_eq!(server.ids()[2..], (0..30).collect::<Vec<_>>());
        sleep(ms(1_000)).await;
        let began = Instant::now();
        service.oneshot(request(200)).await.unwrap();
        assert_eq!(began.elapsed(), ms(0), "and nothing is left in the way");
    }
}

/// Announces a bucket of one request that fills in a second, and refuses nobody.
fn one_a_second() -> Server {
    Server::new(|_| {
        ok().header("x-ratelimit-limit-requests", "1")
            .header("x-ratelimit-remaining-requests", "0")
            .header("x-ratelimit-reset-requests", "1s")
    })
}

#[tokio::test(start_paused = true)]
async fn a_paced_line_passes_over_the_held_as_fast() {
    for (polled, held) in [(false, 30), (true, 30), (true, 1), (true, 2), (true, 3)] {
        let server = one_a_second();
        let mut service = RateLimitRetryLayer::new().layer(server.clone());
        calls(&mut service, [1_000]).await.remove(0).await.unwrap();
        let lost = ms(100 * held as u64 + 300);
        let mut held = calls(&mut service, 0..held).await;
        if polled {
            held = hold(held).await;
        }
        let live = calls(&mut service, 100..103).await;
        let began = Instant::now();
        let answers = join_all(live).await;
        assert_eq!(answers.len(), 3);
        assert!(
            began.elapsed() <= ms(3_000) + lost,
            "{lost:?}, {:?}",
            began.elapsed()
        );
        assert_eq!(server.ids()[1..], [100, 101, 102]);
        drop(held);
        service.oneshot(request(200)).await.unwrap();
        assert_eq!(
            server.times()[4] - server.times()[3],
            1_000,
            "and no count is wrong"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn those_held_in_flight_delay_nobody() {
    let server = Server::new(|sent| {
        if sent.id < 30 {
            ok().after(ms(10))
        } else {
            ok()
        }
    });
    let mut service = RateLimitRetryLayer::new().layer(server.clone());
    // Five at once, and two for each that was not refused in the 100 ms that stand for a round trip.
    let mut held = Vec::new();
    for ids in [0..5, 5..15, 15..30] {
        held.extend(hold(calls(&mut service, ids).await).await);
        sleep(ms(100)).await;
    }
    assert_eq!(server.log().len(), 30);
    let began = Instant::now();
    service.clone().oneshot(request(100)).await.unwrap();
    assert_eq!(began.elapsed(), ms(0));
    drop(held);
    service.oneshot(request(101)).await.unwrap();
    assert_eq!(began.elapsed(), ms(0));
}

#[tokio::test(start_paused = true)]
async fn those_held_while_they_read_a_refusal_hold_back_no_longer_than_it_says() {
    // A refusal without a hint, whose body never comes to an end.
    let server = Server::new(|sent| if sent.index == 0 { status(429) } else { ok() });
    let service = RateLimitRetryLayer::new().layer(server.clone());
    let mut held = Box::pin(service.clone().oneshot(request(0)));
    let _ = poll_once(&mut held).await;
    let began = Instant::now();
    timeout(ms(2_000), service.oneshot(request(1)))
        .await
        .unwrap()
        .unwrap();
    assert!(began.elapsed() <= ms(750 + 100), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_nobody_reads_keeps_no_other_alive() {
    let server = Server::new(|sent| match sent.id {
        0 => status(429).endless().after(ms(10)),
        1 => refuse("200")
            .body(r#"{"error":{"code":"insufficient_quota"}}"#)
            .after(ms(20)),
        _ => ok(),
    });
    let mut service = RateLimitRetryLayer::new().layer(server);
    let mut both = hold(calls(&mut service, 0..2).await).await;
    sleep(ms(15)).await;
    assert!(
        poll_once(&mut both[0]).await.is_pending(),
        "reads, and is not polled again"
    );
    let answer = both.remove(1).await.unwrap();
    assert_eq!(
        report(&answer).stop_reason(),
        Some(StopReason::NotRetryable)
    );
    let began = Instant::now();
    service.oneshot(request(2)).await.unwrap();
    assert!(began.elapsed() <= ms(250), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn nobody_is_given_up_because_of_a_hint_that_is_still_being_read() {
    let server = Server::new(|sent| match sent.id {
        0 => refuse("1"),
        1 => refuse("60")
            .slow(ms(20), r#"{"error":{"code":"insufficient_quota"}}"#)
            .after(ms(500)),
        _ => ok(),
    });
    let mut service = RateLimitRetryLayer::new().max_retries(0).layer(server);
    let both = calls(&mut service, 0..2).await;
    let both = tokio::spawn(join_all(both));
    sleep(ms(1)).await;
    let mut hurried = request(2);
    hurried
        .extensions_mut()
        .insert(RequestOptions::new().deadline(ms(20_000)));
    let answer = service.oneshot(hurried).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), report(&answer).waited()),
        (200, ms(999))
    );
    both.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn behind_a_held_front_a_nearer_opening_is_not_missed() {
    let server = Server::new(|sent| match sent.id {
        0 => refuse("2"),
        1 => refuse("200")
            .slow(ms(20), r#"{"error":{"code":"insufficient_quota"}}"#)
            .after(ms(500)),
        _ => ok(),
    });
    let mut service = RateLimitRetryLayer::new().max_retries(0).layer(server);
    let both = tokio::spawn(join_all(calls(&mut service, 0..2).await));
    // While the hint of 200 s is being read, one gets in line and is held, and one behind it waits.
    sleep(ms(510)).await;
    let held = hold(calls(&mut service, [2]).await).await;
    // In a task of its own: what wakes the held one must not wake it by the way.
    let behind = tokio::spawn(service.oneshot(request(3)));
    let waited = report(&behind.await.unwrap().unwrap()).waited();
    assert!((ms(1_490)..=ms(1_690)).contains(&waited), "{waited:?}");
    both.await.unwrap();
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn smaller_ones_do_not_wait_for_one_that_is_too_large_for_what_is_left() {
    let server = Server::new(|sent| match sent.index {
        0 => refuse("60")
            .header("x-ratelimit-limit-tokens", "60000")
            .header("x-ratelimit-remaining-tokens", "100"),
        _ => ok(),
    });
    let mut service = RateLimitRetryLayer::new().layer(server.clone());
    let of_tokens = |id, tokens| {
        let mut request = request(id);
        request
            .extensions_mut()
            .insert(RequestOptions::new().tokens(tokens));
        request
    };
    let large = tokio::spawn(call(&mut service, of_tokens(0, 5_000)).await);
    sleep(ms(10)).await;
    let small = service.oneshot(of_tokens(1, 10)).await.unwrap();
    assert!(
        small.extensions().get::<RetryReport>().is_none(),
        "it went at once"
    );
    assert_eq!(large.await.unwrap().unwrap().status(), 200);
    assert_eq!(server.times(), [0, 10, 60_000]);
}

#[tokio::test(start_paused = true)]
async fn each_call_is_told_by_its_own_maximum_delay() {
    let server = Server::new(|sent| match sent.index {
        0 => refuse("60"),
        _ => refuse("1800").after(ms(500)),
    });
    let hurried = RateLimitRetryLayer::new().max_retries(0);
    let patient = hurried.clone().max_delay(Duration::from_secs(3_600));
    let (mut hurried, mut patient) = (hurried.layer(server.clone()), patient.layer(server));
    let mut refused = calls(&mut patient, 0..2).await;
    let later = tokio::spawn(refused.remove(1));
    refused.remove(0).await.unwrap();
    let began = Instant::now();
    let waiting = calls(&mut hurried, [2]).await.remove(0);
    let answer = waiting.await.unwrap();
    assert_eq!(report(&answer).stop_reason(), Some(StopReason::MaxDelay));
    assert_eq!(began.elapsed(), ms(500));
    later.await.unwrap().unwrap();
}

/// A waker that owns a call, as that of an executor owns its task.
struct Owner {
    _call: std::sync::Mutex<Option<Calling>>,
}

impl std::task::Wake for Owner {
    fn wake(self: Arc<Self>) {}
}

#[tokio::test(start_paused = true)]
async fn a_waker_may_own_another_call_of_the_same_partition() {
    let server = first_refused("1");
    let mut service = paused(&server, "1").await;
    let mut both = calls(&mut service, 0..2).await;
    let owner = Arc::new(Owner {
        _call: std::sync::Mutex::new(both.pop()),
    });
    let waker = std::task::Waker::from(owner);
    let mut owned = both.remove(0);
    let mut cx = std::task::Context::from_waker(&waker);
    assert!(owned.as_mut().poll(&mut cx).is_pending());
    drop(waker);
    // The timer goes off and lets go of its copy; the last one is the queue's.
    sleep(ms(2_000)).await;
    let (done, finished) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        drop(owned);
        done.send(()).unwrap();
    });
    let finished = finished.recv_timeout(Duration::from_secs(10));
    finished.expect("dropping a waker takes the lock that it is dropped under");
}

#[test]
fn a_runtime_that_is_no_longer_driven_stops_nobody_on_another() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
    };
    let (dead, alive) = (runtime(), runtime());
    let server = first_refused("0.2");
    let mut service = alive.block_on(paused(&server, "0.2"));
    // In turn: one on the runtime that is driven once, one on that which goes on.
    let mut tasks = Vec::new();
    for id in 0..20 {
        let waiting = call(&mut service, request(id)).now_or_never().unwrap();
        if id % 2 == 0 {
            drop(dead.spawn(waiting));
        } else {
            tasks.push(alive.spawn(waiting));
        }
    }
    dead.block_on(tokio::task::yield_now());
    alive.block_on(async {
        for task in tasks {
            timeout(Duration::from_secs(10), task)
                .await
                .expect("no task hangs")
                .unwrap()
                .unwrap();
        }
    });
    let mut ids = server.ids();
    ids.sort_unstable();
    assert_eq!(ids, [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 9_999]);
}

#[tokio::test(start_paused = true)]
async fn whoever_is_dropped_passes_the_turn_on() {
    // While it waits, never polled or polled; at the front or behind it; as its turn comes, and
    // after it has lapsed.
    for dropped in [0, 1] {
        for (polled, at) in [
            (false, 0),
            (true, 0),
            (true, 999),
            (true, 1_000),
            (true, 1_050),
            (true, 1_250),
        ] {
            let server = first_refused("1");
            let mut service = paused(&server, "1").await;
            let mut waiting = calls(&mut service, 0..3).await;
            let mut leaving = waiting.remove(dropped);
            if polled {
                assert!(poll_once(&mut leaving).await.is_pending());
            }
            let rest: Vec<_> = waiting.into_iter().map(tokio::spawn).collect();
            sleep(ms(at)).await;
            drop(leaving);
            for task in rest {
                let waited = report(&task.await.unwrap().unwrap()).waited();
                assert!(waited <= ms(1_400), "{dropped} {polled} {at}: {waited:?}");
            }
            let ids = [1, 2, 0, 2].chunks(2).nth(dropped).unwrap().to_vec();
            assert_eq!(server.ids()[1..], ids, "what was dropped is never sent");
            let began = Instant::now();
            service.oneshot(request(3)).await.unwrap();
            assert_eq!(began.elapsed(), ms(0));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_dropped_under_way_leaves_no_count_behind() {
    let server = Server::new(|sent| match sent.id {
        0 => ok().after(ms(5_000)),
        1 => status(429).after(ms(10)).endless(),
        _ => ok(),
    });
    let mut service = RateLimitRetryLayer::new().layer(server.clone());
    let mut under_way = hold(calls(&mut service, 0..2).await).await;
    sleep(ms(10)).await;
    assert!(
        poll_once(&mut under_way[1]).await.is_pending(),
        "is reading its refusal"
    );
    drop(under_way);
    let began = Instant::now();
    service.clone().oneshot(request(2)).await.unwrap();
    assert_eq!(
        began.elapsed(),
        ms(250),
        "a refusal that nobody has understood holds back for as long as it is read"
    );
    service.oneshot(request(3)).await.unwrap();
    assert_eq!((began.elapsed(), server.ids()), (ms(250), vec![0, 1, 2, 3]));
}

#[tokio::test(start_paused = true)]
async fn no_more_wait_than_may() {
    let server = first_refused("5");
    let layer = RateLimitRetryLayer::new().max_waiting(2);
    let mut service = layer.layer(server.clone());
    let mut waiting = hold(calls(&mut service, 0..1).await).await;
    waiting.extend(hold(calls(&mut service, 1..2).await).await);
    let answer = service.clone().oneshot(request(2)).await.unwrap();
    let report = report(&answer);
    assert_eq!(
        (report.attempts(), report.stop_reason()),
        (0, Some(StopReason::MaxWaiting))
    );
    assert_eq!(
        answer.headers()["retry-after"],
        "5",
        "when the pause ends: how soon its place would come after that is not known"
    );
    join_all(waiting).await;
    assert_eq!(
        service.oneshot(request(3)).await.unwrap().status(),
        200,
        "there is room again"
    );
}

#[tokio::test(start_paused = true)]
async fn where_only_an_unused_admission_is_ahead_nobody_is_turned_away() {
    // The first is too large for what is left, and has to wait by itself.
    let server = Server::new(|sent| match sent.index {
        0 => refuse("60")
            .header("x-ratelimit-limit-tokens", "60000")
            .header("x-ratelimit-remaining-tokens", "100"),
        _ => ok(),
    });
    let mut service = RateLimitRetryLayer::new()
        .max_waiting(0)
        .layer(server.clone());
    let mut large = request(0);
    large
        .extensions_mut()
        .insert(RequestOptions::new().tokens(5_000));
    let held = hold(vec![call(&mut service, large).await as Calling]).await;
    sleep(ms(60_050)).await;
    // Its turn has come, and it is admitted by whoever comes next.
    let answer = service.oneshot(request(1)).await.unwrap();
    assert_eq!(answer.status(), 200);
    join_all(held).await;
    assert_eq!(server.ids(), [0, 1, 0]);
    assert_eq!(server.times(), [0, 60_050, 60_050]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_cannot_be_sent_in_time_is_told_so_at_once() {
    let server = first_refused("60");
    let service = paused(&server, "60").await;
    let mut hurried = request(1);
    hurried
        .extensions_mut()
        .insert(RequestOptions::new().deadline(ms(20_000)));
    let began = Instant::now();
    let answer = service.oneshot(hurried).await.unwrap();
    assert_eq!(began.elapsed(), ms(0));
    let found = report(&answer);
    assert_eq!(
        (found.attempts(), found.stop_reason()),
        (0, Some(StopReason::Deadline))
    );
    assert!(found.answered_locally());
    assert_eq!(answer.headers()["retry-after"], "60");
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let (status, body) = read(answer).await;
    let problem: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 429);
    assert_eq!(
        problem["type"],
        "https://iana.org/assignments/http-problem-types#quota-exceeded"
    );
    assert_eq!(problem["partition"], "api.example.com");
    assert_eq!(problem["reason"], "deadline");
    assert_eq!(problem["held-by"], "pause");
    assert_eq!(problem["error"]["code"], "rate_limit_exceeded");
    assert!(
        problem["error"]["message"]
            .as_str()
            .unwrap()
            .contains("60.000 s"),
        "{body}"
    );
    let end: jiff::Timestamp = problem["end"].as_str().unwrap().parse().unwrap();
    let until_end = end.duration_since(jiff::Timestamp::now()).as_secs_f64();
    assert!((50.0..=60.0).contains(&until_end), "{until_end}");
    assert_eq!(server.ids(), [9_999], "it was never sent");
}

#[tokio::test(start_paused = true)]
async fn a_place_that_cannot_be_reached_in_time_is_not_taken() {
    let server = one_a_second();
    let mut service = RateLimitRetryLayer::new()
        .deadline(ms(10_000))
        .layer(server.clone());
    calls(&mut service, [0]).await.remove(0).await.unwrap();
    let waiting: FuturesUnordered<_> = calls(&mut service, 1..=20).await.into_iter().collect();
    let began = Instant::now();
    let answers: Vec<_> = waiting
        .map(|answer| (answer.unwrap().status().as_u16(), began.elapsed()))
        .collect()
        .await;
    let (sent, turned_away): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|(status, _)| *status == 200);
    assert_eq!((sent.len(), turned_away.len()), (9, 11));
    assert!(
        turned_away.iter().all(|(_, elapsed)| elapsed.is_zero()),
        "{turned_away:?}"
    );
    assert_eq!(server.log().len(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_passes_in_line_gives_back_the_refusal_that_came_before() {
    // The third refusal comes from somebody else, while the first caller waits to be sent again.
    let server = Server::new(|sent| match sent.index {
        0 => refuse("2")
            .header("x-mark", "first")
            .body("the first refusal"),
        _ => refuse("100").after(ms(500)).body("another"),
    });
    let mut service = RateLimitRetryLayer::new()
        .deadline(ms(10_000))
        .layer(server.clone());
    let both = calls(&mut service, 0..2).await;
    let began = Instant::now();
    let mut answers: Vec<_> = join_all(
        both.into_iter()
            .map(|call| async { (call.await.unwrap(), began.elapsed()) }),
    )
    .await;
    let (second, second_took) = answers.pop().unwrap();
    let (first, first_took) = answers.pop().unwrap();
    assert_eq!(
        (first_took, second_took),
        (ms(500), ms(500)),
        "as soon as it is known"
    );
    assert_eq!(first.headers()["x-mark"], "first");
    assert_eq!(
        (report(&first).attempts(), report(&first).stop_reason()),
        (1, Some(StopReason::Deadline))
    );
    assert_eq!(read(first).await, (429, "the first refusal".into()));
    assert_eq!(read(second).await, (429, "another".into()));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_too_large_to_keep_is_answered_in_our_words() {
    let server = Server::new(|sent| match sent.index {
        0 => refuse("2").endless(),
        _ => refuse("100").after(ms(500)),
    });
    let mut service = RateLimitRetryLayer::new()
        .deadline(ms(10_000))
        .layer(server.clone());
    let answer = join_all(calls(&mut service, 0..2).await)
        .await
        .remove(0)
        .unwrap();
    let found = report(&answer);
    assert_eq!(
        (found.attempts(), found.stop_reason()),
        (1, Some(StopReason::Deadline))
    );
    assert!(found.answered_locally());
    let (_, body) = read(answer).await;
    assert!(
        body.contains("answered with status 429, whose body was too large or too slow to be kept"),
        "{body}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_pause_beyond_the_maximum_delay_ends_all_who_wait() {
    let server = Server::new(|sent| {
        if sent.index == 0 {
            refuse("2")
        } else {
            refuse("3600").after(ms(1_000))
        }
    });
    let mut service = RateLimitRetryLayer::new().layer(server.clone());
    let both = calls(&mut service, 0..2).await;
    let queued = Arc::new(AtomicUsize::new(0));
    let late: Vec<_> = (2..5)
        .map(|id| {
            let (service, queued) = (service.clone(), Arc::clone(&queued));
            tokio::spawn(async move {
                sleep(ms(500)).await;
                queued.fetch_add(1, SeqCst);
                service.oneshot(request(id)).await.unwrap()
            })
        })
        .collect();
    let began = Instant::now();
    join_all(both).await;
    for task in late {
        assert_eq!(
            report(&task.await.unwrap()).stop_reason(),
            Some(StopReason::MaxDelay)
        );
    }
    assert_eq!((began.elapsed(), queued.load(SeqCst)), (ms(1_000), 3));
}
