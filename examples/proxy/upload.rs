//! The body of a request on its way through.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

/// What was read of a body, and the rest of it as it comes.
pub(super) struct Upload<B> {
    read: Bytes,
    /// Read as well, because it came after the data.
    last: Option<Frame<Bytes>>,
    rest: Option<B>,
    /// Whether trailers may come after the rest.
    expects_trailers: bool,
}

impl<B: Body<Data = Bytes> + Unpin> Upload<B> {
    /// Passes the body on as it comes.
    pub(super) fn stream(body: B) -> Self {
        Self {
            read: Bytes::new(),
            last: None,
            rest: Some(body),
            expects_trailers: false,
        }
    }

    /// Reads the whole body, or a little more than `cap` bytes if it is larger.
    ///
    /// # Errors
    ///
    /// Those of the body.
    pub(super) async fn read_up_to(cap: usize, mut body: B) -> Result<Self, B::Error> {
        if body.size_hint().lower() > cap as u64 {
            return Ok(Self::stream(body));
        }
        let mut read = BytesMut::new();
        let (last, rest) = loop {
            match body.frame().await.transpose()?.map(Frame::into_data) {
                Some(Ok(data)) => read.extend_from_slice(&data),
                Some(Err(last)) => break (Some(last), None),
                None => break (None, None),
            }
            if read.len() > cap {
                break (None, Some(body));
            }
        };
        let read = read.freeze();
        Ok(Self {
            read,
            last,
            rest,
            expects_trailers: false,
        })
    }

    /// The head of the request announces trailers.
    pub(super) fn expect_trailers(&mut self) {
        self.expects_trailers = self.rest.is_some();
    }

    /// Whether trailers follow the data, or may.
    pub(super) fn has_trailers(&self) -> bool {
        self.last.is_some() || self.expects_trailers
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Upload<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if !self.read.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.read)))));
        }
        if let Some(last) = self.last.take() {
            return Poll::Ready(Some(Ok(last)));
        }
        match &mut self.rest {
            Some(rest) => Pin::new(rest).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        let rest_is_at_its_end = self.rest.as_ref().is_none_or(Body::is_end_stream);
        self.read.is_empty() && self.last.is_none() && rest_is_at_its_end
    }

    fn size_hint(&self) -> SizeHint {
        if self.has_trailers() {
            // An exact size would have HTTP/1.1 send no trailers.
            return SizeHint::new();
        }
        let rest = self
            .rest
            .as_ref()
            .map_or(SizeHint::with_exact(0), Body::size_hint);
        let read = self.read.len() as u64;
        let mut whole = SizeHint::new();
        whole.set_lower(rest.lower().saturating_add(read));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(read)) {
            whole.set_upper(upper);
        }
        whole
    }
}
