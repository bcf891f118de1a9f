//! Whose a key is: one key proves the word of one party, or two who must agree could be one.

use std::collections::BTreeMap;

use crate::config::enrolment::Enrolment;
use crate::config::reading::ConfigReader;
use crate::config::{KeyClass, KeySummary};

impl Enrolment {
    /// No two parties have one key, under whatever ids: who holds it would be both (section 5, Q3).
    pub(super) fn check_owners(&self, r: &mut ConfigReader<'_>) {
        let mut first_of: BTreeMap<&str, &KeySummary> = BTreeMap::new();
        for note in self.notes.iter().filter(|note| !note.mark.is_empty()) {
            let first = *first_of.entry(&note.mark).or_insert(note);
            if owner(first) == owner(note) {
                continue;
            }
            let line_of = |note: &KeySummary| self.key_ids.get(&note.id).copied().unwrap_or(0);
            let found = format!(
                "{:?} of {}, the same key as {:?} of {} in line {}",
                note.id,
                note.owner,
                first.id,
                first.owner,
                line_of(first)
            );
            let (line, subject) = (line_of(note), subject(note.class));
            let advice = "enrol a key that this party alone holds";
            r.fault(line, subject, "a key of one owner", &found, advice);
        }
    }
}

/// Who holds the private half; the gateway may sign with one key towards several.
fn owner(note: &KeySummary) -> Option<(KeyClass, &str)> {
    match note.class {
        KeyClass::Platform
        | KeyClass::OursAtInstitution
        | KeyClass::Server
        | KeyClass::Client
        | KeyClass::Authority => None,
        class @ (KeyClass::Merchant | KeyClass::Institution | KeyClass::Operator) => {
            Some((class, &note.owner))
        }
    }
}

fn subject(class: KeyClass) -> &'static str {
    match class {
        KeyClass::Platform => "[[platform.keys]] key",
        KeyClass::Merchant => "[[merchant.keys]] file",
        KeyClass::Operator => "[[staff.keys]] file",
        KeyClass::Institution => "[[institution.keys]] file",
        KeyClass::OursAtInstitution | KeyClass::Server | KeyClass::Client | KeyClass::Authority => {
            "[[institution]] key"
        }
    }
}
