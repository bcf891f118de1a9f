//! The exchange log as it is stored: blocks of entries about many orders, for a bounded time and within a bounded
//! size. Diagnosis only: no order is decided by it.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::domain::identifiers::OrderKey;
use crate::domain::identifiers::Timestamp;
use crate::domain::order::Order;
use crate::seal::Seal;
use crate::store::StoreError;

/// The longest block before it is compressed. Unit: bytes.
pub const BLOCK_BYTES_MAX: usize = 256 * 1024;

/// Blocks that are removed at once, so that removing holds up no payment.
pub const BLOCKS_REMOVED_AT_ONCE: u32 = 8;

/// Entries of one order that are read at most, beside the callbacks that paid.
pub const ENTRIES_READ_MAX: usize = 10_000;

/// Of them so many whose senders were not proven.
pub const UNPROVEN_READ_MAX: usize = 1_000;

/// The same store, as whoever writes the exchange log sees it.
#[async_trait]
pub trait ExchangeLog: Send + Sync {
    /// Appends a block. An error means that none of it is there.
    async fn append(&self, block: &Block) -> Result<(), StoreError>;

    /// Removes the oldest blocks, [`BLOCKS_REMOVED_AT_ONCE`] at most: those whose last entry is from before that
    /// moment, and those with which the log takes more than so many bytes.
    async fn remove_oldest(
        &self,
        before: Option<Timestamp>,
        bytes_max: u64,
    ) -> Result<Removed, StoreError>;
}

/// Entries that were appended one after the other, of any orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// When the first of their exchanges began.
    pub first: Timestamp,
    /// When the last did.
    pub last: Timestamp,
    /// Which order each entry is about, under the name that was used.
    pub orders: Vec<OrderKey>,
    /// The entries, a line of JSON each. Masked. [`BLOCK_BYTES_MAX`] at most.
    pub lines: Vec<u8>,
    /// What was dropped since the block before.
    pub dropped: Dropped,
}

/// How many entries were dropped of each kind, by the word that an entry has for what it was.
pub type Dropped = BTreeMap<String, u64>;

/// Counts so many more as dropped.
pub fn count_dropped(dropped: &mut Dropped, kind: &str, more: u64) {
    let known = dropped.entry(kind.to_owned()).or_default();
    *known = known.saturating_add(more);
}

/// What became of the oldest blocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Blocks that were too old.
    pub by_age: u64,
    /// Blocks for which there was no room.
    pub by_size: u64,
    /// What the blocks that are left take. Unit: bytes.
    pub bytes: u64,
}

/// What the exchange log has of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchanges {
    /// The entries, a line of JSON each.
    pub lines: Vec<String>,
    /// Entries of this order that are there and too many to be told.
    pub left_out: u64,
    /// Entries of any order that were dropped in the order's time.
    pub dropped: Dropped,
    /// Blocks with entries of this order that cannot be opened.
    pub unreadable: u64,
    /// Until when it was looked through.
    pub until: Timestamp,
}

impl Exchanges {
    /// Nothing found yet.
    pub fn until(until: Timestamp) -> Self {
        Self {
            lines: Vec::new(),
            left_out: 0,
            dropped: Dropped::new(),
            unreadable: 0,
            until,
        }
    }
}

/// By which entries of an order are found, without the order being known from it.
pub type OrderDigest = [u8; 8];

/// The digest of the name that an entry has for its order.
pub fn digest(seal: &Seal, key: &OrderKey) -> OrderDigest {
    let (kind, owner, number) = match key {
        OrderKey::PayOrderNo(merchant, no) => ("order", merchant.as_str(), no.as_str()),
        OrderKey::MerchantOrderNo(merchant, no) => {
            ("merchant order", merchant.as_str(), no.as_str())
        }
        OrderKey::Attempt(institution, id) => ("attempt", institution.as_str(), id.as_str()),
        OrderKey::Refund(institution, no) => ("refund there", institution.as_str(), no.as_str()),
        OrderKey::RefundOrderNo(merchant, no) => ("refund", merchant.as_str(), no.as_str()),
        OrderKey::MerchantRefundNo(merchant, no) => {
            ("merchant refund", merchant.as_str(), no.as_str())
        }
        OrderKey::Page(token) => (PAGE, "", token.order().as_str()),
    };
    of_name(seal, kind, owner, number)
}

const PAGE: &str = "page";

fn of_name(seal: &Seal, kind: &str, owner: &str, number: &str) -> OrderDigest {
    // Neither a kind nor an owner holds the byte between.
    let name = format!("{kind}\0{owner}\0{number}");
    let whole = seal.digest("exchange log", name.as_bytes());
    let mut short = OrderDigest::default();
    for (to, from) in short.iter_mut().zip(whole) {
        *to = from;
    }
    short
}

/// The digests of every name that an order may have been given.
pub fn digests(seal: &Seal, order: &Order) -> Vec<OrderDigest> {
    let merchant = &order.terms.merchant;
    let mut keys = vec![
        OrderKey::PayOrderNo(merchant.clone(), order.no.clone()),
        OrderKey::MerchantOrderNo(merchant.clone(), order.terms.merchant_order_no.clone()),
    ];
    for attempt in &order.attempts {
        let institution = attempt.institution.clone();
        keys.push(OrderKey::Attempt(institution, attempt.id.clone()));
    }
    for refund in &order.refunds {
        let attempt = order.attempts.iter().find(|one| one.id == refund.attempt);
        let institution = attempt.map(|attempt| attempt.institution.clone());
        keys.extend(institution.map(|it| OrderKey::Refund(it, refund.no.clone())));
        keys.push(OrderKey::RefundOrderNo(merchant.clone(), refund.no.clone()));
        let number = refund.request().map(|request| request.number.clone());
        keys.extend(number.map(|number| OrderKey::MerchantRefundNo(merchant.clone(), number)));
    }
    let mut digests: Vec<_> = keys.iter().map(|key| digest(seal, key)).collect();
    digests.push(of_name(seal, PAGE, "", order.no.as_str()));
    digests
}
