//! The audit log: what was done, by whom, to what, in a chain that shows any change (L1, L2).
//!
//! Pure: the store's writer calls [`ChainLink::follow`] inside its transaction, because only there the
//! order of commits is known.

use std::borrow::Cow;

use crate::crypto::digest::Sha256;
use crate::domain::identifiers::Timestamp;

/// Separates this hash from every other use of SHA-256, and one edition of it from the next.
const DOMAIN: &[u8] = b"paymux audit record 1";

/// What was done. Holds no secret and no personal data (L4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Who: `merchant:…`, `institution:…`, `payer`, `clock`, `operator:…`.
    pub actor: String,
    /// What, as a stable word: `order.place`, `attempt.start` …
    pub action: Cow<'static, str>,
    /// To what: the number of the order.
    pub object: String,
    /// What came of it: the states after it.
    pub result: String,
}

/// What a clock that was set is recorded as.
const CLOCK_SET: &str = "clock.set";

impl AuditEntry {
    /// The machine's clock was set by so many milliseconds; back is negative.
    pub fn clock_set(by_ms: i64) -> Self {
        Self {
            actor: "clock".to_owned(),
            action: CLOCK_SET.into(),
            object: "configuration".to_owned(),
            result: format!("by_ms={by_ms}"),
        }
    }

    /// Whether it is a clock that was set back, and with it all that was recorded before.
    pub fn is_clock_set_back(action: &str, result: &str) -> bool {
        action == CLOCK_SET && result.starts_with("by_ms=-")
    }
}

/// Where a chain stands: the last record's number and hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainLink {
    /// Number of the last record; 0 before the first.
    pub seq: u64,
    /// Hash of the last record; zeros before the first.
    pub hash: [u8; 32],
}

impl ChainLink {
    /// A chain without records.
    pub const START: Self = Self {
        seq: 0,
        hash: [0; 32],
    };

    /// The link that the next record makes (L1): its number has no gap, its hash holds the
    /// previous hash and everything the record says.
    #[must_use]
    pub fn follow(&self, chain: &str, audit_entry: &AuditEntry, at: Timestamp) -> Self {
        let seq = self.seq.saturating_add(1);
        let mut hash = Sha256::new();
        hash.update(DOMAIN);
        // Each part is preceded by its length, so that no two records have the same bytes.
        let mut part = |bytes: &[u8]| {
            hash.update(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(bytes);
        };
        part(chain.as_bytes());
        part(&seq.to_be_bytes());
        part(&self.hash);
        part(&at.ms().to_be_bytes());
        part(audit_entry.actor.as_bytes());
        part(audit_entry.action.as_bytes());
        part(audit_entry.object.as_bytes());
        part(audit_entry.result.as_bytes());
        let hash = hash.finish();
        Self { seq, hash }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audit_entry(result: &str) -> AuditEntry {
        AuditEntry {
            actor: "merchant:M1".into(),
            action: "order.place".into(),
            object: "P1".into(),
            result: result.into(),
        }
    }

    /// L1: a record changed, moved or left out changes every hash after it.
    #[test]
    fn the_chain_shows_any_change() {
        let at = Timestamp::from_ms(1);
        let honest = ChainLink::START
            .follow("c", &audit_entry("OPEN"), at)
            .follow("c", &audit_entry("PAID"), at);
        assert_eq!(honest.seq, 2);
        let altered = ChainLink::START
            .follow("c", &audit_entry("OPEN "), at)
            .follow("c", &audit_entry("PAID"), at);
        let swapped = ChainLink::START
            .follow("c", &audit_entry("PAID"), at)
            .follow("c", &audit_entry("OPEN"), at);
        let shortened = ChainLink::START.follow("c", &audit_entry("PAID"), at);
        let elsewhere = ChainLink::START
            .follow("d", &audit_entry("OPEN"), at)
            .follow("d", &audit_entry("PAID"), at);
        for other in [altered, swapped, shortened, elsewhere] {
            assert_ne!(honest.hash, other.hash);
        }
    }
}
