//! Asks about everything in doubt and ends what has expired: time-out, lost callback and crash
//! between two writes are one small problem, solved here. Asks; never sends a charge again, and
//! never ends anything by the clock (V2).

use std::time::Duration;

use crate::domain::attempt::{Attempt, AttemptState};
use crate::domain::evidence::{Evidence, Finding};
use crate::domain::identifiers::Timestamp;
use crate::domain::order::{Callbacks, Object, Order, Urgency};
use crate::domain::schedule;
use crate::flow::call_institution::{ASK_PATIENCE, ask_in_turn, call_institution};
use crate::flow::refunds::chase_refunds::chase_refund;
use crate::flow::register::Register;
use crate::flow::weigh_evidence::{Weight, is_late_enough, weigh_evidence};
use crate::institution::{Call, Institution};
use crate::store::{Committed, Lease, Leased, Store, StoreError, Work};
use crate::world::signals::LEAST_GAP;
use crate::world::{TooMany, Turn, World};

/// Leftovers adopted in one round.
const LEFTOVERS_AT_ONCE: u32 = 256;

/// At start-up: everything a dead process left as intent may have been sent, so it is in doubt
/// (S1). Returns how many orders were taken over.
pub async fn adopt_leftovers(store: &dyn Store, now: Timestamp) -> Result<u64, StoreError> {
    let mut adopted: u64 = 0;
    loop {
        let leases = store.lease(Work::Leftovers, now, LEFTOVERS_AT_ONCE).await?;
        if leases.is_empty() {
            return Ok(adopted);
        }
        for lease in &leases {
            let Leased::Order(order) = &lease.of else {
                continue;
            };
            let Some(change) = order.adopt(store.epoch(), now) else {
                continue;
            };
            // Stale: somebody moved it meanwhile; the next round looks again.
            if store.commit(&change).await? == Committed::Done {
                adopted = adopted.saturating_add(1);
            }
        }
    }
}

/// What came of looking after one object.
pub(in crate::flow) enum Looked {
    /// The order moved; it is due anew.
    Moved,
    /// Nothing came of it: as the order stands, so many changes of ours after the lease.
    Stands(Box<Order>, u64),
}

/// Ends what time asks to be ended. Whether there was anything.
pub async fn pursue_order(
    store: &dyn Store,
    world: &World,
    lease: &Lease,
) -> Result<bool, StoreError> {
    let Leased::Order(order) = &lease.of else {
        return Ok(false);
    };
    match order.pursue(world.clock.now()) {
        Some(change) => {
            // If somebody else moves it, what is due then is due anew.
            store.commit(&change).await?;
            Ok(true)
        }
        None => Ok(false),
    }
}

/// Does for one leased order what is due: begins its ending, or asks about the one object that is
/// due longest, and says when to look again. One object for each lease: however many are open, the work
/// fits the lease, and nobody else takes them up meanwhile.
pub async fn chase_order(
    store: &dyn Store,
    world: &World,
    register: &Register,
    lease: &Lease,
) -> Result<(), StoreError> {
    let Leased::Order(order) = &lease.of else {
        return Ok(());
    };
    let now = world.clock.now();
    let mut order = order.clone();
    let mut ours = 0;
    if let Some(change) = order.pursue(now) {
        match store.commit(&change).await? {
            Committed::Done => ours = 1,
            // Somebody else moves it; what is due then is due anew.
            Committed::Stale | Committed::KeyTaken | Committed::NonceSpent => return Ok(()),
        }
        let Some(after) = change.into_order() else {
            return Ok(());
        };
        *order = after;
    }
    let looked = match order.next_object(now) {
        Some((object, _, urgency)) => {
            look(store, world, register, *order, (&object, urgency)).await?
        }
        None => Looked::Stands(order, 0),
    };
    put_back(store, lease, looked, ours).await
}

