//! What the demonstration says: one line for each step, as it happens, with the time since the start
//! and the time it took. Colours only on a terminal.

use std::io::{self, Write};
use std::time::Duration;

use crate::domain::identifiers::Timestamp;
use crate::terminal;
use crate::world::{Clock, SystemClock};

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";

/// Why an act ended early.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A step did not hold; it was printed.
    #[error("a step did not hold")]
    StepFailed,
    /// Nobody reads any more.
    #[error(transparent)]
    Output(#[from] io::Error),
}

/// Tells the steps.
pub struct StepPrinter {
    clock: SystemClock,
    began: Timestamp,
    is_terminal: bool,
    /// Steps that held.
    pub passed: u32,
    /// Steps that did not.
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

    /// A headline.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn head(&self, text: &str) -> io::Result<()> {
        self.line(&format!("\n{}", self.painted(BOLD, text)))
    }

    /// A plain line.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn line(&self, text: &str) -> io::Result<()> {
        writeln!(terminal::screen(), "{text}")
    }

    /// How long it has been going on.
    pub fn elapsed(&self) -> Duration {
        self.clock.now().since(self.began)
    }

    /// Does one step and prints what became of it: what it brings and what to say about it.
    ///
    /// # Errors
    /// It did not hold, which is printed, with what was expected and found.
    pub async fn step<R>(
        &mut self,
        what: &str,
        doing: impl Future<Output = anyhow::Result<(R, String)>>,
    ) -> Result<R, StepError> {
        if self.is_terminal {
            let mut out = terminal::screen();
            write!(out, "{:21}… {what}", "")?;
            out.flush()?;
        }
        let before = self.clock.now();
        let done = doing.await;
        let now = self.clock.now();
        if self.is_terminal {
            // To the beginning of the line, and away with it.
            write!(terminal::screen(), "\r\x1b[K")?;
        }
        let times = format!(
            "{:>9}{:>10}",
            seconds(now.since(self.began)),
            milliseconds(now.since(before))
        );
        let times = self.painted(DIM, &times);
        match done {
            Ok((brought, said)) => {
                self.passed = self.passed.saturating_add(1);
                let tick = self.painted(GREEN, "✓");
                let said = if said.is_empty() {
                    said
                } else {
                    self.painted(DIM, &format!(": {said}"))
                };
                self.line(&format!("{times}  {tick} {what}{said}"))?;
                Ok(brought)
            }
            Err(fault) => {
                self.failed = self.failed.saturating_add(1);
                let cross = self.painted(RED, "✗");
                self.line(&format!("{times}  {cross} {what}: {fault:#}"))?;
                Err(StepError::StepFailed)
            }
        }
    }

    /// Text in a colour, where there are colours.
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

/// `12 ms`; below one, that.
pub fn milliseconds(time: Duration) -> String {
    match time.as_millis() {
        0 => "<1 ms".to_owned(),
        ms => format!("{ms} ms"),
    }
}

/// A claim that was looked at.
///
/// # Errors
/// It does not hold: what was expected, and what was found.
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
