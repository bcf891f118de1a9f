//! The audit log's single chain, written with the change it records (L2).

use rusqlite::params;

use crate::domain::audit::AuditEntry;
use crate::domain::identifiers::Timestamp;
use crate::store::sqlite::SqliteFault;
use crate::store::sqlite::writer::WriteTransaction;

/// The name of this store's audit chain.
pub(super) const CHAIN: &str = "main";

/// L1, L2: chained in the writer, because only there the order of commits is known.
pub(super) fn record(
    writing: &mut WriteTransaction<'_>,
    audit_entry: &AuditEntry,
    at: Timestamp,
) -> Result<(), SqliteFault> {
    let link = writing.link.follow(CHAIN, audit_entry, at);
    let seq = i64::try_from(link.seq).map_err(|_| SqliteFault::Corrupt("audit log full".into()))?;
    let sql = "INSERT INTO audit (chain_id, seq, at, actor, action, object, result, prev, hash)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    writing.connection.prepare_cached(sql)?.execute(params![
        CHAIN,
        seq,
        at.ms(),
        audit_entry.actor,
        audit_entry.action,
        audit_entry.object,
        audit_entry.result,
        writing.link.hash,
        link.hash
    ])?;
    writing.link = link;
    Ok(())
}
