//! `paymux serve`: runs the gateway with `routes.toml` until SIGTERM or SIGINT.

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

/// How long an idle thread of the blocking pool is kept.
const IDLE_THREAD_TIMEOUT: Duration = Duration::from_hours(1);

/// How long process exit waits for blocked threads, such as one on a file server that does not
/// respond. Everything that must be durable is written before.
const BLOCKED_THREADS_WITHIN: Duration = Duration::from_secs(1);

/// Arguments of `paymux serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The configuration file; `paymux check` lists its faults
    #[arg(long, default_value = config::FILE)]
    pub config: PathBuf,
}

/// Reads the configuration, serves, and drains on SIGTERM or SIGINT, also if received during
/// startup.
///
/// # Errors
/// The configuration has faults, or the gateway cannot be built from it.
pub fn run(args: &ServeArgs, signals: ProcessSignals) -> anyhow::Result<ExitCode> {
    count_panics();
    let now = SystemClock::start().now();
    let config = config::read(&args.config, now, &config::environment)?;
    machine::raise_files().context("the limit of open files cannot be raised")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // Keep threads: the system may have none left when one is needed again (H1).
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
            tracing::info!("stopped before serving began");
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
