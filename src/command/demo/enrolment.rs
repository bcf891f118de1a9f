//! Who takes part in the demonstration, and the `routes.toml` that enrols them: a real one, read by
//! the gateway's own reader and with its keys made by `paymux keys dev`.

use std::fmt::Write as _;
use std::path::Path;

use crate::command::demo::ports::Ports;

/// The merchant that most orders are for.
pub const TEA: DemoMerchantProfile = DemoMerchantProfile {
    id: "M1001",
    name: "Tea House",
};

/// A second one, which may see nothing of the first.
pub const BOOKS: DemoMerchantProfile = DemoMerchantProfile {
    id: "M2002",
    name: "Book Shop",
};

/// A merchant as it is enrolled.
#[derive(Debug, Clone, Copy)]
pub struct DemoMerchantProfile {
    /// `merchantId`.
    pub id: &'static str,
    /// `merchantName`.
    pub name: &'static str,
}

/// An institution as it is enrolled and played.
#[derive(Debug, Clone, Copy)]
pub struct DemoInstitutionProfile {
    /// As the gateway calls it.
    pub id: &'static str,
    /// What payers read.
    pub name: &'static str,
    /// The same in English.
    pub name_en: &'static str,
    /// Modes it offers, as TOML has them.
    modes: &'static str,
    /// Largest sum of its contracts, in yuan.
    pub most: &'static str,
    /// Payers it serves, by the first digits of their numbers; everybody where there are none.
    pub prefixes: &'static [&'static str],
    /// Payers it does not serve, whoever else it serves.
    pub denied: &'static [&'static str],
    /// Whether it remembers the close of a number it has not seen (A5).
    pub remembers_close: bool,
    /// What is worth knowing about it, in words.
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
    trait_en: "page and SDK",
};

/// Takes small sums only, and forgets what it closed before it saw it.
pub const RED: DemoInstitutionProfile = DemoInstitutionProfile {
    id: "redpay",
    name: "红色支付",
    name_en: "Red Pay",
    modes: "\"WEBVIEW\"",
    most: "2000.00",
    prefixes: &[],
    denied: &["170", "171"],
    remembers_close: false,
    trait_en: "page; no payers of 170 and 171; forgets closes",
};

/// Serves some payers only.
pub const GREEN: DemoInstitutionProfile = DemoInstitutionProfile {
    id: "greencard",
    name: "绿色卡",
    name_en: "Green Card",
    modes: "\"WEBVIEW\"",
    most: "20000.00",
    prefixes: &["138", "139"],
    denied: &[],
    remembers_close: false,
    trait_en: "page; payers of 138 and 139 only",
};

/// Every institution, in the order of their ports and places.
pub const INSTITUTIONS: [DemoInstitutionProfile; 3] = [BLUE, RED, GREEN];

/// The merchant's number at an institution, which receives its money.
pub fn receiver(merchant: DemoMerchantProfile, institution: DemoInstitutionProfile) -> String {
    format!("{}-{}", merchant.id, institution.id)
}

/// The whole configuration. `year` is the present one: every key is in force around it.
pub fn routes(folder: &Path, ports: &Ports, year: i64) -> String {
    let mut text = gateway(folder, ports, year);
    for (role, port) in [(TEA, ports.tea), (BOOKS, ports.books)] {
        text.push_str(&merchant(role, port, year));
    }
    for (order, (cast, port)) in (1..).zip(INSTITUTIONS.into_iter().zip(ports.institutions)) {
        text.push_str(&institution(cast, port, year));
        text.push_str(&accounts(cast, year));
        for role in [TEA, BOOKS] {
            text.push_str(&contract(role, cast));
        }
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "\n[[route]]\ninstitution = \"{}\"\norder = {order}\n",
            cast.id
        );
        if !cast.prefixes.is_empty() {
            let _ = writeln!(text, "payer_prefixes = {:?}", cast.prefixes);
        }
        if !cast.denied.is_empty() {
            let _ = writeln!(text, "payer_prefixes_denied = {:?}", cast.denied);
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

fn institution(cast: DemoInstitutionProfile, port: u16, year: i64) -> String {
    let DemoInstitutionProfile {
        id,
        name,
        name_en,
        modes,
        ..
    } = cast;
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
fn accounts(cast: DemoInstitutionProfile, year: i64) -> String {
    if cast.has_account_each() {
        let each = [TEA, BOOKS].map(|role| {
            let number = receiver(role, cast);
            account(cast, (role.id, "direct", &number), year)
        });
        return each.concat();
    }
    account(cast, (PROVIDER, "provider", "paymux"), year)
}

fn account(
    cast: DemoInstitutionProfile,
    (account, role, number): (&str, &str, &str),
    year: i64,
) -> String {
    let id = cast.id;
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
pub fn contract_account(role: DemoMerchantProfile, cast: DemoInstitutionProfile) -> String {
    if cast.has_account_each() {
        return format!("account = \"{}\"\n", role.id);
    }
    let receiver = receiver(role, cast);
    format!("account = \"{PROVIDER}\"\nsub = {{ merchant_id = \"{receiver}\" }}\n")
}

fn contract(role: DemoMerchantProfile, cast: DemoInstitutionProfile) -> String {
    let DemoInstitutionProfile {
        id, modes, most, ..
    } = cast;
    let (merchant, account) = (role.id, contract_account(role, cast));
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
