//! The tables, in Markdown. What was not measured has no line.

use std::fmt::Write as _;

use anyhow::Result;

use crate::load::closed::{Round, percentile_ms, shown_ms};
use crate::measure::algorithms::AlgorithmComparison;
use crate::measure::commits::Commits;
use crate::measure::ladder::LatencyByLoad;
use crate::measure::memory::ConnectionMemory;
use crate::measure::overload::OverloadMeasurement;
use crate::measure::pieces::Piece;
use crate::measure::startup::StartupTimes;
use crate::measure::{JourneyComparison, median};
use crate::progress::MissingMeasurement;

/// Closed loop: gateway and yardsticks.
pub(crate) fn journeys(out: &mut String, compared: &[JourneyComparison]) -> Result<()> {
    if compared.is_empty() {
        return Ok(());
    }
    out.push_str(
        "\n### First seconds\n\n\
         Callers who send the next request as soon as the last is answered, on an empty store; \
         deferred work is not counted.\n\n\
         | Journey | callers | | per second | p50 ms | p90 ms | p99 ms | CPU µs per request | × nginx | its core utilisation | load core utilisation |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for each in compared {
        let parties = [
            ("**gateway**", &each.gateway),
            ("nginx, bare proxy", &each.nginx),
            ("pingora, bare", &each.bare),
        ];
        for (who, rounds) in parties {
            let Some(us) = median(rounds, Round::cpu_us) else {
                continue;
            };
            let nginx = median(&each.nginx, Round::cpu_us);
            let ratio = nginx.map(|nginx| format!("{:.1} ×", us / nginx));
            let of = |figure: &dyn Fn(&Round) -> f64| median(rounds, figure).unwrap_or_default();
            writeln!(
                out,
                "| {} | {} | {who} | {:.0} | {:.1} | {:.1} | {:.1} | {us:.1} | {} | {:.0} % | {:.0} % |",
                each.journey,
                each.callers,
                of(&Round::per_second),
                of(&|round| round.percentile_ms(50)),
                of(&|round| round.percentile_ms(90)),
                of(&|round| round.percentile_ms(99)),
                ratio.unwrap_or_default(),
                of(&Round::busy) * 100.0,
                of(&Round::load_busy) * 100.0,
            )?;
        }
    }
    let rounds = compared.iter().map(|each| each.gateway.len()).max();
    writeln!(
        out,
        "\nMedians of {} alternating rounds. If the load's core is nearly saturated, the rate is the \
         load's maximum, and only the processor time is the gateway's or the yardstick's.",
        rounds.unwrap_or_default()
    )?;
    Ok(())
}

/// The gateway's processor time by thread name.
pub(crate) fn threads(out: &mut String, compared: &[JourneyComparison]) -> Result<()> {
    if compared.is_empty() {
        return Ok(());
    }
    out.push_str(
        "\n| Journey | callers | thread of the gateway | CPU µs per request |\n|---|---|---|---|\n",
    );
    for each in compared {
        let Some(last) = each.gateway.last() else {
            continue;
        };
        for (name, ns) in last.spent.by_name() {
            let us = ns as f64 / 1_000.0 / last.requests as f64;
            if us >= 0.5 {
                writeln!(
                    out,
                    "| {} | {} | {name} | {us:.1} |",
                    each.journey, each.callers
                )?;
            }
        }
    }
    Ok(())
}

/// The signature algorithms.
pub(crate) fn signed(out: &mut String, signed: &[AlgorithmComparison]) -> Result<()> {
    if signed.is_empty() {
        return Ok(());
    }
    out.push_str(
        "\n### By algorithm\n\nPlacing an order, 64 callers; RSA keys of 2,048 bits.\n\n\
         | request signed with | answer signed with | per second | p99 ms | CPU µs per request |\n\
         |---|---|---|---|---|\n",
    );
    for each in signed {
        let (request, answer) = (each.request.name(), each.response.name());
        let rounds = &each.rounds;
        let Some(us) = median(rounds, Round::cpu_us) else {
            writeln!(out, "| `{request}` | `{answer}` | not measured | | |")?;
            continue;
        };
        writeln!(
            out,
            "| `{request}` | `{answer}` | {:.0} | {:.1} | {us:.1} |",
            median(rounds, Round::per_second).unwrap_or_default(),
            median(rounds, |round| round.percentile_ms(99)).unwrap_or_default(),
        )?;
    }
    Ok(())
}

/// Open loop.
pub(crate) fn ladders(out: &mut String, ladders: &[LatencyByLoad]) -> Result<()> {
    if ladders.is_empty() {
        return Ok(());
    }
    out.push_str(
        "\n### By schedule\n\n\
         Evenly spaced arrivals, whether earlier ones were answered or not; latency counts from the \
         scheduled moment.\n\n\
         | Journey | share of the maximum | per second | count | p50 ms | p90 ms | p99 ms | maximum ms | sent late, p99 ms | merchant notified, p99 ms |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for ladder in ladders {
        for rung in &ladder.rungs {
            let latency = |percent| shown_ms(percentile_ms(&rung.latencies_us, percent));
            let notified = percentile_ms(&rung.notified_us, 99);
            writeln!(
                out,
                "| {} | {} % of {:.0} | {:.0} | {} | {} | {} | {} | {} | {} | {} |",
                ladder.journey,
                rung.percent,
                ladder.most_per_second,
                rung.per_second,
                rung.count,
                latency(50),
                latency(90),
                latency(99),
                latency(100),
                shown_ms(percentile_ms(&rung.late_us, 99)),
                notified.map_or_else(String::new, |ms| format!("{ms:.1}")),
            )?;
        }
    }
    Ok(())
}

