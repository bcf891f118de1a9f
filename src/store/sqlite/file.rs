//! Opens the file and checks it: one process at a time, this release's schema, the right key, a
//! sound audit tail. Never repairs anything.

mod sealed_columns;

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, params};

use crate::domain::attempt::Epoch;
use crate::domain::identifiers::Timestamp;
use crate::domain::identifiers::forgotten::Forgotten;
use crate::files;
use crate::files::store_lock::StoreLockError;
use crate::seal::{Seal, SealBinding, SealFault};
use crate::store::sqlite::SqliteFault;
use crate::store::sqlite::chain::{self, OwnChain};
use crate::store::{OpenError, StoreError};

/// The first version with a fix for a write-ahead log defect; older ones are not safe for money.
const SQLITE_VERSION_MIN: i32 = 3_051_003;

/// Forward only; the number applied is stored in the file's `user_version`.
const MIGRATIONS: [&str; 22] = [
    include_str!("../schema/sqlite/0001_orders.sql"),
    include_str!("../schema/sqlite/0002_refunds.sql"),
    include_str!("../schema/sqlite/0003_reach.sql"),
    include_str!("../schema/sqlite/0004_dead_events.sql"),
    include_str!("../schema/sqlite/0005_incidents.sql"),
    include_str!("../schema/sqlite/0006_trails.sql"),
    include_str!("../schema/sqlite/0007_nonces.sql"),
    include_str!("../schema/sqlite/0008_named.sql"),
    include_str!("../schema/sqlite/0009_verdicts.sql"),
    include_str!("../schema/sqlite/0010_endpoints.sql"),
    include_str!("../schema/sqlite/0011_sealed.sql"),
    PLAIN_GONE,
    include_str!("../schema/sqlite/0013_schedules.sql"),
    include_str!("../schema/sqlite/0014_exact_fees.sql"),
    include_str!("../schema/sqlite/0015_exchange_log.sql"),
    include_str!("../schema/sqlite/0016_trade_words.sql"),
    include_str!("../schema/sqlite/0017_nodes.sql"),
    include_str!("../schema/sqlite/0018_accounts.sql"),
    include_str!("../schema/sqlite/0019_staff.sql"),
    include_str!("../schema/sqlite/0020_audit_chains.sql"),
    include_str!("../schema/sqlite/0021_products.sql"),
    include_str!("../schema/sqlite/0022_chosen_institution.sql"),
];

/// Before this migration, the plain text that it drops is sealed into other columns.
const PLAIN_GONE: &str = include_str!("../schema/sqlite/0012_plain_gone.sql");

/// How long to wait for another program's lock.
const OTHERS_WITHIN: Duration = Duration::from_secs(5);

const CANARY: SealBinding<'_> = SealBinding {
    table: "meta",
    row: "canary",
    column: "sealed",
};

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        Self::File(error.to_string())
    }
}

impl From<SqliteFault> for OpenError {
    fn from(fault: SqliteFault) -> Self {
        Self::File(StoreError::from(fault).to_string())
    }
}

/// The role of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionRole {
    Writer,
    Reader,
}

impl From<StoreLockError> for OpenError {
    fn from(why: StoreLockError) -> Self {
        match why {
            StoreLockError::InUse(path) => Self::InUse(path.into()),
            other @ (StoreLockError::Exposed { .. }
            | StoreLockError::SecondName { .. }
            | StoreLockError::Unusable { .. }) => Self::File(other.to_string()),
        }
    }
}

