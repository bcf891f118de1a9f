//! Polls one refund: sends refunds of excess payments, queries unresolved ones, and resends what an
//! institution does not know where repeating is safe (R4).

use std::time::Duration;

use crate::domain::change::Change;
use crate::domain::evidence::{EvidenceSubject, Finding};
use crate::domain::identifiers::{RefundOrderNo, Timestamp};
use crate::domain::order::{INTENT_TIMEOUT, Order, PollTarget, Urgency};
use crate::domain::refund::{Refund, RefundState, SendStatus};
use crate::domain::schedule;
use crate::flow::FlowScope;
use crate::flow::apply_evidence::{EvidenceOutcome, apply_evidence};
use crate::flow::call_institution::{
    QUERY_TIMEOUTS, SendOptions, acquire_signing_place, ask_with_permit, send_once,
};
use crate::flow::poll_unresolved::pacing::{PollResult, counted, kept_back, postpone_unsent};
use crate::institution::{Institution, Operation};
use crate::store::{Committed, Store, StoreError};
use crate::world::Permit;

/// Does the due work of a refund that is not final.
pub(in crate::flow) async fn poll_refund(
    scope: FlowScope<'_>,
    adapter: &dyn Institution,
    order: Order,
    no: &RefundOrderNo,
    urgency: Urgency,
) -> Result<PollResult, StoreError> {
    let FlowScope { store, world, .. } = scope;
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
    let gap = adapter.facts().rates.refund_question_gap;
    if let SendStatus::Left(left) = refund.sending
        && let Some(until) = not_before(left, gap, world.clock.now())
    {
        return Ok(put_off_until(order, &object, until));
    }
    // Acquired before anything is written: without a permit, nothing is sent.
    let permit = match world
        .outbound
        .acquire_question_permit(adapter.id(), urgency)
        .await
    {
        Ok(permit) => permit,
        Err(unavailable) => return Ok(kept_back(world, order, &object, unavailable)),
    };
    match (refund.state, refund.sending) {
        (RefundState::Reserved, SendStatus::Waits(_)) => {
            send(scope, adapter, order, no, permit).await
        }
        _ => query(scope, adapter, order, &refund, permit).await,
    }
}

/// When a refund that was sent at this time may first be asked about, if that is not now. A time in the
/// future was taken from a clock that was ahead (T2).
fn not_before(left: Timestamp, gap: Duration, now: Timestamp) -> Option<Timestamp> {
    let earliest = left.plus(gap);
    (left <= now && now < earliest).then_some(earliest)
}

/// Nothing is asked yet, and nothing counted.
fn put_off_until(mut order: Order, object: &PollTarget, until: Timestamp) -> PollResult {
    if let Some(schedule) = order.schedule_of(object) {
        order.reschedule(object, schedule.put_off(until));
    }
    PollResult::Stands(Box::new(order), 0)
}

/// Sends a due refund, after committing its intent (R4).
async fn send(
    scope: FlowScope<'_>,
    adapter: &dyn Institution,
    order: Order,
    no: &RefundOrderNo,
    permit: Permit,
) -> Result<PollResult, StoreError> {
    let FlowScope { store, world, .. } = scope;
    let object = PollTarget::Refund(no.clone());
    let now = world.clock.now();
    let mut order = order;
    // For a first send, the change sets the schedule.
    let repeated = order
        .refund(no)
        .filter(|one| one.state == RefundState::Unknown);
    let after = repeated.map(|one| one.schedule);
    // It must not be polled while the call may be in flight, even if this process crashes.
    if let Some(schedule) = after {
        order.reschedule(&object, schedule.put_off(now.plus(INTENT_TIMEOUT)));
    }
    let paid = order.refund(no).and_then(|one| order.attempt_of(one));
    let Some(account) = paid.map(|attempt| attempt.account.clone()) else {
        return Ok(counted(world, order, &object));
    };
    // Without a place nothing is written: it is sent at a later poll.
    let Ok(place) = acquire_signing_place(world, Some(adapter), &account).await else {
        return Ok(postpone_unsent(world, order, &object));
    };
    let in_flight = world.sends.begin(&EvidenceSubject::Refund(no.clone()));
    let change = order.send_refund(no, store.epoch, now);
    let Some(mut order) = commit(store, change).await? else {
        return Ok(PollResult::Moved);
    };
    let sent = order.refund(no).filter(|one| !one.state.is_over());
    let Some((sent, attempt)) = sent.and_then(|one| Some((one, order.attempt_of(one)?))) else {
        return Ok(PollResult::Moved);
    };
    let call = scope
        .snapshot
        .call(Operation::Refund(sent), attempt, &order.terms);
    let options = SendOptions {
        timeouts: QUERY_TIMEOUTS,
        permit: Some(permit),
        in_flight,
        place,
    };
    let evidence = send_once(world, adapter, &call, options).await;
    let known = Some(order.clone());
    let outcome = apply_evidence(scope, adapter, evidence, known).await?;
    if outcome.has_moved() {
        return Ok(PollResult::Moved);
    }
    // The call has ended: restore the schedule.
    if let Some(schedule) = after {
        order.reschedule(&object, schedule);
    }
    Ok(PollResult::Stands(Box::new(order), 1))
}

