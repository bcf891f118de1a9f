//! The payment action that a payer's browser is led on by. Reads an order and changes nothing.

use crate::domain::evidence::PaymentAction;
use crate::domain::institutions::{ActionOpening, CreateSend, Mode};
use crate::domain::order::Order;
use crate::domain::refusal::Refusal;
use crate::flow::FlowScope;
use crate::flow::call_institution::{acquire_signing_place, make_action};
use crate::flow::start_attempt::is_usable;
use crate::institution::Operation;
use crate::limits::{CallerLimits, Wait};

/// A payment action, and how a browser gets there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrowserAction {
    /// The action.
    pub action: PaymentAction,
    /// How it is opened.
    pub opening: ActionOpening,
}

/// The payment action of an order whose payer can go on now: the stored one while it can be used, or,
/// of a product that sends nothing, one that is made for this browser. `None` where the payer has to
/// choose again first, or can no longer pay.
///
/// # Errors
/// [`Refusal::TooOften`]: so many were made for this order that it has to wait: whoever has the address
/// of a page could fill the signing pool otherwise. [`Refusal::Unavailable`]: none could be signed now.
pub async fn browser_action(
    scope: FlowScope<'_>,
    limits: &CallerLimits,
    order: &Order,
) -> Result<Option<BrowserAction>, Refusal> {
    let FlowScope {
        world, snapshot, ..
    } = scope;
    let now = world.clock.now();
    let waiting = order
        .waiting_attempt()
        .filter(|one| order.accepts_attempts(now) && one.mode == Mode::Webview && now < one.pay_by);
    let adapter = waiting.and_then(|one| snapshot.adapters.get(&one.institution));
    let Some((attempt, adapter)) = waiting.zip(adapter) else {
        return Ok(None);
    };
    let product = adapter.facts().product(&attempt.product);
    let opening = product.opening;
    if product.create != CreateSend::Nothing {
        let stored = attempt.payment_action.clone();
        let usable = stored.filter(|_| is_usable(attempt, now));
        return Ok(usable.map(|action| BrowserAction { action, opening }));
    }
    let counted = limits.may_make_action(&order.no);
    counted.map_err(|Wait(wait)| Refusal::TooOften { wait })?;
    let adapter = adapter.as_ref();
    let place = acquire_signing_place(world, Some(adapter), &attempt.account).await;
    let place = place.map_err(|_| Refusal::Unavailable)?;
    let create = snapshot.call(Operation::Create, attempt, &order.terms);
    let made = make_action(world, adapter, &create, place).await;
    let action = made.ok_or(Refusal::Unavailable)?;
    Ok(Some(BrowserAction { action, opening }))
}