/// Asks about a leased order that waits for its payer, because something was seen of it. Counts in no
/// schedule, as long as callbacks come: what its schedule says is still asked.
pub async fn follow_signal(
    store: &dyn Store,
    world: &World,
    register: &Register,
    lease: &Lease,
) -> Result<(), StoreError> {
    let Leased::Order(order) = &lease.of else {
        return Ok(());
    };
    let Some(attempt) = order.waiting_attempt() else {
        let stands = Looked::Stands(order.clone(), 0);
        return put_back(store, lease, stands, 0).await;
    };
    let object = Object::Attempt(attempt.id.clone());
    let (schedule, through) = (attempt.schedule, attempt.institution.clone());
    let asked = look(
        store,
        world,
        register,
        (**order).clone(),
        (&object, Urgency::Signal),
    );
    let looked = match asked.await? {
        Looked::Stands(mut order, commits) => {
            let now = world.clock.now();
            // Where callbacks go missing it is the first of a quicker schedule.
            if world.health.callbacks(&through, now) == Callbacks::Come {
                let soonest = now.plus(LEAST_GAP);
                order.reschedule(&object, schedule.put_off(soonest));
            }
            Looked::Stands(order, commits)
        }
        Looked::Moved => Looked::Moved,
    };
    put_back(store, lease, looked, 0).await
}

/// Somebody else must do what this lease was taken for; in a moment, and not counted.
pub async fn put_off(
    store: &dyn Store,
    lease: &Lease,
    (object, until): (&Object, Timestamp),
) -> Result<(), StoreError> {
    let Leased::Order(order) = &lease.of else {
        return Ok(());
    };
    let mut order = order.clone();
    if let Some(schedule) = order.schedule_of(object) {
        order.reschedule(object, schedule.put_off(until));
    }
    put_back(store, lease, Looked::Stands(order, 0), 0).await
}

/// Gives a lease back. Our own changes ended it, each with one step of its fence; whoever leased the
/// order since then has made another, and what he knows counts.
async fn put_back(
    store: &dyn Store,
    lease: &Lease,
    looked: Looked,
    ours: u64,
) -> Result<(), StoreError> {
    let Looked::Stands(order, commits) = looked else {
        return Ok(());
    };
    let fence = lease.fence.saturating_add(ours).saturating_add(commits);
    store.reschedule(&order, fence).await?;
    Ok(())
}

/// Looks after one object of an order.
async fn look(
    store: &dyn Store,
    world: &World,
    register: &Register,
    order: Order,
    (object, urgency): (&Object, Urgency),
) -> Result<Looked, StoreError> {
    let through = match object {
        Object::Attempt(id) => order.attempts.iter().find(|one| one.id == *id),
        Object::Refund(no) => order.refund(no).and_then(|one| order.attempt_of(one)),
    };
    let adapter = through.and_then(|one| register.adapters.get(&one.institution));
    let Some(adapter) = adapter else {
        tracing::error!(order.no = %order.no,
            "an institution with unfinished orders is missing from the configuration");
        return Ok(counted(world, order, object));
    };
    let adapter = adapter.as_ref();
    match object {
        Object::Attempt(_) => ask(store, world, adapter, order, (object, urgency)).await,
        Object::Refund(no) => chase_refund(store, world, adapter, order, (no, urgency)).await,
    }
}

/// The order after a look that came to nothing.
pub(in crate::flow) fn counted(world: &World, mut order: Order, object: &Object) -> Looked {
    let now = world.clock.now();
    let institution = match object {
        Object::Attempt(id) => order.attempts.iter().find(|one| one.id == *id),
        Object::Refund(no) => order.refund(no).and_then(|one| order.attempt_of(one)),
    };
    let callbacks = institution.map(|one| world.health.callbacks(&one.institution, now));
    order.count_question(object, callbacks.unwrap_or_default(), now);
    Looked::Stands(Box::new(order), 0)
}

/// What we keep back ourselves is not counted, and asked soon.
pub(in crate::flow) fn kept_back(
    world: &World,
    mut order: Order,
    object: &Object,
    TooMany { wait }: TooMany,
) -> Looked {
    if let Some(schedule) = order.schedule_of(object) {
        let until = world.clock.now().plus(wait);
        order.reschedule(object, schedule.put_off(until));
    }
    Looked::Stands(Box::new(order), 0)
}

/// The shortest and the longest wait after a question that could not leave.
const LACKING: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(30));

