//! A destination recovers and its backlog is delivered while other payments are notified: how fast
//! that is, and how it affects the others.
//!
//! A destination is an origin. The merchant has two: one receives the results of payments, the
//! other the closing of orders, and the latter does not respond while they are closed.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::sync::oneshot::Receiver;

use crate::load::closed::{percentile_ms, send, shown_ms};
use crate::load::metronome::Phase;
use crate::load::open::{Arrival, ArrivalOutcome, Arrivals, CallerPool, SaturationPolicy};
use crate::measure::journeys::{MeasuredJourney, WARMING};
use crate::measure::ladder::most;
use crate::plan::BenchPlan;
use crate::progress::ProgressLog;
use crate::setup::cpu::own_ns;
use crate::setup::notification_endpoint::{EndpointBehaviour, NotificationEndpoint};
use crate::setup::{BenchSetup, SetupOptions};

/// Orders that are closed while the destination does not respond.
const WAITING: usize = 100_000;
/// Closed as a batch: signed, placed and closed before the signatures of the next are made.
const AT_ONCE: usize = 5_000;
/// Rate of payments, relative to the maximum.
const SHARE: f64 = 0.1;
/// More connections than are in use at once.
const CONNECTIONS: usize = 64;
/// How long the other payments run without a backlog.
const ALONE_S: f64 = 15.0;
/// The interval between two checks for the first delivery.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// The time limit for delivering the backlog.
const GONE_WITHIN: Duration = Duration::from_secs(200);

/// The results.
pub(crate) struct Backlog {
    pub(crate) waiting: usize,
    /// Of them, those that the gateway had attempted in vain.
    pub(crate) tried: usize,
    /// From when the destination responded again. Unit: seconds.
    pub(crate) first_notified_s: f64,
    pub(crate) last_notified_s: f64,
    /// Between the first and the last.
    pub(crate) notified_per_second: f64,
    /// Utilisation of the gateway's core meanwhile.
    pub(crate) busy: f64,
    pub(crate) load_busy: f64,
    /// Resident memory before, and with the whole backlog. Unit: bytes.
    pub(crate) resident: [u64; 2],
    /// Payments notified to the other destination.
    pub(crate) payments_per_second: f64,
    pub(crate) alone: OtherPayments,
    pub(crate) meanwhile: OtherPayments,
}

/// Payments by schedule. Unit: microseconds; sorted.
pub(crate) struct OtherPayments {
    /// From a callback's first byte to the merchant's acknowledgement.
    pub(crate) notified_us: Vec<u32>,
    /// From the scheduled arrival of the payer.
    pub(crate) latencies_us: Vec<u32>,
}

/// Runs on a gateway of its own.
pub(crate) async fn measure(plan: &BenchPlan, log: &ProgressLog) -> Result<Backlog> {
    let options = SetupOptions {
        notify_closed: true,
        ..SetupOptions::default()
    };
    let stand = BenchSetup::start(&options).await?;
    let second = stand.second_shop.clone().context("no second shop")?;
    let payments_per_second = most(plan, &stand, MeasuredJourney::Full).await? * SHARE;
    let phase = |lasting| Phase {
        per_second: payments_per_second,
        lasting,
    };

    let quiet = phase(plan.lasting(ALONE_S));
    let came = payers(&stand, quiet).await?;
    let came = came.come(&[quiet], SaturationPolicy::Waits).await?;
    let alone = others(&came, [came.begin, Instant::now()])?;
    log.say(&format!(
        "backlog: {payments_per_second:.0} payments/s alone, notified in p99 {} ms",
        shown_ms(percentile_ms(&alone.notified_us, 99))
    ));

    let before = stand.gateway.memory()?.rss;
    let waiting = plan.sized(WAITING);
    let acknowledgements = filled(&stand, &second, waiting).await?;
    let resident = [before, stand.gateway.memory()?.rss];
    let tried = second.unanswered.load(Ordering::Relaxed);
    log.say(&format!("backlog: {waiting} wait, {tried} were tried"));

    let busy = phase(GONE_WITHIN);
    let payers = payers(&stand, busy).await?;
    let back = Instant::now();
    second.set_behaviour(EndpointBehaviour::Answers);
    let is_over = Cell::new(false);
    let delivering = async {
        let result =
            tokio::time::timeout(GONE_WITHIN, delivered(&stand, &second, acknowledgements)).await;
        is_over.set(true);
        result.context("the backlog was not delivered in time")?
    };
    let phases = [busy];
    let comes = payers.come_until(&phases, SaturationPolicy::Waits, || is_over.get());
    let (delivery, came) = tokio::join!(delivering, comes);
    let BacklogDelivery {
        first,
        last,
        busy: [busy, load_busy],
    } = delivery?;
    let came = came?;
    let meanwhile = others(&came, [first, last])?;
    let found = Backlog {
        waiting,
        tried,
        first_notified_s: (first - back).as_secs_f64(),
        last_notified_s: (last - back).as_secs_f64(),
        notified_per_second: waiting as f64 / (last - first).as_secs_f64(),
        busy,
        load_busy,
        resident,
        payments_per_second,
        alone,
        meanwhile,
    };
    log.say(&format!(
        "backlog: the first delivered after {:.1} s, all after {:.1} s, {:.0}/s; others notified in p99 {} ms",
        found.first_notified_s,
        found.last_notified_s,
        found.notified_per_second,
        shown_ms(percentile_ms(&found.meanwhile.notified_us, 99)),
    ));
    Ok(found)
}

