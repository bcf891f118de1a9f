//! `paymux check --diff`: what a reload of this file would change, as text or JSON.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use crate::command::FINDINGS;
use crate::command::reload::ask;
use crate::config::difference::{ConfigDifference, differences};
use crate::config::{self, Config, ConfigFaults, ConfigurationOutline};
use crate::domain::identifiers::Timestamp;
use crate::run::control::{self, ControlReply, DependentCounts};

/// What to compare the file with.
#[derive(Debug, Clone, Copy)]
pub enum DiffTarget<'a> {
    /// The configuration in force in the running gateway.
    Running,
    /// Another file.
    File(&'a Path),
}

struct DiffBase {
    name: String,
    outline: ConfigurationOutline,
    dependents: BTreeMap<String, DependentCounts>,
    accounts: BTreeMap<String, DependentCounts>,
}

/// Prints what would change; exits with 3 if the file has faults, or names unusable keys or
/// certificates.
///
/// # Errors
/// No gateway responds, the other file has faults, or the output cannot be written.
pub fn diff(
    out: &mut dyn Write,
    path: &Path,
    with: DiffTarget<'_>,
    as_json: bool,
    now: Timestamp,
) -> anyhow::Result<ExitCode> {
    let before = before(path, with, now)?;
    let read = config::read(path, now, &config::environment);
    let changes = match &read {
        Ok(next) => differences(&before.outline, &next.outline),
        Err(_) => Vec::new(),
    };
    if as_json {
        writeln!(out, "{}", document(path, &before, &read, &changes))?;
    } else {
        words(out, &before, &read, &changes)?;
    }
    Ok(match read {
        Ok(next) if next.unusable.is_empty() => ExitCode::SUCCESS,
        Ok(_) | Err(_) => ExitCode::from(FINDINGS),
    })
}

fn before(path: &Path, with: DiffTarget<'_>, now: Timestamp) -> anyhow::Result<DiffBase> {
    match with {
        DiffTarget::File(other) => {
            let config = config::read(other, now, &config::environment)?;
            Ok(DiffBase {
                name: other.display().to_string(),
                outline: config.outline,
                dependents: BTreeMap::new(),
                accounts: BTreeMap::new(),
            })
        }
        DiffTarget::Running => match ask(path, control::SHOW)? {
            ControlReply::Shown {
                file,
                version,
                outline,
                held,
                held_accounts,
                ..
            } => Ok(DiffBase {
                name: format!("the running gateway (version {version} of {file})"),
                outline,
                dependents: held,
                accounts: held_accounts,
            }),
            ControlReply::Accepted { .. }
            | ControlReply::Refused { .. }
            | ControlReply::Dead { .. }
            | ControlReply::Resent { .. }
            | ControlReply::Failed { .. }
            | ControlReply::Unknown { .. } => {
                anyhow::bail!("the running gateway is another release and lacks this command")
            }
        },
    }
}

fn words(
    out: &mut dyn Write,
    before: &DiffBase,
    read: &Result<Config, ConfigFaults>,
    changes: &[ConfigDifference],
) -> anyhow::Result<()> {
    let next = match read {
        Ok(next) => next,
        Err(faults) => {
            writeln!(out, "{faults}")?;
            let count = faults.0.len();
            let noun = if count == 1 { "fault" } else { "faults" };
            writeln!(out, "{count} {noun}; nothing of this file would be used")?;
            return Ok(());
        }
    };
    for warning in &next.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    for unusable in &next.unusable {
        writeln!(out, "cannot be used: {}", unusable.note)?;
    }
    for change in changes {
        write!(out, "{change}")?;
        match needs(before, change) {
            Some(DependentCounts { unfinished, ended }) => writeln!(
                out,
                "; {unfinished} unfinished and {ended} recently ended payments depend on it, so a \
                 reload would be refused; keep it with stopped = true"
            )?,
            None => writeln!(out)?,
        }
    }
    if changes.is_empty() {
        writeln!(out, "nothing would change, compared with {}", before.name)?;
        return Ok(());
    }
    let count = changes.len();
    let restart = changes.iter().filter(|it| it.needs_restart).count();
    writeln!(out, "\n{count} changes, compared with {}", before.name)?;
    if restart > 0 {
        writeln!(
            out,
            "{restart} of them need a restart: a reload of this file would be refused"
        )?;
    }
    Ok(())
}

/// What needs an institution or an account that is taken out.
fn needs(before: &DiffBase, change: &ConfigDifference) -> Option<DependentCounts> {
    let is_gone = change.field.is_none() && change.after.is_none();
    let needed = match change.subject.split_once(' ')? {
        ("institution", id) => before.dependents.get(id),
        ("account", id) => before.accounts.get(id),
        _ => None,
    };
    needed.copied().filter(|_| is_gone)
}

fn document(
    path: &Path,
    before: &DiffBase,
    read: &Result<Config, ConfigFaults>,
    changes: &[ConfigDifference],
) -> serde_json::Value {
    let (faults, warnings, unusable) = match read {
        Ok(next) => (&[][..], &next.warnings[..], &next.unusable[..]),
        Err(faults) => (&faults.0[..], &[][..], &[][..]),
    };
    let unusable = unusable.iter().map(|unusable| unusable.note.to_string());
    let texts = |faults: &[config::ConfigFault]| -> Vec<String> {
        faults.iter().map(ToString::to_string).collect()
    };
    json!({
        "file": path.display().to_string(),
        "against": before.name,
        "faults": texts(faults),
        "warnings": texts(warnings),
        "unusable": unusable.collect::<Vec<_>>(),
        "needsRestart": changes.iter().any(|change| change.needs_restart),
        "changes": changes,
        "held": before.dependents,
        "heldAccounts": before.accounts,
    })
}
