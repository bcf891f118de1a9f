//! `paymux check`: validates the configuration and prints its faults, or a summary of what would be
//! served, or what would change. Starts nothing, changes nothing.

pub mod diff;
pub mod kinds;

use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::command::FINDINGS;
use crate::config::{self, Config, UnusableCredential};
use crate::domain::identifiers::Timestamp;
use crate::domain::institutions::{Contract, InstitutionProfile, Mode, RoutingTable};
use crate::domain::merchant::{Admission, Merchant};
use crate::run::machine::{self, ConnectionBudget};
use crate::terminal;
use crate::world::{Clock, SystemClock};

/// Arguments of `paymux check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// The configuration file
    #[arg(long, default_value = config::FILE)]
    pub config: PathBuf,
    /// Show what would change, compared with the running gateway or with the file OLD
    #[arg(long, value_name = "OLD", num_args = 0..=1)]
    pub diff: Option<Option<PathBuf>>,
    /// Print the differences as JSON
    #[arg(long, requires = "diff")]
    pub json: bool,
    /// What each kind of institution needs in `routes.toml`; reads no configuration
    #[arg(long, conflicts_with_all = ["diff", "json"])]
    pub kinds: bool,
}

/// Prints every fault, one per line, and exits with 3. Without faults, prints a summary and exits
/// with 0, or with 3 if keys or certificates of single parties are unusable.
///
/// # Errors
/// The output cannot be written.
pub fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let now = SystemClock::start().now();
    let mut out = terminal::stdout();
    if args.kinds {
        out.write_all(kinds::describe().as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let with = match &args.diff {
        None => return check(&mut out, &args.config, now),
        Some(None) => diff::DiffTarget::Running,
        Some(Some(other)) => diff::DiffTarget::File(other),
    };
    diff::diff(&mut out, &args.config, with, args.json, now)
}

/// Checks the configuration as of `now`.
///
/// # Errors
/// The output cannot be written.
pub fn check(out: &mut dyn Write, path: &Path, now: Timestamp) -> anyhow::Result<ExitCode> {
    match config::read(path, now, &config::environment) {
        Err(faults) => {
            writeln!(out, "{faults}")?;
            let count = faults.0.len();
            let noun = if count == 1 { "fault" } else { "faults" };
            writeln!(out, "{count} {noun}; nothing of this file would be used")?;
            Ok(ExitCode::from(FINDINGS))
        }
        Ok(config) => match machine::share_out(&config, machine::files_allowed()) {
            Err(faults) => {
                writeln!(out, "{faults}\n1 fault; a gateway would not start here")?;
                Ok(ExitCode::from(FINDINGS))
            }
            Ok(files) => {
                write!(out, "{}", summary(&config, &files, now))?;
                Ok(if config.unusable.is_empty() {
                    ExitCode::SUCCESS
                } else {
                    ExitCode::from(FINDINGS)
                })
            }
        },
    }
}

/// What would be served: addresses, the institutions of each merchant in each mode, and our accounts.
fn summary(config: &Config, files: &ConnectionBudget, now: Timestamp) -> String {
    let signing = config.snapshot.platform.signing.at(now.seconds());
    let mut text = String::new();
    for warning in &config.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    for UnusableCredential { party, note, .. } in &config.unusable {
        let _ = writeln!(text, "cannot be used, of one {}: {note}", party.word());
    }
    let routing = &config.snapshot.routing;
    let _ = write!(
        text,
        "public      {} as {}\nconnections {}\noperations  {}\nstore       {}\nsigning     {}\n\n",
        config.listen.public,
        config.snapshot.platform.origin,
        files.connections_max,
        config.listen.operations,
        config.store.url,
        signing.map_or("nothing", |key| key.id()),
    );
    let mut rows = vec![["merchant", "state", "mode", "institutions"].map(str::to_owned)];
    let mut merchants: Vec<&Merchant> = routing.merchants.values().collect();
    merchants.sort_by_key(|merchant| merchant.id.as_str());
    for merchant in merchants {
        let has_key = config
            .snapshot
            .keys
            .has_one_in_force(merchant.id.as_str(), now.seconds());
        for mode in Mode::OFFERED {
            rows.push([
                merchant.id.to_string(),
                state(merchant.admission).to_owned(),
                mode.name().to_owned(),
                match nothing(merchant, has_key) {
                    Some(why) => why.to_owned(),
                    None => served(routing, merchant, mode, now),
                },
            ]);
        }
    }
    text.push_str(&table(&rows));
    text.push('\n');
    text.push_str(&accounts(routing, now));
    let findings = match config.unusable.len() {
        0 => String::new(),
        count => format!(", {count} cannot be used: only their owners are affected"),
    };
    let _ = writeln!(text, "\nno fault{findings}; SHA-256 {}", config.digest);
    text
}

/// What we are at each institution, and whose payments go over it.
fn accounts(routing: &RoutingTable, now: Timestamp) -> String {
    let head = ["account", "institution", "role", "number", "merchants"];
    let mut rows = vec![head.map(str::to_owned)];
    let mut accounts: Vec<_> = routing.accounts.iter().collect();
    accounts.sort_by_key(|(key, _)| *key);
    for ((institution, id), account) in accounts {
        let contracts = routing.contracts.values();
        let over = contracts.filter(|it| it.institution == *institution && it.account == *id);
        let mut merchants: Vec<_> = over.map(|it| it.merchant.to_string()).collect();
        merchants.sort();
        let merchants = match &merchants[..] {
            _ if !account.credentials.are_usable(now) => "nothing new: no usable key".to_owned(),
            [] => "none".to_owned(),
            all => all.join(", "),
        };
        rows.push([
            id.to_string(),
            institution.to_string(),
            account.role.word().to_owned(),
            account.receiver.to_string(),
            merchants,
        ]);
    }
    table(&rows)
}

/// Why nothing is served to a merchant, whatever its contracts say.
fn nothing(merchant: &Merchant, has_key: bool) -> Option<&'static str> {
    match merchant.admission {
        _ if !has_key => Some("nothing: no key in force"),
        Admission::Admitted => None,
        Admission::Applied => Some("nothing: not admitted yet"),
        Admission::Suspended => Some("nothing new: suspended"),
    }
}

