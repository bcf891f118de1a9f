//! The embedded store: one file, one writer thread that commits whole batches of changes at once,
//! and a few connections that read. Never acknowledges what is not synchronised.

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
use crate::domain::identifiers::{InstitutionId, MerchantId, PayOrderNo, Timestamp};
use crate::domain::order::Order;
use crate::domain::personal::MobileNo;
use crate::domain::verification::{BreachSink, Report};
use crate::files::store_lock::{self, StoreLock, StorePaths};
use crate::files::{self, reserve};
use crate::seal::Seal;
use crate::store::outbox::{
    DeadEventFilter, DeadEvents, DeliveryShares, EventPageLimit, LaneShares, NumberedEvent,
};
use crate::store::timeline::Timeline;
use crate::store::{
    ArchiveOutcome, Committed, DESTINATION_SHARE, DeliveryOutcome, InboxMessage, Lease,
    LeaseCompletion, LeaseKind, OnCommit, OnFatal, OpenError, OrderKey, RemovalGuard, Store,
    StoreError,
};
use fault::SqliteFault;
use lease::lanes;
use loading::up_to_date;
use queue::dead_events;
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
mod timeline;
mod verify;
mod writer;

/// Connections that read. A read takes some tens of microseconds, so few are enough.
const READERS: usize = 4;

/// Nonces forgotten in one transaction, so that forgetting holds up no payment.
const FORGOTTEN_AT_ONCE: i64 = 2_000;

/// The embedded store. Dropping it writes what was accepted and lets go of the file.
pub(super) struct Sqlite {
    // Threads end before connections close, and what is held goes last: closing it would drop the
    // locks of connections that are still open.
    threads: StoreThreads,
    readers: Vec<Mutex<Connection>>,
    next_reader: AtomicUsize,
    seal: Arc<Seal>,
    packer: exchange_log::Packer,
    epoch: Epoch,
    shared: Arc<SqliteShared>,
    _held: StoreLock,
}

/// What the threads tell each other and the readers.
struct SqliteShared {
    /// Of which moments nonces were forgotten, durably.
    forgotten: RwLock<Arc<Forgotten>>,
    /// Batches committed so far.
    commits: AtomicU64,
    log: Arc<WriteAheadLog>,
    names: StorePaths,
    /// Between the beginnings of two transactions at least.
    begin_every: Duration,
    on_fatal: OnFatal,
    on_commit: OnCommit,
}

