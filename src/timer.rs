//! A timer that a state machine holds inline, and that does not exist until something is waited for:
//! on the path without a wait no runtime is needed.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::time::{Instant, Sleep, sleep_until};

/// Ready at that instant.
pub(crate) fn poll_until(
    mut timer: Pin<&mut Option<Sleep>>,
    at: Instant,
    cx: &mut Context<'_>,
) -> Poll<()> {
    match timer.as_mut().as_pin_mut() {
        Some(sleep) if sleep.deadline() == at => {}
        Some(sleep) => sleep.reset(at),
        None => timer.set(Some(sleep_until(at))),
    }
    timer
        .as_pin_mut()
        .map_or(Poll::Ready(()), |sleep| sleep.poll(cx))
}
