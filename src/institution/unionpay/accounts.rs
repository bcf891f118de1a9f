//! Our accounts at UnionPay: what each signs with and what proves messages to it.
//!
//! A message is proven with the certificates of one account only: of a callback that of its address,
//! of an answer that of the call (C1, C2).

use std::collections::HashMap;

use crate::crypto::certificate::Certificate;
use crate::domain::identifiers::{AccountId, ReceiverId, Timestamp};
use crate::domain::institutions::AccountRole;
use crate::institution::unionpay::settings::{
    ACCESS_TYPE, ALWAYS_NAMED, CERTIFICATE, ENVIRONMENT, KEY, MER_ID, MIDDLE, NAME_SUB_MERCHANT,
    OF_ACQUIRER, PRODUCTION, ROOT, SIGN_METHOD, SM2,
};
use crate::institution::unionpay::signing::{UnionPaySignMethod, UnionPaySigner};
use crate::institution::unionpay::trust::{UnionPayEnvironment, UnionPayTrustAnchors};
use crate::institution::{ConfiguredAccount, ConfiguredInstitution, SettingValues, SettingsFault};

/// Where the payer's browser comes back to; nothing it brings is believed.
const FRONT_PATH: &str = "/pay/return";

/// The length of `merId`.
const MER_ID_DIGITS: usize = 15;

/// All accounts at one institution.
pub(super) struct UnionPayAccounts(HashMap<AccountId, UnionPayAccount>);

/// As what we are connected: `accessType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnionPayAccess {
    /// The merchant itself.
    Direct,
    /// An acquirer, for its merchants.
    Acquirer,
    /// A platform, for its sub-merchants.
    Platform,
}

impl UnionPayAccess {
    /// The value of `accessType`.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Direct => "0",
            Self::Acquirer => "1",
            Self::Platform => "2",
        }
    }
}

/// One account.
pub(super) struct UnionPayAccount {
    pub(super) id: AccountId,
    pub(super) access: UnionPayAccess,
    /// Its own number, which signs.
    pub(super) mer_id: ReceiverId,
    /// Where its notifications come to.
    pub(super) callback_url: String,
    /// Where its payers come back to.
    pub(super) front_url: String,
    /// Queries and refunds name the sub-merchant too.
    pub(super) names_sub_merchant_always: bool,
    /// Absent while key or certificate cannot be used.
    signer: Option<UnionPaySigner>,
    /// Absent while root or middle cannot be used.
    trust: Option<UnionPayTrustAnchors>,
}

impl UnionPayAccounts {
    /// # Errors
    /// As [`UnionPayAccount::new`].
    pub(super) fn new(settings: &ConfiguredInstitution) -> Result<Self, SettingsFault> {
        let mut all = HashMap::new();
        for configured in &settings.accounts {
            let account = UnionPayAccount::new(settings, configured)?;
            all.insert(account.id.clone(), account);
        }
        Ok(Self(all))
    }

    pub(super) fn get(&self, id: &AccountId) -> Option<&UnionPayAccount> {
        self.0.get(id)
    }
}

impl UnionPayAccount {
    /// # Errors
    /// [`SettingsFault`]: a number, key or certificate of another form, or that do not fit together.
    fn new(
        settings: &ConfiguredInstitution,
        configured: &ConfiguredAccount,
    ) -> Result<Self, SettingsFault> {
        let values = &configured.values;
        Ok(Self {
            access: access(configured)?,
            mer_id: mer_id(configured)?,
            callback_url: settings.callback_url(Some(&configured.id)),
            front_url: [&settings.callback_origin, FRONT_PATH].concat(),
            names_sub_merchant_always: values.text(NAME_SUB_MERCHANT) == Some(ALWAYS_NAMED),
            signer: signer(values)?,
            trust: trust(values)?,
            id: configured.id.clone(),
        })
    }

