//! Goals and results. The worst figure counts, and what was not measured does not count as met.

use std::fmt::Write as _;

use anyhow::Result;

use crate::load::closed::{Round, percentile_ms};
use crate::measure::ladder::LoadStep;
use crate::measure::large::LargeDatabase;
use crate::measure::sizes::{EXCHANGE_LOG, LEDGER};
use crate::measure::steady::{LoadLevel, LoadPoint, SteadyRound};
use crate::measure::{JourneyComparison, median, middle};
use crate::report::Findings;

/// For work without a goal, which is neither met nor missed.
const NONE_SET: &str = "none was set";

/// The result for a goal as text, and whether it meets the goal.
type GoalResult = Option<(String, bool)>;

/// The table; in a whole run it also lists what could not be measured.
pub(crate) fn table(out: &mut String, found: &Findings, whole: bool) -> Result<()> {
    out.push_str("\n### Goals\n\n| Work | goal | found | |\n|---|---|---|---|\n");
    for (work, goal, judged) in rows(found) {
        if judged.is_none() && !whole {
            continue;
        }
        row(out, work, goal, judged)?;
    }
    Ok(())
}

/// Goals and results.
fn rows(found: &Findings) -> [(&'static str, &'static str, GoalResult); 15] {
    [
        (
            "place an order, in the steady state",
            "≤ 7 × nginx's CPU for a bare request",
            steady(found, "place", 7.0),
        ),
        (
            "select an institution, including the polling of the payment",
            "≤ 12 × nginx's CPU",
            steady(found, "select", 12.0),
        ),
        (
            "complete payment: place, select, callback, notification",
            "≤ 700 µs of CPU",
            payment(found),
        ),
        (
            "CPU of placing at 700 per second, relative to full load",
            "≤ 1.4 ×",
            quiet(found),
        ),
        (
            "placing at half load, p99",
            "≤ 5 ms",
            half_load(found, "place", 5.0),
        ),
        (
            "selecting at half load, p99 (including its institution, which answers immediately)",
            "≤ 10 ms",
            half_load(found, "select", 10.0),
        ),
        (
            "callback's first byte to the merchant's acknowledgement at 70 % load, p99 (including the durable result)",
            "≤ 50 ms",
            notification(found),
        ),
        (
            "memory at 1,000 connections",
            "≤ 60 MB",
            memory(found, 1_000, 60.0),
        ),
        (
            "memory at 10,000 connections",
            "≤ 250 MB",
            memory(found, 10_000, 250.0),
        ),
        ("ready with 1,000,000 orders", "≤ 200 ms", ready(found)),
        (
            "ten times overload",
            "≥ 90 % of the peak, rejections p99 ≤ 50 ms, normal within 5 s",
            overload(found),
        ),
        ("refund", NONE_SET, ratio(found, "refund", f64::INFINITY)),
        (
            "notification latency of another destination during a backlog of 100,000, p99",
            "≤ 100 ms",
            backlog(found),
        ),
        (
            "ledger rows of an order, paid and notified",
            "≤ 4 KB",
            size(found, &LEDGER),
        ),
        (
            "its exchange log (`paymux explain`)",
            "≤ 4 KB, compressed",
            size(found, &EXCHANGE_LOG),
        ),
    ]
}

fn row(out: &mut String, work: &str, goal: &str, judged: GoalResult) -> Result<()> {
    let (found, decision) = match judged {
        Some((found, _)) if goal == NONE_SET => (found, ""),
        Some((found, true)) => (found, "met"),
        Some((found, false)) => (found, "**missed**"),
        None => ("not measured".to_owned(), ""),
    };
    writeln!(out, "| {work} | {goal} | {found} | {decision} |")?;
    Ok(())
}

/// For each number of callers, all of which must meet the goal.
fn ratio(found: &Findings, journey: &str, most: f64) -> GoalResult {
    let of = |each: &JourneyComparison| Some((each.callers, each.ratio()?));
    let ratios: Vec<_> = of_journey(found, journey).filter_map(of).collect();
    let worst = ratios.iter().map(|(_, ratio)| *ratio).reduce(f64::max)?;
    let texts = ratios
        .iter()
        .map(|(callers, ratio)| format!("{ratio:.1} × with {callers}"));
    let texts: Vec<_> = texts.collect();
    Some((format!("{} callers", texts.join(", ")), worst <= most))
}

fn of_journey<'f>(
    found: &'f Findings,
    journey: &str,
) -> impl Iterator<Item = &'f JourneyComparison> {
    let compared = found.compared.iter();
    compared.filter(move |each| each.journey == journey)
}

/// The median round relative to the yardstick's median.
fn steady(found: &Findings, journey: &str, most: f64) -> GoalResult {
    let found = found.steady.iter().find(|each| each.journey == journey)?;
    let ratio = found.ratio()?;
    let [least, worst] = found.ratios()?;
    let text = format!("{ratio:.1} × ({least:.1} to {worst:.1})");
    Some((text, ratio <= most))
}

fn point<'f>(found: &'f Findings, journey: &str, load: LoadLevel) -> Option<&'f LoadPoint> {
    let found = found.steady.iter().find(|each| each.journey == journey)?;
    found.points.iter().find(|point| point.load == load)
}

fn payment(found: &Findings) -> GoalResult {
    let point = point(found, "full payment", LoadLevel::Full)?;
    let [least, us, most] = point.spread(SteadyRound::cpu_us)?;
    let rate = middle(
        point
            .held
            .iter()
            .map(|each| each.round.per_second())
            .collect(),
    )?;
    let text = format!("{us:.0} µs ({least:.0} to {most:.0}), {rate:.0} per second");
    Some((text, us <= 700.0))
}

