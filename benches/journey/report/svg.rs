//! SVG charts: axes with units, lines with markers, a legend. Readable on light and dark
//! backgrounds, and without colours, because lines also differ by their dashes.

use std::fmt::Write as _;

/// A chart of several panels.
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) columns: usize,
    pub(crate) panels: Vec<ChartPanel>,
}

/// One pair of axes.
pub(crate) struct ChartPanel {
    pub(crate) title: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) lines: Vec<ChartLine>,
    /// Intervals of x that are shaded.
    pub(crate) shaded: Vec<[f64; 2]>,
}

/// An axis: its label with unit, and its scale.
pub(crate) struct Axis {
    pub(crate) label: String,
    pub(crate) scale: Scale,
    /// The tick marks; chosen automatically if empty.
    pub(crate) marks: Vec<f64>,
}

/// The scale of an axis.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Linear, from zero.
    FromZero,
    /// Logarithmic; zeros are not drawn.
    Logarithmic,
}

/// One line. The same style means the same in every panel.
pub(crate) struct ChartLine {
    pub(crate) name: String,
    pub(crate) style: usize,
    pub(crate) points: Vec<(f64, f64)>,
    pub(crate) shown: LineMarks,
}

/// What is drawn of a line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineMarks {
    /// The line and its points.
    Both,
    /// The line only: there are many points.
    Line,
    /// The points only: nothing is known in between.
    Points,
}

const WIDTH: f64 = 380.0;
const HEIGHT: f64 = 290.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 46.0;
const HEAD: f64 = 64.0;
/// The width of a legend's letter. Unit: pixels.
const LETTER: f64 = 7.0;

