//! What became of it? (A3.2) Committed state, refreshed by the institution's word where it is in
//! doubt; never a guess.

use crate::domain::attempt::AttemptState;
use crate::domain::order::Order;
use crate::domain::refusal::Refusal;
use crate::flow::call_institution::{READ_PATIENCE, call_institution};
use crate::flow::register::Register;
use crate::flow::weigh_evidence::{Weight, weigh_evidence};
use crate::institution::Call;
use crate::store::{OrderKey, Store};
use crate::world::World;

/// Reads an order under a key that its asker may use.
///
/// # Errors
/// There is none, or it does not match what else was said of it: answered alike (K3).
pub async fn read_order(
    store: &dyn Store,
    key: &OrderKey,
    matches: impl Fn(&Order) -> bool,
) -> Result<Order, Refusal> {
    store
        .order(key)
        .await?
        .filter(matches)
        .ok_or(Refusal::OrderUnknown)
}

/// Asks the institution about an order that is in doubt, within a small time budget (R-A3.2-3),
/// and gives back the order as it then stands.
pub async fn refresh(
    store: &dyn Store,
    world: &World,
    register: &Register,
    order: Order,
) -> Result<Order, Refusal> {
    let doubtful = |state| matches!(state, AttemptState::Unknown | AttemptState::Closing);
    let Some(attempt) = order
        .live_attempt()
        .filter(|attempt| doubtful(attempt.state))
    else {
        return Ok(order);
    };
    let Some(adapter) = register.adapters.get(&attempt.institution) else {
        return Ok(order);
    };
    let call = Call::Query(attempt, &order.terms);
    let evidence = call_institution(world, adapter.as_ref(), &call, READ_PATIENCE).await;
    let asked = order.clone();
    Ok(
        match weigh_evidence(store, world, adapter.as_ref(), evidence, Some(order)).await? {
            Weight::Moved(order) | Weight::Known(order) | Weight::Unconfirmed(order) => order,
            Weight::Quarantined(_) | Weight::Stranger | Weight::Contended => asked,
        },
    )
}
