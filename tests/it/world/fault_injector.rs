//! A store decorator that fails at a chosen write: it rejects it, loses the outcome, or stops the
//! process before or after the write. It can also remove one protection, for tests of the checks
//! that must detect that.

use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use paymux::domain::attempt::AttemptState;
use paymux::domain::change::Change;
use paymux::domain::identifiers::{InstitutionId, MerchantId, PayOrderNo, Timestamp};
use paymux::domain::order::Order;
use paymux::domain::personal::MobileNo;
use paymux::store::outbox::{
    DeadEventFilter, DeadEvents, DeliveryShares, EventPageLimit, NumberedEvent,
};
use paymux::store::unresolved::{LaneShares, NextOrder};
use paymux::store::{
    Archive, ArchiveOutcome, Changes, Committed, ConfigurationLog, DeliveryOutcome, InboxMessage,
    Lease, LeaseCompletion, Nodes, NonceRetention, OrderKey, Orders, Outbox, RemovalGuard, Store,
    StoreError, Unresolved,
};

use super::memory::MemoryStore;

/// What happens at a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InjectedFault {
    /// Rejected; nothing was written.
    Unavailable,
    /// Outcome unknown; it was not written.
    LostUnwritten,
    /// Outcome unknown; it was written.
    LostWritten,
    /// The process stops before it is written.
    StopBefore,
    /// The process stops after it is written, before anyone learns of it.
    StopAfter,
}

/// A missing protection of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MissingProtection {
    /// Intents are acknowledged and not written (A1).
    Intent,
    /// Spent nonces are forgotten (Q5).
    Nonce,
    /// Nonces are deleted without a record of it (Q6).
    Floor,
    /// A lost lease can still be completed (N6).
    Fence,
    /// Events are not written with their change (N1).
    Event,
    /// A new event is created whenever a paid order is written (N4).
    SecondEvent,
    /// An excess payment is posted without its refund (A4).
    Refund,
    /// The last writer wins (K4).
    Version,
    /// Postings are not written with their change (M1).
    Entry,
    /// Reservations of refunds are acknowledged and not written (R4).
    Reservation,
    /// A refund number can be used twice (R6).
    RefundNumber,
    /// Unresolved attempts have no due time (A6).
    Due,
    /// What an institution confirmed as its own is not stored (V5).
    Named,
    /// Every write finds that another came first.
    Quiet,
}

/// The number of a write, counted from now, and the fault at it.
type PlannedFault = Option<(u64, InjectedFault)>;

pub(crate) struct FaultInjector {
    inner: Arc<Store>,
    unmet_requirements: Option<(MissingProtection, Arc<MemoryStore>)>,
    plan: Mutex<PlannedFault>,
    stopped: AtomicBool,
}

impl FaultInjector {
    pub(crate) fn new(inner: Arc<Store>) -> Self {
        Self {
            inner,
            unmet_requirements: None,
            plan: Mutex::new(None),
            stopped: AtomicBool::new(false),
        }
    }

    /// A fault injector with one protection missing.
    pub(crate) fn unmet_requirements(memory: &Arc<MemoryStore>, lack: MissingProtection) -> Self {
        Self {
            unmet_requirements: Some((lack, Arc::clone(memory))),
            ..Self::new(memory.handles())
        }
    }

    /// The handles for the gateway.
    pub(crate) fn handles(self: &Arc<Self>) -> Arc<Store> {
        Arc::new(Store {
            orders: self.clone(),
            changes: self.clone(),
            nonces: self.clone(),
            archive: self.clone(),
            unresolved: self.clone(),
            outbox: self.clone(),
            nodes: self.clone(),
            configuration: self.clone(),
            ..Store::clone(&self.inner)
        })
    }

    /// Injects this fault at that write from now on, the first being 1.
    pub(crate) fn plan(&self, at: u64, trouble: InjectedFault) {
        *self.plan.lock().unwrap() = Some((at, trouble));
    }

