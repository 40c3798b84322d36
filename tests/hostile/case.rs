//! What must hold whatever a server does to a call.
//!
//! - The call ends, and as is expected of it.
//! - No attempt comes before the time that the server has asked for.
//! - Each attempt brings the same bytes; or fewer of them and visibly no end, if the server has
//!   answered before it read them.
//! - The next call is served, after a refusal like any other.

use crate::{
    client::{Host, VERSIONS, refuse_once},
    content::{Body, Digest, content, known, streamed},
    server::{Asked, Reads, Received, Reply},
};
use bytes::Bytes;
use futures_util::future::join_all;
use std::time::Duration;
use tower_rate_limit_retry::{RateLimitRetryLayer, StopReason};

/// The call that something is done to.
pub(crate) const VICTIM: usize = 0;

/// One case: what the server does to the first attempt. It serves the second one.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) reply: Reply,
    pub(crate) end: End,
    pub(crate) layer: fn() -> RateLimitRetryLayer,
    /// Of the request's body.
    pub(crate) length: usize,
}

/// How a call is to end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    /// The second attempt is served.
    Served,
    /// The first answer is given back.
    GivenBack(StopReason),
    /// The first answer is the answer.
    Untouched,
    /// The client fails.
    Fails,
    /// The client fails, unless it has seen the answer before.
    ServedOrFails,
}

impl Case {
    pub(crate) fn new(name: impl Into<String>, reply: Reply, end: End) -> Self {
        Self {
            name: name.into(),
            reply,
            end,
            layer: RateLimitRetryLayer::new,
            length: 20_000,
        }
    }

    pub(crate) fn length(self, length: usize) -> Self {
        Self { length, ..self }
    }

    pub(crate) fn layer(self, layer: fn() -> RateLimitRetryLayer) -> Self {
        Self { layer, ..self }
    }

    /// The case over one version, with a body whose length is known or not.
    async fn check(&self, version: http::Version, body: Framing) {
        let reply = self.reply.clone();
        let host = Host::start(version, &(self.layer)(), move |asked: Asked| {
            match (asked.id, asked.before) {
                (VICTIM, 0) => reply.clone(),
                (VICTIM, _) => Reply::ok(),
                _ => refuse_once(asked),
            }
        });
        let bytes = content(VICTIM, self.length);
        let answer = host.post(VICTIM, body(&bytes)).await;
        let has_failed = answer.is_err();
        let attempts = match (self.end, &answer) {
            (End::Served, _) | (End::ServedOrFails, Ok(_)) => {
                let answer = answer.unwrap();
                assert_eq!((answer.status, &answer.bytes[..]), (200, &b"served"[..]));
                assert_eq!((answer.attempts(), answer.stop_reason()), (2, None));
                2..=2
            }
            (End::GivenBack(reason), _) => {
                let answer = answer.unwrap();
                assert_eq!(answer.status, self.reply.status);
                assert_eq!((answer.attempts(), answer.stop_reason()), (1, Some(reason)));
                assert!(
                    answer
                        .report
                        .as_ref()
                        .is_some_and(|r| !r.answered_locally())
                );
                host.forget();
                1..=1
            }
            (End::Untouched, _) => {
                let answer = answer.unwrap();
                assert_eq!((answer.status, answer.report), (self.reply.status, None));
                1..=1
            }
            (End::Fails | End::ServedOrFails, _) => {
                // Who has not seen the refusal is asked for nothing.
                host.server.forget();
                answer.unwrap_err();
                // The connection may have taken the second attempt along.
                if self.end == End::Fails { 1..=1 } else { 1..=2 }
            }
        };
        host.assert_next_call_is_unharmed().await;
        let log = host.server.log();
        let sent: Vec<_> = log.iter().filter(|sent| sent.id == VICTIM).collect();
        assert!(attempts.contains(&sent.len()), "{} were seen", sent.len());
        let whole = Received::Whole(Digest::of(&bytes));
        for (index, sent) in sent.into_iter().enumerate() {
            let may_be_cut = index == 0 && self.reply.reads != Reads::First || has_failed;
            let is_cut = may_be_cut && sent.received == Received::Part;
            assert!(is_cut || sent.received == whole, "{:?}", sent.received);
        }
    }
}

type Framing = fn(&Bytes) -> Body;

/// Checks all cases, each over both versions and with both kinds of bodies, at once.
pub(crate) async fn check_all(cases: Vec<Case>) {
    let bodies: [(&str, Framing); 2] = [("known", known), ("streamed", streamed)];
    let mut checks = Vec::new();
    for case in cases {
        for (version, (kind, body)) in VERSIONS.iter().flat_map(|v| bodies.map(|b| (*v, b))) {
            let case = case.clone();
            let name = format!("{}, {version:?}, {kind}", case.name);
            let check = tokio::spawn(async move { case.check(version, body).await });
            checks.push(async move { (name, check.await) });
        }
    }
    let mut failed = Vec::new();
    let count = checks.len();
    for (name, outcome) in join_all(checks).await {
        if outcome.is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "of {count}: {failed:#?}");
}

/// How long the servers of most cases ask to stay away: longer than a body is read.
pub(crate) const WAIT: Duration = Duration::from_millis(400);

pub(crate) fn refusal() -> Reply {
    Reply::refusal(WAIT)
}
