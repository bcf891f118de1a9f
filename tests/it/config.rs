//! `routes.toml` is refused whole, with every fault listed at once, or accepted whole (F1).

mod accounts;
mod alipay;
mod difference;
mod files;
mod hints;
mod imported;
mod made;
mod products;
mod proofs;
mod served;
mod trusted_proxies;
mod unionpay;
mod waiting;
mod wechatpay;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::ExitCode;

use paymux::command::{check, keys};
use paymux::config::{self, Config, ConfigFaults};
use paymux::domain::identifiers::{InstitutionId, MerchantId, Timestamp, hex};
use paymux::domain::institutions::Mode;
use paymux::signature::{Algorithm, SigningKey};
use tempfile::TempDir;

const COMMITTED: &str = include_str!("../../routes.toml");

/// A directory with a configuration and the development keys that it names.
struct ConfigFolder {
    folder: TempDir,
}

impl ConfigFolder {
    /// The committed configuration with fresh keys.
    fn fresh() -> Self {
        let site = Self {
            folder: TempDir::new().unwrap(),
        };
        site.write(COMMITTED);
        site.make_keys();
        site
    }

    /// The same with every occurrence of one text replaced.
    fn with(from: &str, to: &str) -> Self {
        let site = Self::fresh();
        site.replace(&[(from, to)]);
        site
    }

    fn replace(&self, changes: &[(&str, &str)]) {
        let mut text = COMMITTED.to_owned();
        for (from, to) in changes {
            assert!(text.contains(from), "{from} is not in routes.toml");
            text = text.replace(from, to);
        }
        self.write(&text);
    }

