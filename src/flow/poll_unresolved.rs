//! Queries everything unresolved and begins closing what has expired; covers time-outs, lost
//! callbacks and crashes between two writes. Only queries and closes: it never sends a charge
//! again, and no attempt ends by a timer alone (V2).

use std::time::Duration;

use crate::domain::attempt::{Attempt, AttemptState};
use crate::domain::evidence::{Evidence, Finding};
use crate::domain::identifiers::Timestamp;
use crate::domain::order::{CallbackDelivery, Order, PollTarget, Urgency};
use crate::domain::schedule;
use crate::flow::apply_evidence::{EvidenceOutcome, apply_evidence, is_not_found_conclusive};
use crate::flow::call_institution::{QUERY_TIMEOUTS, ask_with_permit, call_institution};
use crate::flow::configuration_snapshot::ConfigurationSnapshot;
use crate::flow::refunds::poll_refunds::poll_refund;
use crate::institution::{Call, Institution};
use crate::store::{Committed, Lease, LeasedWork, Store, StoreError, Unresolved};
use crate::world::signals::POLL_GAP_MIN;
use crate::world::{Permit, PermitUnavailable, World};

/// Orphaned orders recovered in one round.
const ORPHANED_AT_ONCE: u32 = 256;

/// At start-up, marks as unresolved every intent that a dead process left, because it may have been
/// sent (S1). Returns the number of orders recovered.
pub async fn recover_orphaned(store: &Store, now: Timestamp) -> Result<u64, StoreError> {
    let mut recovered: u64 = 0;
    loop {
        let leases = store.nodes.lease_orphaned(now, ORPHANED_AT_ONCE).await?;
        if leases.is_empty() {
            return Ok(recovered);
        }
        for lease in &leases {
            let LeasedWork::Order(order) = &lease.of else {
                continue;
            };
            let Some(change) = order.recover_orphaned(store.epoch, now) else {
                continue;
            };
            // Stale: changed by another writer; the next round reads it again.
            if store.changes.commit(&change).await? == Committed::Done {
                recovered = recovered.saturating_add(1);
            }
        }
    }
}

/// The result of polling one object.
pub(in crate::flow) enum PollResult {
    /// The order changed, and has a new schedule.
    Moved,
    /// No result: the current order, and how many commits of ours followed the lease.
    Stands(Box<Order>, u64),
}

/// Begins whatever closing is due for a leased order. Returns whether any was.
pub async fn close_due_order(
    store: &Store,
    world: &World,
    lease: &Lease,
) -> Result<bool, StoreError> {
    let LeasedWork::Order(order) = &lease.of else {
        return Ok(false);
    };
    match order.pursue(world.clock.now()) {
        Some(change) => {
            // A concurrent change to the order sets a new schedule.
            store.changes.commit(&change).await?;
            Ok(true)
        }
        None => Ok(false),
    }
}

/// Does the due work of one leased order: begins closing it, then polls the object that is most
/// overdue, and reschedules. One object per lease: however many are open, the work fits within the
/// lease, and no other worker takes the order in that time.
pub async fn poll_order(
    store: &Store,
    world: &World,
    snapshot: &ConfigurationSnapshot,
    lease: &Lease,
) -> Result<(), StoreError> {
    let LeasedWork::Order(order) = &lease.of else {
        return Ok(());
    };
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
        Some((object, _, urgency)) => {
            poll_target(store, world, snapshot, *order, (&object, urgency)).await?
        }
        None => PollResult::Stands(order, 0),
    };
    return_lease(&*store.unresolved, lease, polled, ours).await
}

