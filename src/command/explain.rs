//! `paymux explain`: what became of an order, in the order of time, as far as the ledger tells.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};

use crate::config;
use crate::domain::identifiers::Timestamp;
use crate::domain::order::Order;
use crate::domain::refund::Refund;
use crate::store::timeline::{Timeline, timeline};
use crate::world::{Clock, SystemClock};

/// There is no such order.
const UNKNOWN: u8 = 4;

/// Arguments of `paymux explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// payOrderNo, the number of an attempt or a refund, or merchantId/merchantOrderNo
    pub order: String,
    /// The configuration of the gateway
    #[arg(long, default_value = config::FILE)]
    pub config: PathBuf,
    /// One JSON object, for machines
    #[arg(long)]
    pub json: bool,
}

/// Reads the store beside a running gateway, or without one, and changes nothing.
///
/// # Errors
/// The configuration has faults, the store cannot be read, or the output cannot be written.
pub fn run(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    explain(&mut out, args)
}

/// The same, to whoever listens.
///
/// # Errors
/// See [`run`].
pub fn explain(out: &mut impl Write, args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let now = SystemClock::start().now();
    let config = config::read(&args.config, now, &config::environment)
        .map_err(|faults| anyhow::anyhow!("{faults}"))?;
    let url = &config.store.url;
    let path = Path::new(url.strip_prefix("sqlite:").unwrap_or(url));
    let read = timeline(path, &config.store.seal, &args.order);
    let read = read.with_context(|| format!("{}", path.display()))?;
    let Some(read) = read else {
        writeln!(
            out,
            "there is no order {}; expected a payOrderNo, the number of an attempt or a refund, or \
             merchantId/merchantOrderNo",
            args.order
        )?;
        return Ok(ExitCode::from(UNKNOWN));
    };
    if args.json {
        writeln!(out, "{}", as_json(&read))?;
    } else {
        print(out, &read)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One line of the timeline.
struct Line {
    at: Timestamp,
    who: String,
    what: String,
    result: String,
}

/// What was done, posted and told, the earliest first.
fn lines(read: &Timeline) -> Vec<Line> {
    let deeds = read.deeds.iter().map(|(at, deed)| Line {
        at: *at,
        who: deed.actor.clone(),
        what: deed.action.to_string(),
        result: deed.result.clone(),
    });
    let entries = read.entries.iter().map(|entry| Line {
        at: entry.at,
        who: "journal".into(),
        what: entry.happening.clone(),
        result: format!("{} {} -> {}", entry.minor, entry.debit, entry.credit),
    });
    let born = read.events.iter().map(|event| Line {
        at: event.born,
        who: "event".into(),
        what: event.kind.clone(),
        result: match (&event.origin, event.delivered) {
            (None, _) => "waits to be fetched (/v1/events)".into(),
            (Some(origin), None) => {
                format!("{} after {} tries to {origin}", event.state, event.tries)
            }
            (Some(origin), Some(_)) => format!("owed to {origin}"),
        },
    });
    let heard = read.events.iter().filter_map(|event| {
        Some(Line {
            at: event.delivered?,
            who: "event".into(),
            what: event.kind.clone(),
            result: format!("acknowledged, at delivery {}", event.tries.max(1)),
        })
    });
    let mut lines: Vec<Line> = deeds.chain(entries).chain(born).chain(heard).collect();
    lines.sort_by_key(|line| line.at);
    lines
}

fn print(out: &mut impl Write, read: &Timeline) -> io::Result<()> {
    let order = &read.order;
    let amount = order.terms.amount;
    writeln!(
        out,
        "{}  {}/{}  {amount} {}  {}  refunds {}",
        order.no,
        order.terms.merchant,
        order.terms.merchant_order_no,
        amount.currency().code(),
        order.state.name(),
        order.refund_view().name(),
    )?;
    for attempt in &order.attempts {
        let reason = attempt.reason.as_ref().map_or("", |reason| reason.as_str());
        writeln!(
            out,
            "  attempt {} at {}: {} {reason}",
            attempt.id,
            attempt.institution,
            attempt.state.name()
        )?;
    }
    for refund in &order.refunds {
        writeln!(out, "  refund  {}: {}", refund.no, refund_line(refund))?;
    }
    writeln!(
        out,
        "  placed {}; times since then",
        order.created.rfc3339()
    )?;
    for line in lines(read) {
        let elapsed_ms = line.at.ms().saturating_sub(order.created.ms());
        writeln!(
            out,
            "{:>12}  {:20} {:18} {}",
            elapsed(elapsed_ms),
            line.who,
            line.what,
            line.result
        )?;
    }
    Ok(())
}

fn refund_line(refund: &Refund) -> String {
    let why = match (refund.surplus(), refund.wish()) {
        (Some(cause), _) => format!("surplus {}", cause.name()),
        (None, Some(wish)) => format!("asked as {}", wish.number),
        (None, None) => String::new(),
    };
    format!("{} {}, {why}", refund.amount, refund.state.name())
}

/// `+1.250 s`; days and hours where it took so long.
fn elapsed(ms: i64) -> String {
    let (seconds, rest) = (ms / 1_000, (ms % 1_000).abs());
    if seconds < 3_600 {
        format!("+{seconds}.{rest:03} s")
    } else if seconds < 172_800 {
        format!("+{} h {:02} min", seconds / 3_600, seconds % 3_600 / 60)
    } else {
        format!("+{} d {:02} h", seconds / 86_400, seconds % 86_400 / 3_600)
    }
}

fn as_json(read: &Timeline) -> Value {
    let order: &Order = &read.order;
    let line = |line: Line| {
        json!({
            "at": line.at.rfc3339(),
            "elapsedMs": line.at.ms().saturating_sub(order.created.ms()),
            "who": line.who,
            "what": line.what,
            "result": line.result,
        })
    };
    json!({
        "payOrderNo": order.no.as_str(),
        "merchantId": order.terms.merchant.as_str(),
        "merchantOrderNo": order.terms.merchant_order_no.as_str(),
        "orderStatus": order.state.name(),
        "orderRefundStatus": order.refund_view().name(),
        "version": order.version,
        "timeline": lines(read).into_iter().map(line).collect::<Vec<_>>(),
    })
}
