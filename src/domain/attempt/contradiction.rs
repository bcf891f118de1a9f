//! Why evidence cannot be true of the attempt or refund that it names.

/// Why a well-signed message is put aside (V3). An alarm, never a state change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contradiction {
    /// Another sum or currency than was asked.
    Amount,
    /// Another account of the same institution (C2).
    Account,
    /// Another receiver of the same institution (C2).
    Receiver,
    /// Another institution's attempt (C2).
    Institution,
    /// Another payment than the one whose money goes back.
    Payment,
    /// Refused or closed, said of an attempt that was paid.
    PaidAlready,
    /// Refused, said of a refund that went back.
    RefundedAlready,
    /// Another movement of money than the one that is known under this number of ours.
    SecondMovement,
}

impl Contradiction {
    /// A stable word for metrics and the audit log.
    pub fn word(self) -> &'static str {
        match self {
            Self::Amount => "amount",
            Self::Account => "account",
            Self::Receiver => "receiver",
            Self::Institution => "institution",
            Self::Payment => "payment",
            Self::PaidAlready => "paid_already",
            Self::RefundedAlready => "refunded_already",
            Self::SecondMovement => "second_movement",
        }
    }
}
