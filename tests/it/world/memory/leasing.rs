//! The orders of the memory store: lanes by institution, leases, and rescheduling.

use std::collections::BTreeMap;

use paymux::domain::identifiers::{PayOrderNo, Timestamp};
use paymux::domain::order::{Order, OrderState, PollLane, PollTarget};
use paymux::store::unresolved::{LaneShares, NextOrder};
use paymux::store::{Lease, LeaseCompletion, LeasedWork};

use super::DurableState;

impl DurableState {
    pub(in crate::world) fn lease_orphaned(&mut self, now: Timestamp, count: usize) -> Vec<Lease> {
        let rows = self.orders.values();
        // A dead process's leases are void, whatever the clock showed when they were taken.
        let left = rows.filter(|row| self.is_orphaned(&row.order));
        let left = left.map(|row| row.order.no.clone()).take(count);
        let left: Vec<_> = left.collect();
        self.take_orders(left, now)
    }

    fn take_orders(&mut self, orders: Vec<PayOrderNo>, now: Timestamp) -> Vec<Lease> {
        let take = |no: PayOrderNo| {
            let row = self.orders.get_mut(&no).unwrap();
            let (fence, tries) = row.lease.take(now);
            let of = LeasedWork::Order(Box::new(row.order.clone()));
            Lease { of, fence, tries }
        };
        orders.into_iter().map(take).collect()
    }

    pub(in crate::world) fn lease_orders(
        &mut self,
        shares: &LaneShares,
        now: Timestamp,
        count: usize,
    ) -> Vec<Lease> {
        let mut due: Vec<(Timestamp, PayOrderNo)> = self
            .orders
            .iter()
            .filter(|(_, row)| row.lease.is_free(now))
            .filter(|(_, row)| row.due.is_some_and(|due| due <= now))
            .map(|(no, row)| (row.due.unwrap(), no.clone()))
            .collect();
        due.sort();
        let mut counts: BTreeMap<PollLane<'_>, u32> = BTreeMap::new();
        let mut placed = Vec::new();
        for (at, no) in due {
            let lane = self.orders[&no].order.lane();
            let place = counts.entry(lane).or_default();
            if *place < shares.of(lane) {
                placed.push((*place, lane.urgency, at, no));
                *place += 1;
            }
        }
        placed.sort();
        placed.truncate(count);
        let due = placed.into_iter().map(|(.., no)| no).collect();
        self.take_orders(due, now)
    }

    pub(in crate::world) fn next_order(&self, shares: &LaneShares) -> NextOrder {
        let mut next = NextOrder::default();
        for row in self.orders.values() {
            let Some(due) = row.due else {
                continue;
            };
            if shares.of(row.order.lane()) == 0 {
                next.is_held_back = true;
            } else {
                let due = row.lease.next_due(due);
                next.due = next.due.into_iter().chain([due]).min();
            }
        }
        next
    }

    pub(in crate::world) fn lease_named(
        &mut self,
        orders: &[PayOrderNo],
        now: Timestamp,
    ) -> Vec<Lease> {
        let is_free = |no: &&PayOrderNo| {
            self.orders.get(*no).is_some_and(|row| {
                let waits = row.due.is_some() && row.order.state == OrderState::Open;
                waits && row.lease.is_free(now)
            })
        };
        let free = orders.iter().filter(is_free).cloned().collect();
        self.take_orders(free, now)
    }

    pub(in crate::world) fn reschedule(&mut self, order: &Order, fence: u64) -> LeaseCompletion {
        match self.orders.get_mut(&order.no) {
            Some(row) if row.lease.fence == fence => {
                for attempt in order.attempts.iter().filter(|one| one.state.is_live()) {
                    let object = PollTarget::Attempt(attempt.id.clone());
                    row.order.reschedule(&object, attempt.schedule);
                }
                for refund in order.refunds.iter().filter(|one| !one.state.is_over()) {
                    let object = PollTarget::Refund(refund.no.clone());
                    row.order.reschedule(&object, refund.schedule);
                }
                row.due = order.due();
                row.lease.until = None;
                row.lease.fence += 1;
                LeaseCompletion::Done
            }
            _ => LeaseCompletion::LeaseLost,
        }
    }
}
