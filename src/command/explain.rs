//! `paymux explain`: what became of an order, in the order of time: what the ledger tells, and what the
//! exchange log has.

mod exchange;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};

use crate::command::UNKNOWN;
use crate::config;
use crate::domain::evidence::Reason;
use crate::domain::identifiers::Timestamp;
use crate::domain::order::Order;
use crate::domain::refund::Refund;
use crate::store::timeline::Timeline;
use crate::store::{self, StoreUrl};
use crate::terminal::{self, on_one_line};
use crate::world::{Clock, SystemClock};

use exchange::Exchange;

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
    let mut out = terminal::stdout();
    explain(&mut out, args)
}

/// The same, to whoever listens.
///
/// # Errors
/// See [`run`].
pub fn explain(out: &mut impl Write, args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let now = SystemClock::start().now();
    let config = config::read(&args.config, now, &config::environment)?;
    let url = StoreUrl::parse(&config.store.url)?;
    let opened = store::open_to_explain(&url, Arc::clone(&config.store.seal));
    let opened = opened.with_context(|| url.to_string())?;
    let read = opened.timeline(&args.order);
    let read = read.with_context(|| url.to_string())?;
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
struct TimelineRow {
    at: Timestamp,
    who: String,
    what: String,
    result: String,
    exchange: Option<Exchange>,
}

impl TimelineRow {
    fn new(at: Timestamp, who: &str, what: &str, result: String) -> Self {
        Self {
            at,
            who: who.into(),
            what: what.into(),
            result,
            exchange: None,
        }
    }
}

/// What was done, posted and told, the earliest first.
fn lines(read: &Timeline) -> Vec<TimelineRow> {
    let audit_entries = read.audit_entries.iter();
    let audit_entries = audit_entries.map(|(at, audit_entry)| {
        TimelineRow::new(
            *at,
            &audit_entry.actor,
            &audit_entry.action,
            audit_entry.result.clone(),
        )
    });
    let entries = read.entries.iter().map(|entry| {
        let posted = format!("{} {} -> {}", entry.minor, entry.debit, entry.credit);
        TimelineRow::new(entry.at, "journal", &entry.happening, posted)
    });
    let born = read.events.iter().map(|event| {
        let owed = match (&event.origin, event.delivered) {
            (None, _) => "waits to be fetched (/v1/events)".into(),
            (Some(origin), None) => {
                format!("{} after {} tries to {origin}", event.state, event.tries)
            }
            (Some(origin), Some(_)) => format!("owed to {origin}"),
        };
        TimelineRow::new(event.born, "event", &event.kind, owed)
    });
    let heard = read.events.iter().filter_map(|event| {
        let delivery = format!("acknowledged, at delivery {}", event.tries.max(1));
        Some(TimelineRow::new(
            event.delivered?,
            "event",
            &event.kind,
            delivery,
        ))
    });
    let exchanges = read.exchanges.lines.iter().filter_map(|line| {
        let exchange = Exchange::read(line)?;
        Some(TimelineRow {
            at: exchange.at,
            who: exchange.with.clone(),
            what: exchange.what.clone(),
            result: exchange.result.clone(),
            exchange: Some(exchange),
        })
    });
    let told = audit_entries.chain(entries).chain(born).chain(heard);
    // What was said comes before what it led to within the same millisecond.
    let mut lines: Vec<TimelineRow> = exchanges.chain(told).collect();
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
        let reason = attempt.reason.as_ref().map(Reason::shown);
        let reason = reason.unwrap_or_default();
        let reason = on_one_line(&reason);
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
            on_one_line(&line.who),
            on_one_line(&line.what),
            on_one_line(&line.result)
        )?;
        if let Some(exchange) = &line.exchange {
            exchange.print(out)?;
        }
    }
    writeln!(out, "  {}", beside(read))
}

/// What is and is not in the exchange log.
fn beside(read: &Timeline) -> String {
    let found = &read.exchanges;
    let until = found.until.rfc3339();
    let mut said = vec![match found.lines.len() {
        0 => format!(
            "the exchange log has nothing of this order until {until}: it is too long ago, there was no \
             room, or exchange_log_days is 0"
        ),
        entries => format!("{entries} exchanges of messages in the exchange log until {until}"),
    }];
    if found.left_out > 0 {
        said.push(format!("{} more are there and left out", found.left_out));
    }
    if found.unreadable > 0 {
        said.push(format!(
            "{} blocks that name this order cannot be opened: run paymux audit verify",
            found.unreadable
        ));
    }
    let dropped = found.dropped.iter();
    let dropped: Vec<_> = dropped
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    said.push(match dropped.as_slice() {
        [] => "none dropped in this time".into(),
        some => format!("dropped in this time, of any orders: {}", some.join(", ")),
    });
    said.join("; ")
}

fn refund_line(refund: &Refund) -> String {
    let why = match (refund.excess(), refund.request()) {
        (Some(cause), _) => format!("surplus {}", cause.name()),
        (None, Some(request)) => format!("asked as {}", request.number),
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
    let line = |line: TimelineRow| {
        let mut told = json!({
            "at": line.at.rfc3339(),
            "elapsedMs": line.at.ms().saturating_sub(order.created.ms()),
            "who": line.who,
            "what": line.what,
            "result": line.result,
        });
        if let Some((told, exchange)) = told.as_object_mut().zip(line.exchange) {
            told.extend(exchange.said());
        }
        told
    };
    json!({
        "payOrderNo": order.no.as_str(),
        "merchantId": order.terms.merchant.as_str(),
        "merchantOrderNo": order.terms.merchant_order_no.as_str(),
        "orderStatus": order.state.name(),
        "orderRefundStatus": order.refund_view().name(),
        "version": order.version,
        "exchangeLog": {
            "entries": read.exchanges.lines.len(),
            "leftOut": read.exchanges.left_out,
            "blocksUnreadable": read.exchanges.unreadable,
            "droppedOfAllOrders": read.exchanges.dropped,
            "until": read.exchanges.until.rfc3339(),
        },
        "timeline": lines(read).into_iter().map(line).collect::<Vec<_>>(),
    })
}
