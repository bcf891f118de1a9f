//! The tables about institutions: how each is reached, what it offers, and its adapter.

mod connection;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::config::capabilities::{Capability, UnmetRequirement, demanded, unmet_requirements};
use crate::config::conditions::currencies;
use crate::config::enrolment::served::{check_modes, mode, mode_shape};
use crate::config::enrolment::{Enrolment, INSTITUTION, NAME, name, validities};
use crate::config::gateway::{KEY_ID, ORIGIN, plain_origin};
use crate::config::institutions::connection::leg;
use crate::config::named::{day, text};
use crate::config::outline::mark;
use crate::config::reading::{ConfigReader, ExpectedValue, Located, shape};
use crate::config::section::{DayBoundary, Section};
use crate::config::{KeyClass, KeySummary};
use crate::domain::amount::Currency;
use crate::domain::identifiers::{InstitutionId, KeyId};
use crate::domain::institutions::{
    Credentials, Facts, InstitutionProfile, Mode, RefundKinds, RefundRules, Waiver,
};
use crate::institution::{ALWAYS, InstitutionKind, KINDS, Settings, kind};
use crate::signature::{EnrolledKey, KeyRing, SigningKey};

/// Days in which money may be asked back, where nothing is said.
const REFUND_WINDOW_DAYS: u64 = 365;

/// How an institution is called, as far as it could be read.
struct InstitutionCallSettings {
    kind: Option<&'static InstitutionKind>,
    origin: Option<String>,
    merchant_name: Option<String>,
    signing: Option<Arc<SigningKey>>,
    signs_within: RangeInclusive<i64>,
    keys: Vec<EnrolledKey>,
    facts: Option<Facts>,
}

impl InstitutionCallSettings {
    /// What signs for us and what proves its word.
    fn credentials(&self) -> Credentials {
        let signs = self.signing.as_ref().map(|_| self.signs_within.clone());
        Credentials::default()
            .and(signs.into_iter().collect())
            .proven_by(validities(&self.keys))
    }
}

