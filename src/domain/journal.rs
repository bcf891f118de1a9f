//! Balanced postings: what each happening means in money (section 6 of the invariants).

use crate::domain::amount::Amount;
use crate::domain::identifiers::{AttemptId, InstitutionId, PayOrderNo};

/// An account of the journal.
///
/// `InstitutionReceivable` and `OverRefundLoss` stand on the debit side; `MerchantPayable`, `RefundReserved` and `ExcessPayable` on the credit side.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JournalAccount {
    /// What an institution received for merchants.
    InstitutionReceivable(InstitutionId),
    /// What is owed to the merchant of an order.
    MerchantPayable(PayOrderNo),
    /// What of it is on its way back to the payer.
    RefundReserved(PayOrderNo),
    /// Surplus money of an attempt, owed to its payer.
    ExcessPayable(AttemptId),
    /// What an institution gave back beyond what there was to give back (R9).
    OverRefundLoss(PayOrderNo),
}

impl JournalAccount {
    /// Text of the account in the journal: kind, colon, whose.
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

/// One entry: a sum that one account is debited and another credited, so that it balances by its
/// shape (M1). A debit makes an account of the debit side grow and one of the credit side shrink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalEntry {
    /// What happened, as a word for readers of the journal.
    pub happening: &'static str,
    /// The account that is debited.
    pub debit: JournalAccount,
    /// The account that is credited.
    pub credit: JournalAccount,
    /// How much.
    pub amount: Amount,
}

impl JournalEntry {
    /// An order was paid: the institution received, the merchant is owed.
    pub fn paid(institution: &InstitutionId, order: &PayOrderNo, amount: Amount) -> Self {
        Self {
            happening: "ORDER_PAID",
            debit: JournalAccount::InstitutionReceivable(institution.clone()),
            credit: JournalAccount::MerchantPayable(order.clone()),
            amount,
        }
    }

    /// A refund was reserved: what the merchant is owed shrinks, and is held for the payer.
    pub fn reserved(order: &PayOrderNo, amount: Amount) -> Self {
        Self {
            happening: "REFUND_RESERVED",
            debit: JournalAccount::MerchantPayable(order.clone()),
            credit: JournalAccount::RefundReserved(order.clone()),
            amount,
        }
    }

    /// What was held went back to the payer.
    pub fn refunded(institution: &InstitutionId, order: &PayOrderNo, amount: Amount) -> Self {
        Self {
            happening: "REFUND_SUCCEEDED",
            debit: JournalAccount::RefundReserved(order.clone()),
            credit: JournalAccount::InstitutionReceivable(institution.clone()),
            amount,
        }
    }

    /// A refund definitely did not happen: the merchant is owed again.
    pub fn released(order: &PayOrderNo, amount: Amount) -> Self {
        Self {
            happening: "REFUND_FAILED",
            debit: JournalAccount::RefundReserved(order.clone()),
            credit: JournalAccount::MerchantPayable(order.clone()),
            amount,
        }
    }

    /// A refund that had failed went back after all, out of what the merchant is owed (V4).
    pub fn refunded_late(institution: &InstitutionId, order: &PayOrderNo, amount: Amount) -> Self {
        Self {
            happening: "REFUND_LATE",
            debit: JournalAccount::MerchantPayable(order.clone()),
            credit: JournalAccount::InstitutionReceivable(institution.clone()),
            amount,
        }
    }

    /// More went back than there was (R9).
    pub fn lost(institution: &InstitutionId, order: &PayOrderNo, amount: Amount) -> Self {
        Self {
            happening: "REFUND_EXCESS",
            debit: JournalAccount::OverRefundLoss(order.clone()),
            credit: JournalAccount::InstitutionReceivable(institution.clone()),
            amount,
        }
    }

    /// What had gone back beyond what there was is covered, since another refund failed (R9).
    pub fn covered(order: &PayOrderNo, amount: Amount) -> Self {
        Self {
            happening: "REFUND_COVERED",
            debit: JournalAccount::MerchantPayable(order.clone()),
            credit: JournalAccount::OverRefundLoss(order.clone()),
            amount,
        }
    }

    /// Surplus money went back to its payer.
    pub fn excess_refunded(
        institution: &InstitutionId,
        attempt: &AttemptId,
        amount: Amount,
    ) -> Self {
        Self {
            happening: "SURPLUS_REFUNDED",
            debit: JournalAccount::ExcessPayable(attempt.clone()),
            credit: JournalAccount::InstitutionReceivable(institution.clone()),
            amount,
        }
    }

    /// A second payment came: the institution received, the payer is owed.
    pub fn excess(institution: &InstitutionId, attempt: &AttemptId, amount: Amount) -> Self {
        Self {
            happening: "SURPLUS",
            debit: JournalAccount::InstitutionReceivable(institution.clone()),
            credit: JournalAccount::ExcessPayable(attempt.clone()),
            amount,
        }
    }
}
