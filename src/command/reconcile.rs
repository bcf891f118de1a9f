//! `paymux reconcile`: compares an institution's daily statement with the ledger (M7), repairs what
//! the institution confirms, and lists every difference with its outcome.

use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use crate::command::{FINDINGS, UNKNOWN};
use crate::config;
use crate::domain::statement::SettlementDay;
use crate::run::control;
use crate::run::reconcile::{ReconcileMessage, ReconcileRequest, alone, ask};
use crate::terminal::{self, on_one_line};
use crate::world::{Clock, SystemClock};

/// Arguments of `paymux reconcile`.
#[derive(Debug, clap::Args)]
pub struct ReconcileArgs {
    /// The configuration file
    #[arg(long, default_value = config::FILE)]
    pub config: PathBuf,
    /// The institution's id in the configuration
    #[arg(long)]
    pub institution: String,
    /// The day in Asia/Shanghai, yyyy-MM-dd
    #[arg(long, value_parser = day)]
    pub date: String,
    /// The statement as a file (docs/statements.md), of all receivers; without it, it is requested
    /// from the institution, one receiver at a time
    #[arg(long)]
    pub statement: Option<PathBuf>,
    /// Print one JSON object per line
    #[arg(long)]
    pub json: bool,
}

/// Accepts a valid calendar day.
fn day(text: &str) -> Result<String, String> {
    match SettlementDay::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(malformed) => Err(malformed.to_string()),
    }
}

/// Exits with 0 if no differences remain, with 3 if some do, with 1 if the statement was refused or
/// reconciliation failed, with 4 if no institution has that id. A running gateway reconciles;
/// without one, this process opens the store and does it.
///
/// # Errors
/// Neither a gateway nor its store can be reached, or the output cannot be written.
pub fn run(args: &ReconcileArgs) -> anyhow::Result<ExitCode> {
    let statement = args.statement.as_ref().map(|path| {
        let absolute = std::path::absolute(path);
        absolute.with_context(|| format!("{}", path.display()))
    });
    let request = ReconcileRequest {
        institution: args.institution.clone(),
        date: args.date.clone(),
        statement: statement.transpose()?,
    };
    let mut output = ReconcileOutput::new(args.json);
    let socket = control::socket(&config::store_url(&args.config)?);
    match ask(&socket, &request, |message| output.receive(&message)) {
        Ok(()) => (),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::ConnectionRefused
            ) =>
        {
            let now = SystemClock::start().now();
            let config = config::read(&args.config, now, &config::environment)?;
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()?;
            runtime.block_on(alone(config, &request, &caller(), |message| {
                output.receive(&message);
            }))?;
        }
        Err(error) => anyhow::bail!(
            "expected an answer from the gateway at {}, found {error}; run this command as the \
             gateway's user, see the gateway's log, and repeat: reconciliation is idempotent",
            socket.display()
        ),
    }
    output.end()
}

/// The actor, as recorded in the audit log.
fn caller() -> String {
    match std::fs::metadata("/proc/self") {
        Ok(of) => format!("local:uid={}", of.uid()),
        Err(_) => "local".to_owned(),
    }
}

/// Prints the messages of an answer as they arrive.
struct ReconcileOutput {
    is_json: bool,
    has_header: bool,
    exit: Option<u8>,
    printed: io::Result<()>,
}

impl ReconcileOutput {
    fn new(is_json: bool) -> Self {
        Self {
            is_json,
            has_header: false,
            exit: None,
            printed: Ok(()),
        }
    }

    fn receive(&mut self, message: &ReconcileMessage) {
        match message {
            ReconcileMessage::Progress { .. } | ReconcileMessage::Difference { .. } => (),
            ReconcileMessage::Reconciled { remaining: 0, .. } => self.exit = Some(0),
            ReconcileMessage::Reconciled { .. } => self.exit = Some(FINDINGS),
            ReconcileMessage::Refused { .. } if message.is_institution_unknown() => {
                self.exit = Some(UNKNOWN);
            }
            ReconcileMessage::Refused { .. } | ReconcileMessage::Failed { .. } => {
                self.exit = Some(1);
            }
        }
        // Reconciliation continues even if nobody reads the output any more.
        if self.printed.is_ok() {
            self.printed = self.print(message, &mut terminal::stdout(), &mut terminal::stderr());
        }
    }