/// Opens a connection configured for its role.
pub(super) fn connect(path: &Path, role: ConnectionRole) -> Result<Connection, OpenError> {
    if rusqlite::version_number() < SQLITE_VERSION_MIN {
        let text = format!("SQLite {} is too old", rusqlite::version());
        return Err(OpenError::File(text));
    }
    // The file exists: only `SQLite` may open or close it from here on, because closing any
    // descriptor of it would drop all its locks. The log and its index inherit its mode.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    // Before any statement that locks: another program may be reading or copying.
    connection.busy_timeout(OTHERS_WITHIN)?;
    connection.set_prepared_statement_cache_capacity(64);
    // Plans must not depend on bound values: otherwise a statement is planned again for each value,
    // which costs more than running it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        let text = format!("the write-ahead log cannot be enabled there (journal mode {mode})");
        return Err(OpenError::File(text));
    }
    // Checkpoints run off the commit path; after one, the log is truncated to its limit.
    connection.execute_batch(
        "PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;
         PRAGMA wal_autocheckpoint = 0;
         PRAGMA journal_size_limit = 67108864;
         PRAGMA temp_store = MEMORY;",
    )?;
    connection.execute_batch(match role {
        ConnectionRole::Writer => "PRAGMA cache_size = -16384;",
        // A small cache: each commit invalidates it, and clearing it takes time in proportion to
        // its largest size.
        ConnectionRole::Reader => "PRAGMA cache_size = -1024; PRAGMA query_only = ON;",
    })?;
    Ok(connection)
}

/// Opens a read-only connection next to the owning process: takes no lock and writes nothing.
pub(super) fn connect_beside(path: &Path) -> Result<Connection, OpenError> {
    files::expect_plain(path).map_err(|error| OpenError::File(error.to_string()))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(OTHERS_WITHIN)?;
    Ok(connection)
}

/// Migrates the schema to this release's, then compares all of it with the expected one.
pub(super) fn migrate(connection: &mut Connection, seal: &Seal) -> Result<(), OpenError> {
    let applied: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let applied = usize::try_from(applied).unwrap_or(usize::MAX);
    if applied > MIGRATIONS.len() {
        let known = MIGRATIONS.len();
        return Err(OpenError::Schema(format!(
            "it has version {applied}, this release knows {known}"
        )));
    }
    if applied < MIGRATIONS.len() {
        // Dropped data must not stay readable in the file's free pages or in its log.
        connection.execute_batch("PRAGMA secure_delete = ON;")?;
        try_stored_key(connection, applied, seal)?;
        apply_from(connection, applied, Some(seal))?;
        connection.execute_batch("PRAGMA secure_delete = OFF;")?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    }
    is_unchanged(connection)
}

/// D3: a wrong key is detected before anything is sealed with it.
fn try_stored_key(connection: &Connection, applied: usize, seal: &Seal) -> Result<(), OpenError> {
    if applied == 0 {
        return Ok(());
    }
    try_key(connection, seal)
}

/// As `migrate`, for read-only users: the schema must already be this release's.
pub(super) fn is_current(connection: &Connection) -> Result<(), OpenError> {
    let applied: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let known = MIGRATIONS.len();
    if usize::try_from(applied) == Ok(known) {
        return is_unchanged(connection);
    }
    Err(OpenError::Schema(format!(
        "it has version {applied}, this release's is {known}: use the release that wrote it, or \
         start this release's gateway on it first"
    )))
}

fn is_unchanged(connection: &Connection) -> Result<(), OpenError> {
    let mut fresh = Connection::open_in_memory()?;
    apply_from(&mut fresh, 0, None)?;
    if schema(connection)? == schema(&fresh)? {
        Ok(())
    } else {
        Err(OpenError::Schema("it was changed by hand".into()))
    }
}

/// Without a seal there are no rows to seal.
fn apply_from(
    connection: &mut Connection,
    applied: usize,
    seal: Option<&Seal>,
) -> Result<(), OpenError> {
    for (version, migration) in (1_i64..).zip(MIGRATIONS).skip(applied) {
        // A transaction that begins with a read cannot wait for a writer: its snapshot would be
        // stale.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if let Some(seal) = seal.filter(|_| migration == PLAIN_GONE) {
            sealed_columns::seal_plain(&transaction, seal)?;
        }
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}

