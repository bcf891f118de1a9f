//! Clauses 6.1.5, 6.2 and A2.7: what every mode must offer, and refunds.

use paymux::command::demo::enrolment::BLUE;
use paymux::command::demo::environment::{DemoEnvironment, WAIT_MAX};
use paymux::sandbox::SandboxNotification;
use serde_json::{Value, json};

use super::super::{PAYER, open, order, placed, states};
use super::{ClauseMode, checked};

/// The fields of a refund of an order of today.
fn refund(stage: &DemoEnvironment, sum: &str, number: &str) -> Value {
    let of = stage.tea.order("T1", "WEBVIEW", sum, PAYER);
    json!({
        "merchantId": stage.tea.role.id, "merchantOrderNo": "T1", "orderDate": of["orderDate"],
        "refundAmount": sum, "mobileNo": PAYER, "merchantRefundNo": number,
    })
}

async fn notified_of_refund(stage: &DemoEnvironment, number: &str) -> SandboxNotification {
    let event = stage.tea.merchant.wait_for(
        |inbox| inbox.refund_event("REFUND_SUCCEEDED", number).cloned(),
        WAIT_MAX,
    );
    event.await.expect("the merchant is notified of its refund")
}

/// Pays in this way, then refunds a part, and then the rest, through the institution that was paid
/// and no other.
async fn is_refunded(way: ClauseMode) {
    let (stage, _open) = open().await;
    let ready = way.ready(&stage, "T1", "12.30").await;
    way.does(&stage, &ready, "pay").await;
    stage
        .tea
        .wait_for_notification("ORDER_PAID", "T1")
        .await
        .unwrap();
    for (sum, number) in [("2.30", "R1"), ("10.00", "R2")] {
        let request = refund(&stage, sum, number);
        let answer = stage
            .tea
            .client
            .post("/v1/refunds", &request)
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{way:?}: {}", answer.json);
        notified_of_refund(&stage, number).await;
    }
    let paid = way.institution(&stage);
    assert_eq!(paid.books().returned_cents(), 1_230, "{way:?}");
    for (_, other) in stage.institutions() {
        let is_paid = other.origin() == paid.origin();
        assert!(is_paid || other.books().returned_cents() == 0, "{way:?}");
    }
}

/// R-6.2.1-2, R-6.1.5-1, R-A1-12
#[tokio::test(flavor = "multi_thread")]
async fn a_webview_payment_is_refunded() {
    is_refunded(ClauseMode::Webview).await;
}

/// R-6.2.3-2
#[tokio::test(flavor = "multi_thread")]
async fn a_native_payment_is_refunded() {
    is_refunded(ClauseMode::Native).await;
}

/// R-6.2.4-2
#[tokio::test(flavor = "multi_thread")]
async fn an_aggregated_payment_is_refunded_through_its_institution() {
    is_refunded(ClauseMode::AggregatedWebview).await;
    is_refunded(ClauseMode::AggregatedNative).await;
}

/// R-6.2.1-1: a mode without payment is not served; with password payment it can be paid.
#[tokio::test(flavor = "multi_thread")]
async fn every_page_offers_payment() {
    let (stage, _open) = open().await;
    let shop = &stage.tea;
    let answer = placed(shop, &order(shop, "T1", "12.30", BLUE.id)).await;
    stage.payer.pay(answer.text("payUrl")).await.unwrap();
    shop.wait_for_notification("ORDER_PAID", "T1")
        .await
        .unwrap();
    let (served, printed) = checked(&stage, &[("\"password_pay\", ", "")]);
    assert!(!served && printed.contains("R-6.2.1-1"), "{printed}");
}

/// R-6.2.1-2, R-6.2.3-2, R-6.2.4-2: an institution without refunds is served in no mode.
#[tokio::test(flavor = "multi_thread")]
async fn an_institution_without_refunds_is_not_served() {
    let stage = DemoEnvironment::set(crate::socket::ports::free(), "")
        .await
        .unwrap();
    let refunds = "\"full_refund\", \"partial_refund\", \"repeated_refund\", ";
    let (served, printed) = checked(&stage, &[(refunds, "")]);
    assert!(!served);
    for id in ["R-6.2.1-2", "R-6.2.3-2", "R-6.2.4-2"] {
        assert!(printed.contains(id), "{id} is not in {printed}");
    }
}

/// R-A2.7-4a, K3: only the merchant of an order can refund it, whoever else knows its number, day
/// and payer.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_merchant_of_an_order_refunds_it() {
    let (stage, _open) = open().await;
    let ready = ClauseMode::Webview.ready(&stage, "T1", "12.30").await;
    ClauseMode::Webview.does(&stage, &ready, "pay").await;
    stage
        .tea
        .wait_for_notification("ORDER_PAID", "T1")
        .await
        .unwrap();
    let theirs = refund(&stage, "12.30", "R1");
    let mut own = theirs.clone();
    own["merchantId"] = json!(stage.books.role.id);
    for (request, status) in [(&theirs, 403), (&own, 404)] {
        let client = &stage.books.client;
        let answer = client.post("/v1/refunds", request).await.unwrap();
        assert_eq!(answer.status, status, "{}", answer.json);
    }
    assert_eq!(stage.red.books().returned_cents(), 0);
    assert_eq!(states(&stage.tea, "T1").await.0, "PAID");
    let answer = stage.tea.client.post("/v1/refunds", &theirs).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.json);
    notified_of_refund(&stage, "R1").await;
}
