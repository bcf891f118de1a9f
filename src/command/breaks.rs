//! `paymux breaks`: what differs between institutions and the books, and whose it is.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::command::reload::ask_gateway;
use crate::command::{not_done, store_failed, unknown};
use crate::config;
use crate::run::manual_review::{self, ManualReviewReply, ManualReviewRequest, OpenBreak};
use crate::terminal::{self, on_one_line};

/// What `paymux breaks` takes.
#[derive(Debug, Args)]
pub struct BreaksArgs {
    #[command(subcommand)]
    command: BreaksCommand,
    /// The configuration of the gateway: its store says which of several is meant
    #[arg(long, global = true, default_value = config::FILE)]
    config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum BreaksCommand {
    /// List what is open, the oldest first
    List,
    /// Make one somebody's; recorded in the audit log
    HandOver {
        /// Its number
        id: i64,
        /// Whose from now on
        to: String,
    },
    /// End one by hand; what a later reconciliation does not find any more ends by itself
    Resolve {
        /// Its number
        id: i64,
        /// Why, for the audit log
        #[arg(long)]
        because: String,
    },
}

/// Exits with 0 if the gateway did what was asked, with 4 if no incident of that number is open.
///
/// # Errors
/// No gateway answers, or the output cannot be written.
pub fn run(args: &BreaksArgs) -> anyhow::Result<ExitCode> {
    let request = match &args.command {
        BreaksCommand::List => ManualReviewRequest::Breaks,
        BreaksCommand::HandOver { id, to } => ManualReviewRequest::HandOver {
            id: *id,
            to: to.clone(),
        },
        BreaksCommand::Resolve { id, because } => ManualReviewRequest::Resolve {
            id: *id,
            because: because.clone(),
        },
    };
    let answer = ask_gateway(&args.config, |socket| manual_review::ask(socket, &request))?;
    print_reply(&mut terminal::stdout(), answer)
}

fn print_reply(out: &mut dyn Write, answer: ManualReviewReply) -> anyhow::Result<ExitCode> {
    match answer {
        ManualReviewReply::Breaks { count, shown } => {
            for open_break in &shown {
                writeln!(out, "{}", on_one_line(&line(open_break)))?;
            }
            let more = count.saturating_sub(u64::try_from(shown.len()).unwrap_or(u64::MAX));
            if more > 0 {
                writeln!(out, "and {more} more, younger ones")?;
            }
            writeln!(out, "open breaks: {count}")?;
        }
        ManualReviewReply::Done => writeln!(out, "done, and recorded")?,
        ManualReviewReply::Unknown { why } => return Ok(unknown(&why)),
        ManualReviewReply::Refused { why } => {
            return Ok(not_done(&format!("refused, nothing moved: {why}")));
        }
        ManualReviewReply::Failed { fault } => {
            return Ok(not_done(&store_failed(&fault)));
        }
        ManualReviewReply::Manual { .. }
        | ManualReviewReply::Kept
        | ManualReviewReply::Ended { .. } => {
            anyhow::bail!("the gateway is of another release and answered something else")
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
