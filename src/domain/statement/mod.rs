//! An institution's daily statement: its lines, totals, and comparison with our records (M7). A
//! line only suggests what to query; it is never evidence (V4).

mod comparing;
mod file;

pub use comparing::{
    DifferenceKind, MovementStatus, OurMovement, StatementDifference, compare, missing,
};
pub use file::{COLUMNS, StatementRow, read_row};

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crate::domain::amount::{Amount, Currency};
use crate::domain::evidence::EvidenceSubject;
use crate::domain::identifiers::{
    AccountId, AttemptId, CalendarDay, Malformed, ReceiverId, RefundOrderNo, Timestamp,
};

/// The longest number in a line. Unit: bytes.
pub const NUMBER_BYTES_MAX: usize = 64;

/// Maximum number of lines of one statement; eight bytes of each are kept in memory.
pub const LINES_MAX: u64 = 5_000_000;

/// Direction of a movement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Movement {
    /// From a payer to us.
    Payment,
    /// Back to a payer.
    Refund,
}

impl Movement {
    /// Both directions.
    pub const ALL: [Self; 2] = [Self::Payment, Self::Refund];

    /// The name in statements, in the database and for display.
    pub fn name(self) -> &'static str {
        match self {
            Self::Payment => "PAYMENT",
            Self::Refund => "REFUND",
        }
    }

    /// Parses the name.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|movement| movement.name() == word)
    }
}

/// A settlement day: midnight to midnight in Asia/Shanghai. A movement belongs to the day on which,
/// according to the institution, the money moved (`Receipt::paid_at`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettlementDay {
    /// `yyyyMMdd`.
    pub date: CalendarDay,
    /// Its first millisecond.
    pub from: Timestamp,
    /// The first millisecond after it.
    pub until: Timestamp,
}

impl SettlementDay {
    /// Parses `yyyy-MM-dd` or `yyyyMMdd`.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let wrong = Malformed {
            expected: "a day as yyyy-MM-dd or yyyyMMdd",
        };
        let digits = match text.split('-').collect::<Vec<_>>().as_slice() {
            [year, month, day] if [year.len(), month.len(), day.len()] == [4, 2, 2] => {
                format!("{year}{month}{day}")
            }
            _ => text.to_owned(),
        };
        let date = CalendarDay::parse(&digits).map_err(|_| wrong.clone())?;
        let from = Timestamp::parse_local(date.as_str(), "000000").map_err(|_| wrong)?;
        // The zone is fixed: every day has 24 hours.
        let until = from.plus(Duration::from_hours(24));
        Ok(Self { date, from, until })
    }

    /// Whether a time lies in it.
    pub fn holds(&self, at: Timestamp) -> bool {
        (self.from..self.until).contains(&at)
    }
}

/// Whose statement is read: what we are at the institution, and who receives there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AccountReceiver {
    /// Our account.
    pub account: AccountId,
    /// The institution's number of the receiver.
    pub receiver: ReceiverId,
}

/// One movement as the institution has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementLine {
    /// Who received the money, or whose money went back.
    pub receiver: ReceiverId,
    /// Which way.
    pub movement: Movement,
    /// Our number, if it is one of ours: attempt or refund (K2).
    pub number: Box<str>,
    /// The institution's own number.
    pub institution_no: Box<str>,
    /// The amount.
    pub amount: Amount,
    /// The time, by the institution's clock.
    pub at: Timestamp,
}

impl StatementLine {
    /// Our object that it names, if its number has the format of ours.
    pub fn about(&self) -> Option<EvidenceSubject> {
        match self.movement {
            Movement::Payment => AttemptId::parse(&self.number)
                .ok()
                .map(EvidenceSubject::Attempt),
            Movement::Refund => RefundOrderNo::parse(&self.number)
                .ok()
                .map(EvidenceSubject::Refund),
        }
    }

    /// Eight bytes to recognise it by.
    pub fn mark(&self) -> u64 {
        mark(self.movement, &self.number)
    }
}

/// Eight-byte hash of a movement. Among a million, two collide once in about forty million
/// statements; one of them is then reported as doubled, for manual review.
pub fn mark(movement: Movement, number: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (movement, number).hash(&mut hasher);
    hasher.finish()
}

/// Totals of lines, computed or stated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatementTotals {
    /// Number of lines.
    pub lines: u64,
    sums: BTreeMap<(Currency, Movement), i64>,
}

impl StatementTotals {
    /// Adds a line.
    pub fn add(&mut self, line: &StatementLine) {
        self.lines = self.lines.saturating_add(1);
        let key = (line.amount.currency(), line.movement);
        let sum = self.sums.entry(key).or_default();
        *sum = sum.saturating_add(line.amount.minor());
    }

