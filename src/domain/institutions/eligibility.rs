//! Eligibility of institutions for a payment: one implementation for the list, the selection
//! orders that name an institution, and the payment page.
//!
//! Reasons are checked in the order of [`IneligibleReason`]: permanent ones first, then those that
//! depend on this order, then temporary ones. A reported reason means that none of the earlier ones
//! holds.

mod product_choice;

use crate::domain::amount::{Amount, Currency};
use crate::domain::identifiers::{InstitutionId, MerchantId, Timestamp};
use crate::domain::institutions::{
    AmountRange, Contract, Health, InstitutionProfile, Mode, Payers, Product, Route, RoutingTable,
    TransactionType,
};
use crate::domain::merchant::Admission;
use crate::domain::personal::MobileNo;
use crate::domain::personal::payer_context::PayerDetails;
use product_choice::{no_product_reason, product};

/// Why an institution is not offered to this payer for this order. Stable names of the API, in the
/// order of checking; `docs/reasons.md` explains each to merchants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IneligibleReason {
    /// The merchant may start nothing new (R-4-3); also applies to its payment pages.
    MerchantNotAdmitted,
    /// No contract between merchant and institution.
    NotContracted,
    /// The institution is not admitted (R-4-3).
    InstitutionNotAdmitted,
    /// Not available in this mode.
    ModeNotOffered,
    /// Not available for this transaction type.
    TransactionTypeNotOffered,
    /// Not available in this currency.
    CurrencyNotOffered,
    /// Not available to this payer. Whether a list omits or excludes them is not disclosed, as it
    /// may indicate suspected fraud.
    PayerNotServed,
    /// The amount is below the minimum.
    AmountBelowLimit,
    /// The amount is above the maximum.
    AmountAboveLimit,
    /// The payer is in a wallet, or on a device, where none of its products works.
    NotInThisWallet,
    /// Its product has to be told something of the payer that nobody supplies.
    PayerContextMissing,
    /// The order expires sooner than its product allows.
    OrderExpiresSoon,
    /// The merchant's contract is stopped.
    ContractStopped,
    /// The route is stopped.
    RouteStopped,
    /// The institution is stopped, or has no valid key or certificate.
    InstitutionDown,
    /// Outside opening hours.
    OutsideHours,
    /// Its circuit breaker is open.
    InstitutionUnhealthy,
}

impl IneligibleReason {
    /// Every reason, in the order of checking.
    pub const ALL: [Self; 17] = [
        Self::MerchantNotAdmitted,
        Self::NotContracted,
        Self::InstitutionNotAdmitted,
        Self::ModeNotOffered,
        Self::TransactionTypeNotOffered,
        Self::CurrencyNotOffered,
        Self::PayerNotServed,
        Self::AmountBelowLimit,
        Self::AmountAboveLimit,
        Self::NotInThisWallet,
        Self::PayerContextMissing,
        Self::OrderExpiresSoon,
        Self::ContractStopped,
        Self::RouteStopped,
        Self::InstitutionDown,
        Self::OutsideHours,
        Self::InstitutionUnhealthy,
    ];

    /// The word on the wire (`reason`).
    pub fn word(self) -> &'static str {
        match self {
            Self::MerchantNotAdmitted => "MERCHANT_NOT_ADMITTED",
            Self::NotContracted => "NOT_CONTRACTED",
            Self::InstitutionNotAdmitted => "INSTITUTION_NOT_ADMITTED",
            Self::ModeNotOffered => "MODE_NOT_OFFERED",
            Self::TransactionTypeNotOffered => "TRANSACTION_TYPE_NOT_OFFERED",
            Self::CurrencyNotOffered => "CURRENCY_NOT_OFFERED",
            Self::PayerNotServed => "PAYER_NOT_SERVED",
            Self::AmountBelowLimit => "AMOUNT_BELOW_LIMIT",
            Self::AmountAboveLimit => "AMOUNT_ABOVE_LIMIT",
            Self::NotInThisWallet => "NOT_IN_THIS_WALLET",
            Self::PayerContextMissing => "PAYER_CONTEXT_MISSING",
            Self::OrderExpiresSoon => "ORDER_EXPIRES_SOON",
            Self::ContractStopped => "CONTRACT_STOPPED",
            Self::RouteStopped => "ROUTE_STOPPED",
            Self::InstitutionDown => "INSTITUTION_DOWN",
            Self::OutsideHours => "OUTSIDE_HOURS",
            Self::InstitutionUnhealthy => "INSTITUTION_UNHEALTHY",
        }
    }
}

