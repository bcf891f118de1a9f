//! Asynchronous notifications: signed forms to the `notify_url` of the payment, repeated on the
//! documented schedule of the gateway's clock until the answer is the seven characters `success`.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request};
use serde_json::json;

use crate::crypto::rsa::RsaPrivateKey;
use crate::sandbox::alipay::biz::yuan;
use crate::sandbox::alipay::books::{AlipayStatus, AlipayTrade, TradeKey};
use crate::sandbox::alipay::calls::{BUYER_ID, BUYER_LOGON_ID};
use crate::sandbox::alipay::clock::{local, local_millis};
use crate::sandbox::alipay::form::AlipayParameters;
use crate::sandbox::alipay::steering::AlipayFault;
use crate::sandbox::alipay::{AlipayState, keys};

/// When a notification is sent, after its event: eight times, the last after 24 h 24 min. Unit:
/// minutes.
const SENT_AT_MIN: [i64; 8] = [0, 4, 14, 24, 84, 204, 564, 1_464];
const MINUTE_MS: i64 = 60_000;

/// What a notification tells.
#[derive(Debug)]
pub(super) enum NoticeEvent {
    Paid,
    /// The refund of this `out_request_no`.
    Refunded(String),
    /// Closed unpaid, or no longer refundable.
    Ended,
}

/// One notification, the same in every repetition except for `notify_time`.
#[derive(Clone)]
struct AlipayNotice {
    key: TradeKey,
    to: String,
    form: AlipayParameters,
}

/// Notifies of an event in the background, if the product's events are notified.
pub(super) fn tell(state: &Arc<AlipayState>, key: &TradeKey, event: &NoticeEvent) {
    let Some((notice, method)) = compose(state, key, event) else {
        return;
    };
    let steered = state.steering.take(method, AlipayFault::is_of_a_notice);
    let fault = steered.map(|steered| steered.fault);
    if fault != Some(AlipayFault::NoticeLost) {
        let background = Arc::clone(state);
        state.spawn_background(async move { deliver(&background, notice, fault).await });
    }
}

/// Notifies of a payment before the call that led to it is answered; repeats in the background.
pub(super) async fn tell_now(state: &Arc<AlipayState>, key: &TradeKey) {
    let Some((notice, _)) = compose(state, key, &NoticeEvent::Paid) else {
        return;
    };
    let first_ms = state.now_ms();
    if !send(state, &notice, None).await {
        let background = Arc::clone(state);
        state.spawn_background(async move { repeat(&background, &notice, first_ms).await });
    }
}

/// The notification of an event and the method of its trade; `None` if it is not notified.
fn compose(
    state: &AlipayState,
    key: &TradeKey,
    event: &NoticeEvent,
) -> Option<(AlipayNotice, &'static str)> {
    let now_ms = state.now_ms();
    let (trade, id) = state.books.change(|books| {
        let trade = books.look(key, now_ms)?;
        Some((trade, books.next_notice_id(now_ms)))
    })?;
    let product = trade.terms.product;
    let is_notified = match trade.status {
        AlipayStatus::WaitBuyerPay => false,
        AlipayStatus::Success => true,
        AlipayStatus::Finished | AlipayStatus::Closed => product.tells_ends(),
    };
    if !is_notified {
        return None;
    }
    let notice = AlipayNotice {
        key: key.clone(),
        to: trade.notify_url.clone()?,
        form: form(&trade, event, &id),
    };
    Some((notice, product.method()))
}

fn form(trade: &AlipayTrade, event: &NoticeEvent, id: &str) -> AlipayParameters {
    let terms = &trade.terms;
    let total = yuan(terms.total_fen);
    let mut form = AlipayParameters::of([
        ("notify_type", "trade_status_sync".to_owned()),
        ("notify_id", id.to_owned()),
        ("app_id", trade.app_id.clone()),
        ("auth_app_id", trade.auth_app_id.clone()),
        ("charset", "utf-8".to_owned()),
        ("version", "1.0".to_owned()),
        ("trade_no", trade.trade_no.clone()),
        ("out_trade_no", terms.out_trade_no.clone()),
        ("buyer_id", BUYER_ID.to_owned()),
        ("buyer_logon_id", BUYER_LOGON_ID.to_owned()),
        ("seller_id", trade.seller_id.clone()),
        ("seller_email", "shop@example.com".to_owned()),
        ("trade_status", trade.status.word().to_owned()),
        ("total_amount", total.clone()),
        ("subject", terms.subject.clone()),
        ("gmt_create", local(trade.created_ms)),
        // New fields appear without warning.
        ("channel_remark", "渠道备注 & 说明".to_owned()),
    ]);
    for (name, value) in [
        ("body", &terms.body),
        ("passback_params", &terms.passback_params),
    ] {
        if let Some(value) = value {
            form.set(name, value.clone());
        }
    }
    if let Some(paid_ms) = trade.paid_ms {
        let bills = json!([{ "amount": total, "fundChannel": "ALIPAYACCOUNT" }]);
        for name in ["receipt_amount", "invoice_amount", "buyer_pay_amount"] {
            form.set(name, total.clone());
        }
        form.set("point_amount", "0.00".to_owned());
        form.set("gmt_payment", local(paid_ms));
        form.set("fund_bill_list", bills.to_string());
    }
    if let Some(closed_ms) = trade.closed_ms {
        form.set("gmt_close", local(closed_ms));
    }
    if let NoticeEvent::Refunded(number) = event {
        let refund = trade.refunds.iter().find(|refund| refund.number == *number);
        let moved_ms = refund.and_then(|refund| refund.moved_ms);
        // A running total, not this refund's amount.
        form.set("refund_fee", yuan(trade.refunded_fen()));
        form.set("out_biz_no", number.clone());
        form.set("gmt_refund", moved_ms.map(local_millis).unwrap_or_default());
    }
    form
}

