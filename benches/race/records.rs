//! What happened to each call, as seen where requests are sent and answers come in.

use std::{
    io::{self, Write},
    process,
    sync::Arc,
    time::Duration,
};

use http::{HeaderMap, Response};
use tokio::{sync::Notify, time::Instant};

/// More requests than so many per call or in total, and the race is over.
const MAX_SENT_PER_CALL: usize = 200;
const MAX_SENT: usize = 2_000_000;

/// All calls, and what is counted over all of them.
pub(crate) struct Records {
    began: Instant,
    calls: Vec<Record>,
    arrived: u32,
    sent: usize,
    in_flight: usize,
    is_traced: bool,
    /// Notified when no more requests may be sent.
    pub(crate) exhausted: Arc<Notify>,
}

/// One call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    /// Its place among all in order of their calls.
    pub(crate) place: u32,
    called_at: Duration,
    /// Its place among all in order of their first sending.
    pub(crate) sent_as: Option<usize>,
    pub(crate) attempts: u32,
    pub(crate) refusals: u32,
    pub(crate) end: Option<End>,
    /// Notified when the first attempt is sent.
    sending: Option<Arc<Notify>>,
}

/// How a call ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) at: Duration,
    pub(crate) is_success: bool,
}

impl Record {
    /// How long the call took, if it succeeded.
    pub(crate) fn latency(&self) -> Option<Duration> {
        Some(self.succeeded_at()?.saturating_sub(self.called_at))
    }

    pub(crate) fn succeeded_at(&self) -> Option<Duration> {
        self.end.filter(|end| end.is_success).map(|end| end.at)
    }
}

impl Records {
    pub(crate) fn new(calls: usize, is_traced: bool) -> Self {
        Self {
            began: Instant::now(),
            calls: vec![Record::default(); calls],
            arrived: 0,
            sent: 0,
            in_flight: 0,
            is_traced,
            exhausted: Arc::default(),
        }
    }

    pub(crate) fn calls(&self) -> &[Record] {
        &self.calls
    }

    /// Whether more was sent than is allowed.
    pub(crate) fn ran_out(&self) -> bool {
        self.sent > MAX_SENT.min(MAX_SENT_PER_CALL * self.calls.len())
    }

    pub(crate) fn called(&mut self, call: usize) {
        self.calls[call].place = self.arrived;
        self.calls[call].called_at = self.began.elapsed();
        self.arrived += 1;
    }

    /// Notified when the call's first attempt is sent, or at once if it was.
    pub(crate) fn sending(&mut self, call: usize) -> Arc<Notify> {
        let record = &mut self.calls[call];
        let sending = record.sending.get_or_insert_default();
        if record.attempts > 0 {
            sending.notify_one();
        }
        Arc::clone(sending)
    }

    /// Counts a request and says which attempt it is.
    pub(crate) fn sent(&mut self, call: usize) -> u32 {
        let record = &mut self.calls[call];
        record.sent_as.get_or_insert(self.sent);
        record.attempts += 1;
        if let Some(sending) = &record.sending {
            sending.notify_one();
        }
        let attempts = record.attempts;
        self.sent += 1;
        self.in_flight += 1;
        if self.ran_out() {
            self.exhausted.notify_one();
        }
        if self.is_traced {
            let in_flight = self.in_flight;
            self.trace(&format!(
                "sent     #{call}.{attempts}  in flight {in_flight}"
            ));
        }
        attempts
    }

    pub(crate) fn answered<B>(&mut self, call: usize, attempt: u32, response: &Response<B>) {
        self.in_flight -= 1;
        let is_refusal = !response.status().is_success();
        self.calls[call].refusals += u32::from(is_refusal);
        if self.is_traced {
            let (status, in_flight) = (response.status().as_u16(), self.in_flight);
            let hints = one_line(response.headers());
            self.trace(&format!(
                "answered #{call}.{attempt}  in flight {in_flight}  {status} {hints}"
            ));
        }
    }

    pub(crate) fn ended(&mut self, call: usize, is_success: bool) {
        let at = self.began.elapsed();
        self.calls[call].end = Some(End { at, is_success });
        if self.is_traced && !is_success {
            self.trace(&format!("ended    #{call} without success"));
        }
    }

    fn trace(&self, event: &str) {
        let now = self.began.elapsed().as_millis();
        if writeln!(io::stdout(), "{now:>8} ms  {event}").is_err() {
            // Who reads only the beginning has seen enough.
            process::exit(0);
        }
    }
}

fn one_line(headers: &HeaderMap) -> String {
    let fields = headers.iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes());
        format!("{name}: {value}")
    });
    fields.collect::<Vec<_>>().join("; ")
}
