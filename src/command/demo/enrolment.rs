//! The merchants and institutions of the demonstration, and the complete `routes.toml` that enrols
//! them; its keys are created by `paymux keys dev`.

use std::fmt::Write as _;
use std::path::Path;

use crate::command::demo::ports::Ports;

/// The merchant of most orders.
pub const TEA: DemoMerchantProfile = DemoMerchantProfile {
    id: "M1001",
    name: "Tea House",
};

/// A second merchant, which must not see the first one's orders.
pub const BOOKS: DemoMerchantProfile = DemoMerchantProfile {
    id: "M2002",
    name: "Book Shop",
};

/// A merchant, as enrolled.
#[derive(Debug, Clone, Copy)]
pub struct DemoMerchantProfile {
    /// `merchantId`.
    pub id: &'static str,
    /// `merchantName`.
    pub name: &'static str,
}

/// An institution, as enrolled and simulated.
#[derive(Debug, Clone, Copy)]
pub struct DemoInstitutionProfile {
    /// Its id in the gateway's configuration.
    pub id: &'static str,
    /// The name that payers see.
    pub name: &'static str,
    /// The same in English.
    pub name_en: &'static str,
    /// Modes it offers, in TOML.
    modes: &'static str,
    /// Largest amount under its contracts, in yuan.
    pub most: &'static str,
    /// Prefixes of the mobile numbers it serves; all if empty.
    pub prefixes: &'static [&'static str],
    /// Prefixes of mobile numbers it does not serve; these take precedence.
    pub denied: &'static [&'static str],
    /// Whether closing a number it has not seen makes it refuse that number later (A5).
    pub remembers_close: bool,
    /// A short description for the output.
    pub trait_en: &'static str,
}

impl DemoInstitutionProfile {
    /// Whether each merchant has an account of its own there.
    fn has_account_each(self) -> bool {
        self.id == BLUE.id
    }
}

/// Our account as a service provider.
const PROVIDER: &str = "platform";

/// Has a page and an SDK.
pub const BLUE: DemoInstitutionProfile = DemoInstitutionProfile {
    id: "bluebank",
    name: "蓝色银行",
    name_en: "Blue Bank",
    modes: "\"WEBVIEW\", \"NATIVE\"",
    most: "50000.00",
    prefixes: &[],
    denied: &[],
    remembers_close: true,
    trait_en: "payment page and SDK",
};

/// Accepts small amounts only, and does not remember the close of a number it has not seen.
pub const RED: DemoInstitutionProfile = DemoInstitutionProfile {
    id: "redpay",
    name: "红色支付",
    name_en: "Red Pay",
    modes: "\"WEBVIEW\"",
    most: "2000.00",
    prefixes: &[],
    denied: &["170", "171"],
    remembers_close: false,
    trait_en: "payment page; not for mobile numbers 170 and 171",
};

/// Serves only some payers.
pub const GREEN: DemoInstitutionProfile = DemoInstitutionProfile {
    id: "greencard",
    name: "绿色卡",
    name_en: "Green Card",
    modes: "\"WEBVIEW\"",
    most: "20000.00",
    prefixes: &["138", "139"],
    denied: &[],
    remembers_close: false,
    trait_en: "payment page; only for mobile numbers 138 and 139",
};

/// All institutions, in the order of their ports and routes.
pub const INSTITUTIONS: [DemoInstitutionProfile; 3] = [BLUE, RED, GREEN];

/// The merchant's number at an institution, which receives its money.
pub fn receiver(merchant: DemoMerchantProfile, institution: DemoInstitutionProfile) -> String {
    format!("{}-{}", merchant.id, institution.id)
}

/// The complete configuration. `year` is the current one; every key is valid around it.
pub fn routes(folder: &Path, ports: &Ports, year: i64) -> String {
    let mut text = gateway(folder, ports, year);
    for (role, port) in [(TEA, ports.tea), (BOOKS, ports.books)] {
        text.push_str(&merchant(role, port, year));
    }
    for (order, (profile, port)) in (1..).zip(INSTITUTIONS.into_iter().zip(ports.institutions)) {
        text.push_str(&institution(profile, port, year));
        text.push_str(&accounts(profile, year));
        for role in [TEA, BOOKS] {
            text.push_str(&contract(role, profile));
        }
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "\n[[route]]\ninstitution = \"{}\"\norder = {order}\n",
            profile.id
        );
        if !profile.prefixes.is_empty() {
            let _ = writeln!(text, "payer_prefixes = {:?}", profile.prefixes);
        }
        if !profile.denied.is_empty() {
            let _ = writeln!(text, "payer_prefixes_denied = {:?}", profile.denied);
        }
    }
    text
}

