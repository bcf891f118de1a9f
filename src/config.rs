//! `routes.toml` and the environment: read, validated and used as a whole (F1). A file with a fault is not
//! used at all, and one reading finds every fault.
//!
//! The only file that reads the environment. Secrets are named here, never written.

mod capabilities;
mod conditions;
pub mod difference;
mod enrolment;
mod expiry;
mod faults;
mod gateway;
mod institutions;
mod keys;
mod limits;
mod merchants;
mod named;
mod outline;
mod reading;
mod section;

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;

pub use crate::config::expiry::{Expiry, KeyClass};
pub use crate::config::faults::{
    ConfigFault, ConfigFaults, PartyKind, UnusableCredential, UnusableCredentialCounts,
};
pub use crate::config::gateway::store::CONTROL;
pub use crate::config::limits::{CONNECTIONS_MAX, GatewayLimits};
pub use crate::config::named::{CertificateRole, NamedFile, validity_s};
pub use crate::config::outline::ConfigurationOutline;

use crate::config::enrolment::Enrolment;
use crate::config::reading::ConfigReader;
use crate::config::section::Section;
use crate::crypto::digest::sha256;
use crate::domain::identifiers::{InstitutionId, Timestamp, hex};
use crate::domain::institutions::{HealthSettings, InstitutionEndpoint, RoutingTable};
use crate::domain::merchant::Admission;
use crate::files;
use crate::flow::configuration_snapshot::{ConfigurationSnapshot, PlatformIdentity};

use crate::seal::Seal;
use crate::signature::KeyRing;
use crate::world::AllowedNetwork;

/// The default configuration file.
pub const FILE: &str = "routes.toml";

/// The validated configuration of a gateway, read at start and at each reload.
pub struct Config {
    /// The file; a reload reads it again.
    pub file: PathBuf,
    /// `[listen]`.
    pub listen: Listen,
    /// `[store]`.
    pub store: StoreSettings,
    /// `[limits]`.
    pub limits: GatewayLimits,
    /// `[health]`.
    pub health: HealthSettings,
    /// `[outbound]`, and the connections to institutions.
    pub outbound: OutboundConfig,
    /// Merchants, institutions, accounts, contracts, routes, keys and adapters.
    pub snapshot: ConfigurationSnapshot,
    /// Every signing key, for display.
    pub keys: Vec<KeySummary>,
    /// The review state of each merchant and institution (R-4-3).
    pub admission_reviews: Vec<AdmissionReview>,
    /// Warnings: worth knowing, not faults.
    pub warnings: Vec<ConfigFault>,
    /// Keys and certificates of single parties that cannot be used. Only those parties are affected.
    pub unusable: Vec<UnusableCredential>,
    /// Their number, for any later time.
    pub unusable_counts: UnusableCredentialCounts,
    /// SHA-256 of the file, in hexadecimal digits.
    pub digest: String,
    /// When the keys and certificates of each party expire.
    pub expiries: Vec<Expiry>,
    /// The same as text without secrets, for comparison with another.
    pub outline: ConfigurationOutline,
}

/// Where we listen.
#[derive(Clone)]
pub struct Listen {
    /// Merchants, callbacks and payers.
    pub public: SocketAddr,
    /// Metrics, health and console; never the public one.
    pub operations: SocketAddr,
    /// Accepted host names of the operations listener, beside `localhost` and addresses.
    pub operations_hosts: Vec<String>,
    /// The certificate of the public listener; it fits its key and is in force.
    pub identity: Arc<CertifiedKey>,
    /// How long a stop waits for requests in flight.
    pub drain: Duration,
    /// The lines of the two addresses in the file.
    pub lines: [usize; 2],
}

/// How the store is opened.
pub struct StoreSettings {
    /// `sqlite:PATH`, relative to the working directory of the process.
    pub url: String,
    /// Seals stored personal fields (D2).
    pub seal: Arc<Seal>,
    /// Free disk space below which no new order is accepted. Unit: MiB.
    pub reserve_mb: u64,
    /// The lines of `url` and `digest_key` in the file.
    pub lines: [usize; 2],
}

