//! Polls an order because of a signal, not because it is due.

use super::pacing::{PollResult, return_lease};
use super::poll_target;
use crate::domain::order::{CallbackDelivery, PollTarget, Urgency};
use crate::flow::FlowScope;
use crate::store::{Lease, LeasedWork, StoreError};
use crate::world::signals::POLL_GAP_MIN;

/// Polls a leased order that waits for its payer, because of a signal. While callbacks arrive, this
/// does not count in its schedule, so scheduled queries still happen.
pub async fn poll_signalled_order(scope: FlowScope<'_>, lease: &Lease) -> Result<(), StoreError> {
    let LeasedWork::Order(order) = &lease.of else {
        return Ok(());
    };
    let FlowScope { store, world, .. } = scope;
    let Some(attempt) = order.waiting_attempt() else {
        let stands = PollResult::Stands(order.clone(), 0);
        return return_lease(&*store.unresolved, lease, stands, 0).await;
    };
    let object = PollTarget::Attempt(attempt.id.clone());
    let (schedule, through) = (attempt.schedule, attempt.institution.clone());
    let polled = poll_target(scope, (**order).clone(), &object, Urgency::Signal);
    let polled = match polled.await? {
        PollResult::Stands(mut order, commits) => {
            let now = world.clock.now();
            // Where callbacks are missing, it counts as the first query of a faster schedule.
            if world.health.callbacks(&through, now) == CallbackDelivery::Arriving {
                let soonest = now.plus(POLL_GAP_MIN);
                order.reschedule(&object, schedule.put_off(soonest));
            }
            PollResult::Stands(order, commits)
        }
        PollResult::Moved => PollResult::Moved,
    };
    return_lease(&*store.unresolved, lease, polled, 0).await
}
