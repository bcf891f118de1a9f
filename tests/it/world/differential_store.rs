//! Runs every operation on two stores: the one in memory, which checks can inspect, and the
//! embedded one. Any difference between their results is a defect.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use paymux::domain::change::Change;
use paymux::domain::identifiers::{InstitutionId, MerchantId, PayOrderNo, Timestamp};
use paymux::domain::order::Order;
use paymux::domain::personal::MobileNo;
use paymux::seal::Seal;
use paymux::store::outbox::{
    DESTINATION_SHARE, DeadEventFilter, DeadEvents, DeliveryShares, EventPageLimit, NumberedEvent,
};
use paymux::store::unresolved::{LaneShares, NextOrder};
use paymux::store::{
    Archive, ArchiveOutcome, Changes, Committed, ConfigurationLog, DeliveryOutcome, InboxMessage,
    Lease, LeaseCompletion, LeasedWork, Nodes, NonceRetention, OrderKey, Orders, Outbox,
    RemovalGuard, Store, StoreError, Unresolved, open,
};

use super::memory::MemoryStore;

/// More than ever exist: the order of leasing is not guaranteed.
const ALL: u32 = 1_000;

pub(crate) struct DifferentialStore {
    memory: Arc<MemoryStore>,
    embedded: Arc<Store>,
    /// The embedded store's lease for each lease of the memory store.
    leases: Mutex<BTreeMap<(String, u64), Lease>>,
    /// Number of calls that the embedded store has not answered yet.
    asked: Arc<AtomicUsize>,
}

impl DifferentialStore {
    /// Opens the file next to a memory store with the same history.
    pub(crate) fn open(memory: Arc<MemoryStore>, file: &Path, asked: Arc<AtomicUsize>) -> Self {
        let keys = BTreeMap::from([("2026".to_owned(), [3; 32])]);
        let seal = Seal::new("2026", keys, [4; 32]).unwrap();
        let fatal = Box::new(|why: &str| panic!("{why}"));
        let embedded = open(file, Arc::new(seal), fatal, Box::new(|_, _| ())).unwrap();
        assert_eq!(embedded.epoch, memory.epoch());
        assert_eq!(
            embedded.replay_floor.forgotten(),
            memory.handles().replay_floor.forgotten()
        );
        asked.store(0, Ordering::SeqCst);
        Self {
            memory,
            embedded,
            leases: Mutex::default(),
            asked,
        }
    }

    /// The handles for the gateway; operations not duplicated go to memory only.
    pub(crate) fn handles(self: &Arc<Self>) -> Arc<Store> {
        let memory = Store::clone(&self.memory.handles());
        Arc::new(Store {
            orders: self.clone(),
            changes: self.clone(),
            nonces: self.clone(),
            archive: self.clone(),
            unresolved: self.clone(),
            outbox: self.clone(),
            nodes: self.clone(),
            configuration: self.clone(),
            ..memory
        })
    }

    /// Checks that both lease the same work, whatever the fences; returns the memory store's
    /// leases.
    async fn same_leases(
        &self,
        one: impl Future<Output = Result<Vec<Lease>, StoreError>>,
        other: impl Future<Output = Result<Vec<Lease>, StoreError>>,
    ) -> Result<Vec<Lease>, StoreError> {
        let mut one = one.await?;
        let mut other = self.wait(other).await?;
        one.sort_by_key(name);
        other.sort_by_key(name);
        let plain = |leases: &[Lease]| -> Vec<(LeasedWork, u32)> {
            let plain = leases.iter().map(|lease| (lease.of.clone(), lease.tries));
            plain.collect()
        };
        if plain(&one) != plain(&other) {
            let fault = format!("leases differ: {one:?} in memory, {other:?} embedded");
            self.memory.durable().faults.push(fault);
        }
        let mut leases = self.leases.lock().unwrap();
        for (ours, theirs) in one.iter().zip(other) {
            leases.insert((name(ours), ours.fence), theirs);
        }
        Ok(one)
    }

    async fn same<T: PartialEq + std::fmt::Debug>(
        &self,
        one: impl Future<Output = Result<T, StoreError>>,
        other: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let one = one.await?;
        let other = self.wait(other).await?;
        if one != other {
            let fault = format!("the stores differ: {one:?} in memory, {other:?} embedded");
            self.memory.durable().faults.push(fault);
        }
        Ok(one)
    }

    async fn wait<T>(&self, other: impl Future<Output = T>) -> T {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let other = other.await;
        self.asked.fetch_sub(1, Ordering::SeqCst);
        other
    }
}

fn name(lease: &Lease) -> String {
    match &lease.of {
        LeasedWork::Order(order) => order.no.as_str().to_owned(),
        LeasedWork::Event(event, _) => event.id.as_str().to_owned(),
    }
}

#[async_trait]
impl Orders for DifferentialStore {
    async fn order(&self, key: &OrderKey) -> Result<Option<Order>, StoreError> {
        self.same(self.memory.order(key), self.embedded.orders.order(key))
            .await
    }

    async fn last_institution(
        &self,
        merchant: &MerchantId,
        payer: &MobileNo,
    ) -> Result<Option<InstitutionId>, StoreError> {
        self.same(
            self.memory.last_institution(merchant, payer),
            self.embedded.orders.last_institution(merchant, payer),
        )
        .await
    }
}

