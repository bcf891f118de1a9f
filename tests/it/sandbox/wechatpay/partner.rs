//! A provider and its sub-merchants: whose ids stand where, and what is refused.

use serde_json::{Value, json};

use super::{APPID, MCHID, SUB_MCHID, WechatTestbed};

impl WechatTestbed {
    fn partner_order(&self, product: &str, number: &str) -> Value {
        let mut order = self.order(product, number);
        let members = order.as_object_mut().unwrap();
        members.remove("appid");
        members.remove("mchid");
        members.remove("payer");
        order["sp_appid"] = json!(APPID);
        order["sp_mchid"] = json!(MCHID);
        order["sub_mchid"] = json!(SUB_MCHID);
        if product == "jsapi" {
            order["payer"] = json!({ "sp_openid": "oProvider" });
        }
        order
    }
}

/// Section 24: each product through a provider, paid, queried, notified, refunded.
#[tokio::test]
async fn a_provider_sells_for_its_sub_merchant() {
    let bed = WechatTestbed::of_provider().await;
    for product in ["jsapi", "app", "h5", "native"] {
        let number = format!("ORDER-{product}");
        let path = format!("/v3/pay/partner/transactions/{product}");
        let reply = bed.post(&path, &bed.partner_order(product, &number)).await;
        assert_eq!(reply.status, 200, "{}", reply.json);
    }
    bed.wechat.control().pay("ORDER-jsapi", None);
    let path = "/v3/pay/partner/transactions/out-trade-no/ORDER-jsapi";
    let query = format!("?sp_mchid={MCHID}&sub_mchid={SUB_MCHID}");
    let paid = bed.get(&format!("{path}{query}")).await.json;
    assert_eq!(paid["sp_appid"], APPID);
    assert_eq!(
        (&paid["sp_mchid"], &paid["sub_mchid"]),
        (&json!(MCHID), &json!(SUB_MCHID))
    );
    assert!(paid.get("mchid").is_none() && paid.get("sub_appid").is_none());
    assert_eq!(paid["payer"], json!({ "sp_openid": "oProvider" }));
    assert_eq!(bed.receiver.messages(1).await[0].plain().unwrap(), paid);
    let id = paid["transaction_id"].as_str().unwrap();
    let by_id = bed
        .get(&format!("/v3/pay/partner/transactions/id/{id}{query}"))
        .await;
    assert_eq!(by_id.json, paid);
    let other = format!("{path}?sp_mchid={MCHID}&sub_mchid=1900009391");
    let other = bed.get(&other).await;
    assert_eq!((other.status, other.reason()), (400, "268447845"));
    let mut refund = bed.refund_body("ORDER-jsapi", "R1", 300);
    let without = bed.post("/v3/refund/domestic/refunds", &refund).await;
    assert_eq!((without.status, without.reason()), (400, "268443704"));
    refund["sub_mchid"] = json!(SUB_MCHID);
    let taken = bed.post("/v3/refund/domestic/refunds", &refund).await;
    assert_eq!(taken.status, 200, "{}", taken.json);
    let query = "/v3/refund/domestic/refunds/R1";
    assert_eq!(bed.get(query).await.status, 400);
    let queried = bed.get(&format!("{query}?sub_mchid={SUB_MCHID}")).await;
    assert_eq!(queried.json["status"], "PROCESSING");
    let body = json!({ "sp_mchid": MCHID, "sub_mchid": SUB_MCHID });
    let close = "/v3/pay/partner/transactions/out-trade-no/ORDER-native/close";
    assert_eq!(bed.post(close, &body).await.status, 204);
}

/// Section 24.3: the sub-merchant's own app has its own payer.
#[tokio::test]
async fn a_payer_of_the_sub_merchants_app_needs_that_app() {
    let bed = WechatTestbed::of_provider().await;
    let path = "/v3/pay/partner/transactions/jsapi";
    let mut order = bed.partner_order("jsapi", "ORDER-1");
    order["payer"] = json!({ "sub_openid": "oSub" });
    assert_eq!(bed.post(path, &order).await.refusal(), (400, "PARAM_ERROR"));
    order["sub_appid"] = json!("wxsub0002");
    assert_eq!(
        bed.post(path, &order).await.refusal(),
        (400, "APPID_MCHID_NOT_MATCH")
    );
    order["sub_appid"] = json!("wxsub0001");
    order["payer"]["sp_openid"] = json!("oProvider");
    assert_eq!(
        bed.post(path, &order).await.refusal(),
        (400, "PARAM_ERROR"),
        "one of the two"
    );
    order["payer"] = json!({ "sub_openid": "oSub" });
    assert_eq!(bed.post(path, &order).await.status, 200);
    bed.wechat.control().pay("ORDER-1", None);
    let paid = bed.receiver.messages(1).await[0].plain().unwrap();
    assert_eq!(paid["payer"], json!({ "sub_openid": "oSub" }));
    assert_eq!(paid["sub_appid"], "wxsub0001");
}

/// Sections 1 and 24.1: a contract has its own paths, and a provider its own sub-merchants.
#[tokio::test]
async fn the_other_contracts_calls_are_refused() {
    let bed = WechatTestbed::of_provider().await;
    let direct = bed.place("native", "ORDER-1").await;
    assert_eq!(direct.refusal(), (403, "NO_AUTH"));
    assert_eq!(bed.query("ORDER-1").await.refusal(), (403, "NO_AUTH"));
    let path = "/v3/pay/partner/transactions/native";
    for (sub_mchid, status, reason) in [
        (json!("1900009999"), 403, "268443701"),
        (json!(MCHID), 400, "268443705"),
        (Value::Null, 400, "268443704"),
    ] {
        let mut order = bed.partner_order("native", "ORDER-1");
        order["sub_mchid"] = sub_mchid;
        let reply = bed.post(path, &order).await;
        assert_eq!((reply.status, reply.reason()), (status, reason));
    }
    let mut mixed = bed.partner_order("native", "ORDER-1");
    mixed["appid"] = json!(APPID);
    let reply = bed.post(path, &mixed).await;
    assert_eq!(
        (reply.status, reply.reason()),
        (400, "270924358"),
        "an unknown member"
    );
    let direct = WechatTestbed::build().await;
    let order = direct.partner_order("native", "ORDER-1");
    assert_eq!(direct.post(path, &order).await.refusal(), (403, "NO_AUTH"));
}
