//! The body of an answer.

use std::{
    fmt, mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{into_bytes, watched::Watched};

/// A body of no more than this fits into what a client receives unread (64 KiB, the initial window of
/// HTTP/2: RFC 9113, section 6.9.2).
const SENT_WITH_HEAD: u64 = 65_535;

type Item<B> = Option<Result<Frame<Bytes>, <B as Body>::Error>>;

pin_project! {
    /// The body of an answer: the inner service's own, whatever became of it on the way.
    ///
    /// A success has the inner body in it, frame by frame, unboxed, and without a copy if its data
    /// is [`Bytes`]. A refusal that is given back starts with what was read of it to learn what it
    /// says, goes on with the error that was met, if any, and then with the unread rest; only how
    /// the bytes are cut into frames can differ. An answer that the layer gives itself consists of
    /// its own bytes.
    ///
    /// Trailers, end of stream, and [size hint](Body::size_hint) are those of the inner body; the
    /// error type is the inner body's.
    ///
    /// Until the end of a success is seen, or an error, or until the body is dropped, its request counts
    /// as in flight where the server bounds how many may be. The body holds nothing back for ever, and
    /// it holds none of what is known of its partition.
    ///
    /// The default is an empty body.
    pub struct ResponseBody<B>
    where
        B: Body,
    {
        #[pin]
        kind: Kind<B>,
        // `None` if nobody wants to know of the end, or has been told.
        watched: Option<Watched>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<B>
    where
        B: Body,
    {
        Inner { #[pin] body: B },
        // Boxed, for most bodies are not of this kind, and all are moved.
        Again { again: Box<Again<B>> },
    }
}

/// What is there to be read again, in this order, and the unread rest.
pub(super) struct Again<B: Body> {
    pub(super) bytes: Bytes,
    pub(super) over: Bytes,
    pub(super) error: Option<B::Error>,
    pub(super) trailers: Option<HeaderMap>,
    pub(super) rest: Option<Pin<Box<B>>>,
}

impl<B: Body> ResponseBody<B> {
    /// The inner body, untouched.
    pub(crate) fn inner(body: B) -> Self {
        Self {
            kind: Kind::Inner { body },
            watched: None,
        }
    }

    /// Bytes of our own.
    pub(crate) fn own(bytes: Bytes) -> Self {
        Self::again(Again {
            bytes,
            ..Again::default()
        })
    }

    pub(super) fn again(again: Again<B>) -> Self {
        let again = Box::new(again);
        Self {
            kind: Kind::Again { again },
            watched: None,
        }
    }

    /// Whether the server may still be working on the answer when its head has come. It is not if
    /// there is nothing more to come; nor if it has told the length, so knew the whole, and that is
    /// so short that it need not be read to be sent: what is small is often kept and read later.
    pub(crate) fn is_stream(&self) -> bool {
        let is_short = |upper| upper <= SENT_WITH_HEAD;
        !self.is_end_stream() && !self.size_hint().upper().is_some_and(is_short)
    }

    /// Tells of the end.
    pub(crate) fn watch(&mut self, watched: Watched) {
        self.watched = Some(watched);
    }
}

impl<B: Body> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Item<B>> {
        let mut this = self.project();
        let item = ready!(match this.kind.as_mut().project() {
            KindProj::Inner { body } => poll_inner(body, cx),
            KindProj::Again { again } => again.poll_frame(cx),
        });
        // Who knows that nothing follows need not ask for it.
        let is_end = !matches!(item, Some(Ok(_))) || this.kind.is_end_stream();
        if is_end {
            if let Some(watched) = this.watched.take() {
                watched.ended();
            }
        } else if let Some(watched) = this.watched {
            watched.goes_on();
        }
        Poll::Ready(item)
    }

    fn is_end_stream(&self) -> bool {
        self.kind.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Inner { body } => body.size_hint(),
            Kind::Again { again } => again.size_hint(),
        }
    }
}

impl<B: Body> Kind<B> {
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Inner { body } => body.is_end_stream(),
            Self::Again { again } => again.is_end_stream(),
        }
    }
}

fn poll_inner<B: Body>(body: Pin<&mut B>, cx: &mut Context<'_>) -> Poll<Item<B>> {
    let item = ready!(body.poll_frame(cx));
    Poll::Ready(item.map(|result| result.map(|frame| frame.map_data(into_bytes))))
}

