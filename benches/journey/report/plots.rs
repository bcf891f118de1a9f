//! The charts: throughput by callers, latency by load, memory by connections, overload over time.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::load::closed::{Round, percentile_ms};
use crate::measure::median;
use crate::measure::overload::{OverloadMeasurement, TimelineSlice};
use crate::report::Findings;
use crate::report::svg::{Axis, Chart, ChartLine, ChartPanel, LineMarks, Scale, drawn};

/// Draws all charts into a folder; returns file names and titles.
pub(crate) fn draw(folder: &Path, found: &Findings) -> Result<Vec<(String, String)>> {
    fs::create_dir_all(folder)?;
    let mut charts = Vec::new();
    if !found.compared.is_empty() {
        charts.push(("throughput".to_owned(), throughput(found)));
    }
    if !found.ladders.is_empty() {
        charts.push(("waiting".to_owned(), waiting(found)));
    }
    if !found.memory.is_empty() {
        charts.push(("memory".to_owned(), memory(found)));
    }
    for overload in &found.overloads {
        let name = overload.journey.replace(' ', "-");
        charts.push((format!("overload-{name}"), overloaded(overload)));
    }
    let mut names = Vec::new();
    for (name, chart) in charts {
        let file = format!("{name}.svg");
        fs::write(folder.join(&file), drawn(&chart))?;
        names.push((file, chart.title));
    }
    Ok(names)
}

fn axis(label: &str, scale: Scale) -> Axis {
    Axis {
        label: label.to_owned(),
        scale,
        marks: Vec::new(),
    }
}

fn line(name: &str, style: usize, points: Vec<(f64, f64)>) -> ChartLine {
    ChartLine {
        name: name.to_owned(),
        style,
        points,
        shown: LineMarks::Both,
    }
}

fn throughput(found: &Findings) -> Chart {
    let mut callers: Vec<usize> = found.compared.iter().map(|each| each.callers).collect();
    callers.sort_unstable();
    callers.dedup();
    let of = |of: fn(&Round) -> f64| {
        let mut lines: Vec<ChartLine> = Vec::new();
        for each in &found.compared {
            let Some(value) = median(&each.gateway, of) else {
                continue;
            };
            let point = (each.callers as f64, value);
            match lines.iter_mut().find(|line| line.name == each.journey) {
                Some(line) => line.points.push(point),
                None => lines.push(line(each.journey, lines.len(), vec![point])),
            }
        }
        lines
    };
    let panel = |title: &str, label: &str, lines| ChartPanel {
        title: title.to_owned(),
        x: Axis {
            marks: callers.iter().map(|callers| *callers as f64).collect(),
            ..axis("concurrent callers", Scale::Logarithmic)
        },
        y: axis(label, Scale::FromZero),
        lines,
        shaded: Vec::new(),
    };
    Chart {
        title: "Maximum throughput by concurrent callers (closed loop, one core)".to_owned(),
        columns: 2,
        panels: vec![
            panel("throughput", "per second", of(Round::per_second)),
            panel("processor time", "µs of CPU per request", of(Round::cpu_us)),
        ],
    }
}

fn waiting(found: &Findings) -> Chart {
    let panels = found.ladders.iter().map(|ladder| {
        let of = |percent: usize| {
            let rungs = ladder.rungs.iter();
            let point = rungs.filter_map(|rung| {
                let ms = percentile_ms(&rung.latencies_us, percent)?;
                Some((f64::from(rung.percent), ms))
            });
            point.collect()
        };
        ChartPanel {
            title: format!("{}, of {:.0}/s", ladder.journey, ladder.most_per_second),
            x: Axis {
                marks: ladder
                    .rungs
                    .iter()
                    .map(|rung| f64::from(rung.percent))
                    .collect(),
                ..axis("load, % of the maximum", Scale::Logarithmic)
            },
            y: axis("ms from the scheduled arrival", Scale::Logarithmic),
            lines: vec![
                line("p50", 0, of(50)),
                line("p90", 1, of(90)),
                line("p99", 2, of(99)),
                line("maximum", 3, of(100)),
            ],
            shaded: Vec::new(),
        }
    });
    Chart {
        title: "Latency by load (open loop: arrivals by schedule)".to_owned(),
        columns: 2,
        panels: panels.collect(),
    }
}

fn memory(found: &Findings) -> Chart {
    let of = |bytes: fn(&crate::setup::cpu::ProcessMemory) -> u64| {
        let levels = found.memory.iter();
        levels
            .map(|level| (level.connections as f64, bytes(&level.memory) as f64 / 1e6))
            .collect()
    };
    let lines = vec![
        line("resident (RSS)", 0, of(|memory| memory.rss)),
        line("proportional (PSS)", 1, of(|memory| memory.pss)),
        ChartLine {
            shown: LineMarks::Points,
            ..line("goals", 5, vec![(1_000.0, 60.0), (10_000.0, 250.0)])
        },
    ];
    Chart {
        title: "Memory of the gateway by connections".to_owned(),
        columns: 1,
        panels: vec![ChartPanel {
            title: "mutual TLS, one order each, then idle".to_owned(),
            x: axis("connections", Scale::FromZero),
            y: axis("MB", Scale::FromZero),
            lines,
            shaded: Vec::new(),
        }],
    }
}

fn overloaded(overload: &OverloadMeasurement) -> Chart {
    let of = |rate: fn(&TimelineSlice) -> f64| -> Vec<(f64, f64)> {
        let slices = overload.timeline.iter();
        slices.map(|slice| (slice.at_s, rate(slice))).collect()
    };
    let plain = |line: ChartLine| ChartLine {
        shown: LineMarks::Line,
        ..line
    };
    let last = overload.timeline.last().map_or(0.0, |slice| slice.at_s);
    let level = overload.peak_per_second;
    let panel = |title: &str, lines| ChartPanel {
        title: title.to_owned(),
        x: axis("seconds", Scale::FromZero),
        y: axis("per second", Scale::FromZero),
        lines,
        shaded: vec![overload.bounds_s],
    };
    Chart {
        title: format!(
            "{}: {:.1} times the maximum offered, {:.1} times sent",
            overload.journey,
            overload.offered_times(),
            overload.sent_times()
        ),
        columns: 2,
        panels: vec![
            panel(
                "offered and rejected",
                vec![
                    plain(line("offered", 1, of(|slice| slice.offered))),
                    plain(line("rejected", 3, of(|slice| slice.refused))),
                ],
            ),
            panel(
                "served",
                vec![
                    plain(line("served", 0, of(|slice| slice.good))),
                    plain(line(
                        "the maximum without overload",
                        5,
                        vec![(0.0, level), (last, level)],
                    )),
                ],
            ),
        ],
    }
}
