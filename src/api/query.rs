//! A3.2: the state of an order.

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::Serialize;

use crate::api::refund;
use crate::api::response::json;
use crate::domain::order::Order;

/// A3.2's seventeen fields (R-A3.2-2), then ours.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OrderQueryResponseBody<'a> {
    transaction_type: &'static str,
    business_type: &'static str,
    merchant_order_no: &'a str,
    merchant_name: &'a str,
    order_date: &'a str,
    order_amount: String,
    currency: &'static str,
    merchant_id: &'a str,
    mobile_no: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    goods_no: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    goods_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    goods_description: Option<&'a str>,
    payment_date: String,
    payment_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fee: Option<String>,
    pay_order_no: &'a str,
    order_status: &'static str,
    create_date: String,
    expire_time: String,
    order_refund_status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    refunds: Option<Vec<refund::ListedRefund<'a>>>,
    attempt_status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    institution_id: Option<&'a str>,
    version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    attach: Option<&'a str>,
}

/// The response of A3.2, from committed state (O5). Dates of a payment that was not made are empty strings
/// (G-3).
pub fn answer(order: &Order) -> Response<Bytes> {
    let terms = &order.terms;
    let attempt = order.reported_attempt();
    let receipt = order.receipt();
    let fee = receipt.and_then(|receipt| receipt.fee);
    json(
        StatusCode::OK,
        &OrderQueryResponseBody {
            transaction_type: terms.transaction_type.name(),
            business_type: terms.business_type.name(),
            merchant_order_no: terms.merchant_order_no.as_str(),
            merchant_name: &terms.merchant_name,
            order_date: terms.order_date.as_str(),
            order_amount: terms.amount.to_string(),
            currency: terms.amount.currency().code(),
            merchant_id: terms.merchant.as_str(),
            mobile_no: terms.mobile.expose(),
            goods_no: terms.goods_no.as_deref(),
            goods_name: terms.goods_name.as_deref(),
            goods_description: terms.goods_description.as_deref(),
            payment_date: receipt.map(|r| r.paid_at.date()).unwrap_or_default(),
            payment_time: receipt.map(|r| r.paid_at.time_of_day()).unwrap_or_default(),
            fee: fee.map(|fee| fee.to_string()),
            pay_order_no: order.no.as_str(),
            order_status: order.state.name(),
            create_date: order.created.date(),
            expire_time: order.expires.rfc3339(),
            order_refund_status: order.refund_view().name(),
            refunds: refund::listed(order),
            attempt_status: attempt.map_or("NONE", |attempt| attempt.state.public_name()),
            institution_id: attempt.map(|attempt| attempt.institution.as_str()),
            version: order.version,
            attach: terms.attach.as_deref(),
        },
    )
}
