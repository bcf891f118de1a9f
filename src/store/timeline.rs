//! Everything the store has about one order, in chronological order, for whoever has to
//! explain it.

use crate::domain::audit::AuditEntry;
use crate::domain::identifiers::Timestamp;
use crate::domain::order::Order;
use crate::store::StoreError;
use crate::store::exchange_log::Exchanges;

/// One order and its history.
#[derive(Debug)]
pub struct Timeline {
    /// The current order.
    pub order: Order,
    /// Its audit entries: what was done, by whom, and the resulting states.
    pub audit_entries: Vec<(Timestamp, AuditEntry)>,
    /// Its journal postings.
    pub entries: Vec<PostedEntry>,
    /// Its events for the merchant.
    pub events: Vec<EventDelivery>,
    /// Its exchange log entries that have not expired.
    pub exchanges: Exchanges,
}

/// One journal posting.
#[derive(Debug)]
pub struct PostedEntry {
    /// When it was posted.
    pub at: Timestamp,
    /// The business event that caused it.
    pub kind: String,
    /// The account that was debited.
    pub debit: String,
    /// The account that was credited.
    pub credit: String,
    /// The amount. Unit: minor units of the order's currency.
    pub minor: i64,
}

/// One event and its delivery state.
#[derive(Debug)]
pub struct EventDelivery {
    /// `eventId`.
    pub id: String,
    /// `eventType`.
    pub kind: String,
    /// When it was created.
    pub born: Timestamp,
    /// When the merchant acknowledged it.
    pub delivered: Option<Timestamp>,
    /// `PENDING`, `LEASED`, `DELIVERED`, `DEAD`.
    pub state: String,
    /// Number of delivery attempts.
    pub tries: u32,
    /// The destination's origin, if there is a destination.
    pub origin: Option<String>,
}

/// A store opened by [`crate::store::open_to_explain`].
pub trait Timelines {
    /// Reads with or without a running gateway: takes no lock and writes nothing. `named` is a
    /// `payOrderNo`, the number of an attempt or a refund, or `merchantId/merchantOrderNo`.
    ///
    /// # Errors
    /// The keys do not fit, or a row cannot be read.
    fn timeline(&self, named: &str) -> Result<Option<Timeline>, StoreError>;
}
