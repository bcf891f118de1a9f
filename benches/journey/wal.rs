//! Measures the length of the write-ahead log, and the log bytes per order, while orders arrive for
//! minutes without a pause. `WAL_PER_SECOND` sets the rate; the default is 70 % of the maximum.

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

/// Ten minutes, in intervals: the requests of each are signed while those before are sent.
const INTERVALS: usize = 20;
const INTERVAL: Duration = Duration::from_secs(30);
const CONNECTIONS: usize = 128;
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Observations of the log.
#[derive(Debug, Default, Clone, Copy)]
struct WalObservation {
    longest_bytes: u64,
    longest_file_bytes: u64,
    written_bytes: u64,
    restarts: u64,
}

/// Prints the observations after each interval.
pub(crate) async fn measure(plan: &BenchPlan, log: &ProgressLog) -> Result<()> {
    let stand = BenchSetup::start(&SetupOptions::default()).await?;
    let requested = std::env::var("WAL_PER_SECOND").ok();
    let per_second = match requested.and_then(|text| text.parse().ok()) {
        Some(per_second) => per_second,
        None => most(plan, &stand, MeasuredJourney::Place).await? * 0.7,
    };
    let (intervals, lasting) = if plan.quick {
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
    for interval in 1..=intervals {
        let callers = stand.callers(CONNECTIONS, false).await?;
        let phase = Phase {
            per_second,
            lasting,
        };
        let pool = CallerPool::new(callers, work, 0);
        let phases = [phase];
        let arriving = pool.come(&phases, SaturationPolicy::Waits);
        let (came, next) = tokio::join!(arriving, MeasuredJourney::Place.prepare(&stand, count));
        let came = came?;
        work = next?;
        placed += came.count(ArrivalOutcome::Good);
        let latencies = came.sorted(ArrivalOutcome::Good, |one| one.latency_us);
        let p99_us = latencies.get(latencies.len() * 99 / 100).copied();
        log.say(&format!(
            "log, {per_second:.0}/s, interval {interval} of {intervals}: {} of {} succeeded, p99 {:.1} ms",
            came.count(ArrivalOutcome::Good),
            came.all.len(),
            f64::from(p99_us.unwrap_or_default()) / 1e3,
        ));
    }
    drop(stop);
    let observed = watching.await??;
    ensure!(placed > 0, "nothing was placed");
    log.say(&format!(
        "log: {placed} orders, {:.1} kB of log each; at most {:.1} MB of log in a file of {:.1} MB; \
         restarted {} times",
        observed.written_bytes as f64 / placed as f64 / 1e3,
        observed.longest_bytes as f64 / 1e6,
        observed.longest_file_bytes as f64 / 1e6,
        observed.restarts,
    ));
    Ok(())
}

/// Polls the log's metrics until told to stop.
fn watch(operations: u16, file: &Path, stopped: &Receiver<()>) -> Result<WalObservation> {
    let mut observed = WalObservation::default();
    let mut before = 0;
    while stopped.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
        let page = page(operations)?;
        let bytes = value(&page, "paymux_wal_size_bytes ")?;
        // After a restart, what was written between the last reading and the restart is not observed.
        observed.written_bytes += if bytes < before {
            bytes
        } else {
            bytes - before
        };
        before = bytes;
        observed.longest_bytes = observed.longest_bytes.max(bytes);
        let on_disk = std::fs::metadata(file).map_or(0, |found| found.len());
        observed.longest_file_bytes = observed.longest_file_bytes.max(on_disk);
        observed.restarts = value(&page, "paymux_wal_restarts_total ")?;
    }
    Ok(observed)
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
