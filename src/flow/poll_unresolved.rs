//! Asks about everything in doubt and ends what has expired: time-out, lost callback and crash
//! between two writes are one small problem, solved here. Asks; never sends a charge again, and
//! never ends anything by the clock (V2).

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

/// Leftovers adopted in one round.
const ORPHANED_AT_ONCE: u32 = 256;

/// At start-up: everything a dead process left as intent may have been sent, so it is in doubt
/// (S1). Returns how many orders were taken over.
pub async fn recover_orphaned(store: &Store, now: Timestamp) -> Result<u64, StoreError> {
    let mut adopted: u64 = 0;
    loop {
        let leases = store.nodes.lease_orphaned(now, ORPHANED_AT_ONCE).await?;
        if leases.is_empty() {
            return Ok(adopted);
        }
        for lease in &leases {
            let LeasedWork::Order(order) = &lease.of else {
                continue;
            };
            let Some(change) = order.recover_orphaned(store.epoch, now) else {
                continue;
            };
            // Stale: somebody moved it meanwhile; the next round looks again.
            if store.changes.commit(&change).await? == Committed::Done {
                adopted = adopted.saturating_add(1);
            }
        }
    }
}

/// What came of looking after one object.
pub(in crate::flow) enum PollResult {
    /// The order moved; it is due anew.
    Moved,
    /// Nothing came of it: as the order stands, so many changes of ours after the lease.
    Stands(Box<Order>, u64),
}

/// Ends what time asks to be ended. Whether there was anything.
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
            // If somebody else moves it, what is due then is due anew.
            store.changes.commit(&change).await?;
            Ok(true)
        }
        None => Ok(false),
    }
}

/// Does for one leased order what is due: begins its ending, or asks about the one object that is
/// due longest, and says when to look again. One object for each lease: however many are open, the work
/// fits the lease, and nobody else takes them up meanwhile.
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
            // Somebody else moves it; what is due then is due anew.
            Committed::Stale | Committed::KeyTaken | Committed::NonceSpent => return Ok(()),
        }
        let Some(after) = change.into_order() else {
            return Ok(());
        };
        *order = after;
    }
    let looked = match order.next_poll_target(now) {
        Some((object, _, urgency)) => {
            look(store, world, snapshot, *order, (&object, urgency)).await?
        }
        None => PollResult::Stands(order, 0),
    };
    return_lease(&*store.unresolved, lease, looked, ours).await
}

/// Asks about a leased order that waits for its payer, because something was seen of it. Counts in no
/// schedule, as long as callbacks come: what its schedule says is still asked.
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
    let asked = look(
        store,
        world,
        snapshot,
        (**order).clone(),
        (&object, Urgency::Signal),
    );
    let looked = match asked.await? {
        PollResult::Stands(mut order, commits) => {
            let now = world.clock.now();
            // Where callbacks go missing it is the first of a quicker schedule.
            if world.health.callbacks(&through, now) == CallbackDelivery::Arriving {
                let soonest = now.plus(POLL_GAP_MIN);
                order.reschedule(&object, schedule.put_off(soonest));
            }
            PollResult::Stands(order, commits)
        }
        PollResult::Moved => PollResult::Moved,
    };
    return_lease(&*store.unresolved, lease, looked, 0).await
}

/// Somebody else must do what this lease was taken for; in a moment, and not counted.
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

/// Gives a lease back. Our own changes ended it, each with one step of its fence; whoever leased the
/// order since then has made another, and what he knows counts.
async fn return_lease(
    unresolved: &dyn Unresolved,
    lease: &Lease,
    looked: PollResult,
    ours: u64,
) -> Result<(), StoreError> {
    let PollResult::Stands(order, commits) = looked else {
        return Ok(());
    };
    let fence = lease.fence.saturating_add(ours).saturating_add(commits);
    unresolved.reschedule(&order, fence).await?;
    Ok(())
}

/// Looks after one object of an order.
async fn look(
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
        PollTarget::Attempt(_) => ask(store, world, adapter, order, (object, urgency)).await,
        PollTarget::Refund(no) => poll_refund(store, world, adapter, order, (no, urgency)).await,
    }
}

/// The order after a look that came to nothing.
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

/// What we keep back ourselves is not counted, and asked soon.
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

/// The shortest and the longest wait after a question that could not leave.
const SHORTAGE_WAITS: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(30));

/// A question that did not leave for a reason of our own: nothing is counted, and it is tried at its own
/// pace, within bounds.
pub(in crate::flow) fn postpone_unsent(
    world: &World,
    order: Order,
    object: &PollTarget,
) -> PollResult {
    let now = world.clock.now();
    let mut as_asked = order.clone();
    as_asked.count_poll(object, CallbackDelivery::default(), now);
    let next = as_asked.schedule_of(object).map(|schedule| schedule.next);
    let wait = next.map_or(SHORTAGE_WAITS.0, |next| next.since(now));
    let wait = wait.clamp(SHORTAGE_WAITS.0, SHORTAGE_WAITS.1);
    kept_back(world, order, object, PermitUnavailable { wait })
}

/// Asks about one live attempt.
async fn ask(
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
        Err(too_many) => return Ok(kept_back(world, order, object, too_many)),
    };
    let is_throttled = permit.watch();
    let evidence = question(world, adapter, (&order, &attempt), permit).await;
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
            "still in doubt after the whole schedule; ask the institution by other means");
    }
    let known = Some((*order).clone());
    Ok(
        match apply_evidence(store, world, adapter, evidence, known).await? {
            EvidenceOutcome::Moved(_) => PollResult::Moved,
            EvidenceOutcome::Known(_)
            | EvidenceOutcome::Unconfirmed(_)
            | EvidenceOutcome::Quarantined(_)
            | EvidenceOutcome::Stranger
            | EvidenceOutcome::Contended => PollResult::Stands(order, commits),
        },
    )
}

/// What an institution says of a live attempt: a close where it is wanted, a query otherwise.
async fn question(
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
        // A close that did not end it: perhaps it was paid first.
        let call = Call::Query(attempt, &order.terms);
        latest(
            evidence,
            call_institution(world, adapter, &call, QUERY_TIMEOUTS).await,
        )
    } else if is_unseen(world, adapter, attempt, &evidence) {
        // A5: nothing sent can still be on its way, so a close settles that it never will be.
        let call = Call::Close(attempt, &order.terms);
        call_institution(world, adapter, &call, QUERY_TIMEOUTS).await
    } else {
        evidence
    }
}

/// Of the replies to a close and to the query after it: the later word counts (V5).
pub(in crate::flow) fn latest(closed: Evidence, asked: Evidence) -> Evidence {
    let proves_arrival = closed.proves_arrival || asked.proves_arrival;
    let is_kept = match (&closed.finding, &asked.finding) {
        // That money moved is not unsaid by a word that says less.
        (Finding::Succeeded(_), _)
        // It will not close what is open: the payer goes on.
        | (Finding::Accepted(_), Finding::Accepted(_))
        // Not known, and still not known: that answers a close (A5).
        | (Finding::NotFound, Finding::NotFound)
        // A question without an answer takes nothing back; only "not found" does not stand alone.
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

/// Whether a query says "not found" of an attempt that must have been seen by now.
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
