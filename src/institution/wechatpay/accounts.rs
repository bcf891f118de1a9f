//! Our accounts at WeChat Pay: what each signs with, which keys prove a message to it, and which of
//! our applications are its own.
//!
//! A message is proven with the keys of one account only: of a callback that of its address, of an
//! answer that of the call (C1, C2).

use std::collections::HashMap;

use http::HeaderValue;

use crate::crypto::aead::Aes256GcmKey;
use crate::domain::attempt::Attempt;
use crate::domain::identifiers::{AccountId, ReceiverId, Timestamp};
use crate::domain::institutions::AccountRole;
use crate::domain::personal::payer_context::PayerAppId;
use crate::institution::settings::OwnKey;
use crate::institution::wechatpay::settings::{
    APIV3_KEY, APIV3_KEY_CHARS, APP_PARTNER, APPS, ASK_FOR_KEY, KEY, KEYS, MCHID, PROVIDER,
};
use crate::institution::{ConfiguredAccount, ConfiguredInstitution, SettingValues};
use crate::signature::{KeyRing, SigningKey, VerifyingKey};

/// All accounts at one institution.
pub(super) struct WechatAccounts(HashMap<AccountId, WechatAccount>);

/// One account.
pub(super) struct WechatAccount {
    pub(super) id: AccountId,
    pub(super) role: AccountRole,
    /// Its own number, which its requests are signed for.
    pub(super) mchid: ReceiverId,
    /// Where its notifications come to.
    pub(super) callback_url: String,
    /// The key that its answers are to be signed with.
    pub(super) ask_for_key: Option<HeaderValue>,
    /// Opens its notifications; absent while the secret cannot be used.
    pub(super) opening: Option<Aes256GcmKey>,
    /// An APP payment of a provider starts with the provider's number.
    pub(super) app_partner_is_provider: bool,
    values: SettingValues,
    own: Option<OwnKey>,
    keys: KeyRing,
}

impl WechatAccounts {
    pub(super) fn new(settings: &ConfiguredInstitution) -> Self {
        let accounts = settings.accounts.iter();
        Self(
            accounts
                .map(|one| {
                    let callback_url = settings.callback_url(Some(&one.id));
                    (one.id.clone(), WechatAccount::new(one, callback_url))
                })
                .collect(),
        )
    }

    pub(super) fn get(&self, id: &AccountId) -> Option<&WechatAccount> {
        self.0.get(id)
    }
}

impl WechatAccount {
    fn new(configured: &ConfiguredAccount, callback_url: String) -> Self {
        let values = &configured.values;
        let mchid = values.text(MCHID);
        let mchid = mchid.and_then(|text| ReceiverId::parse(text).ok());
        let ask_for_key = values.text(ASK_FOR_KEY);
        let opening = values.secret(APIV3_KEY).and_then(|secret| {
            let bytes: [u8; APIV3_KEY_CHARS] = secret.expose().as_bytes().try_into().ok()?;
            Aes256GcmKey::new(&bytes)
        });
        Self {
            id: configured.id.clone(),
            role: configured.role,
            // The receiver of the account itself is read from the same setting.
            mchid: mchid.unwrap_or_else(|| configured.receiver.clone()),
            callback_url,
            ask_for_key: ask_for_key.and_then(|id| HeaderValue::from_str(id).ok()),
            opening,
            app_partner_is_provider: values.text(APP_PARTNER) == Some(PROVIDER),
            own: values.private_key(KEY).cloned(),
            keys: values.public_keys(KEYS).cloned().unwrap_or_default(),
            values: values.clone(),
        }
    }

    /// Our key, if it is valid now. Its id is the serial number of our certificate.
    pub(super) fn signing(&self, now: Timestamp) -> Option<&SigningKey> {
        let own = self.own.as_ref()?;
        own.signs_within
            .contains(&now.seconds())
            .then_some(own.key.as_ref())
    }

    /// Whether our key is slow, whatever its validity.
    pub(super) fn is_slow(&self) -> bool {
        self.own.as_ref().is_some_and(|own| own.key.is_slow())
    }

    /// The platform's key with this serial, if it is valid now. Serials are hexadecimal: either case
    /// is the same one. Keys of other owners do not count, even if they are on the ring (C1).
    pub(super) fn proving(&self, serial: &str, now: Timestamp) -> Option<&VerifyingKey> {
        let keys = self.keys.keys().into_iter();
        let mut named = keys.filter(|key| key.id.eq_ignore_ascii_case(serial));
        let key = named.find(|key| key.owner == self.id.as_str())?;
        let is_valid = (key.not_before_s..=key.not_after_s).contains(&now.seconds());
        is_valid.then_some(&key.key)
    }

    /// Our application for this product.
    pub(super) fn app_for(&self, product: &str) -> Option<&PayerAppId> {
        self.values.app_for(APPS, &product.to_ascii_lowercase())
    }

    /// Whether this is an application of ours.
    pub(super) fn has_app(&self, app: &str) -> bool {
        self.values.apps().iter().any(|known| known.as_str() == app)
    }

    /// Our application in which the payer of this attempt has an id; `None` if the payer has none,
    /// or one in an application of the sub-merchant.
    pub(super) fn payer_app<'a>(&self, attempt: &'a Attempt) -> Option<&'a PayerAppId> {
        let identity = attempt.payer.identity.as_ref()?;
        self.has_app(identity.app.as_str()).then_some(&identity.app)
    }
}
