//! How an attempt reads the request body: the only place where it is polled.
//!
//! The body is polled outside the lock, so nobody waits for it but a newer attempt that wants to
//! read as well, and a body that comes back to its own call while it is polled finds the lock free.

use std::{
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body::{Body, Frame};

use super::{
    error::{BoxError, Lost},
    exchange::{Next, Read, Settled, Yield},
    into_bytes,
    source::Source,
};

/// How often a body is polled to read it ahead. One in memory is a single frame nearly always; an
/// exact size in very many small frames, or in empty ones, is read as it is sent.
const POLLS_AHEAD: usize = 32;

/// Locks the source. Only a failed allocation can panic under the lock, which leaves it whole.
pub(super) fn lock<B>(source: &Mutex<Source<B>>) -> MutexGuard<'_, Source<B>> {
    source.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Polls for what this attempt has to yield next.
pub(super) fn poll_next<B>(
    source: &Mutex<Source<B>>,
    attempt: u32,
    cx: &mut Context<'_>,
) -> Poll<Yield>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    loop {
        let next = lock(source).next(attempt);
        match next {
            Next::Yield(next) => return Poll::Ready(next),
            Next::Wait => {
                let waker = cx.waker().clone();
                let waits = lock(source).wait(attempt, waker);
                if waits.is_ok() {
                    return Poll::Pending;
                }
            }
            Next::Read(rest) => {
                let mut turn = Turn {
                    source,
                    attempt,
                    settled: false,
                };
                let (rest, read) = poll_once(rest, cx);
                let pending = matches!(read, Read::Pending(_));
                let empty = matches!(&read, Read::Data(bytes) if bytes.is_empty());
                let current = turn.settle(rest, read);
                if pending && current {
                    return Poll::Pending;
                }
                if empty {
                    // Never kept; and to poll again could go on for ever.
                    let item = Some(Ok(Frame::data(Bytes::new())));
                    let last = lock(source).is_end_stream(attempt);
                    return Poll::Ready(Yield { item, last });
                }
            }
        }
    }
}

/// Polls a body of this exact size for the first time, without waiting: nearly always it is a single
/// frame, and then there is no account to be kept of it. Else what was read, and the rest.
pub(super) fn read_first<B>(body: Pin<Box<B>>, size: u64) -> Result<Bytes, Polled<B>>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    match poll_once(body, &mut Context::from_waker(Waker::noop())) {
        (None, Read::Data(bytes)) if bytes.len() as u64 == size => Ok(bytes),
        polled => Err(polled),
    }
}

/// Reads on what can be had without waiting, before the first attempt.
pub(super) fn read_ahead<B>(source: &mut Source<B>, first: Polled<B>)
where
    B: Body,
    B::Error: Into<BoxError>,
{
    let mut cx = Context::from_waker(Waker::noop());
    let (mut rest, mut read) = first;
    for _ in 1..POLLS_AHEAD {
        let pending = matches!(read, Read::Pending(_));
        drop(source.settle(None, rest, read));
        if pending {
            return;
        }
        let Some(body) = source.take_ahead() else {
            return;
        };
        (rest, read) = poll_once(body, &mut cx);
    }
    drop(source.settle(None, rest, read));
}

/// What was read of a body, and the rest if that is not all.
type Polled<B> = (Option<Pin<Box<B>>>, Read);

/// Polls the body once, and drops it as soon as it has ended.
fn poll_once<B>(mut rest: Pin<Box<B>>, cx: &mut Context<'_>) -> Polled<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    let frame = match rest.as_mut().poll_frame(cx) {
        Poll::Pending => return (Some(rest), Read::Pending(cx.waker().clone())),
        Poll::Ready(None) => return (None, Read::End),
        Poll::Ready(Some(Err(error))) => return (None, Read::Failed(error.into())),
        Poll::Ready(Some(Ok(frame))) => frame,
    };
    match frame.into_data() {
        Ok(data) => {
            let bytes = into_bytes(data);
            let ended = rest.is_end_stream();
            ((!ended).then_some(rest), Read::Data(bytes))
        }
        Err(frame) => match frame.into_trailers() {
            Ok(trailers) => (None, Read::Trailers(trailers)),
            // A kind of frame that there is not yet: skipped, as it must not look like the end.
            Err(_) => (Some(rest), Read::Data(Bytes::new())),
        },
    }
}

/// An attempt that has taken the body out to poll it. If the body panics, it is reported as failed
/// instead of being waited for.
struct Turn<'a, B> {
    source: &'a Mutex<Source<B>>,
    attempt: u32,
    settled: bool,
}

impl<B> Turn<'_, B> {
    /// Puts the body back, and returns whether the attempt is still the one that may read.
    fn settle(&mut self, rest: Option<Pin<Box<B>>>, read: Read) -> bool {
        self.settled = true;
        let Settled {
            current,
            wake,
            leftover,
        } = lock(self.source).settle(Some(self.attempt), rest, read);
        if let Some(waker) = wake {
            waker.wake();
        }
        drop(leftover);
        current
    }
}

impl<B> Drop for Turn<'_, B> {
    fn drop(&mut self) {
        if !self.settled {
            self.settle(None, Read::Failed(Lost.into()));
        }
    }
}
