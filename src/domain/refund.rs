//! Money on its way back. For now only surplus money (A4): recognised, recorded and reserved
//! here in the transaction that booked it; sending it comes with the refund interface.

use crate::domain::amount::Amount;
use crate::domain::identifiers::{AttemptId, RefundOrderNo, Timestamp};

/// Where a refund stands (section 5 of the invariants).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefundState {
    /// Written down; no call was made.
    Reserved,
    /// The institution has it.
    Processing,
    /// Sent, and nobody knows.
    Unknown,
    /// People must decide.
    Manual,
    /// The money went back.
    Succeeded,
    /// Definitely did not happen; capacity is free again.
    Failed,
}

impl RefundState {
    /// Every state, for stores that read names back.
    pub const ALL: [Self; 6] = [
        Self::Reserved,
        Self::Processing,
        Self::Unknown,
        Self::Manual,
        Self::Succeeded,
        Self::Failed,
    ];

    /// The name in the database and the audit log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reserved => "RESERVED",
            Self::Processing => "PROCESSING",
            Self::Unknown => "UNKNOWN",
            Self::Manual => "MANUAL",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
        }
    }

    /// Whether it holds capacity (R1).
    pub fn is_holding(self) -> bool {
        match self {
            Self::Reserved | Self::Processing | Self::Unknown | Self::Manual | Self::Succeeded => {
                true
            }
            Self::Failed => false,
        }
    }
}

/// Why money came twice (A8). Any other cause would be a defect of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SurplusCause {
    /// The institution took money after it had confirmed a close.
    AfterClose,
    /// The institution took money after it had refused.
    AfterRefusal,
    /// Another attempt of the order settled it while this one, still live, was being closed.
    Overlap,
}

impl SurplusCause {
    /// Every cause, for stores that read names back.
    pub const ALL: [Self; 3] = [Self::AfterClose, Self::AfterRefusal, Self::Overlap];

    /// The name in the database and the audit log.
    pub fn name(self) -> &'static str {
        match self {
            Self::AfterClose => "AFTER_CLOSE",
            Self::AfterRefusal => "AFTER_REFUSAL",
            Self::Overlap => "OVERLAP",
        }
    }
}

/// One refund: along the attempt that brought the money, and no other way (R5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refund {
    /// What the institution will know it by (K2).
    pub no: RefundOrderNo,
    /// The attempt whose money goes back.
    pub attempt: AttemptId,
    /// How much.
    pub amount: Amount,
    /// Where it stands.
    pub state: RefundState,
    /// Why the money is surplus.
    pub cause: SurplusCause,
    /// When it was reserved.
    pub created: Timestamp,
}
