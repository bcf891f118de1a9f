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
use paymux::store::outbox::{
    DeadEventFilter, DeadEvents, DeliveryShares, EventPageLimit, LaneShares, NumberedEvent,
};
use paymux::store::{
    ArchiveOutcome, Committed, DeliveryOutcome, InboxMessage, Lease, LeaseCompletion, LeaseKind,
    OrderKey, RemovalGuard, Store, StoreError,
};

/// Counts what it is asked to commit.
pub(super) struct CountingStore {
    pub(super) store: Arc<dyn Store>,
    pub(super) commits: AtomicU32,
}

#[async_trait]
impl Store for CountingStore {
    async fn commit(&self, change: &Change) -> Result<Committed, StoreError> {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.store.commit(change).await
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
