//! `paymux explain`: an order's timeline, from the ledger and the exchange log.

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
    /// A payOrderNo, an attempt's or a refund's number, or merchantId/merchantOrderNo
    pub order: String,
    /// The configuration file
    #[arg(long, default_value = config::FILE)]
    pub config: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Reads the store, with or without a running gateway, and changes nothing.
///
/// # Errors
/// The configuration has faults, the store cannot be read, or the output cannot be written.
pub fn run(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let mut out = terminal::stdout();
    explain(&mut out, args)
}

/// The same, printing to `out`.
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
            "there is no order {}; expected a payOrderNo, an attempt's or a refund's number, or \
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

/// Audit entries, journal postings, events and exchanges, oldest first.
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
        TimelineRow::new(entry.at, "journal", &entry.kind, posted)
    });
    let created = read.events.iter().map(|event| {
        let delivery = match (&event.origin, event.delivered) {
            (None, _) => "to be fetched from /v1/events".into(),
            (Some(origin), None) => {
                format!("{} after {} attempts to {origin}", event.state, event.tries)
            }
            (Some(origin), Some(_)) => format!("to be sent to {origin}"),
        };
        TimelineRow::new(event.born, "event", &event.kind, delivery)
    });
    let acknowledged = read.events.iter().filter_map(|event| {
        let delivery = format!("acknowledged, delivery {}", event.tries.max(1));
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
    let recorded = audit_entries.chain(entries);
    let recorded = recorded.chain(created).chain(acknowledged);
    // Within the same millisecond, an exchange comes before what it caused.
    let mut lines: Vec<TimelineRow> = exchanges.chain(recorded).collect();
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
        "  placed {}; times are relative to this",
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
    writeln!(out, "  {}", exchange_log_summary(read))
}

/// What the exchange log has of this order, and what is missing.
fn exchange_log_summary(read: &Timeline) -> String {
    let found = &read.exchanges;
    let until = found.until.rfc3339();
    let mut parts = vec![match found.lines.len() {
        0 => format!(
            "the exchange log has nothing of this order until {until}: it is not written yet (try \
             again in a second) or too old, entries were dropped, or exchange_log_days is 0"
        ),
        entries => format!("{entries} exchanges in the exchange log until {until}"),
    }];
    if found.left_out > 0 {
        parts.push(format!("{} more are not shown", found.left_out));
    }
    if found.unreadable > 0 {
        parts.push(format!(
            "{} blocks of this order cannot be decrypted: run paymux audit verify",
            found.unreadable
        ));
    }
    let dropped = found.dropped.iter();
    let dropped: Vec<_> = dropped
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    parts.push(match dropped.as_slice() {
        [] => "none dropped in this time".into(),
        some => format!("dropped in this time, of all orders: {}", some.join(", ")),
    });
    parts.join("; ")
}

fn refund_line(refund: &Refund) -> String {
    let why = match (refund.excess(), refund.request()) {
        (Some(cause), _) => format!("excess payment {}", cause.name()),
        (None, Some(request)) => format!("requested as {}", request.number),
        (None, None) => String::new(),
    };
    format!("{} {}, {why}", refund.amount, refund.state.name())
}

/// `+1.250 s`; hours or days from an hour on.
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
        let mut row = json!({
            "at": line.at.rfc3339(),
            "elapsedMs": line.at.ms().saturating_sub(order.created.ms()),
            "who": line.who,
            "what": line.what,
            "result": line.result,
        });
        if let Some((row, exchange)) = row.as_object_mut().zip(line.exchange) {
            row.extend(exchange.messages());
        }
        row
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
