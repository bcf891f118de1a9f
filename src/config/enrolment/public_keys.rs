//! Public keys of merchants, accounts and staff, each with its id and validity.

use std::collections::BTreeMap;

use crate::config::enrolment::owners::{KeyHolder, KeyNote};
use crate::config::enrolment::{Enrolment, validities};
use crate::config::gateway::KEY_ID;
use crate::config::named::day;
use crate::config::reading::{ConfigReader, NotInForce};
use crate::config::section::Section;
use crate::config::{KeyClass, KeySummary};
use crate::domain::identifiers::KeyId;
use crate::signature::EnrolledKey;

/// Whose keys are read.
#[derive(Clone, Copy)]
pub(in crate::config) struct KeysOf<'a> {
    /// `None` if the holder's own id could not be read.
    pub(in crate::config) holder: Option<KeyHolder<'a>>,
    /// What kind of party it is.
    pub(in crate::config) class: KeyClass,
}

impl Enrolment {
    /// `keys[]` of a merchant or of staff, whose ids are unique in the file.
    pub(in crate::config) fn named_keys(
        &mut self,
        r: &mut ConfigReader<'_>,
        s: &mut Section<'_>,
        owner: Option<&str>,
        class: KeyClass,
    ) -> Vec<EnrolledKey> {
        let mut key_ids = std::mem::take(&mut self.key_ids);
        let of = KeysOf {
            holder: owner.map(KeyHolder::of),
            class,
        };
        let keys = self.public_keys(r, s, "keys", of, &mut key_ids);
        self.key_ids = key_ids;
        keys
    }

    /// The public keys of one holder; without one, none of its messages can be proven.
    pub(in crate::config) fn public_keys(
        &mut self,
        r: &mut ConfigReader<'_>,
        s: &mut Section<'_>,
        name: &'static str,
        of: KeysOf<'_>,
        key_ids: &mut BTreeMap<String, usize>,
    ) -> Vec<EnrolledKey> {
        let KeysOf { holder, class } = of;
        let mut keys = Vec::new();
        let tables = s.tables(r, name);
        if tables.is_empty() {
            let advice = "add a table [[….keys]] with id, algorithm, file, not_before, not_after";
            r.fault(
                s.line,
                &s.subject(name),
                "at least one public key",
                "none",
                advice,
            );
        }
        for mut table in tables {
            let id = table.mandatory(r, "id", KEY_ID, |v| KeyId::parse(v.as_str()?).ok());
            if let Some(id) = &id {
                r.once(key_ids, id, &table.subject("id"));
            }
            let key = table.public_key(r, id.as_ref().map(|id| id.value.as_str()));
            let span = table.span(r, ["not_before", "not_after"]);
            if let (Some(id), Some((key, mark)), Some((from, until)), Some(holder)) =
                (id, key, span, holder)
            {
                self.notes.push(KeyNote {
                    summary: KeySummary {
                        id: id.value.to_string(),
                        owner: holder.shown.to_owned(),
                        class,
                        mark,
                        algorithm: key.algorithm().name(),
                        validity_s: Some((from, until)),
                    },
                    party: holder.party.to_owned(),
                    line: id.line,
                });
                keys.push(EnrolledKey {
                    id: id.value.to_string(),
                    owner: holder.owner.to_owned(),
                    key,
                    not_before_s: from,
                    not_after_s: until,
                });
            }
            table.end(r);
        }
        let last = keys.iter().map(|key| key.not_after_s).max();
        let subject = s.subject(name);
        if let Some(last_s) = last {
            let now_s = r.now.seconds();
            let next = keys.iter().map(|key| key.not_before_s);
            let found = match next.filter(|from_s| *from_s > now_s).min() {
                Some(from_s) => format!("the first day of the next one on {}", day(from_s)),
                None => format!("the end of the last one on {}", day(last_s)),
            };
            let fault = NotInForce {
                line: s.line,
                subject: &subject,
                expected: "a key in force",
                found: &found,
                advice: "enrol one in force today",
            };
            if r.in_force(validities(&keys), fault) {
                r.ends_soon(s.line, &subject, last);
            }
        }
        keys
    }
}
