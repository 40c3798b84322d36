//! What the attempts of one call share: the request body, and what is kept of it.
//!
//! Bookkeeping only. No code of anybody else runs in here, and so none runs under the lock: an
//! attempt takes the body out, polls it, and settles (see [`reading`](super::reading)); wakers and
//! leftovers are handed out to be woken and dropped when the lock is free.

use std::{mem, pin::Pin, task::Waker};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use super::{
    error::{BoxError, Lost, Superseded},
    exchange::{Leftover, Next, Read, Settled, Yield},
    kept::Kept,
};

/// The request body of one call.
///
/// Every frame that is read goes into `kept`, and from there to the current attempt: as a copy
/// while a further attempt may need it, for good once there can be none.
pub(super) struct Source<B> {
    /// The unread rest. Neither this nor `end`: an attempt is polling it at this moment.
    rest: Option<Pin<Box<B>>>,
    /// How the body ended; there is no `rest` then.
    end: Option<End>,
    /// While `keeping`, all data from the first byte on; afterwards what the current attempt has
    /// yet to send.
    kept: Kept,
    /// Whether further attempts can have all that was read.
    keeping: bool,
    /// The number of bytes that may be kept.
    cap: usize,
    /// The size hint at the start of every attempt.
    hint: SizeHint,
    /// The number of attempts started.
    attempts: u32,
    /// The attempt that may read: the latest; none after a freeze.
    reader: Option<u32>,
    /// What that attempt has sent.
    sent: Sent,
    /// The waker of that attempt, if it waits.
    waker: Option<Waker>,
}

enum End {
    /// With its trailers.
    Whole(Option<HeaderMap>),
    /// With the error until it is reported; without one if the body panicked or was given up.
    Failed(Option<BoxError>),
}

#[derive(Default)]
struct Sent {
    /// How many of the frames in `kept` were sent: none of them once sent frames are not kept.
    frames: usize,
    bytes: u64,
    trailers: bool,
}

impl<B> Source<B> {
    /// A body with its size hint, of which up to `cap` bytes may be kept; without it if it is being
    /// polled.
    pub(super) fn new(body: Option<Pin<Box<B>>>, hint: SizeHint, cap: usize) -> Self {
        Self {
            rest: body,
            end: None,
            kept: Kept::default(),
            keeping: true,
            cap,
            hint,
            attempts: 0,
            reader: None,
            sent: Sent::default(),
            waker: None,
        }
    }

    /// Whether another attempt can be started. The first one always can: it reports a failure in
    /// its place.
    pub(super) fn can_start(&self) -> bool {
        self.attempts == 0 || (self.keeping && !matches!(self.end, Some(End::Failed(_))))
    }

    /// Starts another attempt, in place of the one before. Returns its number, and the waker of the
    /// other.
    pub(super) fn start(&mut self) -> Option<(u32, Option<Waker>)> {
        if !self.can_start() {
            return None;
        }
        self.attempts += 1;
        self.reader = Some(self.attempts);
        self.sent = Sent::default();
        Some((self.attempts, self.waker.take()))
    }

    /// Ends the current attempt, unless another one could not be started. Returns whether it could,
    /// and the waker.
    pub(super) fn freeze(&mut self) -> (bool, Option<Waker>) {
        if !self.can_start() {
            return (false, None);
        }
        self.reader = None;
        self.sent = Sent::default();
        (true, self.waker.take())
    }

    /// Keeps no more than what the current attempt has yet to send, and nothing if there is none.
    pub(super) fn stop_keeping(&mut self) -> Leftover<B> {
        self.keeping = false;
        let sent = mem::take(&mut self.sent.frames);
        if self.attempts > 0 && self.reader.is_none() {
            self.end = Some(End::Failed(None));
            return Leftover::kept(mem::take(&mut self.kept), self.rest.take());
        }
        Leftover::kept(self.kept.take_front(sent), None)
    }

