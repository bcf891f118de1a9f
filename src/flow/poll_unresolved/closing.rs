//! Begins closing that is due, without a query.

use crate::store::{Lease, LeasedWork, Store, StoreError};
use crate::world::World;

/// Begins whatever closing is due for a leased order. Returns whether any was.
pub async fn close_due_order(
    store: &Store,
    world: &World,
    lease: &Lease,
) -> Result<bool, StoreError> {
    let LeasedWork::Order(order) = &lease.of else {
        return Ok(false);
    };
    match order.pursue(world.clock.now()) {
        Some(change) => {
            // A concurrent change to the order sets a new schedule.
            store.changes.commit(&change).await?;
            Ok(true)
        }
        None => Ok(false),
    }
}
