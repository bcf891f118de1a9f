//! What merchants and institutions have in common, their contracts, and the routes of payments.
//!
//! Each table is read whole before tables are held against each other, so that one fault does not
//! hide or cause another.

mod operators;
mod owners;
pub(super) mod served;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::config::capabilities::Capability;
use crate::config::conditions::{payers, sums};
use crate::config::enrolment::served::{check_served, mode, mode_shape, type_shape};
use crate::config::gateway::KEY_ID;
use crate::config::named::{day, text};
use crate::config::reading::{ConfigReader, ExpectedValue, Located, shape};
use crate::config::section::{DayBoundary, Section};
use crate::config::{AdmissionReview, InstitutionConnection, KeyClass, KeySummary};
use crate::domain::identifiers::{AccountId, InstitutionId, KeyId, MerchantId, ReceiverId};
use crate::domain::institutions::{
    Contract, InstitutionProfile as Enrolled, Mode, Route, TransactionType, Validity,
};
use crate::domain::merchant::{Admission, Merchant};
use crate::institution::Institution;
use crate::signature::EnrolledKey;

pub(super) const NAME: ExpectedValue = shape("a name of 1 to 64 characters", "\"Tea House\"");
pub(super) const MERCHANT: ExpectedValue =
    shape("a merchant's id, 1 to 32 of A-Z a-z 0-9 _ -", "\"M1001\"");
pub(super) const INSTITUTION: ExpectedValue = shape(
    "an institution's id, 1 to 32 of A-Z a-z 0-9 _ -",
    "\"bluebank\"",
);

/// Everything that was read about others, sound or not: what is absent here was a fault.
#[derive(Default)]
pub(super) struct Enrolment {
    /// Ids of keys and the lines they stand on, whosever they are: a key is found by its id.
    pub(super) key_ids: BTreeMap<String, usize>,
    pub(super) merchant_ids: BTreeMap<String, usize>,
    pub(super) institution_ids: BTreeMap<String, usize>,
    pub(super) merchants: HashMap<MerchantId, Merchant>,
    pub(super) merchant_keys: Vec<EnrolledKey>,
    pub(super) operator_keys: Vec<EnrolledKey>,
    pub(super) institutions: HashMap<InstitutionId, Enrolled>,
    pub(super) capabilities: HashMap<InstitutionId, Vec<Capability>>,
    pub(super) adapters: HashMap<InstitutionId, Arc<dyn Institution>>,
    pub(super) connections: HashMap<InstitutionId, InstitutionConnection>,
    pub(super) contracts: HashMap<(MerchantId, InstitutionId), Contract>,
    pub(super) routes: Vec<Route>,
    pub(super) notes: Vec<KeySummary>,
    pub(super) admission_reviews: Vec<AdmissionReview>,
    /// Institutions of which a list was not read whole: that something is not on it says nothing.
    pub(super) partly_read: HashSet<InstitutionId>,
    /// The modes of every contract that names its two parties, whatever else is wrong with it.
    contracted: HashMap<(MerchantId, InstitutionId), Vec<Mode>>,
    pub(super) defaults: Vec<(MerchantId, Mode, Located<InstitutionId>)>,
}

impl Enrolment {
    /// Where somebody stands in the operator's review, with evidence and day (R-4-3).
    pub(super) fn admission(
        &mut self,
        r: &mut ConfigReader<'_>,
        s: &mut Section<'_>,
        who: Option<&str>,
    ) -> Option<Admission> {
        const STATE: ExpectedValue = shape("one of applied, admitted, suspended", "\"applied\"");
        const EVIDENCE: ExpectedValue = shape(
            "where the evidence of this state is (R-4-3)",
            "\"contract 2026-17, reviewed by the operator\"",
        );
        let state = s.mandatory(r, "state", STATE, |v| match v.as_str()? {
            "applied" => Some(Admission::Applied),
            "admitted" => Some(Admission::Admitted),
            "suspended" => Some(Admission::Suspended),
            _ => None,
        });
        let evidence = s.mandatory(r, "evidence", EVIDENCE, text);
        let since = s.moment(r, "since", DayBoundary::First);
        if let (Some(state), Some(evidence), Some(since), Some(who)) =
            (&state, evidence, since, who)
        {
            self.admission_reviews.push(AdmissionReview {
                who: who.to_owned(),
                admission: state.value,
                evidence: evidence.value.to_owned(),
                since_s: since.value,
            });
        }
        state.map(|found| found.value)
    }

