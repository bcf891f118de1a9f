//! Moves due times forward again after the clock was ahead (T2).

use std::time::Duration;

use rusqlite::params;

use crate::domain::audit::AuditEntry;
use crate::domain::identifiers::Timestamp;
use crate::store::CLOCKS_APART;
use crate::store::sqlite::SqliteFault;
use crate::store::sqlite::chain::{names, record};
use crate::store::sqlite::writer::WriteTransaction;

/// Orders and events that may be leased: the fence is increased, so that a holder from before
/// cannot complete and postpone the work again (N6). Each uses an index of open rows and never
/// reads finished ones.
const TAKEN: [&str; 2] = [
    "UPDATE orders SET fence = fence + 1, due_at = CASE WHEN due_at > ?2
        THEN max(due_at - ?1, ?2) ELSE due_at END, leased_until = CASE WHEN leased_until > ?2
        THEN max(leased_until - ?1, ?2) ELSE leased_until END
     WHERE due_at IS NOT NULL AND (due_at > ?2 OR leased_until > ?2)",
    "UPDATE events SET fence = fence + 1, due_at = max(due_at - ?1, ?2)
     WHERE due_at IS NOT NULL AND due_at > ?2",
];

/// All other due times that were computed from a clock, and the rows they apply to.
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

/// Maximum number of audit records searched for one that is ahead.
const RECORDS_READ_MAX: i64 = 100_000;

/// Moves due times earlier by `by`, but not before now, so that nothing waits longer than its own
/// interval from now. Too early costs one extra query; too late would leave a payment unresolved
/// for as long as the clock was ahead (T2). Writes an audit entry (L5).
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

/// How far the audit records since the clock was last set back are ahead. The last record alone is
/// not enough: another process may have written it after the clock was corrected, without moving
/// any due times.
fn recorded_ahead(writing: &WriteTransaction<'_>, now: Timestamp) -> Result<Duration, SqliteFault> {
    let sql = "SELECT at, action, result FROM audit WHERE chain_id = ?1
        ORDER BY seq DESC LIMIT ?2";
    let mut statement = writing.connection.prepare_cached(sql)?;
    let (mut ahead, mut left) = (Duration::ZERO, RECORDS_READ_MAX);
    for chain in names(writing.connection)?.iter().rev() {
        let mut rows = statement.query(params![chain, left])?;
        while let Some(row) = rows.next()? {
            let (action, result) = (row.get_ref(1)?.as_str(), row.get_ref(2)?.as_str());
            let action = action.map_err(rusqlite::Error::from)?;
            let result = result.map_err(rusqlite::Error::from)?;
            ahead = ahead.max(Timestamp::from_ms(row.get(0)?).since(now));
            if AuditEntry::is_clock_set_back(action, result) {
                return Ok(ahead);
            }
            left = left.saturating_sub(1);
        }
    }
    Ok(ahead)
}
