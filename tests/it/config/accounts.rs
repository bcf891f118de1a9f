//! `[[account]]`, and the account of each contract.

use super::*;

/// A second account for the committed file, with this institution and id.
fn second(id: &str, institution: &str, more: &str) -> String {
    format!(
        "[[account]]\nid = \"{id}\"\ninstitution = \"{institution}\"\n{more}\n\
         merchant_id = \"88002002\"\nkey_id = \"paymux-{institution}\"\n\
         key = \"file:certs/paymux-{institution}.key\"\nkey_not_before = 2026-01-01\n\
         key_not_after = 2035-12-31\n\n[[account.keys]]\nid = \"{institution}-1\"\n\
         algorithm = \"ed25519\"\nfile = \"certs/{institution}-1.pub\"\n\
         not_before = 2026-01-01\nnot_after = 2035-12-31\n\n"
    )
}

const CONTRACTS: &str = "# Contracts between a merchant and an institution.\n";

/// The committed file with a second account before the contracts.
fn with_second(id: &str, institution: &str, more: &str) -> ConfigFolder {
    let table = second(id, institution, more);
    ConfigFolder::with(CONTRACTS, &format!("{table}{CONTRACTS}"))
}

/// R5: an account serves any number of merchants, an institution has any number of accounts, and key ids
/// are unique within an account only.
#[test]
fn an_institution_has_any_number_of_accounts() {
    for (id, institution) in [("tea-green", "bluebank"), ("tea-blue", "redpay")] {
        let config = with_second(id, institution, "").read();
        let config = config.map_err(|faults| faults.to_string()).unwrap();
        let routing = &config.snapshot.routing;
        assert_eq!(routing.accounts.len(), 3);
        let bank = InstitutionId::parse(institution).unwrap();
        assert_eq!(routing.accounts_at(&bank).count(), 2);
        let warned: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warned, Vec::<String>::new());
    }
    let fault = with_second("tea-blue", "bluebank", "").only_fault();
    let expected = "[[account]] id: expected an id that no other account at bluebank has";
    assert!(fault.contains(expected), "{fault}");
}

/// F1: an account is read as its dialect declares; every fault has its line.
#[test]
fn an_account_is_read_by_its_dialects_declarations() {
    for (from, to, expected) in [
        (
            "merchant_id = \"88001001\" ",
            "mchid = \"88001001\" ",
            "unknown name \"mchid\"",
        ),
        (
            "merchant_id = \"R-77-1001\"\n",
            "",
            "[[account]] merchant_id: expected 1 to 64 of A-Z a-z 0-9 _ -, found nothing",
        ),
        (
            "key_id = \"paymux-redpay\"\n",
            "key_id = \"paymux redpay\"\n",
            "[[account]] key_id: expected 1 to 64 of A-Z a-z 0-9 _ -",
        ),
        (
            "role = \"direct\"  ",
            "role = \"indirect\"  ",
            "[[account]] role: expected one of direct, provider, found \"indirect\"; did you mean direct?",
        ),
        (
            "institution = \"redpay\"\nmerchant_id",
            "institution = \"redbank\"\nmerchant_id",
            "[[account]] institution: expected the id of a [[institution]] of this file",
        ),
        (
            "account = \"tea-red\"",
            "account = \"tea-rot\"",
            "[[contract]] account: expected the id of an [[account]] at redpay, found \"tea-rot\"",
        ),
        (
            "account = \"tea-red\"",
            "account = \"tea-blue\"",
            "[[contract]] account: expected the id of an [[account]] at redpay, found \"tea-blue\"",
        ),
    ] {
        let site = ConfigFolder::with(from, to);
        let faults = site.faults();
        let is_reported = faults.iter().any(|fault| fault.contains(expected));
        assert!(is_reported, "{expected}: {faults:#?}");
        let is_whole = |fault: &String| fault.contains(": expected ") && fault.contains("; ");
        assert!(faults.iter().all(is_whole), "{faults:#?}");
    }
}

