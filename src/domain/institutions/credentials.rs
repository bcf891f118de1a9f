//! Validity of an institution's credentials: those used to call it and those that verify its
//! messages. Evaluated at each use, not once when they are loaded.

use std::ops::RangeInclusive;

use crate::domain::identifiers::Timestamp;

/// First and last second of validity of a key or certificate. Unit: Unix seconds.
pub type Validity = RangeInclusive<i64>;

/// Whether one of these is valid now.
pub fn is_one_in_force(any_of: &[Validity], now: Timestamp) -> bool {
    any_of
        .iter()
        .any(|validity| validity.contains(&now.seconds()))
}

/// Required credentials: each requirement is a set of which one valid credential suffices. Without
/// requirements they are always usable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    needs: Vec<Vec<Validity>>,
    /// Keys that verify its messages; `None` where not configured.
    proving: Option<Vec<Validity>>,
}

impl Credentials {
    /// Adds a requirement: one of these must be valid. With an empty set the credentials are never
    /// usable.
    #[must_use]
    pub fn and(mut self, any_of: Vec<Validity>) -> Self {
        self.needs.push(any_of);
        self
    }

    /// Sets the keys that verify its messages: one of them must be valid.
    #[must_use]
    pub fn proven_by(mut self, any_of: Vec<Validity>) -> Self {
        self.proving = Some(any_of);
        self
    }

    /// Whether its messages can be verified now, even if it cannot be called.
    pub fn can_prove(&self, now: Timestamp) -> bool {
        let proving = self.proving.as_deref();
        proving.is_none_or(|any_of| is_one_in_force(any_of, now))
    }

    /// Whether every requirement is met now.
    pub fn are_usable(&self, now: Timestamp) -> bool {
        let is_met = |any_of: &Vec<Validity>| is_one_in_force(any_of, now);
        self.can_prove(now) && self.needs.iter().all(is_met)
    }
}
