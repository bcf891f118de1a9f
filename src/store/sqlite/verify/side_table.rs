//! A table merge-joined with the orders, reading one row ahead.

use rusqlite::Rows;

use crate::domain::identifiers::PayOrderNo;
use crate::domain::verification::{Breach, BreachSink};
use crate::store::sqlite::SqliteFault;
use crate::store::sqlite::loading::Columns;

/// The breach for a row that cannot be read.
pub(super) fn unreadable(object: &str, fault: &SqliteFault) -> Breach {
    Breach::of(
        "READ",
        object,
        "a row that this release can read",
        why(fault),
    )
}

/// A description of the fault.
pub(super) fn why(fault: &SqliteFault) -> String {
    match fault {
        SqliteFault::Sql(error) => error.to_string(),
        SqliteFault::Corrupt(what) => what.clone(),
    }
}

/// The order number of a row, and its content.
type OwnedRow<T> = (String, Result<T, SqliteFault>);

/// A table merge-joined with the orders.
pub(super) struct SideTable<'s, T> {
    what: &'static str,
    rows: Rows<'s>,
    read: fn(&Columns<'_>) -> Result<T, SqliteFault>,
    /// The next row, if it was already read.
    next: Option<OwnedRow<T>>,
    /// Rows read so far.
    pub(super) count: u64,
}

impl<'s, T> SideTable<'s, T> {
    pub(super) fn new(
        what: &'static str,
        rows: Rows<'s>,
        read: fn(&Columns<'_>) -> Result<T, SqliteFault>,
    ) -> Self {
        Self {
            what,
            rows,
            read,
            next: None,
            count: 0,
        }
    }

    fn advance(&mut self) -> Result<Option<OwnedRow<T>>, SqliteFault> {
        if let Some(next) = self.next.take() {
            return Ok(Some(next));
        }
        let Some(row) = self.rows.next()? else {
            return Ok(None);
        };
        self.count = self.count.saturating_add(1);
        let columns = Columns { row };
        Ok(Some((columns.get(0)?, (self.read)(&columns))))
    }

    /// Returns the rows of this order and reports those before it, which belong to no order.
    pub(super) fn until(
        &mut self,
        no: &str,
        sink: &mut BreachSink<'_>,
    ) -> Result<Vec<T>, SqliteFault> {
        let mut of_it = Vec::new();
        while let Some((whose, row)) = self.advance()? {
            if whose.as_str() > no {
                self.next = Some((whose, row));
                break;
            }
            match row {
                Err(fault) => sink(unreadable(&format!("{} of {whose}", self.what), &fault)),
                Ok(_) if whose != no => self.astray(&whose, sink),
                Ok(row) => of_it.push(row),
            }
        }
        Ok(of_it)
    }

    pub(super) fn end(&mut self, sink: &mut BreachSink<'_>) -> Result<(), SqliteFault> {
        while let Some((whose, _)) = self.advance()? {
            self.astray(&whose, sink);
        }
        Ok(())
    }

    /// The audit log also contains records about other objects.
    fn astray(&self, whose: &str, sink: &mut BreachSink<'_>) {
        if self.what != "audit record" || PayOrderNo::parse(whose).is_ok() {
            let rule = if self.what == "audit record" {
                "L2"
            } else {
                "K2"
            };
            let found = format!("{} without an order", self.what);
            sink(Breach::of(
                rule,
                whose,
                "the order that it belongs to",
                found,
            ));
        }
    }
}
