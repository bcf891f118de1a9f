//! The writer thread: executes all waiting jobs in order, in one transaction with one
//! synchronisation, then answers each caller. Never retries a failed synchronisation (S3).

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, params};
use tokio::sync::{mpsc, oneshot};

use crate::domain::audit::ChainLink;
use crate::domain::identifiers::Timestamp;
use crate::domain::identifiers::forgotten::Forgotten;
use crate::store::StoreError;
use crate::store::sqlite::file::SPAN_NAME;
use crate::store::sqlite::{SqliteFault, SqliteShared};
use nonces::SpentNonces;
use write_ahead_log::WalCheckpointing;

pub(super) mod nonces;
pub(super) mod write_ahead_log;

/// Maximum number of jobs in one transaction.
const BATCH_MAX: usize = 256;

/// Maximum number of queued jobs; when the queue is full, senders wait.
const WAITING_MAX: usize = 1_024;

/// The transaction as a job sees it.
pub(super) struct WriteTransaction<'a> {
    pub(super) connection: &'a Connection,
    /// The end of the audit chain once this transaction commits.
    pub(super) link: ChainLink,
    /// The creation times whose nonces are deleted once this transaction commits.
    pub(super) forgotten: Arc<Forgotten>,
    /// The spent nonces.
    pub(super) nonces: &'a mut SpentNonces,
}

impl WriteTransaction<'_> {
    /// Q6: deletes some of the oldest nonces and records their creation times in the same
    /// transaction; returns how many were deleted.
    pub(super) fn forget(&mut self, until: Timestamp, at_once: i64) -> Result<usize, SqliteFault> {
        let created = self.nonces.forget(self.connection, until, at_once)?;
        let count = created.len();
        let forgotten = self.forgotten.and(created);
        if forgotten != *self.forgotten {
            self.keep_spans(&forgotten)?;
            self.forgotten = Arc::new(forgotten);
        }
        Ok(count)
    }

    fn keep_spans(&self, forgotten: &Forgotten) -> Result<(), SqliteFault> {
        // The floor stored by earlier releases becomes the first span.
        let old = "DELETE FROM meta WHERE name = 'floor' OR name GLOB 'forgotten *'";
        self.connection.prepare_cached(old)?.execute([])?;
        let new = "INSERT INTO meta (name, number) VALUES (?1, ?2)";
        let mut statement = self.connection.prepare_cached(new)?;
        for (first, last) in forgotten.spans() {
            let name = format!("{SPAN_NAME}{}", first.ms());
            statement.execute(params![name, last.ms()])?;
        }
        Ok(())
    }
}

