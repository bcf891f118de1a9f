//! `paymux audit verify`: checks the integrity and consistency of a store's file; read-only.

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

/// Arguments of `paymux audit`.
#[derive(Debug, clap::Args)]
pub struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, clap::Subcommand)]
enum AuditCommand {
    /// Verify the store's file: its pages and the audit log's hash chains, and orders, refunds,
    /// events and journal against each other. Read-only; exits with 0 if every check passes, with
    /// 3 if not
    Verify(VerifyArgs),
}

/// Arguments of `paymux audit verify`.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// The configuration file; the store that it names is verified
    #[arg(long, default_value = config::FILE)]
    pub config: PathBuf,
    /// Verify this file instead, such as a copy; needs neither a configuration nor keys
    #[arg(long, conflicts_with = "config")]
    pub file: Option<PathBuf>,
    /// How many violations to list; the rest are only counted
    #[arg(long, default_value_t = 100)]
    pub shown: u64,
    /// Print one JSON object per line
    #[arg(long)]
    pub json: bool,
}

/// Reads the store, with or without a running gateway, and changes nothing.
///
/// # Errors
/// The file cannot be read at all, or the output cannot be written.
pub fn run(args: &AuditArgs) -> anyhow::Result<ExitCode> {
    let AuditCommand::Verify(args) = &args.command;
    let mut out = terminal::stdout();
    verify_store(&mut out, args)
}

/// The same, printing to `out`.
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
            "expected a store's file at {url}, with its -wal file next to it if it has one, in a \
             writable folder"
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
        writeln!(out, "and {unshown} more; --shown sets how many are listed")?;
    }
    writeln!(out, "checked {url}")?;
    writeln!(
        out,
        "  {} orders, {} attempts, {} refunds, {} entries, {} events, {} audit records in {} \
         chains, {} blocks of the exchange log",
        report.orders,
        report.attempts,
        report.refunds,
        report.entries,
        report.events,
        report.records,
        report.chains,
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
        "not checked: encrypted content; whether the newest audit chain ended later, where no order \
         misses a record, or all chains were written anew (heads are not signed: compare them with \
         ones you saved); and whether more than the oldest blocks of the exchange log were removed \
         from its beginning"
    )?;
    if report.breaches == 0 {
        return writeln!(out, "all checks passed");
    }
    writeln!(
        out,
        "{} violations. Do not repair the file. Stop the gateway, keep the file and its -wal as they \
         are, and find out what wrote them: FILE and READ point to the disk or another program, L1 \
         and L2 to somebody who changed rows, the rest to a defect of the gateway. Compare with the \
         last good copy, run `paymux explain` for each order and `paymux reconcile` for its days.",
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
        "events": report.events, "records": report.records, "chains": report.chains,
        "exchangeLogBlocks": report.blocks,
        "heads": heads.collect::<Vec<_>>(), "totals": totals.collect::<Vec<_>>(),
    })
}