/// The institutions a merchant may use in a mode, in order, each with what makes it unavailable.
fn served(routing: &RoutingTable, merchant: &Merchant, mode: Mode, now: Timestamp) -> String {
    let mut routes: Vec<_> = routing.routes.iter().collect();
    routes.sort_by_key(|route| route.order);
    let mut words: Vec<String> = Vec::new();
    for route in routes {
        let key = (merchant.id.clone(), route.institution.clone());
        let contract = routing.contracts.get(&key);
        let Some(institution) = routing
            .institutions
            .get(&route.institution)
            .filter(|it| it.modes.contains(&mode))
            .filter(|_| contract.is_some_and(|contract| contract.modes.contains(&mode)))
        else {
            continue;
        };
        let is_stopped = route.stopped || contract.is_some_and(|contract| contract.stopped);
        let word = format!(
            "{}{}",
            institution.id,
            unavailable_reason(routing, institution, contract, is_stopped, now)
        );
        if !words.contains(&word) {
            words.push(word);
        }
    }
    if words.is_empty() {
        "none".to_owned()
    } else {
        words.join(", ")
    }
}

/// Why an institution is unavailable: stopped (itself, its contract or route), or no credentials.
fn unavailable_reason(
    routing: &RoutingTable,
    institution: &InstitutionProfile,
    contract: Option<&Contract>,
    is_stopped: bool,
    now: Timestamp,
) -> String {
    let is_account_usable =
        contract.is_none_or(|it| routing.is_account_usable(&institution.id, &it.account, now));
    let is_usable = institution.credentials.are_usable(now) && is_account_usable;
    match institution.admission {
        Admission::Admitted if !is_usable => " (no usable key or certificate)".to_owned(),
        Admission::Admitted if institution.stopped || is_stopped => " (stopped)".to_owned(),
        Admission::Admitted => String::new(),
        Admission::Applied | Admission::Suspended => format!(" ({})", state(institution.admission)),
    }
}

fn state(admission: Admission) -> &'static str {
    match admission {
        Admission::Applied => "applied",
        Admission::Admitted => "admitted",
        Admission::Suspended => "suspended",
    }
}

/// Formats rows as a table, each column as wide as its widest cell.
pub(super) fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let _ = write!(line, "{cell:width$}  ", width = *width);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
