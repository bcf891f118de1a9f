//! The subcommands of the binary: one file each.
//!
//! A command prints to standard output and returns an exit status.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use crate::config::ConfigFaults;
use crate::log;
use crate::terminal::{self, ReaderGone};

pub mod audit;
pub mod breaks;
pub mod call;
pub mod check;
pub mod demo;
pub mod events;
pub mod explain;
pub mod keys;
pub mod reconcile;
pub mod refunds;
pub mod reload;
pub mod sandbox;
pub mod serve;

pub use crate::run::machine::keep_memory_private;

/// The command ran and found differences, violations or faults; they are on standard output.
pub const FINDINGS: u8 = 3;

/// Nothing with that name or number exists.
pub const UNKNOWN: u8 = 4;

/// The reader closed the output pipe early: the status a shell shows for a program ended by
/// SIGPIPE.
pub const BROKEN_PIPE: u8 = 141;

/// The section on exit statuses in every command's help.
pub const EXIT_STATUS: &str = "Exit status:
  0    success, no findings
  1    failed: standard error says why and what to do (call: also if refused or not verified)
  2    invalid command line: see --help
  3    findings: configuration faults, violated checks, differences
  4    nothing with that name or number exists
  141  the reader closed the output early";

/// Longest error that is shown; a longer one is a list that another command prints in full. Unit:
/// characters.
const ERROR_CHARS_MAX: usize = 1_000;

/// Returns a command's exit status; prints its error in a line or two. Never prints a backtrace,
/// whatever `RUST_BACKTRACE` says.
pub fn ended(outcome: anyhow::Result<ExitCode>) -> ExitCode {
    let fault = match outcome {
        Ok(status) => return status,
        Err(fault) => fault,
    };
    if fault.chain().any(is_broken_pipe) {
        return ExitCode::from(BROKEN_PIPE);
    }
    let text = match fault.downcast_ref::<ConfigFaults>() {
        Some(faults) => first(faults),
        None => format!("{fault:#}"),
    };
    let text: Vec<_> = text.lines().map(str::trim).collect();
    let text: String = text.join(" ").chars().take(ERROR_CHARS_MAX).collect();
    log::say(&format!("paymux: {text}"));
    ExitCode::FAILURE
}

/// Prints why the command failed, and returns the exit status for a failure.
fn not_done(why: &str) -> ExitCode {
    // If standard error is closed, the message cannot be shown.
    let _ = writeln!(terminal::stderr(), "{why}");
    ExitCode::FAILURE
}

/// Prints that something does not exist, and returns the exit status for that.
fn unknown(why: &str) -> ExitCode {
    // If standard error is closed, the message cannot be shown.
    let _ = writeln!(terminal::stderr(), "refused: {why}");
    ExitCode::from(UNKNOWN)
}

fn store_failed(fault: &str) -> String {
    format!("the gateway's store failed: {fault}; see the gateway's log, then try again")
}

/// The first of a configuration's faults, and how many more there are.
fn first(ConfigFaults(faults): &ConfigFaults) -> String {
    let first = faults.first().map(ToString::to_string).unwrap_or_default();
    match faults.len().saturating_sub(1) {
        0 => first,
        more => format!("{first}; and {more} more: paymux check lists them all"),
    }
}

fn is_broken_pipe(cause: &(dyn Error + 'static)) -> bool {
    let output = cause.downcast_ref::<std::io::Error>();
    let within = output.and_then(std::io::Error::get_ref);
    cause.is::<ReaderGone>() || within.is_some_and(<dyn Error + Send + Sync>::is::<ReaderGone>)
}
