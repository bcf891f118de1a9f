//! Progress on the terminal, and a list of what could not be measured: a failure costs one step,
//! not the run.

use std::cell::RefCell;
use std::pin::Pin;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// The log of one run.
pub(crate) struct ProgressLog {
    start: Instant,
    missing: RefCell<Vec<MissingMeasurement>>,
}

/// A step that failed.
pub(crate) struct MissingMeasurement {
    pub(crate) step: String,
    pub(crate) why: String,
}

impl ProgressLog {
    pub(crate) fn start() -> Self {
        Self {
            start: Instant::now(),
            missing: RefCell::default(),
        }
    }

    /// Prints one line.
    pub(crate) fn say(&self, text: &str) {
        eprintln!("[{:4} s] {text}", self.start.elapsed().as_secs());
    }

    /// Runs one step; a failure is recorded, and the run continues.
    pub(crate) fn step<'a, T>(
        &'a self,
        name: &'a str,
        within_s: u64,
        step: impl Future<Output = Result<T>> + 'a,
    ) -> Pin<Box<dyn Future<Output = Option<T>> + 'a>> {
        let within = tokio::time::timeout(Duration::from_secs(within_s), Box::pin(step));
        Box::pin(async move {
            let ended = within.await;
            let ended = ended
                .with_context(|| format!("not done within {within_s} s"))
                .flatten();
            match ended {
                Ok(found) => Some(found),
                Err(why) => {
                    let why = format!("{why:#}");
                    self.say(&format!("{name}: NOT MEASURED: {why}"));
                    let step = name.to_owned();
                    self.missing
                        .borrow_mut()
                        .push(MissingMeasurement { step, why });
                    None
                }
            }
        })
    }

    /// All failed steps.
    pub(crate) fn missing(self) -> Vec<MissingMeasurement> {
        self.missing.into_inner()
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}
