//! Durable state, as small traits: one for each kind of user, each method one transaction. A
//! decorator replaces the handle it wraps and leaves the others alone.
//!
//! "Not there", "taken" and "stale" are outcomes; an error means that the operation's result is not
//! available. The guarantees are the scenarios listed in `tests/it/store.rs`.

use std::sync::Arc;

use crate::domain::attempt::Epoch;
use crate::domain::event::Event;
pub use crate::domain::identifiers::OrderKey;
use crate::domain::identifiers::{FreshNonce, Timestamp};
use crate::domain::order::Order;
pub use archive::{Archive, ArchiveOutcome, FORGED_ARCHIVED_MAX, InboxMessage, InboxStatus};
pub use configuration::{ConfigurationLog, Dependents, ENDED_COUNTED_MAX, RemovalGuard};
pub use nodes::{CLOCKS_APART, Nodes};
use nonce_cache::NonceCache;
pub use opening::{
    BEGIN_EVERY, OnCommit, OnFatal, OpenError, OpenedStore, SQLITE, StoreUrl, open, open_for_all,
    open_to_explain, open_to_verify,
};
pub use orders::{Changes, Committed, NonceRetention, Orders, ReplayFloor};
pub use outbox::{DeliveryOutcome, Outbox};
pub use unresolved::Unresolved;

mod archive;
mod configuration;
pub mod exchange_log;
pub mod ledger;
mod nodes;
pub mod nonce_cache;
pub mod notifying;
mod opening;
mod orders;
pub mod outbox;
mod sqlite;
pub mod timeline;
pub mod unresolved;
pub mod verify;

/// Handles to one durable store, one for each kind of user. They may be called from many tasks.
#[derive(Clone)]
pub struct Store {
    /// For flows: reads orders.
    pub orders: Arc<dyn Orders>,
    /// For flows: the only way to write decisions.
    pub changes: Arc<dyn Changes>,
    /// For admission: the times for which nonces are no longer stored.
    pub replay_floor: Arc<dyn ReplayFloor>,
    /// For admission: the cache of spent nonces, if there is one.
    pub nonce_cache: Option<Arc<NonceCache>>,
    /// For the worker that deletes old nonces.
    pub nonces: Arc<dyn NonceRetention>,
    /// For messages from institutions.
    pub archive: Arc<dyn Archive>,
    /// For pollers.
    pub unresolved: Arc<dyn Unresolved>,
    /// For delivery of notifications.
    pub outbox: Arc<dyn Outbox>,
    /// For start-up and the clock watcher.
    pub nodes: Arc<dyn Nodes>,
    /// For start-up and reload.
    pub configuration: Arc<dyn ConfigurationLog>,
    /// The epoch of this process, written to its attempts (S1); constant while the store is open.
    pub epoch: Epoch,
}

impl Store {
    /// Makes every handle from one backend.
    pub fn of<B>(backend: &Arc<B>, epoch: Epoch) -> Self
    where
        B: Orders
            + Changes
            + ReplayFloor
            + NonceRetention
            + Archive
            + Unresolved
            + Outbox
            + Nodes
            + ConfigurationLog
            + 'static,
    {
        Self {
            orders: backend.clone(),
            changes: backend.clone(),
            replay_floor: backend.clone(),
            nonce_cache: None,
            nonces: backend.clone(),
            archive: backend.clone(),
            unresolved: backend.clone(),
            outbox: backend.clone(),
            nodes: backend.clone(),
            configuration: backend.clone(),
            epoch,
        }
    }

    /// Whether the cache knows this nonce as spent; only [`Changes::commit`] proves that it is not.
    pub fn remembers(&self, nonce: &FreshNonce) -> bool {
        let cache = self.nonce_cache.as_ref();
        cache.is_some_and(|cache| cache.remembers(nonce))
    }
}

/// The kinds of work that workers lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LeaseKind {
    /// Orders that are due: unresolved, waiting for the payer, or to be ended (A6).
    Orders,
    /// Orders with intents left by dead processes (S1).
    OrphanedCalls,
    /// Events that are due, limited per destination (N7).
    Events,
}

impl LeaseKind {
    /// The name used in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::OrphanedCalls => "leftovers",
            Self::Events => "events",
        }
    }
}

/// Work leased for a limited time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The leased work.
    pub of: LeasedWork,
    /// Increases with every lease of the same row; a lease with an older number cannot be completed
    /// (N6).
    pub fence: u64,
    /// Number of delivery attempts of an event; an order's objects carry their own counts.
    pub tries: u32,
}

/// The object of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeasedWork {
    /// A complete order, as of the lease.
    Order(Box<Order>),
    /// An event and its creation time.
    Event(Box<Event>, Timestamp),
}

/// The duration of a lease of any kind: longer than its work may take.
pub const LEASE: std::time::Duration = std::time::Duration::from_secs(30);

/// The result of completing a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseCompletion {
    /// Durable.
    Done,
    /// The lease was lost: another holder has it, or the row changed meanwhile.
    LeaseLost,
}

/// Why a store operation gave no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Nothing was written; retry later (Q8).
    #[error("the store cannot be reached: {0}")]
    Unavailable(String),
    /// It may or may not have been written (Q8).
    #[error("the outcome of a write is unknown: {0}")]
    OutcomeUnknown(String),
    /// Stored data cannot be read; needs manual repair.
    #[error("stored data cannot be read: {0}")]
    Corrupt(String),
}
