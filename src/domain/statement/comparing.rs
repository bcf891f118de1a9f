//! Compares one line of a statement with our records. Reports differences and changes nothing.

use crate::domain::amount::Amount;
use crate::domain::identifiers::{ReceiverId, Timestamp};
use crate::domain::statement::{Movement, SettlementDay, StatementLine};

/// A movement as we recorded it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OurMovement {
    /// Its direction.
    pub movement: Movement,
    /// Our number: attempt or refund.
    pub number: Box<str>,
    /// Who received the money, or whose money went back.
    pub receiver: ReceiverId,
    /// How much.
    pub amount: Amount,
    /// Its status.
    pub standing: MovementStatus,
}

impl OurMovement {
    /// Whether we recorded that the money moved before this time.
    pub fn moved_before(&self, moment: Timestamp) -> bool {
        match &self.standing {
            MovementStatus::Moved(at, _) => *at < moment,
            MovementStatus::Not(_) => false,
        }
    }
}

/// Whether we recorded that the money moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MovementStatus {
    /// It moved at this time, under this number of the institution if known.
    Moved(Timestamp, Option<Box<str>>),
    /// Not recorded as moved; its state.
    Not(Box<str>),
}

/// Kind of difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DifferenceKind {
    /// The institution moved money; we have not recorded that it moved.
    NotDone,
    /// We have no such movement at this institution.
    UnknownLine,
    /// The statement lists the movement twice.
    DoubledLine,
    /// The line's timestamp belongs to another day.
    LineOfAnotherDay,
    /// The amounts differ.
    Sum,
    /// The currencies differ.
    Currency,
    /// Another receiver.
    Receiver,
    /// By our books it belongs to another day.
    Day,
    /// The institution's numbers differ.
    InstitutionNo,
    /// The statement lacks a movement that we recorded for that day.
    Missing,
    /// A failed refund succeeded after all (R9). Found by evidence, never by a statement.
    LateRefund,
}

impl DifferenceKind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::NotDone,
        Self::UnknownLine,
        Self::DoubledLine,
        Self::LineOfAnotherDay,
        Self::Sum,
        Self::Currency,
        Self::Receiver,
        Self::Day,
        Self::InstitutionNo,
        Self::Missing,
        Self::LateRefund,
    ];

    /// Stable name, in the database and for display.
    pub fn word(self) -> &'static str {
        match self {
            Self::NotDone => "not_done",
            Self::UnknownLine => "unknown_line",
            Self::DoubledLine => "doubled_line",
            Self::LineOfAnotherDay => "line_of_another_day",
            Self::Sum => "sum",
            Self::Currency => "currency",
            Self::Receiver => "receiver",
            Self::Day => "day",
            Self::InstitutionNo => "institution_no",
            Self::Missing => "missing",
            Self::LateRefund => "late_refund",
        }
    }
}

/// A difference between a statement and our records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementDifference {
    /// Its kind.
    pub kind: DifferenceKind,
    /// Direction of the movement.
    pub movement: Movement,
    /// The number that both sides use.
    pub number: Box<str>,
    /// Our value.
    pub expected: Box<str>,
    /// The statement's value.
    pub found: Box<str>,
}

impl StatementDifference {
    /// A difference in a line.
    pub fn of(line: &StatementLine, kind: DifferenceKind, expected: &str, found: &str) -> Self {
        Self {
            kind,
            movement: line.movement,
            number: line.number.clone(),
            expected: expected.into(),
            found: found.into(),
        }
    }
}

/// A movement of ours that the statement lacks.
pub fn missing(ours: &OurMovement) -> StatementDifference {
    let at = match &ours.standing {
        MovementStatus::Moved(at, _) => at.rfc3339(),
        MovementStatus::Not(state) => state.to_string(),
    };
    StatementDifference {
        kind: DifferenceKind::Missing,
        movement: ours.movement,
        number: ours.number.clone(),
        expected: format!("{} {at}", sum(ours.amount)).into(),
        found: "no line".into(),
    }
}

