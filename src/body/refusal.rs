//! The body of a refusal, read to learn what it says.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Body;

use super::{
    into_bytes,
    response::{Again, ResponseBody},
};

/// How many frames are read in one poll before the task gives way to others.
const FRAMES_PER_POLL: usize = 32;

/// A refusal's body while it is read, up to a number of bytes. What was read can be given back.
pub(crate) struct RefusalBody<B: Body> {
    /// The unread rest. None once the body has ended: it is dropped there and then, so that its
    /// connection is free.
    rest: Option<Pin<Box<B>>>,
    /// Within the limit. A copy: a slice would keep the read buffer of the connection alive.
    read: BytesMut,
    /// The frame that would have passed the limit.
    over: Bytes,
    trailers: Option<HeaderMap>,
    /// Met after the bytes; there is a rest then.
    error: Option<B::Error>,
    /// The bytes that may yet be read.
    left: usize,
    /// Whether reading is over, for whatever reason.
    done: bool,
}

/// A refusal's body that was read whole, kept without the connection that it came from.
#[derive(Clone)]
pub(crate) struct Refusal {
    bytes: Bytes,
    trailers: Option<HeaderMap>,
}

impl<B: Body> RefusalBody<B> {
    /// Boxes the body, unless it is empty. One that says it is larger than `limit` is not read.
    pub(crate) fn new(body: B, limit: usize) -> Self {
        let empty = body.is_end_stream();
        let large = body.size_hint().lower() > limit as u64;
        Self {
            rest: (!empty).then(|| Box::pin(body)),
            read: BytesMut::new(),
            over: Bytes::new(),
            trailers: None,
            error: None,
            left: limit,
            done: empty || large,
        }
    }

    /// Reads on; ready when the body has ended, has passed the limit, or has failed.
    ///
    /// An empty frame counts as one byte, so that there is an end to them, and a body that is
    /// always ready gives way to other tasks. How long to read is for the caller to bound.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..FRAMES_PER_POLL {
            if self.done {
                return Poll::Ready(());
            }
            ready!(self.poll_frame(cx));
        }
        if self.done {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(rest) = &mut self.rest else {
            self.done = true;
            return Poll::Ready(());
        };
        match ready!(rest.as_mut().poll_frame(cx)) {
            None => self.end(),
            Some(Err(error)) => {
                self.error = Some(error);
                self.done = true;
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    let ended = rest.is_end_stream();
                    self.take(into_bytes(data));
                    if ended {
                        self.end();
                    }
                }
                Err(frame) => match frame.into_trailers() {
                    Ok(trailers) => {
                        self.trailers = Some(trailers);
                        self.end();
                    }
                    // A kind of frame that there is not yet: skipped, as a request's is.
                    Err(_) => self.take(Bytes::new()),
                },
            },
        }
        Poll::Ready(())
    }

    fn take(&mut self, bytes: Bytes) {
        let cost = bytes.len().max(1);
        if cost > self.left {
            self.over = bytes;
            self.done = true;
        } else {
            self.left -= cost;
            self.read.extend_from_slice(&bytes);
        }
    }

    fn end(&mut self) {
        self.rest = None;
        self.done = true;
    }

    /// The bytes read so far, within the limit; `None` if there are none.
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        (!self.read.is_empty()).then_some(&self.read)
    }

    /// Whether the body was read to its end, without an error and within the limit.
    pub(crate) fn is_whole(&self) -> bool {
        self.rest.is_none() && self.over.is_empty()
    }

    /// The refusal, if it was read whole; a rest is dropped, and its connection or stream with it.
    pub(crate) fn kept(self) -> Option<Refusal> {
        self.is_whole().then(|| Refusal {
            bytes: self.read.freeze(),
            trailers: self.trailers,
        })
    }

    /// Gives everything back: the bytes read so far, the error met after them, the unread rest.
    pub(crate) fn into_body(self) -> ResponseBody<B> {
        ResponseBody::again(Again {
            bytes: self.read.freeze(),
            over: self.over,
            error: self.error,
            trailers: self.trailers,
            rest: self.rest,
        })
    }
}

impl<B: Body> From<Refusal> for ResponseBody<B> {
    fn from(refusal: Refusal) -> Self {
        Self::again(Again {
            bytes: refusal.bytes,
            trailers: refusal.trailers,
            ..Again::default()
        })
    }
}

impl<B: Body> fmt::Debug for RefusalBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefusalBody")
            .field("read", &self.read.len())
            .field("done", &self.done)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refusal")
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
