//! A destination that was dead comes back, and all that waited for it is told, while others go on
//! being told of their payments: how fast it goes, and what it costs the others.
//!
//! A destination is an origin. The merchant here has two: one hears of payments, the other of
//! orders that were closed, and that one does not answer while they are closed.

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

/// Orders that are closed while nobody answers.
const WAITING: usize = 100_000;
/// Closed at once: signed, placed and closed before the signatures of the next are made.
const AT_ONCE: usize = 5_000;
/// Of what full payments do at most.
const SHARE: f64 = 0.1;
/// Connections among which those who come find a free one.
const CONNECTIONS: usize = 64;
/// How long the others come alone.
const ALONE_S: f64 = 15.0;
/// Between two looks whether the first was heard.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// The backlog is gone by then.
const GONE_WITHIN: Duration = Duration::from_secs(200);

/// What was found.
pub(crate) struct Backlog {
    pub(crate) waiting: usize,
    /// Of which the gateway had tried to tell so many, in vain.
    pub(crate) tried: usize,
    /// From the moment when the destination answered again. Unit: seconds.
    pub(crate) first_notified_s: f64,
    pub(crate) last_notified_s: f64,
    /// Between the first and the last.
    pub(crate) notified_per_second: f64,
    /// The share of its core that the gateway had meanwhile.
    pub(crate) busy: f64,
    pub(crate) load_busy: f64,
    /// What the gateway held before, and with everything waiting. Unit: bytes.
    pub(crate) resident: [u64; 2],
    /// Payments told to the other destination.
    pub(crate) payments_per_second: f64,
    pub(crate) alone: OtherPayments,
    pub(crate) meanwhile: OtherPayments,
}

/// Payments that came by schedule. Unit: microseconds; sorted.
pub(crate) struct OtherPayments {
    /// From a callback's first byte to the merchant's acknowledgement.
    pub(crate) told_us: Vec<u32>,
    /// From the moment when the payer was to come.
    pub(crate) latencies_us: Vec<u32>,
}

/// On a gateway of its own.
pub(crate) async fn measure(plan: &BenchPlan, log: &ProgressLog) -> Result<Backlog> {
    let wanted = SetupOptions {
        notify_closed: true,
        ..SetupOptions::default()
    };
    let stand = BenchSetup::start(&wanted).await?;
    let second = stand.second_shop.clone().context("no second shop")?;
    let payments_per_second = most(plan, &stand, MeasuredJourney::Full).await? * SHARE;
    let phase = |lasting| Phase {
        per_second: payments_per_second,
        lasting,
    };

    let quiet = phase(plan.lasting(ALONE_S));
    let came = crowd(&stand, quiet).await?;
    let came = came.come(&[quiet], SaturationPolicy::Waits).await?;
    let alone = others(&came, [came.begin, Instant::now()])?;
    log.say(&format!(
        "backlog: {payments_per_second:.0} payments/s alone, told in p99 {} ms",
        shown_ms(percentile_ms(&alone.told_us, 99))
    ));

    let before = stand.gateway.memory()?.rss;
    let waiting = plan.sized(WAITING);
    let hearing = filled(&stand, &second, waiting).await?;
    let resident = [before, stand.gateway.memory()?.rss];
    let tried = second.unanswered.load(Ordering::Relaxed);
    log.say(&format!("backlog: {waiting} wait, {tried} were tried"));

    let busy = phase(GONE_WITHIN);
    let payers = crowd(&stand, busy).await?;
    let back = Instant::now();
    second.permit(EndpointBehaviour::Answers);
    let gone = Cell::new(false);
    let told = async {
        let heard = tokio::time::timeout(GONE_WITHIN, heard(&stand, &second, hearing)).await;
        gone.set(true);
        heard.context("the backlog was not gone in time")?
    };
    let phases = [busy];
    let comes = payers.come_until(&phases, SaturationPolicy::Waits, || gone.get());
    let (heard, came) = tokio::join!(told, comes);
    let BacklogDelivery {
        first,
        last,
        busy: [busy, load_busy],
    } = heard?;
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
        "backlog: the first heard after {:.1} s, all after {:.1} s, {:.0}/s; others told in p99 {} ms",
        found.first_notified_s,
        found.last_notified_s,
        found.notified_per_second,
        shown_ms(percentile_ms(&found.meanwhile.told_us, 99)),
    ));
    Ok(found)
}

/// Payers who are ready to come, as many as the phase needs.
async fn crowd(stand: &BenchSetup, phase: Phase) -> Result<Arc<CallerPool>> {
    let count = (phase.per_second * phase.lasting.as_secs_f64()) as usize;
    let work = MeasuredJourney::Full
        .prepare(stand, count + WARMING)
        .await?;
    let mut open = stand.callers(CONNECTIONS, true).await?;
    send(&mut open, &work, 0..WARMING).await?;
    stand.settled().await?;
    Ok(CallerPool::new(open, work, WARMING))
}

/// Closes so many orders while nobody hears of it; whoever waits here is told of each when it was
/// heard after all.
async fn filled(
    stand: &BenchSetup,
    second: &NotificationEndpoint,
    count: usize,
) -> Result<Vec<Receiver<Instant>>> {
    second.permit(EndpointBehaviour::Silent);
    let numbers = stand.merchant.numbers(count);
    let hearing = numbers.iter().map(|no| second.expect(no)).collect();
    for some in numbers.chunks(AT_ONCE) {
        stand.closed(some).await?;
    }
    stand.settled().await?;
    Ok(hearing)
}

/// When the first and the last was heard, and how busy the gateway and the load were in between,
/// each on its core.
struct BacklogDelivery {
    first: Instant,
    last: Instant,
    busy: [f64; 2],
}

async fn heard(
    stand: &BenchSetup,
    second: &NotificationEndpoint,
    hearing: Vec<Receiver<Instant>>,
) -> Result<BacklogDelivery> {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    while second.answered.load(Ordering::Relaxed) == 0 {
        ticks.tick().await;
    }
    let (spent, own, begin) = (stand.gateway.spent(), own_ns(), Instant::now());
    let mut moments = Vec::with_capacity(hearing.len());
    for hears in hearing {
        moments.push(hears.await?);
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

/// Payments that came between two moments, each of which must have been served well.
fn others(came: &Arrivals, [from, until]: [Instant; 2]) -> Result<OtherPayments> {
    let at = |one: &&Arrival| {
        let at = came.begin + Duration::from_micros(one.at_us.into());
        (from..until).contains(&at)
    };
    let ones: Vec<&Arrival> = came.all.iter().filter(at).collect();
    let well = ones.iter().all(|one| one.served == ArrivalOutcome::Good);
    ensure!(
        well,
        "a payment was not served well: {}",
        came.oddity.as_deref().unwrap_or("no connection was free")
    );
    let sorted = |of: fn(&Arrival) -> u32| {
        let mut values: Vec<u32> = ones.iter().copied().map(of).collect();
        values.sort_unstable();
        values
    };
    Ok(OtherPayments {
        told_us: sorted(|one| one.told_us),
        latencies_us: sorted(|one| one.latency_us),
    })
}
