//! The tables about institutions: their connections, capabilities and accounts.

pub(super) mod accounts;
mod connection;
pub(super) mod settings;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::capabilities::{Capability, UnmetRequirement, demanded, unmet_requirements};
use crate::config::conditions::currencies;
use crate::config::enrolment::served::{check_modes, mode, mode_shape};
use crate::config::enrolment::{Enrolment, INSTITUTION, NAME, name};
use crate::config::institutions::accounts::PendingInstitution;
use crate::config::institutions::connection::leg;
use crate::config::institutions::settings::{ReadSettings, SettingsReader};
use crate::config::named::text;
use crate::config::reading::{ConfigReader, ExpectedValue, Located, shape};
use crate::config::section::{DayBoundary, Section};
use crate::domain::amount::Currency;
use crate::domain::identifiers::InstitutionId;
use crate::domain::institutions::{
    Facts, InstitutionProfile, Mode, Product, Rates, RefundKinds, RefundRules, Visibility, Waiver,
};
use crate::institution::{InstitutionKind, KINDS, URL, kind};

/// Default refund window. Unit: days.
const REFUND_WINDOW_DAYS: u64 = 365;

impl Enrolment {
    pub(super) fn institution(&mut self, r: &mut ConfigReader<'_>, mut s: Section<'_>) {
        const LOGO: ExpectedValue = shape("an https address", "\"https://bank.example/logo.png\"");
        let id = s.mandatory(r, "id", INSTITUTION, |v| {
            InstitutionId::parse(v.as_str()?).ok()
        });
        if let Some(id) = &id {
            r.once(&mut self.institution_ids, id, &s.subject("id"));
        }
        let owner = id.as_ref().map(|id| id.value.as_str());
        let chinese = s.mandatory(r, "name", NAME, |v| v.as_str().and_then(name));
        let english = s.mandatory(r, "name_en", NAME, |v| v.as_str().and_then(name));
        let logo_url = s.may(r, "logo_url", LOGO, |v| {
            text(v).filter(|url| crate::domain::merchant::origin(url).is_some())
        });
        let admission = self.admission(r, &mut s, owner);
        let stopped = s.flag(r, "stopped", false);
        let offers = offers(r, &mut s);
        let has = |capability| offers.capabilities.contains(&capability);
        let kinds = RefundKinds {
            full: has(Capability::FullRefund),
            partial: has(Capability::PartialRefund),
            repeated: has(Capability::RepeatedRefund),
        };
        let refunds = RefundRules {
            kinds,
            window: refund_window(r, &mut s),
        };
        let (dialect, read) = self.dialect(r, &mut s);
        let facts = facts(r, &mut s, dialect);
        let url = read.values.text(URL).map(ToOwned::to_owned);
        let at = dialect.map(|kind| kind.name).zip(url);
        // Without a connection nothing new is started; what was started waits.
        let (leg, credentials) = leg(r, &mut s, at, read.credentials);
        s.end(r);
        let Some(Located { value: id, .. }) = id else {
            return;
        };
        self.capabilities.insert(id.clone(), offers.capabilities);
        if !offers.is_whole {
            self.partly_read.insert(id.clone());
        }
        self.connections.extend(leg.map(|leg| (id.clone(), leg)));
        let known = dialect.zip(facts.clone());
        let pending =
            known.map(|(kind, facts)| PendingInstitution::new(kind, facts, read.values, s.line));
        self.kinds.extend(dialect.map(|kind| (id.clone(), kind)));
        self.pending.extend(pending.map(|it| (id.clone(), it)));
        let (Some(chinese), Some(english), Some(admission), Some(facts)) =
            (chinese, english, admission, facts)
        else {
            return;
        };
        let institution = InstitutionProfile {
            id: id.clone(),
            name: chinese.value,
            name_en: english.value,
            logo_url: logo_url.map(|found| found.value.to_owned()),
            admission,
            stopped,
            modes: offers.modes,
            currencies: offers.currencies,
            refunds,
            waivers: offers.waivers,
            facts,
            credentials,
        };
        self.institutions.insert(id, institution);
    }

