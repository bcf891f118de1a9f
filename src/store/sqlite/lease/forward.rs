//! What a clock that was ahead has put off comes forward once the clock is right (T2).

use std::time::Duration;

use rusqlite::{OptionalExtension, params};

use crate::domain::identifiers::Timestamp;
use crate::store::CLOCKS_APART;
use crate::store::sqlite::Fault;
use crate::store::sqlite::chain::CHAIN;
use crate::store::sqlite::writer::Writing;

/// Every moment that something waits for, that was reckoned from a clock, and of which rows: each by an
/// index of what is open, never by reading what is over.
const WAITED_FOR: [(&str, &str, &str); 6] = [
    ("orders", "due_at", "due_at IS NOT NULL"),
    ("orders", "leased_until", "due_at IS NOT NULL"),
    ("events", "due_at", "due_at IS NOT NULL"),
    (
        "attempts",
        "next_at",
        "state <> 'PAID' AND state <> 'FAILED' AND state <> 'CLOSED'",
    ),
    ("refunds", "next_at", OPEN_REFUND),
    ("refunds", "waits_until", OPEN_REFUND),
];

const OPEN_REFUND: &str = "state <> 'FAILED' AND state <> 'SUCCEEDED'";

/// Brings it forward: nothing waits longer than its own wait, counted from now. Looking too early asks
/// too early, once; too late would be a payment nobody asks about for as long as the clock was ahead
/// (T2).
pub(in crate::store::sqlite) fn bring_forward(
    writing: &mut Writing<'_>,
    by: Option<Duration>,
    now: Timestamp,
) -> Result<Duration, Fault> {
    let last = "SELECT at FROM audit WHERE chain_id = ?1 ORDER BY seq DESC LIMIT 1";
    let recorded: Option<i64> = writing
        .connection
        .prepare_cached(last)?
        .query_row(params![CHAIN], |row| row.get(0))
        .optional()?;
    let ahead = recorded.map(|at| Timestamp::from_ms(at).since(now));
    let by = by.or(ahead).filter(|by| *by > CLOCKS_APART);
    let by = by.unwrap_or_default();
    if by.is_zero() {
        return Ok(by);
    }
    let by_ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    for (table, column, rows) in WAITED_FOR {
        let sql = format!(
            "UPDATE {table} SET {column} = max({column} - ?1, ?2)
             WHERE {rows} AND {column} > ?2"
        );
        let mut statement = writing.connection.prepare(&sql)?;
        statement.execute(params![by_ms, now.ms()])?;
    }
    Ok(by)
}
