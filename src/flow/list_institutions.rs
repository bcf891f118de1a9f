//! What may this payer use for this order? (X-1, R-A2.4.1-3a)

use crate::domain::identifiers::Timestamp;
use crate::domain::institutions::{BusinessType, Offer};
use crate::domain::order::Order;
use crate::flow::place_order::wanted;
use crate::flow::register::Register;
use crate::store::{Store, StoreError};

/// Every institution on the merchant's routes for this order, with the reason where it is
/// withheld; the payer's last one first.
pub async fn list_institutions<'a>(
    store: &dyn Store,
    register: &'a Register,
    order: &Order,
    now: Timestamp,
) -> Result<Vec<Offer<'a>>, StoreError> {
    let mode = match order.terms.business_type {
        BusinessType::Single(mode) => Some(mode),
        BusinessType::Aggregated => None,
    };
    // A convenience: that it cannot be had must not hide an order that was placed.
    let last = store
        .last_used(&order.terms.merchant, &order.terms.mobile)
        .await
        .unwrap_or_default();
    Ok(register
        .directory
        .offers(&wanted(&order.terms, mode, now), last.as_ref()))
}
