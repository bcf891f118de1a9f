//! Refunds at a pretend institution: its word, its book and its callbacks, and what of them goes
//! wrong when ordered.

use std::sync::Arc;

use paymux::sandbox::{
    Answer, Book, Call, ExchangeFault, Fault, MerchantFault, RefundStanding, Refunding,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{PATIENCE, Town, event, shop};

impl Town {
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

    async fn try_refund(&self, body: &Value) -> Result<Answer, ExchangeFault> {
        self.caller.post("/v1/refunds", body).await
    }

    async fn refund(&self, order: &str, number: &str, sum: &str) -> Answer {
        let body = self.refund_of(order, number, sum);
        self.try_refund(&body).await.unwrap()
    }

    async fn ask_refund(&self, number: &str) -> Answer {
        let body = json!({ "merchantId": "acct1", "merchantRefundNo": number });
        self.caller.post("/v1/refunds/query", &body).await.unwrap()
    }

    async fn refund_acknowledged(&self, number: &str, times: u32) {
        let heard = |book: &Book| (book.refund(number)?.acknowledged >= times).then_some(());
        let heard = self.institution.wait_for(heard, PATIENCE).await;
        assert!(heard.is_some(), "no callback of {number} was acknowledged");
    }

    /// Proven callbacks of one refund, in order.
    fn heard_of(&self, number: &str) -> Vec<Value> {
        let mut bodies = self.listener.bodies();
        bodies.retain(|body| body["merchantRefundNo"] == number);
        bodies
    }

    fn returned_cents(&self) -> i64 {
        self.institution.books().returned_cents()
    }
}

fn verdict(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.text("code"))
}

/// R-A3.4-2, R-A3.4-4, R-A2.7-5
#[tokio::test]
async fn a_refund_is_answered_called_back_and_told() {
    let town = Town::build().await;
    town.pay("A1", "12.00").await;
    let answer = town.refund("A1", "F1", "5").await;
    assert_eq!(answer.status, 200, "{:?}", answer.json);
    assert_eq!(answer.proof.as_ref().unwrap().owner, "harbour");
    let book = town.institution.books();
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
    town.refund_acknowledged("F1", 1).await;
    let mut callback = town.heard_of("F1").remove(0);
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
    let told = town.caller.post("/v1/refunds/query", &by_theirs).await;
    assert_eq!(told.unwrap().json, answer.json);
    assert_eq!(town.ask_refund("F1").await.json, answer.json);
}

/// R-6.1.5-2
#[tokio::test]
async fn full_partial_and_repeated_refunds_never_exceed_what_was_paid() {
    let town = Town::build().await;
    town.pay("A1", "12.00").await;
    for (number, sum, after) in [("F1", "5.00", "PARTIAL"), ("F2", "7.00", "FULL")] {
        let refunded = town.refund("A1", number, sum).await;
        assert_eq!(refunded.text("orderRefundStatus"), after);
    }
    let over = town.refund("A1", "F3", "0.01").await;
    assert_eq!(verdict(&over), (409, "refund_over_rest"));
    assert!(over.proof.is_ok(), "refusals are signed as well");
    town.pay("A2", "9.00").await;
    let over = town.refund("A2", "F4", "9.01").await;
    assert_eq!(verdict(&over), (409, "refund_over_rest"));
    let whole = town.refund("A2", "F5", "9.00").await;
    assert_eq!(whole.text("orderRefundStatus"), "FULL");
    assert_eq!(town.returned_cents(), 2_100);
}

/// R-6.1.5-2
#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_return_no_more_than_was_paid() {
    let town = Arc::new(Town::build().await);
    town.pay("A1", "12.00").await;
    let mut calls = JoinSet::new();
    for number in 0..12 {
        let town = Arc::clone(&town);
        calls.spawn(async move { town.refund("A1", &format!("F{number}"), "3.50").await });
    }
    let answers = calls.join_all().await;
    let taken = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!((taken, town.returned_cents()), (3, 1_050));
}

