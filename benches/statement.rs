//! Reconciles a statement of a million lines against a day's ledger on one core: time and memory.
//! Goal: under 60 s and under 100 MB (`docs/performance.md`).
//!
//! `cargo bench --bench statement`, or with another number of lines: `… -- 200000`. A tenth of the
//! lines are refunds, every line has its movement, and the store is the embedded one, filled by
//! plain SQL.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::float_arithmetic,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark reads the clock, computes rates, and prints results"
)]

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{Request, Response};
use paymux::domain::identifiers::{
    AttemptId, InstitutionId, MerchantId, PayOrderNo, RefundOrderNo, Timestamp,
};
use paymux::domain::institutions::RoutingTable;
use paymux::domain::statement::{COLUMNS, SettlementDay};
use paymux::flow::FlowScope;
use paymux::flow::configuration_snapshot::{ConfigurationSnapshot, PlatformIdentity, SigningKeys};
use paymux::flow::reconcile_statement::{FromFile, ReconciliationScope, reconcile_statement};
use paymux::seal::Seal;
use paymux::signature::{KeyRing, SigningKey};
use paymux::store::ledger::Reconciliation;
use paymux::store::{self, OnCommit, OnFatal, OpenedStore};
use paymux::world::exchange_log::NoRecorder;
use paymux::world::sends::SendLog;
use paymux::world::{
    Clock, Outbound, OutboundOptions, OutboundParty, Permit, PermitUnavailable, SendError,
    SystemClock, SystemEntropy, World,
};
use rusqlite::{Connection, params};

/// The same allocator as the program's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const LINES: u32 = 1_000_000;
const DATE: &str = "20261124";
const DAY_MS: u64 = 86_400_000;

/// No calls are made: every movement is already final.
struct UncalledNetwork;

#[async_trait::async_trait]
impl Outbound for UncalledNetwork {
    async fn send(
        &self,
        _: &OutboundParty,
        _: Request<Bytes>,
        _: OutboundOptions,
    ) -> Result<Response<Bytes>, SendError> {
        Err(SendError::NotSent("no network in this benchmark".into()))
    }

    async fn permit(&self, _: &InstitutionId, _: &MerchantId) -> Result<Permit, PermitUnavailable> {
        Ok(Permit::free())
    }
}

fn main() -> Result<()> {
    // `cargo test` builds and starts benches too; only `cargo bench` passes the flag.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("this program measures only under cargo bench");
        return Ok(());
    }
    let requested = std::env::args().find_map(|argument| argument.parse().ok());
    let lines = requested.unwrap_or(LINES);
    let folder = tempfile::TempDir::new()?;
    let (database, statement) = (
        folder.path().join("db"),
        folder.path().join("statement.csv"),
    );
    drop(open(&database)?);
    let began = Instant::now();
    fill(&database, &statement, lines)?;
    println!(
        "{lines} movements stored in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    // Resets the peak of memory use.
    std::fs::write("/proc/self/clear_refs", "5")?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let began = Instant::now();
    let (compared, differ) = runtime.block_on(measure(&database, &statement))?;
    let took = began.elapsed().as_secs_f64();
    ensure!(
        (compared, differ) == (u64::from(lines), 0),
        "{compared} lines, {differ} differ"
    );
    let rate = f64::from(lines) / took;
    println!(
        "{lines} lines in {took:.1} s, {rate:.0} lines/s, at most {} MB",
        peak_mb()?
    );
    Ok(())
}

fn open(path: &Path) -> Result<OpenedStore> {
    let seal = Seal::new("1", [("1".to_owned(), [1; 32])].into(), [2; 32])?;
    let fatal: OnFatal = Box::new(|why| println!("the store failed: {why}"));
    let on_commit: OnCommit = Box::new(|_, _| ());
    Ok(store::open_for_all(
        path,
        Arc::new(seal),
        fatal,
        on_commit,
        Duration::ZERO,
    )?)
}

