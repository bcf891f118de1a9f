//! What is agreed with others and what of it this gateway serves.

use crate::config::reading::{Found, Reader, Shape, shape};
use crate::config::section::Section;
use crate::domain::institutions::{Mode, TransactionType};

pub(in crate::config) const MODE: Shape = shape("one of WEBVIEW, CHATBOT, NATIVE", "\"WEBVIEW\"");

pub(in crate::config) fn mode(text: &str) -> Option<Mode> {
    Mode::ALL.into_iter().find(|mode| mode.name() == text)
}

/// What is agreed with an institution and not offered by this gateway yet: types are a fault, so that
/// nobody relies on them; a mode beside others is said.
pub(super) fn check_served(
    r: &mut Reader<'_>,
    s: &Section<'_>,
    modes: &[Found<Mode>],
    kinds: &[Found<TransactionType>],
) {
    let served = |kind: &&Found<TransactionType>| TransactionType::OFFERED.contains(&kind.value);
    for kind in kinds.iter().filter(|kind| !served(kind)) {
        let names = TransactionType::OFFERED.map(TransactionType::name);
        let expected = format!("a type that this gateway serves ({})", names.join(", "));
        let found = format!("{}, which it does not serve yet", kind.value.name());
        let subject = s.subject("transaction_types");
        r.fault(kind.line, &subject, &expected, &found, "remove it");
    }
    for mode in modes {
        not_served(r, &s.subject("modes"), mode.line, mode.value);
    }
}

/// Says of a mode that nobody is offered it yet.
pub(in crate::config) fn not_served(r: &mut Reader<'_>, subject: &str, line: usize, mode: Mode) {
    if !Mode::OFFERED.contains(&mode) {
        let names = Mode::OFFERED.map(Mode::name).join(", ");
        let expected = format!("a mode that this gateway serves ({names})");
        let found = format!("{}, which it does not serve yet", mode.name());
        let advice = "nobody is offered it; remove it";
        let note = r.note(line, subject, &expected, &found, advice);
        r.warnings.push(note);
    }
}