    /// What this attempt has to do next.
    pub(super) fn next(&mut self, attempt: u32) -> Next<B> {
        if self.reader != Some(attempt) {
            return Next::last(Some(Err(Superseded.into())));
        }
        if let Some(bytes) = self.next_kept() {
            let item = Some(Ok(Frame::data(bytes)));
            let last = self.is_end_stream(attempt);
            return Next::Yield(Yield { item, last });
        }
        match &mut self.end {
            Some(End::Whole(trailers)) => {
                let sent = mem::replace(&mut self.sent.trailers, true);
                let trailers = if sent { None } else { trailers.clone() };
                Next::last(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
            }
            Some(End::Failed(error)) => {
                Next::last(Some(Err(error.take().unwrap_or_else(|| Lost.into()))))
            }
            None => self.rest.take().map_or(Next::Wait, Next::Read),
        }
    }

    fn next_kept(&mut self) -> Option<Bytes> {
        let bytes = if self.keeping {
            let bytes = self.kept.get(self.sent.frames).cloned()?;
            self.sent.frames += 1;
            bytes
        } else {
            self.kept.pop_front()?
        };
        self.sent.bytes += bytes.len() as u64;
        Some(bytes)
    }

    /// Lets this attempt wait for an older one that is polling the body: `Err` if that is done
    /// already. What was stored before is handed back, to be dropped when the lock is free.
    pub(super) fn wait(&mut self, attempt: u32, waker: Waker) -> Result<Option<Waker>, Waker> {
        if self.reader == Some(attempt) && self.rest.is_none() && self.end.is_none() {
            Ok(self.waker.replace(waker))
        } else {
            Err(waker)
        }
    }

    /// Puts back the rest of the body, none if it has ended, with what a poll of it gave: the poll
    /// of this attempt, or the one that reads ahead.
    ///
    /// What was read is kept even if the attempt is not the current one any more: it is the next
    /// one's then.
    pub(super) fn settle(
        &mut self,
        attempt: Option<u32>,
        rest: Option<Pin<Box<B>>>,
        read: Read,
    ) -> Settled<B> {
        let current = self.reader == attempt;
        let wake = if current { None } else { self.waker.take() };
        let leftover = if self.end.is_none() {
            self.rest = rest;
            self.note(read, current)
        } else {
            // Given up while it was being polled.
            Leftover::read(read, rest)
        };
        Settled {
            current,
            wake,
            leftover,
        }
    }

    fn note(&mut self, read: Read, current: bool) -> Leftover<B> {
        self.end = match read {
            Read::Pending(waker) => {
                let unused = if current {
                    self.waker.replace(waker)
                } else {
                    Some(waker)
                };
                return Leftover::waker(unused);
            }
            Read::Data(bytes) => {
                self.end = self.rest.is_none().then_some(End::Whole(None));
                return self.keep(bytes);
            }
            Read::Trailers(trailers) => Some(End::Whole(Some(trailers))),
            Read::End => Some(End::Whole(None)),
            Read::Failed(error) => Some(End::Failed(Some(error))),
        };
        Leftover::none()
    }

    fn keep(&mut self, bytes: Bytes) -> Leftover<B> {
        // Empty frames would grow the list without ever reaching the cap.
        if !bytes.is_empty() {
            self.kept.push(bytes);
        }
        // A body that says it is larger than the cap cannot be sent twice once it is begun: why
        // keep the first part?
        let over = self.kept.bytes() > self.cap || self.hint.lower() > self.cap as u64;
        if self.keeping && over && self.kept.len() > 0 {
            self.stop_keeping()
        } else {
            Leftover::none()
        }
    }

    /// Whether this attempt has sent everything. One that has sent nothing has not: a body that
    /// turned out to be empty only when it was read is framed in each attempt as it was in the
    /// first.
    pub(super) fn is_end_stream(&self, attempt: u32) -> bool {
        let Some(End::Whole(trailers)) = &self.end else {
            return false;
        };
        let begun = self.sent.bytes > 0 || self.sent.trailers;
        self.reader == Some(attempt)
            && begun
            && self.kept.get(self.sent.frames).is_none()
            && (trailers.is_none() || self.sent.trailers)
    }

    /// The size of the body as it said at its start.
    pub(super) fn size_hint_at_start(&self) -> SizeHint {
        self.hint_less(0, 0)
    }

    /// How much this attempt has yet to send: nothing is known of one that was superseded.
    pub(super) fn size_hint(&self, attempt: u32) -> SizeHint {
        if self.reader != Some(attempt) {
            return SizeHint::new();
        }
        let sent = self.sent.bytes;
        if sent == 0 {
            return self.size_hint_at_start();
        }
        let unsent = self.kept.bytes() as u64 - if self.keeping { sent } else { 0 };
        match self.end {
            Some(End::Whole(_)) => SizeHint::with_exact(unsent),
            _ => self.hint_less(sent, unsent),
        }
    }

    /// From the hint at the start, as there are bodies whose own never changes; and no less than
    /// what is known to be `unsent`.
    fn hint_less(&self, sent: u64, unsent: u64) -> SizeHint {
        let mut left = SizeHint::new();
        left.set_lower(self.hint.lower().saturating_sub(sent).max(unsent));
        if let Some(upper) = self.hint.upper() {
            left.set_upper(upper.saturating_sub(sent).max(left.lower()));
        }
        left
    }

    /// All bytes of a body without trailers, if it was read to its end and this attempt, or with
    /// `None` the next one, has sent nothing; and the frames that they replace.
    pub(super) fn known_bytes(&mut self, attempt: Option<u32>) -> Option<(Bytes, Kept)> {
        let whole = matches!(self.end, Some(End::Whole(None)));
        (whole && self.reader == attempt && self.sent.bytes == 0).then(|| self.kept.join())
    }

    /// The bytes of a body that was read to its end, if they are one frame, as many as it said, and
    /// all of it.
    pub(super) fn single_frame(&mut self) -> Option<Bytes> {
        let whole = matches!(self.end, Some(End::Whole(None)));
        let honest = self.hint.exact() == Some(self.kept.bytes() as u64);
        let single = self.kept.len() == 1;
        if whole && honest && single {
            self.kept.pop_front()
        } else {
            None
        }
    }

    /// Takes the rest out to be read before the first attempt, as long as there is use in that.
    pub(super) fn take_ahead(&mut self) -> Option<Pin<Box<B>>> {
        if self.keeping { self.rest.take() } else { None }
    }
}