async fn deliver(state: &AlipayState, notice: AlipayNotice, fault: Option<AlipayFault>) {
    let first_ms = state.now_ms();
    match fault {
        Some(AlipayFault::NoticeWrongAmount) => {
            let mut wrong = notice.clone();
            wrong.form.set("total_amount", "99999.99".to_owned());
            send(state, &wrong, None).await;
        }
        Some(AlipayFault::NoticeWrongSeller) => {
            let mut wrong = notice.clone();
            wrong.form.set("seller_id", "2088000000000000".to_owned());
            send(state, &wrong, None).await;
        }
        Some(AlipayFault::NoticeForged) => {
            send(state, &notice, Some(&state.forging_key)).await;
        }
        Some(AlipayFault::NoticeConcurrent) => {
            let first = send(state, &notice, None);
            let acknowledged = tokio::join!(first, send(state, &notice, None));
            if acknowledged.0 || acknowledged.1 {
                return;
            }
        }
        _ => (),
    }
    if !send(state, &notice, None).await {
        repeat(state, &notice, first_ms).await;
    }
    if fault == Some(AlipayFault::NoticeTwice) {
        send(state, &notice, None).await;
    }
}

/// The repetitions after the first time.
async fn repeat(state: &AlipayState, notice: &AlipayNotice, first_ms: i64) {
    for minutes in SENT_AT_MIN.into_iter().skip(1) {
        let after_ms = minutes.saturating_mul(MINUTE_MS);
        state
            .clock
            .wait_until(first_ms.saturating_add(after_ms))
            .await;
        if send(state, notice, None).await {
            return;
        }
    }
}

/// Adds the signature: `sign` and `sign_type` are not covered.
pub(super) fn sign(form: &mut AlipayParameters, key: &RsaPrivateKey) {
    let signature = keys::sign(key, &form.signed_text(&["sign", "sign_type"]));
    form.set("sign_type", "RSA2".to_owned());
    form.set("sign", signature);
}

/// Sends a notification once; whether it was acknowledged.
async fn send(state: &AlipayState, notice: &AlipayNotice, key: Option<&RsaPrivateKey>) -> bool {
    let Some(current) = state.key() else {
        return false;
    };
    let mut form = notice.form.clone();
    form.set("notify_time", local(state.now_ms()));
    sign(&mut form, key.unwrap_or(&current.private));
    let request = Request::builder()
        .method(Method::POST)
        .uri(&notice.to)
        .header(
            CONTENT_TYPE,
            "application/x-www-form-urlencoded; charset=utf-8",
        )
        .body(Bytes::from(form.encoded()));
    let acknowledged = match request {
        Ok(request) => match state.caller.send(request).await {
            Ok(answer) => answer.status() == 200 && answer.body().as_ref() == b"success",
            Err(fault) => {
                tracing::info!(%fault, "a notification was not acknowledged");
                false
            }
        },
        Err(_) => false,
    };
    let more = u32::from(acknowledged);
    state
        .books
        .change(|books| books.count_notice(&notice.key, more));
    acknowledged
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vendor's notification: values decoded once, `sign` and `sign_type` left out.
    #[test]
    fn the_signed_text_is_that_of_the_vendors_notification() {
        let body = b"notify_type=trade_status_sync&sign_type=RSA2&buyer_logon_id=138%2A%2A%2A%2A0000\
            &fund_bill_list=%5B%7B%22amount%22%3A%2210.01%22%7D%5D&gmt_create=2026-01-01+08%3A00%3A20\
            &passback_params=chatbot%253D1065%2526s%253D1&body=&sign=b3w%2B";
        let form = AlipayParameters::merged("", body).unwrap();
        assert_eq!(
            form.signed_text(&["sign", "sign_type"]),
            "buyer_logon_id=138****0000&fund_bill_list=[{\"amount\":\"10.01\"}]&\
             gmt_create=2026-01-01 08:00:20&notify_type=trade_status_sync&\
             passback_params=chatbot%3D1065%26s%3D1"
        );
    }
}