/// Queries a refund that was sent.
async fn query(
    scope: FlowScope<'_>,
    adapter: &dyn Institution,
    order: Order,
    refund: &Refund,
    permit: Permit,
) -> Result<PollResult, StoreError> {
    let world = scope.world;
    let object = PollTarget::Refund(refund.no.clone());
    let Some(attempt) = order.attempt_of(refund) else {
        return Ok(counted(world, order, &object));
    };
    let call = scope
        .snapshot
        .call(Operation::RefundQuery(refund), attempt, &order.terms);
    let is_throttled = permit.watch();
    let evidence = ask_with_permit(world, adapter, &call, permit).await;
    if is_throttled.is_set() {
        return Ok(postpone_unsent(world, order, &object));
    }
    let PollResult::Stands(mut order, commits) = counted(world, order, &object) else {
        return Ok(PollResult::Moved);
    };
    if let Some(schedule) = order.schedule_of(&object) {
        let gap = adapter.facts().rates.refund_question_gap;
        order.reschedule(&object, schedule.put_off(world.clock.now().plus(gap)));
    }
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
            Ok(permit) => send(scope, adapter, *order, &refund.no, permit).await,
            // The query is done; the next poll sends it.
            Err(_) => Ok(PollResult::Stands(order, commits)),
        };
    }
    let known = Some((*order).clone());
    // A refund that the institution reports as accepted needs no manual review, however long it
    // takes.
    let is_accepted = matches!(evidence.finding, Finding::Accepted(_));
    let outcome = apply_evidence(scope, adapter, evidence, known).await?;
    if outcome.has_moved() {
        return Ok(PollResult::Moved);
    }
    if is_accepted {
        // Only queries without this answer use up the schedule.
        if let Some(schedule) = order.schedule_of(&object) {
            order.reschedule(&object, schedule.answered());
        }
        return Ok(PollResult::Stands(order, commits));
    }
    if let Some(refund) = refund.filter(|one| schedule::awaits_manual_review(one.schedule.asked)) {
        tracing::error!(order.no = %order.no, refund.no = %refund.no,
            "a refund is still unresolved after the whole schedule; manual review needed");
        if move_to_manual_review(scope, &order, &refund.no).await? {
            return Ok(PollResult::Moved);
        }
    }
    Ok(PollResult::Stands(order, commits))
}

/// Moves a refund to manual review, step by step. Returns whether anything changed.
async fn move_to_manual_review(
    scope: FlowScope<'_>,
    order: &Order,
    no: &RefundOrderNo,
) -> Result<bool, StoreError> {
    let FlowScope { store, world, .. } = scope;
    let first = order.move_to_manual_review(no, world.clock.now());
    let mut current = commit(store, first).await?;
    let moved = current.is_some();
    while let Some(order) = current {
        let next = order.move_to_manual_review(no, world.clock.now());
        current = commit(store, next).await?;
    }
    Ok(moved)
}

/// Commits a change and returns the new order; `None` if there is no change or another write won.
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
            | Self::UnknownReference
            | Self::Contended => false,
        }
    }
}
