//! In-memory state of a simulated party, which others can wait on without polling.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// A value in memory, with notification of changes.
pub(super) struct Watched<T> {
    value: Mutex<T>,
    changed: watch::Sender<()>,
}

impl<T: Default> Default for Watched<T> {
    fn default() -> Self {
        Self {
            value: Mutex::default(),
            changed: watch::Sender::new(()),
        }
    }
}

impl<T> Watched<T> {
    pub(super) fn look<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.value.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let outcome = change(&mut self.value.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_replace(());
        outcome
    }

    /// Waits until `look` returns a value, for at most `at_most`.
    pub(super) async fn wait_for<R>(
        &self,
        look: impl Fn(&T) -> Option<R>,
        at_most: Duration,
    ) -> Option<R> {
        let mut changed = self.changed.subscribe();
        let waiting = async {
            loop {
                changed.mark_unchanged();
                if let Some(found) = self.look(&look) {
                    return Some(found);
                }
                // The sender is in `self`, so this does not fail while `self` is borrowed.
                changed.changed().await.ok()?;
            }
        };
        tokio::time::timeout(at_most, waiting).await.ok().flatten()
    }
}
