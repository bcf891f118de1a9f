//! Polls everything unresolved and begins closing what has expired; covers time-outs, lost
//! callbacks and crashes between two writes. Queries, closes, and sends due refunds; never sends a
//! charge again, and no attempt ends by a timer alone (V2).

mod closing;
mod latest;
pub(in crate::flow) mod pacing;
mod recover;
mod signalled;

use crate::domain::attempt::{Attempt, AttemptState};
use crate::domain::evidence::{Evidence, Finding};
use crate::domain::order::{Order, PollTarget, Urgency};
use crate::domain::schedule;
use crate::flow::FlowScope;
use crate::flow::apply_evidence::{EvidenceOutcome, apply_evidence, is_not_found_conclusive};
use crate::flow::call_institution::{QUERY_TIMEOUTS, ask_with_permit, call_institution};
use crate::flow::refunds::poll_refunds::poll_refund;
use crate::institution::{Institution, Operation};
use crate::store::{Committed, Lease, LeasedWork, StoreError};
use crate::world::{Permit, World};
pub use closing::close_due_order;
pub(in crate::flow) use latest::latest;
pub use pacing::put_off;
use pacing::{PollResult, counted, kept_back, postpone_unsent, return_lease};
pub use recover::recover_orphaned;
pub use signalled::poll_signalled_order;

/// Does the due work of one leased order: begins closing it, then polls the object that is most
/// overdue, and reschedules. One object per lease: however many are open, the work fits within the
/// lease, and no other worker takes the order in that time.
pub async fn poll_order(scope: FlowScope<'_>, lease: &Lease) -> Result<(), StoreError> {
    let LeasedWork::Order(order) = &lease.of else {
        return Ok(());
    };
    let FlowScope { store, world, .. } = scope;
    let now = world.clock.now();
    let mut order = order.clone();
    let mut ours = 0;
    if let Some(change) = order.pursue(now) {
        match store.changes.commit(&change).await? {
            Committed::Done => ours = 1,
            // A concurrent change to the order sets a new schedule.
            Committed::Stale | Committed::KeyTaken | Committed::NonceSpent => return Ok(()),
        }
        let Some(after) = change.into_order() else {
            return Ok(());
        };
        *order = after;
    }
    let polled = match order.next_poll_target(now) {
        Some((object, _, urgency)) => poll_target(scope, *order, &object, urgency).await?,
        None => PollResult::Stands(order, 0),
    };
    return_lease(&*store.unresolved, lease, polled, ours).await
}

/// Polls one object of an order.
async fn poll_target(
    scope: FlowScope<'_>,
    order: Order,
    object: &PollTarget,
    urgency: Urgency,
) -> Result<PollResult, StoreError> {
    let through = match object {
        PollTarget::Attempt(id) => order.attempts.iter().find(|one| one.id == *id),
        PollTarget::Refund(no) => order.refund(no).and_then(|one| order.attempt_of(one)),
    };
    let adapter = through.and_then(|one| scope.snapshot.adapters.get(&one.institution));
    let Some(adapter) = adapter else {
        tracing::error!(order.no = %order.no,
            "an institution with unfinished orders is missing from the configuration");
        return Ok(counted(scope.world, order, object));
    };
    let adapter = adapter.as_ref();
    match object {
        PollTarget::Attempt(_) => poll_attempt(scope, adapter, order, object, urgency).await,
        PollTarget::Refund(no) => poll_refund(scope, adapter, order, no, urgency).await,
    }
}

