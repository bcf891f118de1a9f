//! Faults on order: what an answer is, and whether its call was carried out; the lost host; the
//! control interface.

use http::{Method, Request};
use paymux::sandbox::wechatpay::{AnswerFault, Carried, WechatCall, WechatErrorCode};
use serde_json::{Value, json};

use super::client::WechatReply;
use super::{MCHID, PLATFORM_SERIAL, WechatTestbed};

/// Section 15: any code, with the call carried out or not.
#[tokio::test]
async fn a_code_is_answered_when_ordered() {
    let bed = WechatTestbed::build().await;
    let control = bed.wechat.control();
    for (at, (code, status)) in [
        (WechatErrorCode::SystemError, 500),
        (WechatErrorCode::BankError, 500),
        (WechatErrorCode::ServiceUnavailable, 503),
        (WechatErrorCode::FrequencyLimited, 429),
        (WechatErrorCode::UserPaying, 202),
    ]
    .into_iter()
    .enumerate()
    {
        for (carried, known) in [(Carried::Not, 404), (Carried::Out, 200)] {
            let number = format!("ORDER-{at}-{known}");
            control.next_answer(WechatCall::Prepay, AnswerFault::Code(code), carried);
            let reply = bed.place("native", &number).await;
            assert_eq!(reply.refusal(), (status, code.word()));
            assert!(reply.is_signed(PLATFORM_SERIAL));
            assert_eq!(bed.query(&number).await.status, known, "{code:?}");
        }
    }
    bed.place("native", "ORDER-1").await;
    let paying = AnswerFault::Code(WechatErrorCode::UserPaying);
    control.next_answer(WechatCall::Close, paying, Carried::Not);
    assert_eq!(bed.close("ORDER-1").await.refusal(), (202, "USERPAYING"));
    assert_eq!(bed.query("ORDER-1").await.json["trade_state"], "NOTPAY");
    assert_eq!(bed.close("ORDER-1").await.status, 204);
}

/// Section 11.3: 429 says nothing about whether a refund was taken.
#[tokio::test]
async fn a_refund_is_taken_and_answered_429_when_ordered() {
    let bed = WechatTestbed::build().await;
    bed.paid("ORDER-1").await;
    let busy = AnswerFault::Code(WechatErrorCode::FrequencyLimited);
    let control = bed.wechat.control();
    control.next_answer(WechatCall::Refund, busy, Carried::Out);
    let reply = bed.refund("ORDER-1", "R1", 300).await;
    assert_eq!(reply.refusal(), (429, "FREQUENCY_LIMITED"));
    assert_eq!(bed.query_refund("R1").await.json["status"], "PROCESSING");
    assert_eq!(bed.refund("ORDER-1", "R1", 300).await.status, 200);
    control.advance(60);
    control.next_answer(WechatCall::Refund, busy, Carried::Not);
    assert_eq!(bed.refund("ORDER-1", "R2", 300).await.status, 429);
    assert_eq!(bed.query_refund("R2").await.status, 404);
    for (number, carried, known) in [("R3", Carried::Not, 404), ("R4", Carried::Out, 200)] {
        control.advance(60);
        control.next_answer(WechatCall::Refund, AnswerFault::Lost, carried);
        let body = bed.refund_body("ORDER-1", number, 10);
        let lost = bed.try_post("/v3/refund/domestic/refunds", &body).await;
        assert!(lost.is_none(), "{number}");
        assert_eq!(bed.query_refund(number).await.status, known, "{number}");
    }
    let poor = AnswerFault::Code(WechatErrorCode::NotEnough);
    control.next_answer(WechatCall::Refund, poor, Carried::Not);
    assert_eq!(
        bed.refund("ORDER-1", "R2", 300).await.refusal(),
        (403, "NOT_ENOUGH")
    );
}

/// Section 2: the first host is lost after it took a call; the second has the same books.
#[tokio::test]
async fn the_first_host_is_lost_after_it_took_a_call() {
    let bed = WechatTestbed::build().await;
    let control = bed.wechat.control();
    control.next_answer(WechatCall::Prepay, AnswerFault::FirstHostLost, Carried::Out);
    let order = bed.order("native", "ORDER-1");
    let path = "/v3/pay/transactions/native";
    assert!(bed.try_post(path, &order).await.is_none());
    assert!(bed.try_post(path, &order).await.is_none(), "it stays lost");
    let second = bed.client.at(bed.wechat.second_origin());
    let query = format!("/v3/pay/transactions/out-trade-no/ORDER-1?mchid={MCHID}");
    let reply = second
        .send(bed.request(Method::GET, &query, ""))
        .await
        .unwrap();
    assert_eq!(reply.json["trade_state"], "NOTPAY");
    let again = bed.request(Method::POST, path, &order.to_string());
    assert_eq!(second.send(again).await.unwrap().status, 200);
    assert_eq!(bed.wechat.books().orders().count(), 1);
    control.restore_first_host();
    assert_eq!(bed.query("ORDER-1").await.status, 200);
}

