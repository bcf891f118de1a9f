//! `paymux breaks`: lists, assigns and resolves reconciliation breaks, through the running gateway.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::command::reload::ask_gateway;
use crate::command::{not_done, store_failed, unknown};
use crate::config;
use crate::run::manual_review::{self, ManualReviewReply, ManualReviewRequest, OpenBreak};
use crate::terminal::{self, on_one_line};

/// Arguments of `paymux breaks`.
#[derive(Debug, Args)]
pub struct BreaksArgs {
    #[command(subcommand)]
    command: BreaksCommand,
    /// The configuration file; its store selects the running gateway
    #[arg(long, global = true, default_value = config::FILE)]
    config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum BreaksCommand {
    /// List open breaks, oldest first
    List,
    /// Assign a break to an owner; recorded in the audit log
    Assign {
        /// The break's number
        id: i64,
        /// The new owner
        to: String,
    },
    /// Resolve a break by hand; one that a later reconciliation no longer finds resolves by itself
    Resolve {
        /// The break's number
        id: i64,
        /// The reason, for the audit log
        #[arg(long)]
        because: String,
    },
}

/// Exits with 0 if the gateway carried out the request, with 4 if no break of that number is open.
///
/// # Errors
/// No gateway responds, or the output cannot be written.
pub fn run(args: &BreaksArgs) -> anyhow::Result<ExitCode> {
    let request = match &args.command {
        BreaksCommand::List => ManualReviewRequest::Breaks,
        BreaksCommand::Assign { id, to } => ManualReviewRequest::Assign {
            id: *id,
            to: to.clone(),
        },
        BreaksCommand::Resolve { id, because } => ManualReviewRequest::Resolve {
            id: *id,
            because: because.clone(),
        },
    };
    let reply = ask_gateway(&args.config, |socket| manual_review::ask(socket, &request))?;
    print_reply(&mut terminal::stdout(), reply)
}

fn print_reply(out: &mut dyn Write, reply: ManualReviewReply) -> anyhow::Result<ExitCode> {
    match reply {
        ManualReviewReply::Breaks { count, shown } => {
            for open_break in &shown {
                writeln!(out, "{}", on_one_line(&line(open_break)))?;
            }
            let more = count.saturating_sub(u64::try_from(shown.len()).unwrap_or(u64::MAX));
            if more > 0 {
                writeln!(out, "and {more} more recent ones")?;
            }
            writeln!(out, "open breaks: {count}")?;
        }
        ManualReviewReply::Done => writeln!(out, "done; recorded in the audit log")?,
        ManualReviewReply::Unknown { why } => return Ok(unknown(&why)),
        ManualReviewReply::Refused { why } => {
            return Ok(not_done(&format!("refused: {why}")));
        }
        ManualReviewReply::Failed { fault } => {
            return Ok(not_done(&store_failed(&fault)));
        }
        ManualReviewReply::Manual { .. }
        | ManualReviewReply::Kept
        | ManualReviewReply::Ended { .. } => {
            anyhow::bail!("the running gateway is another release: its answer is not understood")
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn line(open_break: &OpenBreak) -> String {
    let OpenBreak {
        id,
        since,
        institution_id,
        day,
        kind,
        movement,
        number,
        expected,
        found,
        owner,
    } = open_break;
    format!(
        "{id} {kind} {movement} {number} institution={institution_id} day={day} owner={owner} \
         since={since}: expected {expected}, found {found}"
    )
}
