//! What somebody who placed or chose is told.

use crate::domain::evidence::Reason;
use crate::domain::order::Order;

/// An order as it stands, and what that means for who asked.
#[derive(Debug)]
pub struct OrderReply {
    /// The order, committed (O5).
    pub order: Order,
    /// `result` of the answer.
    pub outcome: OrderOutcome,
    /// It was made by this request: 201 would be the difference, were it one to merchants.
    pub fresh: bool,
}

/// What `result` an answer has (`interface.md`, Values).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderOutcome {
    /// Taken.
    Accepted,
    /// Paid before; nothing was started (R-6.1.1-2).
    AlreadyPaid,
    /// The institution was asked and its answer is not known yet: 202.
    Pending,
    /// The order is closed.
    Closed,
    /// The institution definitely refused; the order stays open.
    Refused(Reason),
}

impl OrderOutcome {
    /// The word on the wire (`result`).
    pub fn word(&self) -> &'static str {
        match self {
            Self::Accepted => "ACCEPTED",
            Self::AlreadyPaid => "ALREADY_PAID",
            Self::Pending => "PENDING",
            Self::Closed => "CLOSED",
            Self::Refused(_) => "REFUSED",
        }
    }
}
