//! How long the gateway takes from its start to saying on `/readyz` that it would accept an order,
//! over a database of a million orders.
//!
//! The gateway itself makes one paid order and one open one; their rows are then copied under other
//! numbers, with everything that belongs to them. The file stays beside the build for the next run.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rusqlite::Connection;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::load::closed::send;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::stand::{Stand, Wanted, enrolment};

/// Of whom one in fifty is open.
const ORDERS: u32 = 1_000_000;
const TIMES: usize = 5;
const READY_WITHIN: Duration = Duration::from_secs(30);
const MAKE_WITHIN_S: u64 = 420;
/// Another schema makes another file.
const SCHEMA: &str = include_str!("../../../src/store/schema/sqlite/0001_orders.sql");
/// Between two questions whether it is ready.
const ASK_EVERY: Duration = Duration::from_millis(1);

/// What was found.
pub(crate) struct Startup {
    pub(crate) orders: u32,
    pub(crate) file_bytes: u64,
    /// Of each start. Unit: milliseconds.
    pub(crate) ready_ms: Vec<f64>,
    /// The same with an empty database.
    pub(crate) empty_ms: f64,
}

/// Makes the database unless it is there, and starts the gateway on it, again and again.
pub(crate) async fn measure(plan: &Plan, log: &Progress) -> Result<Startup> {
    let orders = if plan.quick { ORDERS / 10 } else { ORDERS };
    let path = kept(orders);
    if !path.exists() {
        log.say(&format!(
            "startup: making {orders} orders once, in {}",
            path.display()
        ));
        let making = make(&path, orders);
        let made = log
            .step("startup: making orders", MAKE_WITHIN_S, making)
            .await;
        made.context("there is no database to start on")?;
    }
    let mut stand = Stand::start(&Wanted::default()).await?;
    let empty_ms = started(&mut stand).await?;
    let routes = fs::read_to_string(&stand.routes)?;
    let elsewhere = format!("sqlite:{}", path.display());
    fs::write(
        &stand.routes,
        routes.replace("sqlite:paymux.sqlite", &elsewhere),
    )?;
    let mut ready_ms = Vec::new();
    for _ in 0..TIMES {
        ready_ms.push(started(&mut stand).await?);
    }
    log.say(&format!("startup: ready after {ready_ms:.0?} ms"));
    Ok(Startup {
        orders,
        file_bytes: fs::metadata(&path)?.len(),
        ready_ms,
        empty_ms,
    })
}

/// Stops the gateway and starts it again. Unit: milliseconds until it is ready.
async fn started(stand: &mut Stand) -> Result<f64> {
    stand.gateway.stop()?;
    let start = Instant::now();
    stand.gateway = enrolment::serve(&stand.routes)?;
    let ready = async {
        let mut ticks = tokio::time::interval(ASK_EVERY);
        while !is_ready(stand.operations).await {
            ticks.tick().await;
        }
    };
    let ready = tokio::time::timeout(READY_WITHIN, ready).await;
    ready.context("not ready in time")?;
    let ready_ms = start.elapsed().as_secs_f64() * 1_000.0;
    stand.gateway.check()?;
    Ok(ready_ms)
}

async fn is_ready(port: u16) -> bool {
    let asked = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let question = b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(question).await?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    asked.await.is_ok_and(|answer| &answer == b"HTTP/1.1 200")
}

