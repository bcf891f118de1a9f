//! The gateway of one run: its keys, a `routes.toml` that enrols one merchant and three
//! institutions, and `paymux serve` on the measured core with them.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use paymux::domain::identifiers::hex;
use paymux::seal::Seal;
use paymux::signature::SigningKey;

use crate::setup::SetupOptions;
use crate::setup::certificates::Certificates;
use crate::setup::cpu::MeasuredProcess;
use crate::setup::institution::BenchInstitution;
use crate::setup::notification_endpoint::NotificationEndpoint;
use crate::setup::requests::{BenchMerchant, INSTITUTIONS, MERCHANT, MERCHANT_NAME};
use crate::setup::signer::{BenchSigner, SignerAlgorithm, platform_rsa};

/// Constant, so that a store made by one run can be opened by later ones.
const SEAL_KEY: [u8; 32] = [0x77; 32];
const DIGEST_KEY: [u8; 32] = [0x99; 32];
const SEAL_KEY_ID: &str = "seal-1";

const DAYS: &str = "not_before = 2026-01-01\nnot_after = 2035-12-31";

/// The enrolled merchant and institutions.
pub(crate) struct BenchEnrolment {
    pub(crate) merchant: BenchMerchant,
    pub(crate) shop: Arc<NotificationEndpoint>,
    /// Where closed orders are notified, if anywhere: another origin of the same merchant.
    pub(crate) second_shop: Option<Arc<NotificationEndpoint>>,
    /// The institution that payers are redirected to.
    pub(crate) institution: Arc<BenchInstitution>,
    pub(crate) routes: PathBuf,
}

/// Creates keys, starts the merchant's endpoint and the institutions on this core, and writes the
/// `routes.toml` that enrols them.
pub(crate) fn write(
    dir: &Path,
    options: &SetupOptions,
    [port, operations]: [u16; 2],
    certificates: &Certificates,
) -> Result<BenchEnrolment> {
    let signer = BenchSigner::make(dir, "merchant-1", options.algorithm)?;
    if options.answers == SignerAlgorithm::RsaPss {
        secret(dir, "platform-1.key", &platform_rsa()?)?;
    } else {
        key(dir, "platform-1")?;
    }
    secret(dir, "digest.key", &hex(&DIGEST_KEY))?;
    secret(dir, "seal.key", &hex(&SEAL_KEY))?;
    let server = fs::read_to_string(dir.join("server.key"))?;
    secret(dir, "server-own.key", &server)?;
    let shop = NotificationEndpoint::serve(Arc::clone(&certificates.server))?;
    let second_shop = if options.notify_closed {
        Some(NotificationEndpoint::serve(Arc::clone(
            &certificates.server,
        ))?)
    } else {
        None
    };
    let mut routes = gateway(options, [port, operations]);
    let notice_url = notice_url(&shop, second_shop.as_deref());
    routes.push_str(&merchant(&signer, &notice_url, &certificates.caller_digest));
    let mut institutions = Vec::new();
    for (order, id) in INSTITUTIONS.into_iter().enumerate() {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let origin = format!("https://localhost:{}", listener.local_addr()?.port());
        routes.push_str(&enrolled(id, order + 1, &origin)?);
        key(dir, &format!("paymux-{id}"))?;
        let institution = Arc::new(BenchInstitution {
            id,
            key: key(dir, &format!("{id}-1"))?,
            origin,
            gateway: port,
            answers_open: AtomicBool::new(false),
            callbacks: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            paid: Mutex::default(),
        });
        institution.serve(listener, Arc::clone(&certificates.server))?;
        institutions.push(institution);
    }
    let path = dir.join("routes.toml");
    fs::write(&path, routes)?;
    Ok(BenchEnrolment {
        merchant: BenchMerchant {
            key: signer,
            port,
            notices: format!("{}/notices", shop.origin),
            given: AtomicU64::new(0),
        },
        shop,
        second_shop,
        institution: institutions.swap_remove(0),
        routes: path,
    })
}

/// The seal keys of every benchmark gateway.
pub(crate) fn seal() -> Result<Seal> {
    let keys = std::iter::once((SEAL_KEY_ID.to_owned(), SEAL_KEY)).collect();
    Ok(Seal::new(SEAL_KEY_ID, keys, DIGEST_KEY)?)
}

/// `paymux serve` on the measured core.
pub(crate) fn serve(routes: &Path) -> Result<MeasuredProcess> {
    let mut serve = Command::new(env!("CARGO_BIN_EXE_paymux"));
    serve.arg("serve").arg("--config").arg(routes);
    serve.env("RUST_LOG", "error");
    MeasuredProcess::start(&serve).context("paymux serve")
}

/// A key pair as `NAME.key` and `NAME.pub`; its id is its name.
fn key(dir: &Path, name: &str) -> Result<SigningKey> {
    let (private, public) = SigningKey::generate_ed25519()?;
    secret(dir, &format!("{name}.key"), &private)?;
    fs::write(dir.join(format!("{name}.pub")), public)?;
    Ok(SigningKey::from_pkcs8_pem(name, &private)?)
}

/// Writes a file that only its owner may read.
pub(crate) fn secret(dir: &Path, name: &str, content: &str) -> Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(dir.join(name))?;
    Ok(file.write_all(content.as_bytes())?)
}

