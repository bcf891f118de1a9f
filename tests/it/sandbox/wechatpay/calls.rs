//! Prepay, query and close of a directly contracted merchant, and what time does to an order.

use paymux::sandbox::wechatpay::{PayingOutcome, TradeState};
use serde_json::json;

use super::{MCHID, PLATFORM_SERIAL, START_S, WechatTestbed};

/// Section 7: each product hands out its own value, in a signed answer.
#[tokio::test]
async fn each_product_hands_out_its_own_value() {
    let bed = WechatTestbed::build().await;
    for (product, member, head) in [
        ("jsapi", "prepay_id", "wx20260101"),
        ("app", "prepay_id", "wx20260101"),
        ("h5", "h5_url", "https://"),
        ("native", "code_url", "weixin://wxpay/bizpayurl?pr="),
    ] {
        let reply = bed.place(product, &format!("ORDER-{product}")).await;
        assert_eq!(reply.status, 200, "{}", reply.json);
        let value = reply.json[member].as_str().unwrap();
        assert!(value.starts_with(head), "{value}");
        assert!(reply.is_signed(PLATFORM_SERIAL));
        assert!(reply.header("request-id").ends_with("-0"));
    }
}

/// Sections 7 and 16: an equal repeat brings the newest value, any other content is refused.
#[tokio::test]
async fn a_number_stands_for_one_content() {
    let bed = WechatTestbed::build().await;
    let first = bed.place("native", "ORDER-1").await;
    let again = bed.place("native", "ORDER-1").await;
    assert_ne!(first.json["code_url"], again.json["code_url"]);
    for (pointer, value) in [
        ("/amount/total", json!(1002)),
        ("/attach", json!("batch 8")),
        ("/time_expire", json!("2026-01-01T09:00:00+08:00")),
    ] {
        let mut other = bed.order("native", "ORDER-1");
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        other.pointer_mut(parent).unwrap()[name] = value;
        let reply = bed.post("/v3/pay/transactions/native", &other).await;
        assert_eq!(reply.refusal(), (400, "INVALID_REQUEST"), "{pointer}");
        assert_eq!(reply.reason(), "268498688");
    }
    let product = bed.place("app", "ORDER-1").await;
    assert_eq!(product.refusal(), (400, "INVALID_REQUEST"));
    let first = first.json["code_url"].clone();
    let scanned = bed.scan(&first, "pay").await;
    assert_eq!(scanned["errCode"], -1, "the earlier code no longer works");
    assert_eq!(bed.scan(&again.json["code_url"], "pay").await["errCode"], 0);
    assert_eq!(
        bed.place("native", "ORDER-1").await.refusal(),
        (400, "ORDERPAID")
    );
    bed.place("native", "ORDER-2").await;
    bed.close("ORDER-2").await;
    assert_eq!(
        bed.place("native", "ORDER-2").await.refusal(),
        (400, "ORDER_CLOSED")
    );
}

/// Sections 9 and 14: unpaid until the payer pays, and a failed attempt changes nothing.
#[tokio::test]
async fn a_query_shows_what_the_books_say() {
    let bed = WechatTestbed::build().await;
    assert_eq!(
        bed.query("ORDER-1").await.refusal(),
        (404, "ORDER_NOT_EXIST")
    );
    bed.place("jsapi", "ORDER-1").await;
    let control = bed.wechat.control();
    assert_eq!(control.fail("ORDER-1"), PayingOutcome::Failed);
    let open = bed.query("ORDER-1").await;
    assert_eq!(open.json["trade_state"], "NOTPAY");
    for member in [
        "transaction_id",
        "success_time",
        "payer",
        "bank_type",
        "attach",
    ] {
        assert!(open.json.get(member).is_none(), "{member}");
    }
    assert_eq!(control.pay("ORDER-1", Some(900)), PayingOutcome::Paid);
    let paid = bed.query("ORDER-1").await.json;
    assert_eq!(paid["trade_state"], "SUCCESS");
    assert_eq!(paid["trade_type"], "JSAPI");
    assert_eq!(paid["payer"]["openid"], "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o");
    assert_eq!(
        (&paid["amount"]["total"], &paid["amount"]["payer_total"]),
        (&json!(1001), &json!(900))
    );
    assert_eq!(paid["promotion_detail"][0]["amount"], 101);
    assert_eq!(paid["attach"], "batch 7");
    let id = paid["transaction_id"].as_str().unwrap();
    assert_eq!(id.len(), 28);
    let by_id = bed
        .get(&format!("/v3/pay/transactions/id/{id}?mchid={MCHID}"))
        .await;
    assert_eq!(by_id.json, paid);
    let unknown = "4200000000000000000000000000";
    let unknown = bed
        .get(&format!("/v3/pay/transactions/id/{unknown}?mchid={MCHID}"))
        .await;
    assert_eq!(unknown.refusal(), (404, "ORDER_NOT_EXIST"));
}

