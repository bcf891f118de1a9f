//! A dialect as data: its name, what it can do, its settings, and how its adapter is made.

use std::sync::Arc;

use crate::domain::identifiers::{AccountId, InstitutionId, ReceiverId};
use crate::domain::institutions::{AccountRole, Facts};
use crate::institution::Institution;
use crate::institution::settings::{Setting, SettingValues};

/// The setting of every institution that says where it is called.
pub const URL: &str = "url";

/// A dialect, and how an institution that speaks it is built.
#[derive(Debug)]
pub struct InstitutionKind {
    /// Its name in `routes.toml`.
    pub name: &'static str,
    /// What the dialect can do, unless the configuration overrides it.
    pub facts: Facts,
    /// What stands in `[[institution]]` beside what every institution has; [`URL`] is among them.
    pub institution_settings: &'static [Setting],
    /// What stands in `[[account]]` beside id, institution and role.
    pub account_settings: &'static [Setting],
    /// What stands in `sub` of a contract with a provider's account. Without any, the dialect has no
    /// providers.
    pub sub_settings: &'static [Setting],
    /// The account setting with the account's own number there, an identifier.
    pub account_receiver: &'static str,
    /// The setting of `sub` with the sub-merchant's number there, an identifier.
    pub sub_receiver: &'static str,
    /// Makes the adapter of one configured institution.
    pub build: Build,
}

/// Checks the settings and makes an adapter of them.
pub type Build = fn(ConfiguredInstitution) -> Result<Arc<dyn Institution>, SettingsFault>;

/// One institution as configured, with all that we are there.
#[derive(Debug, Clone)]
pub struct ConfiguredInstitution {
    /// Its name in calls, paths and tables.
    pub id: InstitutionId,
    /// Where it calls us: our public origin, `https://host[:port]`, in lower case, without the default
    /// port. Callbacks come to `{callback_origin}/v1/callbacks/{id}`.
    pub callback_origin: String,
    /// What its dialect can do; at first [`InstitutionKind::facts`].
    pub facts: Facts,
    /// [`InstitutionKind::institution_settings`].
    pub values: SettingValues,
    /// Our accounts there.
    pub accounts: Vec<ConfiguredAccount>,
}

/// One account as configured.
#[derive(Debug, Clone)]
pub struct ConfiguredAccount {
    /// Our name for it. The owner of its keys has the same (C1).
    pub id: AccountId,
    /// Who receives the money of its payments.
    pub role: AccountRole,
    /// Its own number at the institution.
    pub receiver: ReceiverId,
    /// [`InstitutionKind::account_settings`].
    pub values: SettingValues,
}

/// Why no adapter can be made of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SettingsFault {
    /// The named setting is not an origin.
    #[error("{0}: expected https://host[:port], in lower case, without path or default port")]
    NotAnOrigin(&'static str),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::institution::KINDS;
    use crate::institution::settings::SettingForm;

    /// Every kind declares each name once, and those that everybody relies on.
    #[test]
    fn every_kind_declares_its_settings_soundly() {
        for kind in KINDS {
            let lists = [
                kind.institution_settings,
                kind.account_settings,
                kind.sub_settings,
            ];
            for list in lists {
                let mut names: Vec<_> = list.iter().map(|setting| setting.name).collect();
                names.sort_unstable();
                names.dedup();
                assert_eq!(names.len(), list.len(), "{}", kind.name);
                assert!(list.iter().all(|setting| !setting.help.is_empty()));
            }
            let declares = |list: &[Setting], name: &str, form| {
                let mut found = list.iter().filter(|setting| setting.name == name);
                found.any(|setting| setting.form == form && setting.is_required)
            };
            let [institution, account, sub] = lists;
            assert!(declares(institution, URL, SettingForm::Address));
            assert!(declares(
                account,
                kind.account_receiver,
                SettingForm::Identifier
            ));
            assert!(sub.is_empty() || declares(sub, kind.sub_receiver, SettingForm::Identifier));
        }
    }
}
