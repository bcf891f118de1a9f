//! Orders that are due: in doubt, waiting for the payer, or to be ended (A6, N10).

use async_trait::async_trait;

use crate::domain::identifiers::{PayOrderNo, Timestamp};
use crate::domain::order::{Order, PollLane};
use crate::store::{Lease, LeaseCompletion, StoreError};

/// How many orders of a lane may be taken now (N10).
pub type LaneShares<'a> = dyn Fn(PollLane<'_>) -> u32 + Send + Sync + 'a;

/// What pollers take, and give back.
#[async_trait]
pub trait Unresolved: Send + Sync {
    /// Takes orders that are due, under a fencing number, until the lease ends: of each lane no more
    /// than its share; of two lanes the one of which fewer are taken comes first (N10).
    async fn lease_orders(
        &self,
        shares: &LaneShares<'_>,
        now: Timestamp,
        count: u32,
    ) -> Result<Vec<Lease>, StoreError>;

    /// When [`Unresolved::lease_orders`] would next find something, so that a worker can wait for it
    /// and no longer.
    async fn next_order(&self, shares: &LaneShares<'_>) -> Result<Option<Timestamp>, StoreError>;

    /// Takes these orders, due or not, of those that may still be paid and that nobody has.
    async fn lease_named(
        &self,
        orders: &[PayOrderNo],
        now: Timestamp,
    ) -> Result<Vec<Lease>, StoreError>;

    /// Ends the lease of an order that did not move, with the schedules of its objects as they are
    /// now; refused when the lease was lost (N6).
    async fn reschedule(&self, order: &Order, fence: u64) -> Result<LeaseCompletion, StoreError>;
}
