//! Applied configuration versions and the constraints on the next one (F2).

use std::collections::BTreeMap;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::domain::change::ConfigurationChange;
use crate::domain::identifiers::{AccountId, InstitutionId, ReceiverId, Timestamp};
use crate::domain::institutions::{AccountKey, InstitutionEndpoint};
use crate::store::sqlite::chain::record;
use crate::store::sqlite::writer::WriteTransaction;
use crate::store::sqlite::{Sqlite, SqliteFault};
use crate::store::{
    Committed, ConfigurationLog, Dependents, ENDED_COUNTED_MAX, RemovalGuard, StoreError,
};

/// Final states are listed so that the partial index is used.
const UNFINISHED: &str = "SELECT institution_id, account_id, SUM(many) FROM (
        SELECT institution_id, account_id, COUNT(*) AS many FROM attempts
        WHERE state <> 'PAID' AND state <> 'FAILED' AND state <> 'CLOSED'
        GROUP BY institution_id, account_id
        UNION ALL
        SELECT a.institution_id, a.account_id, COUNT(*) FROM refunds r
        JOIN attempts a ON a.attempt_id = r.attempt_id
        WHERE r.state <> 'FAILED' AND r.state <> 'SUCCEEDED'
        GROUP BY a.institution_id, a.account_id)
    GROUP BY institution_id, account_id";

/// Steps from account to account in the index and counts up to a limit, so that the time does not
/// grow with the number of attempts.
const ENDED: &str = "WITH RECURSIVE known (institution_id, account_id) AS (
        SELECT (SELECT institution_id FROM attempts WHERE ended_at IS NOT NULL
                ORDER BY institution_id, account_id LIMIT 1),
            (SELECT account_id FROM attempts WHERE ended_at IS NOT NULL
                ORDER BY institution_id, account_id LIMIT 1)
        UNION ALL
        SELECT (SELECT institution_id FROM attempts WHERE ended_at IS NOT NULL
                AND (institution_id, account_id) > (known.institution_id, known.account_id)
                ORDER BY institution_id, account_id LIMIT 1),
            (SELECT account_id FROM attempts WHERE ended_at IS NOT NULL
                AND (institution_id, account_id) > (known.institution_id, known.account_id)
                ORDER BY institution_id, account_id LIMIT 1)
        FROM known WHERE known.institution_id IS NOT NULL)
    SELECT institution_id, account_id, (SELECT COUNT(*) FROM (SELECT 1 FROM attempts
        WHERE ended_at >= ?1 AND institution_id = known.institution_id
        AND account_id = known.account_id LIMIT ?2))
    FROM known WHERE institution_id IS NOT NULL";

#[async_trait]
impl ConfigurationLog for Sqlite {
    async fn dependents(&self, since: Timestamp) -> Result<RemovalGuard, StoreError> {
        self.read(|connection| dependents(connection, since))
    }
}

/// Writes the audit entry and the version together (L2); the stored version never decreases.
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
    let sql = "INSERT INTO accounts (institution_id, account_id, receiver_id) VALUES (?1, ?2, ?3)
        ON CONFLICT (institution_id, account_id) DO UPDATE SET receiver_id = excluded.receiver_id";
    let mut written = writing.connection.prepare_cached(sql)?;
    for ((institution, account), receiver) in &configured.accounts {
        written.execute(params![
            institution.as_str(),
            account.as_str(),
            receiver.as_str()
        ])?;
    }
    drop(written);
    record(writing, &configured.audit_entry, at)?;
    Ok(Committed::Done)
}

/// Objects that ended after `since` count.
fn dependents(connection: &Connection, since: Timestamp) -> Result<RemovalGuard, SqliteFault> {
    let version: Option<i64> = connection
        .prepare_cached("SELECT number FROM meta WHERE name = 'configuration'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    let mut dependents = RemovalGuard {
        version: u64::try_from(version.unwrap_or(0)).map_err(|_| malformed())?,
        ..RemovalGuard::default()
    };
    for (key, many) in counted(connection, UNFINISHED, [])? {
        dependents.accounts.entry(key).or_default().unfinished = many;
    }
    let limit = i64::try_from(ENDED_COUNTED_MAX).unwrap_or(i64::MAX);
    for (key, many) in counted(connection, ENDED, [since.ms(), limit])? {
        if many > 0 {
            dependents.accounts.entry(key).or_default().ended = many;
        }
    }
    dependents.held = by_institution(&dependents.accounts);
    dependents.endpoints = endpoints(connection)?;
    dependents.receivers = receivers(connection)?;
    Ok(dependents)
}

/// An institution's dependents are the sum of its accounts' dependents.
fn by_institution(
    accounts: &BTreeMap<AccountKey, Dependents>,
) -> BTreeMap<InstitutionId, Dependents> {
    let mut held: BTreeMap<InstitutionId, Dependents> = BTreeMap::new();
    for ((institution, _), one) in accounts {
        let all = held.entry(institution.clone()).or_default();
        all.unfinished = all.unfinished.saturating_add(one.unfinished);
        all.ended = all.ended.saturating_add(one.ended).min(ENDED_COUNTED_MAX);
    }
    held
}

fn receivers(connection: &Connection) -> Result<BTreeMap<AccountKey, ReceiverId>, SqliteFault> {
    let sql = "SELECT institution_id, account_id, receiver_id FROM accounts";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut receivers = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let receiver: String = row.get(2)?;
        let receiver = ReceiverId::parse(&receiver).map_err(|_| malformed())?;
        receivers.insert(account_key(row)?, receiver);
    }
    Ok(receivers)
}

fn account_key(row: &Row<'_>) -> Result<AccountKey, SqliteFault> {
    let (institution, account): (String, String) = (row.get(0)?, row.get(1)?);
    let institution = InstitutionId::parse(&institution).map_err(|_| malformed())?;
    let account = AccountId::parse(&account).map_err(|_| malformed())?;
    Ok((institution, account))
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
) -> Result<Vec<(AccountKey, u64)>, SqliteFault> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(rusqlite::params_from_iter(values))?;
    let mut counts = Vec::new();
    while let Some(row) = rows.next()? {
        let many: i64 = row.get(2)?;
        let many = u64::try_from(many).map_err(|_| malformed())?;
        counts.push((account_key(row)?, many));
    }
    Ok(counts)
}

fn malformed() -> SqliteFault {
    SqliteFault::Corrupt("a stored institution, account or version is malformed".into())
}
