//! `[[account]]`: our accounts at each institution, and the adapters built from them.

use std::collections::BTreeMap;

use crate::config::enrolment::Enrolment;
use crate::config::enrolment::owners::KeyHolder;
use crate::config::institutions::settings::SettingsReader;
use crate::config::reading::{ConfigReader, ExpectedValue, Located, shape};
use crate::config::section::Section;
use crate::domain::identifiers::{AccountId, InstitutionId, ReceiverId};
use crate::domain::institutions::{AccountProfile, AccountRole, CallbackPath, Facts};
use crate::institution::{
    ConfiguredAccount, ConfiguredInstitution, InstitutionKind, KINDS, SettingValues,
};

/// The id of an account.
pub(in crate::config) const ACCOUNT: ExpectedValue = shape(
    "an account's id, 1 to 64 of A-Z a-z 0-9 _ -",
    "\"tea-house\"",
);

/// An institution whose adapter is built once its accounts are read.
pub(in crate::config) struct PendingInstitution {
    kind: &'static InstitutionKind,
    facts: Facts,
    values: SettingValues,
    accounts: Vec<ConfiguredAccount>,
    line: usize,
}

impl PendingInstitution {
    /// Without accounts yet.
    pub(in crate::config) fn new(
        kind: &'static InstitutionKind,
        facts: Facts,
        values: SettingValues,
        line: usize,
    ) -> Self {
        Self {
            kind,
            facts,
            values,
            accounts: Vec::new(),
            line,
        }
    }
}

/// An account whose table was read, with or without faults.
#[derive(Clone)]
pub(in crate::config) struct KnownAccount {
    /// Absent if the word is not a role.
    pub(in crate::config) role: Option<AccountRole>,
    /// Absent if it could not be read.
    pub(in crate::config) receiver: Option<ReceiverId>,
    pub(in crate::config) line: usize,
}

/// The account that a contract names, with who receives the money.
pub(in crate::config) struct ContractAccount {
    pub(in crate::config) account: AccountId,
    pub(in crate::config) receiver: ReceiverId,
    /// The sub-merchant's settings, of a provider's account.
    pub(in crate::config) sub: Option<SettingValues>,
}

/// The longest callback address. Unit: characters.
const CALLBACK_URL_CHARS_MAX: usize = 255;

impl Enrolment {
    pub(in crate::config) fn account(&mut self, r: &mut ConfigReader<'_>, mut s: Section<'_>) {
        let id = s.mandatory(r, "id", ACCOUNT, |v| AccountId::parse(v.as_str()?).ok());
        let institution = self.institution_named(r, &mut s).map(|found| found.value);
        let kind = institution
            .as_ref()
            .and_then(|id| self.kinds.get(id))
            .copied();
        let role = role(r, &mut s, kind);
        let id_text = id.as_ref().map_or("", |id| id.value.as_str());
        let at = institution.as_ref().map_or("", InstitutionId::as_str);
        let shown = format!("{id_text} at {at}");
        let holder = (!id_text.is_empty() && !at.is_empty()).then_some(KeyHolder {
            owner: id_text,
            shown: &shown,
            party: at,
        });
        let Some(kind) = kind else {
            let all = KINDS.iter().flat_map(|kind| kind.account_settings);
            s.knows(&all.map(|setting| setting.name).collect::<Vec<_>>());
            s.end(r);
            return;
        };
        let mut key_ids = BTreeMap::new();
        let reader = SettingsReader {
            section: &mut s,
            holder,
            key_ids: &mut key_ids,
        };
        let read = self.settings(r, reader, kind.account_settings);
        s.end(r);
        let (Some(Located { value: id, line }), Some(institution)) = (id, institution) else {
            return;
        };
        let receiver = read.values.text(kind.account_receiver);
        let receiver = receiver.and_then(|text| ReceiverId::parse(text).ok());
        let known = KnownAccount {
            role,
            receiver: receiver.clone(),
            line,
        };
        let key = (institution.clone(), id.clone());
        if let Some(before) = self.known_accounts.insert(key.clone(), known) {
            let found = format!("{:?}, which line {} has taken", id.as_str(), before.line);
            let expected = format!("an id that no other account at {institution} has");
            r.fault(line, &s.subject("id"), &expected, &found, "choose another");
        }
        let (Some(role), Some(receiver)) = (role, receiver) else {
            return;
        };
        let profile = AccountProfile {
            id: id.clone(),
            institution: institution.clone(),
            role,
            receiver: receiver.clone(),
            apps: read.values.apps(),
            credentials: read.credentials,
        };
        self.accounts.insert(key, profile);
        if let Some(pending) = self.pending.get_mut(&institution) {
            pending.accounts.push(ConfiguredAccount {
                id,
                role,
                receiver,
                values: read.values,
            });
        }
    }

