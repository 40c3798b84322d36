//! One strategy in one world.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use cpu_time::ThreadTime;
use http::Request;
use http_body_util::Full;
use tokio::{
    runtime::Builder,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tower::ServiceExt;
use tower_rate_limit_retry::RequestOptions;

use crate::{
    outcome::Outcome,
    records::Records,
    strategy::{Client, Strategy},
    wire::{Ticket, Wire},
    workload::{Pace, Patience, Workload},
    world::{Stated, World},
};

/// Runs a race in virtual time: the same arguments have the same outcome, but for the CPU time.
///
/// It is over when all calls have ended, or after fifty times the ideal time and ten minutes.
pub(crate) fn run(
    world: &World,
    workload: &Arc<Workload>,
    strategy: &Strategy,
    seed: u64,
    ideal: Duration,
    is_traced: bool,
) -> Outcome {
    // The jitter of the clients is drawn from the thread's own generator.
    fastrand::seed(seed);
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime that needs nothing of the system");
    let cpu = ThreadTime::now();
    let wire = runtime.block_on(async {
        let records = Records::new(workload.calls.len(), is_traced);
        let wire = Wire::new(world, Arc::clone(workload), seed, records);
        let client = |_| (strategy.client)(world, wire.clone());
        let race = Arc::new(Race {
            clients: (0..world.processes).map(client).collect(),
            wire: wire.clone(),
            workload: Arc::clone(workload),
            stated: world.stated,
            next: AtomicUsize::new(0),
        });
        race.run(ideal * 50 + Duration::from_secs(600)).await;
        wire
    });
    drop(runtime);
    let state = wire.lock();
    Outcome::new(&state.records, workload, ideal, cpu.elapsed())
}

struct Race {
    /// One for each process.
    clients: Vec<Client>,
    wire: Wire,
    workload: Arc<Workload>,
    stated: Stated,
    /// The next call of a closed loop.
    next: AtomicUsize,
}

impl Race {
    async fn run(self: Arc<Self>, longest: Duration) {
        let end = Instant::now() + longest;
        let exhausted = Arc::clone(&self.wire.lock().records.exhausted);
        let mut callers = self.start();
        let all = async {
            while let Some(caller) = callers.join_next().await {
                caller.expect("callers do not panic");
            }
        };
        tokio::select! {
            biased;
            () = all => {}
            () = exhausted.notified() => {}
            () = sleep_until(end) => {}
        }
    }

    fn start(self: &Arc<Self>) -> JoinSet<()> {
        let mut callers = JoinSet::new();
        match self.workload.pace {
            Pace::Closed => {
                for _ in 0..Pace::WORKERS {
                    callers.spawn(Arc::clone(self).work());
                }
            }
            Pace::AtOnce | Pace::Poisson(_) => {
                for (number, call) in self.workload.calls.iter().enumerate() {
                    let (race, at) = (Arc::clone(self), call.at);
                    callers.spawn(async move {
                        if !at.is_zero() {
                            sleep(at).await;
                        }
                        race.call(number).await;
                    });
                }
            }
        }
        callers
    }

    async fn work(self: Arc<Self>) {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.workload.calls.len() {
                return;
            }
            self.call(number).await;
        }
    }

    async fn call(&self, number: usize) {
        let planned = self.workload.calls[number];
        self.wire.lock().records.called(number);
        let answer = self.clients[planned.process]
            .clone()
            .oneshot(self.request(number));
        let patience = async {
            match planned.patience {
                Patience::Endless => std::future::pending().await,
                Patience::SinceCall(patience) => sleep(patience).await,
                Patience::SinceSending(patience) => {
                    let sending = self.wire.lock().records.sending(number);
                    sending.notified().await;
                    sleep(patience).await;
                }
            }
        };
        let is_success = tokio::select! {
            biased;
            status = answer => status.is_ok_and(|status| status.is_success()),
            () = patience => false,
        };
        self.wire.lock().records.ended(number, is_success);
    }

    fn request(&self, number: usize) -> Request<Full<Bytes>> {
        let planned = self.workload.calls[number];
        let mut body = Bytes::new();
        let mut request = Request::post("http://api.example.com/v1/chat/completions")
            .header("authorization", format!("Bearer {}", planned.key))
            .extension(Ticket {
                call: number,
                tokens: planned.tokens,
            });
        match self.stated {
            Stated::Nowhere => {}
            Stated::AsOption => {
                let tokens = u64::from(planned.tokens);
                request = request.extension(RequestOptions::new().tokens(tokens));
            }
            Stated::InBody => {
                let tokens = planned.tokens;
                let json = format!(r#"{{"model":"m","max_tokens":{tokens},"messages":[]}}"#);
                request = request.header("content-type", "application/json");
                body = json.into();
            }
        }
        request.body(body.into()).expect("a request of fixed parts")
    }
}
