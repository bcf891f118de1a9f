//! What a person or a script asks of the binary: one file for each subcommand.
//!
//! A command prints to standard output, answers with an exit status, and keeps nothing.

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

/// It was done, and what was looked at differs, does not hold, or has faults: what was found is on
/// standard output.
pub const FINDINGS: u8 = 3;

/// There is nothing by that name.
pub const UNKNOWN: u8 = 4;

/// Nobody read the output to its end: what a shell shows for a program that a closed pipe ended.
pub const BROKEN_PIPE: u8 = 141;

/// What every command's help says of its exit status.
pub const EXIT_STATUS: &str = "Exit status:
  0    done, and nothing was found
  1    not done: standard error says why and what to do (call: also if it was refused or not proven)
  2    not understood: see --help
  3    findings: faults of the configuration, things that do not hold, differences
  4    there is nothing by that name
  141  nobody read the output to its end";

/// Letters of an error that are shown; a longer one is a list that another command prints whole.
const ERROR_CHARS_MAX: usize = 1_000;

/// Says why a command was not done, in a line or two, and gives its exit status. Never a backtrace,
/// whatever the environment asks for.
pub fn ended(done: anyhow::Result<ExitCode>) -> ExitCode {
    let fault = match done {
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

/// Says why something was not done, and gives the exit status of that.
fn not_done(why: &str) -> ExitCode {
    // As above.
    let _ = writeln!(terminal::stderr(), "{why}");
    ExitCode::FAILURE
}

/// Says that nothing is known by a name, and gives the exit status of that.
fn unknown(why: &str) -> ExitCode {
    // As above.
    let _ = writeln!(terminal::stderr(), "refused, nothing moved: {why}");
    ExitCode::from(UNKNOWN)
}

fn store_failed(fault: &str) -> String {
    format!("the gateway's store failed: {fault}; see its log, and ask again")
}

/// Of a configuration's faults the first, and how many more there are.
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
