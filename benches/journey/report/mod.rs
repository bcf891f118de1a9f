//! Writes the results as tables and charts: on the terminal, and between the markers in
//! `docs/performance.md`. A missed goal is reported, not treated as a failure.

mod goals;
mod many;
mod plots;
mod steady;
mod svg;
mod tables;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use time::UtcDateTime;

use crate::measure::JourneyComparison;
use crate::measure::algorithms::AlgorithmComparison;
use crate::measure::backlog::Backlog;
use crate::measure::callbacks::polling::PollingMeasurement;
use crate::measure::commits::Commits;
use crate::measure::ladder::LatencyByLoad;
use crate::measure::large::LargeDatabase;
use crate::measure::memory::ConnectionMemory;
use crate::measure::overload::OverloadMeasurement;
use crate::measure::pieces::Piece;
use crate::measure::sizes::TableSizes;
use crate::measure::startup::StartupTimes;
use crate::measure::steady::SteadyMeasurement;
use crate::plan::BenchPlan;
use crate::progress::MissingMeasurement;
use crate::setup::yardstick;

const BEGIN: &str = "<!-- measured: begin -->\n";
const END: &str = "<!-- measured: end -->";
/// The same for five million orders, which are measured separately.
const LARGE_BEGIN: &str = "<!-- among many: begin -->\n";
const LARGE_END: &str = "<!-- among many: end -->";

/// The results of a run.
#[derive(Default)]
pub(crate) struct Findings {
    pub(crate) steady: Vec<SteadyMeasurement>,
    pub(crate) compared: Vec<JourneyComparison>,
    pub(crate) signed: Vec<AlgorithmComparison>,
    pub(crate) ladders: Vec<LatencyByLoad>,
    pub(crate) memory: Vec<ConnectionMemory>,
    pub(crate) startup: Option<StartupTimes>,
    pub(crate) overloads: Vec<OverloadMeasurement>,
    pub(crate) commits: Vec<Commits>,
    pub(crate) pieces: Vec<Piece>,
    pub(crate) backlog: Option<Backlog>,
    pub(crate) polling: Option<PollingMeasurement>,
    pub(crate) sizes: Option<TableSizes>,
    pub(crate) large: Option<LargeDatabase>,
    pub(crate) missing: Vec<MissingMeasurement>,
    pub(crate) took: Duration,
}

/// The charts of a whole run.
const DRAWINGS: &str = "docs/performance";
/// The charts of other runs, in the build directory.
const TRIED: &str = "performance";

/// Prints the results. A whole run is also written into the document, with its charts.
pub(crate) fn written(plan: &BenchPlan, found: &Findings) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = if plan.whole {
        root.join(DRAWINGS)
    } else {
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(TRIED)
    };
    let drawings = plots::draw(&folder, found)?;
    let mut out = machine(plan, found)?;
    goals::table(&mut out, found, plan.whole)?;
    for (file, title) in &drawings {
        writeln!(out, "\n![{title}](performance/{file})")?;
    }
    steady::table(&mut out, &found.steady)?;
    tables::journeys(&mut out, &found.compared)?;
    tables::threads(&mut out, &found.compared)?;
    tables::signed(&mut out, &found.signed)?;
    tables::ladders(&mut out, &found.ladders)?;
    tables::overloads(&mut out, &found.overloads)?;
    many::backlog(&mut out, found.backlog.as_ref())?;
    many::polling(&mut out, found.polling.as_ref())?;
    tables::memory(&mut out, &found.memory)?;
    tables::startup(&mut out, found.startup.as_ref())?;
    many::sizes(&mut out, found.sizes.as_ref())?;
    tables::commits(&mut out, &found.commits)?;
    tables::pieces(&mut out, &found.pieces)?;
    tables::missing(&mut out, &found.missing)?;
    let among_many = among_many(plan, found)?;
    println!("{out}{}", among_many.as_deref().unwrap_or_default());
    let document = root.join("docs/performance.md");
    if plan.whole {
        renew(&document, [BEGIN, END], &out)?;
    } else {
        println!("drawings: {}", folder.display());
    }
    if let Some(among_many) = among_many.filter(|_| !plan.quick) {
        renew(&document, [LARGE_BEGIN, LARGE_END], &among_many)?;
    }
    Ok(())
}

/// The results over five million orders, if they were measured.
fn among_many(plan: &BenchPlan, found: &Findings) -> Result<Option<String>> {
    let Some(large) = &found.large else {
        return Ok(None);
    };
    let mut out = machine(plan, found)?;
    goals::among_many(&mut out, large)?;
    many::large(&mut out, large)?;
    Ok(Some(out))
}

/// Replaces the tables between the markers of a document.
fn renew(document: &Path, [begin, end]: [&str; 2], tables: &str) -> Result<()> {
    let text = fs::read_to_string(document)?;
    let (before, rest) = text
        .split_once(begin)
        .context("no marker where the tables begin")?;
    let (_, after) = rest
        .split_once(end)
        .context("no marker where the tables end")?;
    fs::write(document, format!("{before}{begin}{tables}{end}{after}"))?;
    Ok(())
}

/// The machine, the time and the command of the run.
fn machine(plan: &BenchPlan, found: &Findings) -> Result<String> {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model
        .unwrap_or_default()
        .trim_start_matches(['\t', ' ', ':']);
    let kernel = Command::new("uname").arg("-sr").output()?;
    let kernel = String::from_utf8_lossy(&kernel.stdout).trim().to_owned();
    let cores = fs::read_to_string("/proc/stat").unwrap_or_default();
    let cores = cores.lines().filter(|line| line.starts_with("cpu")).count() - 1;
    let now = UtcDateTime::now();
    let mut out = format!(
        "{cores} cores of {model}, {kernel}, {}, {} UTC, by `{}` in {} s.\n",
        yardstick::version(),
        now.format(&time::macros::format_description!(
            "[year]-[month]-[day] [hour]:[minute]"
        ))?,
        if plan.whole {
            "make bench"
        } else {
            "cargo bench --bench journey -- …"
        },
        found.took.as_secs(),
    );
    if plan.quick {
        out.push_str("\nA quick run (`--quick`): these figures are not meaningful.\n");
    }
    Ok(out)
}
