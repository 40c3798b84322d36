//! Who is told when the body of an answer has ended.

use std::{
    panic::{RefUnwindSafe, UnwindSafe},
    sync::{Arc, Weak},
};
use tokio::time::Instant;

/// Is told of the end of each body that it watches.
pub(crate) trait Watcher: Send + Sync + UnwindSafe + RefUnwindSafe {
    /// The body of this number has ended, or failed; or, if not `by_server`, it was dropped before.
    /// The request that it answers was sent at `sent_at`.
    fn ended(&self, number: u64, sent_at: Instant, by_server: bool);
}

/// A body's tie to its watcher, which is told of the end exactly once, wherever this is dropped. It
/// does not keep the watcher: bodies may be kept for as long as programs like, unread.
pub(crate) struct Watched {
    /// `None` when it has been told.
    watcher: Option<Weak<dyn Watcher>>,
    number: u64,
    sent_at: Instant,
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
        }
    }

    /// The body was read until its end, or until it failed.
    pub(super) fn ended(mut self) {
        self.tell(true);
    }

    fn tell(&mut self, by_server: bool) {
        let watcher = self.watcher.take();
        if let Some(watcher) = watcher.and_then(|watcher| watcher.upgrade()) {
            watcher.ended(self.number, self.sent_at, by_server);
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.tell(false);
    }
}
