//! Wakes the workers when a commit creates work (N8), so that they need not poll continuously. A
//! signal means "check for work" and carries no data. Code that ends a lease, brings work forward
//! or resends it holds the signals and notifies directly.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;

use crate::domain::change::Change;
use crate::store::{Changes, Committed, Store, StoreError};

/// Work due later than this wakes no worker: no worker sleeps longer (`workers.rs`), and an order
/// that expires in a quarter of an hour does not have to be checked now.
pub const SOON: Duration = Duration::from_secs(5);

/// One signal per kind of work, sent with `notify_one`: if nobody is waiting, it is stored for the
/// next waiter.
#[derive(Debug, Default)]
pub struct WorkerSignals {
    /// The due time of an order changed.
    pub orders: Notify,
    /// An event was created, or a destination has capacity again.
    pub events: Notify,
}

impl WorkerSignals {
    /// Wakes all workers: each may have to check earlier than planned.
    pub fn notify_all(&self) {
        self.orders.notify_one();
        self.events.notify_one();
    }
}

/// Notifies the workers after a durable commit.
pub struct NotifyingChanges {
    changes: Arc<dyn Changes>,
    worker_signals: Arc<WorkerSignals>,
}

impl NotifyingChanges {
    /// Wraps the store's commits to send these signals.
    pub fn in_front_of(store: Store, worker_signals: Arc<WorkerSignals>) -> Store {
        let changes = Self {
            changes: store.changes,
            worker_signals,
        };
        Store {
            changes: Arc::new(changes),
            ..store
        }
    }
}

#[async_trait]
impl Changes for NotifyingChanges {
    async fn commit(&self, change: &Change) -> Result<Committed, StoreError> {
        let committed = self.changes.commit(change).await?;
        if committed == Committed::Done
            && let Some(rows) = change.rows()
        {
            if rows.due.is_some_and(|due| due <= change.at().plus(SOON)) {
                self.worker_signals.orders.notify_one();
            }
            if rows.events.iter().any(|event| event.destination.is_some()) {
                self.worker_signals.events.notify_one();
            }
        }
        Ok(committed)
    }
}