/// A question that did not leave for a reason of our own: nothing is counted, and it is tried at its own
/// pace, within bounds.
pub(in crate::flow) fn not_asked(world: &World, order: Order, object: &Object) -> Looked {
    let now = world.clock.now();
    let mut as_asked = order.clone();
    as_asked.count_question(object, Callbacks::default(), now);
    let next = as_asked.schedule_of(object).map(|schedule| schedule.next);
    let wait = next.map_or(LACKING.0, |next| next.since(now));
    let wait = wait.clamp(LACKING.0, LACKING.1);
    kept_back(world, order, object, TooMany { wait })
}

/// Asks about one live attempt.
async fn ask(
    store: &dyn Store,
    world: &World,
    adapter: &dyn Institution,
    order: Order,
    (object, urgency): (&Object, Urgency),
) -> Result<Looked, StoreError> {
    let Object::Attempt(id) = object else {
        return Ok(counted(world, order, object));
    };
    let Some(attempt) = order.attempts.iter().find(|one| one.id == *id).cloned() else {
        return Ok(counted(world, order, object));
    };
    if attempt.state == AttemptState::Intent {
        let overdue = order.doubt_overdue(&attempt, adapter.facts(), world.clock.now());
        if let Some(change) = overdue {
            store.commit(&change).await?;
            return Ok(Looked::Moved);
        }
        return Ok(counted(world, order, object));
    }
    let turn = world.outbound.question_turn(adapter.id(), urgency).await;
    let turn = match turn {
        Ok(turn) => turn,
        Err(too_many) => return Ok(kept_back(world, order, object, too_many)),
    };
    let is_kept_back = turn.watch();
    let evidence = question(world, adapter, (&order, &attempt), turn).await;
    if is_kept_back.is_set() {
        return Ok(not_asked(world, order, object));
    }
    let asked_at = world.clock.now();
    world.signals.asked(&order.no, adapter.id(), asked_at);
    let Looked::Stands(order, commits) = counted(world, order, object) else {
        return Ok(Looked::Moved);
    };
    if order
        .schedule_of(object)
        .is_some_and(|it| schedule::is_for_people(it.asked))
        && attempt.state != AttemptState::Accepted
    {
        tracing::error!(order.no = %order.no,
            "still in doubt after the whole schedule; ask the institution by other means");
    }
    let known = Some((*order).clone());
    Ok(
        match weigh_evidence(store, world, adapter, evidence, known).await? {
            Weight::Moved(_) => Looked::Moved,
            Weight::Known(_)
            | Weight::Unconfirmed(_)
            | Weight::Quarantined(_)
            | Weight::Stranger
            | Weight::Contended => Looked::Stands(order, commits),
        },
    )
}

/// What an institution says of a live attempt: a close where it is wanted, a query otherwise.
async fn question(
    world: &World,
    adapter: &dyn Institution,
    (order, attempt): (&Order, &Attempt),
    turn: Turn,
) -> Evidence {
    let closing = attempt.state == AttemptState::Closing && adapter.facts().can_close;
    let call = if closing {
        Call::Close(attempt, &order.terms)
    } else {
        Call::Query(attempt, &order.terms)
    };
    let is_kept_back = turn.watch();
    let evidence = ask_in_turn(world, adapter, &call, turn).await;
    if is_kept_back.is_set() {
        evidence
    } else if closing && evidence.finding != Finding::Closed {
        // A close that did not end it: perhaps it was paid first.
        let call = Call::Query(attempt, &order.terms);
        latest(
            evidence,
            call_institution(world, adapter, &call, ASK_PATIENCE).await,
        )
    } else if is_unseen(world, adapter, attempt, &evidence) {
        // A5: nothing sent can still be on its way, so a close settles that it never will be.
        let call = Call::Close(attempt, &order.terms);
        call_institution(world, adapter, &call, ASK_PATIENCE).await
    } else {
        evidence
    }
}

/// Of the replies to a close and to the query after it: the later word counts (V5).
pub(in crate::flow) fn latest(closed: Evidence, asked: Evidence) -> Evidence {
    let names_it = closed.names_it || asked.names_it;
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
    Evidence { names_it, ..counts }
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
        && is_late_enough(world, adapter, evidence)
}
