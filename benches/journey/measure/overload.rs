//! Ten times as many arrivals as the gateway can serve, for a while: what it still serves, how it
//! rejects the rest, and how soon it recovers.
//!
//! Arrivals come by schedule and use one of many connections; those without a free one are counted
//! separately. A request rejected without being recorded is sent again, as its `Retry-After`
//! allows.

use std::time::Duration;

use anyhow::Result;

use crate::load::closed::{percentile_ms, shown_ms};
use crate::load::metronome::Phase;
use crate::load::open::{Arrival, ArrivalOutcome, Arrivals, CallerPool, SaturationPolicy};
use crate::measure::journeys::{MeasuredJourney, WARMING};
use crate::measure::ladder::most;
use crate::plan::BenchPlan;
use crate::progress::ProgressLog;
use crate::setup::{BenchSetup, SetupOptions};

/// One per arrival, and another of its institution for the callback.
const CONNECTIONS: usize = 1_500;
const TIMES: f64 = 10.0;
const NORMAL_SHARE: f64 = 0.7;
/// Before, during and after the overload. Unit: seconds.
const PHASES_S: [f64; 3] = [4.0, 6.0, 10.0];
/// The time of one point in the chart.
pub(crate) const SLICE: Duration = Duration::from_millis(250);
/// It has recovered when for this long nothing was rejected and latency was close to that before.
const CALM: Duration = Duration::from_secs(1);
const CALM_FACTOR: f64 = 2.0;
const CALM_MS: f64 = 5.0;

/// The results.
pub(crate) struct OverloadMeasurement {
    pub(crate) journey: &'static str,
    pub(crate) peak_per_second: f64,
    pub(crate) offered_per_second: f64,
    pub(crate) sent_per_second: f64,
    pub(crate) good_per_second: f64,
    pub(crate) refused_per_second: f64,
    /// `None` if nothing was served; the next two, if nothing was rejected.
    pub(crate) good_p99_ms: Option<f64>,
    pub(crate) refused_p50_ms: Option<f64>,
    pub(crate) refused_p99_ms: Option<f64>,
    /// By how much requests were sent late because of the load itself.
    pub(crate) late_p99_ms: Option<f64>,
    pub(crate) odd: usize,
    pub(crate) oddity: Option<String>,
    /// From the end of the overload; `None` if it did not recover during the observation.
    pub(crate) normal_after_s: Option<f64>,
    pub(crate) timeline: Vec<TimelineSlice>,
    /// When the overload began and ended. Unit: seconds.
    pub(crate) bounds_s: [f64; 2],
}

impl OverloadMeasurement {
    /// The scheduled rate during the overload, relative to the maximum.
    pub(crate) fn offered_times(&self) -> f64 {
        self.offered_per_second / self.peak_per_second
    }

    /// The sent rate: arrivals without a free connection are not sent.
    pub(crate) fn sent_times(&self) -> f64 {
        self.sent_per_second / self.peak_per_second
    }
}

/// Rates in one slice of time.
#[derive(Default, Clone, Copy)]
pub(crate) struct TimelineSlice {
    pub(crate) at_s: f64,
    pub(crate) offered: f64,
    pub(crate) good: f64,
    pub(crate) refused: f64,
}

/// One journey on a gateway of its own.
pub(crate) async fn measure(
    plan: &BenchPlan,
    log: &ProgressLog,
    journey: MeasuredJourney,
) -> Result<OverloadMeasurement> {
    let name = format!("{} under overload", journey.name());
    let unshed = BenchSetup::start(&SetupOptions::default()).await?;
    let peak = most(plan, &unshed, journey).await?;
    drop(unshed);
    let stand = BenchSetup::start(&SetupOptions {
        rejections: true,
        ..SetupOptions::default()
    })
    .await?;
    log.say(&format!(
        "{name}: at most {peak:.0}/s; now {TIMES} times as many"
    ));
    let lasting = PHASES_S.map(|seconds| plan.lasting(seconds));
    let [before, during, after] = lasting.map(|lasting| lasting.as_secs_f64());
    let phases = [
        (peak * NORMAL_SHARE, lasting[0]),
        (peak * TIMES, lasting[1]),
        (peak * NORMAL_SHARE, lasting[2]),
    ];
    // Rejected requests are repeated, successful ones are not: enough for all, with those in
    // flight.
    let needed = peak * (NORMAL_SHARE * (before + after) + 1.5 * during);
    let work = journey
        .prepare(&stand, needed as usize + CONNECTIONS + WARMING)
        .await?;
    let open = stand
        .callers(CONNECTIONS, journey == MeasuredJourney::Full)
        .await?;
    stand.settled().await?;
    let pool = CallerPool::new(open, work, 0);
    let phases = phases.map(|(per_second, lasting)| Phase {
        per_second,
        lasting,
    });
    let came = pool.come(&phases, SaturationPolicy::Leaves).await?;
    let found = judged(&came, journey, peak, [before, before + during]);
    log.say(&format!(
        "{name}: {:.0} % of the most, rejections p99 {} ms, normal after {:?} s",
        found.good_per_second / peak * 100.0,
        shown_ms(found.refused_p99_ms),
        found.normal_after_s,
    ));
    Ok(found)
}