    fn write(&self, text: &str) {
        fs::write(self.path("routes.toml"), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn make_keys(&self) -> String {
        let mut out = Vec::new();
        let (file, folder) = (self.path("routes.toml"), self.path("certs"));
        keys::dev(&mut out, &file, &folder, now()).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn read(&self) -> Result<Config, ConfigFaults> {
        config::read(&self.path("routes.toml"), now(), &|_| None)
    }

    fn faults(&self) -> Vec<String> {
        let faults = self.read().err().expect("there is a fault");
        let folder = format!("{}/", self.folder.path().display());
        let lines = faults.to_string().replace(&folder, "");
        lines.lines().map(str::to_owned).collect()
    }

    fn only_fault(&self) -> String {
        let faults = self.faults();
        assert_eq!(faults.len(), 1, "{faults:#?}");
        faults.into_iter().next().unwrap()
    }
}

fn now() -> Timestamp {
    Timestamp::parse_local("20261122", "120000").unwrap()
}

fn line_of(text: &str, part: &str) -> usize {
    let at = text.find(part).unwrap();
    text[..at].lines().count().max(1) + usize::from(text[..at].ends_with('\n'))
}

/// F1: the committed configuration is valid with the keys that `paymux keys dev` makes.
#[test]
fn the_committed_configuration_is_valid_with_fresh_keys() {
    let config = ConfigFolder::fresh()
        .read()
        .map_err(|f| f.to_string())
        .unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let routing = &config.snapshot.routing;
    let merchant = &routing.merchants[&MerchantId::parse("M1001").unwrap()];
    let bank = InstitutionId::parse("bluebank").unwrap();
    assert_eq!(merchant.default_institutions[&Mode::Native], bank);
    let enrolled = [routing.institutions.len(), routing.contracts.len()];
    assert_eq!((merchant.certificates.len(), enrolled), (1, [2, 2]));
    assert_eq!(routing.routes[1].sums[0].minor_max, 200_000);
    assert_eq!(config.snapshot.adapters.len(), 2);
    assert!(config.snapshot.keys.key("M1001-1").is_some());
    assert!(
        config.snapshot.keys.key("bluebank-1").is_none(),
        "not a merchant's"
    );
    assert_eq!(config.snapshot.platform.origin, "https://localhost:8443");
    let jwks: serde_json::Value = serde_json::from_slice(&config.snapshot.platform.jwks).unwrap();
    assert_eq!(jwks["keys"][0]["kid"], "platform-1");
    assert_eq!(jwks["keys"][0]["nbf"], 1_767_196_800);
    assert_eq!(jwks["keys"][0]["exp"], 2_082_729_599_u64);
    assert_eq!(config.admission_reviews.len(), 3);
    let local = ["127.0.0.0/8", "::1/128"].map(|text| text.parse().unwrap());
    assert_eq!(config.outbound.allowed_private_networks, local);
}

/// F2: a later read has a higher version; the same text has the same digest.
#[test]
fn a_later_read_has_a_higher_version() {
    let site = ConfigFolder::fresh();
    let first = site.read().map_err(|f| f.to_string()).unwrap();
    let later = now().plus(std::time::Duration::from_secs(1));
    let path = site.path("routes.toml");
    let second = config::read(&path, later, &|_| None)
        .map_err(|f| f.to_string())
        .unwrap();
    assert!(second.snapshot.routing.version > first.snapshot.routing.version);
    assert_eq!(first.digest, second.digest);
}

/// F1: eleven faults are listed at once, each with its line.
#[test]
fn every_fault_is_listed_at_once_with_its_line() {
    let site = ConfigFolder::fresh();
    let changes = [
        (
            "operations = \"127.0.0.1:9443\"",
            "operations = \"0.0.0.0:9443\"",
        ),
        ("\"https://localhost:8443\"", "\"http://localhost:8443/\""),
        ("head_ms = 5_000", "head_ms = \"soon\""),
        ("\"127.0.0.0/8\"", "\"127.0.0.0/33\""),
        ("mtls = \"optional\"", "mtls = \"sometimes\""),
        ("order_page = \"shown\"", "order_page = \"maybe\""),
        (
            "evidence = \"development: nobody reviewed it\"",
            "evidence = 7",
        ),
        ("amount_max = \"50000.00\"", "amount_max = \"50000.001\""),
        (
            "institution = \"redpay\"\naccount",
            "institution = \"redbank\"\naccount",
        ),
        ("# hours = \"08:00-22:00\"", "hours = \"8-22\""),
        ("NATIVE = \"bluebank\"", "NATIVE = \"redpay\""),
    ];
    site.replace(&changes);
    let text = fs::read_to_string(site.path("routes.toml")).unwrap();
    let faults = site.faults();
    assert_eq!(faults.len(), changes.len(), "{faults:#?}");
    for (_, to) in changes {
        let line = line_of(&text, to);
        let is_listed = |line: usize| {
            let place = format!("routes.toml:{line}: ");
            faults.iter().any(|fault| fault.starts_with(&place))
        };
        assert!(is_listed(line), "line {line} ({to}): {faults:#?}");
    }
    assert!(
        faults
            .iter()
            .all(|fault| fault.contains(": expected ") && fault.contains(", found "))
    );
}

/// D1: a secret in plain text where a name is expected is refused, and not repeated in the fault.
#[test]
fn a_secret_in_plain_is_refused_and_not_quoted() {
    let secret = hex(&[0xa5; 32]);
    let fault =
        ConfigFolder::with("\"file:certs/seal-1.key\"", &format!("\"{secret}\"")).only_fault();
    assert!(
        fault.contains("[[store.seal_keys]] key: expected the name of a secret"),
        "{fault}"
    );
    assert!(!fault.contains("a5a5"), "{fault}");
    let unfinished = ConfigFolder::with("\"file:certs/seal-1.key\"", &format!("\"{secret}"));
    assert!(!unfinished.faults().concat().contains("a5a5"));
}

/// F1: a TOML syntax error is reported with its line.
#[test]
fn a_toml_error_is_reported_with_its_line() {
    let site = ConfigFolder::with("mtls = \"optional\" ", "mtls = optional\" ");
    let line = line_of(COMMITTED, "mtls = ");
    let place = format!("routes.toml:{line}: syntax");
    assert!(site.faults()[0].starts_with(&place), "{:?}", site.faults());
}

/// F1: an unknown name is a fault that suggests the nearest known name.
#[test]
fn an_unknown_name_suggests_the_nearest() {
    let fault = ConfigFolder::with("notice_url =", "notice_ulr =").only_fault();
    assert!(
        fault.contains("unknown name \"notice_ulr\"; did you mean notice_url?"),
        "{fault}"
    );
    let fault = ConfigFolder::with("[outbound]", "[outbuond]").only_fault();
    assert!(fault.contains("did you mean outbound?"), "{fault}");
}

/// D3: without a seal key the gateway does not start.
#[test]
fn a_missing_seal_key_is_a_fault() {
    let site = ConfigFolder::fresh();
    fs::remove_file(site.path("certs/seal-1.key")).unwrap();
    assert!(site.only_fault().contains("seal-1.key, found No such file"));
    let fault = ConfigFolder::with("seal_key = \"seal-1\"", "seal_key = \"seal-2\"").only_fault();
    assert!(
        fault.contains("[store] seal_key: expected the id of a seal key"),
        "{fault}"
    );
}

/// D1: a private key that others can read is refused.
#[test]
fn a_private_key_that_others_can_read_is_refused() {
    let site = ConfigFolder::fresh();
    let key = site.path("certs/platform-1.key");
    assert_eq!(
        fs::metadata(&key).unwrap().permissions().mode() & 0o777,
        0o600
    );
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let fault = site.only_fault();
    assert!(fault.contains("found mode 640; chmod 600"), "{fault}");
}

/// F1: a secret may come from the environment; an unset variable is a fault.
#[test]
fn a_secret_may_come_from_the_environment() {
    let site = ConfigFolder::with("\"file:certs/seal-1.key\"", "\"env:PAYMUX_SEAL\"");
    let key = hex(&[7; 32]);
    let environment = |name: &str| (name == "PAYMUX_SEAL").then(|| key.clone());
    assert!(config::read(&site.path("routes.toml"), now(), &environment).is_ok());
    assert!(
        site.only_fault()
            .contains("expected the environment variable PAYMUX_SEAL, found nothing")
    );
}

/// R-6.2.1-3, R-6.2.2-5, R-6.1.4-2: a mode without what clause 6.2 requires, password reset among
/// it, is refused unless staff record a waiver.
#[test]
fn a_capability_that_clause_6_2_demands_is_demanded() {
    let chatbot = (
        "[\"WEBVIEW\", \"NATIVE\"]",
        "[\"WEBVIEW\", \"CHATBOT\", \"NATIVE\"]",
    );
    let site = ConfigFolder::fresh();
    let unmet_requirements = (
        "\"bind_card\", \"reset_password\", \"queries\", \"scan_pay\"",
        "\"reset_password\", \"scan_pay\"",
    );
    site.replace(&[chatbot, unmet_requirements]);
    let faults = site.faults();
    let ids = [
        "R-6.2.1-3",
        "R-6.2.2-3",
        "R-6.2.2-5",
        "R-6.2.3-3",
        "R-6.2.4-3",
    ];
    assert_eq!(faults.len(), ids.len(), "{faults:#?}");
    for (fault, id) in faults.iter().zip(ids) {
        assert!(fault.contains(id), "{fault}");
    }
    let recorded = "\"bind_card\", \"queries\", \"scan_pay\"]\nwaivers = [\
{ requirement = \"R-6.2.1-4\", reason = \"annex 2\", by = \"Li\", since = 2026-01-01 },\
{ requirement = \"R-6.2.2-4\", reason = \"annex 2\", by = \"Li\", since = 2026-01-01 },\
{ requirement = \"R-6.2.3-4\", reason = \"annex 2\", by = \"Li\", since = 2026-01-01 },\
{ requirement = \"R-6.2.4-4\", reason = \"annex 2\", by = \"Li\", since = 2026-01-01 },";
    let there = "\"bind_card\", \"reset_password\", \"queries\", \"scan_pay\",";
    site.replace(&[chatbot, (there, recorded)]);
    let config = site.read().map_err(|f| f.to_string()).unwrap();
    let not_served =
        |it: &&config::ConfigFault| it.found.starts_with("CHATBOT, which it does not serve");
    let (chatbot, waivers): (Vec<_>, Vec<_>) = config.warnings.iter().partition(not_served);
    assert_eq!(
        (chatbot.len(), waivers.len()),
        (2, 4),
        "{:?}",
        config.warnings
    );
}

const ALL_REFUNDS: &str = "\"full_refund\", \"partial_refund\", \"repeated_refund\"";

/// R-6.1.5-2: an institution that lacks one of the three kinds of refund is refused, with the
/// requirement's id, unless staff record a waiver with reason, name and day; then it is a warning
/// and the waiver is stored, so that such a refund can be refused with the reason.
#[test]
fn a_waiver_is_recorded_by_staff_and_stored() {
    let without = "\"full_refund\", \"partial_refund\"";
    let faults = ConfigFolder::with(ALL_REFUNDS, without).faults();
    assert_eq!(faults.len(), 2, "both institutions: {faults:#?}");
    assert!(faults.iter().all(|fault| fault.contains("R-6.1.5-2")));

    let recorded = "modes = [\"WEBVIEW\"]\nwaivers = [{ requirement = \"R-6.1.5-2\", \
reason = \"annex 2\", by = \"head of payments\", since = 2026-01-01 }]\ncapabilities = [\n \
\"password_pay\", \"full_refund\", \"partial_refund\",";
    let there = "modes = [\"WEBVIEW\"]\ncapabilities = [\n    \"password_pay\", \"full_refund\", \
        \"partial_refund\", \"repeated_refund\",";
    let site = ConfigFolder::with(there, recorded);
    let config = site.read().map_err(|f| f.to_string()).unwrap();
    let warning = config.warnings[0].to_string();
    for part in ["R-6.1.5-2", "annex 2", "head of payments"] {
        assert!(warning.contains(part), "{warning}");
    }
    let red = &config.snapshot.routing.institutions[&InstitutionId::parse("redpay").unwrap()];
    let kinds = red.refunds.kinds;
    assert!(kinds.full && kinds.partial && !kinds.repeated);
    let waiver = &red.waivers[0];
    assert_eq!(
        (
            waiver.requirement.as_str(),
            waiver.reason.as_str(),
            waiver.by.as_str()
        ),
        ("R-6.1.5-2", "annex 2", "head of payments")
    );
    assert_eq!(waiver.since_s, 1_767_196_800);
    let mut out = Vec::new();
    check::check(&mut out, &site.path("routes.toml"), now()).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(
        text.starts_with("warning: ") && text.contains("head of payments"),
        "{text}"
    );

    let but = |from: &str, to: &str| ConfigFolder::with(there, &recorded.replace(from, to));
    let fault = but(" by = \"head of payments\",", "").faults();
    assert!(
        fault
            .concat()
            .contains("waivers]] by: expected who decided it")
    );
    let fault = but("\"R-6.1.5-2\"", "\"R-6.2.1-5\"").faults();
    assert!(
        fault.concat().contains("R-6.1.5-2, or the id of a MUST"),
        "{fault:?}"
    );
    let needless = but("\"partial_refund\",", &format!("{ALL_REFUNDS},")).read();
    let warning = needless.map_err(|f| f.to_string()).unwrap().warnings[0].to_string();
    assert!(
        warning.contains("which is fulfilled; remove it"),
        "{warning}"
    );
}

/// M6, F2: currencies, payers and stops of contracts and routes are read; a currency without limits
/// of its own, one the institution does not support, and limits of no currency are faults.
#[test]
fn conditions_of_a_payment_are_read_and_checked() {
    let there = "amount_max = \"50000.00\"\n";
    let hkd = "currencies = [\"CNY\", \"HKD\"]\n";
    let sums = "[[contract.sums]]\ncurrency = \"HKD\"\namount_max = \"900.00\"\n";
    let offers = ("stopped = false ", "currencies = [\"CNY\", \"HKD\"] ");
    let site = ConfigFolder::fresh();
    let rules = "stopped = true\npayer_prefixes_denied = [\"170\"]\npayer_prefixes = [\"13\"]\n";
    let all = format!("{there}{hkd}{rules}{sums}");
    site.replace(&[
        offers,
        (there, &all),
        ("order = 1\n", "order = 1\nstopped = true\n"),
    ]);
    let config = site.read().map_err(|f| f.to_string()).unwrap();
    let routing = &config.snapshot.routing;
    let bank = InstitutionId::parse("bluebank").unwrap();
    let contract = &routing.contracts[&(MerchantId::parse("M1001").unwrap(), bank)];
    let read: Vec<_> = contract
        .sums
        .iter()
        .map(|it| (it.currency.code(), it.minor_max))
        .collect();
    assert_eq!(read, [("CNY", 5_000_000), ("HKD", 90_000)]);
    assert_eq!(
        (&*contract.payers.only, &*contract.payers.except),
        (&["13".to_owned()][..], &["170".to_owned()][..],)
    );
    assert!(contract.stopped && routing.routes[0].stopped && !routing.routes[1].stopped);

    let fault = |changes: &[(&str, &str)]| {
        let site = ConfigFolder::fresh();
        site.replace(changes);
        site.only_fault()
    };
    let no_sums = fault(&[offers, (there, &format!("{there}{hkd}"))]);
    assert!(no_sums.contains("expected amounts in HKD"), "{no_sums}");
    let not_settled = fault(&[(there, &format!("{there}{hkd}{sums}"))]);
    assert!(
        not_settled.contains("a currency that bluebank settles in"),
        "{not_settled}"
    );
    let not_agreed = fault(&[offers, (there, &format!("{there}{sums}"))]);
    assert!(
        not_agreed.contains("sums of an agreed currency only"),
        "{not_agreed}"
    );
    let twice = fault(&[offers, (there, &format!("{there}{hkd}{sums}{sums}"))]);
    assert!(twice.contains("whose amounts are not given yet"), "{twice}");
}

/// F1: invalid health thresholds are refused, each by its name.
#[test]
fn invalid_health_thresholds_are_refused() {
    for (from, to) in [
        ("window_s = 60", "window_s = 0"),
        ("calls_min = 8", "calls_min = 65"),
        ("failures_percent = 50", "failures_percent = 101"),
        ("not_sent_in_a_row = 3", "not_sent_in_a_row = 0"),
        ("open_ms = 5_000", "open_ms = 0"),
        ("open_ms_max = 120_000", "open_ms_max = 4_999"),
        ("probes = 1 ", "probes = 0 "),
        ("slow_ms = 2_000", "slow_ms = 0"),
    ] {
        let fault = ConfigFolder::with(from, to).only_fault();
        let name = from.split_once(' ').unwrap().0;
        assert!(
            fault.contains(&format!("[health] {name}: expected")),
            "{fault}"
        );
    }
    let default = paymux::domain::institutions::HealthSettings::default();
    let config = ConfigFolder::fresh()
        .read()
        .map_err(|f| f.to_string())
        .unwrap();
    assert_eq!(config.health, default, "the file states the defaults");
}

/// R-4-3: enrolment requires evidence and a date.
#[test]
fn a_state_without_evidence_is_refused() {
    let fault =
        ConfigFolder::with("evidence = \"development: nobody reviewed it\"\n", "").only_fault();
    assert!(fault.contains("[[merchant]] evidence"), "{fault}");
}

/// Q3, F1: one key id cannot name two keys, whoever owns them.
#[test]
fn a_key_id_that_comes_twice_is_a_fault() {
    let fault = ConfigFolder::with("id = \"redpay-1\"", "id = \"paymux-redpay\"").only_fault();
    assert!(
        fault.contains("which line") && fault.contains("has taken"),
        "{fault}"
    );
}

/// F1: a certificate that does not match its key or its name is found before a listener uses it.
#[test]
fn a_certificate_that_does_not_fit_is_refused() {
    let fault =
        ConfigFolder::with("\"file:certs/server.key\"", "\"file:certs/M1001.key\"").only_fault();
    assert!(
        fault.contains("expected the private key of the certificate"),
        "{fault}"
    );
    let fault =
        ConfigFolder::with("https://localhost:8443", "https://pay.example:8443").only_fault();
    assert!(
        fault.contains("pay.example, which public_origin says"),
        "{fault}"
    );
    let site = ConfigFolder::fresh();
    let later = Timestamp::parse_local("20330101", "000000").unwrap();
    let faults = config::read(&site.path("routes.toml"), later, &|_| None)
        .err()
        .unwrap();
    // The listener's own certificate; a merchant's is no fault of the whole configuration.
    assert!(faults.0[0].expected == "a certificate in force");
    assert_eq!(faults.0.len(), 1, "{faults}");
}

/// S1: without a platform key that is valid today nothing can be signed.
#[test]
fn a_platform_key_must_be_in_force() {
    let fault = ConfigFolder::with(
        "certs/platform-1.key\"\nnot_before = 2026-01-01",
        "certs/platform-1.key\"\nnot_before = 2027-01-01",
    )
    .only_fault();
    assert!(
        fault.contains("expected a key in force today, found none"),
        "{fault}"
    );
}

/// D3: existing keys are never replaced.
#[test]
fn development_keys_are_made_once() {
    let site = ConfigFolder::fresh();
    let before = fs::read(site.path("certs/seal-1.key")).unwrap();
    assert!(site.make_keys().starts_with("nothing was missing"));
    assert_eq!(fs::read(site.path("certs/seal-1.key")).unwrap(), before);
    fs::remove_file(site.path("certs/M1001-1.pub")).unwrap();
    assert_eq!(site.make_keys().lines().count(), 1);
    assert!(site.read().is_ok());
}

/// D3: no key is made for a name outside the development directory.
#[test]
fn no_key_is_made_outside_the_folder_of_development() {
    let site = ConfigFolder::with("file:certs/seal-1.key", "file:seal-1.key");
    assert!(site.make_keys().contains("skip  "));
    assert!(!site.path("seal-1.key").exists());
}

/// F1: `paymux check` prints what would be served, or lists every fault and exits with 3.
#[test]
fn check_prints_what_would_be_served_or_the_faults() {
    let site = ConfigFolder::with("stopped = false", "stopped = true ");
    let checked = || {
        let mut out = Vec::new();
        let status = check::check(&mut out, &site.path("routes.toml"), now()).unwrap();
        (format!("{status:?}"), String::from_utf8(out).unwrap())
    };
    let (status, text) = checked();
    assert_eq!(status, format!("{:?}", ExitCode::SUCCESS));
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = text.lines().map(words).collect();
    assert!(
        lines.contains(&"M1001 admitted WEBVIEW bluebank (stopped), redpay".to_owned()),
        "{text}"
    );
    assert!(!text.contains("CHATBOT"), "not served: {text}");
    site.replace(&[("head_ms = 5_000", "head_ms = 0"), ("body_ms", "boddy_ms")]);
    let (status, text) = checked();
    assert_eq!(status, format!("{:?}", ExitCode::from(3)));
    assert!(
        text.ends_with("2 faults; nothing of this file would be used\n"),
        "{text}"
    );
}

/// Keys are listed with the days until they expire; merchants are given public keys only.
#[test]
fn keys_are_listed_and_shown() {
    let site = ConfigFolder::fresh();
    let mut out = Vec::new();
    keys::list(&mut out, &site.path("routes.toml"), now()).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text.lines().count(), 7, "{text}");
    let line = text
        .lines()
        .find(|line| line.starts_with("M1001-1 "))
        .unwrap();
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(
        words[1..],
        [
            "M1001",
            "ed25519",
            "2026-01-01",
            "2035-12-31",
            "3326",
            "days"
        ]
    );
    let mut out = Vec::new();
    keys::show(&mut out, &site.path("routes.toml"), now()).unwrap();
    let set: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert!(set["keys"][0]["x"].is_string() && set["keys"][0]["d"].is_null());
}
