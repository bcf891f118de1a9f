//! The bytes of an order in the store: each table with its indexes, for an order that was paid and
//! notified, and for its refund. Read from the pages (`dbstat`), as the gateway left them and after
//! `VACUUM`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use rusqlite::{Connection, OpenFlags};

use crate::load::closed::send;
use crate::load::work::{ACCEPTED, Requests};
use crate::plan::BenchPlan;
use crate::progress::ProgressLog;
use crate::setup::{BenchSetup, SetupOptions};

const ORDERS: usize = 10_000;
const CALLERS: usize = 64;

/// The tables of an order's ledger; all others are counted separately.
pub(crate) const LEDGER: [&str; 5] = ["orders", "attempts", "events", "journal", "audit"];

/// The additional table of `paymux explain`.
pub(crate) const EXCHANGE_LOG: [&str; 1] = ["exchange_log"];

/// One table with its indexes, per order. Unit: bytes.
pub(crate) struct TableSize {
    pub(crate) table: String,
    /// As the gateway left the file.
    pub(crate) left: f64,
    /// After `VACUUM`.
    pub(crate) packed: f64,
    /// What a refund of the order added, as the gateway left the file.
    pub(crate) refund: f64,
}

/// The results.
pub(crate) struct TableSizes {
    pub(crate) orders: usize,
    pub(crate) tables: Vec<TableSize>,
}

impl TableSizes {
    /// The sums of some tables: as the gateway left them, and packed. Unit: bytes.
    pub(crate) fn of(&self, tables: &[&str]) -> [f64; 2] {
        let own = |size: &&TableSize| tables.contains(&size.table.as_str());
        let left = self.tables.iter().filter(own).map(|size| size.left);
        let packed = self.tables.iter().filter(own).map(|size| size.packed);
        [left.sum(), packed.sum()]
    }
}

/// On a gateway of its own, whose file is read meanwhile.
pub(crate) async fn measure(plan: &BenchPlan, log: &ProgressLog) -> Result<TableSizes> {
    let orders = plan.sized(ORDERS);
    let stand = BenchSetup::start(&SetupOptions::default()).await?;
    let file = stand.dir.path().join("paymux.sqlite");
    let empty = pages(&file)?;
    let paid = stand.paid(orders).await?;
    let left = pages(&file)?;
    let tight = stand.dir.path().join("packed.sqlite");
    open(&file)?.execute("VACUUM INTO ?1", [tight.to_string_lossy()])?;
    let packed = pages(&tight)?;
    let refunds = Requests::of(stand.merchant.refund(&paid)?, ACCEPTED);
    let mut callers = stand.callers(CALLERS, false).await?;
    send(&mut callers, &refunds, 0..orders).await?;
    stand.settled().await?;
    let refunded = pages(&file)?;

    let of = |pages: &BTreeMap<String, u64>, table: &str| {
        pages.get(table).copied().unwrap_or_default() as f64 / orders as f64
    };
    let tables = refunded.keys().map(|table| TableSize {
        left: of(&left, table) - of(&empty, table),
        packed: of(&packed, table) - of(&empty, table),
        refund: of(&refunded, table) - of(&left, table),
        table: table.clone(),
    });
    let found = TableSizes {
        orders,
        tables: tables
            .filter(|size| size.left + size.refund >= 1.0)
            .collect(),
    };
    let [left, packed] = found.of(&LEDGER);
    log.say(&format!(
        "sizes: {left:.0} bytes of ledger an order, packed {packed:.0}"
    ));
    Ok(found)
}

/// Read-only: a gateway may be using the file.
fn open(file: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Ok(Connection::open_with_flags(file, flags)?)
}

/// The size of each table together with its indexes. Unit: bytes.
fn pages(file: &Path) -> Result<BTreeMap<String, u64>> {
    let database = open(file)?;
    let mut statement = database.prepare(
        "SELECT s.tbl_name, SUM(d.pgsize) FROM dbstat d JOIN sqlite_schema s ON s.name = d.name
         WHERE d.aggregate = TRUE GROUP BY s.tbl_name",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)))?;
    let mut sizes = BTreeMap::new();
    for row in rows {
        let (table, bytes): (String, i64) = row?;
        sizes.insert(table, u64::try_from(bytes)?);
    }
    Ok(sizes)
}
