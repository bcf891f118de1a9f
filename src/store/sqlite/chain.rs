//! The audit log's chains: one for each process, written with the changes it records (L1, L2).
//!
//! A chain is opened with its first record, so that a process that records nothing has none. It is
//! closed by its own process when that stops, or by the next one, which holds the file's lock and
//! so knows that the other is gone. The store reads no clock: what it records of a chain itself has
//! the time of the record beside it.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use crate::domain::attempt::Epoch;
use crate::domain::audit::{AuditEntry, AuditHeads, CHAIN_CLOSE, ChainLink, FIRST_CHAIN};
use crate::domain::identifiers::Timestamp;
use crate::store::OpenError;
use crate::store::sqlite::SqliteFault;
use crate::store::sqlite::writer::WriteTransaction;

/// This store has one node.
const NODE: u32 = 1;

/// One writer thread, so one lane.
const LANE: u32 = 0;

/// How often the heads of chains are recorded, while there are records. Unit: milliseconds.
const HEADS_EVERY_MS: u64 = 60_000;

const INSERT: &str = "INSERT INTO audit (chain_id, seq, at, actor, action, object, version, result,
    prev, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";

/// The chain of a process.
pub(super) fn name(epoch: Epoch) -> String {
    format!("{NODE}.{}.{LANE}", epoch.0)
}

/// Every chain ever opened, oldest first.
pub(super) fn names(connection: &Connection) -> Result<Vec<String>, rusqlite::Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM audit WHERE chain_id = ?1)";
    let is_old: bool = connection.query_row(sql, params![FIRST_CHAIN], |row| row.get(0))?;
    let mut names: Vec<_> = is_old.then(|| FIRST_CHAIN.to_owned()).into_iter().collect();
    let sql = "SELECT epoch FROM nodes WHERE lanes > 0 ORDER BY epoch";
    let mut statement = connection.prepare_cached(sql)?;
    let epochs = statement.query_map([], |row| row.get(0).map(Epoch))?;
    for epoch in epochs {
        names.push(name(epoch?));
    }
    Ok(names)
}

/// This process's chain. A transaction works on a copy, which replaces it at the commit.
#[derive(Debug, Clone)]
pub(super) struct OwnChain {
    epoch: Epoch,
    name: Arc<str>,
    /// Its last record; [`ChainLink::START`] until it is opened.
    link: ChainLink,
    /// When that was recorded.
    at: Timestamp,
    /// When it last recorded heads.
    heads_at: Timestamp,
    /// The chain opened before it and that one's last record, until its own first heads name them.
    earlier: Option<(Arc<str>, ChainLink)>,
    /// How many chains were ever opened.
    opened: u64,
}

impl OwnChain {
    /// Before its first record. `earlier` is the last chain opened before, which is closed, and
    /// `opened` how many there were.
    pub(super) fn new(epoch: Epoch, earlier: Option<(Arc<str>, ChainLink)>, opened: u64) -> Self {
        let never = Timestamp::from_ms(0);
        Self {
            epoch,
            name: name(epoch).into(),
            link: ChainLink::START,
            at: never,
            heads_at: never,
            earlier,
            opened,
        }
    }

    fn append(
        &mut self,
        connection: &Connection,
        audit_entry: &AuditEntry,
        at: Timestamp,
    ) -> Result<(), SqliteFault> {
        self.link = append(connection, (&self.name, self.link), audit_entry, at)?;
        self.at = at;
        Ok(())
    }

    fn open(&mut self, connection: &Connection, at: Timestamp) -> Result<(), SqliteFault> {
        let sql = "UPDATE nodes SET lanes = 1 WHERE epoch = ?1";
        connection.execute(sql, params![self.epoch.0])?;
        self.opened = self.opened.saturating_add(1);
        self.append(connection, &AuditEntry::chain_open(&self.name), at)?;
        self.heads_at = at;
        if self.earlier.is_some() {
            self.record_heads(connection, at)?;
        }
        Ok(())
    }

    /// Names the last record of every chain open since the last such record.
    fn record_heads(&mut self, connection: &Connection, at: Timestamp) -> Result<(), SqliteFault> {
        let earlier = self.earlier.take();
        let earlier = earlier.as_ref().map(|(name, link)| (&**name, *link));
        let chains: Vec<_> = earlier
            .into_iter()
            .chain([(&*self.name, self.link)])
            .collect();
        let heads = AuditHeads::of(self.opened, &chains);
        self.append(connection, &heads.audit_entry(&self.name), at)?;
        self.heads_at = at;
        Ok(())
    }

