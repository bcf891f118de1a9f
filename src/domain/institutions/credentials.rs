//! When an institution's credentials can be used: those it is called with and those that prove its word.
//! Judged at each moment, not once when they were read.

use std::ops::RangeInclusive;

use crate::domain::identifiers::Timestamp;

/// First and last second in which a key or certificate is in force. Unit: Unix seconds.
pub type Validity = RangeInclusive<i64>;

/// Whether one of these is in force.
pub fn is_one_in_force(any_of: &[Validity], now: Timestamp) -> bool {
    any_of
        .iter()
        .any(|validity| validity.contains(&now.seconds()))
}

/// Everything that is needed, and of each need the credentials of which one in force is enough.
/// Without a need they can always be used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    needs: Vec<Vec<Validity>>,
    /// What proves its word; nothing where nobody said.
    proving: Option<Vec<Validity>>,
}

impl Credentials {
    /// One of these must be in force as well; where there is none, they can never be used.
    #[must_use]
    pub fn and(mut self, any_of: Vec<Validity>) -> Self {
        self.needs.push(any_of);
        self
    }

    /// One of these must be in force for its word to be judged: its keys.
    #[must_use]
    pub fn proven_by(mut self, any_of: Vec<Validity>) -> Self {
        self.proving = Some(any_of);
        self
    }

    /// Whether its word can be judged at this moment, though perhaps it cannot be called.
    pub fn can_prove(&self, now: Timestamp) -> bool {
        let proving = self.proving.as_deref();
        proving.is_none_or(|any_of| is_one_in_force(any_of, now))
    }

    /// Whether each need is met at this moment.
    pub fn are_usable(&self, now: Timestamp) -> bool {
        let is_met = |any_of: &Vec<Validity>| is_one_in_force(any_of, now);
        self.can_prove(now) && self.needs.iter().all(is_met)
    }
}