    /// Results go to `out`; progress and failures to `error`. Failing to write to `error` does not
    /// affect `out`.
    fn print(
        &mut self,
        message: &ReconcileMessage,
        out: &mut dyn Write,
        error: &mut dyn Write,
    ) -> io::Result<()> {
        if let Some(why) = failure(message) {
            let _ = writeln!(error, "{why}");
        }
        if self.is_json {
            let line = serde_json::to_string(message).map_err(io::Error::other)?;
            return writeln!(out, "{line}");
        }
        match message {
            ReconcileMessage::Progress {
                lines,
                asked,
                to_ask,
            } => {
                let _ = match to_ask {
                    0 => writeln!(error, "{lines} lines compared"),
                    _ => writeln!(error, "{asked} of {to_ask} queried at the institution"),
                };
                Ok(())
            }
            ReconcileMessage::Difference {
                kind,
                movement,
                number,
                expected,
                found,
                outcome,
            } => {
                if !std::mem::replace(&mut self.has_header, true) {
                    writeln!(
                        out,
                        "{}",
                        row(["difference", "type", "number", "outcome", "ours | theirs"])
                    )?;
                }
                let both = format!("{expected} | {found}");
                writeln!(out, "{}", row([kind, movement, number, outcome, &both]))
            }
            ReconcileMessage::Reconciled {
                institution,
                date,
                statement,
                ours,
                repaired,
                remaining,
                raised,
                resolved,
                ..
            } => writeln!(
                out,
                "{institution} {date}: {statement}; {ours} movements in our ledger; {repaired} \
                 repaired, {remaining} remaining; breaks: {raised} new, {resolved} resolved"
            ),
            ReconcileMessage::Refused { .. } | ReconcileMessage::Failed { .. } => Ok(()),
        }
    }

    fn end(self) -> anyhow::Result<ExitCode> {
        self.printed?;
        let exit = self.exit.context(
            "expected a result, found the end of the answer: the gateway stopped, or is another \
             release; repeat the command: reconciliation is idempotent",
        )?;
        Ok(ExitCode::from(exit))
    }
}

/// Why reconciliation was refused or failed, if it was.
fn failure(message: &ReconcileMessage) -> Option<String> {
    match message {
        ReconcileMessage::Refused { reason, detail } => Some(format!(
            "refused, the ledger is unchanged: {reason}: {detail}"
        )),
        ReconcileMessage::Failed { why } => Some(format!(
            "not completed: {why}; fix this and repeat the command: reconciliation is idempotent"
        )),
        ReconcileMessage::Progress { .. }
        | ReconcileMessage::Difference { .. }
        | ReconcileMessage::Reconciled { .. } => None,
    }
}

fn row([what, of, number, became, both]: [&str; 5]) -> String {
    let row = format!("{what:<20} {of:<8} {number:<28} {became:<9} {both}");
    on_one_line(&row).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pipe whose reader is gone.
    struct ClosedPipe;

    impl Write for ClosedPipe {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(ErrorKind::BrokenPipe.into())
        }
    }

    /// M7: closing standard error loses progress only, neither differences nor the exit status; a
    /// failure is not printed as a result.
    #[test]
    fn a_closed_standard_error_loses_no_result() {
        let progress = ReconcileMessage::Progress {
            lines: 50_000,
            asked: 0,
            to_ask: 0,
        };
        let difference = ReconcileMessage::Difference {
            kind: "MISSING".to_owned(),
            movement: "PAYMENT".to_owned(),
            number: "P1".to_owned(),
            expected: "nothing".to_owned(),
            found: "12.30".to_owned(),
            outcome: "break".to_owned(),
        };
        let refused = ReconcileMessage::Refused {
            reason: "cut_off".to_owned(),
            detail: "no last line".to_owned(),
        };
        let (mut output, mut out) = (ReconcileOutput::new(false), Vec::new());
        for message in [&progress, &difference, &progress] {
            output.print(message, &mut out, &mut ClosedPipe).unwrap();
        }
        assert!(String::from_utf8(out).unwrap().contains("P1"));
        let (mut out, mut error) = (Vec::new(), Vec::new());
        output.print(&refused, &mut out, &mut error).unwrap();
        assert!(out.is_empty());
        assert!(String::from_utf8(error).unwrap().contains("cut_off"));
        assert!(
            output
                .print(&difference, &mut ClosedPipe, &mut Vec::new())
                .is_err()
        );
    }
}
