//! Institutions of the `standard` dialect as in a configuration.

use std::sync::Arc;

use paymux::domain::identifiers::{AccountId, InstitutionId, ReceiverId};
use paymux::domain::institutions::AccountRole;
use paymux::institution::{
    ALWAYS, ConfiguredAccount, ConfiguredInstitution, OwnKey, SettingValue, SettingValues, kind,
};
use paymux::signature::{EnrolledKey, KeyRing, SigningKey};

/// An account with this id, which is also its receiver, with our key and the institution's.
pub(crate) fn account(
    (id, number): (&str, &str),
    own: SigningKey,
    keys: Vec<EnrolledKey>,
) -> ConfiguredAccount {
    let own = OwnKey {
        key: Arc::new(own),
        signs_within: ALWAYS,
    };
    let ring = KeyRing::new(keys).unwrap();
    ConfiguredAccount {
        id: AccountId::parse(id).unwrap(),
        role: AccountRole::Direct,
        receiver: ReceiverId::parse(number).unwrap(),
        values: SettingValues::default()
            .with("key", SettingValue::PrivateKey(own))
            .with("keys", SettingValue::PublicKeys(ring)),
    }
}

/// An institution called at `url`, which sends callbacks from `callback_origin`.
pub(crate) fn institution(
    id: &str,
    [url, callback_origin]: [&str; 2],
    accounts: Vec<ConfiguredAccount>,
) -> ConfiguredInstitution {
    let url = SettingValue::Text(url.into());
    ConfiguredInstitution {
        id: InstitutionId::parse(id).unwrap(),
        callback_origin: callback_origin.to_owned(),
        facts: kind("standard").unwrap().facts(),
        values: SettingValues::default().with("url", url),
        accounts,
    }
}
