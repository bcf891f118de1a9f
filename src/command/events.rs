//! `paymux events`: lists and resends dead-lettered notifications, through the running gateway.

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

/// Arguments of `paymux events`.
#[derive(Debug, clap::Args)]
pub struct EventsArgs {
    #[command(subcommand)]
    command: EventsCommand,
}

#[derive(Debug, clap::Subcommand)]
enum EventsCommand {
    /// List dead-lettered events: not acknowledged by the merchant within seven days
    Dead(EventFilterArgs),
    /// Resend dead-lettered events on a fresh retry schedule; recorded in the audit log
    #[command(group(ArgGroup::new("whose").args(["merchant", "event", "all"]).required(true).multiple(true)))]
    Resend {
        #[command(flatten)]
        which: EventFilterArgs,
        /// All dead-lettered events of all merchants
        #[arg(long, conflicts_with_all = ["merchant", "event"])]
        all: bool,
    },
}

#[derive(Debug, clap::Args)]
struct EventFilterArgs {
    /// Only this merchant's events
    #[arg(long, value_parser = merchant)]
    merchant: Option<MerchantId>,
    /// Only the event with this eventId
    #[arg(long, value_parser = event)]
    event: Option<EventId>,
    /// The configuration file; its store selects the running gateway
    #[arg(long, default_value = config::FILE)]
    config: PathBuf,
}

fn merchant(text: &str) -> Result<MerchantId, String> {
    MerchantId::parse(text).map_err(|malformed| format!("expected {}", malformed.expected))
}

fn event(text: &str) -> Result<EventId, String> {
    EventId::parse(text).map_err(|malformed| format!("expected {}", malformed.expected))
}

/// Exits with 0 if the gateway carried out the request.
///
/// # Errors
/// No gateway responds, or the output cannot be written.
pub fn run(args: &EventsArgs) -> anyhow::Result<ExitCode> {
    let (word, args) = match &args.command {
        EventsCommand::Dead(which) => (DEAD, which),
        // The command line parser has made sure that a filter or `--all` is given.
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
                writeln!(out, "and {more} more; use --merchant to see others")?;
            }
            writeln!(out, "dead-lettered events: {count}")?;
            Ok(ExitCode::SUCCESS)
        }
        ControlReply::Resent { count } => {
            writeln!(out, "resent: {count}")?;
            Ok(ExitCode::SUCCESS)
        }
        ControlReply::Failed { fault } => Ok(not_done(&store_failed(&fault))),
        ControlReply::Accepted { .. }
        | ControlReply::Refused { .. }
        | ControlReply::Shown { .. }
        | ControlReply::Unknown { .. } => {
            anyhow::bail!("the running gateway is another release and lacks this command")
        }
    }
}
