//! What was measured, as tables: on the terminal, and between the marks of `docs/performance.md`.
//! Judges nothing: a missed target is written down, not turned into a failure.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use time::UtcDateTime;

use crate::commits::Commits;
use crate::load::Round;
use crate::parts::Part;
use crate::yardstick;

const BEGIN: &str = "<!-- measured: begin -->\n";
const END: &str = "<!-- measured: end -->";

/// Rounds of one journey at one number of connections, gateway and yardstick by turns.
pub(crate) struct Compared {
    pub(crate) journey: &'static str,
    /// What was asked for: at most so many times the yardstick's processor time.
    pub(crate) ratio_max: f64,
    pub(crate) connections: usize,
    pub(crate) gateway: Vec<Round>,
    pub(crate) nginx: Vec<Round>,
    /// Of a journey that goes on by itself: the gateway's processor time for one request until it
    /// is idle again. Unit: microseconds.
    pub(crate) with_questions_us: Vec<f64>,
}

impl Compared {
    pub(crate) fn new(journey: &'static str, connections: usize, ratio_max: f64) -> Self {
        Self {
            journey,
            ratio_max,
            connections,
            gateway: Vec::new(),
            nginx: Vec::new(),
            with_questions_us: Vec::new(),
        }
    }

    fn ratio(&self) -> f64 {
        median(&self.gateway, Round::cpu_us) / median(&self.nginx, Round::cpu_us)
    }
}

/// Everything as Markdown.
pub(crate) fn written(
    compared: &[Compared],
    commits: &[Commits],
    parts: &[Part],
) -> Result<String> {
    let mut out = machine()?;
    journeys(&mut out, compared)?;
    threads(&mut out, compared)?;
    group_commit(&mut out, commits)?;
    out.push_str("\nThe parts of a request alone:\n\n| Part | µs |\n|---|---|\n");
    for (name, us) in parts {
        writeln!(out, "| {name} | {us:.1} |")?;
    }
    Ok(out)
}

/// Puts the tables between the marks of a document.
pub(crate) fn renew(document: &Path, tables: &str) -> Result<()> {
    let text = fs::read_to_string(document)?;
    let (before, rest) = text
        .split_once(BEGIN)
        .context("no mark where tables begin")?;
    let (_, after) = rest.split_once(END).context("no mark where tables end")?;
    fs::write(document, format!("{before}{BEGIN}{tables}{END}{after}"))?;
    Ok(())
}

fn machine() -> Result<String> {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model
        .unwrap_or_default()
        .trim_start_matches(['\t', ' ', ':']);
    let kernel = Command::new("uname").arg("-sr").output()?;
    let kernel = String::from_utf8_lossy(&kernel.stdout).trim().to_owned();
    let cores = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let cores = cores.lines().filter(|line| line.starts_with("cpu")).count() - 1;
    let now = UtcDateTime::now();
    Ok(format!(
        "{cores} cores of {model}, {kernel}, {}, {} UTC, by `make bench`.\n",
        yardstick::version(),
        now.format(&time::macros::format_description!(
            "[year]-[month]-[day] [hour]:[minute]"
        ))?,
    ))
}

fn journeys(out: &mut String, compared: &[Compared]) -> Result<()> {
    out.push_str(
        "\n| Journey | connections | | requests/s | p50 ms | p90 ms | p99 ms | CPU µs each | of nginx | asked |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for each in compared {
        let (journey, connections) = (each.journey, each.connections);
        let lines = [
            (
                "gateway",
                &each.gateway,
                format!("{:.1} × | ≤ {:.0} ×", each.ratio(), each.ratio_max),
            ),
            ("nginx", &each.nginx, "1 | ".to_owned()),
        ];
        for (who, rounds, ratio) in lines {
            writeln!(
                out,
                "| {journey} | {connections} | {who} | {:.0} | {:.1} | {:.1} | {:.1} | {:.1} | {ratio} |",
                median(rounds, Round::per_second),
                median(rounds, |round| round.percentile_ms(50)),
                median(rounds, |round| round.percentile_ms(90)),
                median(rounds, |round| round.percentile_ms(99)),
                median(rounds, Round::cpu_us),
            )?;
        }
    }
    for each in compared
        .iter()
        .filter(|each| !each.with_questions_us.is_empty())
    {
        let us = middle(each.with_questions_us.clone());
        let (journey, connections) = (each.journey, each.connections);
        writeln!(
            out,
            "| {journey}, and asking about it | {connections} | gateway | | | | | {us:.1} | {:.1} × | |",
            us / median(&each.nginx, Round::cpu_us),
        )?;
    }
    let rounds = compared.first().map_or(0, |each| each.gateway.len());
    let busy = |rounds: &[Round]| median(rounds, Round::busy) * 100.0;
    let least = |of: fn(&Compared) -> &Vec<Round>| {
        compared
            .iter()
            .map(|each| busy(of(each)))
            .fold(100.0, f64::min)
    };
    writeln!(
        out,
        "\nMedians of {rounds} rounds by turns. The measured core was busy with the gateway for at least \
         {:.0} % of the time, with nginx for at least {:.0} %.",
        least(|each| &each.gateway),
        least(|each| &each.nginx),
    )?;
    Ok(())
}

/// Where the gateway's time goes, by the names its threads have.
fn threads(out: &mut String, compared: &[Compared]) -> Result<()> {
    out.push_str("\n| Journey | connections | thread of the gateway | CPU µs for a request |\n|---|---|---|---|\n");
    for each in compared {
        let Some(last) = each.gateway.last() else {
            continue;
        };
        for (name, ns) in last.spent.by_name() {
            let us = ns as f64 / 1_000.0 / last.requests as f64;
            if us >= 0.1 {
                writeln!(
                    out,
                    "| {} | {} | {name} | {us:.1} |",
                    each.journey, each.connections
                )?;
            }
        }
    }
    Ok(())
}

fn group_commit(out: &mut String, commits: &[Commits]) -> Result<()> {
    out.push_str(
        "\n| Store | callers | changes/s | of one caller | asked |\n|---|---|---|---|---|\n",
    );
    let alone = commits.first().map_or(0.0, |commits| commits.per_second);
    for each in commits {
        let asked = if each.callers == 128 { "≥ 5 ×" } else { "" };
        writeln!(
            out,
            "| SQLite, new orders | {} | {:.0} | {:.1} × | {asked} |",
            each.callers,
            each.per_second,
            each.per_second / alone
        )?;
    }
    Ok(())
}

fn median(rounds: &[Round], of: impl Fn(&Round) -> f64) -> f64 {
    middle(rounds.iter().map(of).collect())
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