impl<B: Body> Again<B> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Item<B>> {
        for bytes in [&mut self.bytes, &mut self.over] {
            if !bytes.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(mem::take(bytes)))));
            }
        }
        if let Some(error) = self.error.take() {
            return Poll::Ready(Some(Err(error)));
        }
        if let Some(trailers) = self.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        let Some(rest) = &mut self.rest else {
            return Poll::Ready(None);
        };
        let item = ready!(poll_inner(rest.as_mut(), cx));
        if item.is_none() {
            self.rest = None;
        }
        Poll::Ready(item)
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
            && self.over.is_empty()
            && self.error.is_none()
            && self.trailers.is_none()
            && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let read = (self.bytes.len() + self.over.len()) as u64;
        let mut hint = SizeHint::with_exact(0);
        if let Some(rest) = &self.rest {
            hint = rest.size_hint();
        }
        let mut whole = SizeHint::new();
        whole.set_lower(hint.lower().saturating_add(read));
        if let Some(upper) = hint.upper().and_then(|upper| upper.checked_add(read)) {
            whole.set_upper(upper);
        }
        whole
    }
}

impl<B: Body> Default for Again<B> {
    fn default() -> Self {
        Self {
            bytes: Bytes::new(),
            over: Bytes::new(),
            error: None,
            trailers: None,
            rest: None,
        }
    }
}

impl<B: Body> Default for ResponseBody<B> {
    fn default() -> Self {
        Self::own(Bytes::new())
    }
}

