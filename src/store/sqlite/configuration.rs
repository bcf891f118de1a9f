//! Which configuration was in force, and what the next one may not lose (F2).

use rusqlite::{Connection, OptionalExtension, params};

use crate::domain::change::Configured;
use crate::domain::identifiers::{InstitutionId, Timestamp};
use crate::store::sqlite::Fault;
use crate::store::sqlite::rows::record;
use crate::store::sqlite::writer::Writing;
use crate::store::{Bindings, Committed};

/// States that are over are named for the index, as everywhere.
const UNFINISHED: &str = "SELECT institution_id, SUM(many) FROM (
        SELECT institution_id, COUNT(*) AS many FROM attempts
        WHERE state <> 'PAID' AND state <> 'FAILED' AND state <> 'CLOSED'
        GROUP BY institution_id
        UNION ALL
        SELECT a.institution_id, COUNT(*) FROM refunds r
        JOIN attempts a ON a.attempt_id = r.attempt_id
        WHERE r.state <> 'FAILED' AND r.state <> 'SUCCEEDED'
        GROUP BY a.institution_id)
    GROUP BY institution_id";

/// The record and the version, together (L2): a version never sinks, whatever is asked.
pub(super) fn write(
    writing: &mut Writing<'_>,
    configured: &Configured,
    at: Timestamp,
) -> Result<Committed, Fault> {
    if let Some(version) = configured.version {
        let version = i64::try_from(version)
            .map_err(|_| Fault::Corrupt("a version is out of range".into()))?;
        let sql = "INSERT INTO meta (name, number) VALUES ('configuration', ?1)
            ON CONFLICT (name) DO UPDATE SET number = max(number, excluded.number)";
        writing
            .connection
            .prepare_cached(sql)?
            .execute(params![version])?;
    }
    record(writing, &configured.deed, at)?;
    Ok(Committed::Done)
}

pub(super) fn bindings(connection: &Connection) -> Result<Bindings, Fault> {
    let malformed = || Fault::Corrupt("a stored institution or version is malformed".into());
    let version: Option<i64> = connection
        .prepare_cached("SELECT number FROM meta WHERE name = 'configuration'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    let mut bindings = Bindings {
        version: u64::try_from(version.unwrap_or(0)).map_err(|_| malformed())?,
        ..Bindings::default()
    };
    let mut statement = connection.prepare_cached(UNFINISHED)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (id, many): (String, i64) = (row.get(0)?, row.get(1)?);
        let id = InstitutionId::parse(&id).map_err(|_| malformed())?;
        let many = u64::try_from(many).map_err(|_| malformed())?;
        bindings.unfinished.insert(id, many);
    }
    Ok(bindings)
}
