//! Everything the store says of one order, in the order of time, for a person who has to explain it.

use crate::domain::audit::AuditEntry;
use crate::domain::identifiers::Timestamp;
use crate::domain::order::Order;
use crate::store::StoreError;
use crate::store::exchange_log::Exchanges;

/// One order, and what became of it.
#[derive(Debug)]
pub struct Timeline {
    /// As it stands.
    pub order: Order,
    /// What was done to it, by whom, and the states after it.
    pub audit_entries: Vec<(Timestamp, AuditEntry)>,
    /// What was posted.
    pub entries: Vec<PostedEntry>,
    /// What its merchant was owed.
    pub events: Vec<EventDelivery>,
    /// What the exchange log has of it, as far as that is still kept.
    pub exchanges: Exchanges,
}

/// One posting.
#[derive(Debug)]
pub struct PostedEntry {
    /// When.
    pub at: Timestamp,
    /// What happened.
    pub happening: String,
    /// The account that was debited.
    pub debit: String,
    /// The account that was credited.
    pub credit: String,
    /// How much. Unit: minor units of the order's currency.
    pub minor: i64,
}

/// One event, and how its delivery stands.
#[derive(Debug)]
pub struct EventDelivery {
    /// `eventId`.
    pub id: String,
    /// `eventType`.
    pub kind: String,
    /// When it was born.
    pub born: Timestamp,
    /// When the merchant acknowledged it.
    pub delivered: Option<Timestamp>,
    /// `PENDING`, `LEASED`, `DELIVERED`, `DEAD`.
    pub state: String,
    /// Deliveries that were tried.
    pub tries: u32,
    /// Where it goes, if anywhere.
    pub origin: Option<String>,
}

/// A store that was opened by [`crate::store::open_to_explain`].
pub trait Timelines {
    /// Reads beside a running gateway, or without one: takes no lock and writes nothing. `named` is a
    /// `payOrderNo`, the number of an attempt or a refund, or `merchantId/merchantOrderNo`.
    ///
    /// # Errors
    /// The keys do not fit, or a row cannot be read.
    fn timeline(&self, named: &str) -> Result<Option<Timeline>, StoreError>;
}
