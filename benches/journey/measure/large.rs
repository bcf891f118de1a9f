//! Querying and selecting over five million orders, compared with a store that has little more than
//! the orders queried. Alternating rounds on the same core.
//!
//! Orders are drawn at random among all of them, so most pages are not cached; the bytes read from
//! the disk are reported too.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::rand;
use rusqlite::{Connection, OpenFlags};

use crate::load::closed::{Round, round, send};
use crate::load::work::{ACCEPTED, LoadWork, PAID, Requests};
use crate::measure::copies::{self, OPEN_EVERY};
use crate::measure::journeys::{ROUND_WITHIN_S, WARMING};
use crate::measure::startup::{moved, started};
use crate::plan::BenchPlan;
use crate::progress::ProgressLog;
use crate::setup::{BenchSetup, SetupOptions};

const ORDERS: u32 = 5_000_000;
/// One caller, whose latency is the gateway's; and as many as saturate it.
const CALLERS: [usize; 2] = [1, 64];
const QUERIED: usize = 8_000;
const SELECTED: usize = 1_000;
/// Payments in the "empty" store, queried repeatedly.
const FEW: usize = 500;

/// The results.
pub(crate) struct LargeDatabase {
    pub(crate) orders: u32,
    pub(crate) file_bytes: u64,
    pub(crate) ready_ms: f64,
    pub(crate) compared: Vec<LargeComparison>,
}

/// One kind of request with one number of callers.
pub(crate) struct LargeComparison {
    pub(crate) journey: &'static str,
    pub(crate) callers: usize,
    pub(crate) empty: Vec<Round>,
    pub(crate) large: Vec<Round>,
    /// Bytes read from the disk per request, by the gateway on the large store.
    pub(crate) from_disk: Vec<f64>,
}

/// The kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LargeRequest {
    Query,
    Select,
}

impl LargeRequest {
    fn name(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Select => "select",
        }
    }
}

/// Two gateways, one on each store.
struct GatewayPair {
    empty: BenchSetup,
    few: Vec<String>,
    large: BenchSetup,
    orders: u32,
    /// A read-only connection to the large store.
    file: Connection,
    /// Open orders for which this run has selected an institution.
    taken: BTreeSet<u32>,
}

/// Creates the store if it does not exist.
pub(crate) async fn measure(plan: &BenchPlan, log: &ProgressLog) -> Result<LargeDatabase> {
    let orders = if plan.quick { ORDERS / 10 } else { ORDERS };
    let path = copies::kept(log, orders).await?;
    let mut large = BenchSetup::start(&SetupOptions::default()).await?;
    moved(&large, &path)?;
    let ready_ms = started(&mut large).await?;
    let empty = BenchSetup::start(&SetupOptions::default()).await?;
    let few = empty.paid(FEW).await?;
    // From now on it answers queries with a final state, so that each is polled once.
    empty
        .institution
        .answers_open
        .store(false, Ordering::Relaxed);
    let mut pair = GatewayPair {
        empty,
        few,
        large,
        orders,
        file: reader(&path)?,
        taken: BTreeSet::new(),
    };
    let mut compared = Vec::new();
    for request in [LargeRequest::Query, LargeRequest::Select] {
        for callers in CALLERS {
            compared.push(pair.compared(plan, log, request, callers).await);
        }
    }
    Ok(LargeDatabase {
        orders,
        file_bytes: fs::metadata(&path)?.len(),
        ready_ms,
        compared,
    })
}

fn reader(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Ok(Connection::open_with_flags(path, flags)?)
}

impl GatewayPair {
    async fn compared(
        &mut self,
        plan: &BenchPlan,
        log: &ProgressLog,
        request: LargeRequest,
        callers: usize,
    ) -> LargeComparison {
        let mut compared = LargeComparison {
            journey: request.name(),
            callers,
            empty: Vec::new(),
            large: Vec::new(),
            from_disk: Vec::new(),
        };
        for round_no in 1..=plan.rounds {
            let name = request.name();
            let step = format!("{name} among many, {callers} callers, round {round_no}");
            let measured = self.alternate(plan, request, &mut compared);
            if log
                .step(&step, 2 * ROUND_WITHIN_S, measured)
                .await
                .is_some()
                && let (Some(empty), Some(large)) = (compared.empty.last(), compared.large.last())
            {
                log.say(&format!(
                    "{step}: p50 {:.2} ms, {:.1} µs of CPU; empty {:.2} ms, {:.1} µs",
                    large.percentile_ms(50),
                    large.cpu_us(),
                    empty.percentile_ms(50),
                    empty.cpu_us(),
                ));
            }
        }
        compared
    }

