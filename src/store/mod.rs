//! What must outlive the process: a few methods in the domain's words, each one transaction.
//!
//! "Not there", "taken" and "stale" are outcomes; an error means that the question was not
//! answered. What is promised is the list of scenarios in `tests/it/store.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::attempt::Epoch;
use crate::domain::change::Change;
use crate::domain::event::Event;
pub use crate::domain::identifiers::OrderKey;
use crate::domain::identifiers::forgotten::Forgotten;
use crate::domain::identifiers::{
    FreshNonce, InstitutionId, MerchantId, PayOrderNo, ReceiverId, Timestamp,
};
use crate::domain::institutions::{AccountKey, InstitutionEndpoint};
use crate::domain::order::Order;
use crate::domain::personal::MobileNo;
pub use opening::{
    BEGIN_EVERY, OnCommit, OnFatal, OpenError, StoreAndLedger, StoreViews, open, open_for_all,
    open_with_ledger,
};
use outbox::{
    DeadEventFilter, DeadEvents, DeliveryShares, EventPageLimit, LaneShares, NumberedEvent,
};

pub mod exchange_log;
pub mod ledger;
pub mod nonce_cache;
pub mod notifying;
mod opening;
pub mod outbox;
mod sqlite;
pub mod timeline;
pub mod verify;

/// A durable memory of orders. Cheap to share; every method may be called from many tasks.
#[async_trait]
pub trait Store: Send + Sync {
    /// An order, whole, under a name that its asker may use (K3).
    async fn order(&self, key: &OrderKey) -> Result<Option<Order>, StoreError>;

    /// Writes a change whole or not at all; returns once it is durable.
    async fn commit(&self, change: &Change) -> Result<Committed, StoreError>;

    /// Whether a nonce is known to be spent; only [`Store::commit`] says that it is not.
    fn remembers(&self, _: &FreshNonce) -> bool {
        false
    }

    /// Keeps an institution's message as it came, sealed: the evidence behind a change, or a
    /// bounded sample of what was refused.
    async fn keep(&self, message: &InboxMessage) -> Result<ArchiveOutcome, StoreError>;

    /// The institution through which this payer last paid this merchant.
    async fn last_used(
        &self,
        merchant: &MerchantId,
        payer: &MobileNo,
    ) -> Result<Option<InstitutionId>, StoreError>;

    /// Takes work that is due, under a fencing number, until the lease ends. Of orders whatever their
    /// lanes: [`Store::lease_orders`] keeps to shares.
    async fn lease(
        &self,
        work: LeaseKind,
        now: Timestamp,
        count: u32,
    ) -> Result<Vec<Lease>, StoreError>;

    /// Takes orders that are due, of each lane no more than its share; of two lanes the one of which
    /// fewer are taken comes first (N10).
    async fn lease_orders(
        &self,
        shares: &LaneShares<'_>,
        now: Timestamp,
        count: u32,
    ) -> Result<Vec<Lease>, StoreError>;

    /// When [`Store::lease_orders`] would next find something.
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

    /// Takes events that are due, of each destination no more than its share leaves; whoever has
    /// least on its way comes first (N7). [`Store::lease`] of events gives [`DESTINATION_SHARE`].
    async fn lease_events(
        &self,
        shares: &DeliveryShares,
        now: Timestamp,
        count: u32,
    ) -> Result<Vec<Lease>, StoreError>;

    /// When [`Store::lease_events`] would next find something.
    async fn next_event(&self, shares: &DeliveryShares) -> Result<Option<Timestamp>, StoreError>;

    /// A merchant's events behind a number, in the order of their commits, whatever became of
    /// them (K3, N9).
    async fn events_after(
        &self,
        merchant: &MerchantId,
        after: u64,
        room: EventPageLimit,
    ) -> Result<Vec<NumberedEvent>, StoreError>;

    /// Events that were given up, and of them so many shown (N2).
    async fn dead(&self, which: &DeadEventFilter, shown: u32) -> Result<DeadEvents, StoreError>;

    /// Has dead events sent again, each with a whole schedule before it, and records who wanted it
    /// (N2, L5); says how many. What was begun is recorded though it may not be ended.
    async fn resend(
        &self,
        which: &DeadEventFilter,
        by: &str,
        now: Timestamp,
    ) -> Result<u64, StoreError>;

    /// Says what became of a leased event; refused when the lease was lost (N6).
    async fn settle(
        &self,
        lease: &Lease,
        fate: DeliveryOutcome,
    ) -> Result<LeaseCompletion, StoreError>;

