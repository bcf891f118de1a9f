//! Refunds: what is taken, what is refused, how they go on.

use paymux::sandbox::wechatpay::WechatRefundState;
use serde_json::{Value, json};

use super::WechatTestbed;

const APPLY: &str = "/v3/refund/domestic/refunds";

/// Section 11: parts are refunded a minute apart until nothing is left.
#[tokio::test]
async fn parts_are_refunded_until_nothing_is_left() {
    let bed = WechatTestbed::build().await;
    bed.paid("ORDER-1").await;
    let control = bed.wechat.control();
    let first = bed.refund("ORDER-1", "R@1|a*", 600).await;
    assert_eq!(first.status, 200, "{}", first.json);
    assert_eq!(first.json["status"], "PROCESSING");
    assert!(first.json.get("success_time").is_none());
    assert_eq!(first.json["amount"]["payer_refund"], 600);
    assert_eq!(bed.query("ORDER-1").await.json["trade_state"], "REFUND");
    let soon = bed.refund("ORDER-1", "R2", 100).await;
    assert_eq!(
        soon.refusal(),
        (429, "FREQUENCY_LIMITED"),
        "within a minute"
    );
    control.advance(61);
    let over = bed.refund("ORDER-1", "R2", 402).await;
    assert_eq!(over.refusal(), (400, "INVALID_REQUEST"), "401 are left");
    assert_eq!(bed.refund("ORDER-1", "R2", 401).await.status, 200);
    control.advance(61);
    assert_eq!(
        bed.refund("ORDER-1", "R3", 1).await.refusal(),
        (400, "INVALID_REQUEST")
    );
    assert_eq!(bed.wechat.books().refunds().count(), 2);
    assert!(control.move_refund("R@1|a*", WechatRefundState::Success));
    let queried = bed.query_refund("R%401%7Ca*").await;
    assert_eq!(queried.json["status"], "SUCCESS", "{}", queried.json);
    assert!(
        queried.json["success_time"]
            .as_str()
            .unwrap()
            .ends_with("+08:00")
    );
    assert_eq!(
        bed.query_refund("R9").await.refusal(),
        (404, "RESOURCE_NOT_EXISTS")
    );
}

/// Section 11: the number is the key: an equal repeat finds the refund, another content is refused.
#[tokio::test]
async fn a_repeated_refund_moves_no_money_twice() {
    let bed = WechatTestbed::build().await;
    bed.paid("ORDER-1").await;
    let first = bed.refund("ORDER-1", "R1", 300).await;
    let again = bed.refund("ORDER-1", "R1", 300).await;
    assert_eq!((again.status, &again.json), (200, &first.json));
    let other = bed.refund("ORDER-1", "R1", 301).await;
    assert_eq!(other.refusal(), (400, "INVALID_REQUEST"));
    assert_eq!(other.reason(), "268498688");
    bed.paid("ORDER-2").await;
    assert_eq!(
        bed.refund("ORDER-2", "R1", 300).await.refusal(),
        (400, "INVALID_REQUEST")
    );
    let book = bed.wechat.books();
    assert_eq!(book.refundable_fen(book.order("ORDER-1").unwrap()), 701);
    assert_eq!(book.refundable_fen(book.order("ORDER-2").unwrap()), 1_001);
}

