//! An API that answers as it is told, whatever it is asked.

use std::collections::VecDeque;

use bytes::Bytes;
use http::{Request, Response};
use tokio::time::Instant;

use crate::Api;

/// Gives its answers in order, then the last of them for ever; and keeps what came.
///
/// ```
/// use http::Response;
/// use simulation::{Script, Simulated};
///
/// let refusal = Response::builder().status(429).header("retry-after", "1");
/// let script = Script::new([
///     refusal.body("too many".into()).unwrap(),
///     Response::new("served".into()),
/// ]);
/// let api = Simulated::new(script);
/// assert!(api.lock().received().is_empty());
/// ```
#[derive(Debug)]
pub struct Script {
    answers: VecDeque<Response<Bytes>>,
    received: Vec<(Instant, Request<Bytes>)>,
}

impl Script {
    /// Answers with these.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub fn new(answers: impl IntoIterator<Item = Response<Bytes>>) -> Self {
        let answers = VecDeque::from_iter(answers);
        assert!(!answers.is_empty(), "at least one answer");
        let received = Vec::new();
        Self { answers, received }
    }

    /// Every request that came, in order, and when all of it was there.
    pub fn received(&self) -> &[(Instant, Request<Bytes>)] {
        &self.received
    }
}

impl Api for Script {
    fn answer(&mut self, request: &Request<Bytes>, now: Instant) -> Response<Bytes> {
        self.received.push((now, request.clone()));
        let answer = match self.answers.len() {
            1 => None,
            _ => self.answers.pop_front(),
        };
        answer.unwrap_or_else(|| self.answers[0].clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_answer_is_repeated_and_all_requests_are_kept() {
        let mut script = Script::new(["a", "b"].map(|body| Response::new(Bytes::from(body))));
        for (question, answer) in [("1", "a"), ("2", "b"), ("3", "b")] {
            let request = Request::new(Bytes::from(question));
            assert_eq!(script.answer(&request, Instant::now()).body(), answer);
        }
        let bodies = script.received().iter().map(|(_, request)| request.body());
        assert!(bodies.eq(["1", "2", "3"]));
    }

    #[test]
    #[should_panic(expected = "at least one answer")]
    fn there_has_to_be_an_answer() {
        Script::new([]);
    }
}
