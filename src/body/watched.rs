//! Who is told when the body of an answer has ended.

use std::time::Duration;
use std::{
    panic::{RefUnwindSafe, UnwindSafe},
    sync::{Arc, Weak},
};
use tokio::time::Instant;

/// Is told of the end of each body that it watches.
pub(crate) trait Watcher: Send + Sync + UnwindSafe + RefUnwindSafe {
    /// The body of this number has ended, or failed, or was dropped before. The server has worked
    /// for so long on the request that it answers, as far as is known.
    fn ended(&self, number: u64, worked: Option<Duration>);
}

/// A body's tie to its watcher, which is told of the end exactly once, wherever this is dropped. It
/// does not keep the watcher: bodies may be kept for as long as programs like, unread.
pub(crate) struct Watched {
    /// `None` when it has been told.
    watcher: Option<Weak<dyn Watcher>>,
    number: u64,
    sent_at: Instant,
    /// When something of it came last.
    heard_at: Option<Instant>,
}

impl Watched {
    pub(crate) fn new(
        watcher: &Arc<impl Watcher + 'static>,
        number: u64,
        sent_at: Instant,
    ) -> Self {
        let watcher = Arc::downgrade(watcher);
        Self {
            watcher: Some(watcher),
            number,
            sent_at,
            heard_at: None,
        }
    }

    /// The body was read until its end, or until it failed.
    pub(super) fn ended(mut self) {
        self.goes_on();
    }

    /// A part of it has come: the server has worked until now. Many programs drop a stream when they
    /// have what they want, shortly before its end.
    pub(super) fn goes_on(&mut self) {
        self.heard_at = Some(Instant::now());
    }

    fn tell(&mut self) {
        let heard_at = self.heard_at;
        let worked = heard_at.map(|heard_at| heard_at.saturating_duration_since(self.sent_at));
        let watcher = self.watcher.take();
        if let Some(watcher) = watcher.and_then(|watcher| watcher.upgrade()) {
            watcher.ended(self.number, worked);
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.tell();
    }
}