/// Polls one live attempt.
async fn poll_attempt(
    scope: FlowScope<'_>,
    adapter: &dyn Institution,
    order: Order,
    object: &PollTarget,
    urgency: Urgency,
) -> Result<PollResult, StoreError> {
    let FlowScope { store, world, .. } = scope;
    let PollTarget::Attempt(id) = object else {
        return Ok(counted(world, order, object));
    };
    let Some(attempt) = order.attempts.iter().find(|one| one.id == *id).cloned() else {
        return Ok(counted(world, order, object));
    };
    if attempt.state == AttemptState::Intent {
        let overdue = order.mark_overdue_unresolved(&attempt, adapter.facts(), world.clock.now());
        if let Some(change) = overdue {
            store.changes.commit(&change).await?;
            return Ok(PollResult::Moved);
        }
        return Ok(counted(world, order, object));
    }
    let permit = world
        .outbound
        .acquire_question_permit(adapter.id(), urgency)
        .await;
    let permit = match permit {
        Ok(permit) => permit,
        Err(unavailable) => return Ok(kept_back(world, order, object, unavailable)),
    };
    let is_throttled = permit.watch();
    let evidence = query_or_close(scope, adapter, &order, &attempt, permit).await;
    if is_throttled.is_set() {
        return Ok(postpone_unsent(world, order, object));
    }
    let asked_at = world.clock.now();
    world.signals.asked(&order.no, adapter.id(), asked_at);
    let PollResult::Stands(order, commits) = counted(world, order, object) else {
        return Ok(PollResult::Moved);
    };
    if order
        .schedule_of(object)
        .is_some_and(|it| schedule::awaits_manual_review(it.asked))
        && attempt.state != AttemptState::Accepted
    {
        tracing::error!(order.no = %order.no,
            "still unresolved after the whole schedule; contact the institution directly");
    }
    let known = Some((*order).clone());
    Ok(
        match apply_evidence(scope, adapter, evidence, known).await? {
            EvidenceOutcome::Moved(_) => PollResult::Moved,
            EvidenceOutcome::Known(_)
            | EvidenceOutcome::Unconfirmed(_)
            | EvidenceOutcome::Quarantined(_)
            | EvidenceOutcome::UnknownReference
            | EvidenceOutcome::Contended => PollResult::Stands(order, commits),
        },
    )
}

/// Calls the institution about a live attempt: a close if it is closing, a query otherwise.
async fn query_or_close(
    scope: FlowScope<'_>,
    adapter: &dyn Institution,
    order: &Order,
    attempt: &Attempt,
    permit: Permit,
) -> Evidence {
    let world = scope.world;
    let ending = adapter.facts().product(&attempt.product).ending;
    let closing = attempt.state == AttemptState::Closing && ending.closes(attempt.named);
    let call = if closing {
        scope.snapshot.call(Operation::Close, attempt, &order.terms)
    } else {
        scope.snapshot.call(Operation::Query, attempt, &order.terms)
    };
    let is_throttled = permit.watch();
    let evidence = ask_with_permit(world, adapter, &call, permit).await;
    if is_throttled.is_set() {
        evidence
    } else if closing && evidence.finding != Finding::Closed {
        // The close did not succeed: perhaps it was paid first.
        let call = scope.snapshot.call(Operation::Query, attempt, &order.terms);
        latest(
            evidence,
            call_institution(world, adapter, &call, QUERY_TIMEOUTS).await,
        )
    } else if is_unseen(world, adapter, order, attempt, &evidence) {
        // A5: no send can still be in flight, so a close makes sure that it never arrives.
        let call = scope.snapshot.call(Operation::Close, attempt, &order.terms);
        call_institution(world, adapter, &call, QUERY_TIMEOUTS).await
    } else {
        evidence
    }
}

/// Whether a query conclusively found nothing for an attempt that the institution must know by now.
fn is_unseen(
    world: &World,
    adapter: &dyn Institution,
    order: &Order,
    attempt: &Attempt,
    evidence: &Evidence,
) -> bool {
    let ending = adapter.facts().product(&attempt.product).ending;
    attempt.state == AttemptState::Unknown
        && !attempt.named
        && ending.closes(attempt.named)
        && evidence.finding == Finding::NotFound
        && is_not_found_conclusive(world, adapter, order, evidence)
}