/// Where the file of this schema is kept.
fn kept(orders: u32) -> PathBuf {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, SCHEMA.as_bytes());
    let digest = paymux::domain::identifiers::hex(digest.as_ref());
    let name = format!("orders-{orders}-{}.sqlite", &digest[..12]);
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// One payment and one open order through a gateway, then copies of them.
async fn make(path: &Path, orders: u32) -> Result<()> {
    let mut stand = Stand::start(&Wanted::default()).await?;
    let payment = stand.payments(1)?;
    let mut open = stand.callers(1, true).await?;
    send(&mut open, &payment, 0..1).await?;
    stand.placed(&stand.merchant.numbers(1)).await?;
    stand.settled().await?;
    drop(open);
    stand.gateway.stop()?;
    let begun = path.with_extension("begun");
    let _ = fs::remove_file(&begun);
    fs::copy(stand.dir.path().join("paymux.sqlite"), &begun)?;
    let copied = begun.clone();
    tokio::task::spawn_blocking(move || copies(&copied, orders)).await??;
    fs::rename(&begun, path)?;
    Ok(())
}

/// What is copied for each order that was paid, and how its columns are told apart.
const TABLES: [&str; 5] = ["orders", "attempts", "events", "journal", "audit"];
const OWN: [(&str, &str); 9] = [
    ("pay_order_no", "printf('B%023d', n.i)"),
    ("merchant_order_no", "printf('copy-%d', n.i)"),
    ("attempt_id", "printf('A%023d', n.i)"),
    ("event_id", "printf('E%023d', n.i)"),
    ("sequence", "1000000 + n.i"),
    ("entry_id", "NULL"),
    ("chain_id", "printf('copy-%d', n.i)"),
    ("stamp_nonce", "randomblob(length(stamp_nonce))"),
    ("terms_digest", "randomblob(length(terms_digest))"),
];

fn copies(path: &Path, orders: u32) -> Result<()> {
    let database = Connection::open(path)?;
    database.execute_batch(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF;
         PRAGMA cache_size = -524288; PRAGMA locking_mode = EXCLUSIVE; BEGIN;",
    )?;
    let paid = orders - orders / 50;
    for table in TABLES {
        let of = match table {
            "audit" => "1 = 1".to_owned(),
            _ => "pay_order_no = (SELECT pay_order_no FROM orders WHERE state = 'PAID')".to_owned(),
        };
        copy(&database, table, &of, 1..=paid)?;
    }
    // Their time does not run out while the file is kept.
    let later =
        "UPDATE orders SET expires = expires + 315360000000, due_at = expires + 315360000000
                 WHERE state = 'OPEN'";
    database.execute(later, [])?;
    copy(&database, "orders", "state = 'OPEN'", paid + 1..=orders)?;
    database.execute_batch("COMMIT; PRAGMA journal_mode = WAL;")?;
    let found: u32 = database.query_row("SELECT COUNT(*) FROM orders", [], |row| row.get(0))?;
    ensure!(found >= orders, "only {found} orders were made");
    Ok(())
}

/// Copies the rows that fit under other numbers.
fn copy(
    database: &Connection,
    table: &str,
    which: &str,
    numbers: std::ops::RangeInclusive<u32>,
) -> Result<()> {
    let mut columns =
        database.prepare(&format!("SELECT name FROM pragma_table_info('{table}')"))?;
    let columns = columns.query_map([], |row| row.get::<_, String>(0))?;
    let columns: Vec<String> = columns.collect::<Result<_, _>>()?;
    let values = columns.iter().map(|column| {
        let own = OWN.iter().find(|(name, _)| name == column);
        own.map_or(column.as_str(), |(_, value)| value)
    });
    let values: Vec<&str> = values.collect();
    // The rows that are copied are set aside, so that copies are not copied again.
    database.execute_batch(&format!(
        "DROP TABLE IF EXISTS temp.model; CREATE TEMP TABLE model AS SELECT * FROM main.{table} WHERE {which};"
    ))?;
    database.execute(
        &format!(
            "WITH RECURSIVE n (i) AS (VALUES (?1) UNION ALL SELECT i + 1 FROM n WHERE i < ?2)
             INSERT INTO main.{table} ({}) SELECT {} FROM n CROSS JOIN temp.model",
            columns.join(", "),
            values.join(", "),
        ),
        [*numbers.start(), *numbers.end()],
    )?;
    Ok(())
}
