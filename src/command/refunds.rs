//! `paymux refunds`: manual review of refunds with dual approval: list, sign a decision, submit it.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{ArgGroup, Args, Subcommand};

use crate::command::call::signing_key;
use crate::command::reload::ask_gateway;
use crate::command::{not_done, store_failed, unknown};
use crate::config;
use crate::crypto::digest::sha256;
use crate::domain::identifiers::{MerchantId, RefundOrderNo, Timestamp, hex};
use crate::files;
use crate::flow::refunds::decide_refund::{RefundDecisionBody, TARGET, VALID_FOR_S};
use crate::run::manual_review::{
    self, ManualRefund, ManualReviewReply, ManualReviewRequest, STATEMENT_BYTES_MAX, SignedDecision,
};
use crate::signature::{self, Covering};
use crate::terminal;
use crate::world::{Clock, Entropy, SystemClock, SystemEntropy};

/// The longest signed decision. Unit: bytes.
const DECISION_BYTES_MAX: u64 = 6 * 1024;

/// Arguments of `paymux refunds`.
#[derive(Debug, Args)]
pub struct RefundsArgs {
    #[command(subcommand)]
    command: RefundsCommand,
}

#[derive(Debug, Subcommand)]
enum RefundsCommand {
    /// List the refunds in manual review: the institution gives no conclusive answer
    Manual(GatewayArgs),
    /// Sign a decision, based on the institution's statement, and print it; valid for five minutes
    ///
    /// Needs no gateway: run it where the staff member's key is.
    Sign(Box<SignArgs>),
    /// Submit a signed decision, from a file or standard input, to the gateway on this machine
    ///
    /// The first decision is stored; a second one by another staff member, with the same outcome
    /// and the same statement, completes the refund. Each is recorded in the audit log, and the
    /// statement is archived, encrypted.
    Decide {
        /// The institution's statement: the same file that was signed
        #[arg(long)]
        statement: PathBuf,
        /// The output of `paymux refunds sign`; `-` is standard input
        #[arg(default_value = "-")]
        decision: PathBuf,
        #[command(flatten)]
        gateway: GatewayArgs,
    },
}

#[derive(Debug, Args)]
struct GatewayArgs {
    /// The configuration file; its store selects the running gateway
    #[arg(long, default_value = config::FILE)]
    config: PathBuf,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("decision").args(["succeeded", "failed"]).required(true)))]
struct SignArgs {
    /// The order's merchant
    #[arg(long, value_parser = merchant)]
    merchant: MerchantId,
    /// The refund's number (refundOrderNo)
    #[arg(long, value_parser = refund)]
    refund: RefundOrderNo,
    /// The statement shows that the refund was paid
    #[arg(long)]
    succeeded: bool,
    /// The statement shows that the refund was not paid
    #[arg(long)]
    failed: bool,
    /// The institution's statement
    #[arg(long)]
    statement: PathBuf,
    /// The institution's number for the refund, from the statement
    #[arg(long, requires = "succeeded")]
    institution_no: Option<String>,
    /// When the refund was paid, from the statement: 2026-11-24T09:30:00+08:00. Without it, the
    /// day of the second decision counts
    #[arg(long, requires = "succeeded", value_parser = moment)]
    moved_at: Option<Timestamp>,
    /// The staff member's private key (PKCS#8 PEM)
    #[arg(long)]
    key: PathBuf,
    /// The key's id, as enrolled in [[staff]]
    #[arg(long)]
    key_id: String,
}

fn merchant(text: &str) -> Result<MerchantId, String> {
    MerchantId::parse(text).map_err(|malformed| format!("expected {}", malformed.expected))
}

fn moment(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse_rfc3339(text).map_err(|malformed| format!("expected {}", malformed.expected))
}

fn refund(text: &str) -> Result<RefundOrderNo, String> {
    RefundOrderNo::parse(text).map_err(|malformed| format!("expected {}", malformed.expected))
}

/// Exits with 0 on success, with 4 if there is no such refund.
///
/// # Errors
/// No gateway responds, a file cannot be read, or the output cannot be written.
pub fn run(args: &RefundsArgs) -> anyhow::Result<ExitCode> {
    let mut out = terminal::stdout();
    let (request, gateway) = match &args.command {
        RefundsCommand::Manual(gateway) => (ManualReviewRequest::Manual, gateway),
        RefundsCommand::Sign(args) => {
            let decision = sign(args, &SystemClock::start(), &SystemEntropy)?;
            writeln!(out, "{}", serde_json::to_string(&decision)?)?;
            return Ok(ExitCode::SUCCESS);
        }
        RefundsCommand::Decide {
            statement,
            decision,
            gateway,
        } => (read_decision(decision, statement)?, gateway),
    };
    let reply = ask_gateway(&gateway.config, |socket| {
        manual_review::ask(socket, &request)
    })?;
    print_reply(&mut out, reply)
}

