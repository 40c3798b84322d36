//! A request body that can be sent more than once.

#[cfg(feature = "reqwest")]
use std::any::Any;
use std::{
    fmt, mem,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::{
    error::BoxError,
    exchange::Yield,
    into_bytes,
    reading::{lock, poll_next},
    source::Source,
};

/// The body of one attempt: what the inner service is given in place of the request's own body.
///
/// Every attempt sends all of the body from its first byte on, trailers included. What an attempt
/// reads is kept for the next one, up to a number of bytes; a body in memory is not copied for it.
/// A larger body is sent once, unharmed, and the answer to it is given back as it came. No attempt
/// ever sends an empty or a shortened body in place of the real one.
///
/// It is a [`Body`] of [`Bytes`] and [`BoxError`] whatever the request's own body is, always
/// [`Unpin`], and [`Sync`] if that is [`Send`]. The [size hint](Body::size_hint) is the same at the
/// start of each attempt, and so is the `content-length`. Frames of data may be cut differently.
///
/// The default is an empty body.
///
/// # Errors
///
/// The errors of the request's own body; an attempt that met one is not followed by another. An
/// answer may come before the body was sent. If the request is to be sent again, the rest of the
/// body belongs to the next attempt from then on, and the body of the old one ends with an error,
/// so that its connection or stream is closed and not waited for.
pub struct ReplayBody<B> {
    kind: Kind<B>,
}

pub(super) enum Kind<B> {
    /// All of it, and nothing sent yet.
    Known(Bytes),
    /// The request's own body, sent once. Never locked for long: the lock only makes it `Sync`.
    Once(Mutex<Pin<Box<B>>>),
    Shared {
        source: Arc<Mutex<Source<B>>>,
        attempt: u32,
    },
    /// Sent, or failed and reported.
    Ended,
}

impl<B> ReplayBody<B> {
    pub(super) fn new(kind: Kind<B>) -> Self {
        Self { kind }
    }

    /// All bytes of the body, if they are known already, nothing is sent yet, and there are no
    /// trailers.
    ///
    /// They are known before the first attempt if the request's own body has an exact size and
    /// needs no waiting, as one in memory, and before a later attempt if an earlier one has read
    /// them. `None` as well for a body larger than what may be kept.
    pub fn known_bytes(&self) -> Option<Bytes> {
        match &self.kind {
            Kind::Known(bytes) => Some(bytes.clone()),
            Kind::Shared { source, attempt } => known_bytes(source, Some(*attempt)),
            Kind::Once(_) | Kind::Ended => None,
        }
    }

    /// The request's own body, if that is to be sent once and as it is, and is a `T`.
    #[cfg(feature = "reqwest")]
    pub(crate) fn downcast_own<T: 'static>(self) -> Result<Pin<Box<T>>, Self>
    where
        B: 'static,
    {
        let Kind::Once(own) = self.kind else {
            return Err(self);
        };
        let mut own = Some(own);
        let any: &mut dyn Any = &mut own;
        let is_t = any.downcast_mut::<Option<Mutex<Pin<Box<T>>>>>();
        match is_t.and_then(Option::take) {
            Some(own) => Ok(own.into_inner().unwrap_or_else(PoisonError::into_inner)),
            None => Err(Self::new(own.map_or(Kind::Ended, Kind::Once))),
        }
    }
}

/// All bytes of the body, if this attempt, or the next one, can tell and has sent nothing.
pub(super) fn known_bytes<B>(source: &Mutex<Source<B>>, attempt: Option<u32>) -> Option<Bytes> {
    let known = lock(source).known_bytes(attempt);
    known.map(|(bytes, _replaced)| bytes)
}

impl<B> Body for ReplayBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let Yield { item, last } = match &mut this.kind {
            Kind::Known(bytes) => {
                let bytes = mem::take(bytes);
                this.kind = Kind::Ended;
                return Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))));
            }
            Kind::Once(body) => {
                let body = body.get_mut().unwrap_or_else(PoisonError::into_inner);
                let frame = ready!(body.as_mut().poll_frame(cx));
                return Poll::Ready(
                    frame.map(|frame| frame.map(|f| f.map_data(into_bytes)).map_err(Into::into)),
                );
            }
            Kind::Shared { source, attempt } => ready!(poll_next(source, *attempt, cx)),
            Kind::Ended => return Poll::Ready(None),
        };
        if last {
            // So that a body which has said that it is at its end is not superseded after that.
            this.kind = Kind::Ended;
        }
        Poll::Ready(item)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Known(bytes) => bytes.is_empty(),
            Kind::Once(body) => body
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .is_end_stream(),
            Kind::Shared { source, attempt } => lock(source).is_end_stream(*attempt),
            Kind::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Known(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Once(body) => body
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .size_hint(),
            Kind::Shared { source, attempt } => lock(source).size_hint(*attempt),
            Kind::Ended => SizeHint::with_exact(0),
        }
    }
}

impl<B> Default for ReplayBody<B> {
    fn default() -> Self {
        Self {
            kind: Kind::Known(Bytes::new()),
        }
    }
}

impl<B> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::Known(_) => "known",
            Kind::Once(_) => "once",
            Kind::Shared { .. } => "shared",
            Kind::Ended => "ended",
        };
        f.debug_struct("ReplayBody")
            .field("kind", &kind)
            .finish_non_exhaustive()
    }
}