/// The default configuration, with its limits.
const DELIVERED: &str = include_str!("../../../routes.toml");
/// Limits raised so that they do not affect the measurement.
const LIFTED: [(&str, u32); 7] = [
    ("requests_per_second_per_caller", 1_000_000),
    ("requests_per_second_per_merchant", 1_000_000),
    ("requests_per_connection_max", 1_000_000_000),
    ("idle_ms", 600_000),
    // Each is an open file, and the usual hard limit is not much higher.
    ("connections_max", 10_000),
    ("connections_per_address_max", 10_000),
    ("removal_guard_days", REFUND_WINDOW_DAYS),
];
/// Stores of several runs are reused: what was paid in one may be refunded in a later one.
const REFUND_WINDOW_DAYS: u32 = 1_830;
/// Limits raised to disable load shedding.
const SHEDDING: [(&str, u32); 9] = [
    ("in_flight_max", 100_000),
    ("in_flight_choices_max", 100_000),
    ("in_flight_orders_max", 100_000),
    ("delay_ms", 10_000),
    ("start_ms", 10_000),
    // A point ends when all polling is done: three times the default share shortens it.
    ("background_cpu_percent", 30),
    ("permits_waiting_in_all_max", 50_000),
    ("permits_waiting_max", 25_000),
    ("permits_waiting_per_merchant_max", 25_000),
];

/// A line for each limit.
fn lifted(limits: &[(&str, u32)]) -> String {
    let known = |name: &str| {
        let mut lines = DELIVERED.lines();
        lines.any(|line| {
            line.split_once(" = ")
                .is_some_and(|(key, _)| key.trim() == name)
        })
    };
    let lines = limits.iter().filter(|(name, _)| known(name));
    lines.fold(String::new(), |lines, (name, number)| {
        format!("{lines}{name} = {number}\n")
    })
}

/// The gateway's tables. Rate limits are raised: work is measured, not waiting.
fn gateway(options: &SetupOptions, [port, operations]: [u16; 2]) -> String {
    let mut limits = lifted(&LIFTED);
    if !options.rejections {
        limits += &lifted(&SHEDDING);
    }
    format!(
        r#"[listen]
public = "127.0.0.1:{port}"
operations = "127.0.0.1:{operations}"
public_origin = "https://localhost:{port}"
certificate = "server.pem"
key = "file:server-own.key"
drain_s = 1

[store]
url = "sqlite:paymux.sqlite"
seal_key = "{SEAL_KEY_ID}"
digest_key = "file:digest.key"

[[store.seal_keys]]
id = "{SEAL_KEY_ID}"
key = "file:seal.key"

[limits]
{limits}
[[platform.keys]]
id = "platform-1"
key = "file:platform-1.key"
{DAYS}

[outbound]
merchant_roots = "ca.pem"
allowed_private_networks = ["127.0.0.0/8", "::1/128"]
"#
    )
}

/// The merchant's notification URLs: results at the address in its orders, closed orders at the
/// second origin.
fn notice_url(shop: &NotificationEndpoint, second: Option<&NotificationEndpoint>) -> String {
    let origin = &shop.origin;
    match second {
        Some(NotificationEndpoint { origin: other, .. }) => format!(
            "notify_origins = [\"{origin}\", \"{other}\"]\nnotice_url = \"{other}/notices\""
        ),
        None => format!("notify_origins = [\"{origin}\"]"),
    }
}

fn merchant(signer: &BenchSigner, notice_url: &str, caller_digest: &str) -> String {
    let (id, algorithm) = (&signer.id, signer.algorithm.name());
    let key = if signer.algorithm == SignerAlgorithm::Hmac {
        format!("secret = \"file:{id}.secret\"")
    } else {
        format!("file = \"{id}.pub\"")
    };
    format!(
        r#"
[[merchant]]
id = "{MERCHANT}"
name = "{MERCHANT_NAME}"
state = "admitted"
evidence = "a benchmark"
since = 2026-01-01
mtls = "required"
certificates = ["{caller_digest}"]
{notice_url}

[[merchant.keys]]
id = "{id}"
algorithm = "{algorithm}"
{key}
{DAYS}
"#
    )
}

fn enrolled(id: &str, order: usize, origin: &str) -> Result<String> {
    let at_once = lifted(&[("calls_at_once", 2_000)]);
    let mut text = String::new();
    write!(
        text,
        r#"
[[institution]]
id = "{id}"
kind = "standard"
url = "{origin}"
name = "机构 {id}"
name_en = "Institution {id}"
state = "admitted"
evidence = "a benchmark"
since = 2026-01-01
modes = ["WEBVIEW", "NATIVE"]
capabilities = [
    "password_pay", "full_refund", "partial_refund", "repeated_refund", "bind_card",
    "reset_password",
]
roots = "ca.pem"
calls_per_second = 100_000
refund_window_days = {REFUND_WINDOW_DAYS}
{at_once}
[[account]]
id = "shop"
institution = "{id}"
merchant_id = "account-{id}"
key_id = "paymux-{id}"
key = "file:paymux-{id}.key"
key_not_before = 2026-01-01
key_not_after = 2035-12-31

[[account.keys]]
id = "{id}-1"
algorithm = "ed25519"
file = "{id}-1.pub"
{DAYS}

[[contract]]
merchant = "{MERCHANT}"
institution = "{id}"
account = "shop"
modes = ["WEBVIEW", "NATIVE"]
transaction_types = ["PASSWORD_PAY"]
amount_min = "0.01"
amount_max = "50000.00"

[[route]]
institution = "{id}"
order = {order}
"#
    )?;
    Ok(text)
}
