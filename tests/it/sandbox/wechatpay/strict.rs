//! What the counterpart refuses: every part of the Authorization header, the headers of section 2,
//! and members of a request that the protocol does not allow.

use bytes::Bytes;
use http::{HeaderValue, Method, Request};
use serde_json::{Value, json};

use super::client::WechatSigning;
use super::{MCHID, MERCHANT_SERIAL, PLATFORM_SERIAL, PUBLIC_KEY_ID, WechatTestbed};

const QUERY: &str = "/v3/pay/transactions/out-trade-no/ORDER-1?mchid=1900009191";

fn with_header(request: &Request<Bytes>, name: &'static str, value: &str) -> Request<Bytes> {
    let mut changed = request.clone();
    let value = HeaderValue::from_str(value).unwrap();
    changed.headers_mut().insert(name, value);
    changed
}

fn without(request: &Request<Bytes>, name: &str) -> Request<Bytes> {
    let mut changed = request.clone();
    changed.headers_mut().remove(name);
    changed
}

/// Section 3: each part of the signature is judged, with 401 `SIGN_ERROR` in a signed answer.
#[tokio::test]
async fn a_request_not_signed_as_it_was_sent_is_refused() {
    let bed = WechatTestbed::build().await;
    bed.place("native", "ORDER-1").await;
    let right = bed.request(Method::GET, QUERY, "");
    assert_eq!(bed.client.send(right.clone()).await.unwrap().status, 200);
    let header = right.headers()["authorization"]
        .to_str()
        .unwrap()
        .to_owned();
    let mut elsewhere = right.clone();
    *elsewhere.uri_mut() = QUERY.replace("ORDER-1", "ORDER-2").parse().unwrap();
    let mut posted = bed.request(Method::POST, "/v3/pay/transactions/native", "{\"a\": 1}");
    *posted.body_mut() = Bytes::from_static(b"{\"a\":1}");
    let signed = |by: WechatSigning<'_>| bed.client.signed((Method::GET, QUERY), "", &by);
    let bad = [
        ("missing", without(&right, "authorization")),
        (
            "scheme",
            with_header(&right, "authorization", &header.replace("RSA2048", "SM3")),
        ),
        (
            "quotes",
            with_header(&right, "authorization", &header.replace('"', "")),
        ),
        (
            "not Base64",
            with_header(
                &right,
                "authorization",
                &header.replace("signature=\"", "signature=\"%"),
            ),
        ),
        ("path", elsewhere),
        ("body", posted),
        (
            "merchant",
            signed(WechatSigning {
                mchid: "1900000001",
                ..bed.signing()
            }),
        ),
        (
            "serial",
            signed(WechatSigning {
                serial: PLATFORM_SERIAL,
                ..bed.signing()
            }),
        ),
        (
            "nonce",
            signed(WechatSigning {
                nonce: "5K82-64IL".to_owned(),
                ..bed.signing()
            }),
        ),
    ];
    for (what, request) in bad {
        let reply = bed.client.send(request).await.unwrap();
        assert_eq!(reply.refusal(), (401, "SIGN_ERROR"), "{what}");
        assert_eq!(reply.reason(), "268443699", "{what}");
        assert!(reply.is_signed(PLATFORM_SERIAL), "{what}");
        assert_eq!(reply.json["detail"]["location"], "authorization", "{what}");
    }
}

/// Section 3: a clock that is wrong by less than five minutes is none.
#[tokio::test]
async fn a_clock_may_be_wrong_by_less_than_five_minutes() {
    let bed = WechatTestbed::build().await;
    bed.place("native", "ORDER-1").await;
    let now_s = bed.wechat.control().now_s();
    for (offset_s, status) in [(-310, 401), (-295, 200), (295, 200), (310, 401)] {
        let by = WechatSigning {
            timestamp: (now_s + offset_s).to_string(),
            ..bed.signing()
        };
        let request = bed.client.signed((Method::GET, QUERY), "", &by);
        assert_eq!(bed.client.send(request).await.unwrap().status, status);
    }
}

/// Section 2: User-Agent, Accept, Content-Type.
#[tokio::test]
async fn a_request_without_the_demanded_headers_is_refused() {
    let bed = WechatTestbed::build().await;
    let order = bed.order("native", "ORDER-1").to_string();
    let right = bed.request(Method::POST, "/v3/pay/transactions/native", &order);
    let bad = [
        ("User-Agent", without(&right, "user-agent")),
        ("User-Agent", with_header(&right, "user-agent", "")),
        ("Accept", without(&right, "accept")),
        ("Accept", with_header(&right, "accept", "text/html")),
        ("Content-Type", without(&right, "content-type")),
        (
            "Content-Type",
            with_header(&right, "content-type", "text/plain"),
        ),
        (
            "Wechatpay-Serial",
            with_header(&right, "wechatpay-serial", "PUB_KEY_ID_0"),
        ),
    ];
    for (field, request) in bad {
        let reply = bed.client.send(request).await.unwrap();
        assert_eq!(reply.refusal(), (400, "PARAM_ERROR"), "{field}");
        assert_eq!(reply.json["detail"]["field"], field);
        assert!(reply.is_signed(PLATFORM_SERIAL), "{field}");
    }
    assert_eq!(bed.wechat.books().orders().count(), 0);
    let elsewhere = with_header(&right, "host", "other.example");
    assert_eq!(bed.client.send(elsewhere).await.unwrap().status, 400);
    assert_eq!(bed.client.send(right).await.unwrap().status, 200);
    let asked = with_header(
        &bed.request(Method::GET, QUERY, ""),
        "wechatpay-serial",
        PUBLIC_KEY_ID,
    );
    assert_eq!(bed.client.send(asked).await.unwrap().status, 200);
    assert_eq!(bed.get("/v3/pay/transactions/nothing").await.status, 404);
    let by = WechatSigning {
        serial: &MERCHANT_SERIAL.to_lowercase(),
        ..bed.signing()
    };
    let lower = bed.client.signed((Method::GET, QUERY), "", &by);
    assert_eq!(bed.client.send(lower).await.unwrap().status, 200);
}

