//! Brings one refund on: surplus money is sent back, what is in doubt is asked about, what an
//! institution does not know is sent once more where that is harmless (R4).

use crate::domain::change::Change;
use crate::domain::evidence::{EvidenceSubject, Finding};
use crate::domain::identifiers::RefundOrderNo;
use crate::domain::order::{INTENT_TIMEOUT, Order, PollTarget, Urgency};
use crate::domain::refund::{Refund, RefundState, SendStatus};
use crate::domain::schedule;
use crate::flow::apply_evidence::{EvidenceOutcome, apply_evidence};
use crate::flow::call_institution::{QUERY_TIMEOUTS, SendOptions, ask_with_permit, send_once};
use crate::flow::poll_unresolved::{PollResult, counted, kept_back, postpone_unsent};
use crate::institution::{Call, Institution};
use crate::store::{Committed, Store, StoreError};
use crate::world::{Permit, World};

/// Does for a refund that has not ended what is due.
pub(in crate::flow) async fn poll_refund(
    store: &Store,
    world: &World,
    adapter: &dyn Institution,
    order: Order,
    (no, urgency): (&RefundOrderNo, Urgency),
) -> Result<PollResult, StoreError> {
    let object = PollTarget::Refund(no.clone());
    let Some(refund) = order.refund(no).cloned() else {
        return Ok(counted(world, order, &object));
    };
    if let (RefundState::Reserved, SendStatus::Left(_)) = (refund.state, refund.sending) {
        let unresolved = order.mark_refund_unresolved(&refund, adapter.facts(), world.clock.now());
        return Ok(match commit(store, unresolved).await? {
            Some(_) => PollResult::Moved,
            None => counted(world, order, &object),
        });
    }
    // Before anything is written down: what cannot leave now is not sent.
    let permit = match world
        .outbound
        .acquire_question_permit(adapter.id(), urgency)
        .await
    {
        Ok(permit) => permit,
        Err(too_many) => return Ok(kept_back(world, order, &object, too_many)),
    };
    match (refund.state, refund.sending) {
        (RefundState::Reserved, SendStatus::Waits(_)) => {
            send(store, world, adapter, (order, no), permit).await
        }
        _ => ask(store, world, adapter, (order, &refund), permit).await,
    }
}

/// Sends what is due to be sent: written down first (R4).
async fn send(
    store: &Store,
    world: &World,
    adapter: &dyn Institution,
    (order, no): (Order, &RefundOrderNo),
    permit: Permit,
) -> Result<PollResult, StoreError> {
    let object = PollTarget::Refund(no.clone());
    let now = world.clock.now();
    let mut order = order;
    // Of what is sent for the first time its change says when it is looked after.
    let repeated = order
        .refund(no)
        .filter(|one| one.state == RefundState::Unknown);
    let after = repeated.map(|one| one.schedule);
    // Nobody asks about it while the call may be on its way, whatever becomes of this process.
    if let Some(schedule) = after {
        order.reschedule(&object, schedule.put_off(now.plus(INTENT_TIMEOUT)));
    }
    let in_flight = world.sends.begin(&EvidenceSubject::Refund(no.clone()));
    let change = order.send_refund(no, store.epoch, now);
    let Some(mut order) = commit(store, change).await? else {
        return Ok(PollResult::Moved);
    };
    let sent = order.refund(no).filter(|one| !one.state.is_over());
    let Some((sent, attempt)) = sent.and_then(|one| Some((one, order.attempt_of(one)?))) else {
        return Ok(PollResult::Moved);
    };
    let call = Call::Refund(sent, attempt, &order.terms);
    let leave = SendOptions {
        timeouts: QUERY_TIMEOUTS,
        permit: Some(permit),
        in_flight,
    };
    let evidence = send_once(world, adapter, &call, leave).await;
    let known = Some(order.clone());
    let weight = apply_evidence(store, world, adapter, evidence, known).await?;
    if weight.has_moved() {
        return Ok(PollResult::Moved);
    }
    // The call has ended, so the schedule counts again.
    if let Some(schedule) = after {
        order.reschedule(&object, schedule);
    }
    Ok(PollResult::Stands(Box::new(order), 1))
}

/// Asks about a refund that was sent.
async fn ask(
    store: &Store,
    world: &World,
    adapter: &dyn Institution,
    (order, refund): (Order, &Refund),
    permit: Permit,
) -> Result<PollResult, StoreError> {
    let object = PollTarget::Refund(refund.no.clone());
    let Some(attempt) = order.attempt_of(refund) else {
        return Ok(counted(world, order, &object));
    };
    let call = Call::RefundQuery(refund, attempt, &order.terms);
    let is_throttled = permit.watch();
    let evidence = ask_with_permit(world, adapter, &call, permit).await;
    if is_throttled.is_set() {
        return Ok(postpone_unsent(world, order, &object));
    }
    let PollResult::Stands(order, commits) = counted(world, order, &object) else {
        return Ok(PollResult::Moved);
    };
    let refund = order.refund(&refund.no).cloned();
    let repeats = |one: &Refund| order.may_repeat(one, adapter.facts());
    if evidence.finding == Finding::NotFound
        && let Some(refund) = refund.as_ref().filter(|one| repeats(one))
    {
        let urgency = Urgency::Unresolved;
        return match world
            .outbound
            .acquire_question_permit(adapter.id(), urgency)
            .await
        {
            Ok(permit) => send(store, world, adapter, (*order, &refund.no), permit).await,
            // It was asked; the next question has it sent.
            Err(_) => Ok(PollResult::Stands(order, commits)),
        };
    }
    let known = Some((*order).clone());
    // Whoever says that the money is on its way is no case for people, however long it takes.
    let is_on_its_way = matches!(evidence.finding, Finding::Accepted(_));
    let weight = apply_evidence(store, world, adapter, evidence, known).await?;
    if weight.has_moved() {
        return Ok(PollResult::Moved);
    }
    let mut order = order;
    if is_on_its_way {
        // Only questions that nobody answers so use the schedule up.
        if let Some(schedule) = order.schedule_of(&object) {
            order.reschedule(&object, schedule.answered());
        }
        return Ok(PollResult::Stands(order, commits));
    }
    if let Some(refund) = refund.filter(|one| schedule::awaits_manual_review(one.schedule.asked)) {
        tracing::error!(order.no = %order.no, refund.no = %refund.no,
            "a refund has not ended after the whole schedule; people must decide");
        if move_to_manual_review(store, world, &order, &refund.no).await? {
            return Ok(PollResult::Moved);
        }
    }
    Ok(PollResult::Stands(order, commits))
}

/// Leaves a refund to people, step by step; whether anything moved.
async fn move_to_manual_review(
    store: &Store,
    world: &World,
    order: &Order,
    no: &RefundOrderNo,
) -> Result<bool, StoreError> {
    let first = order.move_to_manual_review(no, world.clock.now());
    let mut left = commit(store, first).await?;
    let moved = left.is_some();
    while let Some(order) = left {
        let next = order.move_to_manual_review(no, world.clock.now());
        left = commit(store, next).await?;
    }
    Ok(moved)
}

/// The order as it is after a change; `None` if nothing was to change or somebody wrote first.
async fn commit(store: &Store, change: Option<Change>) -> Result<Option<Order>, StoreError> {
    let Some(change) = change else {
        return Ok(None);
    };
    let done = store.changes.commit(&change).await? == Committed::Done;
    Ok(done.then(|| change.into_order()).flatten())
}

impl EvidenceOutcome {
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
