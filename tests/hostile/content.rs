//! Bodies in which it shows what is left out, comes twice or belongs to another request.

use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use std::{
    convert::Infallible,
    hash::{DefaultHasher, Hasher},
};

pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// So many bytes for the request of that number.
pub(crate) fn content(id: usize, length: usize) -> Bytes {
    (0..length)
        .map(|at| (at / 1_000 + at + 31 * id) as u8)
        .collect()
}

/// With all its bytes at hand.
pub(crate) fn known(bytes: &Bytes) -> Body {
    Full::new(bytes.clone()).boxed_unsync()
}

/// Frame by frame, without a length.
pub(crate) fn streamed(bytes: &Bytes) -> Body {
    let frames: Vec<_> = bytes.chunks(1_000).map(Bytes::copy_from_slice).collect();
    let frames = frames.into_iter().map(|bytes| Ok(Frame::data(bytes)));
    StreamBody::new(stream::iter(frames)).boxed_unsync()
}

/// What a server has seen of a body: its length, and a hash of its bytes in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Digest {
    pub(crate) length: usize,
    hasher: DefaultHasher,
}

impl Digest {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut digest = Self::default();
        digest.add(bytes);
        digest
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.length += bytes.len();
        // One by one: the hash must not depend on where pieces begin.
        for &byte in bytes {
            self.hasher.write_u8(byte);
        }
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.length == other.length && self.hasher.finish() == other.hasher.finish()
    }
}
