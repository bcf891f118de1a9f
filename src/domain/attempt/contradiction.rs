//! Reasons why evidence contradicts the attempt or refund that it names.

/// Why authenticated evidence is quarantined (V3): it raises an alarm and never changes a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contradiction {
    /// Its amount or currency differs from the requested one.
    Amount,
    /// It belongs to another account at the same institution (C2).
    Account,
    /// It names another receiver at the same institution (C2).
    Receiver,
    /// It concerns another institution's attempt (C2).
    Institution,
    /// It names an original payment other than the refunded one.
    Payment,
    /// It reports an attempt as refused or closed that is already PAID.
    PaidAlready,
    /// It reports a refund as refused that has already SUCCEEDED.
    RefundedAlready,
    /// It reports a second movement of money under the same number of ours.
    SecondMovement,
}

impl Contradiction {
    /// Stable name for metrics and the audit log.
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
