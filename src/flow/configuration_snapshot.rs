//! One version of the configuration of merchants and institutions, replaced as a whole (F1).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::domain::attempt::Attempt;
use crate::domain::identifiers::{AccountId, InstitutionId, IpNetwork, MerchantId, Timestamp};
use crate::domain::institutions::{AccountProfile, CallbackPath, RoutingTable};
use crate::domain::merchant::CertificateDigest;
use crate::domain::order::OrderTerms;
use crate::domain::personal::payer_context::PayerAppId;
use crate::institution::{Call, Institution, Operation, SettingValues};
use crate::signature::{KeyRing, SigningKey};

/// All configuration of merchants and institutions that a request depends on.
pub struct ConfigurationSnapshot {
    /// Merchants, institutions, routes, contracts.
    pub routing: RoutingTable,
    /// The merchants' keys; the owner of a key is a `merchantId`.
    pub keys: KeyRing,
    /// The institutions' adapters.
    pub adapters: HashMap<InstitutionId, Arc<dyn Institution>>,
    /// What each contract with a provider's account says of its sub-merchant.
    pub sub_merchants: HashMap<(MerchantId, InstitutionId), SettingValues>,
    /// The keys of staff; the owner of a key is a staff member's id.
    pub staff: KeyRing,
    /// The identity of this gateway.
    pub platform: PlatformIdentity,
    /// Networks of proxies whose word about a client's address is taken.
    pub trusted_proxies: Vec<IpNetwork>,
    /// All enrolled client certificates, of any merchant: looked up for each request.
    certificates: HashSet<CertificateDigest>,
}

/// The identity of this gateway towards merchants.
pub struct PlatformIdentity {
    /// `https://host[:port]` that merchants sign for and pages are served under.
    pub origin: String,
    /// The keys that sign replies and notifications, each in its validity period.
    pub signing: SigningKeys,
    /// `/.well-known/jwks.json`: current and next keys with validity.
    pub jwks: bytes::Bytes,
}

/// The platform's own keys, chosen by the time of each signature: a new key takes over at its first
/// second, without a reload.
pub struct SigningKeys(Vec<DatedKey>);

/// A key and when it signs.
pub struct DatedKey {
    /// First second. Unit: Unix seconds.
    pub from_s: i64,
    /// Last second. Unit: Unix seconds.
    pub until_s: i64,
    /// The key.
    pub key: Arc<SigningKey>,
}

impl SigningKeys {
    /// One key for all times.
    pub fn always(key: SigningKey) -> Self {
        Self(vec![DatedKey {
            from_s: i64::MIN,
            until_s: i64::MAX,
            key: Arc::new(key),
        }])
    }

    /// Keys that are or will be valid; `None` if none is valid now. Unit: Unix seconds.
    pub fn of(mut dated: Vec<DatedKey>, now_s: i64) -> Option<Self> {
        dated.sort_by_key(|one| one.from_s);
        let signing = Self(dated);
        signing.at(now_s).is_some().then_some(signing)
    }

    /// The newest valid key; `None` when all have expired, because an expired key must not sign
    /// (R-6.3.1-1c). An alert fires weeks before. Unit: Unix seconds.
    pub fn at(&self, now_s: i64) -> Option<&Arc<SigningKey>> {
        let mut newest_first = self.0.iter().rev();
        newest_first
            .find(|one| (one.from_s..=one.until_s).contains(&now_s))
            .map(|one| &one.key)
    }
}

impl ConfigurationSnapshot {
    /// A snapshot without staff keys.
    pub fn new(
        routing: RoutingTable,
        keys: KeyRing,
        adapters: HashMap<InstitutionId, Arc<dyn Institution>>,
        platform: PlatformIdentity,
    ) -> Self {
        let merchants = routing.merchants.values();
        let certificates = merchants.flat_map(|merchant| merchant.certificates.iter().copied());
        Self {
            certificates: certificates.collect(),
            routing,
            keys,
            adapters,
            platform,
            sub_merchants: HashMap::new(),
            staff: KeyRing::default(),
            trusted_proxies: Vec::new(),
        }
    }

    /// Sets the keys of staff.
    #[must_use]
    pub fn with_staff(mut self, staff: KeyRing) -> Self {
        self.staff = staff;
        self
    }

    /// Sets what contracts say of sub-merchants.
    #[must_use]
    pub fn with_sub_merchants(
        mut self,
        sub_merchants: HashMap<(MerchantId, InstitutionId), SettingValues>,
    ) -> Self {
        self.sub_merchants = sub_merchants;
        self
    }

    /// Whether a payer's id in this application means something there: it is one of the account that
    /// the merchant is paid through, or of its sub-merchant.
    pub fn is_app_enrolled(
        &self,
        merchant: &MerchantId,
        institution: &InstitutionId,
        app: &PayerAppId,
    ) -> bool {
        let contract = self.routing.contract(merchant, institution);
        let account = contract.and_then(|contract| {
            let key = (institution.clone(), contract.account.clone());
            self.routing.accounts.get(&key)
        });
        let sub_merchant = self
            .sub_merchants
            .get(&(merchant.clone(), institution.clone()));
        account.is_some_and(|account| account.apps.contains(app))
            || sub_merchant.is_some_and(|settings| settings.apps().contains(app))
    }

