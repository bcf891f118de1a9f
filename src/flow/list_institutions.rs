//! What may this payer use for this order? (X-1, R-A2.4.1-3a) One judgement, for the list, the
//! payer's page, the choice, and an order that names its institution.

use crate::domain::identifiers::{InstitutionId, Timestamp};
use crate::domain::institutions::{BusinessType, IneligibleReason, Mode, Offer, OfferQuery};
use crate::domain::order::{Order, OrderTerms};
use crate::domain::refusal::Refusal;
use crate::flow::configuration_snapshot::ConfigurationSnapshot;
use crate::flow::select_institution::Choice;
use crate::health::ProbePermit;
use crate::store::{Store, StoreError};
use crate::world::World;

/// Every institution on the merchant's routes for this order, with the reason where it is
/// withheld: the one this payer last paid through first, or the merchant's default where there is
/// none; then by health, then as configured.
pub async fn list_institutions<'a>(
    store: &Store,
    world: &World,
    snapshot: &'a ConfigurationSnapshot,
    order: &Order,
) -> Result<Vec<Offer<'a>>, StoreError> {
    let mode = match order.terms.business_type {
        BusinessType::Single(mode) => Some(mode),
        BusinessType::Aggregated => None,
    };
    // A convenience: that it cannot be had must not hide an order that was placed.
    let last_paid = store
        .orders
        .last_institution(&order.terms.merchant, &order.terms.mobile)
        .await
        .unwrap_or_default();
    let judge = EligibilityCheck::new(snapshot, world);
    let wanted = wanted(&order.terms, mode, judge.now);
    // Whoever never paid here finds the merchant's own first.
    let merchant = snapshot.routing.merchants.get(&order.terms.merchant);
    let default = merchant
        .zip(mode)
        .and_then(|(merchant, mode)| merchant.default_institutions.get(&mode));
    Ok(judge.offers(&wanted, last_paid.as_ref().or(default)))
}

/// Who may go where, by one enrolment and at one moment.
pub(in crate::flow) struct EligibilityCheck<'a, 'w> {
    pub(in crate::flow) snapshot: &'a ConfigurationSnapshot,
    pub(in crate::flow) now: Timestamp,
    world: &'w World,
}

impl<'a, 'w> EligibilityCheck<'a, 'w> {
    pub(in crate::flow) fn new(snapshot: &'a ConfigurationSnapshot, world: &'w World) -> Self {
        Self {
            snapshot,
            now: world.clock.now(),
            world,
        }
    }

    /// Every routed institution, in the order of the list.
    pub(in crate::flow) fn offers(
        &self,
        wanted: &OfferQuery<'_>,
        last_paid: Option<&InstitutionId>,
    ) -> Vec<Offer<'a>> {
        let standing = |id: &InstitutionId| self.world.health.standing(id, self.now);
        self.snapshot.routing.offers(wanted, last_paid, standing)
    }

    /// Whether this institution is open to this payment, and in which mode.
    ///
    /// # Errors
    /// It is unknown, not contracted, or withheld for a reason that the refusal names.
    pub(in crate::flow) fn open_to(
        &self,
        terms: &OrderTerms,
        institution: &InstitutionId,
        mode: Option<Mode>,
    ) -> Result<Choice, Refusal> {
        let routing = &self.snapshot.routing;
        let known = routing
            .institutions
            .get(institution)
            .ok_or(Refusal::InstitutionUnknown)?;
        let standing = self.world.health.standing(institution, self.now);
        let wanted = wanted(terms, mode, self.now);
        if let Some(ineligible) = routing.ineligible(known, &wanted, standing) {
            return Err(refused(ineligible));
        }
        // Without a wish, the first mode that is open: the webview where it is offered.
        let is_open = |mode: &Mode| {
            let mode = Some(*mode);
            let wanted = OfferQuery { mode, ..wanted };
            routing.ineligible(known, &wanted, standing).is_none()
        };
        let mode = mode.or_else(|| Mode::ALL.into_iter().find(is_open)).ok_or(
            Refusal::InstitutionUnavailable(IneligibleReason::ModeNotOffered),
        )?;
        Ok(Choice {
            institution: institution.clone(),
            mode,
        })
    }

    /// The same, and leave to go there: of an institution that failed lately, only a few orders at
    /// a time have it.
    ///
    /// # Errors
    /// Those of [`Judge::open_to`].
    pub(in crate::flow) fn admit(
        &self,
        terms: &OrderTerms,
        institution: &InstitutionId,
        mode: Option<Mode>,
    ) -> Result<(Choice, ProbePermit), Refusal> {
        let choice = self.open_to(terms, institution, mode)?;
        let pass = self.world.health.enter(institution, self.now);
        let pass = pass.ok_or_else(|| refused(IneligibleReason::InstitutionUnhealthy))?;
        Ok((choice, pass))
    }
}

/// The question that these terms put to the directory.
pub(in crate::flow) fn wanted(
    terms: &OrderTerms,
    mode: Option<Mode>,
    now: Timestamp,
) -> OfferQuery<'_> {
    OfferQuery {
        merchant: &terms.merchant,
        payer: &terms.mobile,
        amount: terms.amount,
        transaction_type: terms.transaction_type,
        mode,
        now,
    }
}

/// A reason as a refusal: whom the caller has to ask about these two is not the institution.
fn refused(ineligible: IneligibleReason) -> Refusal {
    match ineligible {
        IneligibleReason::NotContracted => Refusal::InstitutionNotContracted,
        IneligibleReason::MerchantNotAdmitted => Refusal::MerchantNotAdmitted,
        IneligibleReason::InstitutionNotAdmitted
        | IneligibleReason::ModeNotOffered
        | IneligibleReason::TransactionTypeNotOffered
        | IneligibleReason::CurrencyNotOffered
        | IneligibleReason::PayerNotServed
        | IneligibleReason::AmountBelowLimit
        | IneligibleReason::AmountAboveLimit
        | IneligibleReason::ContractStopped
        | IneligibleReason::RouteStopped
        | IneligibleReason::InstitutionDown
        | IneligibleReason::OutsideHours
        | IneligibleReason::InstitutionUnhealthy => Refusal::InstitutionUnavailable(ineligible),
    }
}
