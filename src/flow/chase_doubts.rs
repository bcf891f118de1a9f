//! Asks about everything in doubt and ends what has expired: time-out, lost callback and crash
//! between two writes are one small problem, solved here. Asks; never sends a charge again, and
//! never ends anything by the clock (V2).

use crate::domain::attempt::{Attempt, AttemptState};
use crate::domain::evidence::{Evidence, Finding};
use crate::domain::identifiers::Timestamp;
use crate::domain::order::Order;
use crate::domain::schedule;
use crate::flow::call_institution::{ASK_PATIENCE, call_institution};
use crate::flow::refunds::chase_refunds::chase_refunds;
use crate::flow::register::Register;
use crate::flow::weigh_evidence::{Weight, is_late_enough, weigh_evidence};
use crate::institution::{Call, Institution};
use crate::store::{Committed, Fate, Lease, Leased, Store, StoreError, Work};
use crate::world::World;

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

/// Does for one leased order what is due: begins its ending, asks about what is live, and says
/// when to look again.
pub async fn chase_order(
    store: &dyn Store,
    world: &World,
    register: &Register,
    lease: &Lease,
) -> Result<(), StoreError> {
    let Leased::Order(order) = &lease.of else {
        return Ok(());
    };
    let mut order = (**order).clone();
    let now = world.clock.now();
    let mut moved = false;
    if let Some(change) = order.pursue(now) {
        match store.commit(&change).await? {
            Committed::Done => moved = true,
            // Somebody else moves it; what is due then is due anew.
            Committed::Stale | Committed::KeyTaken | Committed::NonceSpent => return Ok(()),
        }
        let Some(after) = change.into_order() else {
            return Ok(());
        };
        order = after;
    }
    let live: Vec<Attempt> = order
        .attempts
        .iter()
        .filter(|attempt| attempt.state.is_live())
        .cloned()
        .collect();
    for attempt in live {
        let Some(adapter) = register.adapters.get(&attempt.institution) else {
            tracing::error!(order.no = %order.no, institution.id = %attempt.institution,
                "an institution with unfinished orders is missing from the configuration");
            continue;
        };
        if let Some(after) = ask(store, world, adapter.as_ref(), &order, &attempt).await? {
            order = after;
            moved = true;
        }
    }
    if let Some(after) = chase_refunds(store, world, register, (&order, lease.tries)).await? {
        order = after;
        moved = true;
    }
    if moved {
        return Ok(());
    }
    if schedule::is_for_people(lease.tries) {
        tracing::error!(order.no = %order.no, asked = lease.tries,
            "still in doubt after the whole schedule; ask the institution by other means");
    }
    let again = world
        .clock
        .now()
        .plus(schedule::doubt_wait(lease.tries.saturating_add(1)));
    // What is due at a moment of its own is not put off, and what has just been looked at is.
    let due = [order.expiry_due(), order.next_sending()];
    let due = due.into_iter().flatten().filter(|due| *due > now).min();
    let again = due.map_or(again, |due| due.min(again));
    store.settle(lease, Fate::Again(again)).await?;
    Ok(())
}

/// Asks about one live attempt; the order as it moved, if it did.
async fn ask(
    store: &dyn Store,
    world: &World,
    adapter: &dyn Institution,
    order: &Order,
    attempt: &Attempt,
) -> Result<Option<Order>, StoreError> {
    if attempt.state == AttemptState::Intent {
        let overdue = order.doubt_overdue(attempt, adapter.facts(), world.clock.now());
        let Some(change) = overdue else {
            return Ok(None);
        };
        let committed = store.commit(&change).await?;
        return Ok((committed == Committed::Done)
            .then(|| change.into_order())
            .flatten());
    }
    let closing = attempt.state == AttemptState::Closing && adapter.facts().can_close;
    let call = if closing {
        Call::Close(attempt, &order.terms)
    } else {
        Call::Query(attempt, &order.terms)
    };
    let evidence = call_institution(world, adapter, &call, ASK_PATIENCE).await;
    let evidence = if closing && evidence.finding != Finding::Closed {
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
    };
    Ok(
        match weigh_evidence(store, world, adapter, evidence, Some(order.clone())).await? {
            Weight::Moved(order) => Some(order),
            Weight::Known(_)
            | Weight::Unconfirmed(_)
            | Weight::Quarantined(_)
            | Weight::Stranger
            | Weight::Contended => None,
        },
    )
}

/// Of the replies to a close and to the query after it: the later word counts (V5).
fn latest(closed: Evidence, asked: Evidence) -> Evidence {
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
