//! An institution of the `alipay` dialect in `routes.toml`.

use paymux::crypto::pem;
use serde_json::Value;

use super::*;

const KEYS: &str = include_str!("../../../src/crypto/tests/vectors/institutions_rsa.json");
const CERTIFICATES: &str = include_str!("../../../src/crypto/tests/vectors/certificates.json");

/// Where the tables are added.
const CONTRACTS: &str = "# Contracts between a merchant and an institution.\n";

const TABLES: &str = r#"[[institution]]
id = "alipay"
kind = "alipay"
url = "https://openapi.alipay.com"
name = "支付宝"
name_en = "Alipay"
state = "admitted"
evidence = "licence"
since = 2026-01-01
modes = ["WEBVIEW", "NATIVE"]
capabilities = [
    "password_pay", "password_free_pay", "full_refund", "partial_refund", "repeated_refund",
    "bind_card", "reset_password", "queries", "scan_pay",
]

[[account]]
id = "ali-shop"
institution = "alipay"
app_id = "2021000123456789"
seller_id = "2088123412341234"
key = "file:certs/ali-shop.key"
alipay_public_key = "certs/alipay.pub"

[[contract]]
merchant = "M1001"
institution = "alipay"
account = "ali-shop"
products = ["WAP", "PAGE", "APP"]
modes = ["WEBVIEW"]
transaction_types = ["PASSWORD_PAY"]
amount_min = "0.01"
amount_max = "50000.00"

[[route]]
institution = "alipay"
order = 3

"#;

const PUBLIC_KEY: &str = "alipay_public_key = \"certs/alipay.pub\"\n";

const CERTIFICATE_MODE: &str = "app_certificate = \"certs/app.crt\"\n\
     alipay_certificate = \"certs/alipay.crt\"\nalipay_root = \"certs/root.crt\"\n";

/// The committed file with an institution of this dialect, its keys and certificates.
fn site(from: &str, to: &str) -> ConfigFolder {
    let keys: Value = serde_json::from_str(KEYS).unwrap();
    let certificates: Value = serde_json::from_str(CERTIFICATES).unwrap();
    let key = |whose: &str, form: &str| keys["keys"][whose][form].as_str().unwrap().to_owned();
    assert!(TABLES.contains(from), "{from}");
    let tables = TABLES.replacen(from, to, 1);
    let site = ConfigFolder::fresh();
    site.replace(&[(CONTRACTS, &format!("{tables}{CONTRACTS}"))]);
    // As the institution's tool writes it: bare Base64.
    let own = site.path("certs/ali-shop.key");
    fs::write(&own, key("Alipay, ours", "pkcs8")).unwrap();
    fs::set_permissions(&own, fs::Permissions::from_mode(0o600)).unwrap();
    let public = pem::read_bare(&key("Alipay, theirs", "spki")).unwrap();
    let public = pem::write(pem::PUBLIC_KEY, &public);
    fs::write(site.path("certs/alipay.pub"), public).unwrap();
    let certificate = |name: &str| certificates["alipay"][name].as_str().unwrap().to_owned();
    let alipay = certificate("alipay") + &certificate("intermediate");
    for (file, text) in [
        ("certs/app.crt", certificate("app")),
        ("certs/alipay.crt", alipay),
        ("certs/root.crt", certificate("roots")),
    ] {
        fs::write(site.path(file), text).unwrap();
    }
    site
}

/// F1: an account of this dialect is read with its key, in key mode and in certificate mode.
#[test]
fn an_account_at_alipay_is_read() {
    for (from, to) in [("", ""), (PUBLIC_KEY, CERTIFICATE_MODE)] {
        let config = site(from, to).read();
        let config = config.map_err(|faults| faults.to_string()).unwrap();
        let id = InstitutionId::parse("alipay").unwrap();
        let routing = &config.snapshot.routing;
        let account = routing.accounts_at(&id).next().unwrap();
        assert_eq!(account.receiver.as_str(), "2088123412341234");
        assert_eq!(account.apps.len(), 1);
        assert!(account.credentials.are_usable(now()));
        assert!(config.snapshot.adapters.contains_key(&id));
        let warned: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warned, Vec::<String>::new());
    }
}

/// F1: what does not fit together is a fault; what cannot be read concerns its account alone (F3).
#[test]
fn an_account_at_alipay_has_its_own_faults() {
    for (from, to, expected) in [
        ("app_id = ", "appid = ", "unknown name \"appid\""),
        ("\"WAP\"", "\"H5\"", "\"H5\""),
        (
            PUBLIC_KEY,
            &format!("{PUBLIC_KEY}{CERTIFICATE_MODE}"),
            "alipay_public_key: expected either it or the three certificates",
        ),
        (
            PUBLIC_KEY,
            &CERTIFICATE_MODE.replace("app.crt", "alipay.crt"),
            "app_certificate: expected the certificate of the key in key",
        ),
        (
            PUBLIC_KEY,
            &CERTIFICATE_MODE.replace("root.crt", "app.crt"),
            "alipay_certificate: expected a certificate issued under alipay_root",
        ),
    ] {
        let faults = site(from, to).faults();
        let is_reported = faults.iter().any(|fault| fault.contains(expected));
        assert!(is_reported, "{expected}: {faults:#?}");
    }
    let site = site("", "");
    fs::remove_file(site.path("certs/alipay.pub")).unwrap();
    let config = site.read();
    let config = config.map_err(|faults| faults.to_string()).unwrap();
    let id = InstitutionId::parse("alipay").unwrap();
    let account = config.snapshot.routing.accounts_at(&id).next().unwrap();
    assert!(!account.credentials.are_usable(now()));
}
