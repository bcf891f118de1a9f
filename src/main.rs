//! The list of subcommands, each handed to its file in `command/`.

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use paymux::command::{
    EXIT_STATUS, audit, breaks, call, check, demo, ended, events, explain, keys, reconcile,
    refunds, reload, sandbox, serve,
};
use paymux::log;

/// A request makes and drops some two hundred small pieces; this allocator does it in half the time
/// of the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An aggregated-payment gateway (聚合支付网关)
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Paymux {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start everything on this machine, take real orders through every flow, and watch
    Demo(demo::DemoArgs),
    /// Run the gateway on routes.toml
    Serve(serve::ServeArgs),
    /// Have the running gateway read its configuration again, whole or not at all
    Reload(reload::ReloadArgs),
    /// Compare an institution's statement of a day with the books, and repair what it confirms
    Reconcile(reconcile::ReconcileArgs),
    /// Tell what became of an order: what was done, posted and told, with times
    Explain(explain::ExplainArgs),
    /// List differences to an institution's books that nobody ended, and say whose they are
    Breaks(breaks::BreaksArgs),
    /// List refunds that no institution answers for, and end one by two operators' verdicts
    Refunds(refunds::RefundsArgs),
    /// Check that everything the store holds is whole and agrees, reading only
    Audit(audit::AuditArgs),
    /// List events that were given up, and have them sent again
    Events(events::EventsArgs),
    /// Read the configuration whole and say everything that is wrong; starts nothing
    Check(check::CheckArgs),
    /// Make, list and show keys and development certificates
    Keys(keys::KeysArgs),
    /// Play institutions and a merchant on this machine, with faults on demand
    Sandbox(sandbox::SandboxArgs),
    /// Sign and send a merchant's request: the client in the box
    Call(Box<call::CallArgs>),
}

fn main() -> ExitCode {
    // Before anything else: a stop that comes while the command line is read is a stop.
    let signals = std::env::args_os()
        .nth(1)
        .is_some_and(|word| word == "serve")
        .then(serve::ProcessSignals::noted);
    let _flushed = log::FlushOnDrop;
    ended(run(signals))
}

/// Each command's help, and that of each command in it, says what its exit status means.
fn with_exit_statuses(command: clap::Command) -> clap::Command {
    command
        .after_help(EXIT_STATUS)
        .mut_subcommands(with_exit_statuses)
}

fn run(signals: Option<std::io::Result<serve::ProcessSignals>>) -> anyhow::Result<ExitCode> {
    // One crypto provider in the process, before anything asks for one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // Before anything reads a key.
    paymux::command::keep_memory_private()?;
    let read = with_exit_statuses(Paymux::command()).get_matches();
    let read = Paymux::from_arg_matches(&read);
    let command = read.unwrap_or_else(|fault| fault.exit()).command;
    // The demonstration orders faults on purpose; warnings about them would hide its lines.
    let level = match command {
Command::Demo(_) => "error",
Command::Serve(_)
| Command::Reconcile(_)
| Command::Reload(_)
| Command::Events(_)
| Command::Breaks(_)
| Command::Refunds(_)
| Command::Explain(_)
| Command::Audit(_)
| Command::Check(_)
| Command::Keys(_)
| Command::Sandbox(_)
// Strangers decide how often a TLS library warns.
| Command::Call(_) => "info,rustls=error",
};
    let filter =
        tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| level.into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(log::line)
        .with_ansi(log::is_seen())
        .init();
    match command {
        Command::Demo(args) => demo::run(&args),
        Command::Serve(args) => {
            serve::run(&args, signals.unwrap_or_else(serve::ProcessSignals::noted)?)
        }
        Command::Reconcile(args) => reconcile::run(&args),
        Command::Reload(args) => reload::run(&args),
        Command::Events(args) => events::run(&args),
        Command::Breaks(args) => breaks::run(&args),
        Command::Refunds(args) => refunds::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Audit(args) => audit::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Keys(args) => keys::run(&args),
        Command::Sandbox(args) => sandbox::run(&args),
        Command::Call(args) => call::run(&args),
    }
}
