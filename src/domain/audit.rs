//! The audit log: action, actor, object and result, in a tamper-evident hash chain (L1, L2).
//!
//! Pure: the store's writer calls [`ChainLink::follow`] inside its transaction, because only there
//! the commit order is known.

use std::borrow::Cow;

use crate::crypto::digest::Sha256;
use crate::domain::identifiers::Timestamp;

/// Separates this hash from other uses of SHA-256 and from other versions of it.
const DOMAIN: &[u8] = b"paymux audit record 1";

/// One audit entry. Contains no secrets and no personal data (L4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Actor: `merchant:…`, `institution:…`, `payer`, `clock`, `staff:…`.
    pub actor: String,
    /// Action, as a stable name: `order.place`, `attempt.start` …
    pub action: Cow<'static, str>,
    /// Object: the order number.
    pub object: String,
    /// Result: the states after the action.
    pub result: String,
}

/// Action recorded when the system clock was set.
const CLOCK_SET: &str = "clock.set";

impl AuditEntry {
    /// The system clock was set by this many milliseconds; negative is back.
    pub fn clock_set(by_ms: i64) -> Self {
        Self {
            actor: "clock".to_owned(),
            action: CLOCK_SET.into(),
            object: "configuration".to_owned(),
            result: format!("by_ms={by_ms}"),
        }
    }

    /// Whether the clock was set back, which may affect all earlier timestamps.
    pub fn is_clock_set_back(action: &str, result: &str) -> bool {
        action == CLOCK_SET && result.starts_with("by_ms=-")
    }
}

/// Position in a chain: the last record's number and hash.
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

    /// The link of the next record (L1): numbered without gaps; its hash covers the previous hash
    /// and the whole record.
    #[must_use]
    pub fn follow(&self, chain: &str, audit_entry: &AuditEntry, at: Timestamp) -> Self {
        let seq = self.seq.saturating_add(1);
        let mut hash = Sha256::new();
        hash.update(DOMAIN);
        // Each part is preceded by its length, so that different records never give the same bytes.
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

    /// L1: changing, moving or omitting a record changes every hash after it.
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