const STYLE: &str = "<style>
text { font: 12px system-ui, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #24292f; }
.title { font-size: 15px; font-weight: 600; } .panel { font-size: 13px; font-weight: 600; }
.ground { fill: #ffffff; } .grid { stroke: #d8dee4; } .axis { stroke: #57606a; }
.shade { fill: #afb8c1; opacity: 0.3; }
.line { fill: none !important; stroke-width: 2; }
.s0 { stroke: #0550ae; fill: #0550ae; } .s1 { stroke: #bc4c00; fill: #bc4c00; }
.s2 { stroke: #1a7f37; fill: #1a7f37; } .s3 { stroke: #8250df; fill: #8250df; }
.s4 { stroke: #9a6700; fill: #9a6700; } .s5 { stroke: #57606a; fill: #57606a; }
.s6 { stroke: #bf3989; fill: #bf3989; }
.line.s1 { stroke-dasharray: 7 3; } .line.s2 { stroke-dasharray: 2 2; }
.line.s3 { stroke-dasharray: 10 3 2 3; } .line.s4 { stroke-dasharray: 5 5; }
.line.s5 { stroke-dasharray: 1 4; stroke-width: 2.5; } .line.s6 { stroke-dasharray: 12 4; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; } .ground { fill: #0d1117; } .grid { stroke: #30363d; }
.axis { stroke: #8b949e; } .shade { fill: #6e7681; }
.s0 { stroke: #79c0ff; fill: #79c0ff; } .s1 { stroke: #ffa657; fill: #ffa657; }
.s2 { stroke: #56d364; fill: #56d364; } .s3 { stroke: #d2a8ff; fill: #d2a8ff; }
.s4 { stroke: #e3b341; fill: #e3b341; } .s5 { stroke: #b1bac4; fill: #b1bac4; }
.s6 { stroke: #ff9bce; fill: #ff9bce; }
}
</style>
";

/// The SVG document.
pub(crate) fn drawn(chart: &Chart) -> String {
    let columns = chart.columns.min(chart.panels.len()).max(1);
    let rows = chart.panels.len().div_ceil(columns).max(1);
    let legend = legend(chart);
    let written = (chart.title.chars().count() as f64 + 6.0) * (LETTER + 1.0);
    let width = (columns as f64 * WIDTH).max(written).max(legend.1);
    let height = HEAD + rows as f64 * HEIGHT;
    let mut out = String::new();
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\">\n<title>{0}</title>\n{STYLE}\
         <rect class=\"ground\" width=\"{width}\" height=\"{height}\"/>\n\
         <text class=\"title\" x=\"16\" y=\"25\">{0}</text>\n",
        escaped(&chart.title)
    );
    out.push_str(&legend.0);
    for (number, panel) in chart.panels.iter().enumerate() {
        let x = (number % columns) as f64 * WIDTH;
        let y = HEAD + (number / columns) as f64 * HEIGHT;
        let _ = writeln!(out, "<g transform=\"translate({x} {y})\">");
        panel.draw(&mut out);
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

/// The legend, and its bottom edge.
fn legend(chart: &Chart) -> (String, f64) {
    let mut listed: Vec<&ChartLine> = Vec::new();
    for line in chart.panels.iter().flat_map(|panel| &panel.lines) {
        if listed.iter().all(|known| known.name != line.name) {
            listed.push(line);
        }
    }
    let mut out = String::new();
    let mut x = 16.0;
    for line in listed {
        let style = line.style;
        if line.shown != LineMarks::Points {
            let _ = write!(out, "<path class=\"line s{style}\" d=\"M{x} 45h26\"/>");
        }
        if line.shown != LineMarks::Line {
            let _ = write!(
                out,
                "<circle class=\"s{style}\" cx=\"{}\" cy=\"45\" r=\"3\"/>",
                x + 13.0
            );
        }
        let name = escaped(&line.name);
        let _ = writeln!(out, "<text x=\"{}\" y=\"49\">{name}</text>", x + 32.0);
        x += 50.0 + line.name.chars().count() as f64 * LETTER;
    }
    (out, x)
}

impl ChartPanel {
    fn draw(&self, out: &mut String) {
        let points = || self.lines.iter().flat_map(|line| line.points.iter());
        let x = AxisMapping::of(
            &self.x,
            points().map(|point| point.0),
            [LEFT, WIDTH - RIGHT],
        );
        let y = AxisMapping::of(
            &self.y,
            points().map(|point| point.1),
            [HEIGHT - BOTTOM, TOP],
        );
        let _ = writeln!(
            out,
            "<text class=\"panel\" x=\"{LEFT}\" y=\"18\">{}</text>",
            escaped(&self.title)
        );
        for [from, to] in &self.shaded {
            let (from, to) = (x.at(*from), x.at(*to));
            let _ = writeln!(
                out,
                "<rect class=\"shade\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\"/>",
                to - from,
                HEIGHT - BOTTOM - TOP
            );
        }
        self.axes(out, &x, &y);
        for line in &self.lines {
            line.draw(out, &x, &y);
        }
    }

    fn axes(&self, out: &mut String, x: &AxisMapping, y: &AxisMapping) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for mark in &y.marks {
            let (at, text) = (y.at(*mark), figure(*mark));
            let _ = writeln!(
                out,
                "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
                LEFT - 6.0,
                at + 4.0
            );
        }
        for mark in &x.marks {
            let (at, text) = (x.at(*mark), figure(*mark));
            let _ = writeln!(
                out,
                "<path class=\"axis\" d=\"M{at:.1} {bottom}v4\"/>\
                 <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{text}</text>",
                bottom + 17.0
            );
        }
        let _ = writeln!(
            out,
            "<path class=\"axis\" fill=\"none\" d=\"M{LEFT} {TOP}V{bottom}H{right}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text transform=\"translate(14 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            f64::midpoint(LEFT, right),
            HEIGHT - 10.0,
            escaped(&self.x.label),
            f64::midpoint(TOP, bottom),
            escaped(&self.y.label),
        );
    }
}

impl ChartLine {
    fn draw(&self, out: &mut String, x: &AxisMapping, y: &AxisMapping) {
        let style = self.style;
        let drawable = |point: &&(f64, f64)| x.shows(point.0) && y.shows(point.1);
        let at: Vec<_> = self.points.iter().filter(drawable).collect();
        let mut path = String::new();
        for (number, (px, py)) in at.iter().enumerate() {
            let step = if number == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{step}{:.1} {:.1}", x.at(*px), y.at(*py));
        }
        if self.shown != LineMarks::Points {
            let _ = writeln!(out, "<path class=\"line s{style}\" d=\"{path}\"/>");
        }
        if self.shown != LineMarks::Line {
            for (px, py) in at {
                let (cx, cy) = (x.at(*px), y.at(*py));
                let _ = writeln!(
                    out,
                    "<circle class=\"s{style}\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"3\"/>"
                );
            }
        }
    }
}

/// Maps values to positions on the canvas.
struct AxisMapping {
    scale: Scale,
    values: [f64; 2],
    paper: [f64; 2],
    marks: Vec<f64>,
}

impl AxisMapping {
    fn of(axis: &Axis, values: impl Iterator<Item = f64>, paper: [f64; 2]) -> Self {
        let log = axis.scale == Scale::Logarithmic;
        let values: Vec<f64> = values.chain(axis.marks.iter().copied()).collect();
        let values = values.into_iter().filter(|value| !log || *value > 0.0);
        let (low, high) = values.fold((f64::MAX, 0.0_f64), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        let (values, own) = if log {
            let (low, high) = (low.min(high).max(1e-3), high.max(1e-3));
            let marks = magnitudes(low, high);
            let ends = [marks[0], marks[marks.len() - 1].max(high)];
            (ends, marks)
        } else {
            let marks = steps(high.max(1e-9));
            ([0.0, marks[marks.len() - 1].max(high)], marks)
        };
        // Explicit tick marks, with margins on both sides if they do not begin at zero.
        let (values, marks) = match (&axis.marks[..], log) {
            ([], _) => (values, own),
            (given, true) => (
                [given[0] * 0.8, given[given.len() - 1] * 1.25],
                given.to_vec(),
            ),
            (given, false) => (
                [values[0], values[1].max(given[given.len() - 1])],
                given.to_vec(),
            ),
        };
        Self {
            scale: axis.scale,
            values,
            paper,
            marks,
        }
    }

    fn shows(&self, value: f64) -> bool {
        self.scale == Scale::FromZero || value > 0.0
    }

    fn at(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::FromZero => (value - self.values[0]) / (self.values[1] - self.values[0]),
            Scale::Logarithmic => {
                let [low, high] = self.values.map(f64::ln);
                (value.max(1e-6).ln() - low) / (high - low)
            }
        };
        self.paper[0] + share * (self.paper[1] - self.paper[0])
    }
}

/// From zero in at most seven steps of 1, 2 or 5.
fn steps(high: f64) -> Vec<f64> {
    let mut step = 10_f64.powf(high.log10().floor() - 1.0);
    for factor in [2.0, 2.5, 2.0].into_iter().cycle() {
        if high / step <= 6.0 {
            break;
        }
        step *= factor;
    }
    (0..=(high / step).ceil() as u32)
        .map(|number| f64::from(number) * step)
        .collect()
}

/// 1, 2 and 5 of each order of magnitude; only 1 if there would be too many.
fn magnitudes(low: f64, high: f64) -> Vec<f64> {
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let all: Vec<f64> = (first..=last)
        .flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)))
        .collect();
    let begin = all
        .iter()
        .rposition(|mark| *mark <= low * 1.000_1)
        .unwrap_or(0);
    let end = all.iter().position(|mark| *mark >= high * 0.999_9);
    let mut marks = all[begin..=end.unwrap_or(all.len() - 1).max(begin)].to_vec();
    if marks.len() == 1 {
        marks.push(marks[0] * 2.0);
    }
    if marks.len() > 9 {
        let (begin, end) = (marks[0], marks[marks.len() - 1]);
        marks.retain(|mark| (mark.log10() - mark.log10().round()).abs() < 1e-6);
        if marks.first() != Some(&begin) {
            marks.insert(0, begin);
        }
        if marks.last() != Some(&end) {
            marks.push(end);
        }
    }
    marks
}

fn figure(value: f64) -> String {
    let whole = value.round();
    if value >= 10_000.0 && (whole % 1_000.0).abs() < 1e-6 {
        format!("{:.0}k", value / 1_000.0)
    } else if (value - whole).abs() < 1e-9 {
        format!("{whole:.0}")
    } else {
        format!("{value:.2}").trim_end_matches('0').to_owned()
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
