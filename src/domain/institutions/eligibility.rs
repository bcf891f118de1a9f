//! Who may use which institution for what: one judgement for the list, the choice, an
//! order that names an institution, and the payer's page.
//!
//! Reasons have an order, which is that of [`IneligibleReason`]: what no waiting and no other sum would change
//! comes before what concerns this order, and that before what passes by itself. So whoever reads
//! one reason knows that none of the reasons before it holds.

use crate::domain::amount::{Amount, Currency};
use crate::domain::identifiers::{InstitutionId, MerchantId, Timestamp};
use crate::domain::institutions::{
    AmountRange, Contract, Health, InstitutionProfile, Mode, Payers, Route, RoutingTable,
    TransactionType,
};
use crate::domain::merchant::Admission;
use crate::domain::personal::MobileNo;

/// Why an institution is not offered to this payer for this order. Stable words of the interface,
/// in the order in which they are looked for; `docs/reasons.md` explains each to merchants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IneligibleReason {
    /// The merchant may start nothing new (R-4-3): also not on its payers' pages.
    MerchantNotAdmitted,
    /// No contract between merchant and institution.
    NotContracted,
    /// The institution is not admitted by the operator (R-4-3).
    InstitutionNotAdmitted,
    /// Not offered in this mode.
    ModeNotOffered,
    /// Not offered for this kind of payment.
    TransactionTypeNotOffered,
    /// Not offered in this currency.
    CurrencyNotOffered,
    /// Not open to this payer. Whether a list leaves him out or names him is not told: it may be a
    /// matter of suspicion.
    PayerNotServed,
    /// The sum is below the smallest.
    AmountBelowLimit,
    /// The sum is above the largest.
    AmountAboveLimit,
    /// The merchant's contract takes nothing new at present.
    ContractStopped,
    /// The route of this payment takes nothing new at present.
    RouteStopped,
    /// Taken out of service, or without a key or certificate in force.
    InstitutionDown,
    /// Outside opening hours.
    OutsideHours,
    /// It failed lately, and is being tried again.
    InstitutionUnhealthy,
}

impl IneligibleReason {
    /// Every reason, in the order in which they are looked for.
    pub const ALL: [Self; 14] = [
        Self::MerchantNotAdmitted,
        Self::NotContracted,
        Self::InstitutionNotAdmitted,
        Self::ModeNotOffered,
        Self::TransactionTypeNotOffered,
        Self::CurrencyNotOffered,
        Self::PayerNotServed,
        Self::AmountBelowLimit,
        Self::AmountAboveLimit,
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
            Self::ContractStopped => "CONTRACT_STOPPED",
            Self::RouteStopped => "ROUTE_STOPPED",
            Self::InstitutionDown => "INSTITUTION_DOWN",
            Self::OutsideHours => "OUTSIDE_HOURS",
            Self::InstitutionUnhealthy => "INSTITUTION_UNHEALTHY",
        }
    }
}

/// What is asked of the directory: one payment by one payer.
#[derive(Debug, Clone, Copy)]
pub struct OfferQuery<'a> {
    /// For whom.
    pub merchant: &'a MerchantId,
    /// Who pays.
    pub payer: &'a MobileNo,
    /// How much.
    pub amount: Amount,
    /// What kind of payment.
    pub transaction_type: TransactionType,
    /// In which mode; any when absent.
    pub mode: Option<Mode>,
    /// When.
    pub now: Timestamp,
}

/// One institution's place in an answer.
#[derive(Debug, Clone, Copy)]
pub struct Offer<'a> {
    /// Which.
    pub institution: &'a InstitutionProfile,
    /// Why not, if not.
    pub ineligible: Option<IneligibleReason>,
}

/// Where an institution stands in the list: the payer's last one, then the healthier, then as
/// configured.
type ListPosition = (bool, Health, u32);

