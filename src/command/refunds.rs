//! `paymux refunds`: what no institution answers for, as two operators end it: list, sign, hand over.

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

/// The longest signed verdict. Unit: bytes.
const DECISION_BYTES_MAX: u64 = 6 * 1024;

/// What `paymux refunds` takes.
#[derive(Debug, Args)]
pub struct RefundsArgs {
    #[command(subcommand)]
    command: RefundsCommand,
}

#[derive(Debug, Subcommand)]
enum RefundsCommand {
    /// List the refunds that no institution answers for
    Manual(GatewayArgs),
    /// Sign what the institution's statement says of a refund, wherever the operator's key is, and
    /// print it; good for five minutes
    Sign(Box<SignArgs>),
    /// Hand a signed verdict, from a file or from standard input, to the gateway on this machine
    ///
    /// The first is kept; a second operator's, who found the same on the same statement, ends the
    /// refund. Each is recorded in the audit log, and the statement is kept, sealed.
    Decide {
        /// The institution's statement, the same file that was signed for
        #[arg(long)]
        statement: PathBuf,
        /// What `paymux refunds sign` printed; `-` is standard input
        #[arg(default_value = "-")]
        decision: PathBuf,
        #[command(flatten)]
        gateway: GatewayArgs,
    },
}

#[derive(Debug, Args)]
struct GatewayArgs {
    /// The configuration of the gateway: its store says which of several is meant
    #[arg(long, default_value = config::FILE)]
    config: PathBuf,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("verdict").args(["succeeded", "failed"]).required(true)))]
struct SignArgs {
    /// Whose order
    #[arg(long, value_parser = merchant)]
    merchant: MerchantId,
    /// Which refund
    #[arg(long, value_parser = refund)]
    refund: RefundOrderNo,
    /// The statement says that the money went back
    #[arg(long)]
    succeeded: bool,
    /// The statement says that it did not
    #[arg(long)]
    failed: bool,
    /// The institution's statement
    #[arg(long)]
    statement: PathBuf,
    /// The institution's own number of the refund, as the statement has it
    #[arg(long, requires = "succeeded")]
    institution_no: Option<String>,
    /// When the money went back, as the statement has it: 2026-11-24T09:30:00+08:00. Without it the day
    /// of the second verdict counts
    #[arg(long, requires = "succeeded", value_parser = moment)]
    moved_at: Option<Timestamp>,
    /// The operator's private key (PKCS#8 PEM)
    #[arg(long)]
    key: PathBuf,
    /// The name it was enrolled under in [[operator]]
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

/// Exits with 0 if it was done: listed, signed, kept or ended; with 4 if there is no such refund.
///
/// # Errors
/// No gateway answers, a file cannot be read, or the output cannot be written.
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
        } => (handed_over(decision, statement)?, gateway),
    };
    let answer = ask_gateway(&gateway.config, |socket| {
        manual_review::ask(socket, &request)
    })?;
    print_reply(&mut out, answer)
}

/// A verdict on what the file says, signed.
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
    let said = RefundDecisionBody {
        merchant_id: args.merchant.to_string(),
        refund_order_no: args.refund.to_string(),
        succeeded: args.succeeded,
        statement_sha256: hex(&sha256(&statement)),
        institution_refund_no: args.institution_no.clone(),
        refund_time: args.moved_at.map(Timestamp::rfc3339),
    };
    let mut request = SignedDecision::unsigned(serde_json::to_vec(&said)?)?;
    let (created_s, nonce) = (clock.now().seconds(), hex(&entropy.draw::<16>()));
    let covering = Covering {
        created_s,
        expires_s: Some(created_s.saturating_add(VALID_FOR_S)),
        nonce: Some(&nonce),
    };
    signature::sign_request(&mut request, TARGET, &key, &covering)?;
    SignedDecision::of(&request).context("the verdict was not signed")
}

fn handed_over(decision: &Path, statement: &Path) -> anyhow::Result<ManualReviewRequest> {
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
            "{}: expected what paymux refunds sign printed, as it is",
            decision.display()
        )
    })?;
    let statement = std::path::absolute(statement)?;
    Ok(ManualReviewRequest::Decide {
        decision,
        statement,
    })
}

fn print_reply(out: &mut dyn Write, answer: ManualReviewReply) -> anyhow::Result<ExitCode> {
    match answer {
        ManualReviewReply::Manual { count, shown } => {
            for refund in &shown {
                writeln!(out, "{}", line(refund))?;
            }
            let more = count.saturating_sub(u64::try_from(shown.len()).unwrap_or(u64::MAX));
            if more > 0 {
                writeln!(out, "and {more} more, younger ones")?;
            }
            writeln!(out, "refunds left to people: {count}")?;
        }
        ManualReviewReply::Kept => writeln!(
            out,
            "kept; another operator must find the same on the same statement"
        )?,
        ManualReviewReply::Ended { state } => writeln!(out, "the refund is {state}")?,
        ManualReviewReply::Unknown { why } => return Ok(unknown(&why)),
        ManualReviewReply::Refused { why } => {
            return Ok(not_done(&format!("refused, nothing moved: {why}")));
        }
        ManualReviewReply::Failed { fault } => {
            return Ok(not_done(&store_failed(&fault)));
        }
        ManualReviewReply::Breaks { .. } | ManualReviewReply::Done => {
            anyhow::bail!("the gateway is of another release and answered something else")
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
        is_surplus,
        found,
    } = refund;
    let excess = if *is_surplus { " surplus" } else { "" };
    let found = found.as_deref().unwrap_or("no verdict yet");
    format!(
        "{refund_order_no} {amount}{excess} institution={institution_id} merchant={merchant_id} \
         payOrderNo={pay_order_no} since={asked}: {found}"
    )
}