/// Prepared payers for the phase.
async fn payers(stand: &BenchSetup, phase: Phase) -> Result<Arc<CallerPool>> {
    let count = (phase.per_second * phase.lasting.as_secs_f64()) as usize;
    let work = MeasuredJourney::Full
        .prepare(stand, count + WARMING)
        .await?;
    let mut open = stand.callers(CONNECTIONS, true).await?;
    send(&mut open, &work, 0..WARMING).await?;
    stand.settled().await?;
    Ok(CallerPool::new(open, work, WARMING))
}

/// Closes this many orders while their destination does not respond; returns a receiver for the
/// later delivery of each.
async fn filled(
    stand: &BenchSetup,
    second: &NotificationEndpoint,
    count: usize,
) -> Result<Vec<Receiver<Instant>>> {
    second.set_behaviour(EndpointBehaviour::Silent);
    let numbers = stand.merchant.numbers(count);
    let acknowledgements = numbers.iter().map(|no| second.expect(no)).collect();
    for some in numbers.chunks(AT_ONCE) {
        stand.closed(some).await?;
    }
    stand.settled().await?;
    Ok(acknowledgements)
}

/// Times of the first and last delivery, and the utilisation of the gateway's and the load's core
/// in between.
struct BacklogDelivery {
    first: Instant,
    last: Instant,
    busy: [f64; 2],
}

async fn delivered(
    stand: &BenchSetup,
    second: &NotificationEndpoint,
    acknowledgements: Vec<Receiver<Instant>>,
) -> Result<BacklogDelivery> {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    while second.answered.load(Ordering::Relaxed) == 0 {
        ticks.tick().await;
    }
    let (spent, own, begin) = (stand.gateway.spent(), own_ns(), Instant::now());
    let mut moments = Vec::with_capacity(acknowledgements.len());
    for acknowledged in acknowledgements {
        moments.push(acknowledged.await?);
    }
    let lasted_ns = begin.elapsed().as_nanos() as f64;
    let gateway_ns = stand.gateway.spent().since(&spent).total_ns();
    let load_ns = own_ns().saturating_sub(own);
    let first = moments.iter().min().context("nothing waited")?;
    let last = moments.iter().max().context("nothing waited")?;
    Ok(BacklogDelivery {
        first: *first,
        last: *last,
        busy: [gateway_ns, load_ns].map(|ns| ns as f64 / lasted_ns),
    })
}

/// Payments between two moments, each of which must have succeeded.
fn others(came: &Arrivals, [from, until]: [Instant; 2]) -> Result<OtherPayments> {
    let at = |one: &&Arrival| {
        let at = came.begin + Duration::from_micros(one.at_us.into());
        (from..until).contains(&at)
    };
    let ones: Vec<&Arrival> = came.all.iter().filter(at).collect();
    let well = ones.iter().all(|one| one.served == ArrivalOutcome::Good);
    ensure!(
        well,
        "a payment did not succeed: {}",
        came.oddity.as_deref().unwrap_or("no connection was idle")
    );
    let sorted = |of: fn(&Arrival) -> u32| {
        let mut values: Vec<u32> = ones.iter().copied().map(of).collect();
        values.sort_unstable();
        values
    };
    Ok(OtherPayments {
        notified_us: sorted(|one| one.notified_us),
        latencies_us: sorted(|one| one.latency_us),
    })
}
