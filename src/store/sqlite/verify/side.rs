//! One of the tables beside the orders', read in step with them: nothing of it is kept but the next row.

use rusqlite::Rows;

use crate::domain::identifiers::PayOrderNo;
use crate::domain::verification::{Breach, Hearer};
use crate::store::sqlite::Fault;
use crate::store::sqlite::loading::Columns;

/// A row that cannot be read.
pub(super) fn unreadable(object: &str, fault: &Fault) -> Breach {
    Breach::of(
        "READ",
        object,
        "a row that this release can read",
        why(fault),
    )
}

/// What is wrong, in words.
pub(super) fn why(fault: &Fault) -> String {
    match fault {
        Fault::Sql(error) => error.to_string(),
        Fault::Corrupt(what) => what.clone(),
    }
}

/// Whose row it is, and what it says.
type Owned<T> = (String, Result<T, Fault>);

/// One of the tables beside the orders', read in step with them.
pub(super) struct Side<'s, T> {
    what: &'static str,
    rows: Rows<'s>,
    read: fn(&Columns<'_>) -> Result<T, Fault>,
    /// The next row, if it was read already.
    next: Option<Owned<T>>,
    /// Rows read so far.
    pub(super) count: u64,
}

impl<'s, T> Side<'s, T> {
    pub(super) fn new(
        what: &'static str,
        rows: Rows<'s>,
        read: fn(&Columns<'_>) -> Result<T, Fault>,
    ) -> Self {
        Self {
            what,
            rows,
            read,
            next: None,
            count: 0,
        }
    }

    fn advance(&mut self) -> Result<Option<Owned<T>>, Fault> {
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

    /// The rows of this order; those before it belong to no order.
    pub(super) fn until(&mut self, no: &str, hear: &mut Hearer<'_>) -> Result<Vec<T>, Fault> {
        let mut of_it = Vec::new();
        while let Some((whose, row)) = self.advance()? {
            if whose.as_str() > no {
                self.next = Some((whose, row));
                break;
            }
            match row {
                Err(fault) => hear(unreadable(&format!("{} of {whose}", self.what), &fault)),
                Ok(_) if whose != no => self.astray(&whose, hear),
                Ok(row) => of_it.push(row),
            }
        }
        Ok(of_it)
    }

    pub(super) fn end(&mut self, hear: &mut Hearer<'_>) -> Result<(), Fault> {
        while let Some((whose, _)) = self.advance()? {
            self.astray(&whose, hear);
        }
        Ok(())
    }

    /// The log also speaks of other things than orders.
    fn astray(&self, whose: &str, hear: &mut Hearer<'_>) {
        if self.what != "audit record" || PayOrderNo::parse(whose).is_ok() {
            let rule = if self.what == "audit record" {
                "L2"
            } else {
                "K2"
            };
            let found = format!("an {} of it, and no order", self.what);
            hear(Breach::of(
                rule,
                whose,
                "the order that it belongs to",
                found,
            ));
        }
    }
}
