//! A store in front of another that counts what is committed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use paymux::domain::attempt::Epoch;
use paymux::domain::change::Change;
use paymux::domain::identifiers::forgotten::Forgotten;
use paymux::domain::identifiers::{InstitutionId, MerchantId, PayOrderNo, Timestamp};
use paymux::domain::order::Order;
use paymux::domain::personal::MobileNo;
use paymux::store::owed::{Dead, LaneShares, Numbered, Room, Shares, Which};
use paymux::store::{
    Bindings, Committed, Fate, Kept, Lease, Message, OrderKey, Settled, Store, StoreError, Work,
};

/// Counts what it is asked to commit.
pub(super) struct Counted {
    pub(super) store: Arc<dyn Store>,
    pub(super) commits: AtomicU32,
}

#[async_trait]
impl Store for Counted {
    async fn commit(&self, change: &Change) -> Result<Committed, StoreError> {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.store.commit(change).await
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
