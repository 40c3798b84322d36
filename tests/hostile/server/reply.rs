//! What a server does with a request.

use bytes::Bytes;
use std::time::Duration;

/// An answer, and what is wrong with it.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Names and values, as they are written.
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) content: Content,
    pub(crate) reads: Reads,
    pub(crate) then: Then,
    /// How long the client was asked to stay away.
    pub(crate) asks: Duration,
}

/// The body of an answer.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Whole(Bytes),
    /// Pieces of so many bytes, for as long as they are taken, each so long after the one before; of
    /// this length as it is announced, if it is.
    Endless {
        piece: usize,
        pause: Duration,
        length: Option<u64>,
    },
    /// These bytes, and no end.
    Stalled(Bytes),
    /// These bytes, of more that were announced; and then the connection or stream is reset.
    CutShort(Bytes),
}

/// What becomes of the request's body.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Reads {
    /// It is read before the answer.
    First,
    /// It is read behind the answer.
    Behind,
    /// It is never read.
    Never,
}

/// What becomes of the connection after the answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Then {
    GoesOn,
    /// Nothing more is sent on it, and it is closed properly.
    Closes,
    /// It is gone; perhaps with the answer.
    Resets,
    /// It is gone before any answer.
    ResetsFirst,
    /// What comes is no HTTP.
    Babbles,
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self {
            status,
            fields: Vec::new(),
            content: Content::Whole(Bytes::from_static(b"served")),
            reads: Reads::First,
            then: Then::GoesOn,
            asks: Duration::ZERO,
        }
    }

    pub(crate) fn ok() -> Self {
        Self::new(200)
    }

    /// A 429 that asks to come back after so long.
    pub(crate) fn refusal(wait: Duration) -> Self {
        Self::new(429)
            .field("retry-after-ms", wait.as_millis().to_string())
            .content(Content::Whole(Bytes::new()))
            .asks(wait)
    }

    pub(crate) fn field(mut self, name: impl Into<String>, value: impl AsRef<[u8]>) -> Self {
        self.fields.push((name.into(), value.as_ref().to_vec()));
        self
    }

    pub(crate) fn content(self, content: Content) -> Self {
        Self { content, ..self }
    }

    pub(crate) fn bytes(self, bytes: impl Into<Bytes>) -> Self {
        self.content(Content::Whole(bytes.into()))
    }

    pub(crate) fn reads(self, reads: Reads) -> Self {
        Self { reads, ..self }
    }

    pub(crate) fn then(self, then: Then) -> Self {
        Self { then, ..self }
    }

    pub(crate) fn asks(self, asks: Duration) -> Self {
        Self { asks, ..self }
    }
}
