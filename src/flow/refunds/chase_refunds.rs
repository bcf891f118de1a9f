//! Brings the refunds of one order on: surplus money is sent back, what is in doubt is asked about,
//! what an institution does not know is sent once more where that is harmless (R4).

use crate::domain::evidence::{About, Finding};
use crate::domain::order::Order;
use crate::domain::refund::{Refund, RefundState, Sending};
use crate::domain::schedule;
use crate::flow::call_institution::{ASK_PATIENCE, Leave, call_institution, send_once};
use crate::flow::register::Register;
use crate::flow::weigh_evidence::{Weight, weigh_evidence};
use crate::institution::{Call, Institution};
use crate::store::{Committed, Store, StoreError};
use crate::world::World;

/// Does for each refund that has not ended what is due; the order as it moved, if it did. `tries`
/// is how often the order was looked at since it last moved.
pub(in crate::flow) async fn chase_refunds(
    store: &dyn Store,
    world: &World,
    register: &Register,
    (order, tries): (&Order, u32),
) -> Result<Option<Order>, StoreError> {
    let mut moved = None;
    let open = order
        .refunds
        .iter()
        .filter(|refund| !refund.state.is_over());
    for no in open.map(|refund| refund.no.clone()) {
        let order = moved.as_ref().unwrap_or(order);
        let Some(refund) = order.refund(&no) else {
            continue;
        };
        let through = order.attempt_of(refund).map(|attempt| &attempt.institution);
        let Some(adapter) = through.and_then(|id| register.adapters.get(id)) else {
            tracing::error!(order.no = %order.no, refund.no = %no,
                "an institution with unfinished refunds is missing from the configuration");
            continue;
        };
        let adapter = adapter.as_ref();
        let next = match (refund.state, refund.sending) {
            (RefundState::Reserved, Sending::Waits(_)) => {
                send(store, world, adapter, (order, refund)).await?
            }
            (RefundState::Reserved, Sending::Left(_)) => {
                let doubt = order.doubt_refund(refund, adapter.facts(), world.clock.now());
                commit(store, doubt).await?
            }
            _ => ask(store, world, adapter, (order, refund), tries).await?,
        };
        moved = next.or(moved);
    }
    Ok(moved)
}

/// Sends what is due to be sent: written down first (R4).
async fn send(
    store: &dyn Store,
    world: &World,
    adapter: &dyn Institution,
    (order, refund): (&Order, &Refund),
) -> Result<Option<Order>, StoreError> {
    let in_flight = world.sends.begin(&About::Refund(refund.no.clone()));
    let change = order.send_refund(&refund.no, store.epoch(), world.clock.now());
    let Some(order) = commit(store, change).await? else {
        return Ok(None);
    };
    let sent = order.refund(&refund.no).filter(|one| !one.state.is_over());
    let Some((sent, attempt)) = sent.and_then(|one| Some((one, order.attempt_of(one)?))) else {
        return Ok(Some(order));
    };
    let call = Call::Refund(sent, attempt, &order.terms);
    let leave = Leave {
        patience: ASK_PATIENCE,
        turn: None,
        in_flight,
    };
    let evidence = send_once(world, adapter, &call, leave).await;
    let asked = order.clone();
    let weight = weigh_evidence(store, world, adapter, evidence, Some(order.clone())).await?;
    Ok(Some(weight.into_moved().unwrap_or(asked)))
}

/// Asks about a refund that was sent.
async fn ask(
    store: &dyn Store,
    world: &World,
    adapter: &dyn Institution,
    (order, refund): (&Order, &Refund),
    tries: u32,
) -> Result<Option<Order>, StoreError> {
    let Some(attempt) = order.attempt_of(refund) else {
        return Ok(None);
    };
    let call = Call::RefundQuery(refund, attempt, &order.terms);
    let evidence = call_institution(world, adapter, &call, ASK_PATIENCE).await;
    let now = world.clock.now();
    let unknown = evidence.finding == Finding::NotFound;
    if unknown && Order::may_repeat(refund, adapter.facts(), now) {
        return send(store, world, adapter, (order, refund)).await;
    }
    let weight = weigh_evidence(store, world, adapter, evidence, Some(order.clone())).await?;
    if let Some(order) = weight.into_moved() {
        return Ok(Some(order));
    }
    if schedule::is_for_people(tries) {
        tracing::error!(order.no = %order.no, refund.no = %refund.no,
            "a refund is still in doubt after the whole schedule; people must decide");
        return commit(store, order.leave_to_people(&refund.no, now)).await;
    }
    Ok(None)
}

/// The order as it is after a change; `None` if nothing was to change or somebody wrote first.
async fn commit(
    store: &dyn Store,
    change: Option<crate::domain::change::Change>,
) -> Result<Option<Order>, StoreError> {
    let Some(change) = change else {
        return Ok(None);
    };
    let done = store.commit(&change).await? == Committed::Done;
    Ok(done.then(|| change.into_order()).flatten())
}

impl Weight {
    fn into_moved(self) -> Option<Order> {
        match self {
            Self::Moved(order) => Some(order),
            Self::Known(_)
            | Self::Unconfirmed(_)
            | Self::Quarantined(_)
            | Self::Stranger
            | Self::Contended => None,
        }
    }
}