/// Polls a leased order that waits for its payer, because of a signal. While callbacks arrive, this
/// does not count in its schedule, so scheduled queries still happen.
pub async fn poll_signalled_order(
    store: &Store,
    world: &World,
    snapshot: &ConfigurationSnapshot,
    lease: &Lease,
) -> Result<(), StoreError> {
    let LeasedWork::Order(order) = &lease.of else {
        return Ok(());
    };
    let Some(attempt) = order.waiting_attempt() else {
        let stands = PollResult::Stands(order.clone(), 0);
        return return_lease(&*store.unresolved, lease, stands, 0).await;
    };
    let object = PollTarget::Attempt(attempt.id.clone());
    let (schedule, through) = (attempt.schedule, attempt.institution.clone());
    let polled = poll_target(
        store,
        world,
        snapshot,
        (**order).clone(),
        (&object, Urgency::Signal),
    );
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

/// Returns a lease without polling: the object is due again at `until`, and nothing is counted.
pub async fn put_off(
    unresolved: &dyn Unresolved,
    lease: &Lease,
    (object, until): (&PollTarget, Timestamp),
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
async fn return_lease(
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

/// Polls one object of an order.
async fn poll_target(
    store: &Store,
    world: &World,
    snapshot: &ConfigurationSnapshot,
    order: Order,
    (object, urgency): (&PollTarget, Urgency),
) -> Result<PollResult, StoreError> {
    let through = match object {
        PollTarget::Attempt(id) => order.attempts.iter().find(|one| one.id == *id),
        PollTarget::Refund(no) => order.refund(no).and_then(|one| order.attempt_of(one)),
    };
    let adapter = through.and_then(|one| snapshot.adapters.get(&one.institution));
    let Some(adapter) = adapter else {
        tracing::error!(order.no = %order.no,
            "an institution with unfinished orders is missing from the configuration");
        return Ok(counted(world, order, object));
    };
    let adapter = adapter.as_ref();
    match object {
        PollTarget::Attempt(_) => {
            poll_attempt(store, world, adapter, order, (object, urgency)).await
        }
        PollTarget::Refund(no) => poll_refund(store, world, adapter, order, (no, urgency)).await,
    }
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
const SHORTAGE_WAITS: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(30));

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
    let wait = next.map_or(SHORTAGE_WAITS.0, |next| next.since(now));
    let wait = wait.clamp(SHORTAGE_WAITS.0, SHORTAGE_WAITS.1);
    kept_back(world, order, object, PermitUnavailable { wait })
}

/// Polls one live attempt.
async fn poll_attempt(
    store: &Store,
    world: &World,
    adapter: &dyn Institution,
    order: Order,
    (object, urgency): (&PollTarget, Urgency),
) -> Result<PollResult, StoreError> {
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
    let evidence = query_or_close(world, adapter, (&order, &attempt), permit).await;
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
        match apply_evidence(store, world, adapter, evidence, known).await? {
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
    world: &World,
    adapter: &dyn Institution,
    (order, attempt): (&Order, &Attempt),
    permit: Permit,
) -> Evidence {
    let closing = attempt.state == AttemptState::Closing && adapter.facts().can_close;
    let call = if closing {
        Call::Close(attempt, &order.terms)
    } else {
        Call::Query(attempt, &order.terms)
    };
    let is_throttled = permit.watch();
    let evidence = ask_with_permit(world, adapter, &call, permit).await;
    if is_throttled.is_set() {
        evidence
    } else if closing && evidence.finding != Finding::Closed {
        // The close did not succeed: perhaps it was paid first.
        let call = Call::Query(attempt, &order.terms);
        latest(
            evidence,
            call_institution(world, adapter, &call, QUERY_TIMEOUTS).await,
        )
    } else if is_unseen(world, adapter, attempt, &evidence) {
        // A5: no send can still be in flight, so a close makes sure that it never arrives.
        let call = Call::Close(attempt, &order.terms);
        call_institution(world, adapter, &call, QUERY_TIMEOUTS).await
    } else {
        evidence
    }
}

/// Chooses between the replies to a close and to the query after it: usually the later one (V5).
pub(in crate::flow) fn latest(closed: Evidence, asked: Evidence) -> Evidence {
    let proves_arrival = closed.proves_arrival || asked.proves_arrival;
    let is_kept = match (&closed.finding, &asked.finding) {
        // A weaker finding does not revoke that money moved.
        (Finding::Succeeded(_), _)
        // The institution does not close an open payment: the payer may continue.
        | (Finding::Accepted(_), Finding::Accepted(_))
        // Twice not found: that is the answer to a close (A5).
        | (Finding::NotFound, Finding::NotFound)
        // A query without an answer revokes nothing, except "not found", which needs confirmation.
        | (
            Finding::Accepted(_) | Finding::Refused(_) | Finding::Closed,
            Finding::NotSent | Finding::Ambiguous(_),
        ) => true,
        (
            Finding::NotSent
            | Finding::Refused(_)
            | Finding::Accepted(_)
            | Finding::Closed
            | Finding::NotFound
            | Finding::Ambiguous(_),
            _,
        ) => false,
    };
    let counts = if is_kept { closed } else { asked };
    Evidence {
        proves_arrival,
        ..counts
    }
}

/// Whether a query conclusively found nothing for an attempt that the institution must know by now.
fn is_unseen(
    world: &World,
    adapter: &dyn Institution,
    attempt: &Attempt,
    evidence: &Evidence,
) -> bool {
    attempt.state == AttemptState::Unknown
        && !attempt.named
        && adapter.facts().can_close
        && evidence.finding == Finding::NotFound
        && is_not_found_conclusive(world, adapter, evidence)
}