/// Sections 4 and 17: answers that are none, not signed, or signed wrong.
#[tokio::test]
async fn an_answer_is_missing_or_wrong_when_ordered() {
    let bed = WechatTestbed::build().await;
    bed.place("native", "ORDER-1").await;
    let control = bed.wechat.control();
    let path = format!("/v3/pay/transactions/out-trade-no/ORDER-1?mchid={MCHID}");
    let ask = async |fault| -> Option<WechatReply> {
        control.next_answer(WechatCall::Query, fault, Carried::Out);
        bed.client.send(bed.request(Method::GET, &path, "")).await
    };
    assert!(ask(AnswerFault::Silence).await.is_none());
    assert!(ask(AnswerFault::Lost).await.is_none());
    let html = ask(AnswerFault::Html).await.unwrap();
    assert_eq!(
        (html.status, html.header("content-type")),
        (502, "text/html")
    );
    assert!(html.headers.get("wechatpay-signature").is_none());
    let bare = ask(AnswerFault::Unsigned).await.unwrap();
    assert_eq!(bare.json["trade_state"], "NOTPAY");
    assert!(bare.headers.get("wechatpay-signature").is_none());
    let probe = ask(AnswerFault::Probe).await.unwrap();
    let signature = probe.header("wechatpay-signature");
    assert!(signature.starts_with("WECHATPAY/SIGNTEST/"));
    for fault in [AnswerFault::UnknownSerial, AnswerFault::ForeignKey] {
        let reply = ask(fault).await.unwrap();
        assert!(!reply.is_signed(PLATFORM_SERIAL), "{fault:?}");
    }
    let old = ask(AnswerFault::OldTimestamp).await.unwrap();
    let signed_s: i64 = old.header("wechatpay-timestamp").parse().unwrap();
    assert!(old.is_signed(PLATFORM_SERIAL) && control.now_s() - signed_s >= 600);
    let unlisted = ask(AnswerFault::UnlistedState).await.unwrap();
    assert_eq!(unlisted.json["trade_state"], "SETTLING");
    assert!(unlisted.is_signed(PLATFORM_SERIAL));
    assert!(bed.query("ORDER-1").await.is_signed(PLATFORM_SERIAL));
}

/// A page or a program in another language steers it as well.
#[tokio::test]
async fn the_control_interface_steers_it_over_http() {
    let bed = WechatTestbed::build().await;
    let control = async |what: &str, order: Value| {
        let request = Request::post(format!("/control/{what}")).body(order.to_string().into());
        let reply = bed.client.send(request.unwrap()).await.unwrap();
        (reply.status, reply.json)
    };
    let order = json!({ "call": "prepay", "fault": "SYSTEM_ERROR", "carried_out": false });
    assert_eq!(control("next", order).await.0, 200);
    assert_eq!(bed.place("native", "ORDER-1").await.status, 500);
    assert_eq!(bed.place("native", "ORDER-1").await.status, 200);
    assert_eq!(
        control("next", json!({ "fault": "duplicate" })).await.0,
        200
    );
    let paid = control("pay", json!({ "out_trade_no": "ORDER-1" })).await;
    assert_eq!(paid.1["outcome"], "Paid");
    bed.receiver.messages(2).await;
    bed.refund("ORDER-1", "R1", 300).await;
    let moved = json!({ "out_refund_no": "R1", "status": "ABNORMAL" });
    assert_eq!(control("refund", moved).await.1["moved"], true);
    let before_s = bed.wechat.control().now_s();
    assert_eq!(control("clock", json!({ "advance_s": 3600 })).await.0, 200);
    assert!(bed.wechat.control().now_s() >= before_s + 3_600);
    let keys = json!({ "mchid": MCHID, "phase": "public_key" });
    assert_eq!(control("keys", keys).await.0, 200);
    assert!(bed.query("ORDER-1").await.is_signed(super::PUBLIC_KEY_ID));
    assert_eq!(control("hosts", json!({ "first": "lost" })).await.0, 200);
    let path = "/v3/certificates";
    let lost = bed.client.send(bed.request(Method::GET, path, "")).await;
    assert!(lost.is_none());
    assert_eq!(control("hosts", json!({ "first": "back" })).await.0, 200);
    for (what, order) in [
        ("next", json!({ "fault": "nothing" })),
        ("next", json!({ "fault": "duplicate", "call": "prepay" })),
        ("keys", json!({ "mchid": MCHID, "phase": "x" })),
        ("pay", json!({ "number": "1" })),
    ] {
        assert_eq!(control(what, order).await.0, 400, "{what}");
    }
    let books = bed
        .client
        .send(Request::get("/control/books").body("".into()).unwrap());
    let books = books.await.unwrap().json;
    assert_eq!(books["orders"][0]["trade_state"], "REFUND");
    assert_eq!(books["refunds"][0]["status"], "ABNORMAL");
    let faults = bed
        .client
        .send(Request::get("/control/faults").body("".into()).unwrap());
    assert_eq!(
        faults.await.unwrap().json["notifications"]
            .as_array()
            .unwrap()
            .len(),
        11
    );
}
