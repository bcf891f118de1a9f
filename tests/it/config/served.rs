//! Modes and types that are enrolled but not served yet.

use super::*;

const NOT_SERVED: &str = "CHATBOT, which it does not serve yet; name one that is served";

/// F1: a mode that is not served yet is a fault where it is the only one of an institution, of a contract or
/// of a merchant's defaults.
#[test]
fn a_mode_that_alone_is_not_served_is_a_fault() {
    let faults = ConfigFolder::with("modes = [\"WEBVIEW\"]", "modes = [\"CHATBOT\"]").faults();
    let not_served = faults.iter().filter(|fault| fault.contains(NOT_SERVED));
    assert_eq!(not_served.count(), 2, "{faults:#?}");
    let (_, after) = COMMITTED
        .split_once("[merchant.default_institution]")
        .unwrap();
    let defaults: String = after.split_inclusive('\n').skip(1).take(2).collect();
    let faults = ConfigFolder::with(&defaults, "CHATBOT = \"bluebank\"\n").faults();
    assert!(faults[0].contains(NOT_SERVED), "{faults:#?}");
}

/// F1: the expected values are only those that are served, so that following the advice is not refused.
#[test]
fn what_is_expected_is_served() {
    for (right, expected) in [
        (
            "[\"PASSWORD_PAY\"]",
            "expected PASSWORD_PAY, which alone is served, found",
        ),
        ("[\"WEBVIEW\"]", "expected one of WEBVIEW, NATIVE, found"),
    ] {
        let faults = ConfigFolder::with(right, "[\"BARTER\"]").faults();
        let is_said = faults.iter().any(|fault| fault.contains(expected));
        assert!(is_said, "{faults:#?}");
    }
}
