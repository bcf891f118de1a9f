//! Eligibility: one check for the list of institutions, the payer's page, the selection and
//! an order that names its institution (R-A2.4.1-3a).

mod prospect;

use crate::domain::identifiers::{InstitutionId, Timestamp};
use crate::domain::institutions::{
    CreateSend, IneligibleReason, Mode, Offer, OfferQuery, PayerTelling, Product,
};
use crate::domain::personal::payer_context::{PayerDetail, PayerIdentity};
use crate::domain::refusal::Refusal;
use crate::flow::FlowScope;
use crate::flow::configuration_snapshot::ConfigurationSnapshot;
use crate::health::ProbePermit;
use crate::world::World;
pub(in crate::flow) use prospect::Prospect;

/// An institution and a mode of payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The institution.
    pub institution: InstitutionId,
    /// How the payer pays through it.
    pub mode: Mode,
    /// What the payer pays with.
    pub product: Product,
}

impl Choice {
    /// Whether its create sends anything.
    pub(in crate::flow) fn sends(&self) -> bool {
        self.product.create != CreateSend::Nothing
    }
}

/// Where an attempt begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::flow) enum AttemptStart {
    /// Here, with this product.
    Now(Choice),
    /// On our page, when the payer goes on from there: until then nobody knows what its product has
    /// to be told of the payer.
    OnPage(InstitutionId),
}

/// What came of the last check before an attempt begins.
pub(in crate::flow) enum StartDecision {
    /// It may begin.
    Begins(ProbePermit),
    /// Another product fits by now, which nothing was prepared for.
    Changed(Choice),
}

/// Checks eligibility against one configuration at one moment.
pub(in crate::flow) struct EligibilityCheck<'a> {
    pub(in crate::flow) snapshot: &'a ConfigurationSnapshot,
    pub(in crate::flow) now: Timestamp,
    world: &'a World,
}

impl<'a> EligibilityCheck<'a> {
    pub(in crate::flow) fn new(scope: FlowScope<'a>) -> Self {
        Self {
            snapshot: scope.snapshot,
            now: scope.world.clock.now(),
            world: scope.world,
        }
    }

    /// Every routed institution, in the order of the list.
    pub(in crate::flow) fn offers(
        &self,
        query: &OfferQuery<'_>,
        last_paid: Option<&InstitutionId>,
    ) -> Vec<Offer<'a>> {
        let health = |id: &InstitutionId| self.world.health.standing(id, self.now);
        self.snapshot.routing.offers(query, last_paid, health)
    }

    /// Checks that this institution is eligible for this payment, and determines the mode.
    ///
    /// # Errors
    /// It is unknown, not contracted, or ineligible for the reason in the refusal.
    pub(in crate::flow) fn check(
        &self,
        payment: Prospect<'_>,
        institution: &InstitutionId,
        mode: Option<Mode>,
    ) -> Result<Choice, Refusal> {
        self.check_telling(payment, institution, mode, PayerTelling::Complete)
    }

    /// The same for a merchant's request, where the payer may still supply on our page what is missing.
    ///
    /// # Errors
    /// Those of [`EligibilityCheck::check`].
    pub(in crate::flow) fn check_start(
        &self,
        payment: Prospect<'_>,
        institution: &InstitutionId,
        mode: Option<Mode>,
    ) -> Result<AttemptStart, Refusal> {
        let may_follow = PayerTelling::MayFollow;
        let nearest = self.check_telling(payment, institution, mode, may_follow)?;
        if nearest.product.has_what_it_wants(payment.payer) {
            return Ok(AttemptStart::Now(nearest));
        }
        if nearest.mode != Mode::Webview {
            let choice = self.check(payment, institution, mode);
            return choice.map(AttemptStart::Now);
        }
        // The merchant may have said enough for another product, on a device that it named.
        let other = self.check(payment, institution, Some(nearest.mode)).ok();
        let fitting = other.filter(|other| other.product.has_its_device(payment.payer));
        let on_page = AttemptStart::OnPage(nearest.institution);
        Ok(fitting.map_or(on_page, AttemptStart::Now))
    }

    fn check_telling(
        &self,
        payment: Prospect<'_>,
        institution: &InstitutionId,
        mode: Option<Mode>,
        telling: PayerTelling,
    ) -> Result<Choice, Refusal> {
        let routing = &self.snapshot.routing;
        let profile = routing
            .institutions
            .get(institution)
            .ok_or(Refusal::InstitutionUnknown)?;
        let health = self.world.health.standing(institution, self.now);
        let query = payment.query(mode, telling, self.now);
        if let Some(reason) = routing.ineligible(profile, &query, health) {
            return Err(refusal(reason));
        }
        // Without a requested mode, the first eligible one: the webview where it is offered.
        let is_eligible = |mode: &Mode| {
            let mode = Some(*mode);
            let query = OfferQuery { mode, ..query };
            routing.ineligible(profile, &query, health).is_none()
        };
        let mode = mode
            .or_else(|| Mode::ALL.into_iter().find(is_eligible))
            .ok_or(Refusal::InstitutionUnavailable(
                IneligibleReason::ModeNotOffered,
            ))?;
        let product = routing.product(profile, &query, mode).map_err(refusal)?;
        let identity = payment.payer.identity.as_ref();
        if product.wants.contains(&PayerDetail::OpenId)
            && let Some(PayerIdentity { app, .. }) = identity
            && !self
                .snapshot
                .is_app_enrolled(query.merchant, institution, app)
        {
            return Err(Refusal::AppNotEnrolled);
        }
        Ok(Choice {
            institution: institution.clone(),
            mode,
            product,
        })
    }

    /// Checks again and takes a probe permit: an institution that failed recently gets only a few
    /// orders at a time.
    ///
    /// # Errors
    /// Those of [`EligibilityCheck::check`].
    pub(in crate::flow) fn admit(
        &self,
        payment: Prospect<'_>,
        choice: &Choice,
    ) -> Result<StartDecision, Refusal> {
        let again = self.check(payment, &choice.institution, Some(choice.mode))?;
        if again != *choice {
            return Ok(StartDecision::Changed(again));
        }
        let probe = self.world.health.enter(&choice.institution, self.now);
        probe
            .map(StartDecision::Begins)
            .ok_or_else(|| refusal(IneligibleReason::InstitutionUnhealthy))
    }
}

/// Maps a reason to a refusal. Two of them have a refusal of their own.
fn refusal(reason: IneligibleReason) -> Refusal {
    match reason {
        IneligibleReason::NotContracted => Refusal::InstitutionNotContracted,
        IneligibleReason::MerchantNotAdmitted => Refusal::MerchantNotAdmitted,
        IneligibleReason::InstitutionNotAdmitted
        | IneligibleReason::ModeNotOffered
        | IneligibleReason::TransactionTypeNotOffered
        | IneligibleReason::CurrencyNotOffered
        | IneligibleReason::PayerNotServed
        | IneligibleReason::AmountBelowLimit
        | IneligibleReason::AmountAboveLimit
        | IneligibleReason::NotInThisWallet
        | IneligibleReason::PayerContextMissing
        | IneligibleReason::OrderExpiresSoon
        | IneligibleReason::ContractStopped
        | IneligibleReason::RouteStopped
        | IneligibleReason::InstitutionDown
        | IneligibleReason::OutsideHours
        | IneligibleReason::InstitutionUnhealthy => Refusal::InstitutionUnavailable(reason),
    }
}
