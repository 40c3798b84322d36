//! Handwritten bodies, and what reads them, for the tests of this room.

use std::{
    cell::RefCell,
    collections::VecDeque,
    fmt,
    marker::PhantomPinned,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};

/// What a scripted body does when it is polled.
pub(super) enum Step {
    Data(Bytes),
    Trailers(HeaderMap),
    /// Wakes its task and is pending once.
    Yield,
    /// Calls this, then does the next step.
    Call(Box<dyn FnOnce() + Send>),
    Fail,
    Panic,
    /// Empty frames without an end.
    Empty,
}

pub(super) fn data(bytes: &'static str) -> Step {
    Step::Data(Bytes::from_static(bytes.as_bytes()))
}

pub(super) fn trailers() -> HeaderMap {
    HeaderMap::from_iter([(http::header::ETAG, HeaderValue::from_static("sum"))])
}

/// A body that plays a script. It is neither `Unpin` nor `Sync`.
pub(super) struct Script {
    state: Arc<Mutex<State>>,
    hint: SizeHint,
    tells_its_end: bool,
    _not_sync: RefCell<()>,
    _not_unpin: PhantomPinned,
}

#[derive(Default)]
struct State {
    steps: VecDeque<Step>,
    /// Whether the end of the script is not the end of the body.
    open: bool,
    waker: Option<Waker>,
    polls: usize,
    dropped: bool,
}

/// A view of a scripted body from outside.
#[derive(Clone)]
pub(super) struct Remote(Arc<Mutex<State>>);

impl Script {
    pub(super) fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        let state = State {
            steps: steps.into_iter().collect(),
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            hint: SizeHint::new(),
            tells_its_end: false,
            _not_sync: RefCell::new(()),
            _not_unpin: PhantomPinned,
        }
    }

    pub(super) fn exact(mut self, size: u64) -> Self {
        self.hint = SizeHint::with_exact(size);
        self
    }

    pub(super) fn at_least(mut self, size: u64) -> Self {
        self.hint.set_lower(size);
        self
    }

    /// Lets `is_end_stream` say when the script is over, which it need not.
    pub(super) fn tells_its_end(mut self) -> Self {
        self.tells_its_end = true;
        self
    }

    pub(super) fn remote(&self) -> Remote {
        Remote(self.state.clone())
    }

    /// Lets the body wait for more at the end of its script.
    pub(super) fn open(self) -> (Self, Remote) {
        self.state.lock().unwrap().open = true;
        let remote = self.remote();
        (self, remote)
    }
}

impl Remote {
    pub(super) fn push(&self, step: Step) {
        let mut state = self.0.lock().unwrap();
        state.steps.push_back(step);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    pub(super) fn close(&self) {
        let mut state = self.0.lock().unwrap();
        state.open = false;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    pub(super) fn polls(&self) -> usize {
        self.0.lock().unwrap().polls
    }

    pub(super) fn is_dropped(&self) -> bool {
        self.0.lock().unwrap().dropped
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let mut state = self.state.lock().unwrap();
        state.polls += 1;
        match state.steps.pop_front() {
            None if state.open => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            None => Poll::Ready(None),
            Some(Step::Data(bytes)) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Some(Step::Trailers(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Some(Step::Yield) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Step::Call(call)) => {
                drop(state);
                call();
                self.poll_frame(cx)
            }
            Some(Step::Fail) => Poll::Ready(Some(Err(Broken))),
            Some(Step::Panic) => {
                drop(state);
                panic!("expected by the test")
            }
            Some(Step::Empty) => {
                state.steps.push_front(Step::Empty);
                Poll::Ready(Some(Ok(Frame::data(Bytes::new()))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let state = self.state.lock().unwrap();
        self.tells_its_end && !state.open && state.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::new();
        hint.set_lower(self.hint.lower());
        if let Some(upper) = self.hint.upper() {
            hint.set_upper(upper);
        }
        hint
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.state.lock().unwrap().dropped = true;
    }
}

/// The error of a scripted body.
#[derive(Debug, PartialEq)]
pub(super) struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("broken")
    }
}

impl std::error::Error for Broken {}

/// Counts how often it is woken.
#[derive(Default)]
pub(super) struct Wakes {
    count: AtomicUsize,
    woken: AtomicBool,
}

impl Wakes {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    fn take(&self) -> bool {
        self.woken.swap(false, Ordering::SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.woken.store(true, Ordering::SeqCst);
    }
}

/// What was read of a body.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Seen {
    pub(super) bytes: Vec<u8>,
    pub(super) trailers: Option<HeaderMap>,
    pub(super) error: Option<String>,
    pub(super) ended: bool,
}

impl Seen {
    /// A body that ended well.
    pub(super) fn whole(bytes: &str) -> Self {
        Self {
            bytes: bytes.into(),
            ended: true,
            ..Self::default()
        }
    }

    pub(super) fn with_trailers(mut self) -> Self {
        self.trailers = Some(trailers());
        self
    }
}

/// Polls once.
pub(super) fn poll<B>(
    body: &mut B,
    wakes: &Arc<Wakes>,
) -> Poll<Option<Result<Frame<Bytes>, B::Error>>>
where
    B: Body<Data = Bytes> + Unpin,
{
    Pin::new(body).poll_frame(&mut Context::from_waker(&wakes.clone().into()))
}

/// Reads at most `frames` frames, until the end, an error, or a wait that nobody ends.
pub(super) fn read<B>(body: &mut B, frames: usize, seen: &mut Seen)
where
    B: Body<Data = Bytes, Error: fmt::Display> + Unpin,
{
    let wakes = Wakes::new();
    for _ in 0..frames {
        match poll(body, &wakes) {
            Poll::Pending if wakes.take() => {}
            Poll::Pending => return,
            Poll::Ready(None) => {
                seen.ended = true;
                return;
            }
            Poll::Ready(Some(Err(error))) => {
                seen.error = Some(error.to_string());
                return;
            }
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => seen.bytes.extend_from_slice(&data),
                Err(frame) => seen.trailers = frame.into_trailers().ok(),
            },
        }
    }
}

/// Reads until the end, an error, or a wait that nobody ends.
pub(super) fn read_all<B>(body: &mut B) -> Seen
where
    B: Body<Data = Bytes, Error: fmt::Display> + Unpin,
{
    let mut seen = Seen::default();
    read(body, 100_000, &mut seen);
    seen
}
