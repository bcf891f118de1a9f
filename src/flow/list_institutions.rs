//! What may this payer use for this order? (X-1, R-A2.4.1-3a) One judgement, for the list, the
//! payer's page, the choice, and an order that names its institution.

use crate::domain::identifiers::{InstitutionId, Timestamp};
use crate::domain::institutions::{BusinessType, Mode, Offer, Wanted, Withheld};
use crate::domain::order::{Order, Terms};
use crate::domain::refusal::Refusal;
use crate::flow::register::Register;
use crate::flow::select_institution::Choice;
use crate::health::Pass;
use crate::store::{Store, StoreError};
use crate::world::World;

/// Every institution on the merchant's routes for this order, with the reason where it is
/// withheld: the one this payer last paid through first, or the merchant's default where there is
/// none; then by health, then as configured.
pub async fn list_institutions<'a>(
    store: &dyn Store,
    world: &World,
    register: &'a Register,
    order: &Order,
) -> Result<Vec<Offer<'a>>, StoreError> {
    let mode = match order.terms.business_type {
        BusinessType::Single(mode) => Some(mode),
        BusinessType::Aggregated => None,
    };
    // A convenience: that it cannot be had must not hide an order that was placed.
    let last_paid = store
        .last_used(&order.terms.merchant, &order.terms.mobile)
        .await
        .unwrap_or_default();
    let judge = Judge::new(register, world);
    let wanted = wanted(&order.terms, mode, judge.now);
    // Whoever never paid here finds the merchant's own first.
    let merchant = register.directory.merchants.get(&order.terms.merchant);
    let default = merchant
        .zip(mode)
        .and_then(|(merchant, mode)| merchant.default_institutions.get(&mode));
    Ok(judge.offers(&wanted, last_paid.as_ref().or(default)))
}

/// Who may go where, by one enrolment and at one moment.
pub(in crate::flow) struct Judge<'a, 'w> {
    pub(in crate::flow) register: &'a Register,
    pub(in crate::flow) now: Timestamp,
    world: &'w World,
}

impl<'a, 'w> Judge<'a, 'w> {
    pub(in crate::flow) fn new(register: &'a Register, world: &'w World) -> Self {
        Self {
            register,
            now: world.clock.now(),
            world,
        }
    }

    /// Every routed institution, in the order of the list.
    pub(in crate::flow) fn offers(
        &self,
        wanted: &Wanted<'_>,
        last_paid: Option<&InstitutionId>,
    ) -> Vec<Offer<'a>> {
        let standing = |id: &InstitutionId| self.world.health.standing(id, self.now);
        self.register.directory.offers(wanted, last_paid, standing)
    }

    /// Whether this institution is open to this payment, and in which mode.
    ///
    /// # Errors
    /// It is unknown, not contracted, or withheld for a reason that the refusal names.
    pub(in crate::flow) fn open_to(
        &self,
        terms: &Terms,
        institution: &InstitutionId,
        mode: Option<Mode>,
    ) -> Result<Choice, Refusal> {
        let directory = &self.register.directory;
        let known = directory
            .institutions
            .get(institution)
            .ok_or(Refusal::InstitutionUnknown)?;
        let standing = self.world.health.standing(institution, self.now);
        let wanted = wanted(terms, mode, self.now);
        if let Some(withheld) = directory.withheld(known, &wanted, standing) {
            return Err(refused(withheld));
        }
        // Without a wish, the first mode that is open: the webview where it is offered.
        let is_open = |mode: &Mode| {
            let mode = Some(*mode);
            let wanted = Wanted { mode, ..wanted };
            directory.withheld(known, &wanted, standing).is_none()
        };
        let mode = mode
            .or_else(|| Mode::ALL.into_iter().find(is_open))
            .ok_or(Refusal::InstitutionUnavailable(Withheld::ModeNotOffered))?;
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
        terms: &Terms,
        institution: &InstitutionId,
        mode: Option<Mode>,
    ) -> Result<(Choice, Pass), Refusal> {
        let choice = self.open_to(terms, institution, mode)?;
        let pass = self.world.health.enter(institution, self.now);
        let pass = pass.ok_or_else(|| refused(Withheld::InstitutionUnhealthy))?;
        Ok((choice, pass))
    }
}

/// The question that these terms put to the directory.
pub(in crate::flow) fn wanted(terms: &Terms, mode: Option<Mode>, now: Timestamp) -> Wanted<'_> {
    Wanted {
        merchant: &terms.merchant,
        payer: &terms.mobile,
        amount: terms.amount,
        transaction_type: terms.transaction_type,
        mode,
        now,
    }
}

/// A reason as a refusal: whom the caller has to ask about these two is not the institution.
fn refused(withheld: Withheld) -> Refusal {
    match withheld {
        Withheld::NotContracted => Refusal::InstitutionNotContracted,
        Withheld::MerchantNotAdmitted => Refusal::MerchantNotAdmitted,
        Withheld::InstitutionNotAdmitted
        | Withheld::ModeNotOffered
        | Withheld::TransactionTypeNotOffered
        | Withheld::CurrencyNotOffered
        | Withheld::PayerNotServed
        | Withheld::AmountBelowLimit
        | Withheld::AmountAboveLimit
        | Withheld::ContractStopped
        | Withheld::RouteStopped
        | Withheld::InstitutionDown
        | Withheld::OutsideHours
        | Withheld::InstitutionUnhealthy => Refusal::InstitutionUnavailable(withheld),
    }
}
