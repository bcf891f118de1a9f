//! When an order is polled next: what a poll without result counts as, and what was not sent does not.

use std::time::Duration;

use crate::domain::identifiers::Timestamp;
use crate::domain::order::{CallbackDelivery, Order, PollTarget};
use crate::store::{Lease, LeasedWork, StoreError, Unresolved};
use crate::world::{PermitUnavailable, World};

/// The result of polling one object.
pub(in crate::flow) enum PollResult {
    /// The order changed, and has a new schedule.
    Moved,
    /// No result: the current order, and how many commits of ours followed the lease.
    Stands(Box<Order>, u64),
}

/// Returns a lease without polling: the object is due again at `until`, and nothing is counted.
pub async fn put_off(
    unresolved: &dyn Unresolved,
    lease: &Lease,
    object: &PollTarget,
    until: Timestamp,
) -> Result<(), StoreError> {
    let LeasedWork::Order(order) = &lease.of else {
        return Ok(());
    };
    let mut order = order.clone();
    if let Some(schedule) = order.schedule_of(object) {
        order.reschedule(object, schedule.put_off(until));
    }
    return_lease(unresolved, lease, PollResult::Stands(order, 0), 0).await
}

/// Reschedules the order and returns its lease. Each of our own commits advanced the fencing number
/// by one; if another worker has leased the order since, the numbers differ and its schedule
/// stands.
pub(super) async fn return_lease(
    unresolved: &dyn Unresolved,
    lease: &Lease,
    polled: PollResult,
    ours: u64,
) -> Result<(), StoreError> {
    let PollResult::Stands(order, commits) = polled else {
        return Ok(());
    };
    let fence = lease.fence.saturating_add(ours).saturating_add(commits);
    unresolved.reschedule(&order, fence).await?;
    Ok(())
}

/// Counts a poll without result in the object's schedule.
pub(in crate::flow) fn counted(world: &World, mut order: Order, object: &PollTarget) -> PollResult {
    let now = world.clock.now();
    let institution = match object {
        PollTarget::Attempt(id) => order.attempts.iter().find(|one| one.id == *id),
        PollTarget::Refund(no) => order.refund(no).and_then(|one| order.attempt_of(one)),
    };
    let callbacks = institution.map(|one| world.health.callbacks(&one.institution, now));
    order.count_poll(object, callbacks.unwrap_or_default(), now);
    PollResult::Stands(Box::new(order), 0)
}

/// A query throttled by ourselves is not counted, and is retried soon.
pub(in crate::flow) fn kept_back(
    world: &World,
    mut order: Order,
    object: &PollTarget,
    PermitUnavailable { wait }: PermitUnavailable,
) -> PollResult {
    if let Some(schedule) = order.schedule_of(object) {
        let until = world.clock.now().plus(wait);
        order.reschedule(object, schedule.put_off(until));
    }
    PollResult::Stands(Box::new(order), 0)
}

/// The shortest and the longest wait after a query that could not be sent.
const SHORTAGE_WAIT_MIN: Duration = Duration::from_secs(3);
const SHORTAGE_WAIT_MAX: Duration = Duration::from_secs(30);

/// Postpones a query that was not sent for a local reason: it is not counted, and retried after its
/// usual interval, within bounds.
pub(in crate::flow) fn postpone_unsent(
    world: &World,
    order: Order,
    object: &PollTarget,
) -> PollResult {
    let now = world.clock.now();
    let mut as_polled = order.clone();
    as_polled.count_poll(object, CallbackDelivery::default(), now);
    let next = as_polled.schedule_of(object).map(|schedule| schedule.next);
    let wait = next.map_or(SHORTAGE_WAIT_MIN, |next| next.since(now));
    let wait = wait.clamp(SHORTAGE_WAIT_MIN, SHORTAGE_WAIT_MAX);
    kept_back(world, order, object, PermitUnavailable { wait })
}
