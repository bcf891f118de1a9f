//! What is wrong with a configuration: where, what was expected, what was found, what to do.
//!
//! A fault never quotes a secret: a value in place of a secret's name is not repeated.

use std::fmt;

use crate::domain::identifiers::Timestamp;
use crate::domain::institutions::{Validity, is_one_in_force};

/// One fault or warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFault {
    /// The file as named on the command line.
    pub file: String,
    /// The line, counted from 1; 0 if the whole file is meant.
    pub line: usize,
    /// Table and name: `[[merchant]] keys`.
    pub subject: String,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub advice: String,
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(
            f,
            ": {}: expected {}, found {}; {}",
            self.subject, self.expected, self.found, self.advice
        )
    }
}

/// Whose key or certificate it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartyKind {
    /// A merchant.
    Merchant,
    /// An institution.
    Institution,
    /// A member of staff, who signs decisions.
    Staff,
    /// The gateway, for one of several keys while the others remain usable.
    Gateway,
}

impl PartyKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [
        Self::Merchant,
        Self::Institution,
        Self::Staff,
        Self::Gateway,
    ];

    /// The word in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Merchant => "merchant",
            Self::Institution => "institution",
            Self::Staff => "staff",
            Self::Gateway => "gateway",
        }
    }
}

/// A key, secret or certificate of one party that is expired or unreadable. Only that party is affected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusableCredential {
    /// The party it belongs to.
    pub party: PartyKind,
    /// Where, and what to do.
    pub note: ConfigFault,
    /// Whether only its dates prevent its use: it may be usable at another time.
    pub is_dated: bool,
}

/// Keys or certificates of one party; one in force is enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DatedCredentials {
    pub(super) party: PartyKind,
    pub(super) any_of: Vec<Validity>,
}

/// How many keys, secrets and certificates cannot be used, at any time.
#[derive(Debug, Clone, Default)]
pub struct UnusableCredentialCounts {
    unreadable: Vec<PartyKind>,
    dated: Vec<DatedCredentials>,
}

impl UnusableCredentialCounts {
    pub(super) fn of(unusable: &[UnusableCredential], dated: Vec<DatedCredentials>) -> Self {
        let unreadable = unusable.iter().filter(|it| !it.is_dated);
        Self {
            unreadable: unreadable.map(|it| it.party).collect(),
            dated,
        }
    }

    /// The number for this kind of party at this time.
    pub fn at(&self, party: PartyKind, now: Timestamp) -> usize {
        let unreadable = self.unreadable.iter().filter(|it| **it == party).count();
        let of_party = self.dated.iter().filter(|it| it.party == party);
        let out_of_force = of_party.filter(|it| !is_one_in_force(&it.any_of, now));
        unreadable.saturating_add(out_of_force.count())
    }
}

/// All faults, in the order of the file, one line each (F1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFaults(pub Vec<ConfigFault>);

impl fmt::Display for ConfigFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigFaults {}

/// The known name closest to a mistyped one.
pub(super) fn nearest(typed: &str, known: &[&'static str]) -> Option<&'static str> {
    known
        .iter()
        .map(|name| (distance(typed, name), *name))
        .min()
        .filter(|(steps, name)| *steps <= name.len().div_ceil(3))
        .map(|(_, name)| name)
}

/// Insertions, removals and replacements between two names.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (at, a) in from.bytes().enumerate() {
        let mut corner = at;
        let mut left = at.saturating_add(1);
        let mut next = vec![left];
        for (b, above) in to.bytes().zip(row.iter().skip(1)) {
            let replaced = corner.saturating_add(usize::from(a != b));
            left = replaced
                .min(left.saturating_add(1))
                .min(above.saturating_add(1));
            next.push(left);
            corner = *above;
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F1: a mistyped name gets the intended name as advice; nonsense gets none.
    #[test]
    fn a_mistyped_name_is_answered_with_the_nearest() {
        assert_eq!(distance("kitten", "sitting"), 3);
        let known = ["notify_origins", "notice_url", "name", "name_en"];
        assert_eq!(nearest("notify_origin", &known), Some("notify_origins"));
        assert_eq!(nearest("nmae", &known), Some("name"));
        assert_eq!(nearest("frobnicate", &known), None);
    }
}
