//! Stores a choice whose attempt begins on our page, when the payer's browser has shown what the product
//! has to be told. Calls no institution.

use crate::domain::change::ChangeCause;
use crate::domain::identifiers::InstitutionId;
use crate::domain::order::Order;
use crate::domain::refusal::Refusal;
use crate::flow::FlowScope;
use crate::flow::answer::commit_once::{CommitOutcome, Refused, SpentNonce, refuse, spend};
use crate::flow::select_institution::ROUNDS_MAX;
use crate::flow::start_attempt::{OrderReply, begin};
use crate::store::OrderKey;

/// Stores the choice, starting from the order as it was read. A live attempt through another institution
/// is closed first (A2): until it has ended, the choice has to be made again.
pub(super) async fn store_choice(
    scope: FlowScope<'_>,
    key: &OrderKey,
    cause: ChangeCause,
    read: Order,
    institution: &InstitutionId,
) -> Result<(OrderReply, SpentNonce), Refused> {
    let FlowScope { store, world, .. } = scope;
    let (mut cause, mut read) = (cause, Some(read));
    for _ in 0..ROUNDS_MAX {
        let now = world.clock.now();
        let found = match read.take() {
            None => store.orders.order(key).await?,
            as_read => as_read,
        };
        let Some(order) = found else {
            return Err(refuse(store, Refusal::OrderUnknown, cause, now).await);
        };
        if order.awaited_institution() == Some(institution) && order.accepts_attempts(now) {
            let spent = spend(store, cause, now).await?;
            return Ok((OrderReply::accepted(order), spent));
        }
        let change = if order.live_attempt().is_some() && order.accepts_attempts(now) {
            match order.begin_closing(cause, now) {
                Ok(change) => change,
                Err(cause) => {
                    let spent = spend(store, cause, now).await?;
                    return Ok((OrderReply::pending(order), spent));
                }
            }
        } else {
            match order.choose(institution.clone(), cause, now) {
                Ok(change) => change,
                Err((refusal, cause)) => return Err(refuse(store, refusal, cause, now).await),
            }
        };
        match begin(scope, change).await? {
            CommitOutcome::Done(order, spent) => {
                let reply = if order.live_attempt().is_some() {
                    OrderReply::pending(*order)
                } else {
                    OrderReply::accepted(*order)
                };
                return Ok((reply, spent));
            }
            // Another request wrote first: decide again on the current order.
            CommitOutcome::Stale(change) | CommitOutcome::KeyTaken(change) => {
                cause = change.into_cause();
            }
        }
    }
    Err(refuse(store, Refusal::Contended, cause, world.clock.now()).await)
}
