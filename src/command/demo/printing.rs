//! The demonstration's output: one line per step, with the time since the start and the time it
//! took. Colours only on a terminal.

use std::io::{self, Write};
use std::time::Duration;

use crate::domain::identifiers::Timestamp;
use crate::terminal;
use crate::world::{Clock, SystemClock};

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";

/// Why a scenario ended early.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A step failed, which was printed.
    #[error("a step failed")]
    StepFailed,
    /// The output cannot be written.
    #[error(transparent)]
    Output(#[from] io::Error),
}

/// Runs steps, and prints and counts their results.
pub struct StepPrinter {
    clock: SystemClock,
    began: Timestamp,
    is_terminal: bool,
    /// Steps that passed.
    pub passed: u32,
    /// Steps that failed.
    pub failed: u32,
}

impl StepPrinter {
    /// Starts the clock.
    pub fn start() -> Self {
        let clock = SystemClock::start();
        Self {
            began: clock.now(),
            clock,
            is_terminal: terminal::are_terminals().0,
            passed: 0,
            failed: 0,
        }
    }

    /// Prints a heading.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn head(&self, text: &str) -> io::Result<()> {
        self.line(&format!("\n{}", self.painted(BOLD, text)))
    }

    /// Prints a line.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn line(&self, text: &str) -> io::Result<()> {
        writeln!(terminal::screen(), "{text}")
    }

    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        self.clock.now().since(self.began)
    }

    /// Runs one step, whose action returns a result and a detail to print, and prints the outcome.
    ///
    /// # Errors
    /// The step failed; what was expected and found is printed.
    pub async fn step<R>(
        &mut self,
        what: &str,
        action: impl Future<Output = anyhow::Result<(R, String)>>,
    ) -> Result<R, StepError> {
        if self.is_terminal {
            let mut out = terminal::screen();
            write!(out, "{:21}… {what}", "")?;
            out.flush()?;
        }
        let before = self.clock.now();
        let outcome = action.await;
        let now = self.clock.now();
        if self.is_terminal {
            // Return to the start of the line, and clear it.
            write!(terminal::screen(), "\r\x1b[K")?;
        }
        let times = format!(
            "{:>9}{:>10}",
            seconds(now.since(self.began)),
            milliseconds(now.since(before))
        );
        let times = self.painted(DIM, &times);
        match outcome {
            Ok((result, detail)) => {
                self.passed = self.passed.saturating_add(1);
                let tick = self.painted(GREEN, "✓");
                let detail = if detail.is_empty() {
                    detail
                } else {
                    self.painted(DIM, &format!(": {detail}"))
                };
                self.line(&format!("{times}  {tick} {what}{detail}"))?;
                Ok(result)
            }
            Err(fault) => {
                self.failed = self.failed.saturating_add(1);
                let cross = self.painted(RED, "✗");
                self.line(&format!("{times}  {cross} {what}: {fault:#}"))?;
                Err(StepError::StepFailed)
            }
        }
    }

    /// Colours a text, if standard output is a terminal.
    pub fn painted(&self, colour: &str, text: &str) -> String {
        if self.is_terminal {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

fn seconds(time: Duration) -> String {
    format!("{}.{:03} s", time.as_secs(), time.subsec_millis())
}

/// `12 ms`, or `<1 ms`.
pub fn milliseconds(time: Duration) -> String {
    match time.as_millis() {
        0 => "<1 ms".to_owned(),
        ms => format!("{ms} ms"),
    }
}

/// Checks that a value is as expected.
///
/// # Errors
/// It is not; the message has both values.
pub fn same<T: PartialEq + std::fmt::Debug>(
    what: &str,
    expected: &T,
    found: &T,
) -> anyhow::Result<()> {
    anyhow::ensure!(
        expected == found,
        "{what}: expected {expected:?}, found {found:?}"
    );
    Ok(())
}