/// K2
#[tokio::test]
async fn an_equal_refund_brings_the_present_state_and_another_is_refused() {
    let town = Town::build().await;
    town.pay("A1", "12.00").await;
    town.pay("A2", "12.00").await;
    let first = town.refund("A1", "F1", "12.00").await;
    // Nothing is left; the number is looked up before that is noticed.
    let again = town.refund("A1", "F1", "12").await;
    assert_eq!((again.status, &again.json), (200, &first.json));
    for (order, sum) in [("A1", "11.00"), ("A2", "12.00")] {
        let other = town.refund(order, "F1", sum).await;
        assert_eq!(verdict(&other), (409, "refund_conflict"));
    }
    let mut elsewhere = town.refund_of("A1", "F1", "12.00");
    elsewhere["noticeUrl"] = json!("https://elsewhere.example/");
    let other = town.try_refund(&elsewhere).await.unwrap();
    assert_eq!(verdict(&other), (409, "refund_conflict"));
    assert_eq!(town.returned_cents(), 1_200);
}

/// K2
#[tokio::test]
async fn a_refund_without_a_number_is_known_by_order_and_sum() {
    let town = Town::build().await;
    town.pay("A1", "12.00").await;
    let bare = |sum: &str| {
        json!({
            "merchantId": "acct1", "merchantOrderNo": "A1", "orderDate": "20260102",
            "refundAmount": sum, "mobileNo": "13800138000",
        })
    };
    let first = town.try_refund(&bare("3.00")).await.unwrap();
    let again = town.try_refund(&bare("3.00")).await.unwrap();
    assert_eq!(first.json, again.json);
    let made = town.ask_refund(first.text("merchantRefundNo")).await;
    assert_eq!(made.json, first.json);
    let other = town.try_refund(&bare("4.00")).await.unwrap();
    assert_ne!(other.text("refundOrderNo"), first.text("refundOrderNo"));
    assert_eq!(town.returned_cents(), 700);
    let refunds = town.institution.books();
    assert!(refunds.refunds().all(|refund| refund.callbacks == 0));
}

/// K3, R-A3.4-3
#[tokio::test]
async fn refunds_of_others_and_of_what_was_not_paid_are_refused() {
    let town = Town::build().await;
    town.create("A0", "12.00").await;
    town.pay("A1", "12.00").await;
    let unpaid = town.refund("A0", "F1", "1.00").await;
    assert_eq!(verdict(&unpaid), (409, "order_unpaid"));
    for (field, value) in [
        ("merchantOrderNo", "none"),
        ("orderDate", "20260103"),
        ("mobileNo", "13800138001"),
    ] {
        let mut body = town.refund_of("A1", "F1", "1.00");
        body[field] = json!(value);
        let foreign = town.try_refund(&body).await.unwrap();
        assert_eq!(verdict(&foreign), (404, "order_unknown"), "{field}");
    }
    let mut body = town.refund_of("A1", "F1", "1.00");
    body["merchantId"] = json!("acct2");
    let foreign = town.try_refund(&body).await.unwrap();
    assert_eq!(verdict(&foreign), (403, "merchant_foreign"));
    let unknown = town.ask_refund("F1").await;
    assert_eq!(verdict(&unknown), (404, "refund_unknown"));
    town.refund("A1", "F1", "1.00").await;
    let mixed = json!({ "merchantId": "acct1", "merchantRefundNo": "F1", "refundOrderNo": "R1" });
    let mixed = town.caller.post("/v1/refunds/query", &mixed).await.unwrap();
    assert_eq!(verdict(&mixed), (404, "refund_unknown"));
    assert_eq!(town.returned_cents(), 100);
}

/// R-A3.4-1
#[tokio::test]
async fn refund_calls_are_read_strictly() {
    let town = Town::build().await;
    town.pay("A1", "12.00").await;
    for field in [
        "merchantId",
        "merchantOrderNo",
        "orderDate",
        "refundAmount",
        "mobileNo",
    ] {
        let mut body = town.refund_of("A1", "F1", "1.00");
        body.as_object_mut().unwrap().remove(field);
        let refused = town.try_refund(&body).await.unwrap();
        assert_eq!(verdict(&refused), (400, "field_missing"), "{field}");
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
        let mut body = town.refund_of("A1", "F1", "1.00");
        body[field] = value;
        let refused = town.try_refund(&body).await.unwrap();
        assert_eq!(verdict(&refused), expected, "{body}");
        assert_eq!(refused.text("field"), field);
    }
    let nothing = json!({ "merchantId": "acct1" });
    let refused = town.caller.post("/v1/refunds/query", &nothing).await;
    assert_eq!(verdict(&refused.unwrap()), (400, "field_missing"));
    assert_eq!(town.institution.books().refunds().count(), 0);
    let mut longest = town.refund_of("A1", &"F".repeat(32), "1.00");
    longest["refundReason"] = json!("茶".repeat(128));
    longest["refundAmount"] = json!(1.5);
    let taken = town.try_refund(&longest).await.unwrap();
    assert_eq!(taken.text("refundAmount"), "1.50");
}