/// R5, C2: a contract names a receiver if and only if its account is a provider's.
#[test]
fn a_sub_merchant_stands_where_the_role_wants_it() {
    let over = "account = \"tea-blue\"                        #";
    let sub = "sub = { merchant_id = \"SUB-7\" }\n#";
    let fault = ConfigFolder::with(over, &format!("account = \"tea-blue\"\n{sub}")).only_fault();
    let expected = "[[contract]] sub: expected no sub, because account tea-blue is direct";
    assert!(fault.contains(expected), "{fault}");

    let provider = ("role = \"direct\"  ", "role = \"provider\"  ");
    let site = ConfigFolder::with(provider.0, provider.1);
    let fault = site.only_fault();
    let expected =
        "expected the sub-merchant, because account tea-blue is a provider's, found nothing";
    assert!(fault.contains(expected), "{fault}");

    site.replace(&[provider, (over, &format!("account = \"tea-blue\"\n{sub}"))]);
    let config = site.read().map_err(|faults| faults.to_string()).unwrap();
    let contracts = config.snapshot.routing.contracts.values();
    let mut receivers: Vec<_> = contracts.map(|it| it.receiver.to_string()).collect();
    receivers.sort();
    assert_eq!(receivers, ["R-77-1001", "SUB-7"]);
    // The adapter gets it whole, with each call.
    let subs: Vec<_> = config.snapshot.sub_merchants.values().collect();
    let numbers: Vec<_> = subs.iter().map(|sub| sub.text("merchant_id")).collect();
    assert_eq!(numbers, [Some("SUB-7")]);

    let unknown =
        "account = \"tea-blue\"\nsub = { seller_id = \"SUB-7\", merchant_id = \"SUB-7\" }\n#";
    site.replace(&[provider, (over, unknown)]);
    let fault = site.only_fault();
    assert!(fault.contains("unknown name \"seller_id\""), "{fault}");
}

/// F1: for a file of the old format the faults say where keys and numbers belong now.
#[test]
fn a_file_of_the_old_form_says_where_things_stand_now() {
    let old = "kind = \"standard\"\nkey_id = \"k\"\nkey = \"file:k\"\nkey_not_before = 2026-01-01\n\
               key_not_after = 2026-12-31\nkeys = []\n";
    let faults = ConfigFolder::with("kind = \"standard\"\n", old).faults();
    assert_eq!(faults.len(), 5, "{faults:#?}");
    let is_reported = |fault: &String| fault.ends_with("it stands in [[account]] now");
    assert!(faults.iter().all(is_reported), "{faults:#?}");
    let fault = ConfigFolder::with("account = \"tea-blue\"", "account = \"88001001\"").only_fault();
    let advice = "the number at the institution is called merchant_id and stands there";
    assert!(fault.ends_with(advice), "{fault}");
}

/// `paymux check` prints accounts, `--kinds` the settings of each dialect.
#[test]
fn accounts_and_kinds_are_printed() {
    let mut out = Vec::new();
    let site = ConfigFolder::fresh();
    check::check(&mut out, &site.path("routes.toml"), now()).unwrap();
    let text = String::from_utf8(out).unwrap();
    for line in [
        "account   institution  role    number     merchants\n",
        "tea-blue  bluebank     direct  88001001   M1001\n",
        "tea-red   redpay       direct  R-77-1001  M1001\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
    let text = check::kinds::describe();
    for line in [
        "kind = \"standard\"\n\n[[institution]]\n",
        "  url            address  required  base URL of its API\n",
        "\n[[account]]\n",
        "  merchant_id     identifier   required  \
         the account's number at the institution (merchantId)\n",
        "  keys            public keys  required  ",
        "\nproducts\n",
        "  STANDARD  the institution's own page or SDK  WEBVIEW, CHATBOT, NATIVE  ",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
}
