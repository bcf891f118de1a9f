//! Differences between two configurations as text, without secrets (`paymux check --diff`).

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use paymux::command::check::diff::{DiffTarget, diff};
use paymux::command::keys;
use paymux::domain::identifiers::Timestamp;
use paymux::signature::SigningKey;
use serde_json::Value;
use tempfile::TempDir;

const COMMITTED: &str = include_str!("../../../routes.toml");

fn now() -> Timestamp {
    Timestamp::from_s(1_800_000_000)
}

/// Two files in one directory, with the keys that both name.
struct ConfigPair(TempDir);

impl ConfigPair {
    fn new() -> Self {
        let pair = Self(TempDir::new().unwrap());
        pair.write("old.toml", COMMITTED);
        let certs = pair.path("certs");
        keys::dev(&mut Vec::new(), &pair.path("old.toml"), &certs, now()).unwrap();
        pair
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// The output for this text, and the exit status.
    fn said(&self, text: &str, as_json: bool) -> (String, ExitCode) {
        self.write("new.toml", text);
        let (old, mut out) = (self.path("old.toml"), Vec::new());
        let new = self.path("new.toml");
        let exit = diff(&mut out, &new, DiffTarget::File(&old), as_json, now()).unwrap();
        (String::from_utf8(out).unwrap(), exit)
    }
}

/// F1: additions, removals and changes are listed by table, with those that need a restart.
#[test]
fn every_difference_is_said_in_words() {
    let pair = ConfigPair::new();
    let text = COMMITTED
        .replace("mtls = \"optional\"", "mtls = \"required\"")
        .replace("amount_max = \"50000.00\"", "amount_max = \"60000.00\"")
        .replace("order = 2\n", "order = 3\n")
        .replace(
            "requests_per_second_per_merchant = 500",
            "requests_per_second_per_merchant = 9",
        )
        .replace("public = \"127.0.0.1:8443\"", "public = \"127.0.0.1:8444\"")
        .replace(
            "# payer_prefixes = [\"138\", \"139\"]",
            "payer_prefixes = [\"13812345678\"]",
        );
    let (said, exit) = pair.said(&text, false);
    assert_eq!(exit, ExitCode::SUCCESS);
    for line in [
        "merchant M1001: mtls: \"optional\" becomes \"required\"",
        "contract of M1001 with bluebank: amount_max: \"50000.00\" becomes \"60000.00\"",
        "route to redpay: order: 2 becomes 3",
        "route to redpay: payer_prefixes: set to 1 entries, ",
        "limits: requests_per_second_per_merchant: 500 becomes 9",
        "listen: public: \"127.0.0.1:8443\" becomes \"127.0.0.1:8444\" (needs a restart)",
        "1 of them need a restart: a reload of this file would be refused",
    ] {
        assert!(said.contains(line), "{line} is not in\n{said}");
    }
    assert!(
        !said.contains("13812345678"),
        "D1: a payer's number\n{said}"
    );
}

/// R-6.3.1-1c, D1: another key or certificate under the same name is detected by its digest and shown
/// with its expiry; no secret is shown; the same as JSON.
#[test]
fn other_keys_are_seen_and_not_shown() {
    let pair = ConfigPair::new();
    let (said, _) = pair.said(COMMITTED, false);
    assert!(said.starts_with("nothing would change"), "{said}");
    let (private, public) = SigningKey::generate_ed25519().unwrap();
    pair.write("certs/M1001-9.pub", &public);
    let seal = fs::read_to_string(pair.path("certs/seal-1.key")).unwrap();
    let text = COMMITTED.replace("certs/M1001-1.pub", "certs/M1001-9.pub");
    let (said, exit) = pair.said(&text, true);
    assert_eq!(exit, ExitCode::SUCCESS);
    let document: Value = serde_json::from_str(&said).unwrap();
    let changes = document["changes"].as_array().unwrap();
    let key = changes
        .iter()
        .find(|it| it["field"] == "public half")
        .unwrap();
    assert_eq!(key["subject"], "signing key M1001-1 of M1001");
    assert_ne!(key["before"], key["after"]);
    assert_eq!(document["needsRestart"], false);
    for secret in [private.lines().nth(1).unwrap(), seal.trim()] {
        assert!(!said.contains(secret));
    }
}

/// F1: a file with faults changes nothing, whatever else it contains.
#[test]
fn a_file_with_faults_would_change_nothing() {
    let pair = ConfigPair::new();
    let text = COMMITTED.replace("mtls = \"optional\"", "mtls = \"perhaps\"");
    let (said, exit) = pair.said(&text, false);
    assert_eq!(exit, ExitCode::from(3));
    assert!(
        said.contains("1 fault; nothing of this file would be used"),
        "{said}"
    );
    let (said, _) = pair.said(&text, true);
    let document: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(document["changes"], serde_json::json!([]));
    assert_eq!(document["faults"].as_array().unwrap().len(), 1);
}

/// F1, F3: a comparison reports what `paymux check` reports, in its exit status and as JSON.
#[test]
fn a_diff_finds_what_check_finds() {
    let pair = ConfigPair::new();
    fs::write(pair.path("certs/redpay-1.pub"), "rubbish").unwrap();
    let (said, exit) = pair.said(COMMITTED, false);
    assert_eq!(exit, ExitCode::from(3), "{said}");
    assert!(said.contains("cannot be used: "), "{said}");
    let (said, exit) = pair.said(COMMITTED, true);
    assert_eq!(exit, ExitCode::from(3), "{said}");
    let document: Value = serde_json::from_str(&said).unwrap();
    let unusable = document["unusable"].as_array().unwrap();
    assert_eq!(unusable.len(), 1, "{said}");
    assert!(
        unusable[0].as_str().unwrap().contains("a public key"),
        "{said}"
    );
    assert_eq!(document["faults"], serde_json::json!([]));
}
