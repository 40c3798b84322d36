//! A gRPC service, that of health checks, on loopback.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Collected, Full};
use hyper::body::Incoming;
use tokio::time::Instant;
use tonic::codegen::{BoxStream, Service};
use tonic::{Code, Response, Status, async_trait, metadata::MetadataMap};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// A running server, and what came to it.
#[derive(Debug)]
pub struct Server {
    server: simulation::Server,
    received: Arc<Mutex<Vec<(Instant, Bytes)>>>,
}

impl Server {
    /// Serves each check for which `rule` gives no refusal.
    ///
    /// # Errors
    ///
    /// If no port can be bound.
    pub async fn start<F>(rule: F) -> io::Result<Self>
    where
        F: FnMut() -> Result<(), Status> + Send + 'static,
    {
        let service = HealthServer::new(Ruled(Mutex::new(rule)));
        let received = Arc::<Mutex<Vec<_>>>::default();
        let log = Arc::clone(&received);
        let handler = move |request: Request<Incoming>| {
            let (mut service, log) = (service.clone(), Arc::clone(&log));
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await;
                let body = body.map_or_else(|_| Bytes::new(), Collected::to_bytes);
                let entry = (Instant::now(), body.clone());
                log.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(entry);
                let request = Request::from_parts(head, Full::new(body));
                let answer: Result<_, Infallible> = service.call(request).await;
                let Ok(response) = answer;
                response
            }
        };
        let server = simulation::Server::start(handler).await?;
        Ok(Self { server, received })
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The body of every request that came, in order, and when all of it was there.
    pub fn received(&self) -> Vec<(Instant, Bytes)> {
        let received = self.received.lock();
        received.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The refusal of a service that has too much to do for now, and is to be asked again after `wait`,
/// in whole milliseconds; never, if there is none.
///
/// tonic puts metadata among the header fields of a trailers-only answer.
pub fn push_back(wait: Option<Duration>) -> Status {
    // Rounded up: the client must not come a millisecond early.
    let millis = wait.map(|wait| wait.as_nanos().div_ceil(1_000_000));
    let millis = millis.map_or(-1, |millis| i32::try_from(millis).unwrap_or(i32::MAX));
    let mut metadata = MetadataMap::new();
    metadata.insert("grpc-retry-pushback-ms", millis.into());
    Status::with_metadata(Code::ResourceExhausted, "too many calls", metadata)
}

struct Ruled<F>(Mutex<F>);

#[async_trait]
impl<F> Health for Ruled<F>
where
    F: FnMut() -> Result<(), Status> + Send + 'static,
{
    type WatchStream = BoxStream<HealthCheckResponse>;

    async fn check(
        &self,
        _: tonic::Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        (self.0.lock().unwrap_or_else(PoisonError::into_inner))()?;
        let status = ServingStatus::Serving.into();
        Ok(Response::new(HealthCheckResponse { status }))
    }

    async fn watch(
        &self,
        _: tonic::Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("checks only"))
    }
}
