//! The write-ahead log: carried over into the file off the commit path, and begun anew before it is
//! long. `SQLite` begins it anew with a commit that finds all of it carried over and no reader on it;
//! under load that moment never comes by itself, so it is made.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use crate::store::ledger::WalSize;
use crate::store::sqlite::SqliteShared;

/// How often the log is carried over into the file.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

/// From so many pages on it is to begin anew: 64 MiB. Each time nobody writes for as long as two
/// synchronisations take, so not more often.
const RESTART_PAGES: i64 = 16_384;

/// With so many the writer itself carries over what is left, however much that is: 96 MiB. One batch
/// more is far from 128 MiB.
const PAGES_MAX: i64 = 24_576;

/// So few pages are carried over by the writer, between two batches: 1 MiB.
const REST: i64 = 256;

/// Times that a long log is carried over without a pause before the next look, at most.
const ROUNDS_MAX: u32 = 8;

/// A page in the log: with its head. Unit: bytes.
const PAGE_BYTES: u64 = 4_096 + 24;

/// What the writer, the readers and the one who carries over know of the log.
#[derive(Debug, Default)]
pub(in crate::store::sqlite) struct WriteAheadLog {
    /// Pages since it last began anew.
    pages: AtomicI64,
    /// Of those, pages that stand in the file as well.
    carried: AtomicI64,
    restarts: AtomicU32,
    /// Little is left to carry over: the writer can do it between two batches.
    is_ready: AtomicBool,
    /// Carrying over found no room on the disk.
    lacks_disk_space: AtomicBool,
    /// Shared by whoever reads, and taken alone for the moment in which nobody may.
    readers: RwLock<()>,
    /// One carries over at a time.
    carrying: Mutex<()>,
}

impl WriteAheadLog {
    /// To be held while reading.
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

    /// After each commit of the writer, by the hook of its connection.
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

/// Has the log counted by whoever writes to it.
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

/// The writer's part: at the end of each batch.
pub(super) struct WalCheckpointing {
    /// Pages at which it does not wait any longer for little to be left.
    timeouts: i64,
}

impl WalCheckpointing {
    pub(super) fn new() -> Self {
        Self {
            timeouts: PAGES_MAX,
        }
    }

    /// Sees to it that the next commit begins a long log anew.
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
            // All of it while others read; then, for a moment, nobody does, and whoever comes after that
            // reads the file alone.
            checkpoint(connection, shared);
            let _nobody = log.readers.write().unwrap_or_else(PoisonError::into_inner);
            checkpoint(connection, shared)
        };
        if !is_whole {
            // Another process is reading what is old, or the disk is full. Not at every commit.
            self.timeouts = pages.saturating_add(RESTART_PAGES);
        }
    }
}

/// Carries over again and again until told to stop.
pub(super) fn checkpoint_loop(
    connection: &Connection,
    stopped: &Receiver<()>,
    shared: &SqliteShared,
) {
    let mut seen = 0;
    let mut was_astray = false;
    while stopped.recv_timeout(CHECKPOINT_EVERY) == Err(RecvTimeoutError::Timeout) {
        // Also while nobody writes, and not at the first look: a store that is put back at once, or
        // that is just being closed, is no fault. The writer acknowledges nothing meanwhile (S1).
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
            // What came meanwhile is less each time.
            if is_whole || shared.log.left() <= REST {
                shared.log.is_ready.store(true, Ordering::Relaxed);
                break;
            }
        }
    }
}

/// Carries over what can be without making anybody wait; returns whether that was all.
fn checkpoint(connection: &Connection, shared: &SqliteShared) -> bool {
    let log = &shared.log;
    let made = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
        Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
    });
    match made {
        Ok((pages, carried)) => {
            log.carried.store(carried.max(0), Ordering::Relaxed);
            if log.lacks_disk_space.swap(false, Ordering::Relaxed) {
                tracing::warn!("there is room again: the log is carried over into the store");
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
        // No page was counted as carried over that was not: all stand in the log as before, and it is
        // tried again (S3 is about what was said to be stored and was not).
        Err(rusqlite::Error::SqliteFailure(cause, _)) if cause.code == ErrorCode::DiskFull => {
            if !log.lacks_disk_space.swap(true, Ordering::Relaxed) {
                tracing::error!(
                    "the disk is full: the log cannot be carried over into the store; new orders \
                     are refused, and what is stored is served, until there is room"
                );
            }
            false
        }
        // A second synchronisation could succeed without having stored anything (S3).
        Err(error) => {
            (shared.on_fatal)(&error.to_string());
            false
        }
    }
}
