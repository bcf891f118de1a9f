//! An institution of the `wechatpay` dialect in `routes.toml`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use paymux::crypto::pem;
use serde_json::Value;

use super::*;

const VECTORS: &str = include_str!("../../../src/institution/wechatpay/tests/vectors.json");

/// Where the tables are added.
const CONTRACTS: &str = "# Contracts between a merchant and an institution.\n";

const TABLES: &str = r#"[[institution]]
id = "wechat"
kind = "wechatpay"
url = "https://api.mch.weixin.qq.com"
second_url = "https://api2.mch.weixin.qq.com"
name = "微信支付"
name_en = "WeChat Pay"
state = "admitted"
evidence = "licence"
since = 2026-01-01
modes = ["WEBVIEW", "NATIVE"]
capabilities = [
    "password_pay", "password_free_pay", "full_refund", "partial_refund", "repeated_refund",
    "bind_card", "reset_password", "queries", "scan_pay",
]

[[account]]
id = "wx-shop"
institution = "wechat"
mchid = "1900009191"
apps = { jsapi = "wxd678efh567hg6787", default = "wxd678efh567hg6787" }
certificate_serial = "5157F09EFDC096DE15EBE81A47057A7232F1B8E1"
key = "file:certs/wx-shop.key"
certificate_not_before = 2026-01-01
certificate_not_after = 2031-01-01
apiv3_key = "file:certs/wx-shop.apiv3"
ask_for_key = "PUB_KEY_ID_0119000091912026010100389200000001"

[[account.keys]]
id = "PUB_KEY_ID_0119000091912026010100389200000001"
algorithm = "rsa-v1_5-sha256"
file = "certs/wx-platform.pem"
not_before = 2026-01-01
not_after = 2035-12-31

[[contract]]
merchant = "M1001"
institution = "wechat"
account = "wx-shop"
products = ["H5", "JSAPI", "NATIVE"]
modes = ["WEBVIEW"]
transaction_types = ["PASSWORD_PAY"]
amount_min = "0.01"
amount_max = "50000.00"

[[route]]
institution = "wechat"
order = 3

"#;

fn write_private(site: &ConfigFolder, name: &str, content: &str) {
    fs::write(site.path(name), content).unwrap();
    fs::set_permissions(site.path(name), fs::Permissions::from_mode(0o600)).unwrap();
}

/// The committed file with an institution of this dialect, and its keys.
fn site(from: &str, to: &str) -> ConfigFolder {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let text = |pointer: &str| vectors.pointer(pointer).unwrap().as_str().unwrap();
    let key = |label, pointer| pem::write(label, &STANDARD.decode(text(pointer)).unwrap());
    assert!(TABLES.contains(from), "{from}");
    let tables = TABLES.replacen(from, to, 1);
    let site = ConfigFolder::fresh();
    site.replace(&[(CONTRACTS, &format!("{tables}{CONTRACTS}"))]);
    let private = key(pem::PRIVATE_KEY, "/merchant_private");
    write_private(&site, "certs/wx-shop.key", &private);
    write_private(&site, "certs/wx-shop.apiv3", text("/constants/apiv3_key"));
    let public = key(pem::PUBLIC_KEY, "/platform_public");
    fs::write(site.path("certs/wx-platform.pem"), public).unwrap();
    site
}

/// F1: an account of this dialect is read with its keys, and signs as the dialect demands.
#[test]
fn an_account_at_wechat_pay_is_read() {
    let config = site("", "").read();
    let config = config.map_err(|faults| faults.to_string()).unwrap();
    let id = InstitutionId::parse("wechat").unwrap();
    let routing = &config.snapshot.routing;
    let account = routing.accounts_at(&id).next().unwrap();
    assert_eq!(account.receiver.as_str(), "1900009191");
    assert_eq!(account.apps.len(), 2);
    assert!(account.credentials.are_usable(now()));
    assert!(config.snapshot.adapters.contains_key(&id));
    let warned: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warned, Vec::<String>::new());
}

/// F1, F3: a setting of another form is a fault; a key or secret that cannot be used concerns its account
/// alone.
#[test]
fn an_account_at_wechat_pay_has_its_own_faults() {
    for (from, to, expected) in [
        ("mchid = ", "mch_id = ", "unknown name \"mch_id\""),
        ("\"NATIVE\"]\nmodes", "\"QR\"]\nmodes", "\"QR\""),
        (
            "\"wxd678efh567hg6787\"",
            "\"wx d678\"",
            "apps jsapi: expected an application's number",
        ),
    ] {
        let faults = site(from, to).faults();
        let is_reported = faults.iter().any(|fault| fault.contains(expected));
        assert!(is_reported, "{expected}: {faults:#?}");
    }
    for (name, content, usable) in [
        (
            "certs/wx-shop.apiv3",
            "Gw7Kx2mQ9vTz4Lp8Rb3Nc6Hd1Js5Fy0A\n",
            true,
        ),
        (
            "certs/wx-shop.apiv3",
            "Gw7Kx2mQ9vTz4Lp8Rb3Nc6Hd1Js5Fy0",
            false,
        ),
        ("certs/wx-shop.key", "-----BEGIN", false),
    ] {
        let site = site("", "");
        write_private(&site, name, content);
        let config = site.read();
        let config = config.map_err(|faults| faults.to_string()).unwrap();
        let id = InstitutionId::parse("wechat").unwrap();
        let account = config.snapshot.routing.accounts_at(&id).next().unwrap();
        assert_eq!(account.credentials.are_usable(now()), usable, "{name}");
        let others = config.snapshot.routing.accounts.values();
        let usable = others.filter(|one| one.credentials.are_usable(now()));
        assert!(usable.count() >= 2);
    }
    // A key of another algorithm cannot sign as this dialect demands.
    let site = site("", "");
    let (private, _) = SigningKey::generate_ed25519().unwrap();
    write_private(&site, "certs/wx-shop.key", &private);
    let config = site.read();
    let config = config.map_err(|faults| faults.to_string()).unwrap();
    let id = InstitutionId::parse("wechat").unwrap();
    let account = config.snapshot.routing.accounts_at(&id).next().unwrap();
    assert!(!account.credentials.are_usable(now()));
}
