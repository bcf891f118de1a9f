//! Orders that are due: unresolved, waiting for the payer, or to be ended (A6, N10).

use async_trait::async_trait;

use crate::domain::identifiers::{PayOrderNo, Timestamp};
use crate::domain::order::{Order, PollLane};
use crate::store::{Lease, LeaseCompletion, StoreError};

/// How many orders of a lane may be leased now (N10).
pub type LaneShares<'a> = dyn Fn(PollLane<'_>) -> u32 + Send + Sync + 'a;

/// Leases orders to pollers.
#[async_trait]
pub trait Unresolved: Send + Sync {
    /// Leases orders that are due, each with a fencing number: of each lane no more than its share;
    /// the lane with the fewest taken comes first (N10).
    async fn lease_orders(
        &self,
        shares: &LaneShares<'_>,
        now: Timestamp,
        count: u32,
    ) -> Result<Vec<Lease>, StoreError>;

    /// When [`Unresolved::lease_orders`] would next return something, so that a worker can sleep
    /// until then.
    async fn next_order(&self, shares: &LaneShares<'_>) -> Result<Option<Timestamp>, StoreError>;

    /// Leases those of these orders that are open and not leased, whether due or not.
    async fn lease_named(
        &self,
        orders: &[PayOrderNo],
        now: Timestamp,
    ) -> Result<Vec<Lease>, StoreError>;

    /// Ends the lease of an unchanged order and stores the schedules of its objects; rejected when
    /// the lease was lost (N6).
    async fn reschedule(&self, order: &Order, fence: u64) -> Result<LeaseCompletion, StoreError>;
}
