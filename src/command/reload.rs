//! `paymux reload`: has the running gateway read its configuration again, and says what came of it.

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::command::FINDINGS;
use crate::config;
use crate::run::control::{self, ControlReply};
use crate::terminal;

/// What `paymux reload` takes.
#[derive(Debug, clap::Args)]
pub struct ReloadArgs {
    /// The configuration of the gateway: its store says which of several is meant. The gateway
    /// reads the file that it was started on
    #[arg(long, default_value = config::FILE)]
    pub config: PathBuf,
}

/// Exits with 0 if another configuration is in force, with 3 if the file has
/// faults and nothing was changed.
///
/// # Errors
/// No gateway answers, or the output cannot be written.
pub fn run(args: &ReloadArgs) -> anyhow::Result<ExitCode> {
    let reply = ask(&args.config, control::RELOAD)?;
    print_reply(&mut terminal::stdout(), &args.config, reply)
}

/// Asks the gateway whose store this configuration names.
///
/// # Errors
/// The file cannot be read, or no gateway answers.
pub(super) fn ask(config: &Path, word: &str) -> anyhow::Result<ControlReply> {
    ask_gateway(config, |socket| control::ask(socket, word))
}

/// The same, for whatever is asked.
///
/// # Errors
/// The file cannot be read, or no gateway answers.
pub(super) fn ask_gateway<A>(
    config: &Path,
    ask: impl FnOnce(&Path) -> io::Result<A>,
) -> anyhow::Result<A> {
    let url = config::store_url(config)?;
    let socket = control::socket(&url);
    ask(&socket).map_err(|error| {
        let socket = socket.display();
        let is_none = matches!(
            error.kind(),
            ErrorKind::NotFound | ErrorKind::ConnectionRefused
        );
        if is_none {
            anyhow::anyhow!(
                "expected a running gateway at {socket}, found none ({error}); start it with \
                 paymux serve, or name the configuration that it was started on: if [store] url \
                 was changed meanwhile, the gateway is still at the old one and needs a restart"
            )
        } else {
            anyhow::anyhow!(
                "expected an answer of the gateway at {socket}, found {error}; ask as the user \
                 that it runs as, and see its log"
            )
        }
    })
}

fn print_reply(
    out: &mut dyn Write,
    config: &Path,
    reply: ControlReply,
) -> anyhow::Result<ExitCode> {
    match reply {
        ControlReply::Accepted {
            file,
            version,
            digest,
            is_same_text,
            changes,
            warnings,
        } => {
            print_file_read(out, config, &file)?;
            for warning in warnings {
                writeln!(out, "warning: {warning}")?;
            }
            for change in &changes {
                writeln!(out, "{change}")?;
            }
            if changes.is_empty() {
                let what = if is_same_text {
                    "nothing changed"
                } else {
                    "nothing but the text is another"
                };
                writeln!(out, "{what}")?;
            }
            writeln!(out, "in force: version {version}, SHA-256 {digest}")?;
            Ok(ExitCode::SUCCESS)
        }
        ControlReply::Refused { file, faults } => {
            print_file_read(out, config, &file)?;
            for fault in &faults {
                writeln!(out, "{fault}")?;
            }
            let count = faults.len();
            let noun = if count == 1 { "fault" } else { "faults" };
            writeln!(out, "{count} {noun}; nothing was changed")?;
            Ok(ExitCode::from(FINDINGS))
        }
        ControlReply::Shown { .. }
        | ControlReply::Dead { .. }
        | ControlReply::Resent { .. }
        | ControlReply::Failed { .. }
        | ControlReply::Unknown { .. } => {
            anyhow::bail!("the gateway is of another release and does not know this word")
        }
    }
}

/// Which file was read, where that may be another than the one that was named.
fn print_file_read(out: &mut dyn Write, named: &Path, read: &str) -> anyhow::Result<()> {
    let same = match (named.canonicalize(), Path::new(read).canonicalize()) {
        (Ok(named), Ok(read)) => named == read,
        (Ok(_) | Err(_), _) => false,
    };
    if !same {
        writeln!(out, "the gateway was started on {read} and read that")?;
    }
    Ok(())
}
