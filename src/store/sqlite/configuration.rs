//! Which configuration was in force, and what the next one may not lose (F2).

use std::collections::BTreeMap;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use crate::domain::change::ConfigurationChange;
use crate::domain::identifiers::{InstitutionId, Timestamp};
use crate::domain::institutions::InstitutionEndpoint;
use crate::store::sqlite::chain::record;
use crate::store::sqlite::writer::WriteTransaction;
use crate::store::sqlite::{Sqlite, SqliteFault};
use crate::store::{Committed, ConfigurationLog, ENDED_COUNTED_MAX, RemovalGuard, StoreError};

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

/// Steps from institution to institution in the index, so that it takes as long for a million
/// attempts as for a hundred, and counts no further than its limit.
const ENDED: &str = "WITH RECURSIVE known (institution_id) AS (
        SELECT min(institution_id) FROM attempts WHERE ended_at IS NOT NULL
        UNION ALL
        SELECT (SELECT min(institution_id) FROM attempts
            WHERE ended_at IS NOT NULL AND institution_id > known.institution_id)
        FROM known WHERE known.institution_id IS NOT NULL)
    SELECT institution_id, (SELECT COUNT(*) FROM (SELECT 1 FROM attempts
        WHERE ended_at >= ?1 AND institution_id = known.institution_id LIMIT ?2))
    FROM known WHERE institution_id IS NOT NULL";

#[async_trait]
impl ConfigurationLog for Sqlite {
    async fn dependents(&self, since: Timestamp) -> Result<RemovalGuard, StoreError> {
        self.read(|connection| dependents(connection, since))
    }
}

/// The record and the version, together (L2): a version never sinks, whatever is asked.
pub(super) fn write(
    writing: &mut WriteTransaction<'_>,
    configured: &ConfigurationChange,
    at: Timestamp,
) -> Result<Committed, SqliteFault> {
    if let Some(version) = configured.version {
        let version = i64::try_from(version)
            .map_err(|_| SqliteFault::Corrupt("a version is out of range".into()))?;
        let sql = "INSERT INTO meta (name, number) VALUES ('configuration', ?1)
            ON CONFLICT (name) DO UPDATE SET number = max(number, excluded.number)";
        writing
            .connection
            .prepare_cached(sql)?
            .execute(params![version])?;
    }
    let sql = "INSERT INTO endpoints (institution_id, kind, url) VALUES (?1, ?2, ?3)
        ON CONFLICT (institution_id) DO UPDATE SET kind = excluded.kind, url = excluded.url";
    let mut written = writing.connection.prepare_cached(sql)?;
    for (id, endpoint) in &configured.endpoints {
        written.execute(params![id.as_str(), &*endpoint.kind, &*endpoint.url])?;
    }
    drop(written);
    record(writing, &configured.audit_entry, at)?;
    Ok(Committed::Done)
}

/// `since` when what ended counts.
fn dependents(connection: &Connection, since: Timestamp) -> Result<RemovalGuard, SqliteFault> {
    let version: Option<i64> = connection
        .prepare_cached("SELECT number FROM meta WHERE name = 'configuration'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    let mut dependents = RemovalGuard {
        version: u64::try_from(version.unwrap_or(0)).map_err(|_| malformed())?,
        ..RemovalGuard::default()
    };
    for (id, many) in counted(connection, UNFINISHED, [])? {
        dependents.held.entry(id).or_default().unfinished = many;
    }
    let limit = i64::try_from(ENDED_COUNTED_MAX).unwrap_or(i64::MAX);
    for (id, many) in counted(connection, ENDED, [since.ms(), limit])? {
        if many > 0 {
            dependents.held.entry(id).or_default().ended = many;
        }
    }
    dependents.endpoints = endpoints(connection)?;
    Ok(dependents)
}

fn endpoints(
    connection: &Connection,
) -> Result<BTreeMap<InstitutionId, InstitutionEndpoint>, SqliteFault> {
    let mut statement =
        connection.prepare_cached("SELECT institution_id, kind, url FROM endpoints")?;
    let mut rows = statement.query([])?;
    let mut endpoints = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let id: String = row.get(0)?;
        let id = InstitutionId::parse(&id).map_err(|_| malformed())?;
        let endpoint = InstitutionEndpoint {
            kind: row.get(1)?,
            url: row.get(2)?,
        };
        endpoints.insert(id, endpoint);
    }
    Ok(endpoints)
}

fn counted<const N: usize>(
    connection: &Connection,
    sql: &str,
    values: [i64; N],
) -> Result<Vec<(InstitutionId, u64)>, SqliteFault> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(rusqlite::params_from_iter(values))?;
    let mut counts = Vec::new();
    while let Some(row) = rows.next()? {
        let (id, many): (String, i64) = (row.get(0)?, row.get(1)?);
        let id = InstitutionId::parse(&id).map_err(|_| malformed())?;
        counts.push((id, u64::try_from(many).map_err(|_| malformed())?));
    }
    Ok(counts)
}

fn malformed() -> SqliteFault {
    SqliteFault::Corrupt("a stored institution or version is malformed".into())
}
