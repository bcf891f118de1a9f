//! `paymux serve`: runs the gateway on `routes.toml` until it is told to stop.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use crate::config;
use crate::edge::DrainOutcome;
use crate::metrics::count_panics;
use crate::run::signals::AsyncSignals;
pub use crate::run::signals::ProcessSignals;
use crate::run::{Gateway, machine};
use crate::world::{Clock, SystemClock};

/// How long a thread for what blocks is kept without work.
const IDLE_THREAD_TIMEOUT: Duration = Duration::from_hours(1);

/// How long the end of the process waits for threads that are blocked, by a file on a server that does
/// not answer for one; everything that must be written is written by then.
const BLOCKED_THREADS_WITHIN: Duration = Duration::from_secs(1);

/// Arguments of `paymux serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The configuration; `paymux check` says what is wrong with it
    #[arg(long, default_value = config::FILE)]
    pub config: PathBuf,
}

/// Reads the configuration whole, serves, and drains at SIGTERM or SIGINT, whenever that came.
///
/// # Errors
/// The configuration has faults, or the gateway cannot be built from it.
pub fn run(args: &ServeArgs, signals: ProcessSignals) -> anyhow::Result<ExitCode> {
    count_panics();
    let now = SystemClock::start().now();
    let config = config::read(&args.config, now, &config::environment)?;
    machine::raise_files().context("the limit of open files cannot be raised")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // A thread that is there is not asked of a machine that has none left (H1).
        .thread_keep_alive(IDLE_THREAD_TIMEOUT)
        .enable_all()
        .build()?;
    let drained = runtime.block_on(async {
        let AsyncSignals { mut stop, hangups } = signals.waiting()?;
        let built = tokio::select! {
            biased;
            () = stop.wait() => None,
            built = Gateway::build(config) => Some(built),
        };
        let Some(gateway) = built.transpose()? else {
            tracing::info!("told to stop before anything was served");
            return Ok(DrainOutcome::Whole);
        };
        for (address, what) in gateway.addresses().iter().zip(["public", "operations"]) {
            tracing::info!(%address, what, "listening");
        }
        let stopper = gateway.stopper();
        tokio::spawn(async move {
            stop.wait().await;
            stopper.stop();
        });
        tokio::spawn(gateway.reloader().on_hangups(hangups));
        anyhow::Ok(gateway.serve().await)
    });
    runtime.shutdown_timeout(BLOCKED_THREADS_WITHIN);
    Ok(match drained? {
        DrainOutcome::Whole => ExitCode::SUCCESS,
        DrainOutcome::Cut => ExitCode::FAILURE,
    })
}
