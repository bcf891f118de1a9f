//! Measures the gateway against its goals: single requests and whole payments in the steady state,
//! latency by load, algorithms, memory, start-up, overload. The real program runs on one pinned
//! core, over mutual TLS, with everything signed and durable. nginx as a bare proxy and a pingora
//! without logic are compared on the same core in the same run.
//!
//! Load generator, institutions and the merchant's endpoint run on another core and are not
//! counted. `docs/performance.md` explains the tables.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::float_arithmetic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark reads the clock, computes rates, and prints results"
)]
mod load;
mod measure;
mod plan;
mod progress;
mod report;
mod setup;
mod wal;

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::measure::journeys::MeasuredJourney;
use crate::measure::{
    JourneyComparison, algorithms, backlog, callbacks, commits, journeys, ladder, large, memory,
    overload, pieces, sizes, startup, steady,
};
use crate::plan::{BenchPart, BenchPlan};
use crate::progress::ProgressLog;
use crate::report::Findings;
use crate::setup::{BenchSetup, SetupOptions, bare, cpu};

/// Longer than any part takes, even on a busy machine.
const PART_WITHIN_S: u64 = 900;
/// The same if a database of many orders must be made first.
const MADE_WITHIN_S: u64 = 3_600;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(bare::FLAG) {
        provider()?;
        let dir = arguments.next().context("no folder")?;
        return bare::run(Path::new(&dir), &arguments.next().context("no port")?);
    }
    // `cargo test` builds and starts benches too; only `cargo bench` passes the flag.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("this program measures only under cargo bench");
        return Ok(());
    }
    provider()?;
    let plan = BenchPlan::read(std::env::args().skip(1))?;
    cpu::raise_files()?;
    cpu::pin_load()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let log = ProgressLog::start();
    let mut found = runtime.block_on(measured(&plan, &log));
    found.took = log.elapsed();
    found.missing = log.missing();
    report::written(&plan, &found)?;
    let missing = found.missing.len();
    ensure!(
        missing == 0,
        "{missing} steps were not measured; the report lists them"
    );
    Ok(())
}

fn provider() -> Result<()> {
    let installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    ensure!(installed.is_ok(), "another crypto provider is in use");
    Ok(())
}

async fn measured(plan: &BenchPlan, log: &ProgressLog) -> Findings {
    let mut found = Findings::default();
    for part in &plan.parts {
        let compared = match part {
            BenchPart::Refund => journey(plan, log, MeasuredJourney::Refund).await,
            BenchPart::Query => journey(plan, log, MeasuredJourney::Query).await,
            BenchPart::Callback => {
                let measured = callbacks::measure(plan, log);
                log.step("callback", PART_WITHIN_S, measured).await
            }
            other @ (BenchPart::Place
            | BenchPart::Select
            | BenchPart::Full
            | BenchPart::Backlog
            | BenchPart::Polling
            | BenchPart::Algorithms
            | BenchPart::Latency
            | BenchPart::Overload
            | BenchPart::Memory
            | BenchPart::Startup
            | BenchPart::Commits
            | BenchPart::Pieces
            | BenchPart::Sizes
            | BenchPart::Wal
            | BenchPart::Large) => {
                apart(plan, log, *other, &mut found).await;
                None
            }
        };
        found.compared.extend(compared.unwrap_or_default());
    }
    found
}

/// The parts that are not journeys compared with a yardstick.
async fn apart(plan: &BenchPlan, log: &ProgressLog, part: BenchPart, found: &mut Findings) {
    match part {
        BenchPart::Query | BenchPart::Refund | BenchPart::Callback => (),
        BenchPart::Place => steadily(plan, log, MeasuredJourney::Place, found).await,
        BenchPart::Select => steadily(plan, log, MeasuredJourney::Select, found).await,
        BenchPart::Full => steadily(plan, log, MeasuredJourney::Full, found).await,
        BenchPart::Algorithms => {
            found.signed = algorithms::measure(plan, log).await;
        }
        BenchPart::Latency => {
            found.ladders = ladder::measure(plan, log).await;
        }
        BenchPart::Commits => {
            let measured = log.step("commits", PART_WITHIN_S, committed()).await;
            found.commits = measured.unwrap_or_default();
        }
        BenchPart::Pieces => {
            let measured = log.step("pieces", PART_WITHIN_S, pieces_alone()).await;
            found.pieces = measured.unwrap_or_default();
        }
        BenchPart::Overload => {
            for journey in [MeasuredJourney::Full, MeasuredJourney::Place] {
                let measured = overload::measure(plan, log, journey);
                let measured = log.step("overload", PART_WITHIN_S, measured).await;
                found.overloads.extend(measured);
            }
        }
        BenchPart::Memory => {
            let measured = memory::measure(plan, log);
            let measured = log.step("memory", PART_WITHIN_S, measured).await;
            found.memory = measured.unwrap_or_default();
        }
        BenchPart::Startup => {
            let measured = startup::measure(plan, log);
            found.startup = log.step("startup", MADE_WITHIN_S, measured).await;
        }
        BenchPart::Backlog => {
            let measured = backlog::measure(plan, log);
            found.backlog = log.step("backlog", PART_WITHIN_S, measured).await;
        }
        BenchPart::Polling => {
            let measured = callbacks::polling::measure(plan, log);
            found.polling = log.step("polling", PART_WITHIN_S, measured).await;
        }
        BenchPart::Sizes => {
            let measured = sizes::measure(plan, log);
            found.sizes = log.step("sizes", PART_WITHIN_S, measured).await;
        }
        BenchPart::Wal => {
            let measured = wal::measure(plan, log);
            log.step("wal", MADE_WITHIN_S, measured).await;
        }
        BenchPart::Large => {
            let measured = large::measure(plan, log);
            found.large = log.step("large", MADE_WITHIN_S, measured).await;
        }
    }
}

async fn journey(
    plan: &BenchPlan,
    log: &ProgressLog,
    journey: MeasuredJourney,
) -> Option<Vec<JourneyComparison>> {
    let measured = journeys::measure(plan, log, journey);
    log.step(journey.name(), PART_WITHIN_S, measured).await
}

async fn steadily(
    plan: &BenchPlan,
    log: &ProgressLog,
    journey: MeasuredJourney,
    found: &mut Findings,
) {
    let measured = steady::measure(plan, log, journey);
    let measured = log.step(journey.name(), MADE_WITHIN_S, measured).await;
    found.steady.extend(measured);
}

async fn committed() -> Result<Vec<commits::Commits>> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    commits::measure(dir.path()).await
}

async fn pieces_alone() -> Result<Vec<pieces::Piece>> {
    let stand = BenchSetup::start(&SetupOptions::default()).await?;
    let place = stand.merchant.place(&stand.merchant.numbers(1))?;
    let sample = stand.sample(&place[0], load::work::ACCEPTED).await?;
    pieces::measure(&sample.request, &sample.answer)
}
