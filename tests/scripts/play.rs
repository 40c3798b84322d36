//! Plays a script on the layer.

use crate::{
    log::{Event, Log},
    script::{Call, Fate, Script, Sends},
    server::{Body, Broken, Id, Limited, Server, Tokens},
};
use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
    time::Duration,
};
use tokio::time::{Instant, advance, sleep, sleep_until, timeout};
use tower::{Layer, Service, ServiceExt, limit::GlobalConcurrencyLimitLayer};
use tower_rate_limit_retry::{
    PartitionSnapshot, RateLimitRetryLayer, RequestOptions, ResponseBody, RetryReport, Source,
};

/// Of what only refusals have taught, a rate may be as slow as the script's times are long.
const LONGEST: Duration = Duration::from_secs(2 * 3_600);

/// After this long nothing counts any longer that was given up.
const SETTLED: Duration = Duration::from_secs(3_600);

/// Beyond this many there is always room.
const ROOM: usize = 1_000;

type Calling = Pin<Box<dyn Future<Output = Result<Response<ResponseBody<Body>>, Broken>> + Send>>;

/// What is left when all is over.
pub(crate) struct Outcome {
    pub(crate) log: Log,
    pub(crate) snapshot: PartitionSnapshot,
    /// How many the server has refused by a limit of its own, once it has told of it.
    pub(crate) over_limit: usize,
}

impl Outcome {
    /// Nobody waits, nothing is reserved or in flight, all that was done is counted, and of what was
    /// declared all is there again.
    pub(crate) fn assert_over(&self) {
        let (log, snapshot) = (&self.log, &self.snapshot);
        let counts = (
            snapshot.waiting(),
            snapshot.admitted(),
            snapshot.in_flight(),
        );
        assert_eq!(counts, (0, 0, 0), "{log:?}");
        let of = |source| {
            snapshot
                .dimensions()
                .iter()
                .filter(move |d| d.source() == source)
        };
        for declared in of(Source::Declared) {
            assert_eq!(declared.remaining(), declared.limit(), "{log:?}");
        }
        let totals = snapshot.totals();
        let counted = (totals.calls(), totals.attempts());
        let done = (
            log.count(Event::Called) as u64,
            log.count(Event::Sent) as u64,
        );
        assert_eq!(counted, done, "{log:?}");
        log.assert_attempts_are_told();
    }
}

/// Plays a script on a layer, with a server that has this limit, if any; in a time of its own.
pub(crate) fn play(
    script: &Script,
    layer: &RateLimitRetryLayer,
    limited: impl FnOnce() -> Option<Limited>,
) -> Outcome {
    // The jitter of the delays is the same each time.
    fastrand::seed(1);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime that needs nothing of the system");
    runtime.block_on(async {
        let log = Log::new();
        let ended = timeout(LONGEST, run(script, layer, limited(), log.clone())).await;
        ended.unwrap_or_else(|_| panic!("somebody waits for ever: {log:?}"))
    })
}

async fn run(
    script: &Script,
    layer: &RateLimitRetryLayer,
    limited: Option<Limited>,
    log: Log,
) -> Outcome {
    let began = Instant::now();
    let server = Server::new(script, &log, limited);
    let limited = server.limited.clone();
    let room = GlobalConcurrencyLimitLayer::new(script.room.unwrap_or(ROOM));
    let service = layer.layer(room.layer(server));
    let mut tasks = Vec::new();
    let mut clock = Vec::new();
    for (id, call) in script.calls.iter().cloned().enumerate() {
        let (service, log) = (service.clone(), log.clone());
        tasks.push(tokio::spawn(async move {
            sleep_until(began + Duration::from(call.at)).await;
            perform(id, call, service, log).await
        }));
    }
    for (at, by) in script.steps.clone() {
        clock.push(tokio::spawn(async move {
            sleep(at.into()).await;
            advance(by.into()).await;
        }));
    }
    let forgotten: Vec<_> = join_all(tasks).await;
    let forgotten = forgotten
        .into_iter()
        .map(|ended| ended.expect("no call panics"));
    for (id, calling) in forgotten.enumerate() {
        if calling.is_some() {
            log.add(id, Event::Dropped);
        }
    }
    join_all(clock).await;
    sleep(SETTLED).await;
    let snapshot = layer.limits().snapshot();
    Outcome {
        log,
        snapshot: snapshot.partitions()[0].clone(),
        over_limit: limited.map_or(0, |limited| limited.lock().unwrap().refused),
    }
}

/// Gives the future of a call that is not polled any more.
async fn perform<S>(id: usize, call: Call, mut service: S, log: Log) -> Option<Calling>
where
    S: Service<Request<Body>, Response = Response<ResponseBody<Body>>, Error = Broken>,
    S::Future: Send + 'static,
{
    let fate = call.fate;
    let service = service.ready().await.unwrap();
    log.add(id, Event::Called);
    let mut calling: Calling = Box::pin(service.call(request(id, &call)));
    let began = Instant::now();
    let answer = match fate {
        Fate::Polled | Fate::Unread => Some(calling.await),
        Fate::Dropped { polls } => some_polls(&mut calling, polls).await,
        Fate::Cancelled { at } => {
            let left = Duration::from(at).saturating_sub(began.elapsed());
            timeout(left, &mut calling).await.ok()
        }
        Fate::Held { polls, time } => {
            let mut answer = some_polls(&mut calling, polls).await;
            if answer.is_none() {
                sleep(time.into()).await;
                answer = Some(calling.await);
            }
            answer
        }
        Fate::Forgotten { polls } => {
            let answer = some_polls(&mut calling, polls).await;
            if answer.is_none() {
                return Some(calling);
            }
            answer
        }
    };
    let Some(answer) = answer else {
        log.add(id, Event::Dropped);
        return None;
    };
    let told = answer.as_ref().ok().map(|answer| {
        let report = answer.extensions().get::<RetryReport>();
        report.map_or(1, RetryReport::attempts)
    });
    log.add(id, Event::Answered(told));
    if let (Ok(answer), true) = (answer, fate != Fate::Unread) {
        answer.into_body().collect().await.unwrap();
    }
    None
}

/// The answer, if so many polls bring it.
async fn some_polls(calling: &mut Calling, polls: u32) -> Option<<Calling as Future>::Output> {
    let mut left = polls;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match calling.as_mut().poll(cx) {
            Poll::Pending if left == 0 => Poll::Ready(None),
            polled => polled.map(Some),
        }
    })
    .await
}

fn request(id: usize, call: &Call) -> Request<Body> {
    let body = match call.body {
        Sends::Nothing => Empty::new().boxed_unsync(),
        Sends::Bytes => Full::from("asked").boxed_unsync(),
        Sends::Stream => {
            let frames = ["as", "ked"].map(|frame| Ok(http_body::Frame::data(Bytes::from(frame))));
            StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync()
        }
    };
    let mut request = Request::post("http://api.example.com/v1")
        .body(body)
        .unwrap();
    let mut options = RequestOptions::new()
        .tokens(call.tokens)
        .head_start(call.head_start.into());
    if let Some(deadline) = call.deadline {
        options = options.deadline(deadline.into());
    }
    let extensions = request.extensions_mut();
    extensions.insert(options);
    extensions.insert(Id(id));
    extensions.insert(Tokens(call.tokens as u32));
    request
}
