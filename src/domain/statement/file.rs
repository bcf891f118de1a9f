//! CSV format of a statement: values without quotes, closed by totals (`docs/statements.md`).

use crate::domain::amount::Currency;
use crate::domain::identifiers::ReceiverId;
use crate::domain::statement::{StatementLine, read_line};

/// The first line.
pub const COLUMNS: &str = "kind,receiver,number,institutionNo,amount,currency,moment";

/// A line after the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatementRow {
    /// A movement.
    Line(StatementLine),
    /// Totals of all lines of one currency, in decimal text.
    Total {
        /// The currency.
        currency: Currency,
        /// Total of its payments.
        payments: String,
        /// Total of its refunds.
        refunds: String,
    },
    /// The last line: institution, day and number of movements.
    End {
        /// The institution's id, as configured.
        institution: String,
        /// `yyyyMMdd`.
        date: String,
        /// Total number of movements.
        lines: u64,
    },
}

/// Parses a line, without its line break.
///
/// # Errors
/// What was expected.
pub fn read_row(text: &str) -> Result<StatementRow, &'static str> {
    let mut parts = text.split(',');
    let mut part = || parts.next().ok_or("seven values, separated by commas");
    let [kind, second, third, fourth, fifth, sixth, seventh] = [
        part()?,
        part()?,
        part()?,
        part()?,
        part()?,
        part()?,
        part()?,
    ];
    if parts.next().is_some() {
        return Err("seven values, separated by commas");
    }
    match (kind, second, third, fourth, fifth, sixth, seventh) {
        ("TOTAL", "", "", payments, refunds, currency, "") => Ok(StatementRow::Total {
            currency: Currency::parse(currency).map_err(|fault| fault.expected)?,
            payments: payments.to_owned(),
            refunds: refunds.to_owned(),
        }),
        ("END", institution, date, lines, "", "", "") => Ok(StatementRow::End {
            institution: institution.to_owned(),
            date: date.to_owned(),
            lines: lines.parse().map_err(|_| "the number of lines")?,
        }),
        ("TOTAL" | "END", ..) => Err("TOTAL,,,PAYMENTS,REFUNDS,CURRENCY, or END,ID,DATE,LINES,,,"),
        _ => {
            let receiver = ReceiverId::parse(second).map_err(|fault| fault.expected)?;
            let parts = [kind, third, fourth, fifth, sixth, seventh];
            Ok(StatementRow::Line(read_line(receiver, parts)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::statement::Movement;

    /// M7, M4: a line is parsed exactly or refused.
    #[test]
    fn a_line_is_parsed_exactly_or_refused() {
        let good = "PAYMENT,ACC-1,A1,H-1,12.30,CNY,2026-11-24T09:30:00+08:00";
        let Ok(StatementRow::Line(line)) = read_row(good) else {
            panic!("{:?}", read_row(good))
        };
        assert_eq!((line.movement, &*line.number), (Movement::Payment, "A1"));
        assert_eq!(line.amount.minor(), 1_230);
        let longer = good.replace("12.30", "12.300");
        assert_eq!(read_row(&longer), Ok(StatementRow::Line(line.clone())));
        assert_eq!(line.at.rfc3339(), "2026-11-24T09:30:00+08:00");
        for bad in [
            "",
            "PAYMENT",
            "PAID,ACC-1,A1,H-1,12.30,CNY,2026-11-24T09:30:00+08:00",
            "PAYMENT,ACC 1,A1,H-1,12.30,CNY,2026-11-24T09:30:00+08:00",
            "PAYMENT,ACC-1,,H-1,12.30,CNY,2026-11-24T09:30:00+08:00",
            "PAYMENT,ACC-1,A1,\"H\",12.30,CNY,2026-11-24T09:30:00+08:00",
            "PAYMENT,ACC-1,A1,H-1,-12.30,CNY,2026-11-24T09:30:00+08:00",
            "PAYMENT,ACC-1,A1,H-1,12.305,CNY,2026-11-24T09:30:00+08:00",
            "PAYMENT,ACC-1,A1,H-1,12.30,XYZ,2026-11-24T09:30:00+08:00",
            "PAYMENT,ACC-1,A1,H-1,12.30,CNY,2026-11-24",
            "PAYMENT,ACC-1,A1,H-1,12.30,CNY,2026-11-24T09:30:00+08:00,",
            "PAYMENT,ACC-1,A1,H-1,12.30,CNY,9999-12-31T23:59:59Z",
            "TOTAL,x,,12.30,0.00,CNY,",
            "END,harbour,20261124,many,,,",
        ] {
            assert!(read_row(bad).is_err(), "{bad}");
        }
    }
}
