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
    /// Surplus money of an attempt, owed to its payer.
    Surp(AttemptId),
}

impl Account {
    /// Text of the account in the journal: kind, colon, whose.
    pub fn name(&self) -> String {
        match self {
            Self::Recv(institution) => format!("RECV:{institution}"),
            Self::Merch(order) => format!("MERCH:{order}"),
            Self::Surp(attempt) => format!("SURP:{attempt}"),
        }
    }
}

/// One entry: a sum that reaches one account of each side, so that it balances by its shape (M1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What happened, as a word for readers of the journal.
    pub happening: &'static str,
    /// The account of the debit side.
    pub debit: Account,
    /// The account of the credit side.
    pub credit: Account,
    /// How much both grow by.
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
