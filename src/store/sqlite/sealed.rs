//! What is sealed, in which shape and for which place (D2). Nothing here reaches a row unsealed.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::domain::evidence::{Handover, Way};
use crate::domain::identifiers::{MerchantId, PayOrderNo, Timestamp, hex};
use crate::domain::order::Order;
use crate::domain::personal::MobileNo;
use crate::seal::{Place, Seal, SealFault};
use crate::store::StoreError;

/// Personal and free text of an order, sealed as one.
#[derive(Serialize, Deserialize)]
pub(super) struct Private<'a> {
    pub(super) mobile: Cow<'a, str>,
    pub(super) merchant_name: Cow<'a, str>,
    pub(super) goods_no: Option<Cow<'a, str>>,
    pub(super) goods_name: Option<Cow<'a, str>>,
    pub(super) goods_description: Option<Cow<'a, str>>,
    pub(super) attach: Option<Cow<'a, str>>,
    pub(super) page_secret: Cow<'a, str>,
}

impl<'a> Private<'a> {
    pub(super) fn of(order: &'a Order) -> Self {
        let terms = &order.terms;
        Self {
            mobile: terms.mobile.expose().into(),
            merchant_name: terms.merchant_name.as_ref().into(),
            goods_no: terms.goods_no.as_deref().map(Cow::from),
            goods_name: terms.goods_name.as_deref().map(Cow::from),
            goods_description: terms.goods_description.as_deref().map(Cow::from),
            attach: terms.attach.as_deref().map(Cow::from),
            page_secret: hex(&order.page_secret).into(),
        }
    }

    pub(super) fn place(order: &PayOrderNo) -> Place<'_> {
        let (table, row, column) = ("orders", order.as_str(), "sealed");
        Place { table, row, column }
    }
}

/// A hand-over, sealed: a link lets its holder pay.
#[derive(Serialize, Deserialize)]
pub(super) struct Path<'a> {
    pub(super) link: Option<Cow<'a, str>>,
    pub(super) sdk: Option<Cow<'a, str>>,
    pub(super) expires: Option<i64>,
}

impl<'a> Path<'a> {
    pub(super) fn of(handover: &'a Handover) -> Self {
        let (link, sdk) = match &handover.way {
            Way::Link(link) => (Some(Cow::from(link.as_ref())), None),
            Way::Sdk(sdk) => (None, Some(Cow::from(sdk.as_ref()))),
        };
        let expires = handover.expires.map(Timestamp::ms);
        Self { link, sdk, expires }
    }

    pub(super) fn place(attempt: &str) -> Place<'_> {
        let (table, row, column) = ("attempts", attempt, "handover");
        Place { table, row, column }
    }
}

/// Where the body of an event is sealed.
pub(super) fn event_place(event: &str) -> Place<'_> {
    let (table, row, column) = ("events", event, "sealed");
    Place { table, row, column }
}

/// Where a merchant's words about a refund are sealed.
pub(super) fn refund_place(refund: &str) -> Place<'_> {
    let (table, row, column) = ("refunds", refund, "sealed");
    Place { table, row, column }
}

/// One payer at one merchant; at another merchant the same payer has another digest.
pub(super) fn payer_digest(seal: &Seal, merchant: &MerchantId, payer: &MobileNo) -> [u8; 32] {
    let value = format!("{merchant} {}", payer.expose());
    seal.digest("payer", value.as_bytes())
}

/// Spells out and seals.
pub(super) fn seal_text(
    seal: &Seal,
    place: Place<'_>,
    what: &impl Serialize,
) -> Result<Vec<u8>, StoreError> {
    let plain =
        serde_json::to_vec(what).map_err(|error| StoreError::Unavailable(error.to_string()))?;
    Ok(seal.seal(place, &plain).map_err(not_sealed)?.into_bytes())
}

/// Nothing was written.
pub(super) fn not_sealed(fault: SealFault) -> StoreError {
    StoreError::Unavailable(fault.to_string())
}
