//! Lists the institutions that a payer may use for an order.

use crate::domain::institutions::{BusinessType, Mode, Offer, PayerTelling};
use crate::domain::order::Order;
use crate::domain::personal::payer_context::PayerDetails;
use crate::flow::FlowScope;
use crate::flow::judge::{EligibilityCheck, Prospect};

/// Every institution on the merchant's routes for this order, with the reason where it is
/// ineligible for what is known of the payer. Sorted: first the one this payer last paid through, or else the merchant's default;
/// then by health; then in configuration order.
pub async fn list_institutions<'a>(
    scope: FlowScope<'a>,
    order: &Order,
    payer: &PayerDetails,
) -> Vec<Offer<'a>> {
    let mode = match order.terms.business_type {
        BusinessType::Single(mode) => Some(mode),
        BusinessType::Aggregated => None,
    };
    list(scope, order, payer, (mode, PayerTelling::MayFollow)).await
}

/// The same for the payer's page: in webview mode, and all that can be known of the payer's browser is
/// known.
pub async fn list_on_page<'a>(
    scope: FlowScope<'a>,
    order: &Order,
    payer: &PayerDetails,
) -> Vec<Offer<'a>> {
    let mode = Some(Mode::Webview);
    list(scope, order, payer, (mode, PayerTelling::Complete)).await
}

async fn list<'a>(
    scope: FlowScope<'a>,
    order: &Order,
    payer: &PayerDetails,
    (mode, telling): (Option<Mode>, PayerTelling),
) -> Vec<Offer<'a>> {
    // Only a convenience: a failed read must not fail the request.
    let last_paid = scope
        .store
        .orders
        .last_institution(&order.terms.merchant, &order.terms.mobile)
        .await
        .unwrap_or_default();
    let check = EligibilityCheck::new(scope);
    let payment = Prospect::of_order(order, payer);
    let query = payment.query(mode, telling, check.now);
    let merchant = scope.snapshot.routing.merchants.get(&order.terms.merchant);
    let default = merchant
        .zip(mode)
        .and_then(|(merchant, mode)| merchant.default_institutions.get(&mode));
    check.offers(&query, last_paid.as_ref().or(default))
}
