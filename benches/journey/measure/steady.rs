//! Placing, selecting and whole payments in the steady state: each point runs for a while, on a
//! store with many orders, and deferred work is counted: exchange log, checkpoints, polling.
//!
//! The cost is the gateway's processor time from the first request of a point until no work is
//! left, per request of that time, including deferred work. Rates and latencies are those of the
//! measured part. The expiry of an unpaid order, a quarter of an hour later, is not included.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::load::closed::{Round, RunDurations, Sustained, sustained};
use crate::load::open::scheduled;
use crate::load::work::{ACCEPTED, LoadWork, Requests};
use crate::load::{BenchCaller, callers as connected};
use crate::measure::journeys::{MeasuredJourney, Yardsticks, yardsticks};
use crate::measure::startup::{moved, started};
use crate::measure::{copies, median, middle};
use crate::plan::BenchPlan;
use crate::progress::ProgressLog;
use crate::setup::cpu::CpuTime;
use crate::setup::requests::now_s;
use crate::setup::{BenchSetup, SetupOptions};

/// In the store before the first request.
const ORDERS: u32 = 200_000;
const WARMING_S: f64 = 5.0;
const MEASURED_S: f64 = 20.0;
/// The yardstick defers nothing and needs no longer warm-up.
const YARDSTICK_WARMING_S: f64 = 1.0;
const YARDSTICK_S: f64 = 5.0;
const YARDSTICK_REQUESTS: usize = 8_000;
/// More numbers than a run issues per second, so that a run's numbers follow those of earlier runs.
const GIVEN_EACH_SECOND: u64 = 1_000_000;
/// The duration of the trial that determines how much to prepare.
const TRIED_S: f64 = 2.0;
/// Prepared work relative to the highest rate so far, because the machine may be faster then.
const PREPARED: f64 = 1.5;
/// The rate prepared for the trial.
const TRIED_PER_SECOND: f64 = 9_000.0;
/// More connections than are in use at once.
const CONNECTIONS: usize = 256;
/// Including preparation and draining, even on a busy machine.
const POINT_WITHIN_S: u64 = 400;
/// The time limit for polling all payments.
const QUERIED_WITHIN: Duration = Duration::from_secs(200);
/// The interval between two checks of that.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The load level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoadLevel {
    /// Callers who send the next request as soon as the last is answered.
    Full,
    /// By schedule, half the rate at full load of the same round.
    Half,
    /// By schedule.
    PerSecond(u32),
}

impl LoadLevel {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Full => "full load".to_owned(),
            Self::Half => "half load".to_owned(),
            Self::PerSecond(rate) => format!("{rate}/s"),
        }
    }

    /// In this order in each round.
    fn of(journey: MeasuredJourney) -> &'static [Self] {
        match journey {
            MeasuredJourney::Place => &[
                Self::Full,
                Self::Half,
                Self::PerSecond(700),
                Self::PerSecond(1_400),
                Self::PerSecond(2_000),
            ],
            MeasuredJourney::Select => &[Self::Full, Self::Half],
            MeasuredJourney::Full | MeasuredJourney::Query | MeasuredJourney::Refund => {
                &[Self::Full]
            }
        }
    }
}

/// One journey.
pub(crate) struct SteadyMeasurement {
    pub(crate) journey: &'static str,
    pub(crate) callers: usize,
    pub(crate) orders: u32,
    pub(crate) points: Vec<LoadPoint>,
}

/// One load level, in each round.
pub(crate) struct LoadPoint {
    pub(crate) load: LoadLevel,
    pub(crate) held: Vec<SteadyRound>,
    /// The yardstick's round after each of the gateway's, at the same rate if scheduled; empty for
    /// whole payments.
    pub(crate) nginx: Vec<Round>,
}

/// One load level in one round.
pub(crate) struct SteadyRound {
    /// The measured part.
    pub(crate) round: Round,
    /// From the first request of the warm-up until no work was left.
    pub(crate) spent: CpuTime,
    /// The requests of that time.
    pub(crate) answered: usize,
}

impl SteadyRound {
    /// Per request, including deferred work. Unit: microseconds.
    pub(crate) fn cpu_us(&self) -> f64 {
        self.spent.total_ns() as f64 / self.answered as f64 / 1_000.0
    }
}

impl LoadPoint {
    /// Processor time per request relative to nginx under the same load.
    pub(crate) fn ratio(&self) -> Option<f64> {
        let [_, us, _] = self.spread(SteadyRound::cpu_us)?;
        Some(us / median(&self.nginx, Round::cpu_us)?)
    }

    /// The minimum, median and maximum of a figure.
    pub(crate) fn spread(&self, of: impl Fn(&SteadyRound) -> f64) -> Option<[f64; 3]> {
        spread(self.held.iter().map(of).collect())
    }
}