fn judged(
    came: &Arrivals,
    journey: MeasuredJourney,
    peak: f64,
    bounds_s: [f64; 2],
) -> OverloadMeasurement {
    let [begin, end] = bounds_s;
    let span = end - begin;
    let during = |one: &&Arrival| (begin..end).contains(&at_s(one));
    let sorted = |served: ArrivalOutcome, of: fn(&Arrival) -> u32| {
        let such = came.all.iter().filter(during);
        let mut values: Vec<u32> = such.filter(|one| one.served == served).map(of).collect();
        values.sort_unstable();
        values
    };
    let offered = came.all.iter().filter(during).count();
    let left = sorted(ArrivalOutcome::NotSent, |one| one.at_us).len();
    let refused = sorted(ArrivalOutcome::Rejected, |one| one.latency_us);
    let good = sorted(ArrivalOutcome::Good, |one| one.latency_us);
    let ended = |one: &&Arrival| (begin..end).contains(&ended_s(one));
    let served = came
        .all
        .iter()
        .filter(|one| one.served == ArrivalOutcome::Good);
    OverloadMeasurement {
        journey: journey.name(),
        peak_per_second: peak,
        offered_per_second: offered as f64 / span,
        sent_per_second: (offered - left) as f64 / span,
        good_per_second: served.filter(ended).count() as f64 / span,
        refused_per_second: refused.len() as f64 / span,
        good_p99_ms: percentile_ms(&good, 99),
        refused_p50_ms: percentile_ms(&refused, 50),
        refused_p99_ms: percentile_ms(&refused, 99),
        late_p99_ms: percentile_ms(&sorted(ArrivalOutcome::Rejected, |one| one.late_us), 99),
        odd: came.count(ArrivalOutcome::Unexpected),
        oddity: came.oddity.clone(),
        normal_after_s: normal_after(came, bounds_s),
        timeline: timeline(came),
        bounds_s,
    }
}

fn at_s(one: &Arrival) -> f64 {
    f64::from(one.at_us) / 1e6
}

fn ended_s(one: &Arrival) -> f64 {
    f64::from(one.at_us.saturating_add(one.latency_us)) / 1e6
}

/// The first moment after the overload from which it has recovered.
fn normal_after(came: &Arrivals, [begin, end]: [f64; 2]) -> Option<f64> {
    let within = |from: f64, to: f64| -> Vec<&Arrival> {
        let such = came.all.iter();
        such.filter(|one| (from..to).contains(&at_s(one))).collect()
    };
    let p99 = |ones: &[&Arrival]| {
        let mut values: Vec<u32> = ones.iter().map(|one| one.latency_us).collect();
        values.sort_unstable();
        percentile_ms(&values, 99)
    };
    let last = came.all.iter().map(at_s).fold(0.0, f64::max);
    let most_ms = p99(&within(0.0, begin))? * CALM_FACTOR + CALM_MS;
    let mut from = end;
    while from + CALM.as_secs_f64() <= last + 0.1 {
        let then = within(from, from + CALM.as_secs_f64());
        let well = then.iter().all(|one| one.served == ArrivalOutcome::Good);
        if well && p99(&then).is_some_and(|ms| ms <= most_ms) {
            return Some(from - end);
        }
        from += 0.1;
    }
    None
}

fn timeline(came: &Arrivals) -> Vec<TimelineSlice> {
    let width_s = SLICE.as_secs_f64();
    let last = came.all.iter().map(ended_s).fold(0.0, f64::max);
    let mut slices = vec![TimelineSlice::default(); (last / width_s) as usize + 1];
    for (number, slice) in slices.iter_mut().enumerate() {
        slice.at_s = (number as f64 + 0.5) * width_s;
    }
    for one in &came.all {
        slices[(at_s(one) / width_s) as usize].offered += 1.0 / width_s;
        let ended = &mut slices[(ended_s(one) / width_s) as usize];
        match one.served {
            ArrivalOutcome::Good => ended.good += 1.0 / width_s,
            ArrivalOutcome::Rejected => ended.refused += 1.0 / width_s,
            ArrivalOutcome::Unexpected | ArrivalOutcome::NotSent => (),
        }
    }
    slices
}
