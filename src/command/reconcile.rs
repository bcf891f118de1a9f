//! `paymux reconcile`: compares an institution's statement of a day with the books (M7), repairs what
//! the institution confirms, and lists every difference with what happened to it.

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

/// What `paymux reconcile` takes.
#[derive(Debug, clap::Args)]
pub struct ReconcileArgs {
    /// The configuration of the gateway
    #[arg(long, default_value = config::FILE)]
    pub config: PathBuf,
    /// Whose statement: the institution's id in the configuration
    #[arg(long)]
    pub institution: String,
    /// The day in Asia/Shanghai, yyyy-MM-dd
    #[arg(long, value_parser = day)]
    pub date: String,
    /// The statement as a file (docs/statements.md), of all receivers; without it the institution is
    /// asked, one receiver after the other
    #[arg(long)]
    pub statement: Option<PathBuf>,
    /// One JSON object a line, for machines
    #[arg(long)]
    pub json: bool,
}

/// A day that there is.
fn day(text: &str) -> Result<String, String> {
    match SettlementDay::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(malformed) => Err(malformed.to_string()),
    }
}

/// Exits with 0 if nothing differs, with 3 if differences remain, with 1 if the statement was refused
/// or it could not be ended, with 4 if no institution has that id. A running gateway does it itself; without one the store is opened here.
///
/// # Errors
/// Neither a gateway nor its store can be reached, or the output cannot be written.
pub fn run(args: &ReconcileArgs) -> anyhow::Result<ExitCode> {
    let statement = args.statement.as_ref().map(|path| {
        let whole = std::path::absolute(path);
        whole.with_context(|| format!("{}", path.display()))
    });
    let question = ReconcileRequest {
        institution: args.institution.clone(),
        date: args.date.clone(),
        statement: statement.transpose()?,
    };
    let mut heard = ReconcileOutput::new(args.json);
    let socket = control::socket(&config::store_url(&args.config)?);
    match ask(&socket, &question, |told| heard.hear(&told)) {
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
            runtime.block_on(alone(config, &question, &operator(), |told| {
                heard.hear(&told);
            }))?;
        }
        Err(error) => anyhow::bail!(
            "expected an answer of the gateway at {}, found {error}; ask as the user that it runs \
             as, see its log, and repeat: nothing is done twice",
            socket.display()
        ),
    }
    heard.end()
}

/// Who asks, as the audit log has it.
fn operator() -> String {
    match std::fs::metadata("/proc/self") {
        Ok(of) => format!("operator:uid={}", of.uid()),
        Err(_) => "operator".to_owned(),
    }
}

/// The lines of an answer, printed as they come.
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

    fn hear(&mut self, told: &ReconcileMessage) {
        match told {
            ReconcileMessage::Progress { .. } | ReconcileMessage::Difference { .. } => (),
            ReconcileMessage::Reconciled { remaining: 0, .. } => self.exit = Some(0),
            ReconcileMessage::Reconciled { .. } => self.exit = Some(FINDINGS),
            ReconcileMessage::Refused { .. } if told.is_institution_unknown() => {
                self.exit = Some(UNKNOWN);
            }
            ReconcileMessage::Refused { .. } | ReconcileMessage::Failed { .. } => {
                self.exit = Some(1);
            }
        }
        // Work that has begun is ended, whoever stopped reading.
        if self.printed.is_ok() {
            self.printed = self.print(told, &mut terminal::stdout(), &mut terminal::stderr());
        }
    }

    /// What came of it goes to the first; how far it is, and why it was not done, to the second. That
    /// nobody reads the second loses nothing of the first.
    fn print(
        &mut self,
        told: &ReconcileMessage,
        out: &mut dyn Write,
        error: &mut dyn Write,
    ) -> io::Result<()> {
        if let Some(why) = why_not(told) {
            let _ = writeln!(error, "{why}");
        }
        if self.is_json {
            let line = serde_json::to_string(told).map_err(io::Error::other)?;
            return writeln!(out, "{line}");
        }
        match told {
            ReconcileMessage::Progress {
                lines,
                asked,
                to_ask,
            } => {
                let _ = match to_ask {
                    0 => writeln!(error, "{lines} lines compared"),
                    _ => writeln!(error, "{asked} of {to_ask} asked about"),
                };
                Ok(())
            }
            ReconcileMessage::Difference {
                kind,
                movement,
                number,
                expected,
                found,
                fate,
            } => {
                if !std::mem::replace(&mut self.has_header, true) {
                    writeln!(
                        out,
                        "{}",
                        row(["what", "of", "number", "became", "ours | theirs"])
                    )?;
                }
                let both = format!("{expected} | {found}");
                writeln!(out, "{}", row([kind, movement, number, fate, &both]))
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
                "{institution} {date}: {statement}; {ours} movements of ours; {repaired} repaired, \
                 {remaining} remaining; breaks: {raised} new, {resolved} resolved"
            ),
            ReconcileMessage::Refused { .. } | ReconcileMessage::Failed { .. } => Ok(()),
        }
    }

    fn end(self) -> anyhow::Result<ExitCode> {
        self.printed?;
        let exit = self.exit.context(
            "expected a result, found the end of the answer: the gateway stopped, or is of another \
             release; repeat it, nothing is done twice",
        )?;
        Ok(ExitCode::from(exit))
    }
}

/// Why it was not done, if it was not.
fn why_not(told: &ReconcileMessage) -> Option<String> {
    match told {
        ReconcileMessage::Refused { reason, detail } => {
            Some(format!("refused, nothing was touched: {reason}: {detail}"))
        }
        ReconcileMessage::Failed { why } => Some(format!(
            "not ended: {why}; repeat it when that is put right, nothing is done twice"
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

    /// A reader that has gone.
    struct ClosedPipe;

    impl Write for ClosedPipe {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(ErrorKind::BrokenPipe.into())
        }
    }

    /// M7: whoever closes standard error loses how far it is, and neither the differences nor the exit
    /// status; why it was not done is no result.
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
            fate: "break".to_owned(),
        };
        let refused = ReconcileMessage::Refused {
            reason: "cut_off".to_owned(),
            detail: "no last line".to_owned(),
        };
        let (mut heard, mut out) = (ReconcileOutput::new(false), Vec::new());
        for told in [&progress, &difference, &progress] {
            heard.print(told, &mut out, &mut ClosedPipe).unwrap();
        }
        assert!(String::from_utf8(out).unwrap().contains("P1"));
        let (mut out, mut error) = (Vec::new(), Vec::new());
        heard.print(&refused, &mut out, &mut error).unwrap();
        assert!(out.is_empty());
        assert!(String::from_utf8(error).unwrap().contains("cut_off"));
        assert!(
            heard
                .print(&difference, &mut ClosedPipe, &mut Vec::new())
                .is_err()
        );
    }
}
