//! Selects an institution for an order.

mod attempt_start;
mod next_step;
mod store_choice;

use std::time::Duration;

use crate::domain::change::ChangeCause;
use crate::domain::identifiers::InstitutionId;
use crate::domain::institutions::{BusinessType, Mode};
use crate::domain::order::{Order, OrderState};
use crate::domain::personal::payer_context::PayerDetails;
use crate::domain::refusal::Refusal;
use crate::flow::FlowScope;
use crate::flow::answer::commit_once::{CommitOutcome, Refused, SpentNonce, refuse, spend};
use crate::flow::call_institution::register_create;
use crate::flow::judge::{AttemptStart, Choice, EligibilityCheck, Prospect, StartDecision};
use crate::flow::read_order::OrderReference;
use crate::flow::select_institution::attempt_start::attempt_start;
use crate::flow::select_institution::next_step::{SelectionStep, next_step};
use crate::flow::select_institution::store_choice::store_choice;
use crate::flow::start_attempt::{
    CreatePermits, OrderReply, begin, carry_out_create, current_reply,
};
use crate::health::ProbePermit;
use crate::store::OrderKey;

/// Maximum number of tries of a selection; it is decided again after a concurrent write to the same
/// order, or after a long wait for the permit.
const ROUNDS_MAX: u32 = 3;

/// A decision is repeated if waiting for the permit took at least this long.
const DECIDED_FOR: Duration = Duration::from_millis(100);

/// Selects an institution for an order, on behalf of the merchant (with a nonce to spend) or of the
/// payer on our page.
///
/// # Errors
/// All errors that `docs/openapi.yaml` lists for X-2; each spends the nonce except 429, 500 and 503
/// (Q5).
pub async fn select_institution(
    scope: FlowScope<'_>,
    reference: &OrderReference,
    cause: ChangeCause,
    institution: InstitutionId,
    mode: Option<Mode>,
    payer: &PayerDetails,
) -> Result<(OrderReply, SpentNonce), Refused> {
    let store = scope.store;
    let now = scope.world.clock.now();
    let Some(order) = reference.load(store).await? else {
        return Err(refuse(store, Refusal::OrderUnknown, cause, now).await);
    };
    if order.state == OrderState::Paid {
        let spent = spend(store, cause, now).await?;
        return Ok((OrderReply::paid(order), spent));
    }
    if !order.accepts_attempts(now) {
        return Err(refuse(store, Refusal::OrderClosed, cause, now).await);
    }
    let mode = match order.terms.business_type {
        BusinessType::Single(only) => match mode {
            Some(other) if other != only => {
                let refusal = Refusal::FieldsDisagree("mode must equal the order's businessType");
                return Err(refuse(store, refusal, cause, now).await);
            }
            _ => Some(only),
        },
        BusinessType::Aggregated => mode,
    };
    match attempt_start(scope, &order, (institution, mode), payer, &cause) {
        Ok(AttemptStart::OnPage(institution)) => {
            store_choice(scope, &reference.key, cause, order, &institution).await
        }
        // Boxed to keep the caller's future small.
        Ok(AttemptStart::Now(choice)) => {
            Box::pin(carry_out(
                scope,
                &reference.key,
                cause,
                order,
                choice,
                payer,
            ))
            .await
        }
        Err(refusal) => Err(refuse(store, refusal, cause, now).await),
    }
}

/// Carries out the selection of an eligible institution, starting from the order as it was read.
async fn carry_out(
    scope: FlowScope<'_>,
    key: &OrderKey,
    cause: ChangeCause,
    read: Order,
    choice: Choice,
    payer: &PayerDetails,
) -> Result<(OrderReply, SpentNonce), Refused> {
    let FlowScope { store, world, .. } = scope;
    let (mut cause, mut choice) = (cause, choice);
    let mut read = Some(read);
    let mut permits = None;
    for _ in 0..ROUNDS_MAX {
        let now = world.clock.now();
        let (mut probe, mut sends) = (ProbePermit::default(), true);
        let found = match read.take() {
            None => store.orders.order(key).await?,
            as_read => as_read,
        };
        let Some(order) = found else {
            return Err(refuse(store, Refusal::OrderUnknown, cause, now).await);
        };
        let step = next_step(scope, &order, &choice, payer);
        if step.calls() && permits.is_none() {
            permits = Some(CreatePermits::acquire(scope, &order.terms.merchant, &choice).await?);
            if world.clock.now().since(now) >= DECIDED_FOR {
                continue;
            }
        }
        let change = match step {
            SelectionStep::Answer => {
                let spent = spend(store, cause, now).await?;
                return Ok((current_reply(scope, order, None).await, spent));
            }
            // Checked again: the attempt in progress that skipped the check may have ended since.
            SelectionStep::Start(attempt) => {
                let check = EligibilityCheck::new(scope);
                match check.admit(Prospect::of_order(&order, payer), &choice) {
                    Err(refusal) => return Err(refuse(store, refusal, cause, now).await),
                    Ok(StartDecision::Begins(permit)) => (probe, sends) = (permit, choice.sends()),
                    Ok(StartDecision::Changed(other)) => {
                        (choice, permits) = (other, None);
                        continue;
                    }
                }
                match order.start_attempt(*attempt, cause, now) {
                    Ok(change) => change,
                    Err((refusal, cause)) => return Err(refuse(store, refusal, cause, now).await),
                }
            }
            SelectionStep::CreateAgain(attempt) => order.repeat_create(&attempt, cause, now),
            SelectionStep::CloseFirst => match order.begin_closing(cause, now) {
                Ok(change) => change,
                Err(cause) => {
                    let spent = spend(store, cause, now).await?;
                    return Ok((OrderReply::pending(order), spent));
                }
            },
            SelectionStep::NotContracted => {
                return Err(refuse(store, Refusal::InstitutionNotContracted, cause, now).await);
            }
        };
        // Durable before a byte is sent (A1): after a crash the intent is still stored.
        let in_flight = register_create(world, &change, sends);
        match begin(scope, change).await? {
            CommitOutcome::Done(order, spent) => {
                let waited = permits.unwrap_or_default();
                let reply = carry_out_create(scope, *order, probe, waited, in_flight).await;
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
