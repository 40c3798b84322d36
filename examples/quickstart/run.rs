//! Sending many requests, and counting what becomes of them.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use tokio::task::JoinSet;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_rate_limit_retry::RetryReport;

use crate::chat::{Endpoint, Failure};

type BoxError = Box<dyn Error + Send + Sync>;

/// What became of the requests of one run.
#[derive(Debug, Default)]
pub(crate) struct Run {
    pub(crate) name: &'static str,
    pub(crate) succeeded: usize,
    pub(crate) failed: usize,
    /// Requests that reached the client below the layer, retries included.
    pub(crate) sent: u64,
    /// How many of them were answered with a 429.
    pub(crate) refused: u64,
    pub(crate) wall_time: Duration,
    /// How many requests the layer held back, and the longest time it did.
    waited: usize,
    longest_wait: Duration,
    last_error: Option<String>,
}

/// What a client has really sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts(Arc<Sums>);

#[derive(Debug, Default)]
struct Sums {
    sent: AtomicU64,
    refused: AtomicU64,
}

impl Counts {
    /// Counts what goes through `client`, and the 429s that come back.
    pub(crate) fn count<S, B, R>(
        &self,
        client: S,
    ) -> impl Service<Request<B>, Response = Response<R>, Error = S::Error, Future: Send>
    + Clone
    + use<S, B, R>
    where
        S: Service<Request<B>, Response = Response<R>, Future: Send> + Clone,
    {
        let (requests, responses) = (self.clone(), self.clone());
        ServiceBuilder::new()
            .map_request(move |request: Request<B>| {
                requests.0.sent.fetch_add(1, Ordering::Relaxed);
                request
            })
            .map_response(move |response: Response<R>| {
                if response.status() == StatusCode::TOO_MANY_REQUESTS {
                    responses.0.refused.fetch_add(1, Ordering::Relaxed);
                }
                response
            })
            .service(client)
    }
}

/// Sends one request to each of `models`, all at once, through clones of `service`.
///
/// # Errors
///
/// The message of the first failure that all the others will share.
pub(crate) async fn send_all<S, B>(
    name: &'static str,
    service: S,
    endpoint: &Endpoint,
    models: &[&str],
    counts: &Counts,
) -> Result<Run, String>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error: Into<BoxError>, Future: Send>,
    S: Clone + Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let progress = progress_bar(name, models.len());
    let start = Instant::now();
    let mut calls = JoinSet::new();
    for model in models {
        let request = endpoint.request(model);
        calls.spawn(call(service.clone(), request, endpoint.clone()));
    }
    let mut run = Run {
        name,
        ..Run::default()
    };
    while let Some(answer) = calls.join_next().await {
        run.add(answer.expect("a call does not panic"))?;
        progress.inc(1);
    }
    progress.finish_and_clear();
    run.wall_time = start.elapsed();
    run.sent = counts.0.sent.load(Ordering::Relaxed);
    run.refused = counts.0.refused.load(Ordering::Relaxed);
    Ok(run)
}

/// What became of one request.
struct Answer {
    /// How long the layer held it back.
    waited: Duration,
    outcome: Result<(), Failure>,
}

async fn call<S, B>(service: S, request: Request<Full<Bytes>>, endpoint: Endpoint) -> Answer
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error: Into<BoxError>>,
    B: Body<Error: Into<BoxError>>,
{
    match exchange(service, request).await {
        Ok(response) => Answer {
            // The layer says what it did, if it did anything.
            waited: match response.extensions().get::<RetryReport>() {
                Some(report) => report.waited(),
                None => Duration::ZERO,
            },
            outcome: endpoint.check(&response),
        },
        Err(error) => Answer {
            waited: Duration::ZERO,
            outcome: Err(endpoint.broken(&*error)),
        },
    }
}

/// Sends one request and reads the whole answer.
async fn exchange<S, B>(
    service: S,
    request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>, BoxError>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error: Into<BoxError>>,
    B: Body<Error: Into<BoxError>>,
{
    let response = service.oneshot(request).await.map_err(Into::into)?;
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(Into::into)?;
    Ok(Response::from_parts(head, body.to_bytes()))
}

impl Run {
    fn add(&mut self, Answer { waited, outcome }: Answer) -> Result<(), String> {
        self.waited += usize::from(!waited.is_zero());
        self.longest_wait = self.longest_wait.max(waited);
        match outcome {
            Ok(()) => self.succeeded += 1,
            Err(failure) if failure.fatal => return Err(failure.message),
            Err(failure) => {
                self.failed += 1;
                self.last_error = Some(failure.message);
            }
        }
        Ok(())
    }

    /// What does not fit into the table: how long the layer held requests back, and
    /// the last error.
    pub(crate) fn notes(&self) -> String {
        let mut notes = Vec::new();
        if self.waited > 0 {
            let waited = HumanCount(self.waited as u64);
            let longest = self.longest_wait.as_secs_f64();
            notes.push(format!(
                "\n{waited} requests waited for quota, {longest:.1} s at most.\n"
            ));
        }
        if let Some(error) = &self.last_error {
            notes.push(format!("\nThe last error: {error}\n"));
        }
        notes.concat()
    }
}

/// A progress bar on standard error; none if that is not a terminal.
fn progress_bar(name: &'static str, requests: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:<16}{bar:40} {human_pos}/{human_len} {elapsed}")
        .expect("the template is well-formed");
    let bar = ProgressBar::new(requests as u64).with_style(style);
    bar.set_message(name);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