    /// Adds a stated total: decimal text, `0.00` where nothing moved.
    ///
    /// # Errors
    /// It is not such text, or the total was stated before.
    pub fn claim(
        &mut self,
        movement: Movement,
        currency: Currency,
        text: &str,
    ) -> Result<(), Malformed> {
        let wrong = Malformed {
            expected: "an amount in decimal digits, each currency once",
        };
        let minor = currency.minor_units(text).map_err(|_| wrong.clone())?;
        if minor == 0 {
            return Ok(());
        }
        match self.sums.insert((currency, movement), minor) {
            None => Ok(()),
            Some(_) => Err(wrong),
        }
    }

    /// Number of lines and totals for display: `2 lines, payments 12.30 CNY, refunds 5.00 CNY`.
    pub fn text(&self) -> String {
        let mut text = format!("{} lines", self.lines);
        for movement in Movement::ALL {
            for ((currency, _), minor) in self.sums.iter().filter(|((_, of), _)| *of == movement) {
                let word = match movement {
                    Movement::Payment => "payments",
                    Movement::Refund => "refunds",
                };
                let sum = currency.decimal_text(*minor);
                text.extend([", ", word, " ", &sum, " ", currency.code()]);
            }
        }
        text
    }
}

/// Why a whole statement cannot be used: nothing was compared for good, queried or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct UnusableStatement {
    /// Stable name.
    pub reason: &'static str,
    /// What was expected, what was found.
    pub detail: String,
}

impl UnusableStatement {
    /// With this reason.
    pub fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
        }
    }
}

/// Whether text is valid as a number of ours or the institution's in a statement.
pub fn is_number(text: &str) -> bool {
    (1..=NUMBER_BYTES_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b',' && byte != b'"')
}

/// Parses a line from its values.
///
/// # Errors
/// Which of them is invalid.
pub fn read_line(
    receiver: ReceiverId,
    [movement, number, institution_no, amount, currency, at]: [&str; 6],
) -> Result<StatementLine, &'static str> {
    let movement = Movement::parse(movement).ok_or("kind: expected PAYMENT or REFUND")?;
    if !is_number(number) || !is_number(institution_no) {
        return Err("numbers: expected 1 to 64 printable characters without comma and quote");
    }
    let currency = Currency::parse(currency).map_err(|fault| fault.expected)?;
    let amount = Amount::parse(amount, currency)
        .map_err(|_| "amount: expected decimal digits within the currency")?;
    let at = Timestamp::parse_rfc3339(at).map_err(|fault| fault.expected)?;
    Ok(StatementLine {
        receiver,
        movement,
        number: number.into(),
        institution_no: institution_no.into(),
        amount,
        at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::amount::CNY;

    fn line(movement: Movement, minor: i64) -> StatementLine {
        StatementLine {
            receiver: ReceiverId::parse("ACC-1").unwrap(),
            movement,
            number: "A1".into(),
            institution_no: "H1".into(),
            amount: Amount::from_minor(minor, CNY).unwrap(),
            at: Timestamp::from_ms(0),
        }
    }

    /// M7: a day is one in Asia/Shanghai, including its last millisecond and excluding the next.
    #[test]
    fn a_settlement_day_is_a_day_in_shanghai() {
        let day = SettlementDay::parse("2026-11-24").unwrap();
        assert_eq!(SettlementDay::parse("20261124"), Ok(day.clone()));
        assert_eq!(day.from.rfc3339(), "2026-11-24T00:00:00+08:00");
        assert!(day.holds(day.from) && !day.holds(day.until));
        assert!(day.holds(Timestamp::from_ms(day.until.ms() - 1)));
        for bad in ["2026-02-30", "2026-1-24", "tomorrow", "", "2026-11-24-"] {
            assert!(SettlementDay::parse(bad).is_err(), "{bad}");
        }
    }

    /// M7, M4: computed and stated totals are equal exactly when every total and the number of
    /// lines are.
    #[test]
    fn totals_are_compared_exactly() {
        let mut counted = StatementTotals::default();
        counted.add(&line(Movement::Payment, 1_230));
        counted.add(&line(Movement::Payment, 999_999_999_999));
        counted.add(&line(Movement::Refund, 500));
        let claimed = |lines, payments: &str, refunds: &str| {
            let mut totals = StatementTotals {
                lines,
                ..StatementTotals::default()
            };
            totals.claim(Movement::Payment, CNY, payments)?;
            totals.claim(Movement::Refund, CNY, refunds)?;
            Ok::<_, Malformed>(totals)
        };
        assert_eq!(claimed(3, "10000000012.29", "5").unwrap(), counted);
        for (lines, payments, refunds) in [
            (2, "10000000012.29", "5.00"),
            (3, "10000000012.28", "5.00"),
            (3, "10000000012.29", "0.00"),
        ] {
            assert_ne!(claimed(lines, payments, refunds).unwrap(), counted);
        }
        assert_eq!(claimed(3, "10000000012.2900", "5.000").unwrap(), counted);
        for bad in ["-1", "1.234", "", "1e3", " 1", "5.", "05.00", "5_0"] {
            assert!(claimed(3, bad, "0").is_err(), "{bad}");
        }
        let text = "3 lines, payments 10000000012.29 CNY, refunds 5.00 CNY";
        assert_eq!(counted.text(), text);
    }
}
