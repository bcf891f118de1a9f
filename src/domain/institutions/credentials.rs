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
pub struct Credentials(Vec<Vec<Validity>>);

impl Credentials {
    /// One of these must be in force as well; where there is none, they can never be used.
    #[must_use]
    pub fn and(mut self, any_of: Vec<Validity>) -> Self {
        self.0.push(any_of);
        self
    }

    /// Whether each need is met at this moment.
    pub fn are_usable(&self, now: Timestamp) -> bool {
        self.0.iter().all(|any_of| is_one_in_force(any_of, now))
    }
}
