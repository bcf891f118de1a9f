//! Seals what earlier releases stored as plain text (D2): once, in the same transaction that then
//! drops the plain columns, so that no start sees a partial migration.

use rusqlite::{Connection, params};
use serde_json::Value;

use crate::seal::{Seal, SealBinding};
use crate::store::sqlite::SqliteFault;
use crate::store::sqlite::sealed::seal_text;

/// Number of rows held in memory at a time.
const AT_ONCE: u32 = 1_000;

/// A plain text column and its sealed replacement.
struct SealedColumn {
    table: &'static str,
    key: &'static str,
    plain: &'static str,
    sealed: &'static str,
    /// Only rows that match this condition keep the text.
    needed: &'static str,
}

const COLUMNS: [SealedColumn; 4] = [
    SealedColumn {
        table: "attempts",
        key: "attempt_id",
        plain: "reason",
        sealed: "reason_sealed",
        needed: "TRUE",
    },
    SealedColumn {
        table: "refunds",
        key: "refund_order_no",
        plain: "reason",
        sealed: "reason_sealed",
        needed: "TRUE",
    },
    SealedColumn {
        table: "refunds",
        key: "refund_order_no",
        plain: "notice_url",
        sealed: "notice_sealed",
        needed: "TRUE",
    },
    SealedColumn {
        table: "events",
        key: "event_id",
        plain: "destination",
        sealed: "target",
        needed: "state <> 'DELIVERED'",
    },
];

/// Seals the plain columns into their replacements.
pub(super) fn seal_plain(connection: &Connection, seal: &Seal) -> Result<(), SqliteFault> {
    addresses_of_orders(connection, seal)?;
    COLUMNS
        .iter()
        .try_for_each(|moved| texts(connection, seal, moved))
}

/// Adds the URLs to the order's sealed fields.
fn addresses_of_orders(connection: &Connection, seal: &Seal) -> Result<(), SqliteFault> {
    let some = "SELECT pay_order_no, sealed, return_url, notice_url FROM orders
        WHERE pay_order_no > ?1 ORDER BY pay_order_no LIMIT ?2";
    let mut some = connection.prepare(some)?;
    let mut update = connection.prepare("UPDATE orders SET sealed = ?2 WHERE pay_order_no = ?1")?;
    let mut last = String::new();
    loop {
        let rows = some.query_map(params![last, AT_ONCE], |row| {
            let texts: (String, Option<String>) = (row.get(2)?, row.get(3)?);
            Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?, texts))
        })?;
        let rows: Vec<_> = rows.collect::<Result<_, _>>()?;
        let Some((key, ..)) = rows.last() else {
            return Ok(());
        };
        last.clone_from(key);
        for (key, sealed, (return_url, notice_url)) in rows {
            let (table, row, column) = ("orders", key.as_str(), "sealed");
            let place = SealBinding { table, row, column };
            let plain = seal.open(place, &sealed)?;
            let mut private: Value = serde_json::from_slice(&plain).map_err(|_| malformed())?;
            let fields = private.as_object_mut().ok_or_else(malformed)?;
            fields.insert("return_url".to_owned(), return_url.into());
            fields.insert("notice_url".to_owned(), notice_url.into());
            let sealed = seal_text(seal, place, &private);
            let sealed = sealed.map_err(|fault| SqliteFault::Corrupt(fault.to_string()))?;
            update.execute(params![key, sealed])?;
        }
    }
}

fn texts(connection: &Connection, seal: &Seal, moved: &SealedColumn) -> Result<(), SqliteFault> {
    let SealedColumn {
        table,
        key,
        plain,
        sealed,
        needed,
    } = moved;
    let some = format!(
        "SELECT {key}, {plain} FROM {table} WHERE {key} > ?1 AND {plain} IS NOT NULL AND {needed}
         ORDER BY {key} LIMIT ?2"
    );
    let mut some = connection.prepare(&some)?;
    let update = format!("UPDATE {table} SET {sealed} = ?2 WHERE {key} = ?1");
    let mut update = connection.prepare(&update)?;
    let mut last = String::new();
    loop {
        let rows = some.query_map(params![last, AT_ONCE], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        })?;
        let rows: Vec<_> = rows.collect::<Result<_, _>>()?;
        let Some((key, _)) = rows.last() else {
            return Ok(());
        };
        last.clone_from(key);
        for (row, text) in rows {
            let (table, column, row) = (*table, *sealed, row.as_str());
            let place = SealBinding { table, row, column };
            let sealed = seal.seal(place, text.as_bytes())?;
            update.execute(params![row, sealed.as_bytes()])?;
        }
    }
}

fn malformed() -> SqliteFault {
    SqliteFault::Corrupt("a stored order is malformed".into())
}