fn quiet(found: &Findings) -> GoalResult {
    let full = point(found, "place", LoadLevel::Full)?;
    let few = point(found, "place", LoadLevel::PerSecond(700))?;
    let times = |of: &dyn Fn(&LoadPoint) -> Option<f64>| Some(of(few)? / of(full)?);
    let us = |point: &LoadPoint| point.spread(SteadyRound::cpu_us).map(|[_, us, _]| us);
    let nginx = |point: &LoadPoint| median(&point.nginx, Round::cpu_us);
    let gateway = times(&us)?;
    let text = format!(
        "{gateway:.2} × ({:.0} of {:.0} µs); nginx {:.2} ×",
        us(few)?,
        us(full)?,
        times(&nginx)?
    );
    Some((text, gateway <= 1.4))
}

fn half_load(found: &Findings, journey: &str, most: f64) -> GoalResult {
    let point = point(found, journey, LoadLevel::Half)?;
    let [least, ms, worst] = point.spread(|held| held.round.percentile_ms(99))?;
    Some((format!("{ms:.1} ms ({least:.1} to {worst:.1})"), ms <= most))
}

fn rung<'f>(found: &'f Findings, journey: &str, percent: u32) -> Option<&'f LoadStep> {
    let ladder = found
        .ladders
        .iter()
        .find(|ladder| ladder.journey == journey)?;
    ladder.rungs.iter().find(|rung| rung.percent == percent)
}

fn notification(found: &Findings) -> GoalResult {
    let ms = percentile_ms(&rung(found, "full payment", 70)?.notified_us, 99)?;
    Some((format!("{ms:.1} ms"), ms <= 50.0))
}

fn memory(found: &Findings, connections: usize, most_mb: f64) -> GoalResult {
    let held = found
        .memory
        .iter()
        .find(|held| held.connections == connections)?;
    let mb = |bytes: u64| bytes as f64 / 1e6;
    let (rss, pss) = (mb(held.memory.rss), mb(held.memory.pss));
    Some((
        format!("{rss:.0} MB resident, {pss:.0} MB proportional"),
        rss <= most_mb,
    ))
}

fn ready(found: &Findings) -> GoalResult {
    let startup = found
        .startup
        .as_ref()
        .filter(|startup| startup.orders >= 1_000_000)?;
    let ms = middle(startup.ready_ms.clone())?;
    let worst = startup.ready_ms.iter().copied().fold(0.0, f64::max);
    Some((format!("{ms:.0} ms, at most {worst:.0} ms"), worst <= 200.0))
}

/// For whole payments, the gateway's purpose; if nothing was rejected, the rejection time is
/// unknown. Overload of placing alone has its own table.
fn overload(found: &Findings) -> GoalResult {
    let one = found
        .overloads
        .iter()
        .find(|one| one.journey == "full payment")?;
    let share = one.good_per_second / one.peak_per_second * 100.0;
    let normal = one.normal_after_s.map_or_else(
        || "not normal during the observation".to_owned(),
        |after_s| format!("normal after {after_s:.1} s"),
    );
    let met = share >= 90.0
        && one.refused_p99_ms.is_some_and(|ms| ms <= 50.0)
        && one.normal_after_s.is_some_and(|after_s| after_s <= 5.0);
    let refused = one.refused_p99_ms.map_or_else(
        || "none rejected".to_owned(),
        |ms| format!("rejections p99 {ms:.0} ms"),
    );
    let text = format!(
        "{share:.0} % with {:.1} times offered and {:.1} times sent, {refused}, {normal}",
        one.offered_times(),
        one.sent_times()
    );
    Some((text, met))
}

fn backlog(found: &Findings) -> GoalResult {
    let backlog = found.backlog.as_ref();
    let backlog = backlog.filter(|backlog| backlog.waiting >= 100_000)?;
    let ms = percentile_ms(&backlog.meanwhile.notified_us, 99)?;
    let alone_ms = percentile_ms(&backlog.alone.notified_us, 99)?;
    let text = format!(
        "{ms:.1} ms, without a backlog {alone_ms:.1} ms; {:.0} of the backlog delivered per second",
        backlog.notified_per_second
    );
    Some((text, ms <= 100.0))
}

/// As the gateway left the file: the larger figure.
fn size(found: &Findings, tables: &[&str]) -> GoalResult {
    let [left, packed] = found.sizes.as_ref()?.of(tables);
    let text = format!("{:.1} KB, packed {:.1} KB", left / 1e3, packed / 1e3);
    Some((text, left <= 4_000.0))
}

/// The table over five million orders: latency and processor time, each at most twice as high, for
/// each number of callers.
pub(crate) fn among_many(out: &mut String, large: &LargeDatabase) -> Result<()> {
    out.push_str("\n| Work | goal | found | |\n|---|---|---|---|\n");
    for each in &large.compared {
        let times = |figure: &dyn Fn(&Round) -> f64| {
            Some(median(&each.large, figure)? / median(&each.empty, figure)?)
        };
        let judged = (|| {
            let waited = times(&|round| round.percentile_ms(50))?;
            let late = times(&|round| round.percentile_ms(99))?;
            let spent = times(&Round::cpu_us)?;
            let text = format!("{waited:.2} × (p99 {late:.2} ×), CPU {spent:.2} ×");
            Some((text, waited <= 2.0 && spent <= 2.0))
        })();
        row(
            out,
            &format!(
                "{} over {} orders, {} callers",
                each.journey, large.orders, each.callers
            ),
            "p50 and CPU ≤ 2 × an empty database's",
            judged,
        )?;
    }
    Ok(())
}
