//! The reply with the state of an order, and a payment action that is made for it where nothing was
//! sent and the caller starts the payment itself.

use crate::domain::institutions::{CreateSend, Mode};
use crate::domain::order::Order;
use crate::flow::FlowScope;
use crate::flow::call_institution::make_action;
use crate::flow::start_attempt::OrderReply;
use crate::institution::Operation;
use crate::world::signing::SigningPlace;

/// The current state of an order. The payment action of a product that sends nothing is made for this
/// reply in native mode: one that was signed earlier may be too old. In webview mode the payer goes on
/// from our page, which makes it then ([`super::browser_action`]).
pub(in crate::flow) async fn current_reply(
    scope: FlowScope<'_>,
    order: Order,
    place: Option<SigningPlace>,
) -> OrderReply {
    let FlowScope {
        world, snapshot, ..
    } = scope;
    let now = world.clock.now();
    if !order.accepts_attempts(now) {
        return OrderReply::current(order, now);
    }
    let waiting = order.waiting_attempt().filter(|one| now < one.pay_by);
    let adapter = waiting.and_then(|one| snapshot.adapters.get(&one.institution));
    let Some((attempt, adapter)) = waiting.zip(adapter) else {
        return OrderReply::current(order, now);
    };
    if adapter.facts().product(&attempt.product).create != CreateSend::Nothing {
        return OrderReply::current(order, now);
    }
    if attempt.mode == Mode::Webview {
        return OrderReply::accepted(order);
    }
    let create = snapshot.call(Operation::Create, attempt, &order.terms);
    match make_action(world, adapter.as_ref(), &create, place).await {
        Some(made) => OrderReply::payable(order, made),
        None => OrderReply::pending(order),
    }
}