/// The minimum, median and maximum.
pub(crate) fn spread(values: Vec<f64>) -> Option<[f64; 3]> {
    let least = values.iter().copied().reduce(f64::min)?;
    let most = values.iter().copied().reduce(f64::max)?;
    Some([least, middle(values)?, most])
}

impl SteadyMeasurement {
    /// Processor time per request relative to nginx, at full load.
    pub(crate) fn ratio(&self) -> Option<f64> {
        self.at(LoadLevel::Full)?.ratio()
    }

    /// The minimum and maximum ratio of single rounds.
    pub(crate) fn ratios(&self) -> Option<[f64; 2]> {
        let full = self.at(LoadLevel::Full)?;
        let held = full.held.iter().zip(&full.nginx);
        let ratios = held.map(|(held, nginx)| held.cpu_us() / nginx.cpu_us());
        let [least, _, most] = spread(ratios.collect())?;
        Some([least, most])
    }

    /// One of its points.
    pub(crate) fn at(&self, load: LoadLevel) -> Option<&LoadPoint> {
        self.points.iter().find(|point| point.load == load)
    }
}

/// Measures one journey, alternating between its points and the yardstick.
pub(crate) async fn measure(
    plan: &BenchPlan,
    log: &ProgressLog,
    journey: MeasuredJourney,
) -> Result<SteadyMeasurement> {
    let name = journey.name();
    let orders = if plan.quick { ORDERS / 10 } else { ORDERS };
    let stand = among(log, orders).await?;
    log.say(&format!(
        "{name}: the gateway is process {}",
        stand.gateway.pid()
    ));
    let yardsticks = yardsticks(&stand, journey).await?;
    let callers = plan.steady_callers();
    let bench = SteadySetup {
        plan,
        log,
        stand: &stand,
        journey,
        callers,
    };
    let mut most_per_second = bench.tried().await?;
    let points = LoadLevel::of(journey).iter().map(|load| LoadPoint {
        load: *load,
        held: Vec::new(),
        nginx: Vec::new(),
    });
    let mut found = SteadyMeasurement {
        journey: name,
        callers,
        orders,
        points: points.collect(),
    };
    for round_no in 1..=plan.rounds {
        let mut full_per_second = most_per_second;
        for point in &mut found.points {
            let rate = match point.load {
                LoadLevel::Full => most_per_second,
                LoadLevel::Half => full_per_second / 2.0,
                LoadLevel::PerSecond(rate) => f64::from(rate),
            };
            let step = format!(
                "{name}, {}, round {round_no} of {}",
                point.load.name(),
                plan.rounds
            );
            let Some(held) = bench.point(&step, point.load, rate).await else {
                continue;
            };
            if point.load == LoadLevel::Full {
                full_per_second = held.round.per_second();
                most_per_second = most_per_second.max(full_per_second);
            }
            point.held.push(held);
            if let Some(yardsticks) = &yardsticks {
                let taken = bench.yardstick(yardsticks, point.load, rate);
                let step = format!("{step}, the yardstick");
                let taken = log.step(&step, POINT_WITHIN_S, taken).await;
                point.nginx.extend(taken);
            }
        }
    }
    Ok(found)
}

/// A gateway on a copy of the file with this many orders; its changes are discarded.
async fn among(log: &ProgressLog, orders: u32) -> Result<BenchSetup> {
    let original = copies::kept(log, orders).await?;
    let mut stand = BenchSetup::start(&SetupOptions::default()).await?;
    let own = stand.dir.path().join("many.sqlite");
    fs::copy(&original, &own).context("a copy of the file of many orders")?;
    moved(&stand, &own)?;
    started(&mut stand).await?;
    stand.rests().await;
    // Numbers and nonces that the run which made the file has not used.
    let begun = u64::try_from(now_s())?.saturating_mul(GIVEN_EACH_SECOND);
    stand.merchant.given.store(begun, Ordering::Relaxed);
    Ok(stand)
}

/// The environment of one journey.
struct SteadySetup<'b> {
    plan: &'b BenchPlan,
    log: &'b ProgressLog,
    stand: &'b BenchSetup,
    journey: MeasuredJourney,
    callers: usize,
}