    /// Its dialect, and what that declares.
    fn dialect(
        &mut self,
        r: &mut ConfigReader<'_>,
        s: &mut Section<'_>,
    ) -> (Option<&'static InstitutionKind>, ReadSettings) {
        const KIND: ExpectedValue = shape("the name of a dialect", "\"standard\"");
        let found = s.mandatory(r, "kind", KIND, text);
        let dialect = found.as_ref().and_then(|found| kind(found.value));
        if let (Some(found), None) = (&found, dialect) {
            let names: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
            let expected = format!("one of {}", names.join(", "));
            let there = format!("{:?}", found.value);
            let advice = "correct it; paymux check --kinds shows what each needs";
            r.fault(found.line, &s.subject("kind"), &expected, &there, advice);
        }
        let Some(dialect) = dialect else {
            let all = KINDS.iter().flat_map(|kind| kind.institution_settings);
            s.knows(&all.map(|setting| setting.name).collect::<Vec<_>>());
            return (None, ReadSettings::default());
        };
        let mut key_ids = BTreeMap::new();
        let reader = SettingsReader {
            section: s,
            holder: None,
            key_ids: &mut key_ids,
        };
        let read = self.settings(r, reader, dialect.institution_settings);
        (Some(dialect), read)
    }
}

/// What an institution offers, from the lists in its table.
struct InstitutionOffer {
    modes: Vec<Mode>,
    currencies: Vec<Currency>,
    capabilities: Vec<Capability>,
    waivers: Vec<Waiver>,
    /// Whether every entry could be read; if not, a missing entry proves nothing.
    is_whole: bool,
}

fn offers(r: &mut ConfigReader<'_>, s: &mut Section<'_>) -> InstitutionOffer {
    const REQUEST_PREFIX: ExpectedValue = shape(
        "one of password_pay, password_free_pay, full_refund, partial_refund, repeated_refund, \
         bind_card, reset_password, queries, personal_services, scan_pay",
        "\"password_pay\"",
    );
    let before = r.faults.len();
    let modes = s.some(r, "modes", mode_shape(), mode);
    let currencies = currencies(r, s);
    let others = r.faults.len();
    let capabilities = s.list(r, "capabilities", REQUEST_PREFIX, Capability::parse);
    let after = r.faults.len();
    check_modes(r, &s.subject("modes"), &modes);
    let modes: Vec<_> = modes.into_iter().map(|found| found.value).collect();
    let capabilities: Vec<_> = capabilities.into_iter().map(|found| found.value).collect();
    let lacks = if others == after {
        unmet_requirements(&modes, &capabilities)
    } else {
        Vec::new()
    };
    InstitutionOffer {
        waivers: check_waivers(r, s, &lacks),
        modes,
        currencies: currencies.into_iter().map(|found| found.value).collect(),
        capabilities,
        is_whole: before == after,
    }
}

/// Reports each unmet requirement of clause 6.2, of every mode and of the aggregated lists, and returns the
/// recorded waivers.
fn check_waivers(
    r: &mut ConfigReader<'_>,
    s: &mut Section<'_>,
    lacks: &[UnmetRequirement],
) -> Vec<Waiver> {
    let recorded = waivers(r, s);
    let subject = s.subject("capabilities");
    for lack in lacks {
        let expected = format!("{}, a MUST: {}", lack.requirement, lack.what);
        let waiver = recorded
            .iter()
            .find(|found| found.value.requirement == lack.requirement);
        if let Some(Located { value, line }) = waiver {
            let there = format!("a waiver: {}", value.reason);
            let advice = format!("{} decided it", value.by);
            let note = r.note(*line, &subject, &expected, &there, &advice);
            r.warnings.push(note);
        } else {
            let advice = "declare what it can do, drop the mode, or record \
                          [[institution.waivers]] with requirement, reason, by and since";
            r.fault(s.line, &subject, &expected, "none of it", advice);
        }
    }
    for Located { value, line } in &recorded {
        let lacks_it = |lack: &UnmetRequirement| lack.requirement == value.requirement;
        if !lacks.iter().any(lacks_it) {
            let expected = "a waiver of what is lacking";
            let there = format!("{}, which is fulfilled", value.requirement);
            let subject = s.subject("waivers");
            let note = r.note(*line, &subject, expected, &there, "remove it");
            r.warnings.push(note);
        }
    }
    recorded.into_iter().map(|found| found.value).collect()
}

