//! Brings one refund on: surplus money is sent back, what is in doubt is asked about, what an
//! institution does not know is sent once more where that is harmless (R4).

use crate::domain::change::Change;
use crate::domain::evidence::{About, Finding};
use crate::domain::identifiers::RefundOrderNo;
use crate::domain::order::{INTENT_PATIENCE, Object, Order, Urgency};
use crate::domain::refund::{Refund, RefundState, Sending};
use crate::domain::schedule;
use crate::flow::call_institution::{ASK_PATIENCE, Leave, ask_in_turn, send_once};
use crate::flow::chase_doubts::{Looked, counted, kept_back, not_asked};
use crate::flow::weigh_evidence::{Weight, weigh_evidence};
use crate::institution::{Call, Institution};
use crate::store::{Committed, Store, StoreError};
use crate::world::{Turn, World};

/// Does for a refund that has not ended what is due.
pub(in crate::flow) async fn chase_refund(
    store: &dyn Store,
    world: &World,
    adapter: &dyn Institution,
    order: Order,
    (no, urgency): (&RefundOrderNo, Urgency),
) -> Result<Looked, StoreError> {
    let object = Object::Refund(no.clone());
    let Some(refund) = order.refund(no).cloned() else {
        return Ok(counted(world, order, &object));
    };
    if let (RefundState::Reserved, Sending::Left(_)) = (refund.state, refund.sending) {
        let doubt = order.doubt_refund(&refund, adapter.facts(), world.clock.now());
        return Ok(match commit(store, doubt).await? {
            Some(_) => Looked::Moved,
            None => counted(world, order, &object),
        });
    }
    // Before anything is written down: what cannot leave now is not sent.
    let turn = match world.outbound.question_turn(adapter.id(), urgency).await {
        Ok(turn) => turn,
        Err(too_many) => return Ok(kept_back(world, order, &object, too_many)),
    };
    match (refund.state, refund.sending) {
        (RefundState::Reserved, Sending::Waits(_)) => {
            send(store, world, adapter, (order, no), turn).await
        }
        _ => ask(store, world, adapter, (order, &refund), turn).await,
    }
}

/// Sends what is due to be sent: written down first (R4).
async fn send(
    store: &dyn Store,
    world: &World,
    adapter: &dyn Institution,
    (order, no): (Order, &RefundOrderNo),
    turn: Turn,
) -> Result<Looked, StoreError> {
    let object = Object::Refund(no.clone());
    let now = world.clock.now();
    let mut order = order;
    // Of what is sent for the first time its change says when it is looked after.
    let repeated = order
        .refund(no)
        .filter(|one| one.state == RefundState::Unknown);
    let after = repeated.map(|one| one.schedule);
    // Nobody asks about it while the call may be on its way, whatever becomes of this process.
    if let Some(schedule) = after {
        order.reschedule(&object, schedule.put_off(now.plus(INTENT_PATIENCE)));
    }
    let in_flight = world.sends.begin(&About::Refund(no.clone()));
    let change = order.send_refund(no, store.epoch(), now);
    let Some(mut order) = commit(store, change).await? else {
        return Ok(Looked::Moved);
    };
    let sent = order.refund(no).filter(|one| !one.state.is_over());
    let Some((sent, attempt)) = sent.and_then(|one| Some((one, order.attempt_of(one)?))) else {
        return Ok(Looked::Moved);
    };
    let call = Call::Refund(sent, attempt, &order.terms);
    let leave = Leave {
        patience: ASK_PATIENCE,
        turn: Some(turn),
        in_flight,
    };
    let evidence = send_once(world, adapter, &call, leave).await;
    let known = Some(order.clone());
    let weight = weigh_evidence(store, world, adapter, evidence, known).await?;
    if weight.has_moved() {
        return Ok(Looked::Moved);
    }
    // The call has ended, so the schedule counts again.
    if let Some(schedule) = after {
        order.reschedule(&object, schedule);
    }
    Ok(Looked::Stands(Box::new(order), 1))
}

/// Asks about a refund that was sent.
async fn ask(
    store: &dyn Store,
    world: &World,
    adapter: &dyn Institution,
    (order, refund): (Order, &Refund),
    turn: Turn,
) -> Result<Looked, StoreError> {
    let object = Object::Refund(refund.no.clone());
    let Some(attempt) = order.attempt_of(refund) else {
        return Ok(counted(world, order, &object));
    };
    let call = Call::RefundQuery(refund, attempt, &order.terms);
    let is_kept_back = turn.watch();
    let evidence = ask_in_turn(world, adapter, &call, turn).await;
    if is_kept_back.is_set() {
        return Ok(not_asked(world, order, &object));
    }
    let Looked::Stands(order, commits) = counted(world, order, &object) else {
        return Ok(Looked::Moved);
    };
    let refund = order.refund(&refund.no).cloned();
    let repeats = |one: &Refund| order.may_repeat(one, adapter.facts());
    if evidence.finding == Finding::NotFound
        && let Some(refund) = refund.as_ref().filter(|one| repeats(one))
    {
        let urgency = Urgency::Doubt;
        return match world.outbound.question_turn(adapter.id(), urgency).await {
            Ok(turn) => send(store, world, adapter, (*order, &refund.no), turn).await,
            // It was asked; the next question has it sent.
            Err(_) => Ok(Looked::Stands(order, commits)),
        };
    }
    let known = Some((*order).clone());
    // Whoever says that the money is on its way is no case for people, however long it takes.
    let is_on_its_way = matches!(evidence.finding, Finding::Accepted(_));
    let weight = weigh_evidence(store, world, adapter, evidence, known).await?;
    if weight.has_moved() {
        return Ok(Looked::Moved);
    }
    let mut order = order;
    if is_on_its_way {
        // Only questions that nobody answers so use the schedule up.
        if let Some(schedule) = order.schedule_of(&object) {
            order.reschedule(&object, schedule.answered());
        }
        return Ok(Looked::Stands(order, commits));
    }
    if let Some(refund) = refund.filter(|one| schedule::is_for_people(one.schedule.asked)) {
        tracing::error!(order.no = %order.no, refund.no = %refund.no,
            "a refund has not ended after the whole schedule; people must decide");
        if leave_to_people(store, world, &order, &refund.no).await? {
            return Ok(Looked::Moved);
        }
    }
    Ok(Looked::Stands(order, commits))
}

/// Leaves a refund to people, step by step; whether anything moved.
async fn leave_to_people(
    store: &dyn Store,
    world: &World,
    order: &Order,
    no: &RefundOrderNo,
) -> Result<bool, StoreError> {
    let first = order.leave_to_people(no, world.clock.now());
    let mut left = commit(store, first).await?;
    let moved = left.is_some();
    while let Some(order) = left {
        let next = order.leave_to_people(no, world.clock.now());
        left = commit(store, next).await?;
    }
    Ok(moved)
}

/// The order as it is after a change; `None` if nothing was to change or somebody wrote first.
async fn commit(store: &dyn Store, change: Option<Change>) -> Result<Option<Order>, StoreError> {
    let Some(change) = change else {
        return Ok(None);
    };
    let done = store.commit(&change).await? == Committed::Done;
    Ok(done.then(|| change.into_order()).flatten())
}

impl Weight {
    fn has_moved(&self) -> bool {
        match self {
            Self::Moved(_) => true,
            Self::Known(_)
            | Self::Unconfirmed(_)
            | Self::Quarantined(_)
            | Self::Stranger
            | Self::Contended => false,
        }
    }
}
