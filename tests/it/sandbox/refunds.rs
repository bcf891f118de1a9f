//! Refunds at a sandbox institution: its replies, its books and its callbacks, and the faults that
//! a test orders.

use std::sync::Arc;

use paymux::sandbox::{
    ClientResponse, ExchangeFault, InstitutionFault, InstitutionLedger, MerchantFault,
    RefundCapabilities, SandboxCall, SandboxRefundState,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{SandboxTestbed, TIMEOUT, event, shop};

impl SandboxTestbed {
    async fn pay(&self, number: &str, sum: &str) {
        let created = self.create(number, sum).await;
        self.payer.pay(created.text("payUrl")).await.unwrap();
    }

    fn refund_of(&self, order: &str, number: &str, sum: &str) -> Value {
        json!({
            "merchantId": "acct1", "merchantOrderNo": order, "orderDate": "20260102",
            "refundAmount": sum, "mobileNo": "13800138000", "merchantRefundNo": number,
            "refundReason": "茶凉了", "noticeUrl": self.listener.url("/v1/callbacks/harbour"),
        })
    }

    async fn try_refund(&self, body: &Value) -> Result<ClientResponse, ExchangeFault> {
        self.caller.post("/v1/refunds", body).await
    }

    async fn refund(&self, order: &str, number: &str, sum: &str) -> ClientResponse {
        let body = self.refund_of(order, number, sum);
        self.try_refund(&body).await.unwrap()
    }

    async fn ask_refund(&self, number: &str) -> ClientResponse {
        let body = json!({ "merchantId": "acct1", "merchantRefundNo": number });
        self.caller.post("/v1/refunds/query", &body).await.unwrap()
    }

    async fn refund_acknowledged(&self, number: &str, times: u32) {
        let acknowledged =
            |book: &InstitutionLedger| (book.refund(number)?.acknowledged >= times).then_some(());
        let acknowledged = self.institution.wait_for(acknowledged, TIMEOUT).await;
        assert!(
            acknowledged.is_some(),
            "no callback of {number} was acknowledged"
        );
    }

    /// Authentic callbacks of one refund, in order.
    fn received_about(&self, number: &str) -> Vec<Value> {
        let mut bodies = self.listener.bodies();
        bodies.retain(|body| body["merchantRefundNo"] == number);
        bodies
    }

    fn returned_cents(&self) -> i64 {
        self.institution.books().returned_cents()
    }
}

fn decision(answer: &ClientResponse) -> (u16, &str) {
    (answer.status, answer.text("code"))
}

/// R-A3.4-2, R-A3.4-4, R-A2.7-5
#[tokio::test]
async fn a_refund_is_answered_called_back_and_notified() {
    let gateway = SandboxTestbed::build().await;
    gateway.pay("A1", "12.00").await;
    let answer = gateway.refund("A1", "F1", "5").await;
    assert_eq!(answer.status, 200, "{:?}", answer.json);
    assert_eq!(answer.proof.as_ref().unwrap().owner, "harbour");
    let book = gateway.institution.books();
    let (payment, refund) = (book.payment("A1").unwrap(), book.refund("F1").unwrap());
    let time = answer.text("refundTime").to_owned();
    assert!(time.len() == 25 && time.ends_with("+08:00"), "{time}");
    let expected = json!({
        "result": "ACCEPTED", "orderStatus": "PAID", "merchantId": "acct1",
        "merchantOrderNo": "A1", "payOrderNo": payment.institution_no, "refundAmount": "5.00",
        "currency": "CNY", "refundOrderNo": refund.refund_no, "merchantRefundNo": "F1",
        "refundStatus": "SUCCEEDED", "orderRefundStatus": "PARTIAL", "refundTime": time,
    });
    assert_eq!(answer.json, expected);
    gateway.refund_acknowledged("F1", 1).await;
    let mut callback = gateway.received_about("F1").remove(0);
    let paid = callback["paymentTime"].take();
    assert_eq!(paid.as_str().map(str::len), Some(6));
    let day = callback["paymentDate"].take();
    assert_eq!(day.as_str().map(str::len), Some(8));
    let expected = json!({
        "merchantOrderNo": "A1", "merchantName": "Tea House", "orderDate": "20260102",
        "orderAmount": "12.00", "merchantId": "acct1", "mobileNo": "13800138000",
        "paymentDate": null, "paymentTime": null, "payOrderNo": payment.institution_no,
        "orderStatus": "PAID", "eventId": callback["eventId"], "eventType": "REFUND_SUCCEEDED",
        "currency": "CNY", "refundOrderNo": refund.refund_no, "merchantRefundNo": "F1",
        "refundAmount": "5.00", "refundStatus": "SUCCEEDED", "refundTime": time,
    });
    assert_eq!(callback, expected);
    let by_theirs = json!({ "merchantId": "acct1", "refundOrderNo": refund.refund_no });
    let reply = gateway.caller.post("/v1/refunds/query", &by_theirs).await;
    assert_eq!(reply.unwrap().json, answer.json);
    assert_eq!(gateway.ask_refund("F1").await.json, answer.json);
}

/// R-6.1.5-2
#[tokio::test]
async fn full_partial_and_repeated_refunds_never_exceed_what_was_paid() {
    let gateway = SandboxTestbed::build().await;
    gateway.pay("A1", "12.00").await;
    for (number, sum, after) in [("F1", "5.00", "PARTIAL"), ("F2", "7.00", "FULL")] {
        let refunded = gateway.refund("A1", number, sum).await;
        assert_eq!(refunded.text("orderRefundStatus"), after);
    }
    let over = gateway.refund("A1", "F3", "0.01").await;
    assert_eq!(decision(&over), (409, "refund_over_rest"));
    assert!(over.proof.is_ok(), "refusals are signed as well");
    gateway.pay("A2", "9.00").await;
    let over = gateway.refund("A2", "F4", "9.01").await;
    assert_eq!(decision(&over), (409, "refund_over_rest"));
    let whole = gateway.refund("A2", "F5", "9.00").await;
    assert_eq!(whole.text("orderRefundStatus"), "FULL");
    assert_eq!(gateway.returned_cents(), 2_100);
}

/// R-6.1.5-2
#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_return_no_more_than_was_paid() {
    let gateway = Arc::new(SandboxTestbed::build().await);
    gateway.pay("A1", "12.00").await;
    let mut calls = JoinSet::new();
    for number in 0..12 {
        let gateway = Arc::clone(&gateway);
        calls.spawn(async move { gateway.refund("A1", &format!("F{number}"), "3.50").await });
    }
    let answers = calls.join_all().await;
    let taken = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!((taken, gateway.returned_cents()), (3, 1_050));
}

