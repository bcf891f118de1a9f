//! Where the attempt of a selection begins: here, or on our page.

use crate::domain::change::ChangeCause;
use crate::domain::identifiers::InstitutionId;
use crate::domain::institutions::{Mode, Product};
use crate::domain::order::Order;
use crate::domain::personal::payer_context::PayerDetails;
use crate::domain::refusal::Refusal;
use crate::flow::FlowScope;
use crate::flow::judge::{AttemptStart, Choice, EligibilityCheck, Prospect};

/// Where the attempt of a selection begins, if the institution is eligible.
pub(super) fn attempt_start(
    scope: FlowScope<'_>,
    order: &Order,
    (institution, mode): (InstitutionId, Option<Mode>),
    payer: &PayerDetails,
    cause: &ChangeCause,
) -> Result<AttemptStart, Refusal> {
    // An attempt in progress is answered even if its institution has become ineligible since.
    let under_way = order
        .live_attempt()
        .filter(|attempt| attempt.institution == institution)
        .filter(|attempt| mode.is_none_or(|mode| mode == attempt.mode));
    if let Some(attempt) = under_way {
        let adapter = scope.snapshot.adapters.get(&institution);
        let product = adapter.map(|adapter| *adapter.facts().product(&attempt.product));
        return Ok(AttemptStart::Now(Choice {
            mode: mode.unwrap_or(attempt.mode),
            product: product.unwrap_or(Product::UNDECLARED),
            institution,
        }));
    }
    let payment = Prospect::of_order(order, payer);
    let check = EligibilityCheck::new(scope);
    if *cause == ChangeCause::Page {
        // The payer's browser has shown all that it can show.
        let choice = check.check(payment, &institution, mode);
        return choice.map(AttemptStart::Now);
    }
    check.check_start(payment, &institution, mode)
}