    /// Forgets the nonces of requests made until then, and durably of which moments they were (Q6).
    async fn forget_nonces(&self, until: Timestamp) -> Result<(), StoreError>;

    /// Brings forward what is due later than now: it was written while the clock was ahead by so much;
    /// by as much as the records since the clock was last set back lie ahead of now where nobody knows.
    /// Records it, and returns by how much (T2).
    async fn bring_forward(
        &self,
        by: Option<Duration>,
        now: Timestamp,
    ) -> Result<Duration, StoreError>;

    /// This process's mark on attempts (S1); the same for the life of the store.
    fn epoch(&self) -> Epoch;

    /// Of which moments nonces were forgotten, durably: a request created then is refused (Q6).
    fn forgotten(&self) -> Arc<Forgotten>;

    /// When the next work of this kind is due, so that a worker can wait for it and no longer.
    async fn next_due(&self, work: LeaseKind) -> Result<Option<Timestamp>, StoreError>;

    /// What binds the next configuration: how high its version must be, and which institutions it
    /// may not lose yet: with anything unfinished, or ended `since` (F2).
    async fn dependents(&self, since: Timestamp) -> Result<RemovalGuard, StoreError>;
}

/// What is stored and binds the next configuration (F2, R5).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemovalGuard {
    /// The highest version that was ever in force; 0 before the first.
    pub version: u64,
    /// What needs each institution, of those that anything needs.
    pub held: BTreeMap<InstitutionId, Dependents>,
    /// What needs each account, of those that anything needs.
    pub accounts: BTreeMap<AccountKey, Dependents>,
    /// The number of each account at its institution under the last version that named it.
    pub receivers: BTreeMap<AccountKey, ReceiverId>,
    /// Where each institution was asked under the last version that named it.
    pub endpoints: BTreeMap<InstitutionId, InstitutionEndpoint>,
}

/// Counts no further than this what ended lately at an institution: a start must not wait for it.
pub const ENDED_COUNTED_MAX: u64 = 1_000;

/// What needs an institution or an account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dependents {
    /// Attempts that are live, and refunds that have not ended.
    pub unfinished: u64,
    /// Attempts that ended lately, or of which a refund moved lately; [`ENDED_COUNTED_MAX`] stands
    /// for so many or more. Money may still come, and what was paid go back.
    pub ended: u64,
}

/// Records of processes lie so far apart at most without that a clock was set.
pub const CLOCKS_APART: Duration = Duration::from_secs(2);

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// Durable.
    Done,
    /// Somebody wrote first: load and decide again (K4). Nothing was written.
    Stale,
    /// The merchant's number is taken. Nothing was written.
    KeyTaken,
    /// The nonce was spent before, or is of a moment that was forgotten. Nothing was written.
    NonceSpent,
}

/// An institution's message as it came (inbox, section 9).
#[derive(Clone, PartialEq, Eq)]
pub struct InboxMessage {
    /// Whose address it came to.
    pub institution: InstitutionId,
    /// What we think of it.
    pub status: InboxStatus,
    /// Head and body, raw; sealed before it is stored.
    pub raw: Vec<u8>,
    /// When it came.
    pub at: Timestamp,
}

/// What we think of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InboxStatus {
    /// Proven the institution's own: by its signature, or by an operator's.
    Genuine,
    /// Genuine, and impossible (V3).
    Quarantined,
    /// Not proven; a bounded sample is kept.
    Forged,
}

impl InboxStatus {
    /// The name in the database and the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Genuine => "GENUINE",
            Self::Quarantined => "QUARANTINED",
            Self::Forged => "FORGED",
        }
    }
}

/// Forged messages kept of one institution at most; past it they are only counted.
pub const FORGED_ARCHIVED_MAX: u32 = 100;

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveOutcome {
    /// Stored.
    New,
    /// These very bytes were stored before.
    Seen,
    /// The sample is full; not stored.
    Dropped,
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
    /// Grows with every lease of the same row; an older one settles nothing (N6).
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

/// Events of one destination leased at once (N7).
pub const DESTINATION_SHARE: u32 = 8;

/// What became of leased work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// Nothing came of it; take it up again then. Counts as one try.
    Again(Timestamp),
    /// Nothing was tried, by a lack of ours; take it up again then.
    NotAttempted(Timestamp),
    /// The merchant has it.
    Delivered(Timestamp),
    /// The schedule is used up; stays visible (N2).
    Dead,
}

/// What became of a settlement.
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
