//! Shared parts of the tables of merchants and institutions, and checks across tables.
//!
//! Each table is read whole before tables are compared with each other, so that one fault does not hide or
//! cause another.

mod contracts;
pub(super) mod owners;
mod products;
pub(super) mod public_keys;
pub(super) mod served;
mod staff;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::config::capabilities::Capability;
use crate::config::conditions::{payers, sums};
use crate::config::enrolment::owners::KeyNote;
use crate::config::institutions::accounts::{KnownAccount, PendingInstitution};
use crate::config::named::text;
use crate::config::reading::{ConfigReader, ExpectedValue, Located, shape};
use crate::config::section::{DayBoundary, Section};
use crate::config::{AdmissionReview, InstitutionConnection};
use crate::domain::identifiers::{InstitutionId, MerchantId};
use crate::domain::institutions::{
    AccountKey, AccountProfile, Contract, InstitutionProfile as Enrolled, Mode, Route, Validity,
};
use crate::domain::merchant::{Admission, Merchant};
use crate::institution::{Institution, InstitutionKind, SettingValues};
use crate::signature::EnrolledKey;

pub(super) const NAME: ExpectedValue = shape("a name of 1 to 64 characters", "\"Tea House\"");
pub(super) const MERCHANT: ExpectedValue =
    shape("a merchant's id, 1 to 32 of A-Z a-z 0-9 _ -", "\"M1001\"");
pub(super) const INSTITUTION: ExpectedValue = shape(
    "an institution's id, 1 to 32 of A-Z a-z 0-9 _ -",
    "\"bluebank\"",
);

/// Everything read about other parties; what is missing had a fault.
#[derive(Default)]
pub(super) struct Enrolment {
    /// Ids of the keys of merchants, staff and the platform, with their lines: these ids are unique in the
    /// file. Ids of an account's keys are unique within the account.
    pub(super) key_ids: BTreeMap<String, usize>,
    pub(super) merchant_ids: BTreeMap<String, usize>,
    pub(super) institution_ids: BTreeMap<String, usize>,
    pub(super) merchants: HashMap<MerchantId, Merchant>,
    pub(super) merchant_keys: Vec<EnrolledKey>,
    pub(super) staff_keys: Vec<EnrolledKey>,
    pub(super) institutions: HashMap<InstitutionId, Enrolled>,
    /// The dialect of every institution whose table names one.
    pub(super) kinds: HashMap<InstitutionId, &'static InstitutionKind>,
    /// Institutions whose adapters are not built yet.
    pub(super) pending: BTreeMap<InstitutionId, PendingInstitution>,
    pub(super) accounts: HashMap<AccountKey, AccountProfile>,
    /// Every account with a readable id, with or without faults.
    pub(super) known_accounts: BTreeMap<AccountKey, KnownAccount>,
    pub(super) capabilities: HashMap<InstitutionId, Vec<Capability>>,
    pub(super) adapters: HashMap<InstitutionId, Arc<dyn Institution>>,
    pub(super) connections: HashMap<InstitutionId, InstitutionConnection>,
    pub(super) contracts: HashMap<(MerchantId, InstitutionId), Contract>,
    /// The `sub` of contracts with a provider's account.
    pub(super) sub_merchants: HashMap<(MerchantId, InstitutionId), SettingValues>,
    pub(super) routes: Vec<Route>,
    pub(super) notes: Vec<KeyNote>,
    pub(super) admission_reviews: Vec<AdmissionReview>,
    /// Institutions with a list that could not be read whole: a missing entry proves nothing.
    pub(super) partly_read: HashSet<InstitutionId>,
    /// The modes of every contract with known parties, including faulty contracts.
    contracted: HashMap<(MerchantId, InstitutionId), Vec<Mode>>,
    pub(super) defaults: Vec<(MerchantId, Mode, Located<InstitutionId>)>,
}

impl Enrolment {
    /// The review state of a merchant or institution, with evidence and day (R-4-3).
    pub(super) fn admission(
        &mut self,
        r: &mut ConfigReader<'_>,
        s: &mut Section<'_>,
        who: Option<&str>,
    ) -> Option<Admission> {
        const STATE: ExpectedValue = shape("one of applied, admitted, suspended", "\"applied\"");
        const EVIDENCE: ExpectedValue = shape(
            "where the evidence of this state is (R-4-3)",
            "\"contract 2026-17, reviewed by staff\"",
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

    pub(super) fn institution_named(
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

    /// Checks across all tables.
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
                    "[[account]]",
                    !self.known_accounts.keys().any(|(it, _)| it.as_str() == id),
                ),
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

/// The validity of each key.
pub(super) fn validities(keys: &[EnrolledKey]) -> Vec<Validity> {
    let validity = |key: &EnrolledKey| key.not_before_s..=key.not_after_s;
    keys.iter().map(validity).collect()
}

pub(super) fn must_be_known(
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