/// K2
#[tokio::test]
async fn an_equal_refund_brings_the_present_state_and_another_is_refused() {
    let gateway = SandboxTestbed::build().await;
    gateway.pay("A1", "12.00").await;
    gateway.pay("A2", "12.00").await;
    let first = gateway.refund("A1", "F1", "12.00").await;
    // Nothing is left; the number is looked up before that is noticed.
    let again = gateway.refund("A1", "F1", "12").await;
    assert_eq!((again.status, &again.json), (200, &first.json));
    for (order, sum) in [("A1", "11.00"), ("A2", "12.00")] {
        let other = gateway.refund(order, "F1", sum).await;
        assert_eq!(decision(&other), (409, "refund_conflict"));
    }
    let mut elsewhere = gateway.refund_of("A1", "F1", "12.00");
    elsewhere["noticeUrl"] = json!("https://elsewhere.example/");
    let other = gateway.try_refund(&elsewhere).await.unwrap();
    assert_eq!(decision(&other), (409, "refund_conflict"));
    assert_eq!(gateway.returned_cents(), 1_200);
}

/// K2
#[tokio::test]
async fn a_refund_without_a_number_is_known_by_order_and_sum() {
    let gateway = SandboxTestbed::build().await;
    gateway.pay("A1", "12.00").await;
    let bare = |sum: &str| {
        json!({
            "merchantId": "acct1", "merchantOrderNo": "A1", "orderDate": "20260102",
            "refundAmount": sum, "mobileNo": "13800138000",
        })
    };
    let first = gateway.try_refund(&bare("3.00")).await.unwrap();
    let again = gateway.try_refund(&bare("3.00")).await.unwrap();
    assert_eq!(first.json, again.json);
    let made = gateway.ask_refund(first.text("merchantRefundNo")).await;
    assert_eq!(made.json, first.json);
    let other = gateway.try_refund(&bare("4.00")).await.unwrap();
    assert_ne!(other.text("refundOrderNo"), first.text("refundOrderNo"));
    assert_eq!(gateway.returned_cents(), 700);
    let refunds = gateway.institution.books();
    assert!(refunds.refunds().all(|refund| refund.callbacks == 0));
}

