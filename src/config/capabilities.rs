//! Checks what an institution offers against clause 6.2: the rows of every mode it offers, and those of
//! the aggregated lists (6.2.4), which may contain any of them. MAY rows are enabled by declaring them;
//! the aggregated lists have no personal services.

use crate::domain::institutions::{Mode, TransactionType};

/// A function of clause 6.2, with its name in `routes.toml`.
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

    /// The capability of the institution that a contract's kind of payment requires.
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
pub(super) struct UnmetRequirement {
    /// `R-6.2.1-3`.
    pub(super) requirement: String,
    /// A description, with the capability to declare.
    pub(super) what: &'static str,
}

/// The MUST rows of one clause of 6.2.
const ROWS: [&str; 5] = [
    "payment: password_pay or password_free_pay",
    "refund: full_refund, partial_refund, repeated_refund",
    "binding a new card: bind_card",
    "password reset, where there is password payment: reset_password",
    "necessary queries: queries",
];

/// Clause and number of rows: only the payment chatbot must offer queries.
const CHATBOT: (u8, usize) = (2, 5);
const AGGREGATED: (u8, usize) = (4, 4);

fn clause(mode: Mode) -> (u8, usize) {
    match mode {
        Mode::Webview => (1, 4),
        Mode::Chatbot => CHATBOT,
        Mode::Native => (3, 4),
    }
}

/// All three kinds of refund, if refunds are offered at all.
const REFUND_KINDS: &str = "R-6.1.5-2";

/// Whether this id names a MUST that an institution can lack.
pub(super) fn demanded(requirement: &str) -> bool {
    let clauses = Mode::ALL.map(clause).into_iter().chain([AGGREGATED]);
    let mut ids = clauses.flat_map(|(clause, rows)| (1..=rows).map(move |row| id(clause, row)));
    requirement == REFUND_KINDS || ids.any(|id| id == requirement)
}

fn id(clause: u8, row: usize) -> String {
    format!("R-6.2.{clause}-{row}")
}

/// Every unmet MUST row of these modes. Offering only some kinds of refund fulfils 6.2 but violates
/// R-6.1.5-2.
pub(super) fn unmet_requirements(modes: &[Mode], offered: &[Capability]) -> Vec<UnmetRequirement> {
    let has = |capability| offered.contains(&capability);
    let refunds = [
        has(Capability::FullRefund),
        has(Capability::PartialRefund),
        has(Capability::RepeatedRefund),
    ];
    let has_refund = refunds.contains(&true);
    let fulfilled = [
        has(Capability::PasswordPay) || has(Capability::PasswordFreePay),
        has_refund,
        has(Capability::BindCard),
        has(Capability::ResetPassword) || !has(Capability::PasswordPay),
        has(Capability::Queries),
    ];
    let mut lacks = Vec::new();
    let clauses = modes.iter().map(|mode| clause(*mode));
    for (clause, count) in clauses.chain([AGGREGATED]) {
        let rows = (1..).zip(ROWS.into_iter().zip(fulfilled)).take(count);
        for (row, (what, _)) in rows.filter(|(_, (_, is_fulfilled))| !is_fulfilled) {
            let requirement = id(clause, row);
            lacks.push(UnmetRequirement { requirement, what });
        }
    }
    if has_refund && refunds.contains(&false) {
        lacks.push(UnmetRequirement {
            requirement: REFUND_KINDS.to_owned(),
            what: "each of full_refund, partial_refund and repeated_refund",
        });
    }
    lacks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unmet(modes: &[Mode], offered: &[Capability]) -> Vec<String> {
        let lacks = unmet_requirements(modes, offered);
        lacks.into_iter().map(|lack| lack.requirement).collect()
    }

    /// R-6.2.1-1, R-6.2.1-2, R-6.2.1-3, R-6.2.2-1, R-6.2.2-2, R-6.2.2-3, R-6.2.2-4, R-6.2.2-5,
    /// R-6.2.3-1, R-6.2.3-2, R-6.2.3-3, R-6.2.4-1, R-6.2.4-2, R-6.2.4-3, R-6.2.4-4: an institution
    /// without capabilities lacks every MUST row except the reset of a password it does not use, in its
    /// mode and on the aggregated lists.
    #[test]
    fn every_must_row_of_the_matrix_is_required() {
        assert_eq!(
            unmet(&[Mode::Webview], &[]),
            [
                "R-6.2.1-1",
                "R-6.2.1-2",
                "R-6.2.1-3",
                "R-6.2.4-1",
                "R-6.2.4-2",
                "R-6.2.4-3"
            ]
        );
        let chatbot = unmet(&[Mode::Chatbot], &[Capability::PasswordPay]);
        assert_eq!(
            chatbot[..4],
            ["R-6.2.2-2", "R-6.2.2-3", "R-6.2.2-4", "R-6.2.2-5"]
        );
        assert_eq!(chatbot[4..], ["R-6.2.4-2", "R-6.2.4-3", "R-6.2.4-4"]);
        assert_eq!(unmet(&[Mode::Chatbot], &[])[0], "R-6.2.2-1");
        assert_eq!(
            unmet(&[Mode::Native], &[Capability::PasswordFreePay])[..2],
            ["R-6.2.3-2", "R-6.2.3-3"]
        );
        assert_eq!(unmet(&[Mode::Native], &[])[0], "R-6.2.3-1");
        assert_eq!(unmet(&Mode::ALL, &Capability::ALL), [""; 0]);
    }

    /// R-6.2.1-4, R-6.2.3-4, R-6.2.4-4: password payment requires password reset.
    #[test]
    fn a_password_must_be_resettable_where_there_is_one() {
        let rest: Vec<_> = Capability::ALL
            .into_iter()
            .filter(|it| *it != Capability::ResetPassword)
            .collect();
        assert_eq!(
            unmet(&[Mode::Webview, Mode::Native], &rest),
            ["R-6.2.1-4", "R-6.2.3-4", "R-6.2.4-4"]
        );
        let without_password: Vec<_> = rest
            .into_iter()
            .filter(|it| *it != Capability::PasswordPay)
            .collect();
        assert_eq!(unmet(&[Mode::Webview], &without_password), [""; 0]);
    }

    /// R-6.2.1-5, R-6.2.1-6, R-6.2.2-6, R-6.2.2-7, R-6.2.3-5, R-6.2.3-6, R-6.2.4-5: personal services
    /// and payment codes are optional.
    #[test]
    fn optional_capabilities_are_not_required() {
        let musts: Vec<_> = Capability::ALL
            .into_iter()
            .filter(|it| !matches!(it, Capability::PersonalServices | Capability::ScanPay))
            .collect();
        assert_eq!(unmet(&Mode::ALL, &musts), [""; 0]);
        let mays = ["R-6.2.1-5", "R-6.2.2-6", "R-6.2.3-5", "R-6.2.4-5"];
        assert!(!mays.into_iter().any(demanded));
    }

    /// R-6.1.5-2: two of the three kinds of refund are not enough.
    #[test]
    fn a_missing_kind_of_refund_is_an_unmet_requirement() {
        for gone in [
            Capability::FullRefund,
            Capability::PartialRefund,
            Capability::RepeatedRefund,
        ] {
            let rest: Vec<_> = Capability::ALL
                .into_iter()
                .filter(|it| *it != gone)
                .collect();
            assert_eq!(unmet(&[Mode::Webview], &rest), ["R-6.1.5-2"]);
        }
    }
}