/// Orders paid in the course of a day, a ninth of them partly refunded, and the statement.
fn fill(database: &Path, statement: &Path, lines: u32) -> Result<()> {
    let mut database = Connection::open(database)?;
    database.execute_batch("PRAGMA synchronous = OFF; PRAGMA wal_autocheckpoint = 100000;")?;
    let day = SettlementDay::parse(DATE)?;
    let (refunds, payments) = (lines / 10, lines - lines / 10);
    let mut out = BufWriter::new(File::create(statement)?);
    writeln!(out, "{COLUMNS}")?;
    let filling = database.transaction()?;
    for n in 0..payments {
        let at_ms = day.from.ms() + i64::try_from(u64::from(n) * DAY_MS / u64::from(payments))?;
        let at = Timestamp::from_ms(at_ms);
        let mut draw = [7; 10];
        draw[6..].copy_from_slice(&n.to_be_bytes());
        let (no, id) = (PayOrderNo::mint(at, draw), AttemptId::mint(at, draw));
        let (no, id) = (no.as_str(), id.as_str());
        filling
            .prepare_cached(
                "INSERT INTO orders (pay_order_no, merchant_id, merchant_order_no, order_date,
                minor, currency, business_type, transaction_type, return_url, expire_minutes,
                terms_digest, sealed, created, expires, state, version, paying_attempt) VALUES (?1, 'M1',
                ?2, '20261124', 1230, 'CNY', 'AGGREGATED', 'PASSWORD_PAY', 'https://shop.example/',
                30, zeroblob(32), zeroblob(400), ?3, ?3, 'PAID', 3, ?2)",
            )?
            .execute(params![no, id, at_ms])?;
        filling
            .prepare_cached(
                "INSERT INTO attempts (pay_order_no, seq, attempt_id, institution_id, account_id,
                receiver_id, mode, minor, currency, state, stamp_at, stamp_nonce, sent_at, configuration, epoch,
                receipt_minor, receipt_currency, institution_no, paid_at, late_success) VALUES (?1,
                1, ?2, 'harbour', 'shop', 'ACC-1', 'WEBVIEW', 1230, 'CNY', 'PAID', ?3, zeroblob(10), ?3, 1,
                1, 1230, 'CNY', ?4, ?3, 0)",
            )?
            .execute(params![no, id, at_ms, format!("H{n:020}")])?;
        writeln!(
            out,
            "PAYMENT,ACC-1,{id},H{n:020},12.30,CNY,{}",
            at.rfc3339()
        )?;
        if n < refunds {
            let refund = RefundOrderNo::mint(at, draw);
            let refund = refund.as_str();
            filling
                .prepare_cached(
                    "INSERT INTO refunds (refund_order_no, pay_order_no, seq, attempt_id, minor,
                    currency, state, merchant_id, request_no, created, left_at, epoch,
                    receipt_minor, receipt_currency, institution_no, refunded_at, late_success,
                    excess_minor) VALUES (?1, ?2, 1, ?3, 500, 'CNY', 'SUCCEEDED', 'M1', ?1, ?4, ?4,
                    1, 500, 'CNY', ?5, ?4, 0, 0)",
                )?
                .execute(params![refund, no, id, at_ms, format!("R{n:020}")])?;
            writeln!(
                out,
                "REFUND,ACC-1,{refund},R{n:020},5.00,CNY,{}",
                at.rfc3339()
            )?;
        }
    }
    filling.commit()?;
    let yuan = |fen: u64| format!("{}.{:02}", fen / 100, fen % 100);
    let sums = (
        yuan(u64::from(payments) * 1_230),
        yuan(u64::from(refunds) * 500),
    );
    writeln!(out, "TOTAL,,,{},{},CNY,", sums.0, sums.1)?;
    writeln!(out, "END,harbour,{DATE},{lines},,,")?;
    Ok(out.flush()?)
}

async fn measure(database: &Path, statement: &Path) -> Result<(u64, usize)> {
    let OpenedStore { store, ledger, .. } = open(database)?;
    let clock = Arc::new(SystemClock::start());
    let of = Reconciliation {
        institution: InstitutionId::parse("harbour")?,
        day: SettlementDay::parse(DATE)?,
        by: "local".to_owned(),
        at: SettlementDay::parse(DATE)?.until,
    };
    let (private, _) = SigningKey::generate_ed25519()?;
    let platform = PlatformIdentity {
        origin: "https://pay.example".to_owned(),
        signing: SigningKeys::always(SigningKey::from_pkcs8_pem("platform", &private)?),
        jwks: Bytes::new(),
    };
    let snapshot = ConfigurationSnapshot::new(
        RoutingTable::default(),
        KeyRing::default(),
        HashMap::new(),
        platform,
    );
    let clock: Arc<dyn Clock> = clock;
    let world = World {
        sends: Arc::new(SendLog::start(Arc::clone(&clock))),
        clock,
        entropy: Arc::new(SystemEntropy),
        outbound: Arc::new(UncalledNetwork),
        health: Arc::default(),
        signals: Arc::default(),
        exchange_log: Arc::new(NoRecorder),
        disk: Arc::default(),
        signing: Arc::default(),
    };
    let scope = ReconciliationScope {
        flow: FlowScope {
            store: &store,
            world: &world,
            snapshot: &snapshot,
        },
        ledger: &*ledger,
    };
    let mut source = FromFile::new(BufReader::new(File::open(statement)?), &of);
    let outcome = reconcile_statement(&scope, &of, &mut source, &|_| ()).await?;
    Ok((outcome.totals.lines, outcome.recorded.len()))
}

/// The peak of memory use so far.
fn peak_mb() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kb = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(kb.context("no VmHWM")?.parse::<u64>()? / 1_024)
}
