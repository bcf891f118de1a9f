//! The gateway of one run: its keys, a `routes.toml` that enrols one merchant and three
//! institutions, and `paymux serve` on the measured core with them.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use paymux::signature::SigningKey;

use crate::certificates::Certificates;
use crate::cpu::Party;
use crate::institution::{self, Institution};
use crate::requests::{INSTITUTIONS, MERCHANT, MERCHANT_NAME, Merchant, RETURN_ORIGIN};

const DAYS: &str = "not_before = 2026-01-01\nnot_after = 2035-12-31";

/// Starts the institutions on this core and the gateway on the measured one.
pub(crate) fn start(
    dir: &Path,
    [port, operations]: [u16; 2],
    certificates: &Certificates,
) -> Result<(Party, Merchant)> {
    let merchant = key(dir, "merchant-1")?;
    key(dir, "platform-1")?;
    secret(dir, "digest.key", &"9".repeat(64))?;
    secret(dir, "seal.key", &"7".repeat(64))?;
    secret(
        dir,
        "server-own.key",
        &fs::read_to_string(dir.join("server.key"))?,
    )?;
    let mut routes = gateway(port, operations, &certificates.caller_digest);
    for (order, id) in INSTITUTIONS.iter().enumerate() {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let origin = format!("https://localhost:{}", listener.local_addr()?.port());
        routes.push_str(&enrolled(id, order + 1, &origin)?);
        key(dir, &format!("paymux-{id}"))?;
        let institution = Institution {
            key: key(dir, &format!("{id}-1"))?,
            origin,
        };
        institution::serve(listener, Arc::clone(&certificates.server), institution)?;
    }
    let path = dir.join("routes.toml");
    fs::write(&path, routes)?;
    let mut serve = Command::new(env!("CARGO_BIN_EXE_paymux"));
    serve.arg("serve").arg("--config").arg(&path);
    serve.env("RUST_LOG", "warn");
    let party = Party::start(&serve).context("paymux serve")?;
    Ok((
        party,
        Merchant {
            key: merchant,
            port,
        },
    ))
}

/// A key pair as `NAME.key` and `NAME.pub`, with its name for its id.
fn key(dir: &Path, name: &str) -> Result<SigningKey> {
    let (private, public) = SigningKey::generate_ed25519()?;
    secret(dir, &format!("{name}.key"), &private)?;
    fs::write(dir.join(format!("{name}.pub")), public)?;
    Ok(SigningKey::from_pkcs8_pem(name, &private)?)
}

fn secret(dir: &Path, name: &str, content: &str) -> Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(dir.join(name))?;
    Ok(file.write_all(content.as_bytes())?)
}

/// Everything but institutions. Rates are lifted: what is measured is work, not waiting.
fn gateway(port: u16, operations: u16, caller_digest: &str) -> String {
    format!(
        r#"[listen]
public = "127.0.0.1:{port}"
operations = "127.0.0.1:{operations}"
public_origin = "https://localhost:{port}"
certificate = "server.pem"
key = "file:server-own.key"

[store]
url = "sqlite:paymux.sqlite"
seal_key = "seal-1"
digest_key = "file:digest.key"

[[store.seal_keys]]
id = "seal-1"
key = "file:seal.key"

[limits]
requests_per_second_per_caller = 1_000_000
requests_per_second_per_merchant = 1_000_000

[[platform.keys]]
id = "platform-1"
key = "file:platform-1.key"
{DAYS}

[[merchant]]
id = "{MERCHANT}"
name = "{MERCHANT_NAME}"
state = "admitted"
evidence = "a benchmark"
since = 2026-01-01
mtls = "required"
certificates = ["{caller_digest}"]
notify_origins = ["{RETURN_ORIGIN}"]

[[merchant.keys]]
id = "merchant-1"
algorithm = "ed25519"
file = "merchant-1.pub"
{DAYS}
"#
    )
}

fn enrolled(id: &str, order: usize, origin: &str) -> Result<String> {
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
modes = ["WEBVIEW"]
capabilities = [
    "password_pay", "full_refund", "partial_refund", "repeated_refund", "bind_card",
    "reset_password",
]
key_id = "paymux-{id}"
key = "file:paymux-{id}.key"
roots = "ca.pem"
calls_per_second = 100_000

[[institution.keys]]
id = "{id}-1"
algorithm = "ed25519"
file = "{id}-1.pub"
{DAYS}

[[contract]]
merchant = "{MERCHANT}"
institution = "{id}"
account = "account-{id}"
modes = ["WEBVIEW"]
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