/// K3, R-A3.4-3
#[tokio::test]
async fn refunds_of_others_and_of_what_was_not_paid_are_refused() {
    let gateway = SandboxTestbed::build().await;
    gateway.create("A0", "12.00").await;
    gateway.pay("A1", "12.00").await;
    let unpaid = gateway.refund("A0", "F1", "1.00").await;
    assert_eq!(decision(&unpaid), (409, "order_unpaid"));
    for (field, value) in [
        ("merchantOrderNo", "none"),
        ("orderDate", "20260103"),
        ("mobileNo", "13800138001"),
    ] {
        let mut body = gateway.refund_of("A1", "F1", "1.00");
        body[field] = json!(value);
        let foreign = gateway.try_refund(&body).await.unwrap();
        assert_eq!(decision(&foreign), (404, "order_unknown"), "{field}");
    }
    let mut body = gateway.refund_of("A1", "F1", "1.00");
    body["merchantId"] = json!("acct2");
    let foreign = gateway.try_refund(&body).await.unwrap();
    assert_eq!(decision(&foreign), (403, "merchant_foreign"));
    let unknown = gateway.ask_refund("F1").await;
    assert_eq!(decision(&unknown), (404, "refund_unknown"));
    gateway.refund("A1", "F1", "1.00").await;
    let mixed = json!({ "merchantId": "acct1", "merchantRefundNo": "F1", "refundOrderNo": "R1" });
    let mixed = gateway
        .caller
        .post("/v1/refunds/query", &mixed)
        .await
        .unwrap();
    assert_eq!(decision(&mixed), (404, "refund_unknown"));
    assert_eq!(gateway.returned_cents(), 100);
}

