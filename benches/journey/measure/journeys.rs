//! The journeys, measured in a short closed loop: maximum throughput and cost, compared with the
//! yardsticks. Deferred work is not counted here; `steady.rs` counts it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Result;
use bytes::Bytes;

use crate::load::closed::{Round, round, send};
use crate::load::work::{ACCEPTED, LoadWork, OPEN, Requests};
use crate::load::{LoadTarget, callers as connected};
use crate::measure::JourneyComparison;
use crate::plan::BenchPlan;
use crate::progress::ProgressLog;
use crate::setup::cpu::MeasuredProcess;
use crate::setup::yardstick::Backend;
use crate::setup::{BenchSetup, SetupOptions};

/// Requests before the clock starts, to warm up connections, caches and branch predictors.
pub(crate) const WARMING: usize = 300;
const QUERIED: usize = 10_000;
/// Each was paid beforehand.
const GIVEN_BACK: usize = 1_500;
/// Yardsticks are faster and receive the same bytes repeatedly.
const YARDSTICK_REQUESTS: usize = 16_000;
/// Longer than any round takes, even on a busy machine.
pub(crate) const ROUND_WITHIN_S: u64 = 90;

/// The two yardsticks.
pub(crate) struct Yardsticks {
    pub(crate) nginx: (MeasuredProcess, LoadTarget, Backend),
    bare: Option<(MeasuredProcess, LoadTarget)>,
}

/// One kind of request, or a whole payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MeasuredJourney {
    Place,
    Select,
    Query,
    Full,
    Refund,
}

impl MeasuredJourney {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Place => "place",
            Self::Select => "select",
            Self::Query => "query",
            Self::Full => "full payment",
            Self::Refund => "refund",
        }
    }

    /// Work of this kind, with everything it requires.
    pub(crate) async fn prepare(self, stand: &BenchSetup, count: usize) -> Result<Arc<LoadWork>> {
        let merchant = &stand.merchant;
        let numbers = merchant.numbers(count);
        Ok(match self {
            Self::Place => Requests::of(merchant.place(&numbers)?, ACCEPTED),
            Self::Select => {
                stand.placed(&numbers).await?;
                Requests::of(merchant.select(&numbers)?, ACCEPTED)
            }
            Self::Query => {
                let some = &numbers[..count.min(500)];
                stand.placed(some).await?;
                let numbers: Vec<String> = some.iter().cycle().take(count).cloned().collect();
                Requests::of(merchant.query(&numbers)?, OPEN)
            }
            Self::Full => {
                // A payment queried before its callback arrives must not be reported as over.
                stand
                    .institution
                    .answers_open
                    .store(true, Ordering::Relaxed);
                stand.payments(count)?
            }
            Self::Refund => {
                let paid = stand.paid(count).await?;
                Requests::of(merchant.refund(&paid)?, ACCEPTED)
            }
        })
    }
}

/// Measures one journey with each number of callers.
pub(crate) async fn measure(
    plan: &BenchPlan,
    log: &ProgressLog,
    journey: MeasuredJourney,
) -> Result<Vec<JourneyComparison>> {
    let stand = BenchSetup::start(&SetupOptions::default()).await?;
    let name = journey.name();
    log.say(&format!(
        "{name}: the gateway is process {}",
        stand.gateway.pid()
    ));
    let yardsticks = yardsticks(&stand, journey).await?;
    let mut found = Vec::new();
    for callers in plan.callers.iter().copied() {
        let mut compared = JourneyComparison::new(name, callers);
        for round_no in 1..=plan.rounds {
            let step = format!(
                "{name}, {callers} callers, round {round_no} of {}",
                plan.rounds
            );
            let taken = alternate(plan, &stand, yardsticks.as_ref(), journey, &mut compared);
            if log.step(&step, ROUND_WITHIN_S, taken).await.is_some()
                && let Some(last) = compared.gateway.last()
            {
                let (rate, us) = (last.per_second(), last.cpu_us());
                log.say(&format!("{step}: {rate:.0}/s, {us:.1} µs of CPU each"));
            }
        }
        found.push(compared);
    }
    Ok(found)
}

/// One round of the gateway, then of the yardsticks.
async fn alternate(
    plan: &BenchPlan,
    stand: &BenchSetup,
    yardsticks: Option<&Yardsticks>,
    journey: MeasuredJourney,
    compared: &mut JourneyComparison,
) -> Result<()> {
    let count = plan.sized(match journey {
        MeasuredJourney::Refund => GIVEN_BACK,
        MeasuredJourney::Place
        | MeasuredJourney::Select
        | MeasuredJourney::Query
        | MeasuredJourney::Full => QUERIED,
    });
    let warm = WARMING.min(count / 4);
    let work = journey.prepare(stand, count + warm).await?;
    let mut open = stand
        .callers(compared.callers, journey == MeasuredJourney::Full)
        .await?;
    send(&mut open, &work, 0..warm).await?;
    let measured = round(&stand.gateway, &mut open, &work, warm..count + warm).await?;
    compared.gateway.push(measured);
    drop(open);
    if let Some(Yardsticks { nginx, bare }) = yardsticks {
        let (party, target, _) = nginx;
        compared
            .nginx
            .push(proxied(plan, party, target, compared.callers, &work).await?);
        if let Some((party, target)) = bare {
            compared
                .bare
                .push(proxied(plan, party, target, compared.callers, &work).await?);
        }
    }
    Ok(())
}

/// The same requests to a yardstick, which returns the gateway's response.
pub(crate) async fn proxied(
    plan: &BenchPlan,
    party: &MeasuredProcess,
    target: &LoadTarget,
    callers: usize,
    work: &Arc<LoadWork>,
) -> Result<Round> {
    let mut open = connected(target, callers, false).await?;
    send(&mut open, work, 0..WARMING).await?;
    round(party, &mut open, work, 0..plan.sized(YARDSTICK_REQUESTS)).await
}

/// Both, returning the gateway's response to such a request; `None` for whole payments.
pub(crate) async fn yardsticks(
    stand: &BenchSetup,
    journey: MeasuredJourney,
) -> Result<Option<Yardsticks>> {
    let numbers = stand.merchant.numbers(1);
    let place = stand.merchant.place(&numbers)?;
    let placed = stand.sample(&place[0], ACCEPTED).await?;
    let whole = match journey {
        MeasuredJourney::Place => placed.whole,
        MeasuredJourney::Select => {
            let select = stand.merchant.select(&numbers)?;
            stand.sample(&select[0], ACCEPTED).await?.whole
        }
        MeasuredJourney::Query => {
            let query = stand.merchant.query(&numbers)?;
            stand.sample(&query[0], OPEN).await?.whole
        }
        MeasuredJourney::Refund => {
            let refund = stand.merchant.refund(&stand.paid(1).await?)?;
            stand.sample(&refund[0], ACCEPTED).await?.whole
        }
        MeasuredJourney::Full => return Ok(None),
    };
    let mut yardsticks = of(stand, &whole).await?;
    if journey != MeasuredJourney::Place {
        yardsticks.bare = None;
    }
    Ok(Some(yardsticks))
}

/// Both, returning this response.
pub(crate) async fn of(stand: &BenchSetup, answer: &Bytes) -> Result<Yardsticks> {
    let nginx = stand.nginx().await?;
    nginx.2.answers(answer);
    Ok(Yardsticks {
        bare: Some(stand.bare(answer).await?),
        nginx,
    })
}
