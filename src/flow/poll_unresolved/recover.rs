//! Recovers the intents of dead processes: they may have been sent, so their outcome is unknown
//! (S1).

use crate::domain::identifiers::Timestamp;
use crate::store::{Committed, LeasedWork, Store, StoreError};

/// Orphaned orders recovered in one round.
const ORPHANED_AT_ONCE: u32 = 256;

/// At start-up, marks as unresolved every intent that a dead process left, because it may have been
/// sent (S1). Returns the number of orders recovered.
pub async fn recover_orphaned(store: &Store, now: Timestamp) -> Result<u64, StoreError> {
    let mut recovered: u64 = 0;
    loop {
        let leases = store.nodes.lease_orphaned(now, ORPHANED_AT_ONCE).await?;
        if leases.is_empty() {
            return Ok(recovered);
        }
        for lease in &leases {
            let LeasedWork::Order(order) = &lease.of else {
                continue;
            };
            let Some(change) = order.recover_orphaned(store.epoch, now) else {
                continue;
            };
            // Stale: changed by another writer; the next round reads it again.
            if store.changes.commit(&change).await? == Committed::Done {
                recovered = recovered.saturating_add(1);
            }
        }
    }
}
