//! What passes between the source and the attempt that reads from it.

use std::{pin::Pin, task::Waker};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

use super::{error::BoxError, kept::Kept};

/// What a body yields.
pub(super) type Item = Option<Result<Frame<Bytes>, BoxError>>;

/// What an attempt yields.
pub(super) struct Yield {
    pub(super) item: Item,
    /// Whether nothing comes after it.
    pub(super) last: bool,
}

/// What an attempt has to do next.
pub(super) enum Next<B> {
    Yield(Yield),
    /// Poll this, then settle.
    Read(Pin<Box<B>>),
    /// Wait for an older attempt that is polling the body at this moment.
    Wait,
}

impl<B> Next<B> {
    pub(super) fn last(item: Item) -> Self {
        Self::Yield(Yield { item, last: true })
    }
}

/// What a poll of the body gave.
pub(super) enum Read {
    Pending(Waker),
    Data(Bytes),
    Trailers(HeaderMap),
    End,
    Failed(BoxError),
}

/// What came of settling.
pub(super) struct Settled<B> {
    /// Whether the attempt is still the one that may read.
    pub(super) current: bool,
    /// The attempt that waits for the one that read.
    pub(super) wake: Option<Waker>,
    pub(super) leftover: Leftover<B>,
}

/// What nobody needs any more, to be dropped when the lock is free.
#[must_use = "dropped under the lock otherwise"]
pub(super) struct Leftover<B> {
    _rest: Option<Pin<Box<B>>>,
    _kept: Kept,
    _read: Option<Read>,
}

impl<B> Leftover<B> {
    pub(super) fn none() -> Self {
        Self::kept(Kept::default(), None)
    }

    pub(super) fn kept(kept: Kept, rest: Option<Pin<Box<B>>>) -> Self {
        Self {
            _rest: rest,
            _kept: kept,
            _read: None,
        }
    }

    pub(super) fn waker(waker: Option<Waker>) -> Self {
        Self {
            _read: waker.map(Read::Pending),
            ..Self::none()
        }
    }

    pub(super) fn read(read: Read, rest: Option<Pin<Box<B>>>) -> Self {
        Self {
            _rest: rest,
            _kept: Kept::default(),
            _read: Some(read),
        }
    }
}
