//! A store that remembers which nonces were spent, so that a replay is refused without asking.
//! Remembers only what cannot change any more, and may forget it at any moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use moka::sync::Cache;

use crate::domain::attempt::Epoch;
use crate::domain::change::Change;
use crate::domain::identifiers::forgotten::Forgotten;
use crate::domain::identifiers::{FreshNonce, InstitutionId, MerchantId, PayOrderNo, Timestamp};
use crate::domain::order::Order;
use crate::domain::personal::MobileNo;
use crate::store::outbox::{
    DeadEventFilter, DeadEvents, DeliveryShares, EventPageLimit, LaneShares, NumberedEvent,
};
use crate::store::{
    ArchiveOutcome, Committed, DeliveryOutcome, InboxMessage, Lease, LeaseCompletion, LeaseKind,
    OrderKey, RemovalGuard, Store, StoreError,
};

/// Nonces remembered at most; about 150 bytes each.
const NONCES_MAX: u64 = 200_000;

/// Remembers spent nonces in front of another store.
pub struct NonceCache {
    store: Arc<dyn Store>,
    spent: Cache<Box<str>, ()>,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// How a memory of nonces did since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NonceCacheStats {
    /// Nonces that were found: spent before.
    pub hits: u64,
    /// Nonces that were not found.
    pub misses: u64,
    /// Nonces remembered now, about.
    pub entries: u64,
}

impl NonceCache {
    /// In front of this store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            spent: Cache::new(NONCES_MAX),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// How often a nonce was found here.
    pub fn stats(&self) -> NonceCacheStats {
        NonceCacheStats {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            entries: self.spent.entry_count(),
        }
    }
}

/// No key's name holds a space.
fn name(nonce: &FreshNonce) -> Box<str> {
    format!("{} {}", nonce.key, nonce.value).into()
}

#[async_trait]
impl Store for NonceCache {
    async fn commit(&self, change: &Change) -> Result<Committed, StoreError> {
        let nonce = change.nonce().map(name);
        if let Some(nonce) = &nonce {
            if self.spent.contains_key(nonce) {
                self.hits.fetch_add(1, Ordering::Relaxed);
                return Ok(Committed::NonceSpent);
            }
            self.misses.fetch_add(1, Ordering::Relaxed);
        }
        let committed = self.store.commit(change).await?;
        // Only what is durable is remembered: a change that wrote nothing spent nothing.
        if committed == Committed::Done
            && let Some(nonce) = nonce
        {
            self.spent.insert(nonce, ());
        }
        Ok(committed)
    }

    fn remembers(&self, nonce: &FreshNonce) -> bool {
        let is_spent = self.spent.contains_key(&name(nonce));
        self.hits.fetch_add(u64::from(is_spent), Ordering::Relaxed);
        is_spent
    }

    async fn order(&self, key: &OrderKey) -> Result<Option<Order>, StoreError> {
        self.store.order(key).await
    }

    async fn keep(&self, message: &InboxMessage) -> Result<ArchiveOutcome, StoreError> {
        self.store.keep(message).await
    }

    async fn last_used(
        &self,
        merchant: &MerchantId,
        payer: &MobileNo,
    ) -> Result<Option<InstitutionId>, StoreError> {
        self.store.last_used(merchant, payer).await
    }

    async fn lease(
        &self,
        work: LeaseKind,
        now: Timestamp,
        count: u32,
    ) -> Result<Vec<Lease>, StoreError> {
        self.store.lease(work, now, count).await
    }

    async fn settle(
        &self,
        lease: &Lease,
        fate: DeliveryOutcome,
    ) -> Result<LeaseCompletion, StoreError> {
        self.store.settle(lease, fate).await
    }

    async fn lease_orders(
        &self,
        shares: &LaneShares<'_>,
        now: Timestamp,
        count: u32,
    ) -> Result<Vec<Lease>, StoreError> {
        self.store.lease_orders(shares, now, count).await
    }

    async fn next_order(&self, shares: &LaneShares<'_>) -> Result<Option<Timestamp>, StoreError> {
        self.store.next_order(shares).await
    }

    async fn lease_named(
        &self,
        orders: &[PayOrderNo],
        now: Timestamp,
    ) -> Result<Vec<Lease>, StoreError> {
        self.store.lease_named(orders, now).await
    }

    async fn reschedule(&self, order: &Order, fence: u64) -> Result<LeaseCompletion, StoreError> {
        self.store.reschedule(order, fence).await
    }

    async fn lease_events(
        &self,
        shares: &DeliveryShares,
        now: Timestamp,
        count: u32,
    ) -> Result<Vec<Lease>, StoreError> {
        self.store.lease_events(shares, now, count).await
    }

    async fn next_event(&self, shares: &DeliveryShares) -> Result<Option<Timestamp>, StoreError> {
        self.store.next_event(shares).await
    }

    async fn events_after(
        &self,
        merchant: &MerchantId,
        after: u64,
        room: EventPageLimit,
    ) -> Result<Vec<NumberedEvent>, StoreError> {
        self.store.events_after(merchant, after, room).await
    }

    async fn dead(&self, which: &DeadEventFilter, shown: u32) -> Result<DeadEvents, StoreError> {
        self.store.dead(which, shown).await
    }

    async fn resend(
        &self,
        which: &DeadEventFilter,
        by: &str,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.store.resend(which, by, now).await
    }

    async fn forget_nonces(&self, until: Timestamp) -> Result<(), StoreError> {
        self.store.forget_nonces(until).await
    }

    async fn bring_forward(
        &self,
        by: Option<Duration>,
        now: Timestamp,
    ) -> Result<Duration, StoreError> {
        self.store.bring_forward(by, now).await
    }

    fn epoch(&self) -> Epoch {
        self.store.epoch()
    }

    fn forgotten(&self) -> Arc<Forgotten> {
        self.store.forgotten()
    }

    async fn next_due(&self, work: LeaseKind) -> Result<Option<Timestamp>, StoreError> {
        self.store.next_due(work).await
    }

    async fn dependents(&self, since: Timestamp) -> Result<RemovalGuard, StoreError> {
        self.store.dependents(since).await
    }
}
