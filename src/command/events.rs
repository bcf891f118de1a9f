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
use crate::run::control::{ControlReply, DeadLetteredEvent};
use crate::run::dead_lettered::{DEAD, RESEND, question};
use crate::store::outbox::DeadEventFilter;
use crate::terminal;

/// What `paymux events` takes.
#[derive(Debug, clap::Args)]
pub struct EventsArgs {
    #[command(subcommand)]
    command: EventsCommand,
}

#[derive(Debug, clap::Subcommand)]
enum EventsCommand {
    /// List the events that no merchant acknowledged for seven days
    Dead(EventFilterArgs),
    /// Send them again, each with the whole schedule before it; recorded in the audit log
    #[command(group(ArgGroup::new("whose").args(["merchant", "event", "all"]).required(true).multiple(true)))]
    Resend {
        #[command(flatten)]
        which: EventFilterArgs,
        /// Every dead event of every merchant
        #[arg(long, conflicts_with_all = ["merchant", "event"])]
        all: bool,
    },
}

#[derive(Debug, clap::Args)]
struct EventFilterArgs {
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
    let (word, args) = match &args.command {
        EventsCommand::Dead(which) => (DEAD, which),
        // That somebody's are meant was seen to where the command line was read.
        EventsCommand::Resend { which, .. } => (RESEND, which),
    };
    let which = DeadEventFilter {
        merchant: args.merchant.clone(),
        event: args.event.clone(),
    };
    let reply = ask(&args.config, &question(word, &which))?;
    print_reply(&mut terminal::stdout(), reply)
}

fn print_reply(out: &mut dyn Write, reply: ControlReply) -> anyhow::Result<ExitCode> {
    match reply {
        ControlReply::Dead { count, shown } => {
            for message in &shown {
                let DeadLetteredEvent {
                    event_id,
                    event_type,
                    merchant_id,
                    sequence,
                    pay_order_no,
                    born,
                } = message;
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
        ControlReply::Resent { count } => {
            writeln!(out, "sent again: {count}")?;
            Ok(ExitCode::SUCCESS)
        }
        ControlReply::Failed { fault } => Ok(not_done(&store_failed(&fault))),
        ControlReply::Accepted { .. }
        | ControlReply::Refused { .. }
        | ControlReply::Shown { .. }
        | ControlReply::Unknown { .. } => {
            anyhow::bail!("the gateway is of another release and does not know this word")
        }
    }
}
