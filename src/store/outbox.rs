//! What is owed, as it is asked for: events by their number, dead ones, and what a destination or an
//! institution may hold (N2, N7, N10).

use crate::domain::event::EventType;
use crate::domain::identifiers::{EventId, MerchantId, PayOrderNo, Timestamp};
use crate::domain::order::PollLane;

/// How many events of a destination, named by its origin, may be on their way at once; 0 where the
/// asker has nothing to do with it (N7).
pub type DeliveryShares = dyn Fn(&str) -> u32 + Send + Sync;

/// How many orders of a lane may be taken now (N10).
pub type LaneShares<'a> = dyn Fn(PollLane<'_>) -> u32 + Send + Sync + 'a;

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