impl SteadySetup<'_> {
    fn span(&self) -> RunDurations {
        RunDurations {
            warming: self.plan.lasting(WARMING_S),
            measured: self.plan.lasting(MEASURED_S),
        }
    }

    /// The approximate maximum rate, which determines how much to prepare.
    async fn tried(&self) -> Result<f64> {
        let span = RunDurations {
            warming: Duration::ZERO,
            measured: Duration::from_secs_f64(TRIED_S),
        };
        let tried = self.at_once(span, TRIED_PER_SECOND).await?;
        self.drained(&tried).await?;
        Ok(tried.came.round.per_second())
    }

    async fn point(&self, step: &str, load: LoadLevel, per_second: f64) -> Option<SteadyRound> {
        let measured = self.held(load, per_second);
        let held = self.log.step(step, POINT_WITHIN_S, measured).await?;
        self.log.say(&format!(
            "{step}: {:.0}/s, p99 {:.1} ms, {:.1} µs of CPU each, {:.1} µs during arrivals",
            held.round.per_second(),
            held.round.percentile_ms(99),
            held.cpu_us(),
            held.round.cpu_us(),
        ));
        Some(held)
    }

    /// One point, until no work is left.
    async fn held(&self, load: LoadLevel, per_second: f64) -> Result<SteadyRound> {
        let done = match load {
            LoadLevel::Full => self.at_once(self.span(), per_second * PREPARED).await?,
            LoadLevel::Half | LoadLevel::PerSecond(_) => self.by_schedule(per_second).await?,
        };
        let ended = self.drained(&done).await?;
        Ok(SteadyRound {
            spent: ended.since(&done.before),
            answered: done.came.answered,
            round: done.came.round,
        })
    }

    /// Prepared work of this size, signed and placed if required; the gateway is idle again.
    async fn prepared(&self, count: usize) -> Result<(Arc<LoadWork>, Vec<BenchCaller>)> {
        let work = self.journey.prepare(self.stand, count).await?;
        let connections = self.callers.max(CONNECTIONS);
        let open = self
            .stand
            .callers(connections, self.journey == MeasuredJourney::Full)
            .await?;
        self.stand.settled().await?;
        Ok((work, open))
    }

    async fn at_once(
        &self,
        span: RunDurations,
        prepared_per_second: f64,
    ) -> Result<PointMeasurement> {
        let lasting = span.warming + span.measured;
        let count = (prepared_per_second * lasting.as_secs_f64()) as usize;
        let (work, mut open) = self.prepared(count).await?;
        open.truncate(self.callers);
        let stand = self.stand;
        let (polled, before) = (self.polled(), stand.gateway.spent());
        let came = sustained(&stand.gateway, &mut open, &work, 0..count, span).await?;
        Ok(PointMeasurement {
            before,
            polled,
            came,
        })
    }

    async fn by_schedule(&self, per_second: f64) -> Result<PointMeasurement> {
        let (work, open) = self.prepared(self.span().comes(per_second)).await?;
        let (polled, before) = (self.polled(), self.stand.gateway.spent());
        let came = scheduled(&self.stand.gateway, open, work, per_second, self.span()).await?;
        Ok(PointMeasurement {
            before,
            polled,
            came,
        })
    }

    /// How many polls ended with a final state so far.
    fn polled(&self) -> u64 {
        self.stand.institution.ended.load(Ordering::Relaxed)
    }

    /// Waits until no work is left: every selected payment was polled once, and the gateway is
    /// idle. Returns the processor time by then.
    async fn drained(&self, done: &PointMeasurement) -> Result<CpuTime> {
        if self.journey == MeasuredJourney::Select {
            let all = done.polled + u64::try_from(done.came.answered)?;
            let polled = async {
                let mut looks = tokio::time::interval(LOOK_EVERY);
                while self.polled() < all {
                    looks.tick().await;
                }
            };
            let polled = tokio::time::timeout(QUERIED_WITHIN, polled).await;
            polled.context("not every payment was polled in time")?;
        }
        self.stand.settled().await
    }

    /// nginx's round, with the same requests.
    async fn yardstick(
        &self,
        yardsticks: &Yardsticks,
        load: LoadLevel,
        per_second: f64,
    ) -> Result<Round> {
        let (party, target, _) = &yardsticks.nginx;
        let merchant = &self.stand.merchant;
        let span = RunDurations {
            warming: self.plan.lasting(YARDSTICK_WARMING_S),
            measured: self.plan.lasting(YARDSTICK_S),
        };
        let requests = match load {
            LoadLevel::Full => YARDSTICK_REQUESTS,
            LoadLevel::Half | LoadLevel::PerSecond(_) => span.comes(per_second),
        };
        let numbers = merchant.numbers(requests);
        let list = match self.journey {
            MeasuredJourney::Select => merchant.select(&numbers)?,
            MeasuredJourney::Place
            | MeasuredJourney::Query
            | MeasuredJourney::Full
            | MeasuredJourney::Refund => merchant.place(&numbers)?,
        };
        let work = Requests::of(list, ACCEPTED);
        if load != LoadLevel::Full {
            let open = connected(target, self.callers.max(CONNECTIONS), false).await?;
            let came = scheduled(party, open, work, per_second, span).await?;
            return Ok(came.round);
        }
        let mut open = connected(target, self.callers, false).await?;
        // The response does not depend on the request, so requests can be repeated.
        let again = 0..usize::MAX;
        Ok(sustained(party, &mut open, &work, again, span).await?.round)
    }
}

/// Processor time and polls before a point, and its result.
struct PointMeasurement {
    before: CpuTime,
    polled: u64,
    came: Sustained,
}
