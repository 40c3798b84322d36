//! The inner service of every strategy: a network, and the servers at its other end.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, sleep_until},
};
use tower::Service;

use crate::{
    records::Records,
    workload::Workload,
    world::{Server, Weather, World},
};

/// What belongs to a call, in the extensions of its requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    /// The number of the call.
    pub(crate) call: usize,
    pub(crate) tokens: u32,
}

impl Ticket {
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        let ticket = request.extensions().get();
        *ticket.expect("every request carries its ticket")
    }
}

/// Clones are the same network.
///
/// A request that was sent arrives, and is charged, whether or not its sender still wants the
/// answer.
#[derive(Clone)]
pub(crate) struct Wire {
    workload: Arc<Workload>,
    weather: Weather,
    state: Arc<Mutex<State>>,
}

pub(crate) struct State {
    servers: Vec<Server>,
    pub(crate) records: Records,
}

impl Wire {
    pub(crate) fn new(world: &World, workload: Arc<Workload>, seed: u64, records: Records) -> Self {
        let state = State {
            servers: (world.servers)(Instant::now()),
            records,
        };
        Self {
            workload,
            weather: Weather::of(world, seed),
            state: Arc::new(Mutex::new(state)),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn exchange(self, call: usize, attempt: u32, arrival: Instant, answer: Answered) {
        let planned = self.workload.calls[call];
        sleep_until(arrival).await;
        let verdict = self.lock().servers[planned.key].arrive(planned.tokens, Instant::now());
        if verdict.is_served {
            sleep(self.weather.service(call)).await;
            self.lock().servers[planned.key].leave();
        }
        sleep(self.weather.back(call, attempt)).await;
        let mut response = Response::new(Full::default());
        *response.headers_mut() = verdict.headers;
        if !verdict.is_served {
            *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        }
        self.lock().records.answered(call, attempt, &response);
        // Nobody may wait for it any more.
        let _ = answer.send(response);
    }
}

type Answered = oneshot::Sender<Response<Full<Bytes>>>;

impl<B> Service<Request<B>> for Wire {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Answer {
        let Ticket { call, .. } = Ticket::of(&request);
        let attempt = self.lock().records.sent(call);
        let arrival = Instant::now() + self.weather.there(call, attempt);
        let (answered, answer) = oneshot::channel();
        tokio::spawn(self.clone().exchange(call, attempt, arrival, answered));
        Answer(answer)
    }
}

/// The answer to one request.
pub(crate) struct Answer(oneshot::Receiver<Response<Full<Bytes>>>);

impl Future for Answer {
    type Output = Result<Response<Full<Bytes>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.0).poll(cx));
        Poll::Ready(Ok(answer.expect("every request is answered")))
    }
}
