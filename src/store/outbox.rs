//! The outbox of events for merchants: leased for delivery, listed by sequence number, resent after
//! they were dead-lettered (N1 to N9).

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::event::EventType;
use crate::domain::identifiers::{EventId, MerchantId, PayOrderNo, Timestamp};
use crate::store::{Lease, LeaseCompletion, StoreError};

/// How many events of each destination, identified by its origin, may be in flight at once; 0 if
/// the caller does not serve it (N7).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryShares {
    /// Of these destinations.
    pub destinations: HashMap<Arc<str>, u32>,
    /// Of every other one.
    pub others: u32,
}

impl DeliveryShares {
    /// The same share for every destination.
    pub fn same(share: u32) -> Self {
        Self {
            destinations: HashMap::new(),
            others: share,
        }
    }

    /// The share of one destination.
    pub fn of(&self, origin: &str) -> u32 {
        self.destinations
            .get(origin)
            .copied()
            .unwrap_or(self.others)
    }
}

/// Maximum number of leased events of one healthy destination (N7).
pub const DESTINATION_SHARE: u32 = 8;

/// Delivers, lists and resends events.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Leases events that are due, each with a fencing number: of each destination no more than its
    /// share allows; the destination with the fewest in flight comes first (N7).
    async fn lease_events(
        &self,
        shares: &DeliveryShares,
        now: Timestamp,
        count: u32,
    ) -> Result<Vec<Lease>, StoreError>;

    /// When [`Outbox::lease_events`] would next return something, so that a worker can sleep until
    /// then.
    async fn next_event(&self, shares: &DeliveryShares) -> Result<Option<Timestamp>, StoreError>;

    /// Completes the lease of an event; rejected when the lease was lost (N6).
    async fn complete(
        &self,
        lease: &Lease,
        outcome: DeliveryOutcome,
    ) -> Result<LeaseCompletion, StoreError>;

    /// A merchant's events after a sequence number, in the order of their commits, whatever their
    /// delivery state (K3, N9).
    async fn events_after(
        &self,
        merchant: &MerchantId,
        after: u64,
        limit: EventPageLimit,
    ) -> Result<Vec<NumberedEvent>, StoreError>;

    /// Counts dead-lettered events and returns up to `shown` of them (N2).
    async fn dead_lettered(
        &self,
        which: &DeadEventFilter,
        shown: u32,
    ) -> Result<DeadEvents, StoreError>;

    /// Requeues dead-lettered events, each with a full retry schedule, and records who requested it
    /// (N2, L5); returns how many. After an error, some may already be requeued and recorded.
    async fn resend(
        &self,
        which: &DeadEventFilter,
        by: &str,
        now: Timestamp,
    ) -> Result<u64, StoreError>;
}

/// The result of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// Failed; retry at this time. Counts as one attempt.
    Again(Timestamp),
    /// Not attempted for lack of local resources; retry at this time.
    NotAttempted(Timestamp),
    /// The merchant acknowledged it.
    Delivered(Timestamp),
    /// The retry schedule is exhausted; the event stays visible (N2).
    Dead,
}

/// The maximum size of a page of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventPageLimit {
    /// Maximum number of events.
    pub count: u32,
    /// Maximum total size of the bodies; the first event is returned whatever its size. Unit:
    /// bytes.
    pub bytes: usize,
}

/// An event with its merchant's sequence number.
#[derive(Clone, PartialEq, Eq)]
pub struct NumberedEvent {
    /// Numbers the merchant's events from 1, without a gap, in the order of their commits.
    pub sequence: u64,
    /// The exact bytes of the body (N3, N9). Holds personal data.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for NumberedEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Numbered({}, {} bytes)", self.sequence, self.body.len())
    }
}

/// Selects dead-lettered events: all, one merchant's, or a single one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadEventFilter {
    /// Only events of this merchant.
    pub merchant: Option<MerchantId>,
    /// Only this event.
    pub event: Option<EventId>,
}

/// Dead-lettered events: the total count and the first page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadEvents {
    /// The total count.
    pub count: u64,
    /// Ordered by merchant and sequence number, at most as many as requested.
    pub shown: Vec<DeadEvent>,
}

/// A dead-lettered event (N2). Contains nothing personal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadEvent {
    /// Its id, the same on every delivery.
    pub id: EventId,
    /// What it reports.
    pub kind: EventType,
    /// The merchant it is for.
    pub merchant: MerchantId,
    /// The merchant's sequence number.
    pub sequence: u64,
    /// The order it is about.
    pub order: PayOrderNo,
    /// When it was created.
    pub born: Timestamp,
}