/// R-A3.4-1
#[tokio::test]
async fn refund_calls_are_read_strictly() {
    let gateway = SandboxTestbed::build().await;
    gateway.pay("A1", "12.00").await;
    for field in [
        "merchantId",
        "merchantOrderNo",
        "orderDate",
        "refundAmount",
        "mobileNo",
    ] {
        let mut body = gateway.refund_of("A1", "F1", "1.00");
        body.as_object_mut().unwrap().remove(field);
        let refused = gateway.try_refund(&body).await.unwrap();
        assert_eq!(decision(&refused), (400, "field_missing"), "{field}");
        assert_eq!(refused.text("field"), field);
    }
    for (field, value, expected) in [
        ("refundAmount", json!("1e0"), (400, "amount_unreadable")),
        ("refundAmount", json!("1.001"), (422, "amount_too_precise")),
        ("refundAmount", json!(0), (422, "amount_out_of_range")),
        ("merchantRefundNo", json!("F 1"), (400, "field_malformed")),
        (
            "merchantRefundNo",
            json!("F".repeat(33)),
            (400, "field_malformed"),
        ),
        (
            "merchantRefundNo",
            json!("AUTO-1"),
            (400, "field_malformed"),
        ),
        (
            "refundReason",
            json!("茶".repeat(129)),
            (400, "field_malformed"),
        ),
        (
            "noticeUrl",
            json!("http://localhost/"),
            (400, "field_malformed"),
        ),
        ("currency", json!("CNY"), (400, "field_unknown")),
    ] {
        let mut body = gateway.refund_of("A1", "F1", "1.00");
        body[field] = value;
        let refused = gateway.try_refund(&body).await.unwrap();
        assert_eq!(decision(&refused), expected, "{body}");
        assert_eq!(refused.text("field"), field);
    }
    let nothing = json!({ "merchantId": "acct1" });
    let refused = gateway.caller.post("/v1/refunds/query", &nothing).await;
    assert_eq!(decision(&refused.unwrap()), (400, "field_missing"));
    assert_eq!(gateway.institution.books().refunds().count(), 0);
    let mut longest = gateway.refund_of("A1", &"F".repeat(32), "1.00");
    longest["refundReason"] = json!("茶".repeat(128));
    longest["refundAmount"] = json!(1.5);
    let taken = gateway.try_refund(&longest).await.unwrap();
    assert_eq!(taken.text("refundAmount"), "1.50");
}

/// R-6.1.5-2
#[tokio::test]
async fn kinds_of_refunds_that_are_lacked_are_refused_with_a_reason() {
    let no_parts = SandboxTestbed::build_with(RefundCapabilities {
        partial: false,
        repeated: true,
    })
    .await;
    no_parts.pay("A1", "12.00").await;
    let part = no_parts.refund("A1", "F1", "11.99").await;
    assert_eq!(decision(&part), (422, "refund_not_supported"));
    assert_eq!(part.text("reason"), "PARTIAL_REFUND");
    let whole = no_parts.refund("A1", "F2", "12.00").await;
    assert_eq!(whole.text("refundStatus"), "SUCCEEDED");
    let once = SandboxTestbed::build_with(RefundCapabilities {
        partial: true,
        repeated: false,
    })
    .await;
    once.pay("A1", "12.00").await;
    // A failed one does not count.
    once.refund("A1", "F1", "1.92").await;
    let first = once.refund("A1", "F2", "1.00").await;
    assert_eq!(first.text("refundStatus"), "SUCCEEDED");
    let second = once.refund("A1", "F3", "1.00").await;
    assert_eq!(decision(&second), (422, "refund_not_supported"));
    assert_eq!(second.text("reason"), "REPEATED_REFUND");
    let again = once.refund("A1", "F2", "1.00").await;
    assert_eq!(again.json, first.json);
    assert_eq!(once.returned_cents(), 100);
}

/// E5
#[tokio::test]
async fn an_answer_that_goes_wrong_leaves_a_booked_refund() {
    let gateway = SandboxTestbed::build().await;
    gateway.pay("A1", "99.00").await;
    for (number, sum) in [("F62", "1.62"), ("F63", "1.63")] {
        let body = gateway.refund_of("A1", number, sum);
        assert!(gateway.try_refund(&body).await.is_err(), "{sum}");
    }
    assert_eq!(gateway.refund("A1", "F61", "1.61").await.status, 200);
    assert_eq!(gateway.refund("A1", "F65", "1.65").await.status, 500);
    assert!(gateway.refund("A1", "F66", "1.66").await.proof.is_err());
    let unlisted = gateway.refund("A1", "F67", "1.67").await;
    assert_eq!(unlisted.text("refundStatus"), "SETTLING");
    assert_eq!(unlisted.text("orderStatus"), "PAID");
    for number in ["F61", "F62", "F63", "F65", "F66", "F67"] {
        let reply = gateway.ask_refund(number).await;
        assert_eq!(reply.text("refundStatus"), "SUCCEEDED", "{number}");
        assert!(reply.proof.is_ok());
    }
    // A repeat gets the proper reply.
    assert_eq!(gateway.refund("A1", "F65", "1.65").await.status, 200);
    assert_eq!(gateway.returned_cents(), 161 + 162 + 163 + 165 + 166 + 167);
}