/// Section 11.1: what a refund must be.
#[tokio::test]
async fn a_refund_with_a_wrong_member_is_refused() {
    let bed = WechatTestbed::build().await;
    bed.place("native", "ORDER-1").await;
    let unpaid = bed.refund("ORDER-1", "R1", 1).await;
    assert_eq!(unpaid.refusal(), (400, "INVALID_REQUEST"));
    assert_eq!(
        bed.refund("ORDER-9", "R1", 1).await.refusal(),
        (404, "RESOURCE_NOT_EXISTS")
    );
    bed.wechat.control().pay("ORDER-1", None);
    for (pointer, value) in [
        ("/out_refund_no", json!("")),
        ("/out_refund_no", json!("x".repeat(65))),
        ("/out_refund_no", json!("R 1")),
        ("/transaction_id", json!("4200000000000000000000000000")),
        ("/out_trade_no", Value::Null),
        ("/reason", json!("x".repeat(81))),
        ("/notify_url", json!("https://pay.example.com/?a=b")),
        ("/funds_account", json!("SAVINGS")),
        ("/amount/refund", json!(0)),
        ("/amount/currency", json!("USD")),
        ("/amount/currency", Value::Null),
        (
            "/amount/from",
            json!([{ "account": "AVAILABLE", "amount": 1 }]),
        ),
        ("/sub_mchid", json!("1900009291")),
        ("/mchid", json!("1900009191")),
    ] {
        let mut body = bed.refund_body("ORDER-1", "R1", 300);
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        body.pointer_mut(parent).unwrap()[name] = value.clone();
        let reply = bed.post(APPLY, &body).await;
        assert_eq!(reply.refusal(), (400, "PARAM_ERROR"), "{pointer}: {value}");
    }
    let mut total = bed.refund_body("ORDER-1", "R1", 300);
    total["amount"]["total"] = json!(1_002);
    assert_eq!(
        bed.post(APPLY, &total).await.refusal(),
        (400, "INVALID_REQUEST")
    );
    bed.wechat.control().advance(366 * 86_400);
    let late = bed.refund("ORDER-1", "R1", 300).await;
    assert_eq!(late.refusal(), (400, "INVALID_REQUEST"), "after a year");
    assert_eq!(bed.wechat.books().refunds().count(), 0);
}

/// Section 11.1: at most fifty of one order.
#[tokio::test]
async fn an_order_has_at_most_fifty_refunds() {
    let bed = WechatTestbed::build().await;
    bed.paid("ORDER-1").await;
    for count in 1..=50 {
        let taken = bed.refund("ORDER-1", &format!("R{count}"), 1).await;
        assert_eq!(taken.status, 200, "{count}: {}", taken.json);
        bed.wechat.control().advance(60);
    }
    let more = bed.refund("ORDER-1", "R51", 1).await;
    assert_eq!(more.refusal(), (400, "INVALID_REQUEST"));
}

/// Section 11.3: a closed refund frees its sum, an abnormal one goes on by the merchant's word.
#[tokio::test]
async fn a_refund_that_goes_wrong_ends_one_way() {
    let bed = WechatTestbed::build().await;
    bed.paid("ORDER-1").await;
    let control = bed.wechat.control();
    bed.refund("ORDER-1", "R1", 1_001).await;
    assert!(control.move_refund("R1", WechatRefundState::Closed));
    assert!(
        !control.move_refund("R1", WechatRefundState::Success),
        "closed is final"
    );
    control.advance(60);
    let second = bed.refund("ORDER-1", "R2", 1_001).await;
    assert_eq!(second.status, 200, "{}", second.json);
    assert!(control.move_refund("R2", WechatRefundState::Abnormal));
    let id = second.json["refund_id"].as_str().unwrap();
    let path = format!("{APPLY}/{id}/apply-abnormal-refund");
    let card = json!({ "out_refund_no": "R2", "type": "MERCHANT_BANK_CARD" });
    let applied = bed.post(&path, &card).await;
    assert_eq!(applied.json["status"], "PROCESSING", "{}", applied.json);
    assert_eq!(
        bed.post(&path, &card).await.refusal(),
        (400, "INVALID_REQUEST")
    );
    assert!(control.move_refund("R2", WechatRefundState::Success));
    assert!(
        !control.move_refund("R2", WechatRefundState::Abnormal),
        "success is final"
    );
    assert_eq!(bed.query_refund("R2").await.json["status"], "SUCCESS");
    bed.receiver.messages(4).await;
}
