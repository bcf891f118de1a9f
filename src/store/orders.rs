//! How flows load and write orders, and spend nonces.

use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::change::Change;
use crate::domain::identifiers::forgotten::Forgotten;
use crate::domain::identifiers::{InstitutionId, MerchantId, OrderKey, Timestamp};
use crate::domain::order::Order;
use crate::domain::personal::MobileNo;
use crate::store::StoreError;

/// Reads orders.
#[async_trait]
pub trait Orders: Send + Sync {
    /// Loads a complete order by a key that the caller may use (K3).
    async fn order(&self, key: &OrderKey) -> Result<Option<Order>, StoreError>;

    /// The institution last used by this payer to pay this merchant.
    async fn last_institution(
        &self,
        merchant: &MerchantId,
        payer: &MobileNo,
    ) -> Result<Option<InstitutionId>, StoreError>;
}

/// The only way to write what a flow decided.
#[async_trait]
pub trait Changes: Send + Sync {
    /// Writes a change atomically; returns once it is durable.
    async fn commit(&self, change: &Change) -> Result<Committed, StoreError>;
}

/// The result of committing a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// Durable.
    Done,
    /// The order was changed meanwhile: reload and decide again (K4). Nothing was written.
    Stale,
    /// The merchant's number is already used. Nothing was written.
    KeyTaken,
    /// The nonce is already spent, or was created at a time whose nonces were deleted. Nothing was
    /// written.
    NonceSpent,
}

/// What admission checks before a nonce is spent.
pub trait ReplayFloor: Send + Sync {
    /// The creation times whose nonces were deleted, durably: a request created then is rejected
    /// (Q6).
    fn forgotten(&self) -> Arc<Forgotten>;
}

/// Deletion of old nonces.
#[async_trait]
pub trait NonceRetention: Send + Sync {
    /// Deletes the nonces of requests created up to `until`, and durably records their creation
    /// times (Q6).
    async fn forget_nonces(&self, until: Timestamp) -> Result<(), StoreError>;
}