impl Enrolment {
    pub(super) fn institution(
        &mut self,
        r: &mut ConfigReader<'_>,
        mut s: Section<'_>,
        callback_origin: Option<&str>,
    ) {
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
        let reached = self.reached(r, &mut s, owner);
        let at = reached
            .kind
            .map(|kind| kind.name)
            .zip(reached.origin.clone());
        // Nothing new goes where it could not be signed, proven or sent; what was begun waits.
        let (leg, credentials) = leg(r, &mut s, at, reached.credentials());
        s.end(r);
        let Some(Located { value: id, .. }) = id else {
            return;
        };
        self.capabilities.insert(id.clone(), offers.capabilities);
        if !offers.is_whole {
            self.partly_read.insert(id.clone());
        }
        self.connections.extend(leg.map(|leg| (id.clone(), leg)));
        let facts = reached.facts.clone();
        self.adapter(r, &s, &id, reached, callback_origin);
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

    /// Kind, address and keys of both sides.
    fn reached(
        &mut self,
        r: &mut ConfigReader<'_>,
        s: &mut Section<'_>,
        owner: Option<&str>,
    ) -> InstitutionCallSettings {
        const KIND: ExpectedValue = shape("the name of a dialect", "\"standard\"");
        let found = s.mandatory(r, "kind", KIND, text);
        let dialect = found.as_ref().and_then(|found| kind(found.value));
        if let (Some(found), None) = (&found, dialect) {
            let names: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
            let expected = format!("one of {}", names.join(", "));
            let there = format!("{:?}", found.value);
            r.fault(
                found.line,
                &s.subject("kind"),
                &expected,
                &there,
                "correct it",
            );
        }
        let origin = s.mandatory(r, "url", ORIGIN, |v| text(v).and_then(plain_origin));
        let merchant_name = s.may(r, "merchant_name", NAME, |v| v.as_str().and_then(name));
        let key_id = s.mandatory(r, "key_id", KEY_ID, |v| KeyId::parse(v.as_str()?).ok());
        if let Some(id) = &key_id {
            r.once(&mut self.key_ids, id, &s.subject("key_id"));
        }
        let signing = s.signing_key(r, "key", key_id.as_ref().map(|id| id.value.as_str()));
        let validity_s = own_key_span(r, s);
        if let (Some(key), Some(owner)) = (&signing, owner) {
            self.notes.push(KeySummary {
                id: key.id().to_owned(),
                owner: format!("this gateway towards {owner}"),
                class: KeyClass::OursAtInstitution,
                mark: mark(key.public_pem().as_bytes()),
                algorithm: key.algorithm().name(),
                validity_s,
            });
        }
        let keys = self.public_keys(r, s, owner, KeyClass::Institution);
        if keys.iter().any(|it| it.key.algorithm().is_shared()) {
            // V3, R-6.3.1-1b: its word moves money, so nobody else may be able to speak it.
            let expected = "a public key of the institution";
            let advice = "ask the institution for one: a shared secret proves nothing to others";
            r.fault(
                s.line,
                &s.subject("keys"),
                expected,
                "a shared secret",
                advice,
            );
        }
        InstitutionCallSettings {
            kind: dialect,
            origin: origin.map(|found| found.value),
            merchant_name: merchant_name.map(|found| found.value),
            signing,
            signs_within: validity_s.map_or(ALWAYS, |(from, until)| from..=until),
            keys,
            facts: facts(r, s, dialect),
        }
    }

    fn adapter(
        &mut self,
        r: &mut ConfigReader<'_>,
        s: &Section<'_>,
        id: &InstitutionId,
        reached: InstitutionCallSettings,
        callback_origin: Option<&str>,
    ) {
        let (Some(kind), Some(facts)) = (reached.kind, reached.facts) else {
            return;
        };
        let (Some(origin), Some(signing), Some(callback_origin)) =
            (reached.origin, reached.signing, callback_origin)
        else {
            return;
        };
        // An id that comes twice is a fault already.
        let Ok(keys) = KeyRing::new(reached.keys) else {
            return;
        };
        let settings = Settings {
            id: id.clone(),
            origin,
            callback_origin: callback_origin.to_owned(),
            merchant_name: reached.merchant_name,
            signing,
            signs_within: reached.signs_within,
            keys,
            facts,
        };
        match (kind.build)(settings) {
            Ok(adapter) => {
                self.adapters.insert(id.clone(), adapter);
            }
            Err(fault) => {
                let expected = format!("what the dialect {} needs", kind.name);
                r.fault(
                    s.line,
                    &s.title,
                    &expected,
                    &fault.to_string(),
                    "correct it",
                );
            }
        }
    }
}

/// From when until when our own key there signs (R-6.3.1-1c). Left out, the key never ends, which is
/// worth a warning: only the institution knows then when it stops believing it. Unit: Unix seconds.
fn own_key_span(r: &mut ConfigReader<'_>, s: &mut Section<'_>) -> Option<(i64, i64)> {
    let names = ["key_not_before", "key_not_after"];
    let subject = s.subject(names[1]);
    if !names.iter().any(|name| s.has(name)) {
        let expected = "the last day of our own key, and key_not_before, its first";
        let advice = "write what was agreed with the institution, so that its end is told in time";
        let note = r.note(s.line, &subject, expected, "nothing", advice);
        r.warnings.push(note);
        return None;
    }
    let span = s.span(r, names)?;
    let found = format!("one from {} to {}", day(span.0), day(span.1));
    let both = ("a key in force today", &*found);
    let advice = "nothing can be signed: name the key that is in force, or its days";
    if r.in_force(vec![span.0..=span.1], (s.line, &subject), both, advice) {
        r.ends_soon(s.line, &subject, Some(span.1));
    }
    Some(span)
}

/// What an institution offers, by the lists in its table.
struct InstitutionOffer {
    modes: Vec<Mode>,
    currencies: Vec<Currency>,
    capabilities: Vec<Capability>,
    waivers: Vec<Waiver>,
    /// Whether every entry was read: what is missing otherwise may be what is agreed on.
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

/// What is lacking of clause 6.2 for every mode and for the aggregated lists, and the waivers from
/// it that an operator has recorded.
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

/// `waivers`: what the institution lacks and is offered without, why, and who decided it.
fn waivers(r: &mut ConfigReader<'_>, s: &mut Section<'_>) -> Vec<Located<Waiver>> {
    const REQUIREMENT: ExpectedValue = shape(
        "R-6.1.5-2, or the id of a MUST of clause 6.2",
        "\"R-6.2.1-3\"",
    );
    const REASON: ExpectedValue = shape(
        "why it is offered all the same",
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

/// What the dialect can do, as far as an operator may know better.
fn facts(
    r: &mut ConfigReader<'_>,
    s: &mut Section<'_>,
    kind: Option<&InstitutionKind>,
) -> Option<Facts> {
    let Some(kind) = kind else {
        s.knows(&["visibility_s", "calls_per_second"]);
        return None;
    };
    let least_s = kind.facts.visibility_ms.div_ceil(1_000);
    // Never below the dialect's own: "not found" before that proves nothing (A5).
    let visibility_s = s.number(r, "visibility_s", least_s, least_s..=604_800);
    let default = u64::from(kind.facts.calls_per_second);
    let calls = s.number(r, "calls_per_second", default, 1..=100_000);
    Some(Facts {
        visibility_ms: visibility_s.saturating_mul(1_000),
        calls_per_second: u32::try_from(calls).unwrap_or(u32::MAX),
        ..kind.facts.clone()
    })
}

/// How long after a payment money may be asked back: a year, where the institution says nothing.
fn refund_window(r: &mut ConfigReader<'_>, s: &mut Section<'_>) -> Duration {
    let days = s.number(r, "refund_window_days", REFUND_WINDOW_DAYS, 1..=1_830);
    Duration::from_hours(days.saturating_mul(24))
}
