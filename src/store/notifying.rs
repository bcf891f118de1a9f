//! A store that wakes the workers when a commit owes somebody something (N8), so that nobody
//! has to look again and again. A ring says "look", never what there is.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;

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

/// What is due later than this is not rung for: nobody sleeps longer (`workers.rs`), and an order
/// that expires in a quarter of an hour needs nobody to look now.
pub const SOON: Duration = Duration::from_secs(5);

/// One bell for each kind of work. Each is rung with `notify_one`: a ring that nobody waits for
/// is kept for the next who does.
#[derive(Debug, Default)]
pub struct WorkerSignals {
    /// An order is due at another time than before.
    pub orders: Notify,
    /// An event was born, or a destination has room again.
    pub events: Notify,
}

/// Rings after what another store made durable.
pub struct NotifyingStore {
    store: Arc<dyn Store>,
    worker_signals: Arc<WorkerSignals>,
}

impl NotifyingStore {
    /// In front of this store, with these bells.
    pub fn new(store: Arc<dyn Store>, worker_signals: Arc<WorkerSignals>) -> Self {
        Self {
            store,
            worker_signals,
        }
    }
}

#[async_trait]
impl Store for NotifyingStore {
    async fn commit(&self, change: &Change) -> Result<Committed, StoreError> {
        let committed = self.store.commit(change).await?;
        if committed == Committed::Done
            && let Some(rows) = change.rows()
        {
            if rows.due.is_some_and(|due| due <= change.at().plus(SOON)) {
                self.worker_signals.orders.notify_one();
            }
            if rows.events.iter().any(|event| event.destination.is_some()) {
                self.worker_signals.events.notify_one();
            }
        }
        Ok(committed)
    }

    async fn settle(
        &self,
        lease: &Lease,
        fate: DeliveryOutcome,
    ) -> Result<LeaseCompletion, StoreError> {
        let settled = self.store.settle(lease, fate).await?;
        if settled == LeaseCompletion::Done {
            self.worker_signals.events.notify_one();
        }
        Ok(settled)
    }

    fn remembers(&self, nonce: &FreshNonce) -> bool {
        self.store.remembers(nonce)
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
        let settled = self.store.reschedule(order, fence).await?;
        if settled == LeaseCompletion::Done {
            self.worker_signals.orders.notify_one();
        }
        Ok(settled)
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
        let resent = self.store.resend(which, by, now).await?;
        if resent > 0 {
            self.worker_signals.events.notify_one();
        }
        Ok(resent)
    }

    async fn forget_nonces(&self, until: Timestamp) -> Result<(), StoreError> {
        self.store.forget_nonces(until).await
    }

    async fn bring_forward(
        &self,
        by: Option<Duration>,
        now: Timestamp,
    ) -> Result<Duration, StoreError> {
        let by = self.store.bring_forward(by, now).await?;
        if !by.is_zero() {
            // Whoever sleeps until later is woken.
            self.worker_signals.orders.notify_one();
            self.worker_signals.events.notify_one();
        }
        Ok(by)
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
