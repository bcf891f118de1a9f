//! The exchange log, block by block: a block that was removed between two others, or changed, is found (L1).
//! The oldest are removed by age and size, so the chain begins with the oldest that is there.

use crate::crypto::digest::Sha256;
use crate::domain::identifiers::{Timestamp, hex};
use crate::domain::verification::{Breach, BreachSink};

/// Separates this hash from every other use of SHA-256, and one edition of it from the next.
const DOMAIN: &[u8] = b"paymux exchange log 1";

/// What stands in a block's row beside what is sealed.
#[derive(Debug, Clone, Copy)]
pub struct BlockHead<'a> {
    /// When the first exchange of its entries began.
    pub first: Timestamp,
    /// When the last did.
    pub last: Timestamp,
    /// What was dropped before it.
    pub dropped: &'a str,
    /// The digests of its entries' orders.
    pub orders: &'a [u8],
}

impl BlockHead<'_> {
    /// Of all that it says.
    pub fn hash(&self) -> [u8; 32] {
        let (first, last) = (self.first.ms().to_be_bytes(), self.last.ms().to_be_bytes());
        hash(&[b"head", &first, &last, self.dropped.as_bytes(), self.orders])
    }
}

/// Of a whole block, from its head's hash and what is sealed.
pub fn block_hash(head: &[u8; 32], sealed: &[u8]) -> [u8; 32] {
    hash(&[b"block", head, sealed])
}

/// What the block's row says, from the row before it.
pub fn chained(prev: &[u8; 32], block: &[u8; 32]) -> [u8; 32] {
    hash(&[b"chain", prev, block])
}

/// Each part is preceded by its length, so that no two lists of parts have the same bytes.
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

/// A block's row, as far as its chain goes.
#[derive(Debug)]
pub struct BlockRow {
    /// Its number.
    pub number: u64,
    /// Of all that is in it.
    pub block: [u8; 32],
    /// The hash it names as the one before.
    pub prev: [u8; 32],
    /// Its own.
    pub hash: [u8; 32],
}

/// Walks along the blocks. What is broken at one is not held against the next.
#[derive(Debug, Default)]
pub struct Blocks {
    last: Option<(u64, [u8; 32])>,
}

impl Blocks {
    /// The next block, by number.
    pub fn follow(&mut self, row: &BlockRow, hear: &mut BreachSink<'_>) {
        let object = format!("exchange_log {}", row.number);
        if let Some((number, hash)) = self.last {
            let next = number.saturating_add(1);
            if row.number != next {
                hear(Breach::of(
                    "L1",
                    &object,
                    format!("block {next} after {number}"),
                    format!("block {}: what lies between is missing", row.number),
                ));
            }
            if row.prev != hash {
                hear(Breach::of(
                    "L1",
                    &object,
                    format!("names {} as the hash before it", hex(&hash)),
                    format!("names {}", hex(&row.prev)),
                ));
            }
        }
        let written = chained(&row.prev, &row.block);
        if written != row.hash {
            hear(Breach::of(
                "L1",
                &object,
                format!(
                    "holds what it held when it was hashed to {}",
                    hex(&row.hash)
                ),
                format!("hashes to {}", hex(&written)),
            ));
        }
        self.last = Some((row.number, row.hash));
    }
}