impl SqliteShared {
    /// S1: why nothing may be acknowledged any more, if the store is not where it was opened.
    fn astray(&self) -> Option<String> {
        let path = self.names.astray()?;
        Some(format!(
            "{} was removed, replaced or moved beneath the running gateway, so what is written now \
             would be lost; put it back, or a whole copy in its place (with no -wal and -shm of another \
             file beside it), and start again; to replace a store, stop the gateway first",
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

/// See [`crate::store::timeline::timeline`].
pub(in crate::store) fn timeline(
    path: &Path,
    seal: &Seal,
    named: &str,
) -> Result<Option<Timeline>, StoreError> {
    let unusable = |error: std::io::Error| StoreError::Unavailable(error.to_string());
    files::expect_plain(path).map_err(unusable)?;
    Ok(timeline::read(path, seal, named)?)
}

/// See [`crate::store::verify::verify`].
pub(in crate::store) fn verify(
    path: &Path,
    hear: &mut BreachSink<'_>,
) -> Result<Report, OpenError> {
    files::expect_plain(path).map_err(|error| OpenError::File(error.to_string()))?;
    verify::whole(path, hear)
}

impl Sqlite {
    /// Start-up by S1: lock, schema, key, tail of the audit log, what is forgotten, epoch.
    pub(super) fn open(
        path: &Path,
        seal: Arc<Seal>,
        (on_fatal, on_commit): (OnFatal, OnCommit),
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
            tracing::warn!(%error, "no room is kept for a start on a full disk");
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

    /// Asks a question of one statement, which is a read transaction by itself.
    fn ask<T>(
        &self,
        ask: impl FnOnce(&Connection) -> Result<T, SqliteFault>,
    ) -> Result<T, StoreError> {
        let _reading = self.shared.log.reading();
        let connection = self.reader()?;
        Ok(up_to_date(&connection).and_then(|()| ask(&connection))?)
    }

    /// Asks one question in one read transaction.
    fn read<T>(
        &self,
        ask: impl FnOnce(&Connection) -> Result<T, SqliteFault>,
    ) -> Result<T, StoreError> {
        let _reading = self.shared.log.reading();
        let connection = self.reader()?;
        let answer = (|| {
            up_to_date(&connection)?;
            connection.prepare_cached("BEGIN")?.execute([])?;
            let answer = ask(&connection);
            connection.prepare_cached("COMMIT")?.execute([])?;
            answer
        })();
        Ok(answer?)
    }

    fn reader(&self) -> Result<MutexGuard<'_, Connection>, StoreError> {
        // The first that is free, not the next in turn: its pages are the freshest.
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
            .ok_or_else(|| StoreError::Unavailable("no connection".into()))
    }

    /// Has something written in the next batch; returns once that is durable.
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
impl Store for Sqlite {
    async fn order(&self, key: &OrderKey) -> Result<Option<Order>, StoreError> {
        self.read(|connection| loading::order(connection, &self.seal, key))
    }

    async fn commit(&self, change: &Change) -> Result<Committed, StoreError> {
        if let Some(configured) = change.configuration().cloned() {
            let at = change.at();
            let write = move |writing: &mut WriteTransaction<'_>| {
                configuration::write(writing, &configured, at)
            };
            return self.write(write).await;
        }
        // Sealed here, in the caller's thread: the writer's time is everybody's.
        let write = rows::write(&self.seal, change)?;
        self.write(move |writing| write.apply(writing)).await
    }

    async fn keep(&self, message: &InboxMessage) -> Result<ArchiveOutcome, StoreError> {
        let message = inbox::seal(&self.seal, message)?;
        // A flood of forged messages must not reach the writer.
        if let Some(kept) = self.read(|connection| message.judge(connection))? {
            return Ok(kept);
        }
        self.write(move |writing| message.write(writing)).await
    }

    async fn last_used(
        &self,
        merchant: &MerchantId,
        payer: &MobileNo,
    ) -> Result<Option<InstitutionId>, StoreError> {
        let digest = sealed::payer_digest(&self.seal, merchant, payer);
        self.ask(|connection| loading::last_used(connection, &digest))
    }

    async fn lease(
        &self,
        work: LeaseKind,
        now: Timestamp,
        count: u32,
    ) -> Result<Vec<Lease>, StoreError> {
        match work {
            LeaseKind::Events => self.lease_events(&|_| DESTINATION_SHARE, now, count).await,
            LeaseKind::Orders => self.lease_orders(&|_| u32::MAX, now, count).await,
            LeaseKind::OrphanedCalls => self.lease_orphaned(now, count).await,
        }
    }

    async fn lease_orders(
        &self,
        shares: &LaneShares<'_>,
        now: Timestamp,
        count: u32,
    ) -> Result<Vec<Lease>, StoreError> {
        let due = self.read(|connection| lanes::due(connection, shares, now, count))?;
        self.take_orders(due, (now, lanes::LeaseReason::Due)).await
    }

    async fn next_order(&self, shares: &LaneShares<'_>) -> Result<Option<Timestamp>, StoreError> {
        self.read(|connection| lanes::next_due(connection, shares))
    }

    async fn lease_named(
        &self,
        orders: &[PayOrderNo],
        now: Timestamp,
    ) -> Result<Vec<Lease>, StoreError> {
        let free = self.read(|connection| lanes::free(connection, orders, now))?;
        self.take_orders(free, (now, lanes::LeaseReason::Named))
            .await
    }

    async fn reschedule(&self, order: &Order, fence: u64) -> Result<LeaseCompletion, StoreError> {
        let rescheduled = lanes::OrderReschedule::of(order, fence);
        self.write(move |writing| rescheduled.apply(writing)).await
    }

    async fn lease_events(
        &self,
        shares: &DeliveryShares,
        now: Timestamp,
        count: u32,
    ) -> Result<Vec<Lease>, StoreError> {
        // Looked for here: with many destinations that takes longer than taking, and the writer's
        // time is everybody's.
        let due = self.read(|connection| queue::due(connection, shares, now, count))?;
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let taken = self
            .write(move |writing| lease::take_events(writing, &due, now))
            .await?;
        self.read(|connection| lease::load(connection, &self.seal, LeaseKind::Events, &taken))
    }

    async fn next_event(&self, shares: &DeliveryShares) -> Result<Option<Timestamp>, StoreError> {
        self.read(|connection| queue::next_due(connection, shares))
    }

    async fn events_after(
        &self,
        merchant: &MerchantId,
        after: u64,
        room: EventPageLimit,
    ) -> Result<Vec<NumberedEvent>, StoreError> {
        self.read(|connection| dead_events::after(connection, &self.seal, merchant, (after, room)))
    }

    async fn dead(&self, which: &DeadEventFilter, shown: u32) -> Result<DeadEvents, StoreError> {
        self.read(|connection| dead_events::dead(connection, which, shown))
    }

    async fn resend(
        &self,
        which: &DeadEventFilter,
        by: &str,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let mut resent = 0_u64;
        loop {
            let (which, by) = (which.clone(), by.to_owned());
            let some = self
                .write(move |writing| dead_events::resend(writing, &which, &by, now))
                .await?;
            resent = resent.saturating_add(some);
            if some < dead_events::RESENT_AT_ONCE {
                return Ok(resent);
            }
        }
    }

    async fn settle(
        &self,
        lease: &Lease,
        fate: DeliveryOutcome,
    ) -> Result<LeaseCompletion, StoreError> {
        let Some(settlement) = lease::EventCompletion::of(lease, fate) else {
            return Ok(LeaseCompletion::LeaseLost);
        };
        self.write(move |writing| settlement.apply(writing)).await
    }

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

    async fn bring_forward(
        &self,
        by: Option<Duration>,
        now: Timestamp,
    ) -> Result<Duration, StoreError> {
        self.write(move |writing| lease::bring_forward(writing, by, now))
            .await
    }

    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn forgotten(&self) -> Arc<Forgotten> {
        self.shared.forgotten()
    }

    async fn next_due(&self, work: LeaseKind) -> Result<Option<Timestamp>, StoreError> {
        match work {
            LeaseKind::Events => self.next_event(&|_| DESTINATION_SHARE).await,
            LeaseKind::Orders => self.next_order(&|_| u32::MAX).await,
            LeaseKind::OrphanedCalls => {
                self.read(|connection| lease::orphaned_due(connection, self.epoch))
            }
        }
    }

    async fn dependents(&self, since: Timestamp) -> Result<RemovalGuard, StoreError> {
        self.read(|connection| configuration::dependents(connection, since))
    }
}