    /// Whether the process has stopped.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Stops the process: no later call returns.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    fn due(&self) -> Option<InjectedFault> {
        let mut plan = self.plan.lock().unwrap();
        let (left, trouble) = (*plan)?;
        if left > 1 {
            *plan = Some((left - 1, trouble));
            return None;
        }
        *plan = None;
        Some(trouble)
    }

    async fn stand(&self) {
        if self.is_stopped() {
            pending::<()>().await;
        }
    }

    async fn read<T>(&self, read: impl Future<Output = T>) -> T {
        self.stand().await;
        read.await
    }

    async fn write<T>(
        &self,
        write: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.stand().await;
        let lost = || {
            Err(StoreError::OutcomeUnknown(
                "the writer does not answer".into(),
            ))
        };
        match self.due() {
            None => write.await,
            Some(InjectedFault::Unavailable) => Err(StoreError::Unavailable("planned".into())),
            Some(InjectedFault::LostUnwritten) => lost(),
            Some(InjectedFault::LostWritten) => {
                write.await?;
                lost()
            }
            Some(InjectedFault::StopBefore) => {
                self.stop();
                pending().await
            }
            Some(InjectedFault::StopAfter) => {
                write.await?;
                self.stop();
                pending().await
            }
        }
    }

    /// Commits without the protection that is missing.
    async fn commit_lacking(
        &self,
        change: &Change,
        lack: MissingProtection,
        memory: &MemoryStore,
    ) -> Result<Committed, StoreError> {
        let rows = change.rows();
        match (lack, rows) {
            (MissingProtection::Intent, Some(rows)) => {
                let mut written = rows.attempts();
                if rows.before.is_some() && written.any(|one| one.state == AttemptState::Intent) {
                    return Ok(Committed::Done);
                }
            }
            (MissingProtection::Reservation, Some(rows)) if rows.reserved().is_some() => {
                return Ok(Committed::Done);
            }
            (MissingProtection::Quiet, Some(rows)) if rows.before.is_some() => {
                return Ok(Committed::Stale);
            }
            (MissingProtection::RefundNumber, _) => memory.durable().takes_any_number = true,
            (MissingProtection::Nonce, _) => memory.durable().nonces.clear(),
            (MissingProtection::Version, Some(rows)) => {
                let mut durable = memory.durable();
                if let (Some(before), Some(row)) =
                    (rows.before, durable.orders.get_mut(&rows.order.no))
                {
                    row.order.version = before;
                }
            }
            _ => (),
        }
        let events = memory.durable().events.clone();
        let entries = memory.durable().entries.len();
        let committed = self.inner.changes.commit(change).await?;
        if let (Committed::Done, Some(rows)) = (committed, rows) {
            let mut durable = memory.durable();
            match lack {
                MissingProtection::Event => durable.events = events,
                MissingProtection::Entry => durable.entries.truncate(entries),
                MissingProtection::Refund => {
                    let row = durable.orders.get_mut(&rows.order.no).unwrap();
                    row.order.refunds.clear();
                }
                MissingProtection::SecondEvent => durable.double_event(&rows.order),
                MissingProtection::Due => {
                    durable.orders.get_mut(&rows.order.no).unwrap().due = None;
                }
                MissingProtection::Named => {
                    let row = durable.orders.get_mut(&rows.order.no).unwrap();
                    for attempt in &mut row.order.attempts {
                        attempt.named = false;
                    }
                }
                MissingProtection::Intent
                | MissingProtection::Nonce
                | MissingProtection::Floor
                | MissingProtection::Fence
                | MissingProtection::Version
                | MissingProtection::Reservation
                | MissingProtection::Quiet
                | MissingProtection::RefundNumber => (),
            }
        }
        Ok(committed)
    }
}

#[async_trait]
impl Orders for FaultInjector {
    async fn order(&self, key: &OrderKey) -> Result<Option<Order>, StoreError> {
        self.read(self.inner.orders.order(key)).await
    }

    async fn last_institution(
        &self,
        merchant: &MerchantId,
        payer: &MobileNo,
    ) -> Result<Option<InstitutionId>, StoreError> {
        self.read(self.inner.orders.last_institution(merchant, payer))
            .await
    }
}

#[async_trait]
impl Changes for FaultInjector {
    async fn commit(&self, change: &Change) -> Result<Committed, StoreError> {
        match &self.unmet_requirements {
            Some((lack, memory)) => self.write(self.commit_lacking(change, *lack, memory)).await,
            None => self.write(self.inner.changes.commit(change)).await,
        }
    }
}

