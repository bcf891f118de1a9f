//! Hash chain of exchange-log blocks: detects a block that was changed, or removed between two
//! others (L1). The oldest blocks are deleted by age and size, so the chain starts at the oldest
//! one present.

use crate::crypto::digest::Sha256;
use crate::domain::identifiers::{Timestamp, hex};
use crate::domain::verification::{Breach, BreachSink};

/// Separates this hash from other uses of SHA-256 and from other versions of it.
const DOMAIN: &[u8] = b"paymux exchange log 1";

/// Unsealed columns of a block's row.
#[derive(Debug, Clone, Copy)]
pub struct BlockHead<'a> {
    /// Start of the first exchange in the block.
    pub first: Timestamp,
    /// Start of the last exchange in the block.
    pub last: Timestamp,
    /// What was dropped before it.
    pub dropped: &'a str,
    /// Digests of its entries' orders.
    pub orders: &'a [u8],
}

impl BlockHead<'_> {
    /// Hash of all fields.
    pub fn hash(&self) -> [u8; 32] {
        let (first, last) = (self.first.ms().to_be_bytes(), self.last.ms().to_be_bytes());
        hash(&[b"head", &first, &last, self.dropped.as_bytes(), self.orders])
    }
}

/// Hash of a whole block, from its head's hash and the sealed content.
pub fn block_hash(head: &[u8; 32], sealed: &[u8]) -> [u8; 32] {
    hash(&[b"block", head, sealed])
}

/// Chain hash of a block, from the previous block's chain hash.
pub fn chained(prev: &[u8; 32], block: &[u8; 32]) -> [u8; 32] {
    hash(&[b"chain", prev, block])
}

/// Each part is preceded by its length, so that different lists of parts never give the same bytes.
fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(DOMAIN);
    for part in parts {
        let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
        hash.update(&length.to_be_bytes());
        hash.update(part);
    }
    hash.finish()
}

/// A block's row, as far as the chain needs it.
#[derive(Debug)]
pub struct BlockRow {
    /// Its number.
    pub number: u64,
    /// Hash of its content.
    pub block: [u8; 32],
    /// The chain hash of the previous block, as stored.
    pub prev: [u8; 32],
    /// Its own chain hash, as stored.
    pub hash: [u8; 32],
}

/// Follows the chain of blocks. A fault at one block is not reported again at the next.
#[derive(Debug, Default)]
pub struct Blocks {
    last: Option<(u64, [u8; 32])>,
}

impl Blocks {
    /// Checks the next block, by number.
    pub fn follow(&mut self, row: &BlockRow, report: &mut BreachSink<'_>) {
        let object = format!("exchange_log {}", row.number);
        if let Some((number, hash)) = self.last {
            let next = number.saturating_add(1);
            if row.number != next {
                report(Breach::of(
                    "L1",
                    &object,
                    format!("block {next} after {number}"),
                    format!("block {}: those between are missing", row.number),
                ));
            }
            if row.prev != hash {
                report(Breach::of(
                    "L1",
                    &object,
                    format!("previous hash {}", hex(&hash)),
                    format!("previous hash {}", hex(&row.prev)),
                ));
            }
        }
        let written = chained(&row.prev, &row.block);
        if written != row.hash {
            report(Breach::of(
                "L1",
                &object,
                format!("content that hashes to {}", hex(&row.hash)),
                format!("content that hashes to {}", hex(&written)),
            ));
        }
        self.last = Some((row.number, row.hash));
    }
}
