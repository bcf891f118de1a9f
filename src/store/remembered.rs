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
use crate::store::owed::{Dead, LaneShares, Numbered, Room, Shares, Which};
use crate::store::{
    Bindings, Committed, Fate, Kept, Lease, Message, OrderKey, Settled, Store, StoreError, Work,
};

/// Nonces remembered at most; about 150 bytes each.
const NONCES_MAX: u64 = 200_000;

/// Remembers spent nonces in front of another store.
pub struct Remembered {
    store: Arc<dyn Store>,
    spent: Cache<Box<str>, ()>,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// How a memory of nonces did since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recall {
    /// Nonces that were found: spent before.
    pub hits: u64,
    /// Nonces that were not found.
    pub misses: u64,
    /// Nonces remembered now, about.
    pub entries: u64,
}

impl Remembered {
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
    pub fn recall(&self) -> Recall {
        Recall {
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
impl Store for Remembered {
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

    async fn keep(&self, message: &Message) -> Result<Kept, StoreError> {
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
        work: Work,
        now: Timestamp,
        count: u32,
    ) -> Result<Vec<Lease>, StoreError> {
        self.store.lease(work, now, count).await
    }

    async fn settle(&self, lease: &Lease, fate: Fate) -> Result<Settled, StoreError> {
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

    async fn reschedule(&self, order: &Order, fence: u64) -> Result<Settled, StoreError> {
        self.store.reschedule(order, fence).await
    }

    async fn lease_events(
        &self,
        shares: &Shares,
        now: Timestamp,
        count: u32,
    ) -> Result<Vec<Lease>, StoreError> {
        self.store.lease_events(shares, now, count).await
    }

    async fn next_event(&self, shares: &Shares) -> Result<Option<Timestamp>, StoreError> {
        self.store.next_event(shares).await
    }

    async fn events_after(
        &self,
        merchant: &MerchantId,
        after: u64,
        room: Room,
    ) -> Result<Vec<Numbered>, StoreError> {
        self.store.events_after(merchant, after, room).await
    }

    async fn dead(&self, which: &Which, shown: u32) -> Result<Dead, StoreError> {
        self.store.dead(which, shown).await
    }

    async fn resend(&self, which: &Which, by: &str, now: Timestamp) -> Result<u64, StoreError> {
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

    async fn next_due(&self, work: Work) -> Result<Option<Timestamp>, StoreError> {
        self.store.next_due(work).await
    }

    async fn bindings(&self, since: Timestamp) -> Result<Bindings, StoreError> {
        self.store.bindings(since).await
    }
}
