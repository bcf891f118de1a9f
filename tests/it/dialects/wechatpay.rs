//! WeChat Pay through the running gateway.

use std::fs;

use paymux::command::demo::enrolment::TEA;
use paymux::command::demo::environment::{DemoEnvironment, WAIT_MAX};
use paymux::crypto::certificate::Certificate;
use paymux::sandbox::wechatpay::{
    NotificationFault, PayingOutcome, SandboxWechatPay, TradeState, WechatBook,
};
use serde_json::{Value, json};

use super::{DialectTestbed, contract, institution};
use crate::journey::queried;

const APP: &str = "wxd678efh567hg6787";
const KEY_ID: &str = "PUB_KEY_ID_0119000091912026010100389200000001";

fn tables(stage: &DemoEnvironment, wechat: &SandboxWechatPay) -> String {
    let pem = fs::read_to_string(stage.certs().join("wechatpay/merchant.pem")).unwrap();
    let serial = Certificate::from_pem(&pem).unwrap().serial_hex();
    let second = format!("second_url = \"{}\"\n", wechat.second_origin());
    let account = format!(
        r#"
[[account]]
id = "wx-shop"
institution = "wechat"
mchid = "1900009191"
apps = {{ default = "{APP}" }}
certificate_serial = "{serial}"
key = "file:certs/wechatpay/merchant.key"
certificate_not_before = 2020-01-01
certificate_not_after = 2045-01-01
apiv3_key = "file:certs/wechatpay/merchant.apiv3"
ask_for_key = "{KEY_ID}"

[[account.keys]]
id = "{KEY_ID}"
algorithm = "rsa-v1_5-sha256"
file = "certs/wechatpay/platform-public-key.pub"
not_before = 2020-01-01
not_after = 2045-12-31
"#
    );
    let products = r#""JSAPI", "H5", "NATIVE", "APP""#;
    institution("wechat", "wechatpay", &wechat.origin(), &second)
        + &account
        + &contract(TEA.id, "wechat", "wx-shop", products)
}

async fn open() -> DialectTestbed {
    DialectTestbed::open(
        |args| args.wechatpay_port = Some(0),
        |stage, sandbox| tables(stage, sandbox.wechatpay.as_ref().unwrap()),
    )
    .await
}

fn wechat(bed: &DialectTestbed) -> &SandboxWechatPay {
    bed.sandbox.wechatpay.as_ref().unwrap()
}

/// The number of the only order there.
fn number(bed: &DialectTestbed) -> String {
    let book = wechat(bed).books();
    let mut orders = book.orders();
    let number = orders.next().unwrap().terms.out_trade_no.clone();
    assert!(orders.next().is_none());
    number
}

fn pays(bed: &DialectTestbed) {
    let paid = wechat(bed).control().pay(&number(bed), None);
    assert_eq!(paid, PayingOutcome::Paid);
}

/// The payer's client takes the parameters as they are, and pays.
async fn pays_with(bed: &DialectTestbed, client: &str, parameters: &Value) {
    assert!(parameters.is_object(), "{parameters}");
    let url = format!("{}/payer/{client}", wechat(bed).origin());
    let answer = bed.post(&url, parameters).await;
    let state = wechat(bed).books().order(&number(bed)).unwrap().state;
    assert_eq!(state, TradeState::Success, "{}", answer.json);
}

/// A3.1, X-11, A3.3, R4: an application's payment is reported by a callback, and refunded in part and
/// then in full.
#[tokio::test(flavor = "multi_thread")]
async fn an_app_payment_is_notified_and_refunded() {
    let bed = open().await;
    let answer = bed.placed("NATIVE", "wechat", json!({})).await;
    pays_with(&bed, "app", &answer.json["sdkParameters"]).await;
    bed.notified_of_payment().await;
    bed.refunded("R1", "2.30").await;
    // The platform takes one refund of an order in a minute.
    wechat(&bed).control().advance(60);
    bed.refunded("R2", "10.00").await;
    let book = wechat(&bed).books();
    let refunded: Vec<_> = book.refunds().map(|one| one.refund_fen).collect();
    assert_eq!(refunded.iter().sum::<i64>(), 1_230);
    assert_eq!((refunded.len(), book.refused), (2, 0));
}

