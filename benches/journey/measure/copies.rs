//! Stores with very many orders, each made once and kept in the build directory.
//!
//! The gateway creates one paid and one open order; their rows are then copied under other numbers,
//! with everything that belongs to them. Sealed columns are opened and sealed again for each copy,
//! so that the gateway can read any of them.

use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use paymux::domain::identifiers::hex;
use paymux::seal::{Seal, SealBinding};
use rusqlite::{Connection, params};

use crate::load::closed::send;
use crate::progress::ProgressLog;
use crate::setup::{BenchSetup, SetupOptions, enrolment};

/// One order in this many is open.
pub(crate) const OPEN_EVERY: u32 = 50;
/// One order in this many has a payer of its own.
const PAYER_EVERY: u32 = 5;
/// Copied in one batch, so that the rows of an order are written close together.
const AT_ONCE: u32 = 50_000;
/// A change of the schema or of the copying makes a new file.
const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/schema/sqlite");
const WAY: &str = include_str!("copies.rs");

/// The merchant's order number of a copy.
pub(crate) fn number(copy: u32) -> String {
    format!("copy-{copy:010}")
}

/// Our order number of a copy: the format of a real one, sorting before all of them.
pub(crate) fn pay_order_no(copy: u32) -> String {
    format!("P{copy:026}")
}

fn attempt_id(copy: u32) -> String {
    format!("A{copy:026}")
}

fn event_id(copy: u32) -> String {
    format!("E{copy:031}")
}

/// Columns that distinguish copies, as SQL; `?1` is the copy.
const OWN: [(&str, &str); 9] = [
    ("pay_order_no", "printf('P%026d', ?1)"),
    ("merchant_order_no", "printf('copy-%010d', ?1)"),
    ("attempt_id", "printf('A%026d', ?1)"),
    ("event_id", "printf('E%031d', ?1)"),
    ("sequence", "100000000 + ?1"),
    ("entry_id", "NULL"),
    ("chain_id", "printf('copy-%010d', ?1)"),
    ("stamp_nonce", "randomblob(length(stamp_nonce))"),
    ("terms_digest", "randomblob(length(terms_digest))"),
];

/// The name by which a column is bound into its seal: that of a renamed one is the first it had.
fn bound_name(column: &str) -> &str {
    match column {
        "payment_action" => "handover",
        _ => column,
    }
}

/// A table to copy, with its sealed column and the number under which it is sealed.
struct CopiedTable {
    name: &'static str,
    sealed: Option<CopiedColumn>,
}

/// A column, the column of the number it is sealed under, and that number of a copy.
type CopiedColumn = (&'static str, &'static str, fn(u32) -> String);

const ORDERS: CopiedTable = CopiedTable {
    name: "orders",
    sealed: Some(("sealed", "pay_order_no", pay_order_no)),
};

/// The rows of a paid order.
const PAID: [CopiedTable; 5] = [
    ORDERS,
    CopiedTable {
        name: "attempts",
        sealed: Some(("payment_action", "attempt_id", attempt_id)),
    },
    CopiedTable {
        name: "events",
        sealed: Some(("sealed", "event_id", event_id)),
    },
    CopiedTable {
        name: "journal",
        sealed: None,
    },
    CopiedTable {
        name: "audit",
        sealed: None,
    },
];

/// The file with this many orders; creates it if it does not exist.
pub(crate) async fn kept(log: &ProgressLog, orders: u32) -> Result<PathBuf> {
    let begins = format!("orders-{orders}-");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(format!("{begins}{}.sqlite", &digest()?[..12]));
    if !path.exists() {
        forget(folder, &begins)?;
        let shown = path.display();
        log.say(&format!("making {orders} orders once, in {shown}"));
        make(&path, orders).await?;
        log.say(&format!("made {orders} orders"));
    }
    Ok(path)
}

/// Removes files of other schemas, which are large and not used again.
fn forget(folder: &Path, begins: &str) -> Result<()> {
    for file in fs::read_dir(folder)? {
        let file = file?;
        if file.file_name().to_string_lossy().starts_with(begins) {
            fs::remove_file(file.path())?;
        }
    }
    Ok(())
}

fn digest() -> Result<String> {
    let mut files: Vec<PathBuf> = fs::read_dir(SCHEMA)?
        .map(|file| Ok(file?.path()))
        .collect::<Result<_>>()?;
    files.sort_unstable();
    let mut whole = WAY.as_bytes().to_vec();
    for file in files {
        whole.extend(fs::read(file)?);
    }
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &whole);
    Ok(hex(digest.as_ref()))
}

/// Makes one paid and one open order through a gateway, then copies them.
async fn make(path: &Path, orders: u32) -> Result<()> {
    let mut stand = BenchSetup::start(&SetupOptions::default()).await?;
    let payment = stand.payments(1)?;
    let mut open = stand.callers(1, true).await?;
    send(&mut open, &payment, 0..1).await?;
    stand.placed(&stand.merchant.numbers(1)).await?;
    stand.settled().await?;
    drop(open);
    stand.gateway.stop()?;
    let begun = path.with_extension("begun");
    fs::copy(stand.dir.path().join("paymux.sqlite"), &begun)?;
    let copied = begun.clone();
    let made = tokio::task::spawn_blocking(move || copies(&copied, orders)).await?;
    if made.is_err() {
        // The disk may be full because of it.
        fs::remove_file(&begun)?;
    }
    made?;
    fs::rename(&begun, path)?;
    Ok(())
}

