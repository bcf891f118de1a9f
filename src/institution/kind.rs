//! A kind of institution as data: its name, capabilities, settings, and the constructor of its
//! adapter.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::identifiers::{AccountId, InstitutionId, ReceiverId};
use crate::domain::institutions::{
    AccountRole, BodyFormat, CallbackPath, Facts, MessageFormat, Product, Rates, ShownFields,
};
use crate::institution::Institution;
use crate::institution::settings::{Setting, SettingValues};

/// The setting with the address of an institution; every kind has it.
pub const URL: &str = "url";

/// A kind of institution, which defines its dialect.
#[derive(Debug)]
pub struct InstitutionKind {
    /// Its name in `routes.toml`.
    pub name: &'static str,
    /// What can be paid with, in order of preference.
    pub products: &'static [Product],
    /// After this long, "not found" means that a refund never arrived (A5).
    pub refund_visibility: Duration,
    /// Repeating an identical refund call is harmless and returns the refund's status (R4).
    pub repeatable_refund: bool,
    /// How often it may be called, unless the configuration overrides it.
    pub rates: Rates,
    /// Where its callbacks come to.
    pub callback_path: CallbackPath,
    /// The format of its messages' bodies.
    pub body: BodyFormat,
    /// The fields of its messages whose values may be shown.
    pub shown: ShownFields,
    /// Settings in `[[institution]]` in addition to the common ones; [`URL`] is among them.
    pub institution_settings: &'static [Setting],
    /// Settings in `[[account]]` in addition to id, institution and role.
    pub account_settings: &'static [Setting],
    /// Settings in `sub` of a contract with a provider's account. If empty, the dialect has no
    /// providers.
    pub sub_settings: &'static [Setting],
    /// The account setting with the account's number at the institution, an identifier.
    pub account_receiver: &'static str,
    /// The setting of `sub` with the sub-merchant's number at the institution, an identifier.
    pub sub_receiver: &'static str,
    /// Builds the adapter of one configured institution.
    pub build: Build,
}

impl InstitutionKind {
    /// How its messages are read for display.
    pub fn message_format(&self) -> MessageFormat {
        MessageFormat {
            body: self.body,
            shown: self.shown,
        }
    }

    /// Its capabilities as declared.
    pub fn facts(&self) -> Facts {
        Facts {
            products: self.products.to_vec(),
            refund_visibility: self.refund_visibility,
            repeatable_refund: self.repeatable_refund,
            rates: self.rates,
            callback_path: self.callback_path,
        }
    }
}

/// Validates the settings and builds an adapter.
pub type Build = fn(ConfiguredInstitution) -> Result<Arc<dyn Institution>, SettingsFault>;

/// One institution as configured, with our accounts there.
#[derive(Debug, Clone)]
pub struct ConfiguredInstitution {
    /// Its name in calls, paths and tables.
    pub id: InstitutionId,
    /// Our public origin for its callbacks, `https://host[:port]`, in lower case, without the
    /// default port.
    pub callback_origin: String,
    /// Its capabilities; those of [`InstitutionKind::facts`] unless overridden.
    pub facts: Facts,
    /// [`InstitutionKind::institution_settings`].
    pub values: SettingValues,
    /// Our accounts there.
    pub accounts: Vec<ConfiguredAccount>,
}

impl ConfiguredInstitution {
    /// The address that its callbacks come to: its own, or that of this account, where
    /// [`Facts::callback_path`] says so.
    pub fn callback_url(&self, account: Option<&AccountId>) -> String {
        let own = format!("{}/v1/callbacks/{}", self.callback_origin, self.id);
        account.map_or(own.clone(), |account| format!("{own}/{account}"))
    }
}

/// One account as configured.
#[derive(Debug, Clone)]
pub struct ConfiguredAccount {
    /// Our name for it; also the owner of its keys (C1).
    pub id: AccountId,
    /// Who receives the money of its payments.
    pub role: AccountRole,
    /// Its number at the institution.
    pub receiver: ReceiverId,
    /// [`InstitutionKind::account_settings`].
    pub values: SettingValues,
}

/// Why no adapter can be built from the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SettingsFault {
    /// The named setting is not an origin.
    #[error("{0}: expected https://host[:port], in lower case, without path or default port")]
    NotAnOrigin(&'static str),
    /// The named setting is not what it must be.
    #[error("{0}: expected {1}")]
    Unfit(&'static str, &'static str),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identifiers::ProductId;
    use crate::institution::KINDS;
    use crate::institution::settings::SettingForm;

    /// Every kind declares each name once, and the names that other code relies on.
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
            assert!(!kind.products.is_empty(), "{}", kind.name);
            let mut ids: Vec<_> = kind.products.iter().map(|one| one.id).collect();
            assert!(ids.iter().all(|id| ProductId::parse(id).is_ok()));
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), kind.products.len(), "{}", kind.name);
            assert!(kind.products.iter().all(|one| !one.help.is_empty()));
            assert!(sub.is_empty() || declares(sub, kind.sub_receiver, SettingForm::Identifier));
        }
    }
}
