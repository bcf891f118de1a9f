//! Asking and selecting over five million orders, beside the same over a database that holds hardly
//! more than what is asked about. By turns, on the same core.
//!
//! Orders are drawn at random among all of them, so pages are read that nobody had at hand; how much
//! of that came from the disk stands beside it.

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
/// One alone, whose waiting is the gateway's time; and as many as keep it busy.
const CALLERS: [usize; 2] = [1, 64];
const QUERIED: usize = 8_000;
const SELECTED: usize = 1_000;
/// What a database has that counts as empty: payments asked about again and again.
const FEW: usize = 500;

/// What was found.
pub(crate) struct LargeDatabase {
    pub(crate) orders: u32,
    pub(crate) file_bytes: u64,
    pub(crate) ready_ms: f64,
    pub(crate) beside: Vec<LargeComparison>,
}

/// One kind of request with so many callers.
pub(crate) struct LargeComparison {
    pub(crate) journey: &'static str,
    pub(crate) callers: usize,
    pub(crate) empty: Vec<Round>,
    pub(crate) large: Vec<Round>,
    /// Read from the disk meanwhile, of the large one, for each request. Unit: bytes.
    pub(crate) from_disk: Vec<f64>,
}

/// What is asked.
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

/// Two gateways, one on each database.
struct GatewayPair {
    empty: BenchSetup,
    few: Vec<String>,
    large: BenchSetup,
    orders: u32,
    /// Beside the large one's gateway, reading only.
    file: Connection,
    /// Open orders that this run has taken to an institution.
    taken: BTreeSet<u32>,
}

/// Makes the database unless it is there.
pub(crate) async fn measure(plan: &BenchPlan, log: &ProgressLog) -> Result<LargeDatabase> {
    let orders = if plan.quick { ORDERS / 10 } else { ORDERS };
    let path = copies::kept(log, orders).await?;
    let mut large = BenchSetup::start(&SetupOptions::default()).await?;
    moved(&large, &path)?;
    let ready_ms = started(&mut large).await?;
    let empty = BenchSetup::start(&SetupOptions::default()).await?;
    let few = empty.paid(FEW).await?;
    // From now on it says of what it is asked about that it is over, so that it is asked once.
    empty.institution.timeouts.store(false, Ordering::Relaxed);
    let mut pair = GatewayPair {
        empty,
        few,
        large,
        orders,
        file: reader(&path)?,
        taken: BTreeSet::new(),
    };
    let mut beside = Vec::new();
    for ask in [LargeRequest::Query, LargeRequest::Select] {
        for callers in CALLERS {
            beside.push(pair.beside(plan, log, ask, callers).await);
        }
    }
    Ok(LargeDatabase {
        orders,
        file_bytes: fs::metadata(&path)?.len(),
        ready_ms,
        beside,
    })
}

fn reader(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Ok(Connection::open_with_flags(path, flags)?)
}

impl GatewayPair {
    async fn beside(
        &mut self,
        plan: &BenchPlan,
        log: &ProgressLog,
        ask: LargeRequest,
        callers: usize,
    ) -> LargeComparison {
        let mut beside = LargeComparison {
            journey: ask.name(),
            callers,
            empty: Vec::new(),
            large: Vec::new(),
            from_disk: Vec::new(),
        };
        for permit in 1..=plan.rounds {
            let name = ask.name();
            let step = format!("{name} among many, {callers} callers, round {permit}");
            let permits = self.permits(plan, ask, &mut beside);
            if log.step(&step, 2 * ROUND_WITHIN_S, permits).await.is_some()
                && let (Some(empty), Some(large)) = (beside.empty.last(), beside.large.last())
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
        beside
    }

    /// The empty one's turn, then the large one's.
    async fn permits(
        &mut self,
        plan: &BenchPlan,
        ask: LargeRequest,
        beside: &mut LargeComparison,
    ) -> Result<()> {
        let most = match ask {
            LargeRequest::Query => QUERIED,
            LargeRequest::Select => SELECTED,
        };
        // One alone takes longer for as many.
        let count = plan.sized(if beside.callers == 1 { most / 4 } else { most });
        let warm = WARMING.min(count / 4);
        let among_few = self.among_few(ask, count + warm).await?;
        let (empty, _) = measured(&self.empty, &among_few, beside.callers, warm).await?;
        let among_many = self.among_many(ask, count + warm)?;
        let (large, read) = measured(&self.large, &among_many, beside.callers, warm).await?;
        beside.empty.push(empty);
        beside.large.push(large);
        beside.from_disk.push(read as f64 / count as f64);
        Ok(())
    }

    async fn among_few(&self, ask: LargeRequest, count: usize) -> Result<Arc<LoadWork>> {
        let stand = &self.empty;
        let merchant = &stand.merchant;
        Ok(match ask {
            LargeRequest::Query => {
                let asked: Vec<String> = self.few.iter().cycle().take(count).cloned().collect();
                Requests::of(merchant.query(&asked)?, PAID)
            }
            LargeRequest::Select => {
                let numbers = merchant.numbers(count);
                stand.placed(&numbers).await?;
                Requests::of(merchant.select(&numbers)?, ACCEPTED)
            }
        })
    }

    fn among_many(&mut self, ask: LargeRequest, count: usize) -> Result<Arc<LoadWork>> {
        let mut asked = Vec::with_capacity(count);
        while asked.len() < count {
            let copy = 1 + drawn()? % self.orders;
            match ask {
                LargeRequest::Query if copy.is_multiple_of(OPEN_EVERY) => (),
                LargeRequest::Query => asked.push(copies::number(copy)),
                LargeRequest::Select => asked.push(copies::number(self.open(copy)?)),
            }
        }
        let merchant = &self.large.merchant;
        Ok(match ask {
            LargeRequest::Query => Requests::of(merchant.query(&asked)?, PAID),
            LargeRequest::Select => Requests::of(merchant.select(&asked)?, ACCEPTED),
        })
    }

    /// The next open order from there on that nobody took to an institution yet, in this run or in
    /// one before. Those that were are passed over for good: the file is kept.
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
        ensure!(false, "every open order of the file was taken: remove it");
        Ok(first)
    }
}

/// A round, and what the gateway read from the disk meanwhile. Unit: bytes.
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
