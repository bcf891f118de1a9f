//! `paymux incidents`: what differs between institutions and the books, and whose it is.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::command::reload::reach;
use crate::command::{not_done, store_failed, unknown};
use crate::config;
use crate::run::people::{self, Answer, Shown, Wish};
use crate::terminal::{self, on_one_line};

/// What `paymux incidents` takes.
#[derive(Debug, Args)]
pub struct IncidentsArgs {
    #[command(subcommand)]
    wish: What,
    /// The configuration of the gateway: its store says which of several is meant
    #[arg(long, global = true, default_value = config::FILE)]
    config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum What {
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
pub fn run(args: &IncidentsArgs) -> anyhow::Result<ExitCode> {
    let wish = match &args.wish {
        What::List => Wish::Breaks,
        What::HandOver { id, to } => Wish::HandOver {
            id: *id,
            to: to.clone(),
        },
        What::Resolve { id, because } => Wish::Resolve {
            id: *id,
            because: because.clone(),
        },
    };
    let answer = reach(&args.config, |socket| people::ask(socket, &wish))?;
    tell(&mut terminal::stdout(), answer)
}

fn tell(out: &mut dyn Write, answer: Answer) -> anyhow::Result<ExitCode> {
    match answer {
        Answer::Breaks { count, shown } => {
            for incident in &shown {
                writeln!(out, "{}", on_one_line(&line(incident)))?;
            }
            let more = count.saturating_sub(u64::try_from(shown.len()).unwrap_or(u64::MAX));
            if more > 0 {
                writeln!(out, "and {more} more, younger ones")?;
            }
            writeln!(out, "open breaks: {count}")?;
        }
        Answer::Done => writeln!(out, "done, and recorded")?,
        Answer::Unknown { why } => return Ok(unknown(&why)),
        Answer::Refused { why } => {
            return Ok(not_done(&format!("refused, nothing moved: {why}")));
        }
        Answer::Failed { fault } => {
            return Ok(not_done(&store_failed(&fault)));
        }
        Answer::Manual { .. } | Answer::Kept | Answer::Ended { .. } => {
            anyhow::bail!("the gateway is of another release and answered something else")
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn line(incident: &Shown) -> String {
    let Shown {
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
    } = incident;
    format!(
        "{id} {kind} {movement} {number} institution={institution_id} day={day} owner={owner} \
         since={since}: expected {expected}, found {found}"
    )
}