#[async_trait]
impl NonceRetention for FaultInjector {
    async fn forget_nonces(&self, until: Timestamp) -> Result<(), StoreError> {
        if let Some((MissingProtection::Floor, memory)) = &self.unmet_requirements {
            let mut durable = memory.durable();
            durable.nonces.retain(|_, created| *created > until);
            return Ok(());
        }
        self.write(self.inner.nonces.forget_nonces(until)).await
    }
}

#[async_trait]
impl Archive for FaultInjector {
    async fn archive(&self, message: &InboxMessage) -> Result<ArchiveOutcome, StoreError> {
        self.write(self.inner.archive.archive(message)).await
    }
}

#[async_trait]
impl Unresolved for FaultInjector {
    async fn lease_orders(
        &self,
        shares: &LaneShares,
        now: Timestamp,
        count: u32,
    ) -> Result<Vec<Lease>, StoreError> {
        self.write(self.inner.unresolved.lease_orders(shares, now, count))
            .await
    }

    async fn next_order(&self, shares: &LaneShares) -> Result<NextOrder, StoreError> {
        self.read(self.inner.unresolved.next_order(shares)).await
    }

    async fn lease_named(
        &self,
        orders: &[PayOrderNo],
        now: Timestamp,
    ) -> Result<Vec<Lease>, StoreError> {
        self.write(self.inner.unresolved.lease_named(orders, now))
            .await
    }

    async fn reschedule(&self, order: &Order, fence: u64) -> Result<LeaseCompletion, StoreError> {
        if let Some((MissingProtection::Fence, memory)) = &self.unmet_requirements {
            memory.durable().believe_order(order, fence);
        }
        self.write(self.inner.unresolved.reschedule(order, fence))
            .await
    }
}

#[async_trait]
impl Outbox for FaultInjector {
    async fn lease_events(
        &self,
        shares: &DeliveryShares,
        now: Timestamp,
        count: u32,
    ) -> Result<Vec<Lease>, StoreError> {
        self.write(self.inner.outbox.lease_events(shares, now, count))
            .await
    }

    async fn next_event(&self, shares: &DeliveryShares) -> Result<Option<Timestamp>, StoreError> {
        self.read(self.inner.outbox.next_event(shares)).await
    }

    async fn complete(
        &self,
        lease: &Lease,
        outcome: DeliveryOutcome,
    ) -> Result<LeaseCompletion, StoreError> {
        if let Some((MissingProtection::Fence, memory)) = &self.unmet_requirements {
            memory.durable().believe(lease);
        }
        self.write(self.inner.outbox.complete(lease, outcome)).await
    }

    async fn events_after(
        &self,
        merchant: &MerchantId,
        after: u64,
        room: EventPageLimit,
    ) -> Result<Vec<NumberedEvent>, StoreError> {
        self.read(self.inner.outbox.events_after(merchant, after, room))
            .await
    }

    async fn dead_lettered(
        &self,
        which: &DeadEventFilter,
        shown: u32,
    ) -> Result<DeadEvents, StoreError> {
        self.read(self.inner.outbox.dead_lettered(which, shown))
            .await
    }

    async fn resend(
        &self,
        which: &DeadEventFilter,
        by: &str,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.write(self.inner.outbox.resend(which, by, now)).await
    }
}

#[async_trait]
impl Nodes for FaultInjector {
    async fn lease_orphaned(&self, now: Timestamp, count: u32) -> Result<Vec<Lease>, StoreError> {
        self.write(self.inner.nodes.lease_orphaned(now, count))
            .await
    }

    async fn bring_forward(
        &self,
        by: Option<Duration>,
        now: Timestamp,
    ) -> Result<Duration, StoreError> {
        self.write(self.inner.nodes.bring_forward(by, now)).await
    }
}

#[async_trait]
impl ConfigurationLog for FaultInjector {
    async fn dependents(&self, since: Timestamp) -> Result<RemovalGuard, StoreError> {
        self.read(self.inner.configuration.dependents(since)).await
    }
}
