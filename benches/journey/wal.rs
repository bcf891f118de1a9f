//! How long the write-ahead log gets, and how much of it an order takes, while orders come for
//! minutes without a pause. `WAL_PER_SECOND` says how many; without it 70 % of the most.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::load::metronome::Phase;
use crate::load::open::{ArrivalOutcome, CallerPool, SaturationPolicy};
use crate::measure::journeys::MeasuredJourney;
use crate::measure::ladder::most;
use crate::plan::BenchPlan;
use crate::progress::ProgressLog;
use crate::setup::{BenchSetup, SetupOptions};

/// Ten minutes, in stretches: the requests of each are signed while the one before is sent.
const INTERVALS: usize = 20;
const INTERVAL: Duration = Duration::from_secs(30);
const CONNECTIONS: usize = 128;
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What was seen of the log.
#[derive(Debug, Default, Clone, Copy)]
struct WalObservation {
    longest_bytes: u64,
    longest_file_bytes: u64,
    written_bytes: u64,
    restarts: u64,
}

/// Says what was seen after each stretch.
pub(crate) async fn measure(plan: &BenchPlan, log: &ProgressLog) -> Result<()> {
    let stand = BenchSetup::start(&SetupOptions::default()).await?;
    let wanted = std::env::var("WAL_PER_SECOND").ok();
    let per_second = match wanted.and_then(|text| text.parse().ok()) {
        Some(per_second) => per_second,
        None => most(plan, &stand, MeasuredJourney::Place).await? * 0.7,
    };
    let (stretches, lasting) = if plan.quick {
        (2, INTERVAL / 6)
    } else {
        (INTERVALS, INTERVAL)
    };
    let count = (per_second * lasting.as_secs_f64()) as usize;
    let (stop, stopped) = channel();
    let operations = stand.operations;
    let file = stand.dir.path().join("paymux.sqlite-wal");
    let watching = tokio::task::spawn_blocking(move || watch(operations, &file, &stopped));
    let mut work = MeasuredJourney::Place.prepare(&stand, count).await?;
    let mut placed = 0;
    for stretch in 1..=stretches {
        let callers = stand.callers(CONNECTIONS, false).await?;
        let phase = Phase {
            per_second,
            lasting,
        };
        let crowd = CallerPool::new(callers, work, 0);
        let phases = [phase];
        let coming = crowd.come(&phases, SaturationPolicy::Waits);
        let (came, next) = tokio::join!(coming, MeasuredJourney::Place.prepare(&stand, count));
        let came = came?;
        work = next?;
        placed += came.count(ArrivalOutcome::Good);
        let latencies = came.sorted(ArrivalOutcome::Good, |one| one.latency_us);
        let p99_us = latencies.get(latencies.len() * 99 / 100).copied();
        log.say(&format!(
            "log, {per_second:.0}/s, stretch {stretch} of {stretches}: {} of {} served well, p99 {:.1} ms",
            came.count(ArrivalOutcome::Good),
            came.all.len(),
            f64::from(p99_us.unwrap_or_default()) / 1e3,
        ));
    }
    drop(stop);
    let seen = watching.await??;
    ensure!(placed > 0, "nothing was placed");
    log.say(&format!(
        "log: {placed} orders, {:.1} kB of log each; at most {:.1} MB of log in a file of {:.1} MB; \
         begun anew {} times",
        seen.written_bytes as f64 / placed as f64 / 1e3,
        seen.longest_bytes as f64 / 1e6,
        seen.longest_file_bytes as f64 / 1e6,
        seen.restarts,
    ));
    Ok(())
}

/// Looks at the log until told to stop.
fn watch(operations: u16, file: &Path, stopped: &Receiver<()>) -> Result<WalObservation> {
    let mut seen = WalObservation::default();
    let mut before = 0;
    while stopped.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
        let page = page(operations)?;
        let bytes = value(&page, "paymux_wal_size_bytes ")?;
        // Where it began anew in between, what came before that and after the last look is not seen.
        seen.written_bytes += if bytes < before {
            bytes
        } else {
            bytes - before
        };
        before = bytes;
        seen.longest_bytes = seen.longest_bytes.max(bytes);
        let on_disk = std::fs::metadata(file).map_or(0, |found| found.len());
        seen.longest_file_bytes = seen.longest_file_bytes.max(on_disk);
        seen.restarts = value(&page, "paymux_wal_restarts_total ")?;
    }
    Ok(seen)
}

fn page(operations: u16) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", operations))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

fn value(page: &str, name: &str) -> Result<u64> {
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    let value: f64 = line.with_context(|| format!("no {name}"))?.trim().parse()?;
    Ok(value as u64)
}
