//! Nodes: every process that has opened the store, identified by its epoch. Recovers work orphaned
//! by dead nodes and due times written by a wrong clock (S1, T2). Opening a store registers the
//! process.

use std::time::Duration;

use async_trait::async_trait;

use crate::domain::identifiers::Timestamp;
use crate::store::{Lease, StoreError};

/// Clock differences up to this are normal; a larger one means that a clock was set.
pub const CLOCKS_APART: Duration = Duration::from_secs(2);

/// Recovery of what another process left behind.
#[async_trait]
pub trait Nodes: Send + Sync {
    /// Leases orders with calls that an expired node began and may have sent, whether due or not
    /// (S1); never those of a live node. Writes nothing if there are none.
    async fn lease_orphaned(&self, now: Timestamp, count: u32) -> Result<Vec<Lease>, StoreError>;

    /// Moves due times in the future earlier by `by`, the amount by which the clock was ahead when
    /// they were written. If `by` is unknown, uses how far the audit records since the clock was
    /// last set back are ahead of `now`. Writes an audit entry, and returns the amount (T2).
    async fn bring_forward(
        &self,
        by: Option<Duration>,
        now: Timestamp,
    ) -> Result<Duration, StoreError>;
}
