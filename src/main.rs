//! Entry point: parses the command line, sets up logging, and runs the subcommand from `command/`.

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use paymux::command::{
    EXIT_STATUS, audit, breaks, call, check, demo, ended, events, explain, keys, reconcile,
    refunds, reload, sandbox, serve,
};
use paymux::log;

/// A request makes about two hundred small allocations; mimalloc takes half the time of the system
/// allocator for them.
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
    /// Start everything on this machine and run real orders through every payment flow
    Demo(demo::DemoArgs),
    /// Run the gateway with the configuration in routes.toml
    Serve(serve::ServeArgs),
    /// Make the running gateway reload its configuration: all of it, or none if it has faults
    Reload(reload::ReloadArgs),
    /// Reconcile an institution's daily statement with the ledger; repair what it confirms
    Reconcile(reconcile::ReconcileArgs),
    /// Show an order's timeline: actions, journal postings, notifications and messages
    Explain(explain::ExplainArgs),
    /// List open reconciliation breaks, assign them to an owner, resolve them
    Breaks(breaks::BreaksArgs),
    /// List refunds in manual review, and decide them with two staff members' signed decisions
    Refunds(refunds::RefundsArgs),
    /// Verify the integrity and consistency of the store; read-only
    Audit(audit::AuditArgs),
    /// List dead-lettered events, and resend them
    Events(events::EventsArgs),
    /// Validate the configuration and list every fault; starts nothing
    Check(check::CheckArgs),
    /// Create and list keys, and create development certificates
    Keys(keys::KeysArgs),
    /// Run simulated institutions and a merchant on this machine, with faults on demand
    Sandbox(sandbox::SandboxArgs),
    /// Sign and send a merchant's request: a command-line client
    Call(Box<call::CallArgs>),
}

fn main() -> ExitCode {
    // First of all, so that a stop signal received while the command line is parsed is not lost.
    let signals = std::env::args_os()
        .nth(1)
        .is_some_and(|word| word == "serve")
        .then(serve::ProcessSignals::recorded);
    let _flushed = log::FlushOnDrop;
    ended(run(signals))
}

/// Adds the exit statuses to the help of every command and subcommand.
fn with_exit_statuses(command: clap::Command) -> clap::Command {
    command
        .after_help(EXIT_STATUS)
        .mut_subcommands(with_exit_statuses)
}

fn run(signals: Option<std::io::Result<serve::ProcessSignals>>) -> anyhow::Result<ExitCode> {
    // One crypto provider for the process, installed before first use.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // Before any key is read.
    paymux::command::keep_memory_private()?;
    let read = with_exit_statuses(Paymux::command()).get_matches();
    let read = Paymux::from_arg_matches(&read);
    let command = read.unwrap_or_else(|fault| fault.exit()).command;
    // The demonstration injects faults on purpose; warnings about them would hide its output.
    // Unauthenticated callers can trigger warnings of rustls at will, so those are not logged.
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
        Command::Serve(args) => serve::run(
            &args,
            signals.unwrap_or_else(serve::ProcessSignals::recorded)?,
        ),
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
