//! An institution of the `unionpay` dialect in `routes.toml`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use paymux::crypto::pem;
use serde_json::Value;

use super::*;

const VECTORS: &str = include_str!("../../../src/institution/unionpay/tests/vectors.json");

/// Where the tables are added.
const CONTRACTS: &str = "# Contracts between a merchant and an institution.\n";

const TABLES: &str = r#"[[institution]]
id = "unionpay"
kind = "unionpay"
url = "https://gateway.95516.com"
name = "银联"
name_en = "UnionPay"
state = "admitted"
evidence = "licence"
since = 2026-01-01
modes = ["WEBVIEW", "NATIVE"]
capabilities = [
    "password_pay", "password_free_pay", "full_refund", "partial_refund", "repeated_refund",
    "bind_card", "reset_password", "queries", "scan_pay",
]

[[account]]
id = "up-shop"
institution = "unionpay"
mer_id = "777290058110048"
sign_method = "01"
environment = "production"
key = "file:certs/up-shop.key"
certificate = "certs/up-shop.pem"
middle = "certs/up-middle.pem"
root = "certs/up-root.pem"

[[contract]]
merchant = "M1001"
institution = "unionpay"
account = "up-shop"
products = ["WAP", "WEB", "QR"]
modes = ["WEBVIEW"]
transaction_types = ["PASSWORD_PAY"]
amount_min = "0.01"
amount_max = "50000.00"

[[route]]
institution = "unionpay"
order = 3

"#;

fn vector(name: &str) -> String {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    vectors[name].as_str().unwrap().to_owned()
}

fn private(name: &str) -> String {
    pem::write(pem::PRIVATE_KEY, &STANDARD.decode(vector(name)).unwrap())
}

/// The committed file with an institution of this dialect, and its keys.
fn site(from: &str, to: &str) -> ConfigFolder {
    assert!(TABLES.contains(from), "{from}");
    let tables = TABLES.replacen(from, to, 1);
    let site = ConfigFolder::fresh();
    site.replace(&[(CONTRACTS, &format!("{tables}{CONTRACTS}"))]);
    write_key(&site, &private("merchant_key"));
    for (file, name) in [
        ("certs/up-shop.pem", "merchant_certificate"),
        ("certs/up-middle.pem", "middle_certificate"),
        ("certs/up-root.pem", "root_certificate"),
    ] {
        fs::write(site.path(file), vector(name)).unwrap();
    }
    site
}

fn write_key(site: &ConfigFolder, text: &str) {
    fs::write(site.path("certs/up-shop.key"), text).unwrap();
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(site.path("certs/up-shop.key"), mode).unwrap();
}

/// F1: an account of this dialect is read with its key and certificates.
#[test]
fn an_account_at_unionpay_is_read() {
    let config = site("", "").read();
    let config = config.map_err(|faults| faults.to_string()).unwrap();
    let id = InstitutionId::parse("unionpay").unwrap();
    let routing = &config.snapshot.routing;
    let account = routing.accounts_at(&id).next().unwrap();
    assert_eq!(account.receiver.as_str(), "777290058110048");
    assert!(account.credentials.are_usable(now()));
    assert!(config.snapshot.adapters.contains_key(&id));
    let warned: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warned, Vec::<String>::new());
}

/// F1, F3: a setting of another form, or a key that is not the certificate's, is a fault; a file that
/// cannot be read concerns its account alone.
#[test]
fn an_account_at_unionpay_has_its_own_faults() {
    for (from, to, expected) in [
        ("mer_id = ", "merid = ", "unknown name \"merid\""),
        (
            "\"777290058110048\"",
            "\"77729005811004\"",
            "mer_id: expected 15 digits",
        ),
        ("\"01\"", "\"12\"", "expected one of 01, 21"),
        (
            "\"production\"",
            "\"prod\"",
            "expected one of production, test",
        ),
        ("\"QR\"]\nmodes", "\"H5\"]\nmodes", "\"H5\""),
        (
            "mer_id = ",
            "access_type = \"2\"\nmer_id = ",
            "access_type: expected it only of a provider's account",
        ),
        (
            "certs/up-middle.pem",
            "certs/up-root.pem",
            "middle: expected a certificate issued under root",
        ),
    ] {
        let faults = site(from, to).faults();
        let is_reported = faults.iter().any(|fault| fault.contains(expected));
        assert!(is_reported, "{expected}: {faults:#?}");
    }
    let other = site("", "");
    write_key(&other, &private("unionpay_key"));
    let faults = other.faults();
    let expected = "key: expected the key of certificate";
    assert!(
        faults.iter().any(|fault| fault.contains(expected)),
        "{faults:#?}"
    );
    for file in ["key", "pem"] {
        let site = site("", "");
        fs::remove_file(site.path(&format!("certs/up-shop.{file}"))).unwrap();
        let config = site.read();
        let config = config.map_err(|faults| faults.to_string()).unwrap();
        let id = InstitutionId::parse("unionpay").unwrap();
        let account = config.snapshot.routing.accounts_at(&id).next().unwrap();
        assert!(!account.credentials.are_usable(now()), "{file}");
        let others = config.snapshot.routing.accounts.values();
        let usable = others.filter(|one| one.credentials.are_usable(now()));
        assert!(usable.count() >= 2);
    }
}
