//! `paymux events`: notifications that were given up, as the running gateway knows them: which they
//! are, and that they be sent again.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ArgGroup;

use crate::command::reload::ask;
use crate::command::{not_done, store_failed};
use crate::config;
use crate::domain::identifiers::{EventId, MerchantId};
use crate::run::control::{DeadLetter, Reply};
use crate::run::dead_letters::{DEAD, RESEND, question};
use crate::store::owed::Which;
use crate::terminal;

/// What `paymux events` takes.
#[derive(Debug, clap::Args)]
pub struct EventsArgs {
    #[command(subcommand)]
    wish: Wish,
}

#[derive(Debug, clap::Subcommand)]
enum Wish {
    /// List the events that no merchant acknowledged for seven days
    Dead(WhichArgs),
    /// Send them again, each with the whole schedule before it; recorded in the audit log
    #[command(group(ArgGroup::new("whose").args(["merchant", "event", "all"]).required(true).multiple(true)))]
    Resend {
        #[command(flatten)]
        which: WhichArgs,
        /// Every dead event of every merchant
        #[arg(long, conflicts_with_all = ["merchant", "event"])]
        all: bool,
    },
}

#[derive(Debug, clap::Args)]
struct WhichArgs {
    /// Only this merchant's
    #[arg(long, value_parser = merchant)]
    merchant: Option<MerchantId>,
    /// Only this one, by its eventId
    #[arg(long, value_parser = event)]
    event: Option<EventId>,
    /// The configuration of the gateway: its store says which of several is meant
    #[arg(long, default_value = config::FILE)]
    config: PathBuf,
}

fn merchant(text: &str) -> Result<MerchantId, String> {
    MerchantId::parse(text).map_err(|malformed| format!("expected {}", malformed.expected))
}

fn event(text: &str) -> Result<EventId, String> {
    EventId::parse(text).map_err(|malformed| format!("expected {}", malformed.expected))
}

/// Exits with 0 if the gateway did what was asked.
///
/// # Errors
/// No gateway answers, or the output cannot be written.
pub fn run(args: &EventsArgs) -> anyhow::Result<ExitCode> {
    let (word, args) = match &args.wish {
        Wish::Dead(which) => (DEAD, which),
        // That somebody's are meant was seen to where the command line was read.
        Wish::Resend { which, .. } => (RESEND, which),
    };
    let which = Which {
        merchant: args.merchant.clone(),
        event: args.event.clone(),
    };
    let reply = ask(&args.config, &question(word, &which))?;
    tell(&mut terminal::stdout(), reply)
}

fn tell(out: &mut dyn Write, reply: Reply) -> anyhow::Result<ExitCode> {
    match reply {
        Reply::Dead { count, shown } => {
            for letter in &shown {
                let DeadLetter {
                    event_id,
                    event_type,
                    merchant_id,
                    sequence,
                    pay_order_no,
                    born,
                } = letter;
                writeln!(
                    out,
                    "{event_id} {event_type} merchant={merchant_id} sequence={sequence} \
                     payOrderNo={pay_order_no} born={born}"
                )?;
            }
            let more = count.saturating_sub(u64::try_from(shown.len()).unwrap_or(u64::MAX));
            if more > 0 {
                writeln!(out, "and {more} more; name a --merchant to see others")?;
            }
            writeln!(out, "dead events: {count}")?;
            Ok(ExitCode::SUCCESS)
        }
        Reply::Resent { count } => {
            writeln!(out, "sent again: {count}")?;
            Ok(ExitCode::SUCCESS)
        }
        Reply::Failed { fault } => Ok(not_done(&store_failed(&fault))),
        Reply::Accepted { .. }
        | Reply::Refused { .. }
        | Reply::Shown { .. }
        | Reply::Unknown { .. } => {
            anyhow::bail!("the gateway is of another release and does not know this word")
        }
    }
}