/// Section 10: 204 without a body, signed; again 204; a paid order is not closed.
#[tokio::test]
async fn a_close_is_answered_without_a_body() {
    let bed = WechatTestbed::build().await;
    bed.place("native", "ORDER-1").await;
    for _ in 0..2 {
        let closed = bed.close("ORDER-1").await;
        assert_eq!((closed.status, closed.body.len()), (204, 0));
        assert!(closed.is_signed(PLATFORM_SERIAL));
    }
    assert_eq!(bed.query("ORDER-1").await.json["trade_state"], "CLOSED");
    let control = bed.wechat.control();
    let late = control.pay("ORDER-1", None);
    assert_eq!(late, PayingOutcome::NotPayable(TradeState::Closed));
    assert_eq!(
        bed.close("NO-SUCH-ORDER").await.status,
        204,
        "no proof of an order"
    );
    assert_eq!(bed.query("NO-SUCH-ORDER").await.status, 404);
    bed.paid("ORDER-2").await;
    assert_eq!(bed.close("ORDER-2").await.refusal(), (400, "ORDERPAID"));
    let foreign = json!({ "mchid": "1900009192" });
    let path = "/v3/pay/transactions/out-trade-no/ORDER-2/close";
    assert_eq!(
        bed.post(path, &foreign).await.refusal(),
        (400, "PARAM_ERROR")
    );
}

/// Section 7: a deadline under a minute is raised in silence, and a deadline closes nothing.
#[tokio::test]
async fn a_deadline_is_raised_to_a_minute_and_closes_nothing() {
    let bed = WechatTestbed::build().await;
    let mut order = bed.order("native", "ORDER-1");
    order["time_expire"] = json!("2026-01-01T08:00:05+08:00");
    let reply = bed.post("/v3/pay/transactions/native", &order).await;
    assert_eq!(reply.status, 200);
    let book = bed.wechat.books();
    assert!(book.order("ORDER-1").unwrap().payable_until_s >= START_S + 60);
    bed.wechat.control().advance(30);
    let again = bed.post("/v3/pay/transactions/native", &order).await;
    assert_eq!(again.status, 200, "still payable");
    bed.wechat.control().advance(90);
    let late = bed.wechat.control().pay("ORDER-1", None);
    assert_eq!(late, PayingOutcome::NotPayable(TradeState::NotPay));
    assert_eq!(bed.query("ORDER-1").await.json["trade_state"], "NOTPAY");
    let repeated = bed.post("/v3/pay/transactions/native", &order).await;
    assert_eq!(repeated.refusal(), (400, "ORDER_CLOSED"));
    assert_eq!(bed.close("ORDER-1").await.status, 204);
    let mut far = bed.order("native", "ORDER-2");
    far["time_expire"] = json!("2036-01-01T08:00:05+08:00");
    bed.post("/v3/pay/transactions/native", &far).await;
    let until_s = bed.wechat.books().order("ORDER-2").unwrap().payable_until_s;
    assert!(until_s <= START_S + 91 * 86_400, "at most 90 days");
}

/// Section 7: a prepay id lives two hours; prepaying again brings one that works.
#[tokio::test]
async fn what_is_handed_out_grows_old() {
    let bed = WechatTestbed::build().await;
    bed.place("app", "ORDER-1").await;
    let control = bed.wechat.control();
    control.advance(7_201);
    assert_eq!(control.pay("ORDER-1", None), PayingOutcome::Expired);
    assert_eq!(bed.place("app", "ORDER-1").await.status, 200);
    assert_eq!(control.pay("ORDER-1", None), PayingOutcome::Paid);
    assert_eq!(bed.wechat.books().taken_fen(), 1_001);
}
