//! The steady state as a table: every point with the spread of its rounds.

use std::fmt::Write as _;

use anyhow::Result;

use crate::load::closed::Round;
use crate::measure::steady::{LoadLevel, LoadPoint, SteadyMeasurement, SteadyRound, spread};
use crate::measure::{median, middle};

/// All points; then the gateway's processor time by thread at full load.
pub(crate) fn table(out: &mut String, found: &[SteadyMeasurement]) -> Result<()> {
    let Some(first) = found.first() else {
        return Ok(());
    };
    writeln!(
        out,
        "\n### Steady state\n\n\
         Twenty seconds each after five of warm-up, on a store of {} orders; alternating rounds, the \
         median with minimum and maximum. *CPU µs per request* is the gateway's processor time from \
         the first request until no work is left, per request of that time, including exchange log, \
         checkpoints and polling. *During arrivals* excludes what was done afterwards.\n\n\
         | Journey | load | per second | p50 ms | p99 ms | CPU µs per request | × nginx | during arrivals, µs | core utilisation | load core utilisation |\n\
         |---|---|---|---|---|---|---|---|---|---|",
        first.orders
    )?;
    for each in found {
        for point in &each.points {
            row(out, each, point)?;
            yardstick(out, each, point)?;
        }
    }
    threads(out, found)
}

fn row(out: &mut String, each: &SteadyMeasurement, point: &LoadPoint) -> Result<()> {
    let Some([least, us, most]) = point.spread(SteadyRound::cpu_us) else {
        return Ok(());
    };
    let of = |figure: &dyn Fn(&Round) -> f64| {
        middle(point.held.iter().map(|held| figure(&held.round)).collect()).unwrap_or_default()
    };
    let ratio = point.ratio().map(|ratio| format!("{ratio:.1} ×"));
    let p99 = point.spread(|held| held.round.percentile_ms(99));
    let [low, p99, high] = p99.unwrap_or_default();
    let callers = match point.load {
        LoadLevel::Full => format!("{}, {} callers", point.load.name(), each.callers),
        LoadLevel::Half | LoadLevel::PerSecond(_) => point.load.name(),
    };
    writeln!(
        out,
        "| {} | {callers} | {:.0} | {:.1} | {p99:.1} ({low:.1} to {high:.1}) | {us:.1} ({least:.1} to {most:.1}) | {} | {:.1} | {:.0} % | {:.0} % |",
        each.journey,
        of(&Round::per_second),
        of(&|round| round.percentile_ms(50)),
        ratio.unwrap_or_default(),
        of(&Round::cpu_us),
        of(&Round::busy) * 100.0,
        of(&Round::load_busy) * 100.0,
    )?;
    Ok(())
}

/// nginx under the same load.
fn yardstick(out: &mut String, each: &SteadyMeasurement, point: &LoadPoint) -> Result<()> {
    let nginx = &point.nginx;
    let Some([least, us, most]) = spread(nginx.iter().map(Round::cpu_us).collect()) else {
        return Ok(());
    };
    let of = |figure: &dyn Fn(&Round) -> f64| median(nginx, figure).unwrap_or_default();
    writeln!(
        out,
        "| {} | {}, nginx as a bare proxy | {:.0} | {:.1} | {:.1} | {us:.1} ({least:.1} to {most:.1}) | 1.0 × | | {:.0} % | {:.0} % |",
        each.journey,
        point.load.name(),
        of(&Round::per_second),
        of(&|round| round.percentile_ms(50)),
        of(&|round| round.percentile_ms(99)),
        of(&Round::busy) * 100.0,
        of(&Round::load_busy) * 100.0,
    )?;
    Ok(())
}

fn threads(out: &mut String, found: &[SteadyMeasurement]) -> Result<()> {
    out.push_str(
        "\n| Journey | load | thread of the gateway | CPU µs per request |\n|---|---|---|---|\n",
    );
    for each in found {
        for point in &each.points {
            let Some(last) = point.held.last() else {
                continue;
            };
            for (name, ns) in last.spent.by_name() {
                let us = ns as f64 / 1_000.0 / last.answered as f64;
                if us >= 0.5 {
                    let load = point.load.name();
                    writeln!(out, "| {} | {load} | {name} | {us:.1} |", each.journey)?;
                }
            }
        }
    }
    Ok(())
}
