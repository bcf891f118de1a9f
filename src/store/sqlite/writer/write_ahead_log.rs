//! The write-ahead log (WAL): checkpointed into the file off the commit path, and restarted before
//! it grows long. `SQLite` restarts it at a commit that finds it fully checkpointed and without
//! readers; under load that never happens by itself, so it is forced.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use crate::store::ledger::WalSize;
use crate::store::sqlite::SqliteShared;

/// How often the log is checkpointed into the file.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

/// From this size on the log is to restart: 64 MiB. Each restart blocks writes for two
/// synchronisations, so not more often.
const RESTART_PAGES: i64 = 16_384;

/// At this size the writer itself checkpoints whatever is left: 96 MiB. One more batch stays far
/// below 128 MiB.
const PAGES_MAX: i64 = 24_576;

/// Up to this many pages are checkpointed by the writer, between two batches: 1 MiB.
const REST: i64 = 256;

/// Maximum number of checkpoints of a long log without a pause.
const ROUNDS_MAX: u32 = 8;

/// A page in the log, with its header. Unit: bytes.
const PAGE_BYTES: u64 = 4_096 + 24;

/// The state of the log, shared by the writer, the readers and the checkpoint thread.
#[derive(Debug, Default)]
pub(in crate::store::sqlite) struct WriteAheadLog {
    /// Pages since the last restart.
    pages: AtomicI64,
    /// Of those, pages that are checkpointed.
    carried: AtomicI64,
    restarts: AtomicU32,
    /// Little is left to checkpoint: the writer can do it between two batches.
    is_ready: AtomicBool,
    /// The last checkpoint found the disk full.
    lacks_disk_space: AtomicBool,
    /// Held shared by readers; held exclusively while none may read.
    readers: RwLock<()>,
    /// Only one checkpoint at a time.
    carrying: Mutex<()>,
}

impl WriteAheadLog {
    /// The guard to hold while reading.
    pub(in crate::store::sqlite) fn reading(&self) -> RwLockReadGuard<'_, ()> {
        self.readers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn carrying(&self) -> MutexGuard<'_, ()> {
        self.carrying.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::store::sqlite) fn size(&self) -> WalSize {
        let bytes = |pages: i64| u64::try_from(pages).unwrap_or(0).saturating_mul(PAGE_BYTES);
        let pages = self.pages();
        WalSize {
            bytes: bytes(pages),
            carried_bytes: bytes(self.carried.load(Ordering::Relaxed).min(pages)),
            restarts: self.restarts.load(Ordering::Relaxed),
        }
    }

    /// Called by the writer connection's WAL hook after each commit.
    fn committed(&self, pages: i64) {
        if pages < self.pages.swap(pages, Ordering::Relaxed) {
            self.carried.store(0, Ordering::Relaxed);
            self.restarts.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn pages(&self) -> i64 {
        self.pages.load(Ordering::Relaxed)
    }

    fn left(&self) -> i64 {
        let carried = self.carried.load(Ordering::Relaxed);
        self.pages().saturating_sub(carried)
    }
}

/// Installs the hook that counts log pages on the writer connection.
pub(super) fn count(
    connection: &mut Connection,
    log: &Arc<WriteAheadLog>,
) -> Result<(), rusqlite::Error> {
    let log = Arc::clone(log);
    connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages| {
        log.committed(i64::from(pages));
        Ok(())
    }))
}

/// The writer's part in checkpointing, at the end of each batch.
pub(super) struct WalCheckpointing {
    /// Log size, in pages, at which it no longer waits until little is left.
    timeouts: i64,
}

impl WalCheckpointing {
    pub(super) fn new() -> Self {
        Self {
            timeouts: PAGES_MAX,
        }
    }

    /// Makes the next commit restart a long log.
    pub(super) fn restart_log(&mut self, connection: &Connection, shared: &SqliteShared) {
        let log = &shared.log;
        let pages = log.pages();
        if pages < RESTART_PAGES {
            self.timeouts = PAGES_MAX;
            return;
        }
        if !log.is_ready.swap(false, Ordering::Relaxed) && pages < self.timeouts {
            return;
        }
        let is_whole = {
            let _alone = log.carrying();
            // First checkpoint while others read; then again with readers locked out for a moment,
            // so that later readers use the file alone.
            checkpoint(connection, shared);
            let _nobody = log.readers.write().unwrap_or_else(PoisonError::into_inner);
            checkpoint(connection, shared)
        };
        if !is_whole {
            // Another process holds an old snapshot, or the disk is full. Do not retry at every
            // commit.
            self.timeouts = pages.saturating_add(RESTART_PAGES);
        }
    }
}

/// Checkpoints periodically until stopped.
pub(super) fn checkpoint_loop(
    connection: &Connection,
    stopped: &Receiver<()>,
    shared: &SqliteShared,
) {
    let mut seen = 0;
    let mut was_astray = false;
    while stopped.recv_timeout(CHECKPOINT_EVERY) == Err(RecvTimeoutError::Timeout) {
        // Checked also while nothing is written, and fatal only the second time in a row: a store
        // put back at once, or just being closed, is no fault. The writer acknowledges nothing
        // meanwhile (S1).
        let astray = shared.astray();
        if let (Some(why), true) = (&astray, was_astray) {
            return (shared.on_fatal)(why);
        }
        was_astray = astray.is_some();
        let commits = shared.commits.load(Ordering::Acquire);
        if commits == seen && shared.log.left() == 0 {
            continue;
        }
        seen = commits;
        for _ in 0..ROUNDS_MAX {
            let _alone = shared.log.carrying();
            let is_whole = checkpoint(connection, shared);
            if shared.log.pages() < RESTART_PAGES {
                break;
            }
            // Less is written during each round.
            if is_whole || shared.log.left() <= REST {
                shared.log.is_ready.store(true, Ordering::Relaxed);
                break;
            }
        }
    }
}

/// Checkpoints what it can without blocking anyone; returns whether that was all.
fn checkpoint(connection: &Connection, shared: &SqliteShared) -> bool {
    let log = &shared.log;
    let made = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
        Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
    });
    match made {
        Ok((pages, carried)) => {
            log.carried.store(carried.max(0), Ordering::Relaxed);
            if log.lacks_disk_space.swap(false, Ordering::Relaxed) {
                tracing::warn!(
                    "disk space is available again: the write-ahead log is checkpointed"
                );
            }
            carried == pages
        }
        Err(rusqlite::Error::SqliteFailure(cause, _))
            if matches!(
                cause.code,
                ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked
            ) =>
        {
            false
        }
        // No page was wrongly counted as checkpointed: all are still in the log, and the next round
        // retries (S3 is about data reported as stored that was not).
        Err(rusqlite::Error::SqliteFailure(cause, _)) if cause.code == ErrorCode::DiskFull => {
            if !log.lacks_disk_space.swap(true, Ordering::Relaxed) {
                tracing::error!(
                    "the disk is full: the write-ahead log cannot be checkpointed; new orders are \
                     rejected and stored ones are served until space is available"
                );
            }
            false
        }
        // A retried synchronisation could succeed without having stored anything (S3).
        Err(error) => {
            (shared.on_fatal)(&error.to_string());
            false
        }
    }
}
