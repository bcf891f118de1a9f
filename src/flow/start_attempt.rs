//! An attempt from its intent to the institution's reply: commit the intent, send the call, apply
//! the reply. Used by orders that name their institution and by selections.

mod browser_action;
mod current_reply;
mod order_reply;
mod permits;

use crate::domain::attempt::Stamp;
use crate::domain::change::Change;
use crate::domain::identifiers::{AttemptId, MerchantId};
use crate::domain::order::{NewAttempt, Order};
use crate::domain::personal::payer_context::PayerDetails;
use crate::domain::refusal::Refusal;
use crate::flow::FlowScope;
use crate::flow::answer::commit_once::{CommitOutcome, Refused, commit, refuse};
use crate::flow::apply_evidence::{EvidenceOutcome, apply_evidence};
use crate::flow::call_institution::{SendOptions, send_once};
use crate::flow::judge::Choice;
use crate::health::ProbePermit;
use crate::institution::Operation;
use crate::world::sends::InFlightSend;
pub use browser_action::{BrowserAction, browser_action};
pub(in crate::flow) use current_reply::current_reply;
pub(in crate::flow) use order_reply::is_usable;
pub use order_reply::{OrderOutcome, OrderReply};
pub(in crate::flow) use permits::CreatePermits;

/// Builds a new attempt for this choice; `None` without a contract.
pub(in crate::flow) fn new_attempt(
    scope: FlowScope<'_>,
    merchant: &MerchantId,
    choice: &Choice,
    payer: &PayerDetails,
) -> Option<NewAttempt> {
    let FlowScope {
        store,
        world,
        snapshot,
    } = scope;
    let now = world.clock.now();
    let contract = snapshot.routing.contract(merchant, &choice.institution)?;
    Some(NewAttempt {
        id: AttemptId::mint(now, world.entropy.draw()),
        institution: choice.institution.clone(),
        account: contract.account.clone(),
        receiver: contract.receiver.clone(),
        mode: choice.mode,
        product: choice.product,
        payer: payer.clone(),
        stamp: Stamp {
            now,
            nonce: world.entropy.draw(),
        },
        configuration: snapshot.routing.version,
        epoch: store.epoch,
    })
}

/// Commits a change that begins work: a new order, or a step towards paying one (a new attempt, a
/// repeated create, the close of a conflicting attempt). While the disk is nearly full, no new work
/// is begun, so that results of existing work can still be written (Q8, S3).
///
/// # Errors
/// The disk is nearly full and nothing was written; the nonce is already spent; the store failed.
pub(in crate::flow) async fn begin(
    scope: FlowScope<'_>,
    change: Change,
) -> Result<CommitOutcome, Refused> {
    if scope.world.disk.is_short() {
        let now = scope.world.clock.now();
        let cause = change.into_cause();
        return Err(refuse(scope.store, Refusal::Unavailable, cause, now).await);
    }
    commit(scope.store, change).await
}

/// Carries out what a commit has begun: the create that it registered, or none, where nothing is sent.
pub(in crate::flow) async fn carry_out_create(
    scope: FlowScope<'_>,
    order: Order,
    probe: ProbePermit,
    permits: CreatePermits,
    in_flight: Option<InFlightSend>,
) -> OrderReply {
    // Boxed to keep the caller's future small.
    match in_flight {
        Some(in_flight) => Box::pin(create(scope, order, probe, permits.sending(in_flight))).await,
        None => Box::pin(current_reply(scope, order, permits.place)).await,
    }
}

/// Calls the institution for the live attempt of a committed order and applies the reply. The probe
/// permit is held until then.
async fn create(
    scope: FlowScope<'_>,
    order: Order,
    _probe: ProbePermit,
    send: SendOptions,
) -> OrderReply {
    let FlowScope {
        world, snapshot, ..
    } = scope;
    let Some(attempt) = order.live_attempt() else {
        return OrderReply::current(order, world.clock.now());
    };
    let Some(adapter) = snapshot.adapters.get(&attempt.institution) else {
        return OrderReply::pending(order);
    };
    let call = snapshot.call(Operation::Create, attempt, &order.terms);
    let evidence = send_once(world, adapter.as_ref(), &call, send).await;
    let committed = order.clone();
    let applied = apply_evidence(scope, adapter.as_ref(), evidence, Some(order)).await;
    match applied.ok().and_then(EvidenceOutcome::into_order) {
        Some(order) => OrderReply::current(order, world.clock.now()),
        // The intent is durable whatever happened to the reply: the answer is never "nothing was
        // recorded" (Q8). The worker that polls unresolved attempts continues from here.
        None => OrderReply::pending(committed),
    }
}