/// X-2: a payer who is known in our application pays inside WeChat.
#[tokio::test(flavor = "multi_thread")]
async fn a_payer_inside_wechat_pays() {
    let bed = open().await;
    let payer = json!({ "payerOpenId": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", "payerAppId": APP });
    let answer = bed.placed("NATIVE", "wechat", payer).await;
    pays_with(&bed, "jsapi", &answer.json["sdkParameters"]).await;
    bed.notified_of_payment().await;
}

/// R-A3.1-3: a payer in a phone's browser is sent to WeChat's page, which opens from ours only.
#[tokio::test(flavor = "multi_thread")]
async fn a_payer_on_a_phone_pays() {
    let bed = open().await;
    let payer = json!({ "payerClientIp": "203.0.113.10", "payerDevice": "IOS" });
    let answer = bed.placed("WEBVIEW", "wechat", payer).await;
    let page = bed.stage.payer.arrive(answer.text("payUrl")).await.unwrap();
    assert_eq!(page.status, 200, "{}", page.html);
    let link = page.url.as_str();
    assert!(link.starts_with(&wechat(&bed).origin()), "{link}");
    let ours = format!("{}/", bed.stage.origin());
    let elsewhere = "https://elsewhere.example/";
    let page = bed.stage.payer.open_from(elsewhere, link).await.unwrap();
    assert_eq!(page.status, 403);
    let paid = bed.stage.payer.press_from(&ours, link, "outcome", "pay");
    paid.await.unwrap();
    bed.notified_of_payment().await;
}

/// V1, Z1: a payment whose callback never comes is found by asking.
#[tokio::test(flavor = "multi_thread")]
async fn a_payment_without_a_callback_is_found() {
    let bed = open().await;
    bed.placed("NATIVE", "wechat", json!({})).await;
    wechat(&bed)
        .control()
        .next_notification(NotificationFault::NeverSent);
    pays(&bed);
    bed.paid_by_asking().await;
    let book = wechat(&bed).books();
    assert_eq!(book.order(&number(&bed)).unwrap().notified, 0);
}

/// A5, E4: an order is closed by the close and the query that follows it.
#[tokio::test(flavor = "multi_thread")]
async fn an_unpaid_order_is_closed() {
    let bed = open().await;
    bed.placed("NATIVE", "wechat", json!({})).await;
    bed.closed().await;
    let book = wechat(&bed).books();
    let order = book.order(&number(&bed)).unwrap();
    assert_eq!(order.state, TradeState::Closed);
    let paid = wechat(&bed).control().pay(&number(&bed), None);
    assert_ne!(paid, PayingOutcome::Paid);
    assert_eq!(
        queried(bed.shop(), "T1").await.text("orderStatus"),
        "CLOSED"
    );
}

/// V3: a callback of another sum is put aside and acknowledged, and pays nothing; asking tells.
#[tokio::test(flavor = "multi_thread")]
async fn a_callback_of_another_sum_pays_nothing() {
    let bed = open().await;
    bed.placed("NATIVE", "wechat", json!({})).await;
    wechat(&bed)
        .control()
        .next_notification(NotificationFault::WrongSum);
    pays(&bed);
    let number = number(&bed);
    let seen = |book: &WechatBook| Some(book.order(&number)?.acknowledged).filter(|it| *it > 0);
    let acknowledged = wechat(&bed).wait_for(seen, WAIT_MAX).await;
    assert_eq!(acknowledged, Some(1));
    assert!(bed.quarantined("wechat").await);
    let event = bed.shop().merchant.inbox();
    assert!(event.event("ORDER_PAID", "T1").is_none());
    bed.paid_by_asking().await;
}
