//! `paymux audit verify`: holds everything a store's file has against itself, reading only.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Value, json};

use crate::command::FINDINGS;
use crate::config;
use crate::domain::identifiers::hex;
use crate::domain::verification::{Breach, Report};
use crate::store::{self, StoreUrl};
use crate::terminal;

/// What `paymux audit` takes.
#[derive(Debug, clap::Args)]
pub struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, clap::Subcommand)]
enum AuditCommand {
    /// Check the store's file: its pages, the audit log's chain, orders, refunds, events and journal
    /// against each other. Reads only; exits with 0 only if all of it holds, with 3 if not
    Verify(VerifyArgs),
}

/// What `paymux audit verify` takes.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// The configuration of the gateway: its store is checked
    #[arg(long, default_value = config::FILE)]
    pub config: PathBuf,
    /// This file instead, such as a copy; needs neither a configuration nor keys
    #[arg(long, conflicts_with = "config")]
    pub file: Option<PathBuf>,
    /// Things that do not hold are listed up to this many, and the rest counted
    #[arg(long, default_value_t = 100)]
    pub shown: u64,
    /// One JSON object a line, for machines
    #[arg(long)]
    pub json: bool,
}

/// Reads the store beside a running gateway, or without one, and changes nothing.
///
/// # Errors
/// The file cannot be read at all, or the output cannot be written.
pub fn run(args: &AuditArgs) -> anyhow::Result<ExitCode> {
    let AuditCommand::Verify(args) = &args.command;
    let mut out = terminal::stdout();
    verify_store(&mut out, args)
}

/// The same, to whoever listens.
///
/// # Errors
/// See [`run`].
pub fn verify_store(out: &mut impl Write, args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let url = match &args.file {
        Some(file) => StoreUrl::of_file(file.clone()),
        None => StoreUrl::parse(&config::store_url(&args.config)?)?,
    };
    let (mut left, mut printed) = (args.shown, Ok(()));
    let mut hear = |breach| {
        if left > 0 && printed.is_ok() {
            left = left.saturating_sub(1);
            printed = print_breach(out, &breach, args.json);
        }
    };
    let report = store::open_to_verify(&url).and_then(|opened| opened.verify(&mut hear));
    printed?;
    let report = report.with_context(|| {
        format!(
            "expected the file of a store at {url}, with its -wal file beside it if it has one, in a \
             folder where files can be made"
        )
    })?;
    if args.json {
        writeln!(out, "{}", as_json(&url, &report))?;
    } else {
        print_summary(out, &url, &report, args.shown)?;
    }
    Ok(if report.breaches == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FINDINGS)
    })
}

fn print_breach(out: &mut impl Write, breach: &Breach, is_json: bool) -> io::Result<()> {
    let Breach {
        rule,
        object,
        expected,
        found,
    } = breach;
    if is_json {
        let line = json!({
            "rule": rule, "object": object, "expected": expected, "found": found,
        });
        return writeln!(out, "{line}");
    }
    writeln!(
        out,
        "{rule:<4} {object}: expected {expected}; found {found}"
    )
}

fn print_summary(
    out: &mut impl Write,
    url: &StoreUrl,
    report: &Report,
    shown: u64,
) -> io::Result<()> {
    let unshown = report.breaches.saturating_sub(shown);
    if unshown > 0 {
        writeln!(out, "and {unshown} more; --shown says how many are listed")?;
    }
    writeln!(out, "checked {url}")?;
    writeln!(
        out,
        "  {} orders, {} attempts, {} refunds, {} entries, {} events, {} audit records, \
         {} blocks of the exchange log",
        report.orders,
        report.attempts,
        report.refunds,
        report.entries,
        report.events,
        report.records,
        report.blocks
    )?;
    for (currency, sums) in report.totals.each() {
        writeln!(
            out,
            "  {currency}, minor units: RECV {} + LOSS {} | MERCH {} + HOLD {} + SURP {}",
            sums.recv, sums.loss, sums.merchant_payable, sums.hold, sums.excess_payable
        )?;
    }
    for (chain, seq, hash) in &report.heads {
        writeln!(out, "  head of chain {chain}: {seq} {}", hex(hash))?;
    }
    writeln!(
        out,
        "not checked: what is sealed; whether the end of a log was cut off or all of it written anew: heads are \
         not signed yet, so compare this one with one you kept; and whether more than the oldest blocks of the \
         exchange log was removed from its beginning"
    )?;
    if report.breaches == 0 {
        return writeln!(out, "everything that was checked holds");
    }
    writeln!(
        out,
        "{} things do not hold. Repair nothing in the file. Stop the gateway, keep the file and its \
         -wal as they are, and find out who or what wrote them: FILE and READ mean storage or another \
         program, L1 and L2 somebody who changed rows, the rest a fault of the gateway. Compare with \
         the last good copy, `paymux explain` each order, and `paymux reconcile` its days.",
        report.breaches
    )
}

fn as_json(url: &StoreUrl, report: &Report) -> Value {
    let heads = report
        .heads
        .iter()
        .map(|(chain, seq, hash)| json!({ "chain": chain, "seq": seq, "hash": hex(hash) }));
    let totals = report.totals.each().map(|(currency, sums)| {
        json!({
            "currency": currency, "recv": sums.recv.to_string(), "loss": sums.loss.to_string(),
            "merch": sums.merchant_payable.to_string(), "hold": sums.hold.to_string(),
            "surp": sums.excess_payable.to_string(),
        })
    });
    json!({
        "file": url.to_string(), "breaches": report.breaches, "orders": report.orders,
        "attempts": report.attempts, "refunds": report.refunds, "entries": report.entries,
        "events": report.events, "records": report.records,
        "exchangeLogBlocks": report.blocks,
        "heads": heads.collect::<Vec<_>>(), "totals": totals.collect::<Vec<_>>(),
    })
}