/// E5
#[tokio::test]
async fn a_broken_refund_call_books_nothing() {
    let gateway = SandboxTestbed::build().await;
    gateway.pay("A1", "12.00").await;
    let broken = gateway.refund("A1", "F64", "1.64").await;
    assert_eq!(decision(&broken), (503, "unavailable"));
    let unknown = gateway.ask_refund("F64").await;
    assert_eq!(decision(&unknown), (404, "refund_unknown"));
    assert_eq!(gateway.returned_cents(), 0);
}

/// Q3, C3
#[tokio::test]
async fn faults_are_ordered_for_each_refund_call_by_its_word() {
    let gateway = SandboxTestbed::build().await;
    gateway.pay("A1", "12.00").await;
    for (fault, call) in [
        ("refund_takes_time", "refund"),
        ("forged_answer", "refund_query"),
        ("server_error", "refund"),
    ] {
        let order = json!({ "fault": fault, "call": call });
        let ordered = gateway.caller.post("/control/next", &order).await.unwrap();
        assert_eq!(ordered.text("call"), call);
    }
    assert_eq!(gateway.ask("/v1/orders/query", "A1").await.status, 200);
    assert_eq!(gateway.refund("A1", "F1", "1.00").await.status, 503);
    let refund = gateway.refund("A1", "F1", "1.00").await;
    assert_eq!(refund.text("refundStatus"), "PROCESSING");
    assert!(gateway.ask_refund("F1").await.proof.is_err());
    assert!(gateway.ask_refund("F1").await.proof.is_ok());
    let order = json!({ "fault": "slow_answer", "call": "refunds" });
    let unknown = gateway.caller.post("/control/next", &order).await.unwrap();
    assert_eq!(unknown.text("field"), "call");
}

/// E2, E3
#[tokio::test]
async fn refunds_take_time_and_fail_when_ordered() {
    let gateway = SandboxTestbed::build().await;
    gateway.pay("A1", "12.00").await;
    let answer = gateway.refund("A1", "F91", "2.91").await;
    let decision_of = |answer: &ClientResponse| {
        ["result", "refundStatus", "orderRefundStatus"].map(|field| answer.text(field).to_owned())
    };
    assert_eq!(decision_of(&answer), ["ACCEPTED", "PROCESSING", "NONE"]);
    assert!(answer.json.get("refundTime").is_none());
    gateway.refund_acknowledged("F91", 1).await;
    let reply = gateway.ask_refund("F91").await;
    assert_eq!(decision_of(&reply), ["ACCEPTED", "SUCCEEDED", "PARTIAL"]);
    assert_eq!(
        gateway.received_about("F91")[0]["refundTime"],
        reply.json["refundTime"]
    );

    let answer = gateway.refund("A1", "F92", "2.92").await;
    assert_eq!(decision_of(&answer), ["REFUSED", "FAILED", "PARTIAL"]);
    assert_eq!(answer.text("reason"), "NO_FUNDS");
    gateway.refund_acknowledged("F92", 1).await;
    assert_eq!(
        gateway.received_about("F92")[0]["eventType"],
        "REFUND_FAILED"
    );

    let answer = gateway.refund("A1", "F93", "2.93").await;
    assert_eq!(decision_of(&answer), ["ACCEPTED", "PROCESSING", "PARTIAL"]);
    gateway.refund_acknowledged("F93", 1).await;
    let reply = gateway.ask_refund("F93").await;
    assert_eq!(decision_of(&reply), ["REFUSED", "FAILED", "PARTIAL"]);
    let callback = gateway.received_about("F93").remove(0);
    assert_eq!(callback["reason"], "NO_FUNDS");
    assert!(callback.get("refundTime").is_none());
    // A failed refund can be requested again, under another number.
    let rest = gateway.refund("A1", "F1", "9.09").await;
    assert_eq!(rest.text("orderRefundStatus"), "FULL");
    assert_eq!(gateway.returned_cents(), 1_200);
}

