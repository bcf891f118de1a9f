//! Closed loop: a number of callers, each sending its next request as soon as the last is answered.
//! Measures maximum throughput and cost; says nothing about the latency of independent callers (see
//! `open.rs`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::task::JoinSet;

use crate::load::BenchCaller;
use crate::load::work::{LoadWork, WorkOutcome};
use crate::setup::cpu::{CpuTime, MeasuredProcess, own_ns};

/// The result of one round.
pub(crate) struct Round {
    pub(crate) requests: usize,
    pub(crate) wall_s: f64,
    /// Latency of each request, first byte sent to last byte received. Unit: microseconds; sorted.
    pub(crate) latencies_us: Vec<u32>,
    /// Processor time of the measured process.
    pub(crate) spent: CpuTime,
    /// Processor time of the measured process until the end of the round.
    pub(crate) ended: CpuTime,
    /// Processor time of this process, on the load's core.
    pub(crate) load_ns: u64,
}

impl Round {
    pub(crate) fn per_second(&self) -> f64 {
        self.requests as f64 / self.wall_s
    }

    /// Processor time of the measured process per request. Unit: microseconds.
    pub(crate) fn cpu_us(&self) -> f64 {
        self.spent.total_ns() as f64 / self.requests as f64 / 1_000.0
    }

    /// Utilisation of the measured core.
    pub(crate) fn busy(&self) -> f64 {
        self.spent.total_ns() as f64 / self.wall_s / 1e9
    }

    /// Utilisation of the load's core, institutions and merchant included.
    pub(crate) fn load_busy(&self) -> f64 {
        self.load_ns as f64 / self.wall_s / 1e9
    }

    /// NaN for a round without requests, which meets no goal. Unit: milliseconds.
    pub(crate) fn percentile_ms(&self, percent: usize) -> f64 {
        percentile_ms(&self.latencies_us, percent).unwrap_or(f64::NAN)
    }

    /// Merges two rounds; the end is the other's.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.requests += other.requests;
        self.wall_s += other.wall_s;
        self.latencies_us.extend(other.latencies_us);
        self.latencies_us.sort_unstable();
        self.spent.add_all(&other.spent);
        self.ended = other.ended;
        self.load_ns += other.load_ns;
        self
    }
}

/// The percentile of sorted values; `None` if there are none. Input in microseconds, output in
/// milliseconds.
pub(crate) fn percentile_ms(sorted_us: &[u32], percent: usize) -> Option<f64> {
    let last = sorted_us.len().checked_sub(1)?;
    let at = (sorted_us.len() * percent).div_ceil(100);
    let us = sorted_us.get(at.saturating_sub(1).min(last))?;
    Some(f64::from(*us) / 1_000.0)
}

/// One decimal as text, or `none`.
pub(crate) fn shown_ms(ms: Option<f64>) -> String {
    ms.map_or_else(|| "none".to_owned(), |ms| format!("{ms:.1}"))
}

/// Distributes the work of `range` among the callers, and measures the cost to `party`. The first
/// unexpected answer ends it.
pub(crate) async fn round(
    party: &MeasuredProcess,
    callers: &mut Vec<BenchCaller>,
    work: &Arc<LoadWork>,
    range: std::ops::Range<usize>,
) -> Result<Round> {
    let requests = range.len();
    let (before, own_before) = (party.spent(), own_ns());
    let start = Instant::now();
    let mut latencies_us = send(callers, work, range).await?;
    let wall_s = start.elapsed().as_secs_f64();
    let (ended, own_ended) = (party.spent(), own_ns());
    latencies_us.sort_unstable();
    Ok(Round {
        requests,
        wall_s,
        latencies_us,
        spent: ended.since(&before),
        ended,
        load_ns: own_ended.saturating_sub(own_before),
    })
}

/// Durations of a run: first unmeasured, then measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunDurations {
    pub(crate) warming: Duration,
    pub(crate) measured: Duration,
}

impl RunDurations {
    /// The number of scheduled arrivals.
    pub(crate) fn comes(self, per_second: f64) -> usize {
        (per_second * (self.warming + self.measured).as_secs_f64()) as usize
    }
}

