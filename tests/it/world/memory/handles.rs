//! The memory store's handles for each of its users.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use paymux::domain::attempt::Attempt;
use paymux::domain::change::Change;
use paymux::domain::identifiers::forgotten::Forgotten;
use paymux::domain::identifiers::{InstitutionId, MerchantId, PayOrderNo, Timestamp};
use paymux::domain::institutions::AccountKey;
use paymux::domain::order::Order;
use paymux::domain::personal::MobileNo;
use paymux::domain::refund::RefundState;
use paymux::store::outbox::{
    DeadEventFilter, DeadEvents, DeliveryShares, EventPageLimit, NumberedEvent,
};
use paymux::store::unresolved::{LaneShares, NextOrder};
use paymux::store::{
    Archive, ArchiveOutcome, Changes, Committed, ConfigurationLog, DeliveryOutcome,
    ENDED_COUNTED_MAX, InboxMessage, Lease, LeaseCompletion, Nodes, NonceRetention, OrderKey,
    Orders, Outbox, RemovalGuard, ReplayFloor, StoreError, Unresolved,
};

use super::MemoryStore;

#[async_trait]
impl Orders for MemoryStore {
    async fn order(&self, key: &OrderKey) -> Result<Option<Order>, StoreError> {
        Ok(self.durable().find(key).map(|row| row.order.clone()))
    }

    async fn last_institution(
        &self,
        merchant: &MerchantId,
        payer: &MobileNo,
    ) -> Result<Option<InstitutionId>, StoreError> {
        let durable = self.durable();
        let paid = durable.orders.values().filter_map(|row| {
            let terms = &row.order.terms;
            let theirs = terms.merchant == *merchant && terms.mobile == *payer;
            let attempt = row.order.paying_attempt().filter(|_| theirs)?;
            let at = attempt.receipt.as_ref()?.paid_at;
            Some((at, attempt.institution.clone()))
        });
        Ok(paid.max_by_key(|(at, _)| *at).map(|(_, id)| id))
    }
}

#[async_trait]
impl Changes for MemoryStore {
    async fn commit(&self, change: &Change) -> Result<Committed, StoreError> {
        Ok(self.durable().write(change))
    }
}

impl ReplayFloor for MemoryStore {
    fn forgotten(&self) -> Arc<Forgotten> {
        Arc::clone(&self.durable().forgotten)
    }
}

#[async_trait]
impl NonceRetention for MemoryStore {
    async fn forget_nonces(&self, until: Timestamp) -> Result<(), StoreError> {
        self.durable().forget(until);
        Ok(())
    }
}

#[async_trait]
impl Archive for MemoryStore {
    async fn archive(&self, message: &InboxMessage) -> Result<ArchiveOutcome, StoreError> {
        Ok(self.durable().archive(message))
    }
}

#[async_trait]
impl Unresolved for MemoryStore {
    async fn lease_orders(
        &self,
        shares: &LaneShares,
        now: Timestamp,
        count: u32,
    ) -> Result<Vec<Lease>, StoreError> {
        let count = usize::try_from(count).unwrap();
        Ok(self.durable().lease_orders(shares, now, count))
    }

    async fn next_order(&self, shares: &LaneShares) -> Result<NextOrder, StoreError> {
        Ok(self.durable().next_order(shares))
    }

    async fn lease_named(
        &self,
        orders: &[PayOrderNo],
        now: Timestamp,
    ) -> Result<Vec<Lease>, StoreError> {
        Ok(self.durable().lease_named(orders, now))
    }

    async fn reschedule(&self, order: &Order, fence: u64) -> Result<LeaseCompletion, StoreError> {
        Ok(self.durable().reschedule(order, fence))
    }
}

#[async_trait]
impl Outbox for MemoryStore {
    async fn lease_events(
        &self,
        shares: &DeliveryShares,
        now: Timestamp,
        count: u32,
    ) -> Result<Vec<Lease>, StoreError> {
        let count = usize::try_from(count).unwrap();
        Ok(self.durable().lease_events(shares, now, count))
    }

    async fn next_event(&self, shares: &DeliveryShares) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.durable().next_event(shares))
    }

    async fn complete(
        &self,
        lease: &Lease,
        outcome: DeliveryOutcome,
    ) -> Result<LeaseCompletion, StoreError> {
        Ok(self.durable().complete(lease, outcome))
    }

    async fn events_after(
        &self,
        merchant: &MerchantId,
        after: u64,
        room: EventPageLimit,
    ) -> Result<Vec<NumberedEvent>, StoreError> {
        Ok(self.durable().events_after(merchant, after, room))
    }

    async fn dead_lettered(
        &self,
        which: &DeadEventFilter,
        shown: u32,
    ) -> Result<DeadEvents, StoreError> {
        Ok(self
            .durable()
            .dead_lettered(which, usize::try_from(shown).unwrap()))
    }

    async fn resend(
        &self,
        which: &DeadEventFilter,
        by: &str,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        Ok(self.durable().resend(which, by, now))
    }
}

#[async_trait]
impl Nodes for MemoryStore {
    async fn lease_orphaned(&self, now: Timestamp, count: u32) -> Result<Vec<Lease>, StoreError> {
        let count = usize::try_from(count).unwrap();
        Ok(self.durable().lease_orphaned(now, count))
    }

    async fn bring_forward(
        &self,
        by: Option<Duration>,
        now: Timestamp,
    ) -> Result<Duration, StoreError> {
        Ok(self.durable().bring_forward(by, now))
    }
}

#[async_trait]
impl ConfigurationLog for MemoryStore {
    async fn dependents(&self, since: Timestamp) -> Result<RemovalGuard, StoreError> {
        let durable = self.durable();
        let mut dependents = RemovalGuard {
            version: durable.configuration,
            endpoints: durable.endpoints.clone(),
            receivers: durable.receivers.clone(),
            ..RemovalGuard::default()
        };
        for row in durable.orders.values() {
            for key in unfinished(&row.order) {
                let held = dependents.held.entry(key.0.clone());
                held.or_default().unfinished += 1;
                dependents.accounts.entry(key).or_default().unfinished += 1;
            }
            for attempt in &row.order.attempts {
                let ended = durable.ended.get(&attempt.id);
                if ended.is_some_and(|ended| *ended >= since) {
                    let key = account_key(attempt);
                    let all = dependents.held.entry(key.0.clone()).or_default();
                    all.ended = ENDED_COUNTED_MAX.min(all.ended + 1);
                    let one = dependents.accounts.entry(key).or_default();
                    one.ended = ENDED_COUNTED_MAX.min(one.ended + 1);
                }
            }
        }
        Ok(dependents)
    }
}

fn account_key(attempt: &Attempt) -> AccountKey {
    (attempt.institution.clone(), attempt.account.clone())
}

/// The account of each live attempt and of each unfinished refund.
fn unfinished(order: &Order) -> Vec<AccountKey> {
    let live = order.attempts.iter().filter(|one| one.state.is_live());
    let mut ids: Vec<_> = live.map(account_key).collect();
    for refund in &order.refunds {
        let over = matches!(refund.state, RefundState::Succeeded | RefundState::Failed);
        let attempt = order.attempts.iter().find(|one| one.id == refund.attempt);
        ids.extend(attempt.filter(|_| !over).map(account_key));
    }
    ids
}
