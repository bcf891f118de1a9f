//! What a pretend party keeps, and a way to wait until it says something, without polling.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// Something kept in memory that others may watch.
pub(super) struct Watched<T> {
    kept: Mutex<T>,
    changed: watch::Sender<()>,
}

impl<T: Default> Default for Watched<T> {
    fn default() -> Self {
        Self {
            kept: Mutex::default(),
            changed: watch::Sender::new(()),
        }
    }
}

impl<T> Watched<T> {
    pub(super) fn look<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let outcome = change(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_replace(());
        outcome
    }

    /// What `look` finds, as soon as it finds something; nothing if that takes longer than allowed.
    pub(super) async fn wait_for<R>(
        &self,
        look: impl Fn(&T) -> Option<R>,
        at_most: Duration,
    ) -> Option<R> {
        let mut changed = self.changed.subscribe();
        let seen = async {
            loop {
                changed.mark_unchanged();
                if let Some(found) = self.look(&look) {
                    return Some(found);
                }
                // The sender lives in `self`, so this does not fail while we borrow it.
                changed.changed().await.ok()?;
            }
        };
        tokio::time::timeout(at_most, seen).await.ok().flatten()
    }
}
