//! What must outlive the process: small traits, one for each kind of user, each method one transaction.
//! Whoever stands in front of one replaces its handle and leaves the others alone.
//!
//! "Not there", "taken" and "stale" are outcomes; an error means that the question was not
//! answered. What is promised is the list of scenarios in `tests/it/store.rs`.

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

/// A durable memory of orders, as each of its users sees it. The handles may be called from many tasks.
#[derive(Clone)]
pub struct Store {
    /// For flows: orders as they are.
    pub orders: Arc<dyn Orders>,
    /// For flows: the only way to write what they decided.
    pub changes: Arc<dyn Changes>,
    /// For admission: which nonces can no longer be known.
    pub replay_floor: Arc<dyn ReplayFloor>,
    /// For admission: nonces that are known to be spent, if somebody remembers them.
    pub nonce_cache: Option<Arc<NonceCache>>,
    /// For the worker that forgets nonces.
    pub nonces: Arc<dyn NonceRetention>,
    /// For whatever an institution sends.
    pub archive: Arc<dyn Archive>,
    /// For pollers.
    pub unresolved: Arc<dyn Unresolved>,
    /// For notifications.
    pub outbox: Arc<dyn Outbox>,
    /// For a start, and for whoever watches the clock.
    pub nodes: Arc<dyn Nodes>,
    /// For a start and a reload.
    pub configuration: Arc<dyn ConfigurationLog>,
    /// This process's mark on attempts (S1); the same for the life of the store.
    pub epoch: Epoch,
}

impl Store {
    /// Every handle of one backend.
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

    /// Whether a nonce is known to be spent; only [`Changes::commit`] says that it is not.
    pub fn remembers(&self, nonce: &FreshNonce) -> bool {
        let cache = self.nonce_cache.as_ref();
        cache.is_some_and(|cache| cache.remembers(nonce))
    }
}

/// What workers take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LeaseKind {
    /// Orders that are due: in doubt, waiting for the payer, or to be ended (A6).
    Orders,
    /// Orders with intents of processes that are dead (S1).
    OrphanedCalls,
    /// Events that are due, at most a few of each destination (N7).
    Events,
}

impl LeaseKind {
    /// The name in the metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::OrphanedCalls => "leftovers",
            Self::Events => "events",
        }
    }
}

/// Work taken for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What was taken.
    pub of: LeasedWork,
    /// Grows with every lease of the same row; an older one completes nothing (N6).
    pub fence: u64,
    /// How often an event was tried; of orders each object knows it itself.
    pub tries: u32,
}

/// What a lease holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeasedWork {
    /// An order, whole, as it was when it was taken.
    Order(Box<Order>),
    /// An event, and when it was born.
    Event(Box<Event>, Timestamp),
}

/// How long a lease of each kind lasts: longer than the work may take.
pub const LEASE: std::time::Duration = std::time::Duration::from_secs(30);

/// What became of the completion of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseCompletion {
    /// Durable.
    Done,
    /// The lease was lost: somebody else has it, or the row changed meanwhile.
    LeaseLost,
}

/// The question was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Nothing was written; ask again later (Q8).
    #[error("the store cannot be reached: {0}")]
    Unavailable(String),
    /// It may or may not have been written (Q8).
    #[error("the outcome of a write could not be learned: {0}")]
    OutcomeUnknown(String),
    /// What is stored cannot be read; a person must look.
    #[error("what is stored cannot be read: {0}")]
    Corrupt(String),
}