#[async_trait]
impl Changes for DifferentialStore {
    async fn commit(&self, change: &Change) -> Result<Committed, StoreError> {
        self.same(
            self.memory.commit(change),
            self.embedded.changes.commit(change),
        )
        .await
    }
}

#[async_trait]
impl NonceRetention for DifferentialStore {
    async fn forget_nonces(&self, until: Timestamp) -> Result<(), StoreError> {
        self.same(
            self.memory.forget_nonces(until),
            self.embedded.nonces.forget_nonces(until),
        )
        .await
    }
}

#[async_trait]
impl Archive for DifferentialStore {
    async fn archive(&self, message: &InboxMessage) -> Result<ArchiveOutcome, StoreError> {
        self.same(
            self.memory.archive(message),
            self.embedded.archive.archive(message),
        )
        .await
    }
}

#[async_trait]
impl Unresolved for DifferentialStore {
    /// Simulations lease everything that is due.
    async fn lease_orders(
        &self,
        _: &LaneShares,
        now: Timestamp,
        _: u32,
    ) -> Result<Vec<Lease>, StoreError> {
        let all = &LaneShares::same(u32::MAX);
        self.same_leases(
            self.memory.lease_orders(all, now, ALL),
            self.embedded.unresolved.lease_orders(all, now, ALL),
        )
        .await
    }

    async fn next_order(&self, shares: &LaneShares) -> Result<NextOrder, StoreError> {
        self.same(
            self.memory.next_order(shares),
            self.embedded.unresolved.next_order(shares),
        )
        .await
    }

    async fn lease_named(
        &self,
        orders: &[PayOrderNo],
        now: Timestamp,
    ) -> Result<Vec<Lease>, StoreError> {
        self.same(
            self.memory.lease_named(orders, now),
            self.embedded.unresolved.lease_named(orders, now),
        )
        .await
    }

    /// The fences of orders are the same in both.
    async fn reschedule(&self, order: &Order, fence: u64) -> Result<LeaseCompletion, StoreError> {
        self.same(
            self.memory.reschedule(order, fence),
            self.embedded.unresolved.reschedule(order, fence),
        )
        .await
    }
}

#[async_trait]
impl Outbox for DifferentialStore {
    /// Simulations lease by the fixed share.
    async fn lease_events(
        &self,
        _: &DeliveryShares,
        now: Timestamp,
        _: u32,
    ) -> Result<Vec<Lease>, StoreError> {
        let few = &DeliveryShares::same(DESTINATION_SHARE);
        self.same_leases(
            self.memory.lease_events(few, now, ALL),
            self.embedded.outbox.lease_events(few, now, ALL),
        )
        .await
    }

    async fn next_event(&self, shares: &DeliveryShares) -> Result<Option<Timestamp>, StoreError> {
        self.same(
            self.memory.next_event(shares),
            self.embedded.outbox.next_event(shares),
        )
        .await
    }

    async fn complete(
        &self,
        lease: &Lease,
        outcome: DeliveryOutcome,
    ) -> Result<LeaseCompletion, StoreError> {
        let key = (name(lease), lease.fence);
        let theirs = self.leases.lock().unwrap().get(&key).cloned();
        let theirs = theirs.ok_or(StoreError::Corrupt("a lease nobody gave".into()))?;
        self.same(
            self.memory.complete(lease, outcome),
            self.embedded.outbox.complete(&theirs, outcome),
        )
        .await
    }

    async fn events_after(
        &self,
        merchant: &MerchantId,
        after: u64,
        room: EventPageLimit,
    ) -> Result<Vec<NumberedEvent>, StoreError> {
        self.same(
            self.memory.events_after(merchant, after, room),
            self.embedded.outbox.events_after(merchant, after, room),
        )
        .await
    }

    async fn dead_lettered(
        &self,
        which: &DeadEventFilter,
        shown: u32,
    ) -> Result<DeadEvents, StoreError> {
        self.same(
            self.memory.dead_lettered(which, shown),
            self.embedded.outbox.dead_lettered(which, shown),
        )
        .await
    }

    async fn resend(
        &self,
        which: &DeadEventFilter,
        by: &str,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.same(
            self.memory.resend(which, by, now),
            self.embedded.outbox.resend(which, by, now),
        )
        .await
    }
}

#[async_trait]
impl Nodes for DifferentialStore {
    async fn lease_orphaned(&self, now: Timestamp, _: u32) -> Result<Vec<Lease>, StoreError> {
        self.same_leases(
            self.memory.lease_orphaned(now, ALL),
            self.embedded.nodes.lease_orphaned(now, ALL),
        )
        .await
    }

    async fn bring_forward(
        &self,
        by: Option<Duration>,
        now: Timestamp,
    ) -> Result<Duration, StoreError> {
        self.same(
            self.memory.bring_forward(by, now),
            self.embedded.nodes.bring_forward(by, now),
        )
        .await
    }
}

#[async_trait]
impl ConfigurationLog for DifferentialStore {
    async fn dependents(&self, since: Timestamp) -> Result<RemovalGuard, StoreError> {
        self.same(
            self.memory.dependents(since),
            self.embedded.configuration.dependents(since),
        )
        .await
    }
}
