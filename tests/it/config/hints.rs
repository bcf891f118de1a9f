//! The advice of `paymux check` about invalid values: following it must do no harm.

use super::*;

/// The written value is corrected, never replaced by an example.
#[test]
fn a_correction_is_of_the_value_that_was_found() {
    for (right, wrong, advice) in [
        (
            "amount_max = \"50000.00\"",
            "amount_max = 50000.00",
            "write amount_max = \"50000.00\"",
        ),
        (
            "merchant_id = \"88001001\"",
            "merchant_id = 88001001",
            "write merchant_id = \"88001001\"",
        ),
        (
            "state = \"admitted\"                          #",
            "state = \"admited\" #",
            "did you mean admitted?",
        ),
        (
            "mtls = \"optional\"",
            "mtls = \"Required\"",
            "did you mean required?",
        ),
        ("mtls = \"optional\"", "mtls = 7", "write one of them"),
        (
            "stopped = false ",
            "stopped = \"true\" ",
            "write stopped = true",
        ),
        ("drain_s = 30 ", "drain_s = \"45\" ", "write drain_s = 45"),
        (
            "drain_s = 30 ",
            "drain_s = 4500 ",
            "write one of these, or remove the line, which means 30",
        ),
        (
            "currencies = [\"CNY\"]  ",
            "currencies = [\"CNJ\"]  ",
            "did you mean CNY?",
        ),
        (
            "currencies = [\"CNY\"]  ",
            "currencies = \"CNY\"  ",
            "write currencies = [\"CNY\"]",
        ),
    ] {
        let site = ConfigFolder::fresh();
        let first = right.split('=').next().unwrap();
        let said = format!("# {first}= [");
        let text = COMMITTED.replacen(&said, &said[2..], 1);
        assert!(text.contains(right), "{right}");
        site.write(&text.replacen(right, wrong, 1));
        let faults = site.faults();
        let said = faults.iter().filter(|fault| fault.ends_with(advice));
        assert_eq!(said.count(), 1, "{advice}: {faults:#?}");
    }
}

/// A merchant that is served nothing is not listed with institutions.
#[test]
fn a_merchant_without_a_key_or_leave_is_shown_without_institutions() {
    let merchants = COMMITTED.split_once("[[merchant]]").unwrap().1;
    let keys = merchants.split_once("[[merchant.keys]]").unwrap().1;
    let days = keys.split_once("not_after = ").unwrap().1;
    let day = format!("not_after = {}", days.lines().next().unwrap());
    for (right, wrong, shown) in [
        (&*day, "not_after = 2026-01-31", "nothing: no key in force"),
        (
            "state = \"admitted\"",
            "state = \"suspended\"",
            "nothing new: suspended",
        ),
        (
            "state = \"admitted\"",
            "state = \"applied\"",
            "nothing: not admitted yet",
        ),
    ] {
        let site = ConfigFolder::fresh();
        let text = merchants.replacen(right, wrong, 1);
        let before = COMMITTED.split_once("[[merchant]]").unwrap().0;
        site.write(&format!("{before}[[merchant]]{text}"));
        let mut out = Vec::new();
        check::check(&mut out, &site.path("routes.toml"), now()).unwrap();
        let said = String::from_utf8(out).unwrap();
        let rows: Vec<_> = said.lines().filter(|it| it.starts_with("M1001 ")).collect();
        let is_so = rows.iter().all(|row| row.ends_with(shown));
        assert!(!rows.is_empty() && is_so, "{said}");
    }
}

/// An unreadable entry in an institution's list is one fault and causes none in the contracts.
#[test]
fn a_fault_of_an_institution_is_none_of_its_contracts() {
    let line = "# currencies = [\"CNY\"]   ";
    ConfigFolder::with(line, "currencies = [\"RMB\"]   ").only_fault();
    let modes = "modes = [\"WEBVIEW\", \"NATIVE\"]";
    let site = ConfigFolder::fresh();
    site.write(&COMMITTED.replacen(modes, "modes = [\"WEBVIEW\", \"NATIF\"]", 1));
    let fault = site.only_fault();
    assert!(fault.ends_with("did you mean NATIVE?"), "{fault}");
    let site = ConfigFolder::with("\"password_pay\"", "\"pasword_pay\"");
    let faults = site.faults();
    let meant = |fault: &String| fault.ends_with("did you mean password_pay?");
    assert!(faults.iter().all(meant), "{faults:#?}");
}

/// If the intended value is unknown, an example is marked as one.
#[test]
fn an_example_is_called_one() {
    let fault = ConfigFolder::with("merchant_id = \"88001001\"", "merchant_id = \"8800 1001\"")
        .only_fault();
    let advice = "correct it, for example merchant_id = \"88001001\"";
    assert!(fault.ends_with(advice), "{fault}");
    let fault = ConfigFolder::with("merchant_id = \"88001001\"", "").only_fault();
    let advice = "add it, for example merchant_id = \"88001001\"";
    assert!(fault.ends_with(advice), "{fault}");
}

/// F1: a name from an earlier version gets the new name as advice.
#[test]
fn a_renamed_key_names_its_successor() {
    let site = ConfigFolder::with("exchange_log_days = 30", "trail_days = 30");
    let fault = site.only_fault();
    assert!(fault.contains("unknown name \"trail_days\""), "{fault}");
    let advice = "it is called exchange_log_days now";
    assert!(fault.ends_with(advice), "{fault}");
}
