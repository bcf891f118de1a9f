//! One version of the configuration of merchants and institutions, replaced as a whole (F1).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::domain::identifiers::{AccountId, InstitutionId, Timestamp};
use crate::domain::institutions::RoutingTable;
use crate::domain::merchant::CertificateDigest;
use crate::institution::Institution;
use crate::signature::{KeyRing, SigningKey};

/// All configuration of merchants and institutions that a request depends on.
pub struct ConfigurationSnapshot {
    /// Merchants, institutions, routes, contracts.
    pub routing: RoutingTable,
    /// The merchants' keys; the owner of a key is a `merchantId`.
    pub keys: KeyRing,
    /// The institutions' adapters.
    pub adapters: HashMap<InstitutionId, Arc<dyn Institution>>,
    /// The keys of staff; the owner of a key is a staff member's id.
    pub staff: KeyRing,
    /// The identity of this gateway.
    pub platform: PlatformIdentity,
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
            staff: KeyRing::default(),
        }
    }

    /// Sets the keys of staff.
    #[must_use]
    pub fn with_staff(mut self, staff: KeyRing) -> Self {
        self.staff = staff;
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

    /// Whether messages of each of the institution's accounts can be verified now. If not, a
    /// message that fails verification may still be genuine.
    pub fn proves_every_account(&self, id: &InstitutionId, now: Timestamp) -> bool {
        let mut accounts = self.routing.accounts_at(id);
        accounts.all(|account| account.credentials.can_prove(now))
    }

    /// The adapter of an institution while messages of at least one of its accounts can be
    /// verified: its callbacks count even if we cannot call it.
    pub fn verifying_adapter(
        &self,
        id: &InstitutionId,
        now: Timestamp,
    ) -> Option<&Arc<dyn Institution>> {
        let enrolled = self.routing.institutions.get(id);
        let is_proven = enrolled.is_none_or(|one| one.credentials.can_prove(now));
        let mut accounts = self.routing.accounts_at(id).peekable();
        let is_one_proven =
            accounts.peek().is_none() || accounts.any(|account| account.credentials.can_prove(now));
        self.adapters.get(id).filter(|_| is_proven && is_one_proven)
    }

    /// Whether a client certificate is enrolled for any merchant.
    pub fn knows_certificate(&self, digest: &CertificateDigest) -> bool {
        self.certificates.contains(digest)
    }
}
