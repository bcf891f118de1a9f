//! What `paymux check` advises about values that do not fit: nothing that harms whoever follows it.

use super::*;

/// The value that stands there is corrected, and never exchanged for an example.
#[test]
fn a_correction_is_of_the_value_that_was_found() {
    for (right, wrong, advice) in [
        (
            "amount_max = \"50000.00\"",
            "amount_max = 50000.00",
            "write amount_max = \"50000.00\"",
        ),
        (
            "account = \"88001001\"",
            "account = 88001001",
            "write account = \"88001001\"",
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
        let site = Site::fresh();
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

/// Where nothing tells what was meant, an example is called one.
#[test]
fn an_example_is_called_one() {
    let fault = Site::with("account = \"88001001\"", "account = \"8800 1001\"").only_fault();
    let advice = "correct it, for example account = \"88001001\"";
    assert!(fault.ends_with(advice), "{fault}");
    let fault = Site::with("account = \"88001001\"", "").only_fault();
    let advice = "add it, for example account = \"88001001\"";
    assert!(fault.ends_with(advice), "{fault}");
}