/// Signs a decision about the statement in the file.
fn sign(
    args: &SignArgs,
    clock: &dyn Clock,
    entropy: &(dyn Entropy + 'static),
) -> anyhow::Result<SignedDecision> {
    let statement = files::read(&args.statement, STATEMENT_BYTES_MAX);
    let statement = statement.with_context(|| format!("{}", args.statement.display()))?;
    let pem = files::text(&args.key).with_context(|| format!("{}", args.key.display()))?;
    let key = signing_key(&args.key_id, &pem)
        .with_context(|| format!("{}: not a usable signing key", args.key.display()))?;
    let body = RefundDecisionBody {
        merchant_id: args.merchant.to_string(),
        refund_order_no: args.refund.to_string(),
        succeeded: args.succeeded,
        statement_sha256: hex(&sha256(&statement)),
        institution_refund_no: args.institution_no.clone(),
        refund_time: args.moved_at.map(Timestamp::rfc3339),
    };
    let mut request = SignedDecision::unsigned(serde_json::to_vec(&body)?)?;
    let (created_s, nonce) = (clock.now().seconds(), hex(&entropy.draw::<16>()));
    let covering = Covering {
        created_s,
        expires_s: Some(created_s.saturating_add(VALID_FOR_S)),
        nonce: Some(&nonce),
    };
    signature::sign_request(&mut request, TARGET, &key, &covering)?;
    SignedDecision::of(&request).context("the decision was not signed")
}

fn read_decision(decision: &Path, statement: &Path) -> anyhow::Result<ManualReviewRequest> {
    let mut text = String::new();
    let read = if decision == Path::new("-") {
        io::stdin()
            .take(DECISION_BYTES_MAX)
            .read_to_string(&mut text)
    } else {
        let file = files::open(decision).with_context(|| format!("{}", decision.display()))?;
        file.take(DECISION_BYTES_MAX).read_to_string(&mut text)
    };
    read.with_context(|| format!("{}", decision.display()))?;
    let decision = serde_json::from_str(&text).with_context(|| {
        format!(
            "{}: expected what paymux refunds sign printed, unchanged",
            decision.display()
        )
    })?;
    let statement = std::path::absolute(statement)?;
    Ok(ManualReviewRequest::Decide {
        decision,
        statement,
    })
}

fn print_reply(out: &mut dyn Write, reply: ManualReviewReply) -> anyhow::Result<ExitCode> {
    match reply {
        ManualReviewReply::Manual { count, shown } => {
            for refund in &shown {
                writeln!(out, "{}", line(refund))?;
            }
            let more = count.saturating_sub(u64::try_from(shown.len()).unwrap_or(u64::MAX));
            if more > 0 {
                writeln!(out, "and {more} more recent ones")?;
            }
            writeln!(out, "refunds in manual review: {count}")?;
        }
        ManualReviewReply::Kept => writeln!(
            out,
            "stored; a second staff member must sign the same decision on the same statement"
        )?,
        ManualReviewReply::Ended { state } => writeln!(out, "the refund is {state}")?,
        ManualReviewReply::Unknown { why } => return Ok(unknown(&why)),
        ManualReviewReply::Refused { why } => {
            return Ok(not_done(&format!("refused: {why}")));
        }
        ManualReviewReply::Failed { fault } => {
            return Ok(not_done(&store_failed(&fault)));
        }
        ManualReviewReply::Breaks { .. } | ManualReviewReply::Done => {
            anyhow::bail!("the running gateway is another release: its answer is not understood")
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn line(refund: &ManualRefund) -> String {
    let ManualRefund {
        refund_order_no,
        pay_order_no,
        merchant_id,
        institution_id,
        amount,
        asked,
        is_excess,
        found,
    } = refund;
    let excess = if *is_excess { " excess" } else { "" };
    let found = found.as_deref().unwrap_or("no decision yet");
    format!(
        "{refund_order_no} {amount}{excess} institution={institution_id} merchant={merchant_id} \
         payOrderNo={pay_order_no} since={asked}: {found}"
    )
}
