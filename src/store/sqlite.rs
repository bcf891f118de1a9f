//! The embedded store: one file, one writer thread that commits changes in batches, and a few
//! reader connections. Never acknowledges a write before it is synchronised.

use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::domain::attempt::Epoch;
use crate::domain::change::Change;
use crate::domain::identifiers::forgotten::Forgotten;
use crate::domain::identifiers::{InstitutionId, MerchantId, OrderKey, Timestamp};
use crate::domain::order::Order;
use crate::domain::personal::MobileNo;
use crate::files::reserve;
use crate::files::store_lock::{self, StoreLock, StorePaths};
use crate::seal::Seal;
use crate::store::{
    Changes, Committed, NonceRetention, OnCommit, OnFatal, OpenError, Orders, ReplayFloor,
    StoreError,
};
use fault::SqliteFault;
use loading::up_to_date;
use writer::write_ahead_log::WriteAheadLog;
use writer::{StoreThreads, WriteJob, WriteTransaction};

mod chain;
mod configuration;
mod exchange_log;
mod fault;
mod file;
mod inbox;
mod lease;
mod ledger;
mod loading;
mod queue;
mod refunds;
mod rows;
mod sealed;
pub(in crate::store) mod timeline;
pub(in crate::store) mod verify;
mod writer;

/// Number of reader connections. A read takes some tens of microseconds, so few are enough.
const READERS: usize = 4;

/// Maximum number of nonces deleted in one transaction, so that deletion does not delay payments.
const FORGOTTEN_AT_ONCE: i64 = 2_000;

/// The embedded store. Dropping it writes everything accepted and closes the file.
pub(super) struct Sqlite {
    // Drop order matters: threads end first, then connections close, then the lock is released:
    // closing its descriptor would drop the locks of connections that are still open.
    threads: StoreThreads,
    readers: Vec<Mutex<Connection>>,
    next_reader: AtomicUsize,
    seal: Arc<Seal>,
    packer: exchange_log::Packer,
    epoch: Epoch,
    shared: Arc<SqliteShared>,
    _held: StoreLock,
}

/// State shared by the threads and the readers.
struct SqliteShared {
    /// The creation times whose nonces were durably deleted.
    forgotten: RwLock<Arc<Forgotten>>,
    /// Batches committed so far.
    commits: AtomicU64,
    log: Arc<WriteAheadLog>,
    names: StorePaths,
    /// Minimum interval between the starts of two transactions.
    begin_every: Duration,
    on_fatal: OnFatal,
    on_commit: OnCommit,
}

impl SqliteShared {
    /// S1: if the file is no longer where it was opened, the reason why nothing may be acknowledged
    /// any more.
    fn astray(&self) -> Option<String> {
        let path = self.names.astray()?;
        Some(format!(
            "{} was removed, replaced or moved while the gateway was running, so new writes would be \
             lost; restore it, or put a complete copy in its place (without the -wal and -shm of \
             another file beside it), and start again; to replace a store, stop the gateway first",
            path.display()
        ))
    }

    fn forgotten(&self) -> Arc<Forgotten> {
        let forgotten = self.forgotten.read();
        Arc::clone(&forgotten.unwrap_or_else(PoisonError::into_inner))
    }

    fn forget(&self, forgotten: Arc<Forgotten>) {
        let mut known = self
            .forgotten
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *known = forgotten;
    }
}

impl Sqlite {
    /// Start-up as S1 requires: lock, schema, key, tail of the audit log, deleted nonces, epoch.
    pub(super) fn open(
        path: &Path,
        seal: Arc<Seal>,
        on_fatal: OnFatal,
        on_commit: OnCommit,
        begin_every: Duration,
    ) -> Result<Self, OpenError> {
        let held = store_lock::hold(path)?;
        let path = held.path();
        reserve::release(path);
        let mut connection = file::connect(path, file::ConnectionRole::Writer)?;
        file::migrate(&mut connection, &seal)?;
        held.sync_folder()?;
        let found = file::start(&mut connection, &seal)?;
        let readers = (0..READERS)
            .map(|_| file::connect(path, file::ConnectionRole::Reader).map(Mutex::new))
            .collect::<Result<_, _>>()?;
        let checkpoints = file::connect(path, file::ConnectionRole::Writer)?;
        held.recheck()?;
        let shared = Arc::new(SqliteShared {
            forgotten: RwLock::new(Arc::new(found.forgotten)),
            commits: AtomicU64::new(0),
            log: Arc::default(),
            names: held.names()?,
            begin_every,
            on_fatal,
            on_commit,
        });
        if let Err(error) = reserve::keep(path) {
            tracing::warn!(%error, "no disk space could be reserved for starting on a full disk");
        }
        Ok(Self {
            threads: StoreThreads::start(connection, checkpoints, found.link, &shared)
                .map_err(|error| OpenError::File(error.to_string()))?,
            readers,
            next_reader: AtomicUsize::new(0),
            seal,
            packer: exchange_log::Packer::new()
                .map_err(|error| OpenError::File(error.to_string()))?,
            epoch: found.epoch,
            shared,
            _held: held,
        })
    }