/// V4
#[tokio::test]
async fn a_refund_reported_as_failed_succeeds_when_ordered() {
    let gateway = SandboxTestbed::build().await;
    gateway.pay("A1", "12.00").await;
    let answer = gateway.refund("A1", "F94", "2.94").await;
    assert_eq!(answer.text("refundStatus"), "FAILED");
    gateway.refund_acknowledged("F94", 1).await;
    let reply = gateway.ask_refund("F94").await;
    assert_eq!(reply.text("refundStatus"), "SUCCEEDED");
    assert!(reply.json.get("reason").is_none());
    let events: Vec<Value> = gateway.received_about("F94");
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["eventType"], "REFUND_SUCCEEDED");
    assert_eq!(gateway.returned_cents(), 294);
}

/// C5, V3, Q2
#[tokio::test]
async fn refund_callbacks_repeat_lie_and_vanish_when_ordered() {
    let gateway = SandboxTestbed::build().await;
    gateway.pay("A1", "99.00").await;
    for (number, sum, times) in [
        ("F81", "1.81", 2),
        ("F82", "1.82", 1),
        ("F83", "1.83", 2),
        ("F84", "1.84", 1),
    ] {
        gateway.refund("A1", number, sum).await;
        gateway.refund_acknowledged(number, times).await;
    }
    let twice = gateway.received_about("F81");
    assert_eq!(twice[0], twice[1]);
    let sums = |body: &Value| body["refundAmount"].clone();
    let lied: Vec<Value> = gateway.received_about("F83").iter().map(sums).collect();
    assert_eq!(lied, ["1.84", "1.83"].map(Value::from));
    assert_eq!(gateway.listener.forged(), 1);
    gateway.refund("A1", "F85", "1.85").await;
    let control = gateway.institution.control();
    control.next_at(SandboxCall::Refund, InstitutionFault::LostCallback, 1);
    gateway.pay("A2", "1.00").await;
    gateway.acknowledged("A2", 1).await;
    for (number, sum) in [("F1", "0.40"), ("F2", "0.60")] {
        gateway.refund("A2", number, sum).await;
    }
    gateway.refund_acknowledged("F2", 1).await;
    let book = gateway.institution.books();
    for number in ["F85", "F1"] {
        let lost = book.refund(number).unwrap();
        assert_eq!(lost.standing, SandboxRefundState::Succeeded);
        assert_eq!(lost.callbacks, 0, "{number}");
    }
}

/// R-A2.7-5
#[tokio::test]
async fn a_merchant_stores_refund_events() {
    let (merchant, gateway) = shop().await;
    let mut events = Vec::new();
    for (id, event_type, number) in [
        ("e1", "REFUND_SUCCEEDED", "F1"),
        ("e2", "REFUND_FAILED", "F2"),
    ] {
        let mut event = event(id, event_type);
        event["refundOrderNo"] = json!("R1");
        event["merchantRefundNo"] = json!(number);
        event["refundAmount"] = json!("1.00");
        let half = gateway.post("/notices", &event).await.unwrap();
        assert_eq!(half.text("field"), "refundStatus");
        event["refundStatus"] = json!("SUCCEEDED");
        events.push(event);
    }
    merchant.next(MerchantFault::Refuses, 1);
    for event in events.iter().chain(&events) {
        gateway.post("/notices", event).await.unwrap();
    }
    let inbox = merchant.inbox();
    assert_eq!((inbox.events.len(), inbox.deliveries.len()), (2, 4));
    let failed = inbox.refund_event("REFUND_FAILED", "F2").unwrap();
    assert_eq!(failed.event_id, "e2");
    assert!(inbox.refund_event("REFUND_SUCCEEDED", "F2").is_none());
    merchant.stop().await;
}
