//! A payment that is to begin, as eligibility sees it.

use crate::domain::identifiers::Timestamp;
use crate::domain::institutions::{Mode, OfferQuery, PayerTelling};
use crate::domain::order::{Order, OrderTerms};
use crate::domain::personal::payer_context::PayerDetails;

/// A payment that is to begin: the terms of its order, and what belongs to this attempt only.
#[derive(Clone, Copy)]
pub(in crate::flow) struct Prospect<'a> {
    /// The order's terms.
    pub(in crate::flow) terms: &'a OrderTerms,
    /// What is known of the payer.
    pub(in crate::flow) payer: &'a PayerDetails,
    /// When the order expires.
    pub(in crate::flow) expires: Timestamp,
}

impl<'a> Prospect<'a> {
    /// Of an order that is placed now.
    pub(in crate::flow) fn of_terms(
        terms: &'a OrderTerms,
        payer: &'a PayerDetails,
        now: Timestamp,
    ) -> Self {
        Self {
            terms,
            payer,
            expires: terms.expires(now),
        }
    }

    /// Of an order that was placed before.
    pub(in crate::flow) fn of_order(order: &'a Order, payer: &'a PayerDetails) -> Self {
        Self {
            terms: &order.terms,
            payer,
            expires: order.expires,
        }
    }

    /// The routing query for it.
    pub(in crate::flow) fn query(
        self,
        mode: Option<Mode>,
        telling: PayerTelling,
        now: Timestamp,
    ) -> OfferQuery<'a> {
        OfferQuery {
            merchant: &self.terms.merchant,
            payer: &self.terms.mobile,
            amount: self.terms.amount,
            transaction_type: self.terms.transaction_type,
            mode,
            surroundings: self.payer,
            telling,
            expires: self.expires,
            now,
        }
    }
}
