//! Which agreed modes and transaction types this gateway serves.

use std::sync::LazyLock;

use crate::config::reading::{ConfigReader, ExpectedValue, Located, shape};
use crate::config::section::Section;
use crate::domain::institutions::{Mode, TransactionType};

/// The accepted modes: those that are served.
pub(in crate::config) fn mode_shape() -> ExpectedValue {
    static EXPECTED: LazyLock<String> = LazyLock::new(|| one_of(&Mode::OFFERED.map(Mode::name)));
    shape(&EXPECTED, "\"WEBVIEW\"")
}

/// The accepted transaction types: those that are served.
pub(super) fn type_shape() -> ExpectedValue {
    static EXPECTED: LazyLock<String> =
        LazyLock::new(|| one_of(&TransactionType::OFFERED.map(TransactionType::name)));
    shape(&EXPECTED, "\"PASSWORD_PAY\"")
}

fn one_of(names: &[&str]) -> String {
    match names {
        [only] => format!("{only}, which alone is served"),
        _ => format!("one of {}", names.join(", ")),
    }
}

/// A mode by its name, served or not.
pub(in crate::config) fn mode(text: &str) -> Option<Mode> {
    Mode::ALL.into_iter().find(|mode| mode.name() == text)
}

/// Reports what is agreed with an institution but not served yet: a transaction type is a fault, so that
/// nobody relies on it; a mode beside served ones is a warning.
pub(super) fn check_served(
    r: &mut ConfigReader<'_>,
    s: &Section<'_>,
    modes: &[Located<Mode>],
    kinds: &[Located<TransactionType>],
) {
    let served = |kind: &&Located<TransactionType>| TransactionType::OFFERED.contains(&kind.value);
    for kind in kinds.iter().filter(|kind| !served(kind)) {
        let names = TransactionType::OFFERED.map(TransactionType::name);
        let expected = format!("a type that this gateway serves ({})", names.join(", "));
        let found = format!("{}, which it does not serve yet", kind.value.name());
        let subject = s.subject("transaction_types");
        r.fault(kind.line, &subject, &expected, &found, "remove it");
    }
    check_modes(r, &s.subject("modes"), modes);
}

/// Reports modes that are not served yet: a warning beside served ones, a fault if none is served.
pub(in crate::config) fn check_modes(
    r: &mut ConfigReader<'_>,
    subject: &str,
    modes: &[Located<Mode>],
) {
    let is_served = |mode: &&Located<Mode>| Mode::OFFERED.contains(&mode.value);
    let is_one_served = modes.iter().any(|mode| is_served(&mode));
    for mode in modes.iter().filter(|mode| !is_served(mode)) {
        let names = Mode::OFFERED.map(Mode::name).join(", ");
        let expected = format!("a mode that this gateway serves ({names})");
        let found = format!("{}, which it does not serve yet", mode.value.name());
        if is_one_served {
            let advice = "nobody is offered it; remove it";
            let note = r.note(mode.line, subject, &expected, &found, advice);
            r.warnings.push(note);
        } else {
            let advice = "name one that is served";
            r.fault(mode.line, subject, &expected, &found, advice);
        }
    }
}
