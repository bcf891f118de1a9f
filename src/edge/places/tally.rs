//! A number of what is taken, until nothing is any more.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tokio::sync::Notify;

/// A number of what is taken, and who waits until it is none.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) count: AtomicU32,
    pub(super) closed: AtomicBool,
    empty: Notify,
}

impl Tally {
    pub(super) fn take(&self, places_max: u32) -> bool {
        let one_more = |count: u32| (count < places_max).then(|| count.saturating_add(1));
        let taken = self
            .count
            .fetch_update(Ordering::SeqCst, Ordering::Relaxed, one_more)
            .is_ok();
        if taken && self.closed.load(Ordering::SeqCst) {
            self.give();
            return false;
        }
        taken
    }

    pub(super) fn give(&self) {
        if self.count.fetch_sub(1, Ordering::SeqCst) == 1 && self.closed.load(Ordering::SeqCst) {
            self.empty.notify_waiters();
        }
    }

    pub(super) async fn drain(&self) {
        self.closed.store(true, Ordering::SeqCst);
        loop {
            let emptied = self.empty.notified();
            if self.count.load(Ordering::SeqCst) == 0 {
                return;
            }
            emptied.await;
        }
    }
}