    /// This process's epoch, written to its attempts (S1).
    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Runs a query of one statement, which is a read transaction by itself.
    fn query<T>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, SqliteFault>,
    ) -> Result<T, StoreError> {
        let _reading = self.shared.log.reading();
        let connection = self.reader()?;
        Ok(up_to_date(&connection).and_then(|()| query(&connection))?)
    }

    /// Runs several statements in one read transaction.
    fn read<T>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, SqliteFault>,
    ) -> Result<T, StoreError> {
        let _reading = self.shared.log.reading();
        let connection = self.reader()?;
        let answer = (|| {
            up_to_date(&connection)?;
            connection.prepare_cached("BEGIN")?.execute([])?;
            let answer = query(&connection);
            connection.prepare_cached("COMMIT")?.execute([])?;
            answer
        })();
        Ok(answer?)
    }

    fn reader(&self) -> Result<MutexGuard<'_, Connection>, StoreError> {
        // The first free one, not round-robin: its page cache is the freshest.
        for reader in &self.readers {
            match reader.try_lock() {
                Ok(free) => return Ok(free),
                Err(TryLockError::Poisoned(left)) => return Ok(left.into_inner()),
                Err(TryLockError::WouldBlock) => (),
            }
        }
        let first = self.next_reader.fetch_add(1, Ordering::Relaxed);
        self.readers
            .get(first % READERS)
            .map(|reader| reader.lock().unwrap_or_else(PoisonError::into_inner))
            .ok_or_else(|| StoreError::Unavailable("no reader connection".into()))
    }

    /// Writes in the next batch; returns once that is durable.
    async fn write<T: Send + 'static>(
        &self,
        run: impl FnMut(&mut WriteTransaction<'_>) -> Result<T, SqliteFault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.threads
            .send(Box::new(WriteJob::new(run, reply)))
            .await?;
        answer
            .await
            .unwrap_or_else(|_| Err(StoreError::OutcomeUnknown("the writer stopped".into())))
    }
}

#[async_trait]
impl Orders for Sqlite {
    async fn order(&self, key: &OrderKey) -> Result<Option<Order>, StoreError> {
        self.read(|connection| loading::order(connection, &self.seal, key))
    }

    async fn last_institution(
        &self,
        merchant: &MerchantId,
        payer: &MobileNo,
    ) -> Result<Option<InstitutionId>, StoreError> {
        let digest = sealed::payer_digest(&self.seal, merchant, payer);
        self.query(|connection| loading::last_institution(connection, &digest))
    }
}

#[async_trait]
impl Changes for Sqlite {
    async fn commit(&self, change: &Change) -> Result<Committed, StoreError> {
        if let Some(configured) = change.configuration().cloned() {
            let at = change.at();
            let write = move |writing: &mut WriteTransaction<'_>| {
                configuration::write(writing, &configured, at)
            };
            return self.write(write).await;
        }
        // Encrypt in the caller's thread: the writer thread is shared by all.
        let write = rows::write(&self.seal, change)?;
        self.write(move |writing| write.apply(writing)).await
    }
}

impl ReplayFloor for Sqlite {
    fn forgotten(&self) -> Arc<Forgotten> {
        self.shared.forgotten()
    }
}

#[async_trait]
impl NonceRetention for Sqlite {
    async fn forget_nonces(&self, until: Timestamp) -> Result<(), StoreError> {
        loop {
            let forgotten = self
                .write(move |writing| writing.forget(until, FORGOTTEN_AT_ONCE))
                .await?;
            if i64::try_from(forgotten).unwrap_or(0) < FORGOTTEN_AT_ONCE {
                return Ok(());
            }
        }
    }
}