    /// A clock set back is also a reason.
    fn are_heads_due(&self) -> bool {
        self.at.ms().abs_diff(self.heads_at.ms()) >= HEADS_EVERY_MS
    }

    /// Ends the chain of a process that stops, in a transaction of its own; none if it was never
    /// opened.
    pub(super) fn close(mut self, connection: &Connection) -> Result<(), SqliteFault> {
        if self.link == ChainLink::START {
            return Ok(());
        }
        connection.execute_batch("BEGIN IMMEDIATE")?;
        let at = self.at;
        self.record_heads(connection, at)?;
        let end = AuditEntry::chain_close(&self.name, &self.name);
        self.append(connection, &end, at)?;
        connection.execute_batch("COMMIT")?;
        Ok(())
    }
}

/// L1, L2: chained in the writer, because only there the order of commits is known.
pub(super) fn record(
    writing: &mut WriteTransaction<'_>,
    audit_entry: &AuditEntry,
    at: Timestamp,
) -> Result<(), SqliteFault> {
    let (chain, connection) = (&mut writing.chain, writing.connection);
    if chain.link == ChainLink::START {
        chain.open(connection, at)?;
    }
    chain.append(connection, audit_entry, at)?;
    if chain.are_heads_due() {
        chain.record_heads(connection, at)?;
    }
    Ok(())
}

fn append(
    connection: &Connection,
    (chain, before): (&str, ChainLink),
    audit_entry: &AuditEntry,
    at: Timestamp,
) -> Result<ChainLink, SqliteFault> {
    let link = before.follow(chain, audit_entry, at);
    let full = |_| SqliteFault::Corrupt("audit log full".into());
    let seq = i64::try_from(link.seq).map_err(full)?;
    let version = i64::try_from(audit_entry.version).map_err(full)?;
    connection.prepare_cached(INSERT)?.execute(params![
        chain,
        seq,
        at.ms(),
        audit_entry.actor,
        audit_entry.action,
        audit_entry.object,
        version,
        audit_entry.result,
        before.hash,
        link.hash
    ])?;
    Ok(link)
}

/// Checks the tail of the last chain, closes that one if its process did not, and returns the
/// chain of this process. Only for the holder of the file's lock.
pub(super) fn begin(connection: &Connection, epoch: Epoch) -> Result<OwnChain, OpenError> {
    let names = names(connection)?;
    let opened = u64::try_from(names.len()).unwrap_or(u64::MAX);
    let Some(last) = names.last() else {
        return Ok(OwnChain::new(epoch, None, opened));
    };
    let (mut link, at, action) = tail(connection, last)?;
    if action != CHAIN_CLOSE {
        let end = AuditEntry::chain_close(last, &name(epoch));
        link = append(connection, (last, link), &end, at)?;
    }
    let earlier = (last.as_str().into(), link);
    Ok(OwnChain::new(epoch, Some(earlier), opened))
}

/// The last record of a chain: its link, time and action. Its hash must match its content and the
/// previous hash (L1).
fn tail(connection: &Connection, chain: &str) -> Result<(ChainLink, Timestamp, String), OpenError> {
    let sql = "SELECT seq, at, actor, action, object, version, result, prev, hash FROM audit
        WHERE chain_id = ?1 ORDER BY seq DESC LIMIT 1";
    let last = connection.query_row(sql, params![chain], |row| {
        let numbers: (i64, i64) = (row.get(0)?, row.get(5)?);
        let at = Timestamp::from_ms(row.get(1)?);
        let action: String = row.get(3)?;
        let audit_entry = AuditEntry {
            actor: row.get(2)?,
            action: action.clone().into(),
            object: row.get(4)?,
            version: 0,
            result: row.get(6)?,
        };
        let hashes: ([u8; 32], [u8; 32]) = (row.get(7)?, row.get(8)?);
        Ok((numbers, (at, action), audit_entry, hashes))
    });
    let last = last.optional()?.ok_or(OpenError::Audit)?;
    let ((seq, version), (at, action), mut audit_entry, (prev, hash)) = last;
    let number = |number| u64::try_from(number).map_err(|_| OpenError::Audit);
    audit_entry.version = number(version)?;
    let before = ChainLink {
        seq: number(seq)?.saturating_sub(1),
        hash: prev,
    };
    let link = before.follow(chain, &audit_entry, at);
    if link.hash == hash {
        Ok((link, at, action))
    } else {
        Err(OpenError::Audit)
    }
}
