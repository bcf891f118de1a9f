//! `[[staff]]`: people who sign decisions in manual review.

use std::collections::BTreeMap;

use crate::config::KeyClass;
use crate::config::enrolment::Enrolment;
use crate::config::reading::{ConfigReader, ExpectedValue, shape};
use crate::config::section::Section;
use crate::domain::identifiers::StaffId;

impl Enrolment {
    pub(in crate::config) fn staff(
        &mut self,
        r: &mut ConfigReader<'_>,
        mut s: Section<'_>,
        ids: &mut BTreeMap<String, usize>,
    ) {
        const ID: ExpectedValue = shape(
            "a staff member's id, 1 to 32 of A-Z a-z 0-9 _ -",
            "\"li-wei\"",
        );
        let id = s.mandatory(r, "id", ID, |v| StaffId::parse(v.as_str()?).ok());
        if let Some(id) = &id {
            r.once(ids, id, &s.subject("id"));
        }
        let owner = id.as_ref().map(|id| id.value.as_str());
        let keys = self.named_keys(r, &mut s, owner, KeyClass::Staff);
        // Whoever can verify a signature with a shared secret could have made it.
        for key in keys.iter().filter(|key| key.key.algorithm().is_shared()) {
            let advice = "enrol the public key of this member of staff";
            let expected = "a public key, not a shared secret";
            r.fault(
                s.line,
                &s.subject("keys"),
                expected,
                &format!("{:?}", key.id),
                advice,
            );
        }
        self.staff_keys.extend(keys);
        s.end(r);
    }
}
