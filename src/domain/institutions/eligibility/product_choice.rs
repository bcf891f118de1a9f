//! Which product a payment is paid with.

use super::{IneligibleReason, OfferQuery, PayerTelling, offered_modes};
use crate::domain::institutions::{Contract, InstitutionProfile, Mode, Product};

/// One product in one mode suffices; otherwise the reason of the nearest one.
pub(super) fn no_product_reason(
    institution: &InstitutionProfile,
    contract: &Contract,
    query: &OfferQuery<'_>,
) -> Option<IneligibleReason> {
    let mut nearest = None;
    for mode in offered_modes(institution, contract, query) {
        match product(institution, contract, query, mode) {
            Ok(_) => return None,
            Err(reason) => nearest = nearest.max(Some(reason)),
        }
    }
    nearest
}

/// The first product that is agreed, works where the payer is, and has all it wants.
pub(super) fn product(
    institution: &InstitutionProfile,
    contract: &Contract,
    query: &OfferQuery<'_>,
    mode: Mode,
) -> Result<Product, IneligibleReason> {
    let is_agreed = |product: &&Product| {
        let mut agreed = contract.products.iter();
        agreed.any(|id| id.as_str() == product.id) && product.modes.contains(&mode)
    };
    let mut nearest = IneligibleReason::ModeNotOffered;
    for product in institution.facts.products.iter().filter(is_agreed) {
        match product_excluded_reason(product, query) {
            None => return Ok(*product),
            Some(reason) => nearest = nearest.max(reason),
        }
    }
    Err(nearest)
}

fn product_excluded_reason(product: &Product, query: &OfferQuery<'_>) -> Option<IneligibleReason> {
    let is_complete =
        query.telling == PayerTelling::MayFollow || product.has_what_it_wants(query.surroundings);
    if !product.works_for(query.surroundings) {
        Some(IneligibleReason::NotInThisWallet)
    } else if !is_complete {
        Some(IneligibleReason::PayerContextMissing)
    } else if query.expires.since(query.now) < product.least_left {
        Some(IneligibleReason::OrderExpiresSoon)
    } else {
        None
    }
}