/// `waivers`: an unmet requirement, why the institution is offered without it, and who decided that.
fn waivers(r: &mut ConfigReader<'_>, s: &mut Section<'_>) -> Vec<Located<Waiver>> {
    const REQUIREMENT: ExpectedValue = shape(
        "R-6.1.5-2, or the id of a MUST of clause 6.2",
        "\"R-6.2.1-3\"",
    );
    const REASON: ExpectedValue = shape(
        "why it is offered nevertheless",
        "\"contract 2026-17, annex 2\"",
    );
    const BY: ExpectedValue = shape("who decided it", "\"head of operations\"");
    let mut recorded: Vec<Located<Waiver>> = Vec::new();
    for mut table in s.tables(r, "waivers") {
        let requirement = table.mandatory(r, "requirement", REQUIREMENT, |v| {
            text(v).filter(|id| demanded(id))
        });
        let reason = table.mandatory(r, "reason", REASON, |v| v.as_str().and_then(name));
        let by = table.mandatory(r, "by", BY, |v| v.as_str().and_then(name));
        let since = table.moment(r, "since", DayBoundary::First);
        table.end(r);
        let (Some(requirement), Some(reason), Some(by), Some(since)) =
            (requirement, reason, by, since)
        else {
            continue;
        };
        recorded.push(Located {
            line: requirement.line,
            value: Waiver {
                requirement: requirement.value.to_owned(),
                reason: reason.value,
                by: by.value,
                since_s: since.value,
            },
        });
    }
    recorded
}

/// What the dialect can do, with the values that the configuration may override.
fn facts(
    r: &mut ConfigReader<'_>,
    s: &mut Section<'_>,
    kind: Option<&InstitutionKind>,
) -> Option<Facts> {
    let Some(kind) = kind else {
        s.knows(&["visibility_s", "calls_per_second"]);
        return None;
    };
    let declared = kind.facts();
    let least_s = least_visibility(&declared).as_secs();
    // Never below the dialect's own: an earlier "not found" proves nothing (A5).
    let visibility_s = s.number(r, "visibility_s", least_s, least_s..=604_800);
    let default = u64::from(declared.rates.calls_per_second);
    let calls = s.number(r, "calls_per_second", default, 1..=100_000);
    let least = Duration::from_secs(visibility_s);
    let products = declared.products.into_iter().map(|product| Product {
        visibility: product.visibility.at_least(least),
        ..product
    });
    Some(Facts {
        products: products.collect(),
        refund_visibility: declared.refund_visibility.max(least),
        rates: Rates {
            calls_per_second: u32::try_from(calls).unwrap_or(u32::MAX),
            ..declared.rates
        },
        repeatable_refund: declared.repeatable_refund,
        callback_path: declared.callback_path,
    })
}

/// The shortest time after which any "not found" counts.
fn least_visibility(facts: &Facts) -> Duration {
    let products = facts.products.iter();
    let limits = products.filter_map(|one| match one.visibility {
        Visibility::AfterSend(limit) | Visibility::AfterDeadline(limit) => Some(limit),
        Visibility::AfterStatement => None,
    });
    limits.fold(facts.refund_visibility, Duration::min)
}

/// How long after a payment it may be refunded; a year by default.
fn refund_window(r: &mut ConfigReader<'_>, s: &mut Section<'_>) -> Duration {
    let days = s.number(r, "refund_window_days", REFUND_WINDOW_DAYS, 1..=1_830);
    Duration::from_hours(days.saturating_mul(24))
}
