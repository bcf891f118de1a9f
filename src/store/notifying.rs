//! Wakes the workers when a commit owes somebody something (N8), so that nobody has to look again and
//! again. A signal says "look", never what there is. Whoever ends a lease, brings work forward or sends
//! it again is one of the few that hold the signals, and gives them itself.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;

use crate::domain::change::Change;
use crate::store::{Changes, Committed, Store, StoreError};

/// What is due later than this wakes nobody: nobody sleeps longer (`workers.rs`), and an order
/// that expires in a quarter of an hour needs nobody to look now.
pub const SOON: Duration = Duration::from_secs(5);

/// One signal for each kind of work. Each is given with `notify_one`: one that nobody waits for
/// is kept for the next who does.
#[derive(Debug, Default)]
pub struct WorkerSignals {
    /// An order is due at another time than before.
    pub orders: Notify,
    /// An event was born, or a destination has room again.
    pub events: Notify,
}

impl WorkerSignals {
    /// Wakes everybody: whoever sleeps may have to look earlier.
    pub fn notify_all(&self) {
        self.orders.notify_one();
        self.events.notify_one();
    }
}

/// Signals what was made durable.
pub struct NotifyingChanges {
    changes: Arc<dyn Changes>,
    worker_signals: Arc<WorkerSignals>,
}

impl NotifyingChanges {
    /// The store with these signals behind its commits.
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
