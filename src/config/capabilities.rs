//! What an institution offers, against what clause 6.2 demands of every mode it offers it in.
//!
//! The aggregated mode (6.2.4) demands the same four of each institution it lists, so an
//! institution that satisfies its own modes satisfies it.

use crate::domain::institutions::{Mode, TransactionType};

/// A function of clause 6.2, by its word in `routes.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Capability {
    PasswordPay,
    PasswordFreePay,
    FullRefund,
    PartialRefund,
    RepeatedRefund,
    BindCard,
    ResetPassword,
    Queries,
    PersonalServices,
    ScanPay,
}

impl Capability {
    pub(super) const ALL: [Self; 10] = [
        Self::PasswordPay,
        Self::PasswordFreePay,
        Self::FullRefund,
        Self::PartialRefund,
        Self::RepeatedRefund,
        Self::BindCard,
        Self::ResetPassword,
        Self::Queries,
        Self::PersonalServices,
        Self::ScanPay,
    ];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::PasswordPay => "password_pay",
            Self::PasswordFreePay => "password_free_pay",
            Self::FullRefund => "full_refund",
            Self::PartialRefund => "partial_refund",
            Self::RepeatedRefund => "repeated_refund",
            Self::BindCard => "bind_card",
            Self::ResetPassword => "reset_password",
            Self::Queries => "queries",
            Self::PersonalServices => "personal_services",
            Self::ScanPay => "scan_pay",
        }
    }

    pub(super) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.word() == word)
    }

    /// What a contract's kind of payment needs of the institution.
    pub(super) fn for_payment(kind: TransactionType) -> Self {
        match kind {
            TransactionType::PasswordPay => Self::PasswordPay,
            TransactionType::PasswordFreePay => Self::PasswordFreePay,
            TransactionType::ScanPay | TransactionType::CodePay => Self::ScanPay,
        }
    }
}

/// A MUST row of clause 6.2 that an institution does not fulfil.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lack {
    /// `R-6.2.1-3`.
    pub(super) requirement: String,
    /// In words, with the capability to declare.
    pub(super) what: &'static str,
}

/// Every MUST row of these modes that is not fulfilled.
pub(super) fn lacking(modes: &[Mode], offered: &[Capability]) -> Vec<Lack> {
    let has = |capability| offered.contains(&capability);
    let has_refund = [
        Capability::FullRefund,
        Capability::PartialRefund,
        Capability::RepeatedRefund,
    ]
    .into_iter()
    .all(has);
    let mut lacks = Vec::new();
    for mode in modes {
        let clause = match mode {
            Mode::Webview => 1,
            Mode::Chatbot => 2,
            Mode::Native => 3,
        };
        let rows = [
            (
                has(Capability::PasswordPay) || has(Capability::PasswordFreePay),
                "payment: password_pay or password_free_pay",
            ),
            (
                has_refund,
                "refunds (R-6.1.5-2): full_refund, partial_refund and repeated_refund",
            ),
            (has(Capability::BindCard), "binding a new card: bind_card"),
            (
                has(Capability::ResetPassword) || !has(Capability::PasswordPay),
                "password reset, where there is password payment: reset_password",
            ),
            (
                has(Capability::Queries) || *mode != Mode::Chatbot,
                "necessary queries: queries",
            ),
        ];
        for (row, (is_fulfilled, what)) in (1..).zip(rows) {
            if !is_fulfilled {
                let requirement = format!("R-6.2.{clause}-{row}");
                lacks.push(Lack { requirement, what });
            }
        }
    }
    lacks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lacked(mode: Mode, offered: &[Capability]) -> Vec<String> {
        let lacks = lacking(&[mode], offered);
        lacks.into_iter().map(|lack| lack.requirement).collect()
    }

    /// R-6.2.1-1 to R-6.2.3-4: an institution without anything lacks every MUST row but the reset
    /// of a password it does not ask for.
    #[test]
    fn every_must_row_of_the_matrix_is_demanded() {
        assert_eq!(
            lacked(Mode::Webview, &[]),
            ["R-6.2.1-1", "R-6.2.1-2", "R-6.2.1-3"]
        );
        assert_eq!(
            lacked(Mode::Chatbot, &[Capability::PasswordPay]),
            ["R-6.2.2-2", "R-6.2.2-3", "R-6.2.2-4", "R-6.2.2-5"]
        );
        assert_eq!(
            lacked(Mode::Native, &[Capability::PasswordFreePay]),
            ["R-6.2.3-2", "R-6.2.3-3"]
        );
        for mode in Mode::ALL {
            assert_eq!(lacked(mode, &Capability::ALL), [""; 0]);
        }
    }

    /// R-6.1.5-2: two of the three kinds of refund are not enough.
    #[test]
    fn a_missing_kind_of_refund_is_a_lack() {
        let without = |gone| {
            let rest = Capability::ALL.into_iter().filter(|it| *it != gone);
            lacked(Mode::Webview, &rest.collect::<Vec<_>>())
        };
        for gone in [
            Capability::FullRefund,
            Capability::PartialRefund,
            Capability::RepeatedRefund,
        ] {
            assert_eq!(without(gone), ["R-6.2.1-2"]);
        }
    }
}
