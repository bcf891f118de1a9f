//! Callbacks of an institution, and the notifications that follow, measured separately: the
//! merchant's endpoint holds its answers back while callbacks are measured.

pub(crate) mod polling;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;

use crate::load::BenchCaller;
use crate::load::closed::{Round, round, send};
use crate::load::work::{ACCEPTED, LoadWork, Requests, SUCCESS};
use crate::measure::JourneyComparison;
use crate::measure::journeys::ROUND_WITHIN_S;
use crate::plan::BenchPlan;
use crate::progress::ProgressLog;
use crate::setup::cpu::own_ns;
use crate::setup::notification_endpoint::EndpointBehaviour;
use crate::setup::{BenchSetup, SetupOptions};

/// So few that selecting them and sending the callbacks is nearly over before the gateway polls the
/// first of them.
const BURST: usize = 500;
const BURSTS: usize = 4;
/// The time limit for notifying the merchant of a burst.
const NOTIFIED_WITHIN: Duration = Duration::from_secs(15);
/// After the last acknowledgement, for the gateway to record it.
const SETTLE_TIME: Duration = Duration::from_millis(30);

/// Both, for each number of callers.
pub(crate) async fn measure(plan: &BenchPlan, log: &ProgressLog) -> Result<Vec<JourneyComparison>> {
    let stand = BenchSetup::start(&SetupOptions::default()).await?;
    stand
        .institution
        .answers_open
        .store(true, Ordering::Relaxed);
    log.say(&format!(
        "callback: the gateway is process {}",
        stand.gateway.pid()
    ));
    let mut found = Vec::new();
    for callers in plan.callers.iter().copied() {
        let mut callback = JourneyComparison::new("callback", callers);
        let mut notify = JourneyComparison::new("notify", callers);
        for round_no in 1..=plan.rounds {
            let step = format!(
                "callback, {callers} callers, round {round_no} of {}",
                plan.rounds
            );
            let measured = log.step(&step, ROUND_WITHIN_S, bursts(plan, &stand, callers));
            let Some([called, notified]) = measured.await else {
                // Answers held back must not carry over to the next round.
                stand.shop.set_behaviour(EndpointBehaviour::Answers);
                continue;
            };
            log.say(&format!(
                "{step}: {:.0}/s, {:.1} µs of CPU each; notify {:.0}/s, {:.1} µs",
                called.per_second(),
                called.cpu_us(),
                notified.per_second(),
                notified.cpu_us(),
            ));
            callback.gateway.push(called);
            notify.gateway.push(notified);
        }
        found.extend([callback, notify]);
    }
    Ok(found)
}

async fn bursts(plan: &BenchPlan, stand: &BenchSetup, callers: usize) -> Result<[Round; 2]> {
    let mut open = stand.callers(callers, false).await?;
    let mut sums: Option<[Round; 2]> = None;
    for _ in 0..if plan.quick { 1 } else { BURSTS } {
        let [callbacks, notices] = burst(stand, &mut open).await?;
        sums = Some(match sums {
            Some([first, second]) => [first.and(callbacks), second.and(notices)],
            None => [callbacks, notices],
        });
    }
    sums.context("no burst")
}

async fn burst(stand: &BenchSetup, open: &mut Vec<BenchCaller>) -> Result<[Round; 2]> {
    let numbers = stand.merchant.numbers(BURST);
    let callbacks = accepted(stand, open, &numbers).await?;
    let acknowledgements: Vec<_> = numbers.iter().map(|no| stand.shop.expect(no)).collect();
    stand.shop.set_behaviour(EndpointBehaviour::HoldsBack);
    let work = Requests::of(callbacks, SUCCESS);
    let called = round(&stand.gateway, open, &work, 0..BURST).await?;

    let (before, own_before, start) = (stand.gateway.spent(), own_ns(), Instant::now());
    stand.shop.set_behaviour(EndpointBehaviour::Answers);
    let mut last = start;
    let mut latencies_us = Vec::with_capacity(BURST);
    let all = async {
        for acknowledged in acknowledgements {
            let at = acknowledged.await?;
            last = last.max(at);
            let since = at.saturating_duration_since(start);
            latencies_us.push(u32::try_from(since.as_micros())?);
        }
        Ok::<(), anyhow::Error>(())
    };
    let notified = tokio::time::timeout(NOTIFIED_WITHIN, all).await;
    notified.context("the merchant was not notified in time")??;
    let load_ns = own_ns().saturating_sub(own_before);
    let mut settle = tokio::time::interval(SETTLE_TIME);
    settle.tick().await;
    settle.tick().await;
    let ended = stand.gateway.spent();
    latencies_us.sort_unstable();
    let notified = Round {
        requests: BURST,
        wall_s: (last - start).as_secs_f64(),
        latencies_us,
        spent: ended.since(&before),
        ended,
        load_ns,
    };
    Ok([called, notified])
}

/// Selects the institution for these orders and signs the callbacks that report their payment.
async fn accepted(
    stand: &BenchSetup,
    open: &mut Vec<BenchCaller>,
    numbers: &[String],
) -> Result<Arc<[Bytes]>> {
    stand.placed(numbers).await?;
    let work = Arc::new(LoadWork::Requests(Requests {
        list: stand.merchant.select(numbers)?,
        expected: ACCEPTED,
        attempts: Some(Mutex::default()),
    }));
    send(open, &work, 0..numbers.len()).await?;
    let LoadWork::Requests(Requests {
        attempts: Some(attempts),
        ..
    }) = &*work
    else {
        anyhow::bail!("the attempts were not recorded");
    };
    let attempts = attempts.lock().unwrap_or_else(PoisonError::into_inner);
    ensure!(
        attempts.len() == numbers.len(),
        "a selection returned no attempt"
    );
    let callbacks = attempts.iter().map(|no| stand.institution.callback(no));
    callbacks.collect::<Result<Vec<_>>>().map(Into::into)
}
