//! Stores reconciliation breaks: difference, owner and resolution.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Params, Row, params};

use crate::domain::audit::AuditEntry;
use crate::domain::identifiers::{InstitutionId, Timestamp};
use crate::domain::statement::{DifferenceKind, Movement, SettlementDay, StatementDifference};
use crate::store::ledger::{Reconciliation, ReconciliationBreak, StaffAct, UNASSIGNED_OWNER};
use crate::store::sqlite::SqliteFault;
use crate::store::sqlite::chain::record;
use crate::store::sqlite::loading::{Columns, named, read};
use crate::store::sqlite::writer::WriteTransaction;

pub(in crate::store::sqlite) const RAISE: &str =
    "INSERT INTO reconciliation_breaks (at, institution_id, day, kind, movement, object,
    expected, found, owner, state, seen_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'OPEN', ?1)
    ON CONFLICT (institution_id, day, kind, movement, object) DO UPDATE
    SET expected = excluded.expected, found = excluded.found, state = 'OPEN', resolved_at = NULL,
    seen_at = excluded.seen_at";

const STATE_OF: &str =
    "SELECT state FROM reconciliation_breaks WHERE institution_id = ?1 AND day = ?2
    AND kind = ?3 AND movement = ?4 AND object = ?5";

const RESOLVE: &str = "UPDATE reconciliation_breaks SET state = 'RESOLVED', resolved_at = ?3
    WHERE institution_id = ?1 AND day = ?2 AND state = 'OPEN' AND seen_at <> ?3 AND kind <> 'late_refund'";

const OF_DAY: &str = "SELECT break_id, at, institution_id, day, kind, movement, object, expected,
    found, owner, state FROM reconciliation_breaks WHERE institution_id = ?1 AND day = ?2
    ORDER BY state, break_id";

const OPEN: &str = "SELECT break_id, at, institution_id, day, kind, movement, object, expected,
    found, owner, state FROM reconciliation_breaks WHERE state = 'OPEN' ORDER BY break_id LIMIT ?1";

/// The values of [`RAISE`] for a break that no statement found: of the day on which it became
/// known.
pub(in crate::store::sqlite) fn late(
    institution: &InstitutionId,
    difference: &StatementDifference,
    at: Timestamp,
) -> Vec<Value> {
    let text = |text: &str| Value::Text(text.to_owned());
    vec![
        at.ms().into(),
        text(institution.as_str()),
        at.date().into(),
        text(difference.kind.word()),
        text(difference.movement.name()),
        text(&difference.number),
        text(&difference.expected),
        text(&difference.found),
        text(UNASSIGNED_OWNER),
    ]
}

pub(super) fn raise(
    writing: &mut WriteTransaction<'_>,
    of: &Reconciliation,
    remaining: &[StatementDifference],
) -> Result<u64, SqliteFault> {
    let (institution, day) = (of.institution.as_str(), of.day.date.as_str());
    let mut raised: u64 = 0;
    for difference in remaining {
        let (kind, movement) = (difference.kind.word(), difference.movement.name());
        let object = &*difference.number;
        let state: Option<String> = writing
            .connection
            .prepare_cached(STATE_OF)?
            .query_row(params![institution, day, kind, movement, object], |row| {
                row.get(0)
            })
            .optional()?;
        if state.as_deref() != Some("OPEN") {
            raised = raised.saturating_add(1);
        }
        writing.connection.prepare_cached(RAISE)?.execute(params![
            of.at.ms(),
            institution,
            day,
            kind,
            movement,
            object,
            &*difference.expected,
            &*difference.found,
            of.by,
        ])?;
    }
    if raised > 0 {
        let audit_entry = of.audit_entry("break.open", format!("breaks={raised}"));
        record(writing, &audit_entry, of.at)?;
    }
    Ok(raised)
}

pub(super) fn conclude(
    writing: &mut WriteTransaction<'_>,
    of: &Reconciliation,
    result: &str,
) -> Result<u64, SqliteFault> {
    let resolved = writing
        .connection
        .prepare_cached(RESOLVE)?
        .execute(params![
            of.institution.as_str(),
            of.day.date.as_str(),
            of.at.ms(),
        ])?;
    let audit_entry = of.audit_entry(
        "statement.reconcile",
        format!("{result} resolved={resolved}"),
    );
    record(writing, &audit_entry, of.at)?;
    Ok(u64::try_from(resolved).unwrap_or(u64::MAX))
}