impl RoutingTable {
    /// Every routed institution for this payment, each with the reason where it is withheld: the
    /// one this payer last paid through first, then by health, then in configured order
    /// (R-A2.4.1-3a). The same question has the same answer.
    pub fn offers<'a>(
        &'a self,
        wanted: &OfferQuery<'_>,
        last_paid: Option<&InstitutionId>,
        standing: impl Fn(&InstitutionId) -> Health,
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
            let fares = standing(&institution.id);
            let offer = Offer {
                institution,
                ineligible: self.ineligible(institution, wanted, fares),
            };
            let elsewhere = last_paid != Some(&institution.id);
            offers.push(((elsewhere, fares, route.order), offer));
        }
        offers.sort_by_key(|(place, _)| *place);
        offers.into_iter().map(|(_, offer)| offer).collect()
    }

    /// The codes of every currency that an admitted institution settles in, in order.
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

    /// Why this institution, which fares so, is not open to this payment; `None` when it is. The
    /// first reason that holds, in the order of [`IneligibleReason`].
    pub fn ineligible(
        &self,
        institution: &InstitutionProfile,
        wanted: &OfferQuery<'_>,
        standing: Health,
    ) -> Option<IneligibleReason> {
        let merchant = self.merchants.get(wanted.merchant);
        if merchant.is_none_or(|merchant| merchant.admission != Admission::Admitted) {
            return Some(IneligibleReason::MerchantNotAdmitted);
        }
        let key = (wanted.merchant.clone(), institution.id.clone());
        let Some(contract) = self.contracts.get(&key) else {
            return Some(IneligibleReason::NotContracted);
        };
        if institution.admission != Admission::Admitted {
            return Some(IneligibleReason::InstitutionNotAdmitted);
        }
        let lasting = not_agreed(institution, contract, wanted);
        lasting.or_else(|| {
            // Each looks for reasons of the order's own and for passing ones, so the first of both.
            let here = self.route_ineligible_reason(contract, wanted);
            let is_usable = self.is_account_usable(&institution.id, &contract.account, wanted.now);
            let is_down = institution.is_down(wanted.now) || !is_usable;
            let passing = passing(is_down, contract, wanted, standing);
            [
                payment_excluded_reason(&contract.sums, &contract.payers, wanted),
                here,
                passing,
            ]
            .into_iter()
            .flatten()
            .min()
        })
    }

    /// One route that fits is enough; where none does, the reason of the one that fits best.
    fn route_ineligible_reason(
        &self,
        contract: &Contract,
        wanted: &OfferQuery<'_>,
    ) -> Option<IneligibleReason> {
        let mut best = Some(IneligibleReason::PayerNotServed);
        let routes = self.routes.iter();
        for route in routes.filter(|route| route.institution == contract.institution) {
            match single_route_reason(route, wanted) {
                None => return None,
                reason => best = best.max(reason),
            }
        }
        best
    }
}

/// What the two never offer together.
fn not_agreed(
    institution: &InstitutionProfile,
    contract: &Contract,
    wanted: &OfferQuery<'_>,
) -> Option<IneligibleReason> {
    let is_offered = |mode: &Mode| {
        Mode::OFFERED.contains(mode)
            && institution.modes.contains(mode)
            && contract.modes.contains(mode)
    };
    let in_mode = match wanted.mode {
        Some(mode) => is_offered(&mode),
        None => Mode::ALL.iter().any(is_offered),
    };
    let currency = wanted.amount.currency();
    let in_currency =
        institution.currencies.contains(&currency) && of(&contract.sums, currency).is_some();
    if !in_mode {
        Some(IneligibleReason::ModeNotOffered)
    } else if !contract
        .transaction_types
        .contains(&wanted.transaction_type)
    {
        Some(IneligibleReason::TransactionTypeNotOffered)
    } else if !in_currency {
        Some(IneligibleReason::CurrencyNotOffered)
    } else {
        None
    }
}

/// What is open to others, and not to this payer or for this sum.
fn payment_excluded_reason(
    sums: &[AmountRange],
    payers: &Payers,
    wanted: &OfferQuery<'_>,
) -> Option<IneligibleReason> {
    if !payers.include(wanted.payer) {
        return Some(IneligibleReason::PayerNotServed);
    }
    let minor = wanted.amount.minor();
    match of(sums, wanted.amount.currency()) {
        Some(sums) if minor < sums.minor_min => Some(IneligibleReason::AmountBelowLimit),
        Some(sums) if minor > sums.minor_max => Some(IneligibleReason::AmountAboveLimit),
        Some(_) | None => None,
    }
}

fn single_route_reason(route: &Route, wanted: &OfferQuery<'_>) -> Option<IneligibleReason> {
    let reason = payment_excluded_reason(&route.sums, &route.payers, wanted);
    reason.or(route.stopped.then_some(IneligibleReason::RouteStopped))
}

/// What another time may be different.
fn passing(
    is_down: bool,
    contract: &Contract,
    wanted: &OfferQuery<'_>,
    standing: Health,
) -> Option<IneligibleReason> {
    let is_closed = |hours| !is_open(hours, wanted.now);
    if contract.stopped {
        Some(IneligibleReason::ContractStopped)
    } else if is_down {
        Some(IneligibleReason::InstitutionDown)
    } else if contract.hours.is_some_and(is_closed) {
        Some(IneligibleReason::OutsideHours)
    } else if standing == Health::Open {
        Some(IneligibleReason::InstitutionUnhealthy)
    } else {
        None
    }
}

fn of(sums: &[AmountRange], currency: Currency) -> Option<&AmountRange> {
    sums.iter().find(|sums| sums.currency == currency)
}

/// Hours may pass midnight: 22:00 to 06:00.
fn is_open((from, until): (u16, u16), now: Timestamp) -> bool {
    let minute = now.minute_of_day();
    if from <= until {
        (from..until).contains(&minute)
    } else {
        minute >= from || minute < until
    }
}
