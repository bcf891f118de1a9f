//! A store wrapper that records each acknowledgement before the caller sees it.

use std::fmt::Display;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
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
    LeasedWork, OrderKey, RemovalGuard, Store, StoreError,
};

use super::acknowledged::TOLD;

pub(super) struct AcknowledgementRecorder {
    store: Arc<dyn Store>,
    log: Mutex<File>,
}

impl AcknowledgementRecorder {
    pub(super) fn new(store: Arc<dyn Store>, folder: &Path) -> Self {
        let log = File::options()
            .create(true)
            .append(true)
            .open(folder.join(TOLD))
            .unwrap();
        Self {
            store,
            log: Mutex::new(log),
        }
    }

    /// Writes a line, in one write.
    fn record(&self, what: impl Display) {
        let line = format!("{what}\n");
        self.log.lock().unwrap().write_all(line.as_bytes()).unwrap();
    }
}

#[async_trait]
impl Store for AcknowledgementRecorder {
    async fn commit(&self, change: &Change) -> Result<Committed, StoreError> {
        let committed = self.store.commit(change).await?;
        if committed == Committed::Done {
            if let Some(order) = change.order() {
                self.record(format_args!("order {} {}", order.no, order.version));
            }
            if let Some(nonce) = change.nonce() {
                let (key, created) = (nonce.key.as_str(), nonce.created.ms());
                self.record(format_args!("nonce {key} {} {created}", nonce.value));
            }
        }
        Ok(committed)
    }

    async fn keep(&self, message: &InboxMessage) -> Result<ArchiveOutcome, StoreError> {
        let kept = self.store.keep(message).await?;
        if kept == ArchiveOutcome::New {
            self.record("kept");
        }
        Ok(kept)
    }

    async fn settle(
        &self,
        lease: &Lease,
        fate: DeliveryOutcome,
    ) -> Result<LeaseCompletion, StoreError> {
        let settled = self.store.settle(lease, fate).await?;
        if let (LeaseCompletion::Done, DeliveryOutcome::Delivered(_), LeasedWork::Event(event, _)) =
            (settled, fate, &lease.of)
        {
            self.record(format_args!("delivered {}", event.id.as_str()));
        }
        Ok(settled)
    }

    async fn forget_nonces(&self, until: Timestamp) -> Result<(), StoreError> {
        self.store.forget_nonces(until).await?;
        for (first, last) in self.store.forgotten().spans() {
            self.record(format_args!("forgotten {} {}", first.ms(), last.ms()));
        }
        Ok(())
    }

    async fn order(&self, key: &OrderKey) -> Result<Option<Order>, StoreError> {
        self.store.order(key).await
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
