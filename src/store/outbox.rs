//! Events that are owed to merchants: leased for delivery, listed by number, sent again once they were
//! dead-lettered (N1 to N9).

use async_trait::async_trait;

use crate::domain::event::EventType;
use crate::domain::identifiers::{EventId, MerchantId, PayOrderNo, Timestamp};
use crate::store::{Lease, LeaseCompletion, StoreError};

/// How many events of a destination, named by its origin, may be on their way at once; 0 where the
/// asker has nothing to do with it (N7).
pub type DeliveryShares = dyn Fn(&str) -> u32 + Send + Sync;

/// Events of one destination leased at once, of one that answers (N7).
pub const DESTINATION_SHARE: u32 = 8;

/// What is owed, as it is delivered, fetched and sent again.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Takes events that are due, under a fencing number, until the lease ends: of each destination no
    /// more than its share leaves; whoever has least on its way comes first (N7).
    async fn lease_events(
        &self,
        shares: &DeliveryShares,
        now: Timestamp,
        count: u32,
    ) -> Result<Vec<Lease>, StoreError>;

    /// When [`Outbox::lease_events`] would next find something, so that a worker can wait for it and
    /// no longer.
    async fn next_event(&self, shares: &DeliveryShares) -> Result<Option<Timestamp>, StoreError>;

    /// Says what became of a leased event; refused when the lease was lost (N6).
    async fn complete(
        &self,
        lease: &Lease,
        outcome: DeliveryOutcome,
    ) -> Result<LeaseCompletion, StoreError>;

    /// A merchant's events behind a number, in the order of their commits, whatever became of
    /// them (K3, N9).
    async fn events_after(
        &self,
        merchant: &MerchantId,
        after: u64,
        room: EventPageLimit,
    ) -> Result<Vec<NumberedEvent>, StoreError>;

    /// Counts dead-lettered events and returns up to `shown` of them (N2).
    async fn dead_lettered(
        &self,
        which: &DeadEventFilter,
        shown: u32,
    ) -> Result<DeadEvents, StoreError>;

    /// Has dead-lettered events sent again, each with a whole schedule before it, and records who
    /// wanted it (N2, L5); says how many. What was begun is recorded though it may not be ended.
    async fn resend(
        &self,
        which: &DeadEventFilter,
        by: &str,
        now: Timestamp,
    ) -> Result<u64, StoreError>;
}

/// What became of a delivery.
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

/// How much of a merchant's events is wanted at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventPageLimit {
    /// Events at most.
    pub count: u32,
    /// Bytes of their bodies at most; a first event is given whatever its size.
    pub bytes: usize,
}

/// An event under its merchant's number for it.
#[derive(Clone, PartialEq, Eq)]
pub struct NumberedEvent {
    /// Counts the merchant's events from 1, without a gap, in the order of their commits.
    pub sequence: u64,
    /// The very bytes of the body (N3, N9). Holds personal data.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for NumberedEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Numbered({}, {} bytes)", self.sequence, self.body.len())
    }
}

/// Which dead events are meant: all, one merchant's, a single one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadEventFilter {
    /// Of this merchant only.
    pub merchant: Option<MerchantId>,
    /// Only this one.
    pub event: Option<EventId>,
}

/// Dead events: all of them counted, the oldest shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadEvents {
    /// How many there are.
    pub count: u64,
    /// By merchant and number, as many as were asked for.
    pub shown: Vec<DeadEvent>,
}

/// An event that was given up (N2). Nothing personal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadEvent {
    /// Its id, the same on every delivery.
    pub id: EventId,
    /// What it reports.
    pub kind: EventType,
    /// Who was to be told.
    pub merchant: MerchantId,
    /// The merchant's number for it.
    pub sequence: u64,
    /// What it is about.
    pub order: PayOrderNo,
    /// When it was born.
    pub born: Timestamp,
}
