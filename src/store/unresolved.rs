//! Orders that are due: unresolved, waiting for the payer, or to be ended (A6, N10).

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;

use crate::domain::identifiers::{InstitutionId, PayOrderNo, Timestamp};
use crate::domain::order::{Order, PollLane, Urgency};
use crate::store::{Lease, LeaseCompletion, StoreError};

/// How many orders of each lane may be leased now (N10).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LaneShares {
    /// Of the lanes of these urgencies; those of any other have none.
    pub urgencies: BTreeMap<Urgency, UrgencyShares>,
}

/// The shares of the lanes of one urgency.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UrgencyShares {
    /// Of the lane of orders that wait for no institution, or for several.
    pub own: u32,
    /// Of these institutions' lanes.
    pub institutions: HashMap<InstitutionId, u32>,
    /// Of every other institution's lane.
    pub others: u32,
}

impl LaneShares {
    /// The same share for every lane.
    pub fn same(share: u32) -> Self {
        let shares = Urgency::ALL.map(|urgency| (urgency, UrgencyShares::same(share)));
        Self {
            urgencies: shares.into(),
        }
    }

    /// These shares for the lanes of one urgency, and none for the others.
    pub fn only(urgency: Urgency, shares: UrgencyShares) -> Self {
        Self {
            urgencies: [(urgency, shares)].into(),
        }
    }

    /// The share of one lane.
    pub fn of(&self, lane: PollLane<'_>) -> u32 {
        let shares = self.urgencies.get(&lane.urgency);
        shares.map_or(0, |shares| match lane.institution {
            None => shares.own,
            Some(id) => shares
                .institutions
                .get(id)
                .copied()
                .unwrap_or(shares.others),
        })
    }
}

impl UrgencyShares {
    /// The same share for every lane.
    pub fn same(share: u32) -> Self {
        Self {
            own: share,
            institutions: HashMap::new(),
            others: share,
        }
    }

    /// The same shares, none of them above `most`.
    #[must_use]
    pub fn at_most(mut self, most: u32) -> Self {
        let each = self.institutions.values_mut();
        for share in each.chain([&mut self.own, &mut self.others]) {
            *share = most.min(*share);
        }
        self
    }
}

/// When orders can be leased next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NextOrder {
    /// The earliest time in a lane that has a share; `None` if nothing waits in one.
    pub due: Option<Timestamp>,
    /// Orders wait in a lane that has no share.
    pub is_held_back: bool,
}

/// Leases orders to pollers.
#[async_trait]
pub trait Unresolved: Send + Sync {
    /// Leases orders that are due, each with a fencing number: of each lane no more than its share;
    /// the lane with the fewest taken comes first (N10).
    async fn lease_orders(
        &self,
        shares: &LaneShares,
        now: Timestamp,
        count: u32,
    ) -> Result<Vec<Lease>, StoreError>;

    /// When [`Unresolved::lease_orders`] would next return something, so that a worker can sleep
    /// until then.
    async fn next_order(&self, shares: &LaneShares) -> Result<NextOrder, StoreError>;

    /// Leases those of these orders that are open and not leased, whether due or not.
    async fn lease_named(
        &self,
        orders: &[PayOrderNo],
        now: Timestamp,
    ) -> Result<Vec<Lease>, StoreError>;

    /// Ends the lease of an unchanged order and stores the schedules of its objects; rejected when
    /// the lease was lost (N6).
    async fn reschedule(&self, order: &Order, fence: u64) -> Result<LeaseCompletion, StoreError>;
}
