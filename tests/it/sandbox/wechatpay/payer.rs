//! The payer's side: values for JSAPI and app as a client judges them, a scanned code, and the page
//! behind an h5 address.

use http::{Method, Request};
use serde_json::{Value, json};

use super::{APPID, MCHID, WechatTestbed};

impl WechatTestbed {
    async fn start(&self, client: &str, parameters: &Value) -> Value {
        let request = Request::post(format!("/payer/{client}"))
            .body(parameters.to_string().into())
            .unwrap();
        self.client.send(request).await.unwrap().json
    }

    /// The payer scans a code.
    pub(super) async fn scan(&self, code_url: &Value, outcome: &str) -> Value {
        self.start(
            "native",
            &json!({ "code_url": code_url, "outcome": outcome }),
        )
        .await
    }

    fn jsapi(&self, prepay_id: &str) -> Value {
        let package = format!("prepay_id={prepay_id}");
        let text = format!("{APPID}\n1767225600\nn0nce\n{package}\n");
        json!({
            "appId": APPID, "timeStamp": "1767225600", "nonceStr": "n0nce", "package": package,
            "signType": "RSA", "paySign": self.client.sign(&text),
        })
    }

    fn app(&self, prepay_id: &str) -> Value {
        let text = format!("{APPID}\n1767225600\nn0nce\n{prepay_id}\n");
        json!({
            "appid": APPID, "partnerid": MCHID, "prepayid": prepay_id, "package": "Sign=WXPay",
            "noncestr": "n0nce", "timestamp": "1767225600", "sign": self.client.sign(&text),
        })
    }
}

/// Section 8: a page inside the wallet starts with what the merchant signed, or not at all.
#[tokio::test]
async fn a_page_inside_the_wallet_pays_with_signed_values() {
    let bed = WechatTestbed::build().await;
    let placed = bed.place("jsapi", "ORDER-1").await.json;
    let right = bed.jsapi(placed["prepay_id"].as_str().unwrap());
    for (member, value) in [
        ("appId", json!("wx0")),
        ("timeStamp", json!("1767225601")),
        ("timeStamp", json!("now")),
        ("nonceStr", json!("n0nce2")),
        ("package", placed["prepay_id"].clone()),
        ("package", json!("prepay_id=wx0")),
        ("signType", json!("MD5")),
        ("paySign", json!("AAAA")),
    ] {
        let mut wrong = right.clone();
        wrong[member] = value;
        let reply = bed.start("jsapi", &wrong).await;
        assert_eq!(reply["err_msg"], "get_brand_wcpay_request:fail", "{member}");
    }
    let mut cancelled = right.clone();
    cancelled["outcome"] = json!("nothing");
    let reply = bed.start("jsapi", &cancelled).await;
    assert_eq!(reply["err_msg"], "get_brand_wcpay_request:cancel");
    assert_eq!(bed.query("ORDER-1").await.json["trade_state"], "NOTPAY");
    let paid = bed.start("jsapi", &right).await;
    assert_eq!(paid["err_msg"], "get_brand_wcpay_request:ok", "{paid}");
    assert_eq!(bed.query("ORDER-1").await.json["trade_state"], "SUCCESS");
}

/// Section 8: an app starts with the bare id.
#[tokio::test]
async fn an_app_pays_with_signed_values() {
    let bed = WechatTestbed::build().await;
    let placed = bed.place("app", "ORDER-1").await.json;
    let prepay_id = placed["prepay_id"].as_str().unwrap();
    let right = bed.app(prepay_id);
    for (member, value) in [
        ("partnerid", json!("1900009192")),
        ("package", json!(format!("prepay_id={prepay_id}"))),
        ("sign", json!("AAAA")),
    ] {
        let mut wrong = right.clone();
        wrong[member] = value;
        assert_eq!(bed.start("app", &wrong).await["errCode"], -1, "{member}");
    }
    let as_page = bed.start("jsapi", &bed.jsapi(prepay_id)).await;
    assert_eq!(
        as_page["err_msg"], "get_brand_wcpay_request:fail",
        "another product"
    );
    let paid = bed.start("app", &right).await;
    assert_eq!(paid["errCode"], 0, "{paid}");
    assert_eq!(bed.query("ORDER-1").await.json["trade_type"], "APP");
}

/// Section 7: the page opens from a registered domain, and the payer taps.
#[tokio::test]
async fn the_h5_page_opens_from_the_merchants_domain_and_pays() {
    let bed = WechatTestbed::build().await;
    let placed = bed.place("h5", "ORDER-1").await.json;
    let url = placed["h5_url"].as_str().unwrap();
    let back = format!("{url}&redirect_url=https%3A%2F%2Fpay.example.com%2Fdone");
    let path = back.split_once("/cgi-bin").unwrap().1;
    let open = async |referer: Option<&str>| {
        let mut request = Request::builder()
            .method(Method::GET)
            .uri(format!("/cgi-bin{path}"));
        if let Some(referer) = referer {
            request = request.header("referer", referer);
        }
        let reply = bed.client.send(request.body("".into()).unwrap()).await;
        let reply = reply.unwrap();
        (
            reply.status,
            String::from_utf8(reply.body.to_vec()).unwrap(),
        )
    };
    assert_eq!(open(None).await.0, 403);
    assert_eq!(open(Some("https://elsewhere.example/")).await.0, 403);
    let (status, page) = open(Some("https://pay.example.com/")).await;
    assert_eq!(status, 200);
    assert!(page.contains("¥ 10.01") && page.contains("5G消息-话费充值"));
    assert!(page.contains("type=\"password\"") && !page.contains("<script"));
    let after = bed
        .payer
        .press_from("https://pay.example.com/", &back, "outcome", "fail")
        .await
        .unwrap();
    assert!(after.html.contains("未支付"));
    let after = bed
        .payer
        .press_from("https://pay.example.com/", &back, "outcome", "pay")
        .await
        .unwrap();
    assert!(after.html.contains("支付成功"), "{}", after.html);
    assert!(after.html.contains("href=\"https://pay.example.com/done\""));
    let book = bed.wechat.books();
    assert_eq!(book.order("ORDER-1").unwrap().failures, 1);
    assert_eq!(bed.query("ORDER-1").await.json["trade_type"], "MWEB");
}

/// Section 7: five minutes, then the address is dead although the order is payable.
#[tokio::test]
async fn an_h5_address_works_for_five_minutes() {
    let bed = WechatTestbed::build().await;
    let placed = bed.place("h5", "ORDER-1").await.json;
    let url = placed["h5_url"].as_str().unwrap().to_owned();
    bed.wechat.control().advance(301);
    let page = bed
        .payer
        .open_from("https://pay.example.com/", &url)
        .await
        .unwrap();
    assert_eq!(page.status, 410);
    let again = bed.place("h5", "ORDER-1").await.json;
    let url = again["h5_url"].as_str().unwrap();
    let page = bed
        .payer
        .open_from("https://pay.example.com/", url)
        .await
        .unwrap();
    assert_eq!(page.status, 200);
}