    /// What signs for it now; `None` also if no answer could be believed.
    pub(super) fn signing(&self, now: Timestamp) -> Option<&UnionPaySigner> {
        self.trust.as_ref()?;
        self.signer
            .as_ref()
            .filter(|signer| signer.is_in_force(now))
    }

    /// Whether it has a key, whatever its validity: all of them are slow.
    pub(super) fn is_slow(&self) -> bool {
        self.signer.is_some()
    }

    /// What proves messages to it.
    pub(super) fn trust(&self) -> Option<&UnionPayTrustAnchors> {
        self.trust.as_ref()
    }
}

fn access(configured: &ConfiguredAccount) -> Result<UnionPayAccess, SettingsFault> {
    match (configured.role, configured.values.text(ACCESS_TYPE)) {
        (AccountRole::Direct, None) => Ok(UnionPayAccess::Direct),
        (AccountRole::Direct, Some(_)) => {
            let expected = "it only of a provider's account";
            Err(SettingsFault::Unfit(ACCESS_TYPE, expected))
        }
        (AccountRole::Provider, Some(OF_ACQUIRER)) => Ok(UnionPayAccess::Acquirer),
        (AccountRole::Provider, Some(_) | None) => Ok(UnionPayAccess::Platform),
    }
}

fn mer_id(configured: &ConfiguredAccount) -> Result<ReceiverId, SettingsFault> {
    let text = configured.values.text(MER_ID).unwrap_or_default();
    let is_number = text.len() == MER_ID_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = ReceiverId::parse(text).ok().filter(|_| is_number);
    number.ok_or(SettingsFault::Unfit(MER_ID, "15 digits"))
}

fn method(values: &SettingValues) -> UnionPaySignMethod {
    if values.text(SIGN_METHOD) == Some(SM2) {
        UnionPaySignMethod::Sm2
    } else {
        UnionPaySignMethod::Rsa
    }
}

fn signer(values: &SettingValues) -> Result<Option<UnionPaySigner>, SettingsFault> {
    let (Some(key), Some(chain)) = (values.secret(KEY), values.certificate(CERTIFICATE)) else {
        return Ok(None);
    };
    let certificate = chain.first().and_then(|der| Certificate::from_der(der));
    let expected = "a certificate";
    let certificate = certificate.ok_or(SettingsFault::Unfit(CERTIFICATE, expected))?;
    let signer = UnionPaySigner::new(method(values), key.expose(), &certificate);
    let expected = "the key of certificate, of the kind of sign_method, in PEM";
    signer.map(Some).ok_or(SettingsFault::Unfit(KEY, expected))
}

fn trust(values: &SettingValues) -> Result<Option<UnionPayTrustAnchors>, SettingsFault> {
    let (Some(middle), Some(root)) = (values.certificate(MIDDLE), values.certificate(ROOT)) else {
        return Ok(None);
    };
    let (middles, roots) = (parsed(MIDDLE, middle)?, parsed(ROOT, root)?);
    // Whether it really was issued by it, the first message shows.
    let is_issued = |middle: &Certificate| {
        let mut issuers = roots.iter().chain(&middles);
        issuers.any(|issuer| issuer != middle && middle.names_as_issuer(issuer))
    };
    if !middles.iter().all(is_issued) {
        let expected = "a certificate issued under root";
        return Err(SettingsFault::Unfit(MIDDLE, expected));
    }
    let environment = if values.text(ENVIRONMENT) == Some(PRODUCTION) {
        UnionPayEnvironment::Production
    } else {
        UnionPayEnvironment::Test
    };
    let trust = UnionPayTrustAnchors::new(method(values), environment, middles, roots);
    Ok(Some(trust))
}

fn parsed(name: &'static str, ders: &[Box<[u8]>]) -> Result<Vec<Certificate>, SettingsFault> {
    let all = ders.iter().map(|der| Certificate::from_der(der));
    let all: Option<Vec<_>> = all.collect();
    all.ok_or(SettingsFault::Unfit(name, "certificates that can be read"))
}