/// A unit of writing. May run twice: a failed batch is rolled back and its jobs run one by one.
pub(super) trait Job: Send {
    fn run(&mut self, writing: &mut WriteTransaction<'_>) -> Result<(), SqliteFault>;
    fn answer(self: Box<Self>, durable: Result<(), StoreError>);
}

/// A job and the caller waiting for its outcome.
pub(super) struct WriteJob<T, F> {
    run: F,
    outcome: Option<T>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> WriteJob<T, F> {
    pub(super) fn new(run: F, reply: oneshot::Sender<Result<T, StoreError>>) -> Self {
        let outcome = None;
        Self {
            run,
            outcome,
            reply,
        }
    }
}

impl<T: Send, F: FnMut(&mut WriteTransaction<'_>) -> Result<T, SqliteFault> + Send> Job
    for WriteJob<T, F>
{
    fn run(&mut self, writing: &mut WriteTransaction<'_>) -> Result<(), SqliteFault> {
        self.outcome = Some((self.run)(writing)?);
        Ok(())
    }

    fn answer(self: Box<Self>, durable: Result<(), StoreError>) {
        let Self { outcome, reply, .. } = *self;
        let missing = || StoreError::OutcomeUnknown("the writer reported no outcome".into());
        // The caller may have gone; the write stands.
        let _ = reply.send(durable.and_then(|()| outcome.ok_or_else(missing)));
    }
}

/// The writer thread and the checkpoint thread. Dropping this joins both.
pub(super) struct StoreThreads {
    jobs: Option<mpsc::Sender<Box<dyn Job>>>,
    stop: Option<Sender<()>>,
    running: Vec<JoinHandle<()>>,
}

impl StoreThreads {
    pub(super) fn start(
        mut connection: Connection,
        checkpoints: Connection,
        link: ChainLink,
        shared: &Arc<SqliteShared>,
    ) -> std::io::Result<Self> {
        let (jobs, waiting) = mpsc::channel(WAITING_MAX);
        let (stop, stopped) = channel();
        write_ahead_log::count(&mut connection, &shared.log).map_err(std::io::Error::other)?;
        let nonces = SpentNonces::load(&connection).map_err(std::io::Error::other)?;
        let writer = Writer {
            connection,
            link,
            nonces,
            shared: Arc::clone(shared),
            shortening: WalCheckpointing::new(),
        };
        let shared = Arc::clone(shared);
        let running = vec![
            Builder::new()
                .name("store-writer".into())
                .spawn(move || writer.run(waiting))?,
            Builder::new()
                .name("store-checkpoint".into())
                .spawn(move || write_ahead_log::checkpoint_loop(&checkpoints, &stopped, &shared))?,
        ];
        Ok(Self {
            jobs: Some(jobs),
            stop: Some(stop),
            running,
        })
    }

    /// Queues a job.
    ///
    /// # Errors
    /// The writer has stopped; nothing was written.
    pub(super) async fn send(&self, job: Box<dyn Job>) -> Result<(), StoreError> {
        let gone = || StoreError::Unavailable("the writer has stopped".into());
        let jobs = self.jobs.as_ref().ok_or_else(gone)?;
        jobs.send(job).await.map_err(|_| gone())
    }
}

impl Drop for StoreThreads {
    fn drop(&mut self) {
        self.jobs = None;
        self.stop = None;
        for thread in self.running.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Why a transaction did not become durable.
enum WriteFailure {
    /// Rolled back: nothing was written.
    RolledBack(SqliteFault),
    /// The write lock is not available at present; no job is at fault, and each would wait as long
    /// again.
    NotBegun(SqliteFault),
    /// Unknown whether it was written (S3).
    OutcomeUnknown(String),
}

struct Writer {
    connection: Connection,
    link: ChainLink,
    nonces: SpentNonces,
    shared: Arc<SqliteShared>,
    shortening: WalCheckpointing,
}

impl Writer {
    fn run(mut self, mut waiting: mpsc::Receiver<Box<dyn Job>>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        let mut begun: Option<Instant> = None;
        while waiting.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
            self.throttle(begun);
            begun = Some(now());
            // Callers answered by the last commit get to queue their next job first: on a busy core
            // this makes the batch per synchronisation several times as large.
            std::thread::yield_now();
            while batch.len() < BATCH_MAX
                && let Ok(job) = waiting.try_recv()
            {
                batch.push(job);
            }
            // After a panic the outcome is unknown to its callers, as after a failed
            // synchronisation.
            let end = catch_unwind(AssertUnwindSafe(|| self.write_all(&mut batch)));
            match end {
                Ok(ControlFlow::Continue(())) => {
                    self.shortening.restart_log(&self.connection, &self.shared);
                }
                Ok(ControlFlow::Break(why)) => return (self.shared.on_fatal)(&why),
                Err(_) => return (self.shared.on_fatal)("the writer of the store panicked"),
            }
        }
    }

    /// A transaction costs as much as several changes, so under load transactions start at least
    /// `begin_every` apart, and jobs arriving meanwhile join the next. An idle writer starts at
    /// once.
    fn throttle(&self, begun: Option<Instant>) {
        let passed = begun.map_or(Duration::MAX, |begun| begun.elapsed());
        let remaining = self.shared.begin_every.saturating_sub(passed);
        if !remaining.is_zero() {
            std::thread::sleep(remaining);
        }
    }

    fn write_all(&mut self, batch: &mut Vec<Box<dyn Job>>) -> ControlFlow<String> {
        match self.write(batch) {
            Ok(()) => {
                batch.drain(..).for_each(|job| job.answer(Ok(())));
                ControlFlow::Continue(())
            }
            Err(WriteFailure::OutcomeUnknown(why)) => {
                for job in batch.drain(..) {
                    job.answer(Err(StoreError::OutcomeUnknown(why.clone())));
                }
                ControlFlow::Break(why)
            }
            Err(WriteFailure::NotBegun(fault)) => refused(batch, fault),
            Err(WriteFailure::RolledBack(fault)) if batch.len() == 1 => refused(batch, fault),
            // One job is at fault; run them one by one so that the others do not fail with it.
            Err(WriteFailure::RolledBack(_)) => {
                for job in batch.drain(..) {
                    self.write_all(&mut vec![job])?;
                }
                ControlFlow::Continue(())
            }
        }
    }

    /// One transaction, one synchronisation.
    fn write(&mut self, batch: &mut [Box<dyn Job>]) -> Result<(), WriteFailure> {
        let begun_at = now();
        let changes = u32::try_from(batch.len()).unwrap_or(u32::MAX);
        let begun = self.step("BEGIN IMMEDIATE");
        begun.map_err(|error| WriteFailure::NotBegun(error.into()))?;
        let mut writing = WriteTransaction {
            connection: &self.connection,
            link: self.link,
            forgotten: self.shared.forgotten(),
            nonces: &mut self.nonces,
        };
        for job in batch {
            if let Err(fault) = job.run(&mut writing) {
                return Err(self.roll_back(fault));
            }
        }
        let WriteTransaction {
            link, forgotten, ..
        } = writing;
        match self.step("COMMIT") {
            Ok(()) => (),
            // Disk full: nothing was committed, so the transaction can be rolled back.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
                return Err(self.roll_back(error.into()));
            }
            Err(error) => return Err(WriteFailure::OutcomeUnknown(error.to_string())),
        }
        // Check after the commit, not before it: acknowledged data must be in the file that the
        // next start opens.
        if let Some(why) = self.shared.astray() {
            return Err(WriteFailure::OutcomeUnknown(why));
        }
        self.link = link;
        self.nonces.committed();
        self.shared.forget(forgotten);
        self.shared.commits.fetch_add(1, Ordering::Release);
        (self.shared.on_commit)(changes, begun_at.elapsed());
        Ok(())
    }

    /// Some errors roll back automatically.
    fn roll_back(&mut self, fault: SqliteFault) -> WriteFailure {
        self.nonces.rolled_back();
        if self.connection.is_autocommit() {
            return WriteFailure::RolledBack(fault);
        }
        match self.step("ROLLBACK") {
            Ok(()) => WriteFailure::RolledBack(fault),
            Err(error) => WriteFailure::OutcomeUnknown(error.to_string()),
        }
    }

    fn step(&self, sql: &str) -> Result<(), rusqlite::Error> {
        self.connection.prepare_cached(sql)?.execute([]).map(|_| ())
    }
}

/// Fails all jobs of a batch of which nothing was written.
fn refused(batch: &mut Vec<Box<dyn Job>>, fault: SqliteFault) -> ControlFlow<String> {
    let fault = StoreError::from(fault);
    tracing::error!(%fault, changes = batch.len(), "the store rejected a write");
    for job in batch.drain(..) {
        job.answer(Err(fault.clone()));
    }
    ControlFlow::Continue(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a commit took, for whoever counts; nothing is decided by it"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use std::sync::RwLock;
    use std::sync::atomic::AtomicU64;

    use super::*;
    use crate::files::store_lock::StorePaths;
    use crate::seal::Seal;
    use crate::store::sqlite::file;

    /// Runs one job on its own writer; returns the caller's error and the reason passed to
    /// `on_fatal`.
    async fn run(
        job: fn(&mut WriteTransaction<'_>) -> Result<(), SqliteFault>,
    ) -> (StoreError, String) {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("paymux.db");
        let _held = crate::files::store_lock::hold(&path).unwrap();
        let keys = [("2026".to_owned(), [3; 32])].into();
        let seal = Seal::new("2026", keys, [4; 32]).unwrap();
        let connect = || file::connect(&path, file::ConnectionRole::Writer).unwrap();
        let mut connection = connect();
        file::migrate(&mut connection, &seal).unwrap();
        let (fatal, reasons) = channel();
        let shared = Arc::new(SqliteShared {
            forgotten: RwLock::default(),
            commits: AtomicU64::new(0),
            log: Arc::default(),
            names: StorePaths::default(),
            begin_every: Duration::ZERO,
            on_fatal: Box::new(move |why| fatal.send(why.to_owned()).unwrap()),
            on_commit: Box::new(|_, _| ()),
        });
        let threads =
            StoreThreads::start(connection, connect(), ChainLink::START, &shared).unwrap();
        let (reply, answer) = oneshot::channel();
        let write_job = WriteJob::new(job, reply);
        threads.send(Box::new(write_job)).await.unwrap();
        let stopped = |_| StoreError::OutcomeUnknown("the writer stopped".into());
        let answer = answer.await.map_err(stopped).and_then(|outcome| outcome);
        let why = reasons.recv().unwrap();
        // A stopped writer never reports success.
        let (reply, after) = oneshot::channel();
        let _ = threads.send(Box::new(WriteJob::new(job, reply))).await;
        drop(threads);
        assert!(!matches!(after.await, Ok(Ok(()))));
        (answer.unwrap_err(), why)
    }

    /// S3, Q8: after a failed commit no caller gets a definite outcome, and the process is told to
    /// stop.
    #[tokio::test]
    async fn a_commit_that_fails_stops_the_process() {
        let (error, why) = run(|writing| {
            // Fails only at the commit, like a failed synchronisation.
            writing.connection.execute_batch(
                "PRAGMA defer_foreign_keys = ON;
                 INSERT INTO journal (at, kind, pay_order_no, debit, credit, minor, currency)
                 VALUES (1, 'ORDER_PAID', 'nowhere', 'RECV:a', 'MERCH:b', 1, 'CNY');",
            )?;
            Ok(())
        })
        .await;
        assert!(matches!(error, StoreError::OutcomeUnknown(_)), "{error}");
        assert!(why.contains("FOREIGN KEY"), "{why}");
    }

    /// S3: a panic in the writer also leaves the outcome unknown and stops the process.
    #[tokio::test]
    async fn a_writer_that_panics_stops_the_process() {
        let (error, why) = run(|_| panic!("a defect")).await;
        assert!(matches!(error, StoreError::OutcomeUnknown(_)), "{error}");
        assert!(why.contains("panicked"), "{why}");
    }
}