    /// One round of the empty store, then of the large one.
    async fn alternate(
        &mut self,
        plan: &BenchPlan,
        request: LargeRequest,
        compared: &mut LargeComparison,
    ) -> Result<()> {
        let most = match request {
            LargeRequest::Query => QUERIED,
            LargeRequest::Select => SELECTED,
        };
        // A single caller takes longer for the same number.
        let count = plan.sized(if compared.callers == 1 {
            most / 4
        } else {
            most
        });
        let warm = WARMING.min(count / 4);
        let among_few = self.among_few(request, count + warm).await?;
        let (empty, _) = measured(&self.empty, &among_few, compared.callers, warm).await?;
        let among_many = self.among_many(request, count + warm)?;
        let (large, read) = measured(&self.large, &among_many, compared.callers, warm).await?;
        compared.empty.push(empty);
        compared.large.push(large);
        compared.from_disk.push(read as f64 / count as f64);
        Ok(())
    }

    async fn among_few(&self, request: LargeRequest, count: usize) -> Result<Arc<LoadWork>> {
        let stand = &self.empty;
        let merchant = &stand.merchant;
        Ok(match request {
            LargeRequest::Query => {
                let numbers: Vec<String> = self.few.iter().cycle().take(count).cloned().collect();
                Requests::of(merchant.query(&numbers)?, PAID)
            }
            LargeRequest::Select => {
                let numbers = merchant.numbers(count);
                stand.placed(&numbers).await?;
                Requests::of(merchant.select(&numbers)?, ACCEPTED)
            }
        })
    }

    fn among_many(&mut self, request: LargeRequest, count: usize) -> Result<Arc<LoadWork>> {
        let mut numbers = Vec::with_capacity(count);
        while numbers.len() < count {
            let copy = 1 + drawn()? % self.orders;
            match request {
                LargeRequest::Query if copy.is_multiple_of(OPEN_EVERY) => (),
                LargeRequest::Query => numbers.push(copies::number(copy)),
                LargeRequest::Select => numbers.push(copies::number(self.open(copy)?)),
            }
        }
        let merchant = &self.large.merchant;
        Ok(match request {
            LargeRequest::Query => Requests::of(merchant.query(&numbers)?, PAID),
            LargeRequest::Select => Requests::of(merchant.select(&numbers)?, ACCEPTED),
        })
    }

    /// The next open order without an attempt, in this run or an earlier one. Used ones are skipped
    /// for good, because the file is kept.
    fn open(&mut self, from: u32) -> Result<u32> {
        let all = self.orders / OPEN_EVERY;
        let first = from / OPEN_EVERY;
        for step in 0..all {
            let copy = ((first + step) % all + 1) * OPEN_EVERY;
            let sql = "SELECT 1 FROM attempts WHERE pay_order_no = ?1";
            let mut attempts = self.file.prepare_cached(sql)?;
            if !attempts.exists([copies::pay_order_no(copy)])? && self.taken.insert(copy) {
                return Ok(copy);
            }
        }
        ensure!(
            false,
            "every open order of the file is used; remove the file"
        );
        Ok(first)
    }
}

/// A round, and the bytes that the gateway read from the disk.
async fn measured(
    stand: &BenchSetup,
    work: &Arc<LoadWork>,
    callers: usize,
    warm: usize,
) -> Result<(Round, u64)> {
    let mut open = stand.callers(callers, false).await?;
    send(&mut open, work, 0..warm).await?;
    let before = stand.gateway.read_bytes()?;
    let round = round(&stand.gateway, &mut open, work, warm..work.len()).await?;
    let read = stand.gateway.read_bytes()?.saturating_sub(before);
    stand.settled().await?;
    Ok((round, read))
}

fn drawn() -> Result<u32> {
    let mut bytes = [0; 4];
    rand::fill(&mut bytes).ok().context("no randomness")?;
    Ok(u32::from_le_bytes(bytes))
}