/// R-6.1.5-2
#[tokio::test]
async fn kinds_of_refunds_that_are_lacked_are_refused_with_a_reason() {
    let no_parts = Town::build_with(Refunding {
        partial: false,
        repeated: true,
    })
    .await;
    no_parts.pay("A1", "12.00").await;
    let part = no_parts.refund("A1", "F1", "11.99").await;
    assert_eq!(verdict(&part), (422, "refund_not_supported"));
    assert_eq!(part.text("reason"), "PARTIAL_REFUND");
    let whole = no_parts.refund("A1", "F2", "12.00").await;
    assert_eq!(whole.text("refundStatus"), "SUCCEEDED");
    let once = Town::build_with(Refunding {
        partial: true,
        repeated: false,
    })
    .await;
    once.pay("A1", "12.00").await;
    // One that failed is none.
    once.refund("A1", "F1", "1.92").await;
    let first = once.refund("A1", "F2", "1.00").await;
    assert_eq!(first.text("refundStatus"), "SUCCEEDED");
    let second = once.refund("A1", "F3", "1.00").await;
    assert_eq!(verdict(&second), (422, "refund_not_supported"));
    assert_eq!(second.text("reason"), "REPEATED_REFUND");
    let again = once.refund("A1", "F2", "1.00").await;
    assert_eq!(again.json, first.json);
    assert_eq!(once.returned_cents(), 100);
}

/// E5
#[tokio::test]
async fn an_answer_that_goes_wrong_leaves_a_booked_refund() {
    let town = Town::build().await;
    town.pay("A1", "99.00").await;
    for (number, sum) in [("F62", "1.62"), ("F63", "1.63")] {
        let body = town.refund_of("A1", number, sum);
        assert!(town.try_refund(&body).await.is_err(), "{sum}");
    }
    assert_eq!(town.refund("A1", "F61", "1.61").await.status, 200);
    assert_eq!(town.refund("A1", "F65", "1.65").await.status, 500);
    assert!(town.refund("A1", "F66", "1.66").await.proof.is_err());
    let unlisted = town.refund("A1", "F67", "1.67").await;
    assert_eq!(unlisted.text("refundStatus"), "SETTLING");
    assert_eq!(unlisted.text("orderStatus"), "PAID");
    for number in ["F61", "F62", "F63", "F65", "F66", "F67"] {
        let told = town.ask_refund(number).await;
        assert_eq!(told.text("refundStatus"), "SUCCEEDED", "{number}");
        assert!(told.proof.is_ok());
    }
    // A repeat is answered as it should be.
    assert_eq!(town.refund("A1", "F65", "1.65").await.status, 200);
    assert_eq!(town.returned_cents(), 161 + 162 + 163 + 165 + 166 + 167);
}

/// E5
#[tokio::test]
async fn a_broken_refund_call_books_nothing() {
    let town = Town::build().await;
    town.pay("A1", "12.00").await;
    let broken = town.refund("A1", "F64", "1.64").await;
    assert_eq!(verdict(&broken), (503, "unavailable"));
    let unknown = town.ask_refund("F64").await;
    assert_eq!(verdict(&unknown), (404, "refund_unknown"));
    assert_eq!(town.returned_cents(), 0);
}

/// Q3, C3
#[tokio::test]
async fn faults_are_ordered_for_each_refund_call_by_its_word() {
    let town = Town::build().await;
    town.pay("A1", "12.00").await;
    for (fault, call) in [
        ("refund_takes_time", "refund"),
        ("forged_answer", "refund_query"),
        ("server_error", "refund"),
    ] {
        let order = json!({ "fault": fault, "call": call });
        let ordered = town.caller.post("/control/next", &order).await.unwrap();
        assert_eq!(ordered.text("call"), call);
    }
    assert_eq!(town.ask("/v1/orders/query", "A1").await.status, 200);
    assert_eq!(town.refund("A1", "F1", "1.00").await.status, 503);
    let refund = town.refund("A1", "F1", "1.00").await;
    assert_eq!(refund.text("refundStatus"), "PROCESSING");
    assert!(town.ask_refund("F1").await.proof.is_err());
    assert!(town.ask_refund("F1").await.proof.is_ok());
    let order = json!({ "fault": "slow_answer", "call": "refunds" });
    let unknown = town.caller.post("/control/next", &order).await.unwrap();
    assert_eq!(unknown.text("field"), "call");
}

