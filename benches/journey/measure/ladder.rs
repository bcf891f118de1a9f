//! Latency of scheduled arrivals at several shares of the maximum rate.

use std::time::Duration;

use anyhow::Result;

use crate::load::closed::{percentile_ms, round, send, shown_ms};
use crate::load::metronome::Phase;
use crate::load::open::{ArrivalOutcome, CallerPool, SaturationPolicy};
use crate::measure::journeys::{MeasuredJourney, WARMING};
use crate::plan::BenchPlan;
use crate::progress::ProgressLog;
use crate::setup::{BenchSetup, SetupOptions};

const SHARES_PERCENT: [u32; 3] = [50, 70, 90];
/// More connections than are in use at once.
const CONNECTIONS: usize = 256;
/// Callers with whom the maximum is measured.
const CALLERS: usize = 64;
/// The warm-up and the measured time.
const WARMING_S: f64 = 5.0;
const STEP_S: f64 = 20.0;
/// Including signing, preparation and idling.
const STEP_WITHIN_S: u64 = 300;

/// One journey.
pub(crate) struct LatencyByLoad {
    pub(crate) journey: &'static str,
    pub(crate) most_per_second: f64,
    pub(crate) rungs: Vec<LoadStep>,
}

/// One share of the maximum. Latency counts from the scheduled arrival.
pub(crate) struct LoadStep {
    pub(crate) percent: u32,
    pub(crate) per_second: f64,
    pub(crate) count: usize,
    /// Sorted. Unit: microseconds.
    pub(crate) latencies_us: Vec<u32>,
    /// By how much requests were sent late: because of the load itself, or because every connection
    /// was in use. Sorted. Unit: microseconds.
    pub(crate) late_us: Vec<u32>,
    /// Of payments: from the callback's first byte to the merchant's acknowledgement. Sorted.
    /// Unit: microseconds.
    pub(crate) notified_us: Vec<u32>,
}

/// Each journey on a gateway of its own.
pub(crate) async fn measure(plan: &BenchPlan, log: &ProgressLog) -> Vec<LatencyByLoad> {
    let mut ladders = Vec::new();
    for journey in [
        MeasuredJourney::Place,
        MeasuredJourney::Select,
        MeasuredJourney::Query,
        MeasuredJourney::Full,
    ] {
        let name = format!("{} by schedule", journey.name());
        let options = SetupOptions::default();
        let stand = log.step(&name, STEP_WITHIN_S, BenchSetup::start(&options));
        let Some(stand) = stand.await else {
            continue;
        };
        let most = log.step(&name, STEP_WITHIN_S, most(plan, &stand, journey));
        let Some(most_per_second) = most.await else {
            continue;
        };
        log.say(&format!("{name}: at most {most_per_second:.0}/s"));
        let mut rungs = Vec::new();
        for percent in SHARES_PERCENT {
            let step = format!("{name}, {percent} %");
            let per_second = most_per_second * f64::from(percent) / 100.0;
            let rung = rung(plan, &stand, journey, (percent, per_second));
            let Some(rung) = log.step(&step, STEP_WITHIN_S, rung).await else {
                continue;
            };
            log.say(&format!(
                "{step}: p50 {} ms, p99 {} ms",
                shown_ms(percentile_ms(&rung.latencies_us, 50)),
                shown_ms(percentile_ms(&rung.latencies_us, 99)),
            ));
            rungs.push(rung);
        }
        ladders.push(LatencyByLoad {
            journey: journey.name(),
            most_per_second,
            rungs,
        });
    }
    ladders
}

/// The maximum rate over some seconds, which includes deferred work.
pub(crate) async fn most(
    plan: &BenchPlan,
    stand: &BenchSetup,
    journey: MeasuredJourney,
) -> Result<f64> {
    let count = plan.sized(match journey {
        MeasuredJourney::Place | MeasuredJourney::Query => 12_000,
        MeasuredJourney::Select | MeasuredJourney::Refund => 6_000,
        MeasuredJourney::Full => 5_000,
    });
    let work = journey.prepare(stand, count + WARMING).await?;
    let mut open = stand
        .callers(CALLERS, journey == MeasuredJourney::Full)
        .await?;
    send(&mut open, &work, 0..WARMING).await?;
    let found = round(&stand.gateway, &mut open, &work, WARMING..WARMING + count).await?;
    drop(open);
    stand.settled().await?;
    Ok(found.per_second())
}

async fn rung(
    plan: &BenchPlan,
    stand: &BenchSetup,
    journey: MeasuredJourney,
    (percent, per_second): (u32, f64),
) -> Result<LoadStep> {
    let warming: Duration = plan.lasting(WARMING_S);
    let lasting = warming + plan.lasting(STEP_S);
    let count = (per_second * lasting.as_secs_f64()) as usize;
    let work = journey.prepare(stand, count + WARMING).await?;
    let mut open = stand
        .callers(CONNECTIONS, journey == MeasuredJourney::Full)
        .await?;
    send(&mut open, &work, 0..WARMING).await?;
    stand.settled().await?;
    let pool = CallerPool::new(open, work, WARMING);
    let phase = Phase {
        per_second,
        lasting,
    };
    let mut came = pool.come(&[phase], SaturationPolicy::Waits).await?;
    stand.settled().await?;
    came.all_well()?;
    came.begins_after(warming);
    Ok(LoadStep {
        percent,
        per_second,
        count: came.all.len(),
        latencies_us: came.sorted(ArrivalOutcome::Good, |one| one.latency_us),
        late_us: came.sorted(ArrivalOutcome::Good, |one| one.late_us),
        notified_us: came.sorted(ArrivalOutcome::Good, |one| one.notified_us),
    })
}
