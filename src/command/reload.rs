//! `paymux reload`: makes the running gateway reload its configuration, and prints the result.

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::command::FINDINGS;
use crate::config;
use crate::run::control::{self, ControlReply};
use crate::terminal;

/// Arguments of `paymux reload`.
#[derive(Debug, clap::Args)]
pub struct ReloadArgs {
    /// The configuration file; its store selects the running gateway. The gateway itself reloads
    /// the file that it was started with
    #[arg(long, default_value = config::FILE)]
    pub config: PathBuf,
}

/// Exits with 0 if the configuration was accepted, with 3 if the file has faults and nothing was
/// changed.
///
/// # Errors
/// No gateway responds, or the output cannot be written.
pub fn run(args: &ReloadArgs) -> anyhow::Result<ExitCode> {
    let reply = ask(&args.config, control::RELOAD)?;
    print_reply(&mut terminal::stdout(), &args.config, reply)
}

/// Sends a command to the gateway whose store this configuration names.
///
/// # Errors
/// The file cannot be read, or no gateway responds.
pub(super) fn ask(config: &Path, word: &str) -> anyhow::Result<ControlReply> {
    ask_gateway(config, |socket| control::ask(socket, word))
}

/// Sends any request to that gateway's control socket.
///
/// # Errors
/// The file cannot be read, or no gateway responds.
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
                 paymux serve, or pass the configuration it was started with: if [store] url has \
                 been changed since, the gateway still uses the old one and needs a restart"
            )
        } else {
            anyhow::anyhow!(
                "expected an answer from the gateway at {socket}, found {error}; run this command \
                 as the gateway's user, and see the gateway's log"
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
                    "only comments or formatting changed"
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
            anyhow::bail!("the running gateway is another release and lacks this command")
        }
    }
}

/// Says which file was read, unless it is the named one.
fn print_file_read(out: &mut dyn Write, named: &Path, read: &str) -> anyhow::Result<()> {
    let same = match (named.canonicalize(), Path::new(read).canonicalize()) {
        (Ok(named), Ok(read)) => named == read,
        (Ok(_) | Err(_), _) => false,
    };
    if !same {
        writeln!(
            out,
            "the gateway was started with {read}, and reloaded that file"
        )?;
    }
    Ok(())
}