/// E2, E3
#[tokio::test]
async fn refunds_take_time_and_fail_when_ordered() {
    let town = Town::build().await;
    town.pay("A1", "12.00").await;
    let answer = town.refund("A1", "F91", "2.91").await;
    let said = |answer: &Answer| {
        ["result", "refundStatus", "orderRefundStatus"].map(|field| answer.text(field).to_owned())
    };
    assert_eq!(said(&answer), ["ACCEPTED", "PROCESSING", "NONE"]);
    assert!(answer.json.get("refundTime").is_none());
    town.refund_acknowledged("F91", 1).await;
    let told = town.ask_refund("F91").await;
    assert_eq!(said(&told), ["ACCEPTED", "SUCCEEDED", "PARTIAL"]);
    assert_eq!(
        town.heard_of("F91")[0]["refundTime"],
        told.json["refundTime"]
    );

    let answer = town.refund("A1", "F92", "2.92").await;
    assert_eq!(said(&answer), ["REFUSED", "FAILED", "PARTIAL"]);
    assert_eq!(answer.text("reason"), "NO_FUNDS");
    town.refund_acknowledged("F92", 1).await;
    assert_eq!(town.heard_of("F92")[0]["eventType"], "REFUND_FAILED");

    let answer = town.refund("A1", "F93", "2.93").await;
    assert_eq!(said(&answer), ["ACCEPTED", "PROCESSING", "PARTIAL"]);
    town.refund_acknowledged("F93", 1).await;
    let told = town.ask_refund("F93").await;
    assert_eq!(said(&told), ["REFUSED", "FAILED", "PARTIAL"]);
    let callback = town.heard_of("F93").remove(0);
    assert_eq!(callback["reason"], "NO_FUNDS");
    assert!(callback.get("refundTime").is_none());
    // What failed can be asked for again, under another number.
    let rest = town.refund("A1", "F1", "9.09").await;
    assert_eq!(rest.text("orderRefundStatus"), "FULL");
    assert_eq!(town.returned_cents(), 1_200);
}

/// V4
#[tokio::test]
async fn a_refund_that_was_said_to_have_failed_succeeds_when_ordered() {
    let town = Town::build().await;
    town.pay("A1", "12.00").await;
    let answer = town.refund("A1", "F94", "2.94").await;
    assert_eq!(answer.text("refundStatus"), "FAILED");
    town.refund_acknowledged("F94", 1).await;
    let told = town.ask_refund("F94").await;
    assert_eq!(told.text("refundStatus"), "SUCCEEDED");
    assert!(told.json.get("reason").is_none());
    let events: Vec<Value> = town.heard_of("F94");
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["eventType"], "REFUND_SUCCEEDED");
    assert_eq!(town.returned_cents(), 294);
}

/// C5, V3, Q2
#[tokio::test]
async fn refund_callbacks_repeat_lie_and_vanish_when_ordered() {
    let town = Town::build().await;
    town.pay("A1", "99.00").await;
    for (number, sum, times) in [
        ("F81", "1.81", 2),
        ("F82", "1.82", 1),
        ("F83", "1.83", 2),
        ("F84", "1.84", 1),
    ] {
        town.refund("A1", number, sum).await;
        town.refund_acknowledged(number, times).await;
    }
    let twice = town.heard_of("F81");
    assert_eq!(twice[0], twice[1]);
    let sums = |body: &Value| body["refundAmount"].clone();
    let lied: Vec<Value> = town.heard_of("F83").iter().map(sums).collect();
    assert_eq!(lied, ["1.84", "1.83"].map(Value::from));
    assert_eq!(town.listener.forged(), 1);
    town.refund("A1", "F85", "1.85").await;
    let control = town.institution.control();
    control.next_at(Call::Refund, Fault::LostCallback, 1);
    town.pay("A2", "1.00").await;
    town.acknowledged("A2", 1).await;
    for (number, sum) in [("F1", "0.40"), ("F2", "0.60")] {
        town.refund("A2", number, sum).await;
    }
    town.refund_acknowledged("F2", 1).await;
    let book = town.institution.books();
    for number in ["F85", "F1"] {
        let lost = book.refund(number).unwrap();
        assert_eq!(lost.standing, RefundStanding::Succeeded);
        assert_eq!(lost.callbacks, 0, "{number}");
    }
}

/// R-A2.7-5
#[tokio::test]
async fn a_merchant_keeps_refund_events() {
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