/// The breaks of an institution's day, open ones first.
pub(super) fn of_day(
    connection: &Connection,
    institution: &InstitutionId,
    day: &SettlementDay,
) -> Result<Vec<ReconciliationBreak>, SqliteFault> {
    list(
        connection,
        OF_DAY,
        params![institution.as_str(), day.date.as_str()],
    )
}

/// Counts the open breaks and returns the oldest of them.
pub(super) fn open(
    connection: &Connection,
    shown: u32,
) -> Result<(u64, Vec<ReconciliationBreak>), SqliteFault> {
    let count: i64 = connection
        .prepare_cached("SELECT COUNT(*) FROM reconciliation_breaks WHERE state = 'OPEN'")?
        .query_row([], |row| row.get(0))?;
    let shown = list(connection, OPEN, [shown])?;
    Ok((u64::try_from(count).unwrap_or_default(), shown))
}

fn list(
    connection: &Connection,
    sql: &str,
    of: impl Params,
) -> Result<Vec<ReconciliationBreak>, SqliteFault> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(of)?;
    let mut breaks = Vec::new();
    while let Some(row) = rows.next()? {
        breaks.push(open_break(row)?);
    }
    Ok(breaks)
}

fn open_break(row: &Row<'_>) -> Result<ReconciliationBreak, SqliteFault> {
    let columns = Columns { row };
    let difference = StatementDifference {
        kind: columns.parse(4, named(&DifferenceKind::ALL, DifferenceKind::word))?,
        movement: columns.parse(5, |word| Movement::parse(word).ok_or(()))?,
        number: columns.get(6)?,
        expected: columns.get(7)?,
        found: columns.get(8)?,
    };
    let state: String = columns.get(10)?;
    Ok(ReconciliationBreak {
        id: columns.get(0)?,
        at: Timestamp::from_ms(columns.get(1)?),
        institution: columns.parse(2, InstitutionId::parse)?,
        day: columns.get(3)?,
        difference,
        owner: columns.get(9)?,
        is_open: read(match state.as_str() {
            "OPEN" => Ok(true),
            "RESOLVED" => Ok(false),
            _ => Err(()),
        })?,
    })
}

/// Assigns an open break to an owner (L5); returns whether there is such a break.
pub(super) fn hand_over(
    writing: &mut WriteTransaction<'_>,
    id: i64,
    to: &str,
    by: &StaffAct,
) -> Result<bool, SqliteFault> {
    let sql = "UPDATE reconciliation_breaks SET owner = ?2 WHERE break_id = ?1 AND state = 'OPEN'";
    let is_done = writing
        .connection
        .prepare_cached(sql)?
        .execute(params![id, to])?
        == 1;
    if is_done {
        let audit_entry = audit_entry(by, "break.assign", id, format!("owner={to}"));
        record(writing, &audit_entry, by.at)?;
    }
    Ok(is_done)
}

/// Resolves an open break manually, with a reason (L5); returns whether there is such a break.
pub(super) fn resolve(
    writing: &mut WriteTransaction<'_>,
    id: i64,
    because: &str,
    by: &StaffAct,
) -> Result<bool, SqliteFault> {
    let sql = "UPDATE reconciliation_breaks SET state = 'RESOLVED', resolved_at = ?2
        WHERE break_id = ?1 AND state = 'OPEN'";
    let values = params![id, by.at.ms()];
    let is_done = writing.connection.prepare_cached(sql)?.execute(values)? == 1;
    if is_done {
        let audit_entry = audit_entry(by, "break.resolve", id, format!("because={because}"));
        record(writing, &audit_entry, by.at)?;
    }
    Ok(is_done)
}

fn audit_entry(by: &StaffAct, action: &'static str, id: i64, result: String) -> AuditEntry {
    AuditEntry {
        actor: by.who.clone(),
        action: action.into(),
        object: format!("break {id}"),
        version: 0,
        result,
    }
}