/// The result of a run of fixed duration.
pub(crate) struct Sustained {
    /// The measured part.
    pub(crate) round: Round,
    /// All answered requests, including the warm-up's.
    pub(crate) answered: usize,
}

/// Does the work of `range` for that long. Running out of work is an error: prepare enough.
pub(crate) async fn sustained(
    party: &MeasuredProcess,
    callers: &mut Vec<BenchCaller>,
    work: &Arc<LoadWork>,
    range: std::ops::Range<usize>,
    span: RunDurations,
) -> Result<Sustained> {
    let next = Arc::new(AtomicUsize::new(range.start));
    let begin = Instant::now();
    let (warm, over) = (begin + span.warming, begin + span.warming + span.measured);
    let mut running: JoinSet<Result<(BenchCaller, usize, Vec<u32>)>> = JoinSet::new();
    for mut caller in callers.drain(..) {
        let (next, work, end) = (Arc::clone(&next), Arc::clone(work), range.end);
        running.spawn(async move {
            let (mut before, mut latencies_us) = (0, Vec::new());
            loop {
                let start = Instant::now();
                if start >= over {
                    return Ok((caller, before, latencies_us));
                }
                let at = next.fetch_add(1, Ordering::Relaxed);
                ensure!(at < end, "the prepared work ran out; prepare more");
                match work.once(&mut caller, at).await {
                    WorkOutcome::Good { .. } => (),
                    WorkOutcome::Rejected { .. } => {
                        bail!("unexpected load shedding: 429 or 503")
                    }
                    WorkOutcome::Odd(answer) => bail!("{answer}"),
                }
                if start < warm {
                    before += 1;
                } else {
                    latencies_us.push(u32::try_from(start.elapsed().as_micros())?);
                }
            }
        });
    }
    let mut warmed = tokio::time::interval_at(warm.into(), span.measured);
    warmed.tick().await;
    let (spent, own) = (party.spent(), own_ns());
    let (mut before, mut latencies_us) = (0, Vec::new());
    while let Some(ended) = running.join_next().await {
        let (caller, unmeasured, some) = ended.context("a caller panicked")??;
        callers.push(caller);
        before += unmeasured;
        latencies_us.extend(some);
    }
    let wall_s = warm.elapsed().as_secs_f64();
    let (ended, own_ended) = (party.spent(), own_ns());
    latencies_us.sort_unstable();
    let requests = latencies_us.len();
    Ok(Sustained {
        answered: before + requests,
        round: Round {
            requests,
            wall_s,
            latencies_us,
            spent: ended.since(&spent),
            ended,
            load_ns: own_ended.saturating_sub(own),
        },
    })
}

/// The same without measuring, to warm up connections, caches and branch predictors.
pub(crate) async fn send(
    callers: &mut Vec<BenchCaller>,
    work: &Arc<LoadWork>,
    range: std::ops::Range<usize>,
) -> Result<Vec<u32>> {
    let next = Arc::new(AtomicUsize::new(range.start));
    let mut sending: JoinSet<Result<(BenchCaller, Vec<u32>)>> = JoinSet::new();
    for mut caller in callers.drain(..) {
        let (next, work, end) = (Arc::clone(&next), Arc::clone(work), range.end);
        sending.spawn(async move {
            let mut latencies_us = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= end {
                    return Ok((caller, latencies_us));
                }
                let start = Instant::now();
                match work.once(&mut caller, at).await {
                    WorkOutcome::Good { .. } => (),
                    WorkOutcome::Rejected { .. } => {
                        bail!("unexpected load shedding: 429 or 503")
                    }
                    WorkOutcome::Odd(answer) => bail!("{answer}"),
                }
                latencies_us.push(u32::try_from(start.elapsed().as_micros())?);
            }
        });
    }
    let mut latencies_us = Vec::new();
    while let Some(ended) = sending.join_next().await {
        let (caller, some) = ended.context("a caller panicked")??;
        callers.push(caller);
        latencies_us.extend(some);
    }
    Ok(latencies_us)
}
