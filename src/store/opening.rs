//! How a store is opened, and why it is not.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::seal::{Seal, SealFault};
use crate::store::exchange_log::ExchangeLog;
use crate::store::ledger::ReconciliationLedger;
use crate::store::{Store, sqlite};

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
) -> Result<Arc<dyn Store>, OpenError> {
    Ok(open_with_ledger(path, seal, on_fatal, on_commit)?.0)
}

/// Between the beginnings of two transactions of a gateway: under load each carries more.
pub const BEGIN_EVERY: Duration = Duration::from_millis(2);

/// A store, and the same store as whoever reconciles sees it.
pub type StoreAndLedger = (Arc<dyn Store>, Arc<dyn ReconciliationLedger>);

/// A store, and the same store as each of its users sees it.
pub type StoreViews = (
    Arc<dyn Store>,
    Arc<dyn ReconciliationLedger>,
    Arc<dyn ExchangeLog>,
);

/// The same with both.
///
/// # Errors
/// As [`open`].
pub fn open_with_ledger(
    path: &Path,
    seal: Arc<Seal>,
    on_fatal: OnFatal,
    on_commit: OnCommit,
) -> Result<StoreAndLedger, OpenError> {
    let heard = (on_fatal, on_commit);
    let (store, ledger, _) = open_for_all(path, seal, heard, Duration::ZERO)?;
    Ok((store, ledger))
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
) -> Result<StoreViews, OpenError> {
    let store = Arc::new(sqlite::Sqlite::open(path, seal, heard, begin_every)?);
    let ledger: Arc<dyn ReconciliationLedger> = store.clone();
    let exchange_log: Arc<dyn ExchangeLog> = store.clone();
    Ok((store, ledger, exchange_log))
}

/// What stops the process (S3); told why, in words for an operator.
pub type OnFatal = Box<dyn Fn(&str) + Send + Sync>;

/// Told how many changes one commit wrote, and how long it took, synchronisation included.
pub type OnCommit = Box<dyn Fn(u32, Duration) + Send + Sync>;

/// Why a store was not opened. The start must stop (S1, D3).
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
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
