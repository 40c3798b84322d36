//! What makes the body of each attempt.

use std::{
    mem,
    pin::Pin,
    sync::{Arc, Mutex},
    task::Waker,
};

use bytes::Bytes;
use http_body::Body;

use super::{
    error::BoxError,
    reading::{lock, read_ahead, read_first},
    replay::{Kind, ReplayBody, known_bytes},
    source::Source,
};

/// Makes the body of each attempt. One call owns it; dropped, it is [released](Self::release).
pub(crate) struct Replayer<B> {
    content: Content<B>,
}

enum Content<B> {
    /// All of it.
    Known(Bytes),
    /// For one attempt.
    Once(Pin<Box<B>>),
    /// With the bodies of the attempts.
    Shared(Arc<Mutex<Source<B>>>),
    /// There is no further attempt.
    Gone,
}

impl<B: Body> Replayer<B> {
    /// A body of which up to `cap` bytes may be kept.
    ///
    /// An empty body allocates nothing. A body of an exact size within the cap is boxed and read at
    /// once as far as that needs no waiting; a single frame is all that is kept of it then.
    pub(crate) fn new(body: B, cap: usize) -> Self
    where
        B::Error: Into<BoxError>,
    {
        if body.is_end_stream() {
            return Self::empty();
        }
        let (hint, body) = (body.size_hint(), Box::pin(body));
        let Some(size) = hint.exact().filter(|&size| size <= cap as u64) else {
            return Self::shared(Source::new(Some(body), hint, cap));
        };
        let first = match read_first(body, size) {
            Ok(bytes) => return Self::known(bytes),
            Err(first) => first,
        };
        let mut source = Source::new(None, hint, cap);
        read_ahead(&mut source, first);
        match source.single_frame() {
            Some(bytes) => Self::known(bytes),
            None => Self::shared(source),
        }
    }

    /// A body that is sent once and of which nothing is read ahead or kept.
    pub(crate) fn passthrough(body: B) -> Self {
        if body.is_end_stream() {
            return Self::empty();
        }
        Self {
            content: Content::Once(Box::pin(body)),
        }
    }
}

impl<B> Replayer<B> {
    fn empty() -> Self {
        Self::known(Bytes::new())
    }

    fn known(bytes: Bytes) -> Self {
        Self {
            content: Content::Known(bytes),
        }
    }

    fn shared(source: Source<B>) -> Self {
        Self {
            content: Content::Shared(Arc::new(Mutex::new(source))),
        }
    }

    /// The body of the next attempt, from its first byte on; the one before it ends with an error.
    ///
    /// The first attempt can always be made. `None` if what has been sent is not kept (it was more
    /// than the cap), if the body has failed, or after a release.
    pub(crate) fn attempt(&mut self) -> Option<ReplayBody<B>> {
        let kind = match &self.content {
            Content::Known(bytes) => Kind::Known(bytes.clone()),
            Content::Shared(source) => {
                let started = lock(source).start();
                let (attempt, waker) = started?;
                wake(waker);
                Kind::Shared {
                    source: source.clone(),
                    attempt,
                }
            }
            Content::Once(_) | Content::Gone => {
                match mem::replace(&mut self.content, Content::Gone) {
                    Content::Once(body) => Kind::Once(Mutex::new(body)),
                    _ => return None,
                }
            }
        };
        Some(ReplayBody::new(kind))
    }

    /// Whether another attempt can be made, as far as is known now.
    pub(crate) fn can_replay(&self) -> bool {
        match &self.content {
            Content::Known(_) | Content::Once(_) => true,
            Content::Shared(source) => lock(source).can_start(),
            Content::Gone => false,
        }
    }

    /// Takes the body away from the current attempt, so that nothing is read, and lost, before the
    /// next one. To be called at the decision to retry, before the wait.
    ///
    /// The attempt is woken, and its body ends with an error; if all of it was known from the
    /// start, the attempt has its own and goes on. Returns whether another attempt can be made. If
    /// not, nothing has been taken away.
    pub(crate) fn freeze(&self) -> bool {
        let Content::Shared(source) = &self.content else {
            return self.can_replay();
        };
        let (can_start, waker) = lock(source).freeze();
        wake(waker);
        can_start
    }

    /// Stops keeping: there is no further attempt. The current one sends the rest, even if it
    /// outlives this value, and each byte is freed as soon as it is sent.
    pub(crate) fn release(&mut self) {
        if let Content::Shared(source) = mem::replace(&mut self.content, Content::Gone) {
            let leftover = lock(&source).stop_keeping();
            drop(leftover);
        }
    }

    /// All bytes of the body, if they are known, there are no trailers, and no attempt is under
    /// way.
    pub(crate) fn known_bytes(&self) -> Option<Bytes> {
        match &self.content {
            Content::Known(bytes) => Some(bytes.clone()),
            Content::Shared(source) => known_bytes(source, None),
            Content::Once(_) | Content::Gone => None,
        }
    }
}

impl<B> Drop for Replayer<B> {
    fn drop(&mut self) {
        self.release();
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests;
