//! The protocol's published vectors, sent over a real socket at their own moments. Keys are kept
//! without their PEM frame.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request};
use paymux::crypto::pem;
use paymux::sandbox::wechatpay::{NotificationFault, WechatRefundState};
use serde_json::Value;

use super::client::WechatReply;
use super::{PUBLIC_KEY_ID, WechatTestbed, receiver};

const VECTORS: &str = include_str!("vectors.json");

pub(super) fn all() -> Value {
    serde_json::from_str(VECTORS).unwrap()
}

pub(super) fn text(name: &str) -> String {
    all()[name].as_str().unwrap().to_owned()
}

pub(super) fn constant(name: &str) -> String {
    all()["constants"][name].as_str().unwrap().to_owned()
}

pub(super) fn der(name: &str) -> Vec<u8> {
    STANDARD.decode(text(name)).unwrap()
}

pub(super) fn pem(name: &str, label: &str) -> String {
    pem::write(label, &der(name))
}

pub(super) fn opened(resource: &Value) -> Option<Vec<u8>> {
    receiver::opened(resource, &constant("apiv3_key"))
}

impl WechatTestbed {
    /// Sends a published request byte for byte.
    async fn published(&self, vector: &Value) -> WechatReply {
        let message = vector["msg"].as_str().unwrap();
        let lines: Vec<&str> = message.splitn(5, '\n').collect();
        let (method, path, timestamp, nonce) = (lines[0], lines[1], lines[2], lines[3]);
        let body = lines[4].strip_suffix('\n').unwrap().to_owned();
        let authorization = format!(
            "WECHATPAY2-SHA256-RSA2048 mchid=\"{}\",nonce_str=\"{nonce}\",timestamp=\"{timestamp}\",\
             serial_no=\"{}\",signature=\"{}\"",
            constant("mchid"),
            constant("merchant_serial"),
            vector["sig"].as_str().unwrap(),
        );
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("accept", "application/json")
            .header("user-agent", "paymux-test/1")
            .header("wechatpay-serial", PUBLIC_KEY_ID)
            .header("authorization", authorization);
        if method == Method::POST {
            request = request.header("content-type", "application/json");
        }
        let request = request.body(body.into()).unwrap();
        self.client.send(request).await.unwrap()
    }
}

/// Sections 3, 7, 9 and 11: prepay, query and refund as published.
#[tokio::test]
async fn published_requests_of_a_merchant_are_accepted() {
    let bed = WechatTestbed::build().await;
    let vectors = all();
    let placed = bed.published(&vectors["prepay"]).await;
    assert_eq!(placed.status, 200, "{}", placed.json);
    let code = placed.json["code_url"].as_str().unwrap();
    assert!(code.starts_with("weixin://wxpay/bizpayurl?pr="));
    let queried = bed.published(&vectors["query"]).await;
    assert_eq!(queried.json["trade_state"], "NOTPAY");
    // The published addresses are nobody's: nothing is sent there.
    let control = bed.wechat.control();
    control.next_notification(NotificationFault::NeverSent);
    control.pay("5GM20260101000001", None);
    let early = bed.published(&vectors["refund"]).await;
    assert_eq!(early.refusal(), (401, "SIGN_ERROR"), "an hour ahead");
    control.advance(3_600);
    let refunded = bed.published(&vectors["refund"]).await;
    assert_eq!(refunded.status, 200, "{}", refunded.json);
    assert_eq!(refunded.json["status"], "PROCESSING");
    let late = bed.published(&vectors["query"]).await;
    assert_eq!(late.refusal(), (401, "SIGN_ERROR"), "an hour late");
    let refund = bed.wechat.books();
    let refund = refund.refund("5GR20260101000001").unwrap().clone();
    assert_eq!(
        (refund.refund_fen, refund.state),
        (301, WechatRefundState::Processing)
    );
}

/// Section 24: a provider's requests as published.
#[tokio::test]
async fn published_requests_of_a_provider_are_accepted() {
    let bed = WechatTestbed::of_provider().await;
    let partner = &all()["partner"];
    let placed = bed.published(&partner["h5"]).await;
    assert_eq!(placed.status, 200, "{}", placed.json);
    assert!(
        placed.json["h5_url"]
            .as_str()
            .unwrap()
            .contains("prepay_id=wx")
    );
    let queried = bed.published(&partner["query"]).await;
    assert_eq!(queried.json["sub_mchid"], "1900009291");
    assert_eq!(queried.json["trade_type"], "MWEB");
    let unknown = bed.published(&partner["refundquery"]).await;
    assert_eq!(unknown.refusal(), (404, "RESOURCE_NOT_EXISTS"));
    let closed = bed.published(&partner["close"]).await;
    assert_eq!((closed.status, closed.body.len()), (204, 0));
    let queried = bed.published(&partner["query"]).await;
    assert_eq!(queried.json["trade_state"], "CLOSED");
}