fn schema(connection: &Connection) -> Result<Vec<(String, Option<String>)>, OpenError> {
    let mut statement = connection.prepare(
        "SELECT type || ' ' || name, sql FROM sqlite_schema
         WHERE name NOT LIKE 'sqlite_stat%' ORDER BY name",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The prefix of `meta` rows for spans of deleted nonces; the start of the span follows.
pub(super) const SPAN_NAME: &str = "forgotten ";

/// What start-up recovers.
pub(super) struct RecoveredState {
    pub(super) epoch: Epoch,
    pub(super) forgotten: Forgotten,
    pub(super) chain: OwnChain,
}

/// Redelivers the events in flight in a process that is gone, at once: no other process can be
/// delivering them (S1), and their leases would use up the share of their destination (N7). Due
/// before any clock: the one that set their creation time may have been ahead (T2).
const RELEASE_LEASED_EVENTS: &str =
    "UPDATE events SET state = 'PENDING', due_at = 0, fence = fence + 1
    WHERE event_id IN (SELECT event_id FROM events INDEXED BY events_due
    WHERE due_at IS NOT NULL AND state = 'LEASED')";

/// Only this process has the file (S1), so every other node is gone.
const EXPIRE_OTHERS: &str = "UPDATE nodes SET state = 'EXPIRED' WHERE state = 'LIVE'";

/// Checks the key and the audit log's tail, closes the last process's audit chain if it is still
/// open, releases leased events, and durably registers this process under a new epoch.
pub(super) fn start(connection: &mut Connection, seal: &Seal) -> Result<RecoveredState, OpenError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    try_key(&transaction, seal)?;
    let epoch: i64 = transaction.query_row(
        "INSERT INTO meta (name, number) VALUES ('epoch', 1)
         ON CONFLICT (name) DO UPDATE SET number = number + 1 RETURNING number",
        [],
        |row| row.get(0),
    )?;
    // Before anything else is written: the file's lock proves that the last process is gone.
    let chain = chain::begin(&transaction, Epoch(epoch))?;
    transaction.execute(EXPIRE_OTHERS, [])?;
    let register = "INSERT INTO nodes (epoch, state) VALUES (?1, 'LIVE')";
    transaction.execute(register, params![epoch])?;
    let forgotten = forgotten(&transaction)?;
    transaction.execute(RELEASE_LEASED_EVENTS, [])?;
    transaction.commit()?;
    Ok(RecoveredState {
        epoch: Epoch(epoch),
        forgotten,
        chain,
    })
}

/// Loads the spans of deleted nonces; earlier releases stored a single floor.
fn forgotten(connection: &Connection) -> Result<Forgotten, OpenError> {
    let sql = "SELECT name, number FROM meta WHERE name = 'floor' OR name GLOB 'forgotten *'";
    let mut statement = connection.prepare(sql)?;
    let spans = statement.query_map([], |row| {
        let name: String = row.get(0)?;
        let first = name.strip_prefix(SPAN_NAME).map(str::parse);
        let first = first
            .transpose()
            .map_err(|_| rusqlite::Error::InvalidQuery)?;
        let last: i64 = row.get(1)?;
        let first = Timestamp::from_ms(first.unwrap_or(i64::MIN));
        Ok((first, Timestamp::from_ms(last)))
    })?;
    Ok(Forgotten::of(spans.collect::<Result<Vec<_>, _>>()?))
}

/// D3: the key check sealed at the last start must open and match this key's digest. Sealed again
/// at each start, so that a key that seals nothing else can be removed.
fn try_key(connection: &Connection, seal: &Seal) -> Result<(), OpenError> {
    let digest = seal.digest("canary", b"paymux");
    let stored: Option<Vec<u8>> = connection
        .query_row("SELECT sealed FROM meta WHERE name = 'canary'", [], |row| {
            row.get(0)
        })
        .optional()?;
    if let Some(stored) = stored {
        let opened = seal.open(CANARY, &stored).map_err(OpenError::WrongKey)?;
        if opened != digest {
            return Err(OpenError::WrongKey(SealFault::NotGenuine));
        }
    }
    let sealed = seal.seal(CANARY, &digest).map_err(OpenError::WrongKey)?;
    connection.execute(
        "INSERT INTO meta (name, sealed) VALUES ('canary', ?1)
         ON CONFLICT (name) DO UPDATE SET sealed = excluded.sealed",
        params![sealed.as_bytes()],
    )?;
    Ok(())
}