    /// A call about an attempt of a committed order (A1), with what its contract says of the
    /// sub-merchant, as long as that is still who receives the attempt's money (R5).
    pub fn call<'a>(
        &'a self,
        operation: Operation<'a>,
        attempt: &'a Attempt,
        terms: &'a OrderTerms,
    ) -> Call<'a> {
        let contract = self.routing.contract(&terms.merchant, &attempt.institution);
        let same = contract.filter(|contract| {
            contract.account == attempt.account && contract.receiver == attempt.receiver
        });
        let sub_merchant = same.and_then(|contract| {
            let key = (contract.merchant.clone(), contract.institution.clone());
            self.sub_merchants.get(&key)
        });
        Call {
            sub_merchant,
            ..Call::new(operation, attempt, terms)
        }
    }

    /// Whether an institution's callbacks come to this address: its own, or that of one of its
    /// accounts.
    pub fn has_callback_address(&self, id: &InstitutionId, account: Option<&AccountId>) -> bool {
        let enrolled = self.routing.institutions.get(id);
        let adapter = self.adapters.get(id);
        let facts = enrolled.map(|one| &one.facts);
        let facts = facts.or_else(|| adapter.map(|adapter| adapter.facts()));
        match (facts.map(|facts| facts.callback_path), account) {
            (Some(CallbackPath::OfInstitution), None) => true,
            (Some(CallbackPath::OfAccount), Some(account)) => {
                let key = (id.clone(), account.clone());
                self.routing.accounts.contains_key(&key)
            }
            (Some(CallbackPath::OfInstitution), Some(_))
            | (Some(CallbackPath::OfAccount), None)
            | (None, _) => false,
        }
    }

    /// The accounts that a callback may be of: that of its address, or all.
    fn callback_accounts<'a>(
        &'a self,
        id: &'a InstitutionId,
        account: Option<&'a AccountId>,
    ) -> impl Iterator<Item = &'a AccountProfile> {
        let all = self.routing.accounts_at(id);
        all.filter(move |one| account.is_none_or(|account| one.id == *account))
    }

    /// Sets the networks of proxies that say a client's address.
    #[must_use]
    pub fn with_trusted_proxies(mut self, networks: Vec<IpNetwork>) -> Self {
        self.trusted_proxies = networks;
        self
    }

    /// The adapter of an institution while its credentials and those of the account are usable:
    /// without them no new work begins there, and existing work waits.
    pub fn usable_adapter(
        &self,
        id: &InstitutionId,
        account: &AccountId,
        now: Timestamp,
    ) -> Option<&Arc<dyn Institution>> {
        let is_usable =
            self.is_connectable(id, now) && self.routing.is_account_usable(id, account, now);
        self.adapters.get(id).filter(|_| is_usable)
    }

    /// Whether an institution can be called as each of its accounts.
    pub fn is_wholly_usable(&self, id: &InstitutionId, now: Timestamp) -> bool {
        let mut accounts = self.routing.accounts_at(id);
        self.adapters.contains_key(id)
            && self.is_connectable(id, now)
            && accounts.all(|account| account.credentials.are_usable(now))
    }

    fn is_connectable(&self, id: &InstitutionId, now: Timestamp) -> bool {
        let enrolled = self.routing.institutions.get(id);
        enrolled.is_none_or(|one| one.credentials.are_usable(now))
    }

    /// Whether messages of each account that a callback may be of can be verified now. If not, a
    /// message that fails verification may still be genuine.
    pub fn proves_every_account(
        &self,
        id: &InstitutionId,
        account: Option<&AccountId>,
        now: Timestamp,
    ) -> bool {
        let mut accounts = self.callback_accounts(id, account);
        accounts.all(|account| account.credentials.can_prove(now))
    }

    /// The adapter of an institution while messages of at least one account that a callback may be
    /// of can be verified: its callbacks count even if we cannot call it.
    pub fn verifying_adapter(
        &self,
        id: &InstitutionId,
        account: Option<&AccountId>,
        now: Timestamp,
    ) -> Option<&Arc<dyn Institution>> {
        let enrolled = self.routing.institutions.get(id);
        let is_proven = enrolled.is_none_or(|one| one.credentials.can_prove(now));
        let mut accounts = self.callback_accounts(id, account).peekable();
        let is_one_proven =
            accounts.peek().is_none() || accounts.any(|account| account.credentials.can_prove(now));
        self.adapters.get(id).filter(|_| is_proven && is_one_proven)
    }

    /// Whether a client certificate is enrolled for any merchant.
    pub fn knows_certificate(&self, digest: &CertificateDigest) -> bool {
        self.certificates.contains(digest)
    }
}
