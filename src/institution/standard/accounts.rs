//! Our accounts at one institution of the `standard` dialect: which one signs a call, whose keys
//! verify its replies, and which one a callback is for.
//!
//! All callbacks come to one address, so the key that signed one determines its accounts (C1): it is
//! evidence of theirs only. Where a key is enrolled for several, the receiver in the message decides
//! which of them replies.

use std::collections::HashMap;

use bytes::Bytes;
use http::Request;

use crate::domain::fields::Fields;
use crate::domain::identifiers::{AccountId, ReceiverId, Timestamp};
use crate::domain::institutions::AccountRole;
use crate::institution::ConfiguredAccount;
use crate::institution::settings::OwnKey;
use crate::institution::standard::reading;
use crate::institution::standard::settings::{KEY, KEYS};
use crate::signature::{EnrolledKey, KeyRing, Proven, SigningKey, key_ids_named, verify_request};

/// All accounts, and the keys that verify callbacks.
pub(super) struct StandardAccounts {
    all: HashMap<AccountId, StandardAccount>,
    rings: Vec<CallbackRing>,
}

/// One account.
pub(super) struct StandardAccount {
    pub(super) id: AccountId,
    /// The institution's keys for this account.
    pub(super) keys: KeyRing,
    role: AccountRole,
    receiver: ReceiverId,
    own: Option<OwnKey>,
}

/// Keys with different ids, each with the accounts that it is enrolled for. A second ring is only
/// needed if two accounts have different keys with one id.
struct CallbackRing {
    ring: KeyRing,
    accounts: HashMap<String, Vec<AccountId>>,
}

impl StandardAccount {
    /// Our key, if it is valid now.
    pub(super) fn signing(&self, now: Timestamp) -> Option<&SigningKey> {
        let own = self.own.as_ref()?;
        own.signs_within
            .contains(&now.seconds())
            .then_some(own.key.as_ref())
    }

    /// Our key, whatever its validity.
    pub(super) fn own_key(&self) -> Option<&SigningKey> {
        self.own.as_ref().map(|own| own.key.as_ref())
    }

    /// C1: keys of other owners do not count, even if they are on the ring.
    pub(super) fn owns(&self, proven: &Proven) -> bool {
        proven.owner == self.id.as_str()
    }
}

impl StandardAccounts {
    pub(super) fn new(accounts: Vec<ConfiguredAccount>) -> Self {
        let accounts = accounts.into_iter().map(|account| StandardAccount {
            keys: account
                .values
                .public_keys(KEYS)
                .cloned()
                .unwrap_or_default(),
            own: account.values.private_key(KEY).cloned(),
            id: account.id,
            role: account.role,
            receiver: account.receiver,
        });
        let all: HashMap<_, _> = accounts.map(|one| (one.id.clone(), one)).collect();
        Self {
            rings: callback_rings(&all),
            all,
        }
    }

    pub(super) fn get(&self, id: &AccountId) -> Option<&StandardAccount> {
        self.all.get(id)
    }

    /// Verifies that a callback is the institution's; returns the accounts that its key is enrolled
    /// for.
    pub(super) fn prove(
        &self,
        callback: &Request<Bytes>,
        callback_url: &str,
        now: Timestamp,
    ) -> Option<(Proven, Vec<AccountId>)> {
        let mut found: Option<(Proven, Vec<AccountId>)> = None;
        for one in &self.rings {
            let proven = verify_request(callback, callback_url, &one.ring, now.seconds());
            let Ok(proven) = proven else {
                continue;
            };
            let accounts = one.accounts.get(&proven.key_id).into_iter().flatten();
            // The same key may be enrolled for other accounts with other days.
            match &mut found {
                Some((_, all)) => all.extend(accounts.cloned()),
                None => found = Some((proven, accounts.cloned().collect())),
            }
        }
        found.filter(|(_, accounts)| !accounts.is_empty())
    }

    /// Which of these accounts a message with this receiver is for: the only one; else the one that
    /// is the receiver; else the only provider. `None` if that is ambiguous.
    pub(super) fn named(
        &self,
        among: &[AccountId],
        receiver: Option<&ReceiverId>,
    ) -> Option<&StandardAccount> {
        if let [only] = among {
            return self.get(only);
        }
        let known = || among.iter().filter_map(|id| self.get(id));
        let is_receiver = |one: &&StandardAccount| {
            one.role == AccountRole::Direct && receiver == Some(&one.receiver)
        };
        let mut receivers = known().filter(is_receiver);
        let mut providers = known().filter(|one| one.role == AccountRole::Provider);
        match (receivers.next(), receivers.next()) {
            (Some(only), None) => Some(only),
            (None, _) => providers.next().filter(|_| providers.next().is_none()),
            (Some(_), Some(_)) => None,
        }
    }

    /// The account that replies to a callback. Does not authenticate the sender.
    pub(super) fn answering(&self, callback: &Request<Bytes>) -> Option<&StandardAccount> {
        let mut all = self.all.values();
        if let (Some(only), None) = (all.next(), all.next()) {
            return Some(only);
        }
        let ids = key_ids_named(callback.headers());
        let enrolled = |one: &'_ CallbackRing| {
            let known = ids.iter().filter_map(|id| one.accounts.get(id));
            known.flatten().cloned().collect::<Vec<_>>()
        };
        let among: Vec<AccountId> = self.rings.iter().flat_map(enrolled).collect();
        let fields = Fields::parse(callback.body()).ok();
        let receiver = fields.as_ref().and_then(reading::receiver);
        let named = self.named(&among, receiver.as_ref());
        named.or_else(|| self.get(among.first()?))
    }
}

fn callback_rings(all: &HashMap<AccountId, StandardAccount>) -> Vec<CallbackRing> {
    let mut in_order: Vec<_> = all.values().collect();
    in_order.sort_by_key(|account| account.id.as_str());
    let mut rings: Vec<Vec<(EnrolledKey, Vec<AccountId>)>> = Vec::new();
    for account in in_order {
        let keys = account.keys.keys().into_iter();
        for key in keys.filter(|key| key.owner == account.id.as_str()) {
            enrol(&mut rings, key, &account.id);
        }
    }
    let built = rings.into_iter().filter_map(|keys| {
        let accounts = keys.iter().map(|(key, of)| (key.id.clone(), of.clone()));
        let accounts = accounts.collect();
        // Ids are unique within a ring.
        let ring = KeyRing::new(keys.into_iter().map(|(key, _)| key).collect()).ok()?;
        Some(CallbackRing { ring, accounts })
    });
    built.collect()
}

/// Adds a key to the first ring that has the same key, or no key with its id.
fn enrol(
    rings: &mut Vec<Vec<(EnrolledKey, Vec<AccountId>)>>,
    key: &EnrolledKey,
    account: &AccountId,
) {
    for ring in rings.iter_mut() {
        match ring.iter_mut().find(|(known, _)| known.id == key.id) {
            Some((known, accounts)) if is_same(known, key) => {
                accounts.push(account.clone());
                return;
            }
            Some(_) => (),
            None => {
                ring.push((key.clone(), vec![account.clone()]));
                return;
            }
        }
    }
    rings.push(vec![(key.clone(), vec![account.clone()])]);
}

fn is_same(one: &EnrolledKey, other: &EnrolledKey) -> bool {
    let days = |key: &EnrolledKey| (key.not_before_s, key.not_after_s);
    days(one) == days(other) && one.key.is_same_as(&other.key)
}
