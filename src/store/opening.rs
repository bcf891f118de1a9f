//! Opens stores, and says why one cannot be opened.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::seal::{Seal, SealFault};
use crate::store::exchange_log::ExchangeLog;
use crate::store::ledger::ReconciliationLedger;
use crate::store::sqlite::timeline::TimelineReader;
use crate::store::sqlite::verify::FileVerifier;
use crate::store::timeline::Timelines;
use crate::store::verify::StoreVerifier;
use crate::store::{Store, sqlite};

/// Minimum interval between the starts of two write transactions of a gateway: under load each
/// carries more changes.
pub const BEGIN_EVERY: Duration = Duration::from_millis(2);

/// The URL prefix of the embedded store.
pub const SQLITE: &str = "sqlite:";

/// The location of a store: `sqlite:PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreUrl(PathBuf);

impl StoreUrl {
    /// Parses the value of `[store] url`.
    ///
    /// # Errors
    /// [`OpenError::Url`]
    pub fn parse(url: &str) -> Result<Self, OpenError> {
        let path = url.strip_prefix(SQLITE);
        path.map(|path| Self(path.into()))
            .ok_or_else(|| OpenError::Url(url.into()))
    }

    /// The embedded store in this file, for example a copy.
    pub fn of_file(path: PathBuf) -> Self {
        Self(path)
    }

    /// The path of the database file.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// Displays the file's path.
impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

/// An opened store, with the additional handles for reconciliation and the exchange log.
pub struct OpenedStore {
    /// For all other users.
    pub store: Store,
    /// For reconciliation.
    pub ledger: Arc<dyn ReconciliationLedger>,
    /// For the exchange log writer.
    pub exchange_log: Arc<dyn ExchangeLog>,
}

/// Opens the embedded store in this file, and creates it if there is none. It closes, with
/// everything accepted written, when the last handle is dropped.
///
/// `on_fatal` is called, from a thread of the store, when storage failed to synchronise: the
/// waiting callers were told that the outcome is unknown, and the process must stop at once (S3).
///
/// `on_commit` is called after each commit, from the same thread: it must not block.
///
/// # Errors
/// [`OpenError`]; nothing was changed then, except that an older schema may have been migrated.
pub fn open(
    path: &Path,
    seal: Arc<Seal>,
    on_fatal: OnFatal,
    on_commit: OnCommit,
) -> Result<Arc<Store>, OpenError> {
    let opened = open_for_all(path, seal, on_fatal, on_commit, Duration::ZERO)?;
    Ok(Arc::new(opened.store))
}

/// As [`open`], with the handles for every user. Write transactions start at least `begin_every`
/// apart.
///
/// # Errors
/// As [`open`].
pub fn open_for_all(
    path: &Path,
    seal: Arc<Seal>,
    on_fatal: OnFatal,
    on_commit: OnCommit,
    begin_every: Duration,
) -> Result<OpenedStore, OpenError> {
    let store = Arc::new(sqlite::Sqlite::open(
        path,
        seal,
        on_fatal,
        on_commit,
        begin_every,
    )?);
    Ok(OpenedStore {
        store: Store::of(&store, store.epoch()),
        ledger: store.clone(),
        exchange_log: store,
    })
}

/// Opens a store to explain its orders, with or without a running gateway: takes no lock and writes
/// nothing.
///
/// # Errors
/// There is no such file, or it cannot be used.
pub fn open_to_explain(url: &StoreUrl, seal: Arc<Seal>) -> Result<Box<dyn Timelines>, OpenError> {
    Ok(Box::new(TimelineReader::open(url.path(), seal)?))
}

/// Opens a store to verify it, with or without a running gateway: takes no lock, needs no keys and
/// writes nothing.
///
/// # Errors
/// There is no such file, or it cannot be used.
pub fn open_to_verify(url: &StoreUrl) -> Result<Box<dyn StoreVerifier>, OpenError> {
    Ok(Box::new(FileVerifier::open(url.path())?))
}

/// Stops the process (S3); called with the reason, for the log.
pub type OnFatal = Box<dyn Fn(&str) + Send + Sync>;

/// Called with the number of changes in a commit and its duration, including synchronisation.
pub type OnCommit = Box<dyn Fn(u32, Duration) + Send + Sync>;

/// Why a store was not opened. Start-up must abort (S1, D3).
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL names no store type that exists.
    #[error("[store] url: expected sqlite:PATH, found {0}; the shared store is not built yet")]
    Url(Box<str>),
    /// Another process holds it: one process per embedded store (S1).
    #[error("{0} is in use by another process: stop that one, or name another [store] url")]
    InUse(Box<Path>),
    /// The store has data that the configured keys do not fit (D3). A new key is never created for
    /// them.
    #[error(
        "the sealing keys do not fit the stored data: {0}; put back the [store] seal_keys and digest_key \
         that it was made with, or name another [store] url"
    )]
    WrongKey(SealFault),
    /// The schema is of a later release, or was changed by hand.
    #[error("the schema of the store is not this release's: {0}")]
    Schema(String),
    /// The last audit record does not verify against its chain (S1, L1).
    #[error(
        "the tail of the audit log does not verify: change nothing, keep a copy, and run paymux audit verify"
    )]
    Audit,
    /// The file or its folder cannot be used.
    #[error("the store cannot be opened: {0}")]
    File(String),
}