fn set(order: &Value, pointer: &str, value: Value) -> Value {
    let mut order = order.clone();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    order.pointer_mut(parent).unwrap()[name] = value;
    order
}

/// Section 7: every limit, alphabet and obligation of a prepay request.
#[tokio::test]
async fn a_prepay_with_a_wrong_member_is_refused_and_places_nothing() {
    let bed = WechatTestbed::build().await;
    let native = bed.order("native", "ORDER-1");
    let long = |length: usize| json!("x".repeat(length));
    let bad = [
        ("/description", json!("")),
        ("/description", long(128)),
        ("/description", json!(7)),
        ("/out_trade_no", json!("ORDER")),
        ("/out_trade_no", long(33)),
        ("/out_trade_no", json!("ORDER@1")),
        ("/time_expire", json!("2026-01-01 08:03:00")),
        ("/attach", long(129)),
        ("/notify_url", json!("http://pay.example.com/notify")),
        ("/notify_url", json!("https://pay.example.com/notify?a=b")),
        ("/notify_url", json!("pay.example.com")),
        ("/goods_tag", long(33)),
        ("/amount/total", json!(0)),
        ("/amount/total", json!("1001")),
        ("/amount/total", json!(10.01)),
        ("/amount/currency", json!("USD")),
        ("/mchid", json!("1900009192")),
        ("/sub_mchid", json!("1900009291")),
        ("/payer", json!({ "openid": "o1" })),
        ("/bank_type", json!("ICBC")),
        ("/amount/fee", json!(1)),
        (
            "/scene_info",
            json!({ "payer_client_ip": "203.0.113.10", "h5_info": { "type": "Wap" } }),
        ),
        ("/scene_info", json!({ "device_id": "1" })),
    ];
    for (pointer, value) in bad {
        let order = set(&native, pointer, value.clone());
        let reply = bed.post("/v3/pay/transactions/native", &order).await;
        assert_eq!(reply.refusal(), (400, "PARAM_ERROR"), "{pointer}: {value}");
    }
    let foreign = set(&native, "/appid", json!("wx0000000000000000"));
    let reply = bed.post("/v3/pay/transactions/native", &foreign).await;
    assert_eq!(reply.refusal(), (400, "APPID_MCHID_NOT_MATCH"));
    assert_eq!(reply.reason(), "268445527");
    let twice = native
        .to_string()
        .replacen('{', "{\"description\":\"x\",", 1);
    let request = bed.request(Method::POST, "/v3/pay/transactions/native", &twice);
    assert_eq!(bed.client.send(request).await.unwrap().status, 400);
    assert_eq!(bed.wechat.books().orders().count(), 0);
    let detail = bed
        .post("/v3/pay/transactions/native", &json!({}))
        .await
        .json;
    assert!(detail["detail"]["field"].as_str().unwrap().starts_with('/'));
}

/// Section 7: what a product wants of the payer.
#[tokio::test]
async fn a_product_wants_its_payers_details() {
    let bed = WechatTestbed::build().await;
    for (product, pointer, value) in [
        ("jsapi", "/payer", Value::Null),
        ("jsapi", "/payer/openid", json!("")),
        ("jsapi", "/payer", json!({ "sp_openid": "o1" })),
        ("h5", "/scene_info", Value::Null),
        ("h5", "/scene_info/h5_info", Value::Null),
        ("h5", "/scene_info/h5_info/type", json!("Windows")),
        (
            "h5",
            "/scene_info/payer_client_ip",
            json!("203.0.113.10:443"),
        ),
    ] {
        let order = set(&bed.order(product, "ORDER-1"), pointer, value.clone());
        let path = format!("/v3/pay/transactions/{product}");
        let reply = bed.post(&path, &order).await;
        assert_eq!(
            reply.refusal(),
            (400, "PARAM_ERROR"),
            "{product} {pointer}: {value}"
        );
    }
    assert_eq!(bed.wechat.books().orders().count(), 0);
}

/// Section 9: the number in the address is the signer's, and nothing else stands there.
#[tokio::test]
async fn a_query_names_its_signer() {
    let bed = WechatTestbed::build().await;
    bed.place("native", "ORDER|1").await;
    let path = "/v3/pay/transactions/out-trade-no/ORDER%7C1";
    for query in [
        "",
        "?mchid=1900009192",
        "?mchid=1900009191&a=b",
        "?sp_mchid=1900009191",
    ] {
        let reply = bed.get(&format!("{path}{query}")).await;
        assert_eq!(reply.refusal(), (400, "PARAM_ERROR"), "{query}");
    }
    let right = bed.get(&format!("{path}?mchid={MCHID}")).await;
    assert_eq!(right.json["out_trade_no"], "ORDER|1");
    let odd = bed
        .get(&format!("/v3/pay/transactions/id/4200x?mchid={MCHID}"))
        .await;
    assert_eq!(odd.refusal(), (500, "INVALID_TRANSACTIONID"));
}
