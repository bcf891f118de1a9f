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
use paymux::store::owed::{Dead, LaneShares, Numbered, Room, Shares, Which};
use paymux::store::{
    Bindings, Committed, Fate, Kept, Lease, Message, OrderKey, Settled, Store, StoreError, Work,
};

use super::memory::Memory;

/// What happens at a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
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
pub(crate) enum Lack {
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
type Plan = Option<(u64, Trouble)>;

pub(crate) struct Frail {
    inner: Arc<dyn Store>,
    lacking: Option<(Lack, Arc<Memory>)>,
    plan: Mutex<Plan>,
    stopped: AtomicBool,
}

impl Frail {
    pub(crate) fn new(inner: Arc<dyn Store>) -> Self {
        Self {
            inner,
            lacking: None,
            plan: Mutex::new(None),
            stopped: AtomicBool::new(false),
        }
    }

    /// Without one protection.
    pub(crate) fn lacking(memory: &Arc<Memory>, lack: Lack) -> Self {
        Self {
            lacking: Some((lack, Arc::clone(memory))),
            ..Self::new(Arc::<Memory>::clone(memory))
        }
    }

    /// At that write from now on, the first being 1.
    pub(crate) fn plan(&self, at: u64, trouble: Trouble) {
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

    fn due(&self) -> Option<Trouble> {
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
        let lost = || Err(StoreError::InDoubt("the writer does not answer".into()));
        match self.due() {
            None => write.await,
            Some(Trouble::Unavailable) => Err(StoreError::Unavailable("planned".into())),
            Some(Trouble::LostUnwritten) => lost(),
            Some(Trouble::LostWritten) => {
                write.await?;
                lost()
            }
            Some(Trouble::StopBefore) => {
                self.stop();
                pending().await
            }
            Some(Trouble::StopAfter) => {
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
        lack: Lack,
        memory: &Memory,
    ) -> Result<Committed, StoreError> {
        let rows = change.rows();
        match (lack, rows) {
            (Lack::Intent, Some(rows)) => {
                let mut written = rows.attempts();
                if rows.before.is_some() && written.any(|one| one.state == AttemptState::Intent) {
                    return Ok(Committed::Done);
                }
            }
            (Lack::Reservation, Some(rows)) if rows.reserved().is_some() => {
                return Ok(Committed::Done);
            }
            (Lack::Quiet, Some(rows)) if rows.before.is_some() => return Ok(Committed::Stale),
            (Lack::RefundNumber, _) => memory.durable().takes_any_number = true,
            (Lack::Nonce, _) => memory.durable().nonces.clear(),
            (Lack::Version, Some(rows)) => {
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
                Lack::Event => durable.events = events,
                Lack::Entry => durable.entries.truncate(entries),
                Lack::Refund => {
                    let row = durable.orders.get_mut(&rows.order.no).unwrap();
                    row.order.refunds.clear();
                }
                Lack::SecondEvent => durable.double_event(&rows.order),
                Lack::Due => durable.orders.get_mut(&rows.order.no).unwrap().due = None,
                Lack::Named => {
                    let row = durable.orders.get_mut(&rows.order.no).unwrap();
                    for attempt in &mut row.order.attempts {
                        attempt.named = false;
                    }
                }
                Lack::Intent
                | Lack::Nonce
                | Lack::Floor
                | Lack::Fence
                | Lack::Version
                | Lack::Reservation
                | Lack::Quiet
                | Lack::RefundNumber => (),
            }
        }
        Ok(committed)
    }
}

#[async_trait]
impl Store for Frail {
    async fn order(&self, key: &OrderKey) -> Result<Option<Order>, StoreError> {
        self.stand().await;
        self.inner.order(key).await
    }

    async fn commit(&self, change: &Change) -> Result<Committed, StoreError> {
        match &self.lacking {
            Some((lack, memory)) => self.write(self.commit_lacking(change, *lack, memory)).await,
            None => self.write(self.inner.commit(change)).await,
        }
    }

    async fn keep(&self, message: &Message) -> Result<Kept, StoreError> {
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
        work: Work,
        now: Timestamp,
        count: u32,
    ) -> Result<Vec<Lease>, StoreError> {
        self.write(self.inner.lease(work, now, count)).await
    }

    async fn settle(&self, lease: &Lease, fate: Fate) -> Result<Settled, StoreError> {
        if let Some((Lack::Fence, memory)) = &self.lacking {
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

    async fn reschedule(&self, order: &Order, fence: u64) -> Result<Settled, StoreError> {
        if let Some((Lack::Fence, memory)) = &self.lacking {
            memory.durable().believe_order(order, fence);
        }
        self.write(self.inner.reschedule(order, fence)).await
    }

    async fn lease_events(
        &self,
        shares: &Shares,
        now: Timestamp,
        count: u32,
    ) -> Result<Vec<Lease>, StoreError> {
        self.write(self.inner.lease_events(shares, now, count))
            .await
    }

    async fn next_event(&self, shares: &Shares) -> Result<Option<Timestamp>, StoreError> {
        self.stand().await;
        self.inner.next_event(shares).await
    }

    async fn events_after(
        &self,
        merchant: &MerchantId,
        after: u64,
        room: Room,
    ) -> Result<Vec<Numbered>, StoreError> {
        self.stand().await;
        self.inner.events_after(merchant, after, room).await
    }

    async fn dead(&self, which: &Which, shown: u32) -> Result<Dead, StoreError> {
        self.stand().await;
        self.inner.dead(which, shown).await
    }

    async fn resend(&self, which: &Which, by: &str, now: Timestamp) -> Result<u64, StoreError> {
        self.write(self.inner.resend(which, by, now)).await
    }

    async fn forget_nonces(&self, until: Timestamp) -> Result<(), StoreError> {
        if let Some((Lack::Floor, memory)) = &self.lacking {
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

    async fn next_due(&self, work: Work) -> Result<Option<Timestamp>, StoreError> {
        self.stand().await;
        self.inner.next_due(work).await
    }

    async fn bindings(&self, since: Timestamp) -> Result<Bindings, StoreError> {
        self.stand().await;
        self.inner.bindings(since).await
    }
}
