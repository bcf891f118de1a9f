//! The merchant gives up. Closing is a durable wish; evidence ends the order, not the wish.

use crate::domain::attempt::AttemptState;
use crate::domain::evidence::Finding;
use crate::domain::order::{CloseReason, Order, OrderState};
use crate::domain::refusal::Refusal;
use crate::flow::admit_request::Admitted;
use crate::flow::answer::commit_once::{CommitOutcome, Refused, SpentNonce, commit, refuse, spend};
use crate::flow::apply_evidence::{EvidenceOutcome, apply_evidence};
use crate::flow::call_institution::{READ_TIMEOUTS, call_institution};
use crate::flow::configuration_snapshot::ConfigurationSnapshot;
use crate::flow::poll_unresolved::latest;
use crate::flow::read_order::OrderReference;
use crate::institution::Call;
use crate::store::Store;
use crate::world::World;

/// Others may write to the same order meanwhile; so often the wish is decided again.
const ROUNDS_MAX: u32 = 3;

/// Writes down the wish, asks the institution once, and answers the order as it then stands:
/// CLOSED (200), or still OPEN because nobody knows yet (202).
///
/// # Errors
/// The order is unknown, does not match, or is paid.
pub async fn close_order(
    store: &Store,
    world: &World,
    snapshot: &ConfigurationSnapshot,
    caller: Admitted,
    named: &OrderReference,
) -> Result<(Order, SpentNonce), Refused> {
    let mut cause = caller.into_cause();
    for _ in 0..ROUNDS_MAX {
        let now = world.clock.now();
        let Some(order) = named.load(store).await? else {
            return Err(refuse(store, (Refusal::OrderUnknown, cause), now).await);
        };
        match order.state {
            OrderState::Open => (),
            OrderState::Closed => return Ok((order, spend(store, cause, now).await?)),
            OrderState::Paid => {
                return Err(refuse(store, (Refusal::OrderPaid, cause), now).await);
            }
        }
        let change = match order.end(CloseReason::Merchant, cause, now) {
            Ok(change) => change,
            // The wish stands already.
            Err(cause) => return Ok((order, spend(store, cause, now).await?)),
        };
        match commit(store, change).await? {
            CommitOutcome::Done(order, spent) => {
                return Ok((ask_once(store, world, snapshot, *order).await, spent));
            }
            CommitOutcome::Stale(change) | CommitOutcome::KeyTaken(change) => {
                cause = change.into_cause();
            }
        }
    }
    Err(refuse(store, (Refusal::Contended, cause), world.clock.now()).await)
}

/// One try to have the close confirmed while the merchant waits; the rest is the workers'.
async fn ask_once(
    store: &Store,
    world: &World,
    snapshot: &ConfigurationSnapshot,
    order: Order,
) -> Order {
    let Some(attempt) = order
        .live_attempt()
        .filter(|a| a.state == AttemptState::Closing)
    else {
        return order;
    };
    let Some(adapter) = snapshot.adapters.get(&attempt.institution) else {
        return order;
    };
    if !adapter.facts().can_close {
        return order;
    }
    let call = Call::Close(attempt, &order.terms);
    let mut evidence = call_institution(world, adapter.as_ref(), &call, READ_TIMEOUTS).await;
    // What is not found there may be so a moment later: it must be said twice (A5).
    if evidence.finding == Finding::NotFound {
        let call = Call::Query(attempt, &order.terms);
        let asked = call_institution(world, adapter.as_ref(), &call, READ_TIMEOUTS).await;
        evidence = latest(evidence, asked);
    }
    let asked = order.clone();
    match apply_evidence(store, world, adapter.as_ref(), evidence, Some(order)).await {
        Ok(
            EvidenceOutcome::Moved(order)
            | EvidenceOutcome::Known(order)
            | EvidenceOutcome::Unconfirmed(order),
        ) => order,
        // What was committed stands and is answered, whatever became of the news (Q8).
        Ok(
            EvidenceOutcome::Quarantined(_)
            | EvidenceOutcome::Stranger
            | EvidenceOutcome::Contended,
        )
        | Err(_) => asked,
    }
}
