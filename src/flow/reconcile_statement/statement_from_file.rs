//! Reads a statement from a file, incrementally.

use std::io::{BufRead, Read};

use async_trait::async_trait;

use crate::domain::identifiers::InstitutionId;
use crate::domain::statement::{
    COLUMNS, SettlementDay, StatementLine, StatementRow, StatementTotals, UnusableStatement,
    read_row,
};
use crate::flow::reconcile_statement::{LINES_AT_ONCE, StatementSource};
use crate::store::ledger::Reconciliation;

/// The longest line. Unit: bytes.
const LINE_BYTES_MAX: u64 = 1_024;

/// A file of comma-separated values (`docs/statements.md`).
pub struct FromFile<R> {
    input: R,
    institution: InstitutionId,
    day: SettlementDay,
    line: u64,
    counted: StatementTotals,
    claimed: Option<StatementTotals>,
    has_ended: bool,
}

impl<R: BufRead + Send> FromFile<R> {
    /// The statement for this reconciliation.
    pub fn new(input: R, of: &Reconciliation) -> Self {
        Self {
            input,
            institution: of.institution.clone(),
            day: of.day.clone(),
            line: 0,
            counted: StatementTotals::default(),
            claimed: None,
            has_ended: false,
        }
    }

    /// The next line without its line end; `None` at the end of the file.
    fn text<'b>(&mut self, buffer: &'b mut Vec<u8>) -> Result<Option<&'b str>, UnusableStatement> {
        buffer.clear();
        let bounded = Read::take(&mut self.input, LINE_BYTES_MAX);
        let read = { bounded }.read_until(b'\n', buffer);
        let read =
            read.map_err(|error| UnusableStatement::new("file_unreadable", error.to_string()))?;
        if read == 0 {
            return Ok(None);
        }
        self.line = self.line.saturating_add(1);
        let is_long = u64::try_from(read).unwrap_or(u64::MAX) >= LINE_BYTES_MAX;
        let text = buffer.strip_suffix(b"\n").ok_or_else(|| {
            if is_long {
                return self.unreadable("a line end within 1024 bytes");
            }
            // The last line of a truncated file, perhaps within a number.
            let detail = format!(
                "line {}: expected its end, found that of the file",
                self.line
            );
            UnusableStatement::new("cut_off", detail)
        })?;
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let text = str::from_utf8(text).map_err(|_| self.unreadable("UTF-8"))?;
        Ok(Some(text))
    }

    fn unreadable(&self, expected: &str) -> UnusableStatement {
        let detail = format!("line {}: expected {expected}", self.line);
        UnusableStatement::new("line_unreadable", detail)
    }

    fn begin(&mut self, buffer: &mut Vec<u8>) -> Result<(), UnusableStatement> {
        let first = self.text(buffer)?.unwrap_or_default();
        if first.trim_start_matches('\u{feff}') == COLUMNS {
            return Ok(());
        }
        let detail = format!("line 1: expected {COLUMNS}, found something else");
        Err(UnusableStatement::new("header_wrong", detail))
    }

    fn end(
        &mut self,
        institution: &str,
        date: &str,
        lines: u64,
        buffer: &mut Vec<u8>,
    ) -> Result<(), UnusableStatement> {
        if institution != self.institution.as_str() {
            let ours = &self.institution;
            let detail = format!("expected a statement of {ours}, found one of another");
            return Err(UnusableStatement::new("another_institution", detail));
        }
        if date != self.day.date.as_str() {
            let ours = self.day.date.as_str();
            let detail = format!("expected a statement of {ours}, found one of another day");
            return Err(UnusableStatement::new("another_day", detail));
        }
        let mut claimed = self.claimed.take().unwrap_or_default();
        claimed.lines = lines;
        if claimed != self.counted {
            let (expected, found) = (claimed.text(), self.counted.text());
            let detail = format!("expected {expected}, found {found}");
            return Err(UnusableStatement::new("cut_off", detail));
        }
        if self.text(buffer)?.is_some() {
            return Err(self.unreadable("nothing after END"));
        }
        self.has_ended = true;
        Ok(())
    }
}

#[async_trait]
impl<R: BufRead + Send> StatementSource for FromFile<R> {
    async fn next(&mut self) -> Result<Option<Vec<StatementLine>>, UnusableStatement> {
        let mut buffer = Vec::with_capacity(256);
        if self.line == 0 {
            self.begin(&mut buffer)?;
        }
        let mut lines = Vec::with_capacity(LINES_AT_ONCE);
        while !self.has_ended && lines.len() < LINES_AT_ONCE {
            let Some(text) = self.text(&mut buffer)? else {
                let found = self.counted.lines;
                let detail = format!("expected a last line END, found none after {found} lines");
                return Err(UnusableStatement::new("cut_off", detail));
            };
            match read_row(text).map_err(|expected| self.unreadable(expected))? {
                StatementRow::Line(line) if self.claimed.is_none() => {
                    self.counted.add(&line);
                    lines.push(line);
                }
                StatementRow::Line(_) => return Err(self.unreadable("TOTAL or END after TOTAL")),
                StatementRow::Total {
                    currency,
                    payments,
                    refunds,
                } => {
                    use crate::domain::statement::Movement::{Payment, Refund};
                    let claimed = self.claimed.get_or_insert_default();
                    let result = claimed
                        .claim(Payment, currency, &payments)
                        .and_then(|()| claimed.claim(Refund, currency, &refunds));
                    result.map_err(|fault| self.unreadable(fault.expected))?;
                }
                StatementRow::End {
                    institution,
                    date,
                    lines,
                } => self.end(&institution, &date, lines, &mut buffer)?,
            }
        }
        Ok((!lines.is_empty()).then_some(lines))
    }
}