    /// `keys[]` of a merchant or an institution: without one, nothing it says can be believed.
    pub(super) fn public_keys(
        &mut self,
        r: &mut ConfigReader<'_>,
        s: &mut Section<'_>,
        owner: Option<&str>,
        class: KeyClass,
    ) -> Vec<EnrolledKey> {
        let mut keys = Vec::new();
        let tables = s.tables(r, "keys");
        if tables.is_empty() {
            let advice = "add a table [[….keys]] with id, algorithm, file, not_before, not_after";
            r.fault(
                s.line,
                &s.subject("keys"),
                "at least one public key",
                "none",
                advice,
            );
        }
        for mut table in tables {
            let id = table.mandatory(r, "id", KEY_ID, |v| KeyId::parse(v.as_str()?).ok());
            if let Some(id) = &id {
                r.once(&mut self.key_ids, id, &table.subject("id"));
            }
            let key = table.public_key(r, id.as_ref().map(|id| id.value.as_str()));
            let span = table.span(r, ["not_before", "not_after"]);
            if let (Some(id), Some((key, mark)), Some((from, until)), Some(owner)) =
                (id, key, span, owner)
            {
                self.notes.push(KeySummary {
                    id: id.value.to_string(),
                    owner: owner.to_owned(),
                    class,
                    mark,
                    algorithm: key.algorithm().name(),
                    validity_s: Some((from, until)),
                });
                keys.push(EnrolledKey {
                    id: id.value.to_string(),
                    owner: owner.to_owned(),
                    key,
                    not_before_s: from,
                    not_after_s: until,
                });
            }
            table.end(r);
        }
        let last = keys.iter().map(|key| key.not_after_s).max();
        let subject = s.subject("keys");
        if let Some(last_s) = last {
            let now_s = r.now.seconds();
            let next = keys.iter().map(|key| key.not_before_s);
            let found = match next.filter(|from_s| *from_s > now_s).min() {
                Some(from_s) => format!("the first day of the next one on {}", day(from_s)),
                None => format!("the end of the last one on {}", day(last_s)),
            };
            let both = ("a key in force", &*found);
            let advice = "enrol one that counts today";
            if r.in_force(validities(&keys), (s.line, &subject), both, advice) {
                r.ends_soon(s.line, &subject, last);
            }
        }
        keys
    }

    pub(super) fn contract(&mut self, r: &mut ConfigReader<'_>, mut s: Section<'_>) {
        const ACCOUNT: ExpectedValue = shape("1 to 64 of A-Z a-z 0-9 _ -", "\"88001001\"");
        const HOURS: ExpectedValue = shape("opening hours HH:MM-HH:MM", "\"08:00-22:00\"");
        let merchant = s.mandatory(r, "merchant", MERCHANT, |v| {
            MerchantId::parse(v.as_str()?).ok()
        });
        let institution = self.institution_named(r, &mut s);
        if let Some(found) = &merchant {
            let known = self.merchant_ids.contains_key(found.value.as_str());
            must_be_known(r, &s, "merchant", found, known);
        }
        let receiver = s.mandatory(r, "account", ACCOUNT, |v| {
            ReceiverId::parse(v.as_str()?).ok()
        });
        let modes = s.some(r, "modes", mode_shape(), mode);
        let kinds = s.some(r, "transaction_types", type_shape(), |text| {
            TransactionType::ALL
                .into_iter()
                .find(|kind| kind.name() == text)
        });
        s.knows(&["currencies", "amount_min", "amount_max", "sums"]);
        let sums = institution
            .as_ref()
            .and_then(|found| self.agreed_sums(r, &mut s, &found.value));
        let payers = payers(r, &mut s);
        let stopped = s.flag(r, "stopped", false);
        let hours = s.may(r, "hours", HOURS, |v| v.as_str().and_then(hours));
        s.end(r);
        let (Some(merchant), Some(institution)) = (merchant, institution) else {
            return;
        };
        let key = (merchant.value, institution.value);
        self.check_offered(r, &s, &key.1, &modes, &kinds);
        check_served(r, &s, &modes, &kinds);
        let modes: Vec<Mode> = modes.into_iter().map(|found| found.value).collect();
        if self.contracted.insert(key.clone(), modes.clone()).is_some() {
            let found = format!("a second one of {} with {}", key.0, key.1);
            let advice = "join the two";
            r.fault(
                s.line,
                &s.title,
                "one contract of each pair",
                &found,
                advice,
            );
        }
        let (Some(receiver), Some(sums)) = (receiver, sums) else {
            return;
        };
        // Both have the same shape.
        let Ok(account) = AccountId::parse(receiver.value.as_str()) else {
            return;
        };
        let contract = Contract {
            merchant: key.0.clone(),
            institution: key.1.clone(),
            account,
            receiver: receiver.value,
            modes,
            transaction_types: kinds.into_iter().map(|found| found.value).collect(),
            stopped,
            sums,
            payers,
            hours: hours.map(|found| found.value),
        };
        self.contracts.insert(key, contract);
    }

