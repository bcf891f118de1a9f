//! Reads all audit chains for `domain/verification`, one after the other (L1).

use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use crate::domain::attempt::Epoch;
use crate::domain::audit::{AuditEntry, AuditHeads};
use crate::domain::identifiers::Timestamp;
use crate::domain::verification::{AuditChains, AuditRecord, BreachSink, RegisteredChain, Report};
use crate::store::sqlite::loading::Columns;
use crate::store::sqlite::verify::side_table::unreadable;
use crate::store::sqlite::{SqliteFault, chain};

const CHAINS: &str =
    "SELECT chain_id, seq, at, actor, action, object, version, result, prev, hash FROM audit
    ORDER BY chain_id, seq";

const HASH: &str = "SELECT hash FROM audit WHERE chain_id = ?1 AND seq = ?2";

const REGISTERED: &str = "SELECT epoch, state = 'LIVE' FROM nodes WHERE lanes > 0 ORDER BY epoch";

/// L1: verifies each chain from its first record, and all of them together.
pub(super) fn chains(
    snapshot: &Connection,
    report: &mut Report,
    sink: &mut BreachSink<'_>,
) -> Result<(), SqliteFault> {
    let mut hash = snapshot.prepare_cached(HASH)?;
    let mut statement = snapshot.prepare(CHAINS)?;
    let mut rows = statement.query([])?;
    let mut chains = AuditChains::default();
    while let Some(row) = rows.next()? {
        report.records = report.records.saturating_add(1);
        let columns = Columns { row };
        let name: String = columns.get(0)?;
        let record = match record(&columns) {
            Ok(record) => record,
            Err(fault) => {
                sink(unreadable(&name, &fault));
                continue;
            }
        };
        if let Some(heads) = chains.follow(&name, &record, sink) {
            let place = format!("{name} {}", record.seq);
            chains.check_heads(&place, &heads, &hashes(&mut hash, &heads)?, sink);
        }
    }
    chains.end(&registered(snapshot)?, report, sink);
    Ok(())
}

/// The hashes of the records that these heads name, if they are there.
fn hashes(
    hash: &mut CachedStatement<'_>,
    heads: &AuditHeads,
) -> Result<Vec<Option<[u8; 32]>>, SqliteFault> {
    let named = heads.chains.iter().map(|(chain, seq)| {
        // A number out of range was never given.
        let seq = i64::try_from(*seq).unwrap_or(0);
        let found = hash.query_row(params![chain, seq], |row| row.get(0));
        Ok(found.optional()?)
    });
    named.collect()
}

fn registered(snapshot: &Connection) -> Result<Vec<RegisteredChain>, SqliteFault> {
    let mut statement = snapshot.prepare(REGISTERED)?;
    let rows = statement.query_map([], |row| {
        Ok(RegisteredChain {
            name: chain::name(Epoch(row.get(0)?)),
            is_live: row.get(1)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn record(columns: &Columns<'_>) -> Result<AuditRecord, SqliteFault> {
    Ok(AuditRecord {
        seq: columns.number(1)?,
        at: Timestamp::from_ms(columns.get(2)?),
        audit_entry: AuditEntry {
            actor: columns.get(3)?,
            action: columns.get::<String>(4)?.into(),
            object: columns.get(5)?,
            version: columns.number(6)?,
            result: columns.get(7)?,
        },
        prev: columns.get(8)?,
        hash: columns.get(9)?,
    })
}
