//! A store that holds a store and fails at a chosen write: it refuses, loses the outcome, or stops
//! the process before or after the write. With a plant it also lacks one protection, for checks
//! that must find out.

use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use paymux::domain::attempt::{AttemptState, Epoch};
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

use super::memory::MemoryStore;

/// What happens at a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InjectedFault {
    /// Refused; nothing was written.
    Unavailable,
    /// Nobody knows, and it was not written.
    LostUnwritten,
    /// Nobody knows, and it was written.
    LostWritten,
    /// The process stops before it is written.
    StopBefore,
    /// The process stops when it is written, before anybody hears.
    StopAfter,
}

/// A protection of the store that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MissingProtection {
    /// Intents are acknowledged and not written (A1).
    Intent,
    /// Spent nonces are forgotten (Q5).
    Nonce,
    /// Nonces are forgotten, and that they are is not kept (Q6).
    Floor,
    /// An old lease settles as well as a new one (N6).
    Fence,
    /// Events are not written with their change (N1).
    Event,
    /// A new event is born whenever a paid order is written (N4).
    SecondEvent,
    /// Surplus is booked without its refund (A4).
    Refund,
    /// Whoever writes last wins (K4).
    Version,
    /// Postings are not written with their change (M1).
    Entry,
    /// Reservations of refunds are acknowledged and not written (R4).
    Reservation,
    /// A number of a refund is taken twice (R6).
    RefundNumber,
    /// What is in doubt has no due time (A6).
    Due,
    /// It is not kept what an institution has named as its own (V5).
    Named,
    /// Somebody else always writes first.
    Quiet,
}

/// The number of a write, counted from now, and what happens at it.
type PlannedFault = Option<(u64, InjectedFault)>;

pub(crate) struct FaultInjector {
    inner: Arc<dyn Store>,
    unmet_requirements: Option<(MissingProtection, Arc<MemoryStore>)>,
    plan: Mutex<PlannedFault>,
    stopped: AtomicBool,
}

impl FaultInjector {
    pub(crate) fn new(inner: Arc<dyn Store>) -> Self {
        Self {
            inner,
            unmet_requirements: None,
            plan: Mutex::new(None),
            stopped: AtomicBool::new(false),
        }
    }

    /// Without one protection.
    pub(crate) fn unmet_requirements(memory: &Arc<MemoryStore>, lack: MissingProtection) -> Self {
        Self {
            unmet_requirements: Some((lack, Arc::clone(memory))),
            ..Self::new(Arc::<MemoryStore>::clone(memory))
        }
    }

    /// At that write from now on, the first being 1.
    pub(crate) fn plan(&self, at: u64, trouble: InjectedFault) {
        *self.plan.lock().unwrap() = Some((at, trouble));
    }

    /// Whether the process came to its end.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Every further call finds the process at its end.
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
        let committed = self.inner.commit(change).await?;
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
impl Store for FaultInjector {
    async fn order(&self, key: &OrderKey) -> Result<Option<Order>, StoreError> {
        self.stand().await;
        self.inner.order(key).await
    }

    async fn commit(&self, change: &Change) -> Result<Committed, StoreError> {
        match &self.unmet_requirements {
            Some((lack, memory)) => self.write(self.commit_lacking(change, *lack, memory)).await,
            None => self.write(self.inner.commit(change)).await,
        }
    }

    async fn keep(&self, message: &InboxMessage) -> Result<ArchiveOutcome, StoreError> {
        self.write(self.inner.keep(message)).await
    }

    async fn last_used(
        &self,
        merchant: &MerchantId,
        payer: &MobileNo,
    ) -> Result<Option<InstitutionId>, StoreError> {
        self.stand().await;
        self.inner.last_used(merchant, payer).await
    }

    async fn lease(
        &self,
        work: LeaseKind,
        now: Timestamp,
        count: u32,
    ) -> Result<Vec<Lease>, StoreError> {
        self.write(self.inner.lease(work, now, count)).await
    }

    async fn settle(
        &self,
        lease: &Lease,
        fate: DeliveryOutcome,
    ) -> Result<LeaseCompletion, StoreError> {
        if let Some((MissingProtection::Fence, memory)) = &self.unmet_requirements {
            memory.durable().believe(lease);
        }
        self.write(self.inner.settle(lease, fate)).await
    }

    async fn lease_orders(
        &self,
        shares: &LaneShares<'_>,
        now: Timestamp,
        count: u32,
    ) -> Result<Vec<Lease>, StoreError> {
        self.write(self.inner.lease_orders(shares, now, count))
            .await
    }

    async fn next_order(&self, shares: &LaneShares<'_>) -> Result<Option<Timestamp>, StoreError> {
        self.stand().await;
        self.inner.next_order(shares).await
    }

    async fn lease_named(
        &self,
        orders: &[PayOrderNo],
        now: Timestamp,
    ) -> Result<Vec<Lease>, StoreError> {
        self.write(self.inner.lease_named(orders, now)).await
    }

    async fn reschedule(&self, order: &Order, fence: u64) -> Result<LeaseCompletion, StoreError> {
        if let Some((MissingProtection::Fence, memory)) = &self.unmet_requirements {
            memory.durable().believe_order(order, fence);
        }
        self.write(self.inner.reschedule(order, fence)).await
    }

    async fn lease_events(
        &self,
        shares: &DeliveryShares,
        now: Timestamp,
        count: u32,
    ) -> Result<Vec<Lease>, StoreError> {
        self.write(self.inner.lease_events(shares, now, count))
            .await
    }

    async fn next_event(&self, shares: &DeliveryShares) -> Result<Option<Timestamp>, StoreError> {
        self.stand().await;
        self.inner.next_event(shares).await
    }

    async fn events_after(
        &self,
        merchant: &MerchantId,
        after: u64,
        room: EventPageLimit,
    ) -> Result<Vec<NumberedEvent>, StoreError> {
        self.stand().await;
        self.inner.events_after(merchant, after, room).await
    }

    async fn dead(&self, which: &DeadEventFilter, shown: u32) -> Result<DeadEvents, StoreError> {
        self.stand().await;
        self.inner.dead(which, shown).await
    }

    async fn resend(
        &self,
        which: &DeadEventFilter,
        by: &str,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.write(self.inner.resend(which, by, now)).await
    }

    async fn forget_nonces(&self, until: Timestamp) -> Result<(), StoreError> {
        if let Some((MissingProtection::Floor, memory)) = &self.unmet_requirements {
            let mut durable = memory.durable();
            durable.nonces.retain(|_, created| *created > until);
            return Ok(());
        }
        self.write(self.inner.forget_nonces(until)).await
    }

    async fn bring_forward(
        &self,
        by: Option<Duration>,
        now: Timestamp,
    ) -> Result<Duration, StoreError> {
        self.write(self.inner.bring_forward(by, now)).await
    }

    fn epoch(&self) -> Epoch {
        self.inner.epoch()
    }

    fn forgotten(&self) -> Arc<Forgotten> {
        self.inner.forgotten()
    }

    async fn next_due(&self, work: LeaseKind) -> Result<Option<Timestamp>, StoreError> {
        self.stand().await;
        self.inner.next_due(work).await
    }

    async fn dependents(&self, since: Timestamp) -> Result<RemovalGuard, StoreError> {
        self.stand().await;
        self.inner.dependents(since).await
    }
}
