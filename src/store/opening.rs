//! How a store is opened, and why it is not.

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

/// Between the beginnings of two transactions of a gateway: under load each carries more.
pub const BEGIN_EVERY: Duration = Duration::from_millis(2);

/// What the URL of the store that is built so far begins with.
pub const SQLITE: &str = "sqlite:";

/// Which store is meant: `sqlite:PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreUrl(PathBuf);

impl StoreUrl {
    /// As it stands in `[store] url`.
    ///
    /// # Errors
    /// [`OpenError::Url`]
    pub fn parse(url: &str) -> Result<Self, OpenError> {
        let path = url.strip_prefix(SQLITE);
        path.map(|path| Self(path.into()))
            .ok_or_else(|| OpenError::Url(url.into()))
    }

    /// The embedded store in this file, such as a copy.
    pub fn of_file(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where its file is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// The file's name, as people know it.
impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

/// A store, and the same store as those see it who reconcile and who write the exchange log.
pub struct OpenedStore {
    /// For everybody else.
    pub store: Store,
    /// For whoever reconciles.
    pub ledger: Arc<dyn ReconciliationLedger>,
    /// For whoever writes the exchange log.
    pub exchange_log: Arc<dyn ExchangeLog>,
}

/// Opens the embedded store in this file, and makes it if there is none. It is closed, with
/// everything accepted written, when the last holder drops it.
///
/// `on_fatal` is called, from a thread of the store, when storage failed to synchronise: whoever
/// waited was told that its outcome is in doubt, and the process must stop at once (S3).
///
/// `on_commit` is called after each commit, from the same thread: it must not wait.
///
/// # Errors
/// [`OpenError`]; nothing was changed then, except that an older schema may have been renewed.
pub fn open(
    path: &Path,
    seal: Arc<Seal>,
    on_fatal: OnFatal,
    on_commit: OnCommit,
) -> Result<Arc<Store>, OpenError> {
    let opened = open_for_all(path, seal, (on_fatal, on_commit), Duration::ZERO)?;
    Ok(Arc::new(opened.store))
}

/// The same for each of its users. Between the beginnings of two transactions lies `begin_every` at least.
///
/// # Errors
/// As [`open`].
pub fn open_for_all(
    path: &Path,
    seal: Arc<Seal>,
    heard: (OnFatal, OnCommit),
    begin_every: Duration,
) -> Result<OpenedStore, OpenError> {
    let store = Arc::new(sqlite::Sqlite::open(path, seal, heard, begin_every)?);
    Ok(OpenedStore {
        store: Store::of(&store, store.epoch()),
        ledger: store.clone(),
        exchange_log: store,
    })
}

/// Opens a store to explain its orders, beside a running gateway or without one: takes no lock and
/// writes nothing.
///
/// # Errors
/// There is no such file, or it cannot be used.
pub fn open_to_explain(url: &StoreUrl, seal: Arc<Seal>) -> Result<Box<dyn Timelines>, OpenError> {
    Ok(Box::new(TimelineReader::open(url.path(), seal)?))
}

/// Opens a store to verify it, beside a running gateway or without one: takes no lock, needs no keys
/// and writes nothing.
///
/// # Errors
/// There is no such file, or it cannot be used.
pub fn open_to_verify(url: &StoreUrl) -> Result<Box<dyn StoreVerifier>, OpenError> {
    Ok(Box::new(FileVerifier::open(url.path())?))
}

/// What stops the process (S3); told why, in words for an operator.
pub type OnFatal = Box<dyn Fn(&str) + Send + Sync>;

/// Told how many changes one commit wrote, and how long it took, synchronisation included.
pub type OnCommit = Box<dyn Fn(u32, Duration) + Send + Sync>;

/// Why a store was not opened. The start must stop (S1, D3).
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No store that is built.
    #[error("[store] url: expected sqlite:PATH, found {0}; the shared store is not built yet")]
    Url(Box<str>),
    /// Another process holds it: one process per embedded store (S1).
    #[error("{0} is in use by another process: stop that one, or name another [store] url")]
    InUse(Box<Path>),
    /// There are data and no usable key for them (D3). No new key is ever made for them.
    #[error(
        "the sealing keys do not fit the stored data: {0}; put back the [store] seal_keys and digest_key \
         that it was made with, or name another [store] url"
    )]
    WrongKey(SealFault),
    /// Made by a later release, or changed by hand.
    #[error("the schema of the store is not this release's: {0}")]
    Schema(String),
    /// The audit log does not end in a record of its own chain (S1, L1).
    #[error(
        "the tail of the audit log does not verify: change nothing, keep a copy, and run paymux audit verify"
    )]
    Audit,
    /// The file or its folder cannot be used.
    #[error("the store cannot be opened: {0}")]
    File(String),
}
