//! One key belongs to one party: otherwise two parties who must agree could be the same.

use std::collections::BTreeMap;

use crate::config::enrolment::Enrolment;
use crate::config::reading::ConfigReader;
use crate::config::{KeyClass, KeySummary};

/// Who holds a key.
#[derive(Debug, Clone, Copy)]
pub(in crate::config) struct KeyHolder<'a> {
    /// The owner on a key ring: a merchant, an account, a member of staff.
    pub(in crate::config) owner: &'a str,
    /// For display.
    pub(in crate::config) shown: &'a str,
    /// The party; accounts at one institution may share a key of it.
    pub(in crate::config) party: &'a str,
}

impl<'a> KeyHolder<'a> {
    /// A holder with one name for all purposes.
    pub(in crate::config) fn of(id: &'a str) -> Self {
        Self {
            owner: id,
            shown: id,
            party: id,
        }
    }
}

/// A signing key of this file.
pub(in crate::config) struct KeyNote {
    pub(in crate::config) summary: KeySummary,
    /// Who holds it.
    pub(in crate::config) party: String,
    /// The line of its id.
    pub(in crate::config) line: usize,
}

impl Enrolment {
    /// Reports keys that two parties share, under whatever ids: the holder would be both (L5, Q3).
    pub(super) fn check_owners(&self, r: &mut ConfigReader<'_>) {
        let mut first_of: BTreeMap<&str, &KeyNote> = BTreeMap::new();
        for note in self
            .notes
            .iter()
            .filter(|note| !note.summary.mark.is_empty())
        {
            let first = *first_of.entry(&note.summary.mark).or_insert(note);
            if owner(first) == owner(note) {
                continue;
            }
            let found = format!(
                "{:?} of {}, the same key as {:?} of {} in line {}",
                note.summary.id,
                note.summary.owner,
                first.summary.id,
                first.summary.owner,
                first.line
            );
            let subject = subject(note.summary.class);
            let advice = "enrol a key that this party alone holds";
            r.fault(note.line, subject, "a key of one owner", &found, advice);
        }
    }
}

/// Who holds the private key; the gateway may use one key towards several institutions.
fn owner(note: &KeyNote) -> Option<(KeyClass, &str)> {
    match note.summary.class {
        KeyClass::Platform
        | KeyClass::OursAtInstitution
        | KeyClass::Server
        | KeyClass::Client
        | KeyClass::Authority => None,
        class @ (KeyClass::Merchant | KeyClass::Institution | KeyClass::Staff) => {
            Some((class, &note.party))
        }
    }
}

fn subject(class: KeyClass) -> &'static str {
    match class {
        KeyClass::Platform => "[[platform.keys]] key",
        KeyClass::Merchant => "[[merchant.keys]] file",
        KeyClass::Staff => "[[staff.keys]] file",
        KeyClass::Institution => "[[account.keys]] file",
        KeyClass::OursAtInstitution | KeyClass::Server | KeyClass::Client | KeyClass::Authority => {
            "[[account]] key"
        }
    }
}
