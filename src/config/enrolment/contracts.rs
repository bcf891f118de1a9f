//! `[[contract]]`: what a merchant agreed with an institution, and through which account it is paid.

use crate::config::capabilities::Capability;
use crate::config::conditions::payers;
use crate::config::enrolment::products::{fee, products};
use crate::config::enrolment::served::{check_served, mode, mode_shape, type_shape};
use crate::config::enrolment::{Enrolment, MERCHANT, must_be_known};
use crate::config::reading::{ConfigReader, ExpectedValue, Located, shape};
use crate::config::section::Section;
use crate::domain::identifiers::{InstitutionId, MerchantId};
use crate::domain::institutions::{Contract, Mode, TransactionType};

impl Enrolment {
    pub(in crate::config) fn contract(&mut self, r: &mut ConfigReader<'_>, mut s: Section<'_>) {
        const HOURS: ExpectedValue = shape("opening hours HH:MM-HH:MM", "\"08:00-22:00\"");
        let merchant = s.mandatory(r, "merchant", MERCHANT, |v| {
            MerchantId::parse(v.as_str()?).ok()
        });
        let institution = self.institution_named(r, &mut s);
        if let Some(found) = &merchant {
            let known = self.merchant_ids.contains_key(found.value.as_str());
            must_be_known(r, &s, "merchant", found, known);
        }
        let at = institution.as_ref().map(|found| &found.value);
        let account = self.contract_account(r, &mut s, at);
        let modes = s.some(r, "modes", mode_shape(), mode);
        let kind = at.and_then(|id| self.kinds.get(id)).copied();
        let products = products(r, &mut s, kind, &modes);
        let fee = fee(r, &mut s);
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
        let (Some(paid), Some(sums)) = (account, sums) else {
            return;
        };
        let sub = paid.sub.map(|sub| (key.clone(), sub));
        self.sub_merchants.extend(sub);
        let contract = Contract {
            merchant: key.0.clone(),
            institution: key.1.clone(),
            account: paid.account,
            receiver: paid.receiver,
            modes,
            products,
            fee,
            transaction_types: kinds.into_iter().map(|found| found.value).collect(),
            stopped,
            sums,
            payers,
            hours: hours.map(|found| found.value),
        };
        self.contracts.insert(key, contract);
    }

    /// A contract contains only what the institution offers.
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
}

/// Minutes of the day, end excluded; may span midnight.
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