fn validity(year: i64) -> String {
    let (from, until) = (year.saturating_sub(1), year.saturating_add(9));
    format!("not_before = {from}-01-01\nnot_after = {until}-12-31\n")
}

fn gateway(folder: &Path, ports: &Ports, year: i64) -> String {
    let Ports {
        public, operations, ..
    } = ports;
    let (folder, validity) = (folder.display(), validity(year));
    format!(
        r#"# Written by `paymux demo`; gone when it ends.
[listen]
public = "127.0.0.1:{public}"
operations = "127.0.0.1:{operations}"
public_origin = "https://localhost:{public}"
certificate = "certs/server.pem"
key = "file:certs/server.key"

[store]
url = "sqlite:{folder}/paymux.sqlite"
seal_key = "seal-1"
digest_key = "file:certs/digest.key"

[[store.seal_keys]]
id = "seal-1"
key = "file:certs/seal-1.key"

[[platform.keys]]
id = "platform-1"
key = "file:certs/platform-1.key"
{validity}
[outbound]
merchant_roots = "certs/ca.pem"
allowed_private_networks = ["127.0.0.0/8", "::1/128"]
"#
    )
}

fn merchant(DemoMerchantProfile { id, name }: DemoMerchantProfile, port: u16, year: i64) -> String {
    let (validity, first) = (validity(year), year.saturating_sub(1));
    format!(
        r#"
[[merchant]]
id = "{id}"
name = "{name}"
state = "admitted"
evidence = "a demonstration: nobody reviewed it"
since = {first}-01-01
mtls = "required"
certificates = ["certs/{id}.pem"]
notify_origins = ["https://localhost:{port}"]
notice_url = "https://localhost:{port}/notices"

[[merchant.keys]]
id = "{id}-1"
algorithm = "ed25519"
file = "certs/{id}-1.pub"
{validity}
[merchant.default_institution]
NATIVE = "bluebank"
"#
    )
}

fn institution(profile: DemoInstitutionProfile, port: u16, year: i64) -> String {
    let DemoInstitutionProfile {
        id,
        name,
        name_en,
        modes,
        ..
    } = profile;
    let first = year.saturating_sub(1);
    format!(
        r#"
[[institution]]
id = "{id}"
kind = "standard"
url = "https://localhost:{port}"
name = "{name}"
name_en = "{name_en}"
state = "admitted"
evidence = "a demonstration: played on this machine"
since = {first}-01-01
modes = [{modes}]
capabilities = [
    "password_pay", "full_refund", "partial_refund", "repeated_refund", "bind_card",
    "reset_password",
]
roots = "certs/ca.pem"
"#
    )
}

/// Our accounts there: at Blue Bank one of each merchant, with the same keys; elsewhere one as a service
/// provider, for both.
fn accounts(profile: DemoInstitutionProfile, year: i64) -> String {
    if profile.has_account_each() {
        let each = [TEA, BOOKS].map(|role| {
            let number = receiver(role, profile);
            account(profile, role.id, "direct", &number, year)
        });
        return each.concat();
    }
    account(profile, PROVIDER, "provider", "paymux", year)
}

fn account(
    profile: DemoInstitutionProfile,
    account: &str,
    role: &str,
    number: &str,
    year: i64,
) -> String {
    let id = profile.id;
    let (validity, first) = (validity(year), year.saturating_sub(1));
    let last = year.saturating_add(9);
    format!(
        r#"
[[account]]
id = "{account}"
institution = "{id}"
role = "{role}"
merchant_id = "{number}"
key_id = "paymux-{id}"
key = "file:certs/paymux-{id}.key"
key_not_before = {first}-01-01
key_not_after = {last}-12-31

[[account.keys]]
id = "{id}-1"
algorithm = "ed25519"
file = "certs/{id}-1.pub"
{validity}"#
    )
}

/// The two lines of a contract that say over which account its money comes, and who receives it.
pub fn contract_account(role: DemoMerchantProfile, profile: DemoInstitutionProfile) -> String {
    if profile.has_account_each() {
        return format!("account = \"{}\"\n", role.id);
    }
    let receiver = receiver(role, profile);
    format!("account = \"{PROVIDER}\"\nsub = {{ merchant_id = \"{receiver}\" }}\n")
}

fn contract(role: DemoMerchantProfile, profile: DemoInstitutionProfile) -> String {
    let DemoInstitutionProfile {
        id, modes, most, ..
    } = profile;
    let (merchant, account) = (role.id, contract_account(role, profile));
    format!(
        r#"
[[contract]]
merchant = "{merchant}"
institution = "{id}"
{account}modes = [{modes}]
transaction_types = ["PASSWORD_PAY"]
amount_min = "0.01"
amount_max = "{most}"
"#
    )
}