/// A query for offers: one payment by one payer.
#[derive(Debug, Clone, Copy)]
pub struct OfferQuery<'a> {
    /// The merchant.
    pub merchant: &'a MerchantId,
    /// The payer.
    pub payer: &'a MobileNo,
    /// The amount.
    pub amount: Amount,
    /// The transaction type.
    pub transaction_type: TransactionType,
    /// The mode; any when absent.
    pub mode: Option<Mode>,
    /// What is known of the payer's surroundings.
    pub surroundings: &'a PayerDetails,
    /// Whether more of them may become known before an attempt begins.
    pub telling: PayerTelling,
    /// When the order expires.
    pub expires: Timestamp,
    /// The time of the query.
    pub now: Timestamp,
}

/// Whether more may become known of a payer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayerTelling {
    /// The payer only looks: what is missing may be supplied with the choice.
    MayFollow,
    /// An attempt begins: what is missing now is missing.
    Complete,
}

/// One institution in the answer.
#[derive(Debug, Clone, Copy)]
pub struct Offer<'a> {
    /// The institution.
    pub institution: &'a InstitutionProfile,
    /// Why it is ineligible, if it is.
    pub ineligible: Option<IneligibleReason>,
}

/// Sort key of the list: the payer's last-used institution first, then by health, then by
/// configured order.
type ListPosition = (bool, Health, u32);

impl RoutingTable {
    /// Every routed institution for this payment, with the reason if it is ineligible: the one this
    /// payer last paid through first, then by health, then by configured order (R-A2.4.1-3a).
    /// Deterministic.
    pub fn offers<'a>(
        &'a self,
        query: &OfferQuery<'_>,
        last_paid: Option<&InstitutionId>,
        health_of: impl Fn(&InstitutionId) -> Health,
    ) -> Vec<Offer<'a>> {
        let mut offers: Vec<(ListPosition, Offer<'a>)> = Vec::with_capacity(self.routes.len());
        for route in &self.routes {
            let Some(institution) = self.institutions.get(&route.institution) else {
                continue;
            };
            let known = offers
                .iter_mut()
                .find(|(_, offer)| offer.institution.id == institution.id);
            if let Some(((_, _, order), _)) = known {
                *order = route.order.min(*order);
                continue;
            }
            let health = health_of(&institution.id);
            let offer = Offer {
                institution,
                ineligible: self.ineligible(institution, query, health),
            };
            let elsewhere = last_paid != Some(&institution.id);
            offers.push(((elsewhere, health, route.order), offer));
        }
        offers.sort_by_key(|(place, _)| *place);
        offers.into_iter().map(|(_, offer)| offer).collect()
    }

    /// The codes of all currencies that an admitted institution settles in, sorted.
    pub fn settled(&self) -> Vec<&'static str> {
        let admitted = self
            .institutions
            .values()
            .filter(|institution| institution.admission == Admission::Admitted);
        let codes = admitted.flat_map(|institution| &institution.currencies);
        let mut codes: Vec<_> = codes.map(Currency::code).collect();
        codes.sort_unstable();
        codes.dedup();
        codes
    }

    /// Why this institution, with this health, is ineligible for this payment; `None` when it is
    /// eligible. Returns the first reason in the order of [`IneligibleReason`].
    pub fn ineligible(
        &self,
        institution: &InstitutionProfile,
        query: &OfferQuery<'_>,
        health: Health,
    ) -> Option<IneligibleReason> {
        let merchant = self.merchants.get(query.merchant);
        if merchant.is_none_or(|merchant| merchant.admission != Admission::Admitted) {
            return Some(IneligibleReason::MerchantNotAdmitted);
        }
        let key = (query.merchant.clone(), institution.id.clone());
        let Some(contract) = self.contracts.get(&key) else {
            return Some(IneligibleReason::NotContracted);
        };
        if institution.admission != Admission::Admitted {
            return Some(IneligibleReason::InstitutionNotAdmitted);
        }
        let permanent = not_supported_reason(institution, contract, query);
        permanent.or_else(|| {
            // Each covers both order-dependent and temporary reasons, so take the first of all.
            let route = self.route_ineligible_reason(contract, query);
            let is_usable = self.is_account_usable(&institution.id, &contract.account, query.now);
            let is_down = institution.is_down(query.now) || !is_usable;
            let temporary = temporary_reason(is_down, contract, query, health);
            [
                payment_excluded_reason(&contract.sums, &contract.payers, query),
                no_product_reason(institution, contract, query),
                route,
                temporary,
            ]
            .into_iter()
            .flatten()
            .min()
        })
    }

    /// The product that an attempt would be paid with, in this mode: the first in the dialect's order
    /// that is agreed, works where the payer is, and has all it wants.
    ///
    /// # Errors
    /// The reason of the product that comes nearest.
    pub fn product(
        &self,
        institution: &InstitutionProfile,
        query: &OfferQuery<'_>,
        mode: Mode,
    ) -> Result<Product, IneligibleReason> {
        let contract = self.contract(query.merchant, &institution.id);
        let contract = contract.ok_or(IneligibleReason::NotContracted)?;
        product(institution, contract, query, mode)
    }

    /// One fitting route suffices; otherwise the reason of the best-fitting route.
    fn route_ineligible_reason(
        &self,
        contract: &Contract,
        query: &OfferQuery<'_>,
    ) -> Option<IneligibleReason> {
        let mut best = Some(IneligibleReason::PayerNotServed);
        let routes = self.routes.iter();
        for route in routes.filter(|route| route.institution == contract.institution) {
            match single_route_reason(route, query) {
                None => return None,
                reason => best = best.max(reason),
            }
        }
        best
    }
}

