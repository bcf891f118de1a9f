//! A3.4 and X-5: a request to refund, and the state of a refund.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use crate::api::reading::{AuthenticatedFields, text};
use crate::api::refusal::RETRY_AFTER_S;
use crate::api::response::json;
use crate::domain::amount::Amount;
use crate::domain::evidence::Reason;
use crate::domain::identifiers::{CalendarDay, MerchantOrderNo, RefundOrderNo, RefundRequestNo};
use crate::domain::merchant::Merchant;
use crate::domain::order::{self, Order};
use crate::domain::refund::{ExcessCause, Refund, RefundState};
use crate::domain::refusal::Refusal;
use crate::flow::read_order::{OrderReference, read_order};
use crate::flow::refunds::refund_order::{PaidOrderReference, RefundReply};
use crate::store::{OrderKey, Store};

/// Every field of a request to refund: the standard's five and ours.
pub const FIELDS: [&str; 8] = [
    "merchantOrderNo",
    "orderDate",
    "refundAmount",
    "merchantId",
    "mobileNo",
    "merchantRefundNo",
    "refundReason",
    "noticeUrl",
];

/// Every field of a query of a refund.
pub const QUERY_FIELDS: [&str; 3] = ["merchantId", "refundOrderNo", "merchantRefundNo"];

/// Characters of a reason.
const REASON_CHARS_MAX: usize = 128;

/// Reads the order reference and the refund's fields (R-A3.4-1). The amount is in the order's currency, so
/// the order is read first.
///
/// # Errors
/// The first field that is missing, malformed or impossible; an unknown order.
pub async fn read_refund_request(
    fields: &AuthenticatedFields<'_>,
    store: &Store,
    merchant: Option<&Merchant>,
    no: RefundOrderNo,
) -> Result<(PaidOrderReference, order::RefundRequest), Refusal> {
    let number = fields.required("merchantOrderNo", MerchantOrderNo::parse)?;
    let order_date = fields.required("orderDate", CalendarDay::parse)?;
    let mobile = fields.mobile()?.ok_or(Refusal::FieldMissing("mobileNo"))?;
    let amount = fields.scalar("refundAmount")?;
    let amount = amount.ok_or(Refusal::FieldMissing("refundAmount"))?;
    let own = fields.optional("merchantRefundNo", RefundRequestNo::parse)?;
    let reason = fields.free_text("refundReason", REASON_CHARS_MAX)?;
    let notice_url = fields.optional("noticeUrl", text(512))?;
    let named = OrderReference {
        mobile: Some(mobile),
        ..OrderReference::by(OrderKey::MerchantOrderNo(fields.merchant().clone(), number))
    };
    let order = read_order(store, &named).await?;
    let currency = order.terms.amount.currency();
    let amount = Amount::parse(amount, currency).map_err(Refusal::RefundAmount)?;
    let may_be_notified = |url: &str| merchant.is_some_and(|one| one.may_be_notified_at(url));
    if notice_url
        .as_deref()
        .is_some_and(|url| !may_be_notified(url))
    {
        return Err(Refusal::NoticeUrlUnregistered);
    }
    let request = order::RefundRequest {
        no,
        number: own,
        amount,
        reason,
        notice_url,
        epoch: store.epoch,
    };
    Ok((PaidOrderReference { named, order_date }, request))
}

/// The refund named by a query: by our number or the merchant's.
///
/// # Errors
/// Both or neither are given, or one is malformed.
pub fn key(fields: &AuthenticatedFields<'_>) -> Result<OrderKey, Refusal> {
    let ours = fields.optional("refundOrderNo", RefundOrderNo::parse);
    let ours = match ours {
        Err(Refusal::FieldMalformed { .. }) => return Err(Refusal::RefundUnknown),
        read => read?,
    };
    let theirs = fields.optional("merchantRefundNo", RefundRequestNo::read)?;
    let merchant = fields.merchant().clone();
    match (ours, theirs) {
        (Some(no), None) => Ok(OrderKey::RefundOrderNo(merchant, no)),
        (None, Some(number)) => Ok(OrderKey::MerchantRefundNo(merchant, number)),
        (None, None) => Err(Refusal::NeitherField("refundOrderNo", "merchantRefundNo")),
        (Some(_), Some(_)) => Err(Refusal::FieldsDisagree(
            "name the refund by refundOrderNo or by merchantRefundNo, not by both",
        )),
    }
}

