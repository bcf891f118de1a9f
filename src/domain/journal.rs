//! Balanced postings: the journal entry of each event that moves money (docs/requirements.md,
//! Invariants, M1 to M3).

use crate::domain::amount::Amount;
use crate::domain::identifiers::{AttemptId, InstitutionId, PayOrderNo};

/// An account of the journal.
///
/// `InstitutionReceivable` and `OverRefundLoss` are debit accounts; `MerchantPayable`,
/// `RefundReserved` and `ExcessPayable` are credit accounts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JournalAccount {
    /// What an institution received for merchants.
    InstitutionReceivable(InstitutionId),
    /// Payable to the merchant of an order.
    MerchantPayable(PayOrderNo),
    /// The part reserved for refunds to the payer.
    RefundReserved(PayOrderNo),
    /// Excess payment of an attempt, payable to its payer.
    ExcessPayable(AttemptId),
    /// What an institution refunded beyond the refundable amount (R9).
    OverRefundLoss(PayOrderNo),
}

impl JournalAccount {
    /// Account name in the journal: kind, colon, owner.
    pub fn name(&self) -> String {
        match self {
            Self::InstitutionReceivable(institution) => format!("RECV:{institution}"),
            Self::MerchantPayable(order) => format!("MERCH:{order}"),
            Self::RefundReserved(order) => format!("HOLD:{order}"),
            Self::ExcessPayable(attempt) => format!("SURP:{attempt}"),
            Self::OverRefundLoss(order) => format!("LOSS:{order}"),
        }
    }
}

/// One entry: one account is debited and another credited by the same amount, so it balances by
/// construction (M1). A debit increases a debit account and decreases a credit account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalEntry {
    /// Name of the event in the journal.
    pub kind: &'static str,
    /// The debited account.
    pub debit: JournalAccount,
    /// The credited account.
    pub credit: JournalAccount,
    /// The amount.
    pub amount: Amount,
}

impl JournalEntry {
    /// An order was paid: institution receivable against merchant payable.
    pub fn paid(institution: &InstitutionId, order: &PayOrderNo, amount: Amount) -> Self {
        Self {
            kind: "ORDER_PAID",
            debit: JournalAccount::InstitutionReceivable(institution.clone()),
            credit: JournalAccount::MerchantPayable(order.clone()),
            amount,
        }
    }

    /// A refund was reserved: moved from merchant payable to reserved.
    pub fn reserved(order: &PayOrderNo, amount: Amount) -> Self {
        Self {
            kind: "REFUND_RESERVED",
            debit: JournalAccount::MerchantPayable(order.clone()),
            credit: JournalAccount::RefundReserved(order.clone()),
            amount,
        }
    }

    /// A reserved refund succeeded.
    pub fn refunded(institution: &InstitutionId, order: &PayOrderNo, amount: Amount) -> Self {
        Self {
            kind: "REFUND_SUCCEEDED",
            debit: JournalAccount::RefundReserved(order.clone()),
            credit: JournalAccount::InstitutionReceivable(institution.clone()),
            amount,
        }
    }

    /// A refund definitely failed: the reserved amount returns to merchant payable.
    pub fn released(order: &PayOrderNo, amount: Amount) -> Self {
        Self {
            kind: "REFUND_FAILED",
            debit: JournalAccount::RefundReserved(order.clone()),
            credit: JournalAccount::MerchantPayable(order.clone()),
            amount,
        }
    }

    /// A failed refund succeeded after all, charged to merchant payable (V4).
    pub fn refunded_late(institution: &InstitutionId, order: &PayOrderNo, amount: Amount) -> Self {
        Self {
            kind: "REFUND_LATE",
            debit: JournalAccount::MerchantPayable(order.clone()),
            credit: JournalAccount::InstitutionReceivable(institution.clone()),
            amount,
        }
    }

    /// More was refunded than was refundable (R9).
    pub fn lost(institution: &InstitutionId, order: &PayOrderNo, amount: Amount) -> Self {
        Self {
            kind: "REFUND_EXCESS",
            debit: JournalAccount::OverRefundLoss(order.clone()),
            credit: JournalAccount::InstitutionReceivable(institution.clone()),
            amount,
        }
    }

    /// An over-refund is covered, because another refund failed and freed that amount (R9).
    pub fn covered(order: &PayOrderNo, amount: Amount) -> Self {
        Self {
            kind: "REFUND_COVERED",
            debit: JournalAccount::MerchantPayable(order.clone()),
            credit: JournalAccount::OverRefundLoss(order.clone()),
            amount,
        }
    }

    /// An excess payment was refunded to its payer.
    pub fn excess_refunded(
        institution: &InstitutionId,
        attempt: &AttemptId,
        amount: Amount,
    ) -> Self {
        Self {
            kind: "EXCESS_REFUNDED",
            debit: JournalAccount::ExcessPayable(attempt.clone()),
            credit: JournalAccount::InstitutionReceivable(institution.clone()),
            amount,
        }
    }

    /// An excess payment was received and is payable to its payer.
    pub fn excess(institution: &InstitutionId, attempt: &AttemptId, amount: Amount) -> Self {
        Self {
            kind: "EXCESS",
            debit: JournalAccount::InstitutionReceivable(institution.clone()),
            credit: JournalAccount::ExcessPayable(attempt.clone()),
            amount,
        }
    }

    /// The institution took the money of an attempt and gave it back before it paid an order: an excess
    /// payment that is refunded at once (A9).
    pub fn returned(institution: &InstitutionId, attempt: &AttemptId, amount: Amount) -> [Self; 2] {
        [
            Self::excess(institution, attempt, amount),
            Self::excess_refunded(institution, attempt, amount),
        ]
    }
}