    /// A contract gives nothing that the institution does not offer.
    fn check_offered(
        &self,
        r: &mut ConfigReader<'_>,
        s: &Section<'_>,
        institution: &InstitutionId,
        modes: &[Located<Mode>],
        kinds: &[Located<TransactionType>],
    ) {
        if self.partly_read.contains(institution) {
            return;
        }
        let advice = "remove it here, or add it to the institution";
        if let Some(offered) = self.institutions.get(institution) {
            for mode in modes
                .iter()
                .filter(|mode| !offered.modes.contains(&mode.value))
            {
                let expected = format!("a mode that {institution} offers");
                let found = mode.value.name();
                r.fault(mode.line, &s.subject("modes"), &expected, found, advice);
            }
        }
        let Some(capabilities) = self.capabilities.get(institution) else {
            return;
        };
        for kind in kinds {
            let needed = Capability::for_payment(kind.value);
            if !capabilities.contains(&needed) {
                let word = needed.word();
                let expected = format!("a kind that {institution} offers ({word})");
                let found = kind.value.name();
                r.fault(
                    kind.line,
                    &s.subject("transaction_types"),
                    &expected,
                    found,
                    advice,
                );
            }
        }
    }

    pub(super) fn route(&mut self, r: &mut ConfigReader<'_>, mut s: Section<'_>) {
        let institution = self.institution_named(r, &mut s);
        let place = u64::try_from(self.routes.len()).unwrap_or(u64::MAX);
        let order = s.number(r, "order", place.saturating_add(1), 0..=1_000_000);
        let payers = payers(r, &mut s);
        let sums = sums(r, &mut s);
        let stopped = s.flag(r, "stopped", false);
        s.end(r);
        if let (Some(institution), Some(sums)) = (institution, sums) {
            self.routes.push(Route {
                institution: institution.value,
                stopped,
                sums: sums.into_iter().map(|found| found.value).collect(),
                payers,
                order: u32::try_from(order).unwrap_or(u32::MAX),
            });
        }
    }

    fn institution_named(
        &self,
        r: &mut ConfigReader<'_>,
        s: &mut Section<'_>,
    ) -> Option<Located<InstitutionId>> {
        let read = |text: &str| InstitutionId::parse(text).ok();
        let found = s.mandatory(r, "institution", INSTITUTION, |v| v.as_str().and_then(read))?;
        let known = self.institution_ids.contains_key(found.value.as_str());
        must_be_known(r, s, "institution", &found, known);
        Some(found)
    }

    /// What only shows when every table is read.
    pub(super) fn settle(&mut self, r: &mut ConfigReader<'_>) {
        const SUBJECT: &str = "[merchant.default_institution]";
        self.check_owners(r);
        for (merchant, mode, named) in std::mem::take(&mut self.defaults) {
            let modes = self
                .contracted
                .get(&(merchant.clone(), named.value.clone()));
            if modes.is_none_or(|modes| !modes.contains(&mode)) {
                let expected = format!(
                    "an institution that {merchant} has a contract with for {}",
                    mode.name()
                );
                let found = format!("{:?}", named.value.as_str());
                let advice = "add the [[contract]], or name another institution";
                r.fault(named.line, SUBJECT, &expected, &found, advice);
            } else if let Some(merchant) = self.merchants.get_mut(&merchant) {
                merchant.default_institutions.insert(mode, named.value);
            }
        }
        for (id, line) in &self.institution_ids {
            let lacks = [
                (
                    "[[route]]",
                    !self.routes.iter().any(|it| it.institution.as_str() == id),
                ),
                (
                    "[[contract]]",
                    !self.contracts.keys().any(|(_, it)| it.as_str() == id),
                ),
            ];
            for (table, _) in lacks.into_iter().filter(|(_, is_lacking)| *is_lacking) {
                let expected = format!("a {table} that names {id}");
                let advice = "nobody is offered it until there is one";
                let note = r.note(*line, "[[institution]]", &expected, "none", advice);
                r.warnings.push(note);
            }
        }
    }
}

/// When each of these keys is in force.
pub(super) fn validities(keys: &[EnrolledKey]) -> Vec<Validity> {
    let validity = |key: &EnrolledKey| key.not_before_s..=key.not_after_s;
    keys.iter().map(validity).collect()
}

fn must_be_known(
    r: &mut ConfigReader<'_>,
    s: &Section<'_>,
    name: &'static str,
    found: &Located<impl std::fmt::Display>,
    is_known: bool,
) {
    if !is_known {
        let expected = format!("the id of a [[{name}]] of this file");
        let there = format!("\"{}\"", found.value);
        let advice = format!("add the [[{name}]], or correct the id");
        r.fault(found.line, &s.subject(name), &expected, &there, &advice);
    }
}

pub(super) fn name(text: &str) -> Option<String> {
    let fits = (1..=64).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
}

/// Minutes of the day, end excluded; may pass midnight.
fn hours(text: &str) -> Option<(u16, u16)> {
    let minute = |text: &str| {
        let (hour, minute) = text.split_once(':')?;
        if hour.len() != 2 || minute.len() != 2 {
            return None;
        }
        let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
        let at = hour.checked_mul(60)?.checked_add(minute)?;
        (minute < 60 && at <= 1_440).then_some(at)
    };
    let (from, until) = text.split_once('-')?;
    let (from, until) = (minute(from)?, minute(until)?);
    (from < 1_440 && from != until).then_some((from, until))
}
