//! Balanced postings: what each happening means in money (section 6 of the invariants).

use crate::domain::amount::Amount;
use crate::domain::identifiers::{AttemptId, InstitutionId, PayOrderNo};

/// An account of the journal.
///
/// `Recv` and `Loss` stand on the debit side; `Merch`, `Hold` and `Surp` on the credit side.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Account {
    /// What an institution received for merchants.
    Recv(InstitutionId),
    /// What is owed to the merchant of an order.
    Merch(PayOrderNo),
    /// What of it is on its way back to the payer.
    Hold(PayOrderNo),
    /// Surplus money of an attempt, owed to its payer.
    Surp(AttemptId),
    /// What an institution gave back beyond what there was to give back (R9).
    Loss(PayOrderNo),
}

impl Account {
    /// Text of the account in the journal: kind, colon, whose.
    pub fn name(&self) -> String {
        match self {
            Self::Recv(institution) => format!("RECV:{institution}"),
            Self::Merch(order) => format!("MERCH:{order}"),
            Self::Hold(order) => format!("HOLD:{order}"),
            Self::Surp(attempt) => format!("SURP:{attempt}"),
            Self::Loss(order) => format!("LOSS:{order}"),
        }
    }
}

/// One entry: a sum that one account is debited and another credited, so that it balances by its
/// shape (M1). A debit makes an account of the debit side grow and one of the credit side shrink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What happened, as a word for readers of the journal.
    pub happening: &'static str,
    /// The account that is debited.
    pub debit: Account,
    /// The account that is credited.
    pub credit: Account,
    /// How much.
    pub amount: Amount,
}

impl Entry {
    /// An order was paid: the institution received, the merchant is owed.
    pub fn paid(institution: &InstitutionId, order: &PayOrderNo, amount: Amount) -> Self {
        Self {
            happening: "ORDER_PAID",
            debit: Account::Recv(institution.clone()),
            credit: Account::Merch(order.clone()),
            amount,
        }
    }

    /// A refund was reserved: what the merchant is owed shrinks, and is held for the payer.
    pub fn reserved(order: &PayOrderNo, amount: Amount) -> Self {
        Self {
            happening: "REFUND_RESERVED",
            debit: Account::Merch(order.clone()),
            credit: Account::Hold(order.clone()),
            amount,
        }
    }

    /// What was held went back to the payer.
    pub fn refunded(institution: &InstitutionId, order: &PayOrderNo, amount: Amount) -> Self {
        Self {
            happening: "REFUND_SUCCEEDED",
            debit: Account::Hold(order.clone()),
            credit: Account::Recv(institution.clone()),
            amount,
        }
    }

    /// A refund definitely did not happen: the merchant is owed again.
    pub fn released(order: &PayOrderNo, amount: Amount) -> Self {
        Self {
            happening: "REFUND_FAILED",
            debit: Account::Hold(order.clone()),
            credit: Account::Merch(order.clone()),
            amount,
        }
    }

    /// A refund that had failed went back after all, out of what the merchant is owed (V4).
    pub fn refunded_late(institution: &InstitutionId, order: &PayOrderNo, amount: Amount) -> Self {
        Self {
            happening: "REFUND_LATE",
            debit: Account::Merch(order.clone()),
            credit: Account::Recv(institution.clone()),
            amount,
        }
    }

    /// More went back than there was (R9).
    pub fn lost(institution: &InstitutionId, order: &PayOrderNo, amount: Amount) -> Self {
        Self {
            happening: "REFUND_EXCESS",
            debit: Account::Loss(order.clone()),
            credit: Account::Recv(institution.clone()),
            amount,
        }
    }

    /// What had gone back beyond what there was is covered, since another refund failed (R9).
    pub fn covered(order: &PayOrderNo, amount: Amount) -> Self {
        Self {
            happening: "REFUND_COVERED",
            debit: Account::Merch(order.clone()),
            credit: Account::Loss(order.clone()),
            amount,
        }
    }

    /// Surplus money went back to its payer.
    pub fn surplus_refunded(
        institution: &InstitutionId,
        attempt: &AttemptId,
        amount: Amount,
    ) -> Self {
        Self {
            happening: "SURPLUS_REFUNDED",
            debit: Account::Surp(attempt.clone()),
            credit: Account::Recv(institution.clone()),
            amount,
        }
    }

    /// A second payment came: the institution received, the payer is owed.
    pub fn surplus(institution: &InstitutionId, attempt: &AttemptId, amount: Amount) -> Self {
        Self {
            happening: "SURPLUS",
            debit: Account::Recv(institution.clone()),
            credit: Account::Surp(attempt.clone()),
            amount,
        }
    }
}