/// Which authorities outgoing connections trust and which addresses they may reach.
pub struct OutboundConfig {
    /// Authorities for merchants' servers; the public ones if absent.
    pub merchant_roots: Option<Vec<CertificateDer<'static>>>,
    /// Private networks that merchants' addresses may be in.
    pub allowed_private_networks: Vec<AllowedNetwork>,
    /// The connection to each institution.
    pub institutions: HashMap<InstitutionId, InstitutionConnection>,
}

/// The connection to one institution.
#[derive(Clone)]
pub struct InstitutionConnection {
    /// The name of its dialect.
    pub kind: &'static str,
    /// `https://host[:port]`; nothing else is called.
    pub origin: String,
    /// Its previous address, declared to be the same institution.
    pub moved_from: Option<String>,
    /// Authorities for its server; the public ones if absent.
    pub roots: Option<Vec<CertificateDer<'static>>>,
    /// Our client certificate.
    pub identity: Option<Arc<CertifiedKey>>,
    /// Maximum number of concurrent calls.
    pub calls_at_once: u32,
}

impl InstitutionConnection {
    /// Its address and dialect.
    pub fn endpoint(&self) -> InstitutionEndpoint {
        InstitutionEndpoint {
            kind: self.kind.into(),
            url: self.origin.as_str().into(),
        }
    }
}

/// A signing key, for display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySummary {
    /// `keyid`.
    pub id: String,
    /// Its owner, for display.
    pub owner: String,
    /// What kind of owner that is.
    pub class: KeyClass,
    /// SHA-256 of the public key, in hexadecimal digits.
    pub mark: String,
    /// Its algorithm.
    pub algorithm: &'static str,
    /// First and last second of its validity, if limited. Unit: Unix seconds.
    pub validity_s: Option<(i64, i64)>,
}

/// The review state of a merchant or institution, with its evidence (R-4-3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdmissionReview {
    /// `merchantId` or the institution's id.
    pub who: String,
    /// The state.
    pub admission: Admission,
    /// Where its evidence is.
    pub evidence: String,
    /// Since when. Unit: Unix seconds.
    pub since_s: i64,
}

