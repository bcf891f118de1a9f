//! What a clock that was ahead has put off comes forward once the clock is right (T2).

use std::time::Duration;

use rusqlite::params;

use crate::domain::audit::AuditEntry;
use crate::domain::identifiers::Timestamp;
use crate::store::CLOCKS_APART;
use crate::store::sqlite::SqliteFault;
use crate::store::sqlite::chain::{CHAIN, record};
use crate::store::sqlite::writer::WriteTransaction;

/// Orders and events that somebody may have taken: whoever took one before it came forward completes
/// nothing, and so does not put it off again (N6). Each by an index of what is open, never by reading
/// what is over.
const TAKEN: [&str; 2] = [
    "UPDATE orders SET fence = fence + 1, due_at = CASE WHEN due_at > ?2
        THEN max(due_at - ?1, ?2) ELSE due_at END, leased_until = CASE WHEN leased_until > ?2
        THEN max(leased_until - ?1, ?2) ELSE leased_until END
     WHERE due_at IS NOT NULL AND (due_at > ?2 OR leased_until > ?2)",
    "UPDATE events SET fence = fence + 1, due_at = max(due_at - ?1, ?2)
     WHERE due_at IS NOT NULL AND due_at > ?2",
];

/// Every other moment that something waits for, that was reckoned from a clock, and of which rows.
const WAITED_FOR: [(&str, &str, &str); 3] = [
    (
        "attempts",
        "next_at",
        "state <> 'PAID' AND state <> 'FAILED' AND state <> 'CLOSED'",
    ),
    ("refunds", "next_at", OPEN_REFUND),
    ("refunds", "waits_until", OPEN_REFUND),
];

const OPEN_REFUND: &str = "state <> 'FAILED' AND state <> 'SUCCEEDED'";

/// Records that are looked at, at most, for one that lies ahead.
const RECORDS_READ_MAX: i64 = 100_000;

/// Brings it forward: nothing waits longer than its own wait, counted from now. Looking too early asks
/// too early, once; too late would be a payment nobody asks about for as long as the clock was ahead
/// (T2). That it was done is recorded with it (L5).
pub(in crate::store::sqlite) fn bring_forward(
    writing: &mut WriteTransaction<'_>,
    by: Option<Duration>,
    now: Timestamp,
) -> Result<Duration, SqliteFault> {
    let by = match by {
        Some(by) => by,
        None => recorded_ahead(writing, now)?,
    };
    if by <= CLOCKS_APART {
        return Ok(Duration::ZERO);
    }
    let by_ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    let others = WAITED_FOR.map(|(table, column, rows)| {
        format!(
            "UPDATE {table} SET {column} = max({column} - ?1, ?2)
             WHERE {rows} AND {column} > ?2"
        )
    });
    for sql in TAKEN.into_iter().chain(others.iter().map(String::as_str)) {
        let mut statement = writing.connection.prepare(sql)?;
        statement.execute(params![by_ms, now.ms()])?;
    }
    record(writing, &AuditEntry::clock_set(by_ms.saturating_neg()), now)?;
    Ok(by)
}

/// How far the records since the clock was last set back lie ahead. The last one alone does not tell:
/// it may have been written after the clock was put right, by whoever brought nothing forward.
fn recorded_ahead(writing: &WriteTransaction<'_>, now: Timestamp) -> Result<Duration, SqliteFault> {
    let sql = "SELECT at, action, result FROM audit WHERE chain_id = ?1
        ORDER BY seq DESC LIMIT ?2";
    let mut statement = writing.connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![CHAIN, RECORDS_READ_MAX])?;
    let mut ahead = Duration::ZERO;
    while let Some(row) = rows.next()? {
        let (action, result) = (row.get_ref(1)?.as_str(), row.get_ref(2)?.as_str());
        let action = action.map_err(rusqlite::Error::from)?;
        let result = result.map_err(rusqlite::Error::from)?;
        ahead = ahead.max(Timestamp::from_ms(row.get(0)?).since(now));
        if AuditEntry::is_clock_set_back(action, result) {
            break;
        }
    }
    Ok(ahead)
}
