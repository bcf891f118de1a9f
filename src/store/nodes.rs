//! Nodes: each process that had the store, under its epoch. What one that is gone left behind, and what a
//! clock that was wrong did (S1, T2). Opening a store registers the process.

use std::time::Duration;

use async_trait::async_trait;

use crate::domain::identifiers::Timestamp;
use crate::store::{Lease, StoreError};

/// Records of processes lie so far apart at most without that a clock was set.
pub const CLOCKS_APART: Duration = Duration::from_secs(2);

/// What one process makes good for another.
#[async_trait]
pub trait Nodes: Send + Sync {
    /// Takes orders with calls that an expired node began and may have sent, whenever they are due
    /// (S1); never a living one's. An idle look writes nothing.
    async fn lease_orphaned(&self, now: Timestamp, count: u32) -> Result<Vec<Lease>, StoreError>;

    /// Brings forward what is due later than now: it was written while the clock was ahead by so much;
    /// by as much as the records since the clock was last set back lie ahead of now where nobody knows.
    /// Records it, and returns by how much (T2).
    async fn bring_forward(
        &self,
        by: Option<Duration>,
        now: Timestamp,
    ) -> Result<Duration, StoreError>;
}