    /// The account that a contract names, and who receives the money.
    pub(in crate::config) fn contract_account(
        &mut self,
        r: &mut ConfigReader<'_>,
        s: &mut Section<'_>,
        institution: Option<&InstitutionId>,
    ) -> Option<ContractAccount> {
        let found = s.mandatory(r, "account", ACCOUNT, |v| {
            AccountId::parse(v.as_str()?).ok()
        });
        let kind = institution.and_then(|id| self.kinds.get(id)).copied();
        let (Some(found), Some(institution), Some(kind)) = (found, institution, kind) else {
            s.knows(&["sub"]);
            return None;
        };
        let id = found.value.clone();
        let known = self.known_accounts.get(&(institution.clone(), id.clone()));
        let Some(known) = known.cloned() else {
            s.knows(&["sub"]);
            let expected = format!("the id of an [[account]] at {institution}");
            let there = format!("{:?}", id.as_str());
            let number = kind.account_receiver;
            let advice = format!(
                "add the [[account]], or correct the id; the number at the institution is called \
                 {number} and stands there"
            );
            r.fault(
                found.line,
                &s.subject("account"),
                &expected,
                &there,
                &advice,
            );
            return None;
        };
        let Some(role) = known.role else {
            s.knows(&["sub"]);
            return None;
        };
        match role {
            AccountRole::Provider => {
                let sub = self.sub_merchant(r, s, kind, &id)?;
                let receiver = sub.text(kind.sub_receiver)?;
                Some(ContractAccount {
                    receiver: ReceiverId::parse(receiver).ok()?,
                    account: id,
                    sub: Some(sub),
                })
            }
            AccountRole::Direct => {
                if s.has("sub") {
                    let expected = format!("no sub, because account {id} is direct");
                    let advice = "remove it, or say role = \"provider\" in the [[account]]";
                    let line = s.line_of(r, "sub");
                    r.fault(line, &s.subject("sub"), &expected, "one", advice);
                }
                s.knows(&["sub"]);
                Some(ContractAccount {
                    account: id,
                    receiver: known.receiver?,
                    sub: None,
                })
            }
        }
    }

    /// The sub-merchant of a contract with a provider's account.
    fn sub_merchant(
        &mut self,
        r: &mut ConfigReader<'_>,
        s: &mut Section<'_>,
        kind: &InstitutionKind,
        account: &AccountId,
    ) -> Option<SettingValues> {
        if !s.has("sub") {
            s.knows(&["sub"]);
            let expected = format!("the sub-merchant, because account {account} is a provider's");
            let advice = format!(
                "add it, for example sub = {{ {} = \"…\" }}",
                kind.sub_receiver
            );
            r.fault(s.line, &s.subject("sub"), &expected, "nothing", &advice);
            return None;
        }
        let mut sub = s.table(r, "sub");
        let mut key_ids = BTreeMap::new();
        let reader = SettingsReader {
            section: &mut sub,
            holder: None,
            key_ids: &mut key_ids,
        };
        let read = self.settings(r, reader, kind.sub_settings);
        sub.end(r);
        Some(read.values)
    }

    /// Builds the adapter of each institution at which we have an account.
    pub(in crate::config) fn build_adapters(
        &mut self,
        r: &mut ConfigReader<'_>,
        callback_origin: Option<&str>,
    ) {
        let Some(callback_origin) = callback_origin else {
            return;
        };
        for (id, pending) in std::mem::take(&mut self.pending) {
            if pending.accounts.is_empty() {
                continue;
            }
            let settings = ConfiguredInstitution {
                id: id.clone(),
                callback_origin: callback_origin.to_owned(),
                facts: pending.facts,
                values: pending.values,
                accounts: pending.accounts,
            };
            if settings.facts.callback_path == CallbackPath::OfAccount {
                for account in &settings.accounts {
                    let chars = settings.callback_url(Some(&account.id)).len();
                    if chars > CALLBACK_URL_CHARS_MAX {
                        let expected = format!(
                            "ids whose callback address is at most {CALLBACK_URL_CHARS_MAX} \
                             characters long"
                        );
                        let (line, found) = (pending.line, format!("{chars} of {}", account.id));
                        r.fault(line, "[[institution]]", &expected, &found, "shorten them");
                    }
                }
            }
            match (pending.kind.build)(settings) {
                Ok(adapter) => {
                    self.adapters.insert(id, adapter);
                }
                Err(fault) => {
                    let expected = format!("what the dialect {} needs", pending.kind.name);
                    let (line, found) = (pending.line, fault.to_string());
                    r.fault(line, "[[institution]]", &expected, &found, "correct it");
                }
            }
        }
    }
}

/// Whether the account is direct or a service provider's; direct by default.
fn role(
    r: &mut ConfigReader<'_>,
    s: &mut Section<'_>,
    kind: Option<&InstitutionKind>,
) -> Option<AccountRole> {
    const ROLE: ExpectedValue = shape("one of direct, provider", "\"direct\"");
    if !s.has("role") {
        s.knows(&["role"]);
        return Some(AccountRole::Direct);
    }
    let found = s.may(r, "role", ROLE, |v| {
        let word = v.as_str()?;
        AccountRole::ALL
            .into_iter()
            .find(|role| role.word() == word)
    })?;
    let has_none = kind.is_some_and(|kind| kind.sub_settings.is_empty());
    if found.value == AccountRole::Provider && has_none {
        let expected = "direct, because this dialect has no service providers";
        let advice = "write role = \"direct\"";
        r.fault(
            found.line,
            &s.subject("role"),
            expected,
            "\"provider\"",
            advice,
        );
        return None;
    }
    Some(found.value)
}