/// A3.4's five fields (R-A3.4-2), then ours.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RefundResponseBody<'a> {
    order_status: &'static str,
    merchant_id: &'a str,
    merchant_order_no: &'a str,
    refund_amount: String,
    refund_order_no: &'a str,
    result: &'static str,
    refund_status: &'static str,
    order_refund_status: &'static str,
    pay_order_no: &'a str,
    currency: &'static str,
    merchant_refund_no: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    refund_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refund_cause: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
    version: u64,
}

/// The hint in the response to a second equal request without a number (R7).
const DUPLICATE_REFUND_HINT: &str = "this refund was requested before; a further refund of the \
    same amount of this order needs a merchantRefundNo";

/// The response of A3.4 and X-5, from committed state (O5), and its word for the metrics.
pub fn answer(refunded: &RefundReply) -> Result<(Response<Bytes>, &'static str), Refusal> {
    let order = &refunded.order;
    let refund = order.refund(&refunded.no).ok_or(Refusal::RefundUnknown)?;
    let (status, result) = outcome(refund);
    let failed = refund.state == RefundState::Failed;
    let body = RefundResponseBody {
        order_status: order.state.name(),
        merchant_id: order.terms.merchant.as_str(),
        merchant_order_no: order.terms.merchant_order_no.as_str(),
        refund_amount: refund.amount.to_string(),
        refund_order_no: refund.no.as_str(),
        result,
        refund_status: refund.state.public_name(),
        order_refund_status: order.refund_view().name(),
        pay_order_no: order.no.as_str(),
        currency: refund.amount.currency().code(),
        merchant_refund_no: refund.merchant_no(),
        refund_time: refund
            .receipt
            .as_ref()
            .map(|receipt| receipt.paid_at.rfc3339()),
        reason: refund
            .reason
            .as_ref()
            .filter(|_| failed)
            .map(Reason::as_str),
        refund_cause: refund.excess().map(ExcessCause::name),
        hint: refunded.same_by_sum.then_some(DUPLICATE_REFUND_HINT),
        version: order.version,
    };
    let mut answer = json(status, &body);
    if status == StatusCode::ACCEPTED {
        let wait = HeaderValue::from(RETRY_AFTER_S);
        answer.headers_mut().insert(header::RETRY_AFTER, wait);
    }
    Ok((answer, result))
}

/// 202 while the outcome is unknown; a definite failure is a result, not a problem.
fn outcome(refund: &Refund) -> (StatusCode, &'static str) {
    match refund.state {
        RefundState::Reserved | RefundState::Unknown | RefundState::Manual => {
            (StatusCode::ACCEPTED, "PENDING")
        }
        RefundState::Processing | RefundState::Succeeded => (StatusCode::OK, "ACCEPTED"),
        RefundState::Failed => (StatusCode::OK, "REFUSED"),
    }
}

/// One refund in the response about its order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedRefund<'a> {
    refund_order_no: &'a str,
    merchant_refund_no: &'a str,
    refund_amount: String,
    refund_status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    refund_cause: Option<&'static str>,
}

/// Every refund of an order, those of excess payments with their cause; `None` where there is none.
pub fn listed(order: &Order) -> Option<Vec<ListedRefund<'_>>> {
    let all = order.refunds.iter().map(|refund| ListedRefund {
        refund_order_no: refund.no.as_str(),
        merchant_refund_no: refund.merchant_no(),
        refund_amount: refund.amount.to_string(),
        refund_status: refund.state.public_name(),
        refund_cause: refund.excess().map(ExcessCause::name),
    });
    (!order.refunds.is_empty()).then(|| all.collect())
}
