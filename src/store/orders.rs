//! Orders as the flows load and write them, and the nonces that their changes spend.

use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::change::Change;
use crate::domain::identifiers::forgotten::Forgotten;
use crate::domain::identifiers::{InstitutionId, MerchantId, OrderKey, Timestamp};
use crate::domain::order::Order;
use crate::domain::personal::MobileNo;
use crate::store::StoreError;

/// Orders as they are.
#[async_trait]
pub trait Orders: Send + Sync {
    /// An order, whole, under a name that its asker may use (K3).
    async fn order(&self, key: &OrderKey) -> Result<Option<Order>, StoreError>;

    /// The institution through which this payer last paid this merchant.
    async fn last_institution(
        &self,
        merchant: &MerchantId,
        payer: &MobileNo,
    ) -> Result<Option<InstitutionId>, StoreError>;
}

/// The only way to write what a flow decided.
#[async_trait]
pub trait Changes: Send + Sync {
    /// Writes a change whole or not at all; returns once it is durable.
    async fn commit(&self, change: &Change) -> Result<Committed, StoreError>;
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// Durable.
    Done,
    /// Somebody wrote first: load and decide again (K4). Nothing was written.
    Stale,
    /// The merchant's number is taken. Nothing was written.
    KeyTaken,
    /// The nonce was spent before, or is of a moment that was forgotten. Nothing was written.
    NonceSpent,
}

/// What admission asks before a nonce is spent.
pub trait ReplayFloor: Send + Sync {
    /// Of which moments nonces were forgotten, durably: a request created then is refused (Q6).
    fn forgotten(&self) -> Arc<Forgotten>;
}

/// How long spent nonces are kept.
#[async_trait]
pub trait NonceRetention: Send + Sync {
    /// Forgets the nonces of requests made until then, and durably of which moments they were (Q6).
    async fn forget_nonces(&self, until: Timestamp) -> Result<(), StoreError>;
}
