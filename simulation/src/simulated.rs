//! What turns a pure model into something that many callers can ask at once.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tokio::time::Instant;

/// A model of an API: no clock, no lock, no await.
pub trait Api {
    /// The answer to `request`, received whole at `now`.
    fn answer(&mut self, request: &Request<Bytes>, now: Instant) -> Response<Bytes>;
}

/// An API that many callers share: clones are handles to the same one.
///
/// Its clock is tokio's. [`answer`](Self::answer) needs no socket, so a test on
/// paused time can have it as its inner service; [`Server`](crate::Server) puts
/// it on one.
pub struct Simulated<A> {
    api: Arc<Mutex<A>>,
    service_time: Duration,
}

impl<A: Api> Simulated<A> {
    /// Shares `api`.
    pub fn new(api: A) -> Self {
        Self {
            api: Arc::new(Mutex::new(api)),
            service_time: Duration::from_millis(20),
        }
    }

    /// How long a success takes: 20 ms by default. Anything else is answered at
    /// once, as it is by a gateway that stands before the work.
    pub fn service_time(mut self, service_time: Duration) -> Self {
        self.service_time = service_time;
        self
    }

    /// The model, to look at it or to change it; nothing is answered meanwhile.
    pub fn lock(&self) -> MutexGuard<'_, A> {
        // A test that panicked with the guard in hand has already failed; the
        // others' questions deserve an answer.
        self.api.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Receives the whole request, has the model answer, then does "the work".
    ///
    /// The quota is taken when the request is received, not when its answer is
    /// ready. A request whose body breaks off never reaches the model.
    ///
    /// # Cancellation
    ///
    /// A request dropped while it is worked on has been charged.
    pub async fn answer<B: Body>(&self, request: Request<B>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let Ok(body) = body.collect().await else {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::BAD_REQUEST;
            return response;
        };
        let request = Request::from_parts(head, body.to_bytes());
        let response = self.lock().answer(&request, Instant::now());
        if response.status().is_success() {
            tokio::time::sleep(self.service_time).await;
        }
        response.map(Full::new)
    }
}

impl<A> Clone for Simulated<A> {
    fn clone(&self) -> Self {
        Self {
            api: Arc::clone(&self.api),
            service_time: self.service_time,
        }
    }
}

impl<A> fmt::Debug for Simulated<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulated")
            .field("service_time", &self.service_time)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Numbered(u16);

    impl Api for Numbered {
        fn answer(&mut self, _: &Request<Bytes>, _: Instant) -> Response<Bytes> {
            let mut response = Response::default();
            *response.status_mut() = StatusCode::from_u16(self.0).unwrap();
            response
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_takes_its_time_and_a_refusal_takes_none() {
        let api = Simulated::new(Numbered(200)).service_time(Duration::from_secs(3));
        for (status, seconds) in [(200, 3), (429, 0), (201, 3), (500, 0)] {
            let start = Instant::now();
            *api.lock() = Numbered(status);
            let response = api.answer(Request::new(Full::<Bytes>::default())).await;
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(start.elapsed(), Duration::from_secs(seconds));
        }
    }
}
