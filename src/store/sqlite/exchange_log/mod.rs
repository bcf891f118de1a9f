//! Stores blocks as rows: compressed as a whole, sealed with their row's metadata as binding,
//! chained, removed from the front.

pub(super) mod reading;

use std::io;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};
use zstd::bulk::Compressor;

use crate::domain::identifiers::{Timestamp, hex};
use crate::domain::verification::{BlockHead, block_hash, chained};
use crate::seal::SealBinding;
use crate::store::StoreError;
use crate::store::exchange_log::{BLOCKS_REMOVED_AT_ONCE, Block, ExchangeLog, Removed, digest};
use crate::store::sqlite::sealed::not_sealed;
use crate::store::sqlite::{Sqlite, SqliteFault};

/// The next level hardly makes blocks smaller, for a third more work.
const EFFORT: i32 = 1;

/// Approximate overhead of a row. Unit: bytes.
const ROW_BYTES: usize = 128;

/// A Zstandard compressor (RFC 8878); its tables are allocated once.
pub(super) struct Packer(Mutex<Compressor<'static>>);

impl Packer {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(Mutex::new(Compressor::new(EFFORT)?)))
    }

    fn pack(&self, plain: &[u8]) -> io::Result<Vec<u8>> {
        let mut packer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        packer.compress(plain)
    }
}

/// A block ready to be stored, without its place in the chain.
struct Row {
    first: Timestamp,
    last: Timestamp,
    dropped: String,
    orders: Vec<u8>,
    sealed: Vec<u8>,
    hash: [u8; 32],
}

#[async_trait]
impl ExchangeLog for Sqlite {
    async fn append(&self, block: &Block) -> Result<(), StoreError> {
        // Compress and seal in the caller's thread: the writer thread is shared by all.
        let row = self.row(block)?;
        self.write(move |writing| row.insert(writing.connection))
            .await
    }

    async fn remove_oldest(
        &self,
        before: Option<Timestamp>,
        bytes_max: u64,
    ) -> Result<Removed, StoreError> {
        // A check that finds nothing must not cost a synchronisation.
        let (removed, last) = self.read(|connection| oldest(connection, before, bytes_max))?;
        if let Some(last) = last {
            self.write(move |writing| {
                let sql = "DELETE FROM exchange_log WHERE block <= ?1";
                writing.connection.prepare_cached(sql)?.execute([last])?;
                Ok(())
            })
            .await?;
        }
        Ok(removed)
    }
}

/// The seal is bound to the hash of the row's other columns.
fn place(head: &str) -> SealBinding<'_> {
    SealBinding {
        table: "exchange_log",
        row: head,
        column: "sealed",
    }
}

impl Sqlite {
    fn row(&self, block: &Block) -> Result<Row, StoreError> {
        let not_packed = |fault: &dyn ToString| {
            StoreError::Unavailable(format!("a block: {}", fault.to_string()))
        };
        let digests = block.orders.iter().map(|key| digest(&self.seal, key));
        let orders = digests.collect::<Vec<_>>().concat();
        let dropped = serde_json::to_string(&block.dropped).map_err(|fault| not_packed(&fault))?;
        let packed = self.packer.pack(&block.lines);
        let packed = packed.map_err(|fault| not_packed(&fault))?;
        let (first, last) = (block.first, block.last);
        let head = BlockHead {
            first,
            last,
            dropped: &dropped,
            orders: &orders,
        };
        let head = head.hash();
        let sealed = self.seal.seal(place(&hex(&head)), &packed);
        let sealed = sealed.map_err(not_sealed)?.into_bytes();
        Ok(Row {
            first,
            last,
            hash: block_hash(&head, &sealed),
            dropped,
            orders,
            sealed,
        })
    }
}

impl Row {
    /// Chained in the writer, because only there the order of commits is known.
    fn insert(&self, connection: &Connection) -> Result<(), SqliteFault> {
        let sql = "SELECT hash, upto FROM exchange_log ORDER BY block DESC LIMIT 1";
        let mut newest = connection.prepare_cached(sql)?;
        let newest = newest.query_row([], |row| Ok((row.get(0)?, row.get(1)?)));
        let (prev, before): ([u8; 32], i64) = newest.optional()?.unwrap_or_default();
        let bytes = self.sealed.len().saturating_add(self.orders.len());
        let bytes = i64::try_from(bytes.saturating_add(ROW_BYTES)).unwrap_or(i64::MAX);
        let sql = "INSERT INTO exchange_log
            (first_at, last_at, prev, hash, bytes, upto, dropped, orders, sealed)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        connection.prepare_cached(sql)?.execute(params![
            self.first.ms(),
            self.last.ms(),
            prev,
            chained(&prev, &self.hash),
            bytes,
            before.saturating_add(bytes),
            self.dropped,
            self.orders,
            self.sealed
        ])?;
        Ok(())
    }
}

/// Which of the oldest blocks have to be removed, and the last of them.
fn oldest(
    connection: &Connection,
    before: Option<Timestamp>,
    bytes_max: u64,
) -> Result<(Removed, Option<i64>), SqliteFault> {
    let size = |bytes: i64| u64::try_from(bytes).unwrap_or_default();
    let sql = "SELECT upto FROM exchange_log ORDER BY block DESC LIMIT 1";
    let mut newest = connection.prepare_cached(sql)?;
    let newest: Option<i64> = newest.query_row([], |row| row.get(0)).optional()?;
    let newest = newest.unwrap_or_default();
    let sql = "SELECT block, last_at, bytes, upto FROM exchange_log ORDER BY block LIMIT ?1";
    let mut oldest = connection.prepare_cached(sql)?;
    let mut rows = oldest.query([BLOCKS_REMOVED_AT_ONCE.saturating_add(1)])?;
    let (mut removed, mut last) = (Removed::default(), None);
    while let Some(row) = rows.next()? {
        let (bytes, upto): (i64, i64) = (row.get(2)?, row.get(3)?);
        // The size of this block and all later ones.
        removed.bytes = size(newest.saturating_sub(upto).saturating_add(bytes));
        let is_old = before.is_some_and(|before| row.get(1).is_ok_and(|at: i64| at < before.ms()));
        let is_too_much = removed.bytes > bytes_max;
        let gone = removed.by_age.saturating_add(removed.by_size);
        if !(is_old || is_too_much) || gone >= u64::from(BLOCKS_REMOVED_AT_ONCE) {
            return Ok((removed, last));
        }
        let count = if is_old {
            &mut removed.by_age
        } else {
            &mut removed.by_size
        };
        *count = count.saturating_add(1);
        last = Some(row.get(0)?);
        removed.bytes = 0;
    }
    Ok((removed, last))
}
