//! Begins closing that is due, without a query.

use crate::flow::FlowScope;
use crate::store::{Lease, LeasedWork, StoreError};

/// Begins whatever closing is due for a leased order. Returns whether any was.
pub async fn close_due_order(scope: FlowScope<'_>, lease: &Lease) -> Result<bool, StoreError> {
    let LeasedWork::Order(order) = &lease.of else {
        return Ok(false);
    };
    match order.pursue(scope.world.clock.now()) {
        Some(change) => {
            // A concurrent change to the order sets a new schedule.
            scope.store.changes.commit(&change).await?;
            Ok(true)
        }
        None => Ok(false),
    }
}
