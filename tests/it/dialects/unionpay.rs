//! UnionPay through the running gateway. Its page is not shown yet, so what is paid here is paid in an
//! application or by a code.

use paymux::command::demo::enrolment::TEA;
use paymux::sandbox::{SandboxUnionPay, UnionPayCall, UnionPayFault, UnionPayTransaction};
use serde_json::json;

use super::{DialectTestbed, contract, institution};
use crate::journey::queried;

/// A contract of ours, and one of a platform's sub-merchant.
const DIRECT: &str = "role = \"direct\"\n";
const PLATFORM: &str = "role = \"provider\"\naccess_type = \"2\"\n";
const SUB: &str = "sub = { sub_mer_id = \"00001\", sub_mer_name = \"示例商城有限公司\", \
                   sub_mer_abbr = \"示例商城\" }\n";

fn tables(unionpay: &SandboxUnionPay, role: &str, sub: &str) -> String {
    let account = format!(
        r#"
[[account]]
id = "up-shop"
institution = "unionpay"
mer_id = "898000000000001"
sign_method = "01"
environment = "production"
key = "file:certs/unionpay-merchant.key"
certificate = "certs/unionpay-merchant.pem"
middle = "certs/unionpay-middle.pem"
root = "certs/unionpay-root.pem"
{role}"#
    );
    institution("unionpay", "unionpay", &unionpay.origin(), "")
        + &account
        + &contract(TEA.id, "unionpay", "up-shop", r#""QR", "APP""#)
        + sub
}

async fn open_as(role: &str, sub: &str) -> DialectTestbed {
    DialectTestbed::open(
        |args| args.unionpay_port = Some(0),
        |_, sandbox| tables(sandbox.unionpay.as_ref().unwrap(), role, sub),
    )
    .await
}

async fn open() -> DialectTestbed {
    open_as(DIRECT, "").await
}

fn unionpay(bed: &DialectTestbed) -> &SandboxUnionPay {
    bed.sandbox.unionpay.as_ref().unwrap()
}

/// The only payment there.
fn payment(bed: &DialectTestbed) -> UnionPayTransaction {
    let books = unionpay(bed).books();
    let is_payment =
        |one: &&UnionPayTransaction| matches!(one.call, UnionPayCall::App | UnionPayCall::Qr);
    let mut payments = books.transactions().filter(is_payment);
    let payment = payments.next().unwrap().clone();
    assert!(payments.next().is_none());
    payment
}

/// Places an order of an application, and its SDK pays with the number that it is given.
async fn pays_in_application(bed: &DialectTestbed) {
    let answer = bed.placed("NATIVE", "unionpay", json!({})).await;
    let parameters = &answer.json["sdkParameters"];
    let sdk = format!("{}/sdk/pay", unionpay(bed).origin());
    let call = json!({ "token": parameters["tn"], "outcome": "pay" });
    let paid = bed.post(&sdk, &call).await;
    assert_eq!(paid.text("pay_result"), "success", "{}", paid.json);
}

/// Places an order of a payer at a desktop, who scans the code and pays.
async fn pays_by_code(bed: &DialectTestbed) {
    let payer = json!({ "payerDevice": "DESKTOP" });
    bed.placed("WEBVIEW", "unionpay", payer).await;
    let page = unionpay(bed).page_url(&payment(bed).order_id).unwrap();
    bed.stage.payer.pay(&page).await.unwrap();
}

/// A3.1, X-11, A3.3, R4: an application's payment is reported by a callback, and refunded in part and
/// then in full; each refund is accepted first and made later.
#[tokio::test(flavor = "multi_thread")]
async fn an_app_payment_is_notified_and_refunded() {
    let bed = open().await;
    pays_in_application(&bed).await;
    bed.notified_of_payment().await;
    bed.refunded("R1", "2.30").await;
    bed.refunded("R2", "10.00").await;
    let books = unionpay(&bed).books();
    assert_eq!((books.taken_fen(), books.returned_fen()), (1_230, 1_230));
    assert_eq!(queried(bed.shop(), "T1").await.text("orderStatus"), "PAID");
}

/// X-2: a payer at a desktop scans a code.
#[tokio::test(flavor = "multi_thread")]
async fn a_payer_at_a_desktop_scans_a_code() {
    let bed = open().await;
    pays_by_code(&bed).await;
    bed.notified_of_payment().await;
    assert_eq!(payment(&bed).call, UnionPayCall::Qr);
}

/// V1, Z1: a payment whose callback never comes is found by asking.
#[tokio::test(flavor = "multi_thread")]
async fn a_payment_without_a_callback_is_found() {
    let bed = open().await;
    unionpay(&bed)
        .control()
        .next(UnionPayFault::LostNotification, 1);
    pays_in_application(&bed).await;
    bed.paid_by_asking().await;
    assert_eq!(payment(&bed).acknowledged, 0);
}

/// V3: a callback of another sum is put aside, and acknowledged; what was paid is found by asking.
#[tokio::test(flavor = "multi_thread")]
async fn a_callback_of_another_sum_pays_nothing() {
    let bed = open().await;
    unionpay(&bed).control().next(UnionPayFault::WrongAmount, 1);
    pays_in_application(&bed).await;
    bed.paid_by_asking().await;
    assert!(bed.quarantined("unionpay").await);
}

/// C1: forged callbacks are not acknowledged; the genuine one after them pays.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_callback_is_not_acknowledged() {
    for fault in [
        UnionPayFault::WrongSignature,
        UnionPayFault::OtherName,
        UnionPayFault::ForeignChain,
        UnionPayFault::ExpiredCertificate,
        UnionPayFault::SingleHash,
        UnionPayFault::Downgrade,
    ] {
        let bed = open().await;
        let control = unionpay(&bed).control();
        control.next_at(UnionPayCall::Notification, fault, 1);
        pays_in_application(&bed).await;
        bed.paid_by_asking().await;
        let payment = payment(&bed);
        assert!(payment.acknowledged < payment.notifications, "{fault:?}");
    }
}

/// C2: a notification to a platform does not name its sub-merchant, so it is a reason to ask, and the
/// answer pays.
#[tokio::test(flavor = "multi_thread")]
async fn a_sub_merchant_is_paid_once_it_was_asked_about() {
    let bed = open_as(PLATFORM, SUB).await;
    pays_by_code(&bed).await;
    bed.notified_of_payment().await;
    bed.refunded("R1", "2.30").await;
    let books = unionpay(&bed).books();
    assert_eq!((books.taken_fen(), books.returned_fen()), (1_230, 230));
    assert!(payment(&bed).queries > 0);
}
