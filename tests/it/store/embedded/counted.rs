//! A commit decorator that counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use paymux::domain::change::Change;
use paymux::store::{Changes, Committed, StoreError};

/// Counts the commits it passes on.
pub(super) struct CountingChanges {
    pub(super) changes: Arc<dyn Changes>,
    pub(super) commits: AtomicU32,
}

#[async_trait]
impl Changes for CountingChanges {
    async fn commit(&self, change: &Change) -> Result<Committed, StoreError> {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.changes.commit(change).await
    }
}
