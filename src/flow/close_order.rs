//! Closes an order for its merchant. A close request is durable; evidence closes the order,
//! not the request.

use crate::domain::attempt::AttemptState;
use crate::domain::evidence::Finding;
use crate::domain::order::{CloseReason, Order, OrderState};
use crate::domain::refusal::Refusal;
use crate::flow::FlowScope;
use crate::flow::admit_request::Admitted;
use crate::flow::answer::commit_once::{CommitOutcome, Refused, SpentNonce, commit, refuse, spend};
use crate::flow::apply_evidence::{EvidenceOutcome, apply_evidence};
use crate::flow::call_institution::{READ_TIMEOUTS, call_institution};
use crate::flow::poll_unresolved::latest;
use crate::flow::read_order::OrderReference;
use crate::institution::Operation;

/// How often a close request is decided again after a concurrent write to the same order.
const ROUNDS_MAX: u32 = 3;

/// Commits the close request, calls the institution once, and returns the current order: CLOSED
/// (200), or still OPEN because the outcome is not known yet (202).
///
/// # Errors
/// The order is unknown, does not match, or is paid.
pub async fn close_order(
    scope: FlowScope<'_>,
    caller: Admitted,
    named: &OrderReference,
) -> Result<(Order, SpentNonce), Refused> {
    let FlowScope { store, world, .. } = scope;
    let mut cause = caller.into_cause();
    for _ in 0..ROUNDS_MAX {
        let now = world.clock.now();
        let Some(order) = named.load(store).await? else {
            return Err(refuse(store, Refusal::OrderUnknown, cause, now).await);
        };
        match order.state {
            OrderState::Open => (),
            OrderState::Closed => return Ok((order, spend(store, cause, now).await?)),
            OrderState::Paid => {
                return Err(refuse(store, Refusal::OrderPaid, cause, now).await);
            }
        }
        let change = match order.end(CloseReason::Merchant, cause, now) {
            Ok(change) => change,
            // A close request exists already.
            Err(cause) => return Ok((order, spend(store, cause, now).await?)),
        };
        match commit(store, change).await? {
            CommitOutcome::Done(order, spent) => {
                return Ok((close_once(scope, *order).await, spent));
            }
            CommitOutcome::Stale(change) | CommitOutcome::KeyTaken(change) => {
                cause = change.into_cause();
            }
        }
    }
    Err(refuse(store, Refusal::Contended, cause, world.clock.now()).await)
}

/// One attempt to close at the institution while the merchant waits; workers continue from there.
async fn close_once(scope: FlowScope<'_>, order: Order) -> Order {
    let Some(attempt) = order
        .live_attempt()
        .filter(|a| a.state == AttemptState::Closing)
    else {
        return order;
    };
    let Some(adapter) = scope.snapshot.adapters.get(&attempt.institution) else {
        return order;
    };
    let ending = adapter.facts().product(&attempt.product).ending;
    if !ending.closes(attempt.named) {
        return order;
    }
    let call = scope.snapshot.call(Operation::Close, attempt, &order.terms);
    let mut evidence = call_institution(scope.world, adapter.as_ref(), &call, READ_TIMEOUTS).await;
    // An attempt that is not found may still arrive a moment later: it must be reported twice (A5).
    if evidence.finding == Finding::NotFound {
        let call = scope.snapshot.call(Operation::Query, attempt, &order.terms);
        let queried = call_institution(scope.world, adapter.as_ref(), &call, READ_TIMEOUTS).await;
        evidence = latest(evidence, queried);
    }
    let committed = order.clone();
    let applied = apply_evidence(scope, adapter.as_ref(), evidence, Some(order)).await;
    // The committed state is valid whatever happened to the evidence (Q8).
    let order = applied.ok().and_then(EvidenceOutcome::into_order);
    order.unwrap_or(committed)
}
