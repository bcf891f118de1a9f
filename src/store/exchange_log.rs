//! Storage of the exchange log: blocks of entries about many orders, bounded in age and size. For
//! diagnosis only; no decision about an order depends on it.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::domain::identifiers::OrderKey;
use crate::domain::identifiers::Timestamp;
use crate::domain::order::Order;
use crate::seal::Seal;
use crate::store::StoreError;

/// Maximum block size before compression. Unit: bytes.
pub const BLOCK_BYTES_MAX: usize = 256 * 1024;

/// Maximum number of blocks removed in one transaction, so that removal does not delay payments.
pub const BLOCKS_REMOVED_AT_ONCE: u32 = 8;

/// Maximum number of entries read for one order, not counting callbacks that caused a payment.
pub const ENTRIES_READ_MAX: usize = 10_000;

/// Maximum number of those entries whose senders were not authenticated.
pub const UNPROVEN_READ_MAX: usize = 1_000;

/// The part of the store used by the exchange log writer.
#[async_trait]
pub trait ExchangeLog: Send + Sync {
    /// Appends a block atomically: after an error none of it is stored.
    async fn append(&self, block: &Block) -> Result<(), StoreError>;

    /// Removes the oldest blocks, at most [`BLOCKS_REMOVED_AT_ONCE`]: those whose last entry is
    /// older than `before`, and those that take the log above `bytes_max`.
    async fn remove_oldest(
        &self,
        before: Option<Timestamp>,
        bytes_max: u64,
    ) -> Result<Removed, StoreError>;
}

/// A sequence of consecutive entries, about any orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Start time of the first exchange.
    pub first: Timestamp,
    /// Start time of the last exchange.
    pub last: Timestamp,
    /// The key under which each entry names its order.
    pub orders: Vec<OrderKey>,
    /// The masked entries, one line of JSON each. At most [`BLOCK_BYTES_MAX`].
    pub lines: Vec<u8>,
    /// Entries dropped since the previous block.
    pub dropped: Dropped,
}

/// Number of dropped entries by entry kind.
pub type Dropped = BTreeMap<String, u64>;

/// Adds `more` to the dropped count of `kind`.
pub fn count_dropped(dropped: &mut Dropped, kind: &str, more: u64) {
    let known = dropped.entry(kind.to_owned()).or_default();
    *known = known.saturating_add(more);
}

/// The result of removing old blocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Blocks removed because of their age.
    pub by_age: u64,
    /// Blocks removed because of the size limit.
    pub by_size: u64,
    /// Size of the remaining blocks. Unit: bytes.
    pub bytes: u64,
}

/// The exchange log's entries about one order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchanges {
    /// The entries, a line of JSON each.
    pub lines: Vec<String>,
    /// Entries of this order that exist but were left out because of the limits.
    pub left_out: u64,
    /// Entries of any order that were dropped during the order's lifetime.
    pub dropped: Dropped,
    /// Blocks with entries of this order that cannot be decrypted.
    pub unreadable: u64,
    /// The end of the time range that was searched.
    pub until: Timestamp,
}

impl Exchanges {
    /// An empty result for a search up to `until`.
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

/// A keyed digest that finds an order's entries without revealing the order.
pub type OrderDigest = [u8; 8];

/// The digest of the key under which an entry names its order.
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
    // Neither a kind nor an owner contains the NUL separator.
    let name = format!("{kind}\0{owner}\0{number}");
    let whole = seal.digest("exchange log", name.as_bytes());
    let mut short = OrderDigest::default();
    for (to, from) in short.iter_mut().zip(whole) {
        *to = from;
    }
    short
}

/// The digests of every key under which an entry may name this order.
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
