//! Verification keys by id, with owner and validity.

use std::collections::HashMap;

use crate::signature::fault::KeyFault;
use crate::signature::key::{VerifyingKey, check_id};

/// A public key with its owner and validity.
#[derive(Debug, Clone)]
pub struct EnrolledKey {
    /// Its `keyid`.
    pub id: String,
    /// Its owner: a merchant, an institution, the platform.
    pub owner: String,
    /// The key.
    pub key: VerifyingKey,
    /// First second of its validity. Unit: Unix seconds.
    pub not_before_s: i64,
    /// Last second of its validity. Unit: Unix seconds.
    pub not_after_s: i64,
}

/// The accepted keys, by id.
#[derive(Debug, Clone, Default)]
pub struct KeyRing(HashMap<String, EnrolledKey>);

impl KeyRing {
    /// Builds a key ring.
    ///
    /// # Errors
    /// [`KeyFault::IdTaken`] if an id occurs twice, for any owners; [`KeyFault::BadId`].
    pub fn new(keys: Vec<EnrolledKey>) -> Result<Self, KeyFault> {
        let mut ring = HashMap::with_capacity(keys.len());
        for key in keys {
            check_id(&key.id)?;
            if let Some(taken) = ring.insert(key.id.clone(), key) {
                return Err(KeyFault::IdTaken { id: taken.id });
            }
        }
        Ok(Self(ring))
    }

    /// Whether a key of this owner is valid at this time. Unit: Unix seconds.
    pub fn has_one_in_force(&self, owner: &str, now_s: i64) -> bool {
        let mut theirs = self.0.values().filter(|key| key.owner == owner);
        theirs.any(|key| (key.not_before_s..=key.not_after_s).contains(&now_s))
    }

    /// Every key, in the order of their ids.
    pub fn keys(&self) -> Vec<&EnrolledKey> {
        let mut keys: Vec<_> = self.0.values().collect();
        keys.sort_by_key(|key| key.id.as_str());
        keys
    }

    /// The key with this id, valid or not.
    pub fn key(&self, id: &str) -> Option<&EnrolledKey> {
        self.0.get(id)
    }
}
