//! Alipay through the running gateway.

use paymux::command::demo::enrolment::TEA;
use paymux::command::demo::environment::DemoEnvironment;
use paymux::sandbox::{
    AlipayAct, AlipayActed, AlipayFault, AlipayStatus, AlipayTrade, SandboxAlipay,
};
use serde_json::json;

use super::{DialectTestbed, contract, institution};
use crate::journey::queried;

fn tables(alipay: &SandboxAlipay, products: &str) -> String {
    let account = r#"
[[account]]
id = "ali-shop"
institution = "alipay"
app_id = "2021000123456789"
seller_id = "2088123412341234"
key = "file:certs/paymux-alipay.key"
alipay_public_key = "certs/alipay.pub"
"#;
    let gateway = alipay.gateway_url();
    let origin = gateway.strip_suffix("/gateway.do").unwrap();
    institution("alipay", "alipay", origin, "")
        + account
        + &contract(TEA.id, "alipay", "ali-shop", products)
}

/// With a contract for these products.
async fn open_for(products: &str) -> DialectTestbed {
    DialectTestbed::open(
        |args| args.alipay_port = Some(0),
        |_: &DemoEnvironment, sandbox| tables(sandbox.alipay.as_ref().unwrap(), products),
    )
    .await
}

async fn open() -> DialectTestbed {
    open_for(r#""WAP", "PAGE", "APP""#).await
}

fn alipay(bed: &DialectTestbed) -> &SandboxAlipay {
    bed.sandbox.alipay.as_ref().unwrap()
}

/// The only trade there.
fn trade(bed: &DialectTestbed) -> AlipayTrade {
    let books = alipay(bed).books();
    // A payer who looks at our page has the trade asked about, before the cashier has made it.
    let unmade = ("alipay.trade.query".into(), "ACQ.TRADE_NOT_EXIST".into());
    let wrong: Vec<_> = books
        .refusals
        .iter()
        .filter(|one| **one != unmade)
        .collect();
    assert!(
        wrong.is_empty(),
        "the gateway asks for nothing wrong: {wrong:?}"
    );
    let mut trades = books.trades();
    let trade = trades.next().unwrap().clone();
    assert!(trades.next().is_none());
    trade
}

/// Places an order of an application, and the wallet acts on its order string.
async fn acts(bed: &DialectTestbed, act: AlipayAct) -> AlipayActed {
    let answer = bed.placed("NATIVE", "alipay", json!({})).await;
    let order_string = answer.json["sdkParameters"].as_str().unwrap();
    let control = alipay(bed).control();
    control.pay_order_string(order_string, act).unwrap()
}

/// A3.1, X-11, A3.3, R4: an application's payment is reported by a callback, and refunded in part and
/// then in full.
#[tokio::test(flavor = "multi_thread")]
async fn an_app_payment_is_notified_and_refunded() {
    let bed = open().await;
    assert_eq!(acts(&bed, AlipayAct::Pay).await, AlipayActed::Paid);
    bed.notified_of_payment().await;
    bed.refunded("R1", "2.30").await;
    // The institution takes a refund of a trade every 3 s.
    alipay(&bed)
        .control()
        .advance(std::time::Duration::from_secs(3));
    bed.refunded("R2", "10.00").await;
    let trade = trade(&bed);
    assert_eq!((trade.refunds.len(), trade.refunded_fen()), (2, 1_230));
    assert_eq!(trade.status, AlipayStatus::Closed);
    assert_eq!(queried(bed.shop(), "T1").await.text("orderStatus"), "PAID");
}

/// R-A3.1-3: a payer in a phone's browser is sent to the cashier, where nothing exists before.
#[tokio::test(flavor = "multi_thread")]
async fn a_payer_on_a_phone_pays() {
    let bed = open().await;
    let payer = json!({ "payerDevice": "ANDROID" });
    let answer = bed.placed("WEBVIEW", "alipay", payer).await;
    assert_eq!(alipay(&bed).books().trades().count(), 0);
    bed.stage.payer.pay(answer.text("payUrl")).await.unwrap();
    bed.notified_of_payment().await;
    assert_eq!(trade(&bed).terms.product.method(), "alipay.trade.wap.pay");
}

/// X-2: a payer at a desktop scans a code.
#[tokio::test(flavor = "multi_thread")]
async fn a_payer_at_a_desktop_scans_a_code() {
    let bed = open_for(r#""PRECREATE", "APP""#).await;
    let payer = json!({ "payerDevice": "DESKTOP" });
    let answer = bed.placed("WEBVIEW", "alipay", payer).await;
    assert!(answer.text("payUrl").starts_with(&bed.stage.origin()));
    let books = alipay(&bed).books();
    let codes: Vec<_> = books.codes().collect();
    assert_eq!(codes.len(), 1);
    let acted = alipay(&bed).control().scan(codes[0], AlipayAct::Pay);
    assert_eq!(acted, AlipayActed::Paid);
    bed.notified_of_payment().await;
    assert_eq!(trade(&bed).terms.product.method(), "alipay.trade.precreate");
}

/// V1, Z1: a payment whose callback never comes is found by asking.
#[tokio::test(flavor = "multi_thread")]
async fn a_payment_without_a_callback_is_found() {
    let bed = open().await;
    alipay(&bed).control().next(AlipayFault::NoticeLost);
    assert_eq!(acts(&bed, AlipayAct::Pay).await, AlipayActed::Paid);
    bed.paid_by_asking().await;
    assert_eq!(trade(&bed).notices, 0);
}

/// A5, E4: a payment that the payer has begun is closed there, and only then the order.
#[tokio::test(flavor = "multi_thread")]
async fn an_unpaid_order_is_closed() {
    let bed = open().await;
    assert_eq!(acts(&bed, AlipayAct::Open).await, AlipayActed::Waiting);
    bed.closed().await;
    let trade = trade(&bed);
    assert_eq!(trade.status, AlipayStatus::Closed);
    let number = &trade.terms.out_trade_no;
    let acted = alipay(&bed).control().confirm(number, AlipayAct::Pay);
    assert!(matches!(acted, AlipayActed::Refused(_)), "{acted:?}");
    assert_eq!(
        queried(bed.shop(), "T1").await.text("orderStatus"),
        "CLOSED"
    );
}

/// V3: a callback of another sum is put aside; the right one after it pays.
#[tokio::test(flavor = "multi_thread")]
async fn a_callback_of_another_sum_pays_nothing() {
    let bed = open().await;
    alipay(&bed).control().next(AlipayFault::NoticeWrongAmount);
    assert_eq!(acts(&bed, AlipayAct::Pay).await, AlipayActed::Paid);
    bed.notified_of_payment().await;
    assert!(bed.quarantined("alipay").await);
}