impl<B: Body> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::Inner { .. } => "inner",
            Kind::Again { again } if again.rest.is_some() => "read in part",
            Kind::Again { .. } => "bytes",
        };
        f.debug_struct("ResponseBody")
            .field("kind", &kind)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{RefUnwindSafe, UnwindSafe},
        sync::{Arc, Mutex},
    };

    use http_body_util::{BodyExt, Full};
    use std::time::Duration;
    use tokio::time::Instant;

    use super::*;
    use crate::body::{
        Watcher,
        testing::{Script, Seen, Step, Wakes, data, poll, read_all, trailers},
    };

    fn exact<B: Body>(body: &ResponseBody<B>) -> Option<u64> {
        body.size_hint().exact()
    }

    #[test]
    fn a_success_is_the_inner_body_frame_by_frame_and_not_copied() {
        let bytes = Bytes::from_static(b"answer");
        let mut body = ResponseBody::inner(Full::new(bytes.clone()));
        assert_eq!(exact(&body), Some(6));
        assert!(!body.is_end_stream());
        let Poll::Ready(Some(Ok(frame))) = poll(&mut body, &Wakes::new()) else {
            panic!("expected a frame");
        };
        assert_eq!(frame.data_ref().unwrap().as_ptr(), bytes.as_ptr());
        assert!(body.is_end_stream());
        assert_eq!(exact(&body), Some(0));
    }

    #[test]
    fn a_success_keeps_trailers_waits_and_errors() {
        let script = Script::new([data("a"), Step::Yield, Step::Trailers(trailers())]);
        let mut body = Box::pin(ResponseBody::inner(script.exact(1)));
        assert_eq!(body.size_hint().exact(), Some(1));
        assert_eq!(read_all(&mut body), Seen::whole("a").with_trailers());

        let mut body = Box::pin(ResponseBody::inner(Script::new([data("a"), Step::Fail])));
        let seen = read_all(&mut body);
        assert_eq!(
            (seen.bytes.as_slice(), seen.error.as_deref()),
            (&b"a"[..], Some("broken"))
        );
    }

    #[test]
    fn our_own_bytes_are_a_body_of_exact_size() {
        let mut body = ResponseBody::<Full<Bytes>>::own(Bytes::from_static(b"ours"));
        assert_eq!(exact(&body), Some(4));
        assert!(!body.is_end_stream());
        assert_eq!(read_all(&mut body), Seen::whole("ours"));
        assert!(body.is_end_stream());
    }

    #[test]
    fn the_default_is_empty_whatever_the_inner_body_is() {
        let mut body = Box::pin(ResponseBody::<Script>::default());
        assert!(body.is_end_stream());
        assert_eq!(body.size_hint().exact(), Some(0));
        assert_eq!(read_all(&mut body), Seen::whole(""));
    }

    /// Hears of the end of a body.
    #[derive(Default)]
    struct Ends(Mutex<Vec<(u64, bool)>>);

    impl Watcher for Ends {
        fn ended(&self, number: u64, worked: Option<Duration>) {
            self.0.lock().unwrap().push((number, worked.is_some()));
        }
    }

    fn watched<B: Body>(mut body: ResponseBody<B>, ends: &Arc<Ends>) -> Pin<Box<ResponseBody<B>>> {
        body.watch(Watched::new(ends, 7, Instant::now()));
        Box::pin(body)
    }

    #[test]
    fn its_end_is_told_once() {
        for last in [data("b"), Step::Trailers(trailers()), Step::Fail] {
            let script = Script::new([data("a"), last]);
            let ends = Arc::new(Ends::default());
            let mut body = watched(ResponseBody::inner(script), &ends);
            assert!(poll(&mut body, &Wakes::new()).is_ready());
            assert!(ends.0.lock().unwrap().is_empty(), "it goes on");
            read_all(&mut body);
            assert_eq!(*ends.0.lock().unwrap(), [(7, true)]);
            drop(body);
            assert_eq!(ends.0.lock().unwrap().len(), 1);
        }
    }

    #[test]
    fn its_end_is_told_as_soon_as_it_is_known() {
        let ends = Arc::new(Ends::default());
        let mut body = watched(ResponseBody::inner(Full::new(Bytes::from("all"))), &ends);
        assert!(poll(&mut body, &Wakes::new()).is_ready());
        assert_eq!(*ends.0.lock().unwrap(), [(7, true)]);
    }

    #[test]
    fn a_body_that_is_dropped_tells_of_it_and_keeps_nobody() {
        let ends = Arc::new(Ends::default());
        drop(watched(ResponseBody::inner(Script::new([])), &ends));
        assert_eq!(*ends.0.lock().unwrap(), [(7, false)]);
        let script = Script::new([data("a"), data("b")]);
        let mut body = watched(ResponseBody::inner(script), &ends);
        assert!(poll(&mut body, &Wakes::new()).is_ready());
        drop(body);
        let told = ends.0.lock().unwrap().pop();
        assert_eq!(told, Some((7, true)), "until the part that came last");
        let body = watched(ResponseBody::inner(Script::new([])), &ends);
        assert_eq!(Arc::strong_count(&ends), 1);
        drop(ends);
        drop(body);
    }

    #[test]
    fn what_is_empty_or_short_is_no_stream() {
        let is_stream = |script| ResponseBody::inner(script).is_stream();
        assert!(!ResponseBody::inner(Full::new(Bytes::new())).is_stream());
        assert!(!is_stream(Script::new([]).exact(SENT_WITH_HEAD)));
        assert!(is_stream(Script::new([]).exact(SENT_WITH_HEAD + 1)));
        assert!(is_stream(Script::new([])), "of unknown length");
    }

    #[test]
    fn a_size_beyond_counting_is_unknown() {
        let rest = Script::new([]).exact(u64::MAX);
        let body = ResponseBody::again(Again {
            bytes: Bytes::from_static(b"a"),
            rest: Some(Box::pin(rest)),
            ..Again::default()
        });
        assert_eq!(
            (body.size_hint().lower(), body.size_hint().upper()),
            (u64::MAX, None)
        );
    }

    #[test]
    fn its_debug_shows_no_content() {
        let own = ResponseBody::<Script>::own(Bytes::from_static(b"secret"));
        assert_eq!(format!("{own:?}"), r#"ResponseBody { kind: "bytes", .. }"#);
        let inner = ResponseBody::inner(Script::new([data("secret")]));
        assert_eq!(
            format!("{inner:?}"),
            r#"ResponseBody { kind: "inner", .. }"#
        );
    }

    #[test]
    fn it_is_unpin_send_and_sync_as_the_inner_body_is() {
        fn unwind_safe<T: UnwindSafe + RefUnwindSafe>(_: &T) {}
        fn unpin<T: Unpin>(_: &T) {}
        fn send<T: Send>(_: &T) {}
        fn sync<T: Sync>(_: &T) {}
        let body = ResponseBody::inner(Full::new(Bytes::new()));
        unpin(&body);
        sync(&body);
        unwind_safe(&body);
        send(&ResponseBody::inner(Script::new([])));
        send(&body.boxed());
    }
}