fn copies(path: &Path, orders: u32) -> Result<()> {
    let database = Connection::open(path)?;
    database.set_prepared_statement_cache_capacity(64);
    database.execute_batch(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF;
         PRAGMA cache_size = -524288; PRAGMA locking_mode = EXCLUSIVE; PRAGMA temp_store = MEMORY;
         BEGIN;",
    )?;
    let seal = enrolment::seal()?;
    let paid = PAID
        .iter()
        .map(|table| RowTemplate::set_aside(&database, &seal, table, "PAID"))
        .collect::<Result<Vec<_>>>()?;
    // They must not expire while the file is kept.
    database.execute(
        "UPDATE orders SET expires = expires + 315360000000, due_at = expires + 315360000000
         WHERE state = 'OPEN'",
        [],
    )?;
    let open = RowTemplate::set_aside(&database, &seal, &ORDERS, "OPEN")?;
    for first in (1..=orders).step_by(AT_ONCE as usize) {
        let some = first..=orders.min(first + AT_ONCE - 1);
        let is_open = |copy: &u32| copy.is_multiple_of(OPEN_EVERY);
        open.copy(&database, &seal, some.clone().filter(is_open))?;
        for model in &paid {
            let such = some.clone().filter(|copy| !is_open(copy));
            model.copy(&database, &seal, such)?;
        }
    }
    payers(&database, 1..=orders / PAYER_EVERY)?;
    database.execute_batch("COMMIT; PRAGMA journal_mode = WAL;")?;
    let found: u32 = database.query_row("SELECT COUNT(*) FROM orders", [], |row| row.get(0))?;
    ensure!(found >= orders, "only {found} orders were made");
    Ok(())
}

/// Rows of one table, copied to a temporary table so that copies are not copied again.
struct RowTemplate<'t> {
    table: &'t CopiedTable,
    insert: String,
    /// The opened content of the sealed column.
    plain: Option<Vec<u8>>,
}

impl<'t> RowTemplate<'t> {
    /// The rows of the order in this state; of the audit log all rows about anything but itself.
    fn set_aside(
        database: &Connection,
        seal: &Seal,
        table: &'t CopiedTable,
        state: &'static str,
    ) -> Result<Self> {
        let name = table.name;
        let model = format!("{name}_{state}");
        let which = match name {
            "audit" => "actor <> 'store'".to_owned(),
            _ => {
                format!("pay_order_no = (SELECT pay_order_no FROM orders WHERE state = '{state}')")
            }
        };
        database.execute_batch(&format!(
            "CREATE TEMP TABLE {model} AS SELECT * FROM main.{name} WHERE {which};"
        ))?;
        let plain = match table.sealed {
            Some((column, key, _)) => Some(opened(database, seal, (name, &model), (column, key))?),
            None => None,
        };
        let mut columns =
            database.prepare(&format!("SELECT name FROM pragma_table_info('{name}')"))?;
        let columns = columns.query_map([], |row| row.get::<_, String>(0))?;
        let columns: Vec<String> = columns.collect::<Result<_, _>>()?;
        let values = columns.iter().map(|column| {
            let sealed = table.sealed.map(|(sealed, ..)| sealed);
            let own = OWN.iter().find(|(name, _)| name == column);
            match own {
                _ if sealed == Some(column.as_str()) => "?2",
                Some((_, value)) => value,
                None => column.as_str(),
            }
        });
        let values: Vec<&str> = values.collect();
        let insert = format!(
            "INSERT INTO main.{name} ({}) SELECT {} FROM temp.{model} WHERE ?2 IS ?2",
            columns.join(", "),
            values.join(", "),
        );
        Ok(Self {
            table,
            insert,
            plain,
        })
    }

    fn copy(
        &self,
        database: &Connection,
        seal: &Seal,
        copies: impl Iterator<Item = u32>,
    ) -> Result<()> {
        let mut insert = database.prepare_cached(&self.insert)?;
        for copy in copies {
            let sealed = match (&self.plain, self.table.sealed) {
                (Some(plain), Some((column, _, key))) => {
                    let place = SealBinding {
                        table: self.table.name,
                        row: &key(copy),
                        column: bound_name(column),
                    };
                    Some(seal.seal(place, plain)?.into_bytes())
                }
                _ => None,
            };
            insert.execute(params![copy, sealed])?;
        }
        Ok(())
    }
}

/// The sealed column of a template, opened.
fn opened(
    database: &Connection,
    seal: &Seal,
    (table, model): (&str, &str),
    (column, key): (&str, &str),
) -> Result<Vec<u8>> {
    let (row, sealed): (String, Vec<u8>) = database
        .query_row(
            &format!("SELECT {key}, {column} FROM temp.{model}"),
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .with_context(|| format!("no {column} in {table} to copy"))?;
    let place = SealBinding {
        table,
        row: &row,
        column: bound_name(column),
    };
    Ok(seal.open(place, &sealed)?)
}

/// Payers with earlier payments, besides the original one.
fn payers(database: &Connection, copies: RangeInclusive<u32>) -> Result<()> {
    database.execute(
        "WITH RECURSIVE n (i) AS (VALUES (?1) UNION ALL SELECT i + 1 FROM n WHERE i < ?2),
         drawn (digest) AS MATERIALIZED (SELECT randomblob(32) FROM n)
         INSERT INTO payers (payer_digest, institution_id, at)
         SELECT digest, 'north', 0 FROM drawn ORDER BY digest",
        [*copies.start(), *copies.end()],
    )?;
    Ok(())
}