/// All differences between a line and our record of its movement; empty if they agree.
pub fn compare(
    line: &StatementLine,
    ours: Option<&OurMovement>,
    day: &SettlementDay,
) -> Vec<StatementDifference> {
    let mut differences = Vec::new();
    let mut differs = |kind, expected: &str, found: &str| {
        differences.push(StatementDifference::of(line, kind, expected, found));
    };
    if !day.holds(line.at) {
        let (expected, found) = (day.date.as_str(), line.at.rfc3339());
        differs(DifferenceKind::LineOfAnotherDay, expected, &found);
    }
    let Some(ours) = ours else {
        let found = format!("{} {}", sum(line.amount), line.institution_no);
        differs(
            DifferenceKind::UnknownLine,
            "no movement with this number",
            &found,
        );
        return differences;
    };
    let (recorded, stated) = (ours.amount, line.amount);
    if recorded.currency() != stated.currency() {
        differs(DifferenceKind::Currency, &sum(recorded), &sum(stated));
    } else if recorded != stated {
        differs(DifferenceKind::Sum, &sum(recorded), &sum(stated));
    }
    if ours.receiver != line.receiver {
        let (expected, found) = (ours.receiver.as_str(), line.receiver.as_str());
        differs(DifferenceKind::Receiver, expected, found);
    }
    match &ours.standing {
        MovementStatus::Not(state) => {
            let found = format!("{} {}", sum(stated), line.at.rfc3339());
            differs(DifferenceKind::NotDone, state, &found);
        }
        MovementStatus::Moved(at, institution_no) => {
            if day.holds(line.at) && !day.holds(*at) {
                differs(DifferenceKind::Day, &at.date(), day.date.as_str());
            }
            if let Some(known) = institution_no
                .as_ref()
                .filter(|no| **no != line.institution_no)
            {
                let found = &line.institution_no;
                differs(DifferenceKind::InstitutionNo, known, found);
            }
        }
    }
    differences
}

fn sum(amount: Amount) -> String {
    format!("{amount} {}", amount.currency().code())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::amount::{CNY, Currency};

    fn day() -> SettlementDay {
        SettlementDay::parse("20261124").unwrap()
    }

    fn noon() -> Timestamp {
        Timestamp::parse_local("20261124", "120000").unwrap()
    }

    fn line() -> StatementLine {
        StatementLine {
            receiver: ReceiverId::parse("ACC-1").unwrap(),
            movement: Movement::Payment,
            number: "A1".into(),
            institution_no: "H1".into(),
            amount: Amount::from_minor(1_230, CNY).unwrap(),
            at: noon(),
        }
    }

    fn ours() -> OurMovement {
        let line = line();
        OurMovement {
            movement: line.movement,
            number: line.number,
            receiver: line.receiver,
            amount: line.amount,
            standing: MovementStatus::Moved(noon(), Some(line.institution_no)),
        }
    }

    fn kinds(line: &StatementLine, ours: Option<&OurMovement>) -> Vec<DifferenceKind> {
        let found = compare(line, ours, &day());
        found.iter().map(|difference| difference.kind).collect()
    }

    /// M7: equal lines have no difference, and each difference is named.
    #[test]
    fn each_difference_is_named() {
        use DifferenceKind as Kind;
        assert_eq!(kinds(&line(), Some(&ours())), []);
        assert_eq!(kinds(&line(), None), [Kind::UnknownLine]);
        let yesterday = Timestamp::from_ms(day().from.ms() - 1);
        let of = |amount| StatementLine { amount, ..line() };
        let yen = Currency::parse("JPY").unwrap();
        let cases = [
            (of(Amount::from_minor(1_231, CNY).unwrap()), Kind::Sum),
            (of(Amount::from_minor(1_230, yen).unwrap()), Kind::Currency),
            (
                StatementLine {
                    receiver: ReceiverId::parse("ACC-2").unwrap(),
                    ..line()
                },
                Kind::Receiver,
            ),
            (
                StatementLine {
                    institution_no: "H2".into(),
                    ..line()
                },
                Kind::InstitutionNo,
            ),
            (
                StatementLine {
                    at: yesterday,
                    ..line()
                },
                Kind::LineOfAnotherDay,
            ),
        ];
        for (line, kind) in cases {
            assert_eq!(kinds(&line, Some(&ours())), [kind]);
        }
        let with_status = |standing| OurMovement { standing, ..ours() };
        let earlier = with_status(MovementStatus::Moved(yesterday, Some("H1".into())));
        assert_eq!(kinds(&line(), Some(&earlier)), [Kind::Day]);
        let unnumbered = with_status(MovementStatus::Moved(noon(), None));
        assert_eq!(kinds(&line(), Some(&unnumbered)), [], "nothing to compare");
        let open = with_status(MovementStatus::Not("UNKNOWN".into()));
        assert_eq!(kinds(&line(), Some(&open)), [Kind::NotDone]);
    }
}
