//! `audit.heads`: a record that names the last record of other chains, so that removing one of
//! those chains, or its end, contradicts a chain that is still there.

use std::fmt::Write as _;

use crate::crypto::digest::Sha256;
use crate::domain::audit::{AuditEntry, ChainLink};
use crate::domain::identifiers::{hex, unhex};

/// Separates this hash from other uses of SHA-256.
const DOMAIN: &[u8] = b"paymux audit heads 1";

/// The action of such a record.
const AUDIT_HEADS: &str = "audit.heads";

/// What an `audit.heads` record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditHeads {
    /// The number of chains ever opened.
    pub opened: u64,
    /// Every chain open since the last such record, and the number of its last record.
    pub chains: Vec<(String, u64)>,
    /// [`Self::digest`] of those.
    pub digest: [u8; 32],
}

impl AuditHeads {
    /// The heads of these chains.
    pub fn of(opened: u64, chains: &[(&str, ChainLink)]) -> Self {
        Self {
            opened,
            chains: chains
                .iter()
                .map(|(chain, link)| ((*chain).to_owned(), link.seq))
                .collect(),
            digest: Self::digest(chains.iter().copied()),
        }
    }

    /// Digest over chain, number and hash of each of these records.
    pub fn digest<'a>(chains: impl Iterator<Item = (&'a str, ChainLink)>) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(DOMAIN);
        for (chain, link) in chains {
            let length = u64::try_from(chain.len()).unwrap_or(u64::MAX);
            digest.update(&length.to_be_bytes());
            digest.update(chain.as_bytes());
            digest.update(&link.seq.to_be_bytes());
            digest.update(&link.hash);
        }
        digest.finish()
    }

    /// The audit entry, for this chain.
    pub fn audit_entry(&self, own: &str) -> AuditEntry {
        let mut result = format!("opened={}", self.opened);
        for (chain, seq) in &self.chains {
            // Writing to a string cannot fail.
            let _ = write!(result, " {chain}={seq}");
        }
        let _ = write!(result, " sha256={}", hex(&self.digest));
        AuditEntry::of_chain(AUDIT_HEADS, own, result)
    }

    /// Reads a record; `None` if it is another record.
    ///
    /// # Errors
    /// It is such a record, but its content cannot be read.
    pub fn read(audit_entry: &AuditEntry) -> Option<Result<Self, UnreadableHeads>> {
        let is_one = audit_entry.action == AUDIT_HEADS;
        is_one.then(|| Self::parse(&audit_entry.result).ok_or(UnreadableHeads))
    }

    fn parse(result: &str) -> Option<Self> {
        let (rest, digest) = result.rsplit_once(" sha256=")?;
        let mut words = rest.split(' ').map(|word| word.split_once('='));
        let (_, opened) = words.next()?.filter(|(name, _)| *name == "opened")?;
        let chains = words.map(|word| {
            let (chain, seq) = word?;
            Some((chain.to_owned(), seq.parse().ok()?))
        });
        Some(Self {
            opened: opened.parse().ok()?,
            chains: chains.collect::<Option<_>>()?,
            digest: unhex(digest)?,
        })
    }
}

/// The content of an `audit.heads` record is not of its form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnreadableHeads;

#[cfg(test)]
mod tests {
    use super::*;

    fn link(seq: u64, byte: u8) -> ChainLink {
        ChainLink {
            seq,
            hash: [byte; 32],
        }
    }

    /// L1: a record of heads reads back, and its digest covers names, numbers and hashes.
    #[test]
    fn heads_read_back_and_cover_every_part() {
        let heads = AuditHeads::of(3, &[("1.1.0", link(7, 1)), ("1.2.0", link(1, 2))]);
        let entry = heads.audit_entry("1.2.0");
        assert_eq!(AuditHeads::read(&entry), Some(Ok(heads.clone())));
        let open = AuditEntry::chain_open("1.2.0");
        assert_eq!(AuditHeads::read(&open), None);
        for other in [
            [("1.1.1", link(7, 1)), ("1.2.0", link(1, 2))],
            [("1.1.0", link(8, 1)), ("1.2.0", link(1, 2))],
            [("1.1.0", link(7, 9)), ("1.2.0", link(1, 2))],
            [("1.2.0", link(1, 2)), ("1.1.0", link(7, 1))],
        ] {
            assert_ne!(AuditHeads::of(3, &other).digest, heads.digest);
        }
        for bad in ["", "opened=1", "opened=x sha256=00", "1.1.0=7 sha256=00"] {
            let entry = AuditEntry {
                result: bad.to_owned(),
                ..entry.clone()
            };
            assert_eq!(AuditHeads::read(&entry), Some(Err(UnreadableHeads)));
        }
    }
}