/// Reads a configuration.
///
/// `now` decides which keys and certificates are in force and becomes the version of the configuration
/// snapshot, which therefore grows with every reload and start (F2).
///
/// # Errors
/// Every fault of the file, of the files it names and of the environment. None quotes a secret.
pub fn read(
    path: &Path,
    now: Timestamp,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, ConfigFaults> {
    let text = content(path)?;
    let mut r = ConfigReader::new(path, &text, now, environment);
    let config = whole(&mut r, &text);
    r.faults.sort_by_key(|fault| fault.line);
    r.warnings.sort_by_key(|fault| fault.line);
    r.unusable.sort_by_key(|unusable| unusable.note.line);
    match config {
        Some(config) if r.faults.is_empty() => Ok(Config {
            file: path.to_owned(),
            warnings: r.warnings,
            unusable_counts: UnusableCredentialCounts::of(&r.unusable, r.dated),
            unusable: r.unusable,
            expiries: expiry::expiries(&config),
            outline: outline::completed(&config),
            ..config
        }),
        Some(_) | None => Err(ConfigFaults(r.faults)),
    }
}

/// Every file that a configuration names, existing or not, as far as the text can be read.
///
/// # Errors
/// The file itself cannot be read.
pub fn named_files(path: &Path, now: Timestamp) -> Result<Vec<NamedFile>, ConfigFaults> {
    let text = content(path)?;
    let mut r = ConfigReader::new(path, &text, now, &|_| None);
    let _ = whole(&mut r, &text);
    Ok(r.named)
}

/// The location of the store, as far as the text can be read: also of a file with faults, because commands
/// find the running gateway by it.
///
/// # Errors
/// The file itself cannot be read.
pub fn store_url(path: &Path) -> Result<String, ConfigFaults> {
    let text = content(path)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    Ok(gateway::store::url_of(
        folder,
        &reading::parse_leniently(&text),
    ))
}

/// The environment of this process.
#[expect(clippy::disallowed_methods, reason = "the only place that reads it")]
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Maximum size of a configuration. Unit: bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

fn content(path: &Path) -> Result<String, ConfigFaults> {
    let read = files::read(path, FILE_BYTES_MAX);
    let text = read.and_then(|bytes| String::from_utf8(bytes).map_err(io::Error::other));
    text.map_err(|fault| {
        ConfigFaults(vec![ConfigFault {
            file: path.display().to_string(),
            line: 0,
            subject: "the whole file".to_owned(),
            expected: "a readable text file".to_owned(),
            found: fault.to_string(),
            advice: "name it with --config".to_owned(),
        }])
    })
}

/// Reads every table, also after faults in earlier ones.
fn whole(r: &mut ConfigReader<'_>, text: &str) -> Option<Config> {
    let document = r.document()?;
    let mut top = Section::whole(&document);
    let mut enrolment = Enrolment::default();
    let table = top.required(r, "listen");
    let (listen, origin) = gateway::listen(r, table);
    let table = top.required(r, "store");
    let store = gateway::store::store(r, table);
    let table = top.table(r, "limits");
    let limits = limits::limits(r, table);
    let table = top.table(r, "health");
    let health = gateway::health(r, table);
    let table = top.table(r, "platform");
    let platform = gateway::platform(r, table, origin.clone(), &mut enrolment);
    let mut table = top.table(r, "outbound");
    let merchant_roots = table.authorities(r, "merchant_roots");
    let allowed_private_networks = gateway::networks(r, &mut table);
    table.end(r);
    r.about(Some(PartyKind::Merchant));
    for table in top.tables(r, "merchant") {
        enrolment.merchant(r, table);
    }
    r.about(Some(PartyKind::Institution));
    for table in top.tables(r, "institution") {
        enrolment.institution(r, table);
    }
    for table in top.tables(r, "account") {
        enrolment.account(r, table);
    }
    enrolment.build_adapters(r, origin.as_deref());
    let mut staff = BTreeMap::new();
    r.about(Some(PartyKind::Staff));
    for table in top.tables(r, "staff") {
        enrolment.staff(r, table, &mut staff);
    }
    r.about(None);
    for table in top.tables(r, "contract") {
        enrolment.contract(r, table);
    }
    for table in top.tables(r, "route") {
        enrolment.route(r, table);
    }
    enrolment.settle(r);
    top.end(r);
    let outbound = OutboundConfig {
        merchant_roots,
        allowed_private_networks,
        institutions: std::mem::take(&mut enrolment.connections),
    };
    Some(Config {
        listen: listen?,
        store: store?,
        limits,
        health,
        outbound,
        keys: key_summaries(&mut enrolment),
        admission_reviews: std::mem::take(&mut enrolment.admission_reviews),
        snapshot: snapshot(enrolment, platform?, r.now)?,
        file: PathBuf::new(),
        warnings: Vec::new(),
        unusable: Vec::new(),
        unusable_counts: UnusableCredentialCounts::default(),
        expiries: Vec::new(),
        outline: ConfigurationOutline::of(&document, r.folder()),
        digest: hex(&sha256(text.as_bytes())),
    })
}

fn key_summaries(enrolment: &mut Enrolment) -> Vec<KeySummary> {
    let notes = std::mem::take(&mut enrolment.notes).into_iter();
    notes.map(|note| note.summary).collect()
}

fn snapshot(
    enrolment: Enrolment,
    platform: PlatformIdentity,
    now: Timestamp,
) -> Option<ConfigurationSnapshot> {
    let staff = KeyRing::new(enrolment.staff_keys).ok()?;
    let snapshot = ConfigurationSnapshot::new(
        RoutingTable {
            version: u64::try_from(now.ms()).unwrap_or(0),
            merchants: enrolment.merchants,
            institutions: enrolment.institutions,
            accounts: enrolment.accounts,
            routes: enrolment.routes,
            contracts: enrolment.contracts,
        },
        // A duplicate id has been reported already.
        KeyRing::new(enrolment.merchant_keys).ok()?,
        enrolment.adapters,
        platform,
    );
    let snapshot = snapshot.with_sub_merchants(enrolment.sub_merchants);
    Some(snapshot.with_staff(staff))
}
