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

    /// The work on `request` is over, or its caller has gone: it is in service no longer. Only
    /// those are in service that were answered with a success.
    ///
    /// By default nothing depends on it.
    fn finished(&mut self, request: &Request<Bytes>) {
        let _ = request;
    }
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
    /// A request dropped while it is worked on has been charged, and is in service no longer.
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
            let _in_service = InService {
                simulated: self,
                request,
            };
            tokio::time::sleep(self.service_time).await;
        }
        response.map(Full::new)
    }
}

/// A request that is worked on; dropped, it is no longer.
struct InService<'a, A: Api> {
    simulated: &'a Simulated<A>,
    request: Request<Bytes>,
}

impl<A: Api> Drop for InService<'_, A> {
    fn drop(&mut self) {
        self.simulated.lock().finished(&self.request);
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

    /// Counts those in service, and answers with this status.
    struct Numbered(u16, i32);

    impl Api for Numbered {
        fn answer(&mut self, _: &Request<Bytes>, _: Instant) -> Response<Bytes> {
            let mut response = Response::default();
            *response.status_mut() = StatusCode::from_u16(self.0).unwrap();
            self.1 += i32::from(response.status().is_success());
            response
        }

        fn finished(&mut self, _: &Request<Bytes>) {
            self.1 -= 1;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_takes_its_time_and_a_refusal_takes_none() {
        let api = Simulated::new(Numbered(200, 0)).service_time(Duration::from_secs(3));
        for (status, seconds) in [(200, 3), (429, 0), (201, 3), (500, 0)] {
            let start = Instant::now();
            *api.lock() = Numbered(status, 0);
            let response = api.answer(Request::new(Full::<Bytes>::default())).await;
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(start.elapsed(), Duration::from_secs(seconds));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_in_service_until_it_is_answered_or_dropped() {
        let api = Simulated::new(Numbered(200, 0)).service_time(Duration::from_secs(3));
        let ask = || {
            let api = api.clone();
            let request = Request::new(Full::<Bytes>::default());
            tokio::spawn(async move { api.answer(request).await })
        };
        let both = [ask(), ask()];
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(api.lock().1, 2);
        let [dropped, answered] = both;
        dropped.abort();
        assert!(dropped.await.unwrap_err().is_cancelled());
        assert_eq!(api.lock().1, 1);
        answered.await.unwrap();
        assert_eq!(api.lock().1, 0);
        *api.lock() = Numbered(429, 0);
        ask().await.unwrap();
        assert_eq!(api.lock().1, 0);
    }
}