/// What institution and contract do not support together.
fn not_supported_reason(
    institution: &InstitutionProfile,
    contract: &Contract,
    query: &OfferQuery<'_>,
) -> Option<IneligibleReason> {
    let in_mode = offered_modes(institution, contract, query).next().is_some();
    let currency = query.amount.currency();
    let in_currency =
        institution.currencies.contains(&currency) && of(&contract.sums, currency).is_some();
    if !in_mode {
        Some(IneligibleReason::ModeNotOffered)
    } else if !contract.transaction_types.contains(&query.transaction_type) {
        Some(IneligibleReason::TransactionTypeNotOffered)
    } else if !in_currency {
        Some(IneligibleReason::CurrencyNotOffered)
    } else {
        None
    }
}

/// The modes of the query that are served, offered and agreed.
fn offered_modes(
    institution: &InstitutionProfile,
    contract: &Contract,
    query: &OfferQuery<'_>,
) -> impl Iterator<Item = Mode> {
    Mode::ALL.into_iter().filter(move |mode| {
        query.mode.is_none_or(|wanted| wanted == *mode)
            && Mode::OFFERED.contains(mode)
            && institution.modes.contains(mode)
            && contract.modes.contains(mode)
    })
}

/// Why this payer or amount is excluded.
fn payment_excluded_reason(
    sums: &[AmountRange],
    payers: &Payers,
    query: &OfferQuery<'_>,
) -> Option<IneligibleReason> {
    if !payers.include(query.payer) {
        return Some(IneligibleReason::PayerNotServed);
    }
    let minor = query.amount.minor();
    match of(sums, query.amount.currency()) {
        Some(sums) if minor < sums.minor_min => Some(IneligibleReason::AmountBelowLimit),
        Some(sums) if minor > sums.minor_max => Some(IneligibleReason::AmountAboveLimit),
        Some(_) | None => None,
    }
}

fn single_route_reason(route: &Route, query: &OfferQuery<'_>) -> Option<IneligibleReason> {
    let reason = payment_excluded_reason(&route.sums, &route.payers, query);
    reason.or(route.stopped.then_some(IneligibleReason::RouteStopped))
}

/// Temporary reasons.
fn temporary_reason(
    is_down: bool,
    contract: &Contract,
    query: &OfferQuery<'_>,
    health: Health,
) -> Option<IneligibleReason> {
    let is_closed = |(from, until)| !is_open(from, until, query.now);
    if contract.stopped {
        Some(IneligibleReason::ContractStopped)
    } else if is_down {
        Some(IneligibleReason::InstitutionDown)
    } else if contract.hours.is_some_and(is_closed) {
        Some(IneligibleReason::OutsideHours)
    } else if health == Health::Open {
        Some(IneligibleReason::InstitutionUnhealthy)
    } else {
        None
    }
}

fn of(sums: &[AmountRange], currency: Currency) -> Option<&AmountRange> {
    sums.iter().find(|sums| sums.currency == currency)
}

/// Hours may span midnight: 22:00 to 06:00.
fn is_open(from: u16, until: u16, now: Timestamp) -> bool {
    let minute = now.minute_of_day();
    if from <= until {
        (from..until).contains(&minute)
    } else {
        minute >= from || minute < until
    }
}