/// The store alone.
pub(crate) fn commits(out: &mut String, commits: &[Commits]) -> Result<()> {
    let Some(alone) = commits.first() else {
        return Ok(());
    };
    out.push_str(
        "\n### The store alone\n\n\
         | Store | callers | changes/s | × one caller | goal |\n|---|---|---|---|---|\n",
    );
    for each in commits {
        let goal = if each.callers == 128 { "≥ 5 ×" } else { "" };
        writeln!(
            out,
            "| SQLite, new orders | {} | {:.0} | {:.1} × | {goal} |",
            each.callers,
            each.per_second,
            each.per_second / alone.per_second
        )?;
    }
    Ok(())
}

/// Functions of the gateway alone.
pub(crate) fn pieces(out: &mut String, pieces: &[Piece]) -> Result<()> {
    if pieces.is_empty() {
        return Ok(());
    }
    out.push_str("\n### Pieces of a request alone\n\n| Piece | µs |\n|---|---|\n");
    for (name, us) in pieces {
        writeln!(out, "| {name} | {us:.1} |")?;
    }
    Ok(())
}

/// What could not be measured, and why.
pub(crate) fn missing(out: &mut String, missing: &[MissingMeasurement]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    out.push_str("\n### Not measured in this run\n\n");
    for MissingMeasurement { step, why } in missing {
        let why = why.lines().next().unwrap_or_default();
        writeln!(out, "- {step}: {why}")?;
    }
    Ok(())
}

/// Memory by connections.
pub(crate) fn memory(out: &mut String, memory: &[ConnectionMemory]) -> Result<()> {
    let Some(least) = memory.first() else {
        return Ok(());
    };
    out.push_str(
        "\n### Memory\n\nMutual TLS, one order placed by each connection, which then stays idle.\n\n\
         | connections | resident MB | proportional MB | kB for each connection |\n|---|---|---|---|\n",
    );
    for level in memory {
        let more = level.memory.rss.saturating_sub(least.memory.rss) as f64 / 1e3;
        let each = more / level.connections.max(1) as f64;
        writeln!(
            out,
            "| {} | {:.1} | {:.1} | {} |",
            level.connections,
            level.memory.rss as f64 / 1e6,
            level.memory.pss as f64 / 1e6,
            if level.connections == 0 {
                String::new()
            } else {
                format!("{each:.1}")
            },
        )?;
    }
    Ok(())
}

/// From the start of the program to `/readyz`.
pub(crate) fn startup(out: &mut String, startup: Option<&StartupTimes>) -> Result<()> {
    let Some(startup) = startup else {
        return Ok(());
    };
    let times = startup.ready_ms.iter().map(|ms| format!("{ms:.0}"));
    let times: Vec<_> = times.collect();
    writeln!(
        out,
        "\n### Start-up\n\nFrom the start of the program until `/readyz` returns 200, over {} orders in \
         a store of {:.1} GB in the page cache: {} ms. Over an empty store: {:.0} ms.",
        startup.orders,
        startup.file_bytes as f64 / 1e9,
        times.join(", "),
        startup.empty_ms,
    )?;
    Ok(())
}

/// Ten times the maximum load.
pub(crate) fn overloads(out: &mut String, overloads: &[OverloadMeasurement]) -> Result<()> {
    if overloads.is_empty() {
        return Ok(());
    }
    out.push_str(
        "\n### Overload of ten times the maximum\n\n\
         Arrivals by schedule; those that find all of the load's connections in use are not sent. \
         Per second of the overload:\n\n\
         | Journey | maximum | offered | sent | served | of the maximum | served, p99 ms | rejected | rejected, p50 ms | rejected, p99 ms | sent late, p99 ms | other answers | normal after |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for each in overloads {
        let normal = each.normal_after_s.map(|after_s| format!("{after_s:.1} s"));
        writeln!(
            out,
            "| {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} % | {} | {:.0} | {} | {} | {} | {} | {} |",
            each.journey,
            each.peak_per_second,
            each.offered_per_second,
            each.sent_per_second,
            each.good_per_second,
            each.good_per_second / each.peak_per_second * 100.0,
            shown_ms(each.good_p99_ms),
            each.refused_per_second,
            shown_ms(each.refused_p50_ms),
            shown_ms(each.refused_p99_ms),
            shown_ms(each.late_p99_ms),
            each.odd,
            normal.as_deref().unwrap_or("not during the observation"),
        )?;
    }
    for each in overloads {
        if let Some(oddity) = &each.oddity {
            let (journey, oddity) = (each.journey, oddity.replace('\n', " "));
            writeln!(out, "\nThe first other answer to {journey}: {oddity}")?;
        }
    }
    Ok(())
}
