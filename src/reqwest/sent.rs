//! A request that was sent, or could not be made.

use pin_project_lite::pin_project;
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

pin_project! {
    /// The future of the service below; or the error for which that was not called.
    #[project = SentProj]
    pub(super) enum Sent<F, E> {
        // Waits for the answer.
        Waiting { #[pin] future: F },
        // Waits for nothing. `None` when the error was reported.
        Failed { error: Option<E> },
    }
}

impl<F, E> Sent<F, E> {
    pub(super) fn new(future: Result<F, E>) -> Self {
        match future {
            Ok(future) => Self::Waiting { future },
            Err(error) => Self::Failed { error: Some(error) },
        }
    }
}

impl<F, T, E> Future for Sent<F, E>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            SentProj::Waiting { future } => future.poll(cx),
            SentProj::Failed { error } => {
                Poll::Ready(Err(error.take().expect("polled after it was ready")))
            }
        }
    }
}
