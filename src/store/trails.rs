//! What is kept of orders beside the ledger, for whoever must explain them: bounded, compressed,
//! sealed, and for a shorter time. Diagnosis only: no order is decided by it.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::domain::identifiers::OrderKey;
use crate::domain::identifiers::{PayOrderNo, Timestamp};
use crate::store::StoreError;

/// What is kept of one order at most beside the callbacks that paid, as it is stored. Unit: bytes.
pub const ORDER_BYTES_MAX: usize = 4_096;

/// Of it so much of the order's beginning is never given up for what comes later. Unit: bytes.
pub const BEGINNING_BYTES: usize = 1_536;

/// What of it may have come from strangers: they must not drive out what is known to be true.
/// Unit: bytes.
pub const STRANGERS_BYTES_MAX: usize = 1_280;

/// The longest leaf before it is compressed; what is longer is not kept. Unit: bytes.
pub const LEAF_BYTES_MAX: usize = 64 * 1024;

/// About so much text goes into one leaf: what is given up is given up by the leaf, and a row that is
/// longer than a quarter of a page when packed takes another page for itself. Unit: bytes.
pub const LEAF_BYTES: usize = 3 * 1024;

/// Leaves that are forgotten at once, so that forgetting holds up no payment.
pub const FORGOTTEN_AT_ONCE: u32 = 500;

/// The same store, as whoever takes notes sees it.
#[async_trait]
pub trait Trails: Send + Sync {
    /// Which orders these names mean; nothing where there is none.
    async fn named(&self, keys: &[OrderKey]) -> Result<Vec<Option<PayOrderNo>>, StoreError>;

    /// Keeps these leaves within the bounds of their orders: of one that has too much, what lies
    /// between its beginning and its end is given up.
    async fn keep(&self, leaves: &[Leaf]) -> Result<(), StoreError>;

    /// Forgets at most [`FORGOTTEN_AT_ONCE`] leaves that were written before a moment; says how many.
    async fn forget(&self, before: Timestamp) -> Result<u64, StoreError>;
}

/// Some notes about one order, taken one after the other.
#[derive(Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Which order.
    pub order: PayOrderNo,
    /// When the first was taken.
    pub at: Timestamp,
    /// Whether they came from strangers.
    pub is_stranger: bool,
    /// Whether it is the callback by which an attempt was paid: it is kept whatever else is given up.
    pub is_paying: bool,
    /// What the notes are.
    pub holds: Kinds,
    /// The notes, a line of JSON each. Masked.
    pub lines: Vec<u8>,
}

/// How many notes there are of each kind, by the word that a note has for what it was.
pub type Kinds = BTreeMap<String, u64>;

/// What is left of an order's trail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trail {
    /// The notes, a line of JSON each, the oldest first.
    pub lines: Vec<String>,
    /// How many leaves were given up to keep to the bounds.
    pub given_up: u64,
    /// What was in them, as far as it is known.
    pub lost: Kinds,
}
