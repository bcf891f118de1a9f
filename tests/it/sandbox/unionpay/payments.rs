//! Payments: in the browser, by the app's SDK, by a code that the payer scans or shows.

use super::client::UnionPayFieldList;
use super::{APP, BACK, FORM, MORNING_S, QUERY, UnionPayTestbed};
use paymux::sandbox::{UnionPayCall, UnionPayFault, UnionPayState};

const NUMBER: &str = "5GM20260101000001";

/// The browser makes the transaction; before it there is none.
#[tokio::test]
async fn a_payment_in_the_browser_begins_when_it_arrives() {
    let testbed = UnionPayTestbed::build().await;
    assert_eq!(testbed.query(NUMBER).await.code(), "34");
    let page = testbed.arrive(&testbed.front(NUMBER, "1001")).await;
    assert_eq!(
        (page.status, &*page.media_type),
        (200, "text/html; charset=utf-8")
    );
    assert!(page.text.contains("name=\"viewport\"") && page.text.contains("¥ 10.01"));
    assert!(page.text.contains("Tea House") && page.text.contains("5G消息 话费充值"));
    let open = testbed.query(NUMBER).await;
    assert_eq!((open.code(), open.original()), ("00", "05"));
    assert_eq!(open.fields.get("queryId"), "");
    let again = testbed.arrive(&testbed.front(NUMBER, "1001")).await;
    assert!(
        again.text.contains("确认付款"),
        "the same form again leads to the same page"
    );
    assert_eq!(testbed.unionpay.books().transactions().count(), 1);
    let other = testbed.arrive(&testbed.front(NUMBER, "1002")).await;
    assert!(other.text.contains("respCode=12"), "{}", other.text);
}

/// A failed attempt can be followed by a success; only the success is notified and returned.
#[tokio::test]
async fn a_failure_in_the_browser_can_be_followed_by_success() {
    let testbed = UnionPayTestbed::build().await;
    testbed.arrive(&testbed.front(NUMBER, "1001")).await;
    let failed = testbed.press(NUMBER, "fail").await;
    assert!(failed.contains("换一张卡"));
    assert_eq!(testbed.query(NUMBER).await.original(), "61");
    let paid = testbed.press(NUMBER, "pay").await;
    assert!(paid.contains("支付成功") && paid.contains("/submit.js"));
    testbed.acknowledged(NUMBER, 1).await;
    assert_eq!(testbed.listener.forms().len(), 1);
    let answer = testbed.query(NUMBER).await;
    assert_eq!((answer.code(), answer.original()), ("00", "00"));
    assert_eq!(answer.fields.get("settleDate"), "0101");
    assert_eq!(answer.fields.get("reserved"), "{cardIssueName=Example&x=1}");
    assert!(
        answer.text.contains("-----BEGIN CERTIFICATE-----\r\n"),
        "{}",
        answer.text
    );
    assert_eq!(testbed.unionpay.books().taken_fen(), 1_001);
}

/// The browser returns with a signed form; its certificate survives what browsers do to line ends.
#[tokio::test]
async fn the_browser_returns_with_a_signed_form() {
    let testbed = UnionPayTestbed::build().await;
    testbed.control.next(UnionPayFault::LostNotification, 1);
    testbed.arrive(&testbed.front(NUMBER, "1001")).await;
    testbed.press(NUMBER, "pay").await;
    let page = testbed.unionpay.page_url(NUMBER).unwrap();
    testbed.payer.press(&page, "button", "back").await.unwrap();
    let form = testbed.listener.forms().remove(0);
    assert_eq!(form.path, "/return?o=1&t=2");
    let fields = UnionPayFieldList::of_form(&form.body).without("button");
    assert_eq!(testbed.trust.check(&fields), Ok(()));
    assert_eq!(
        (fields.get("orderId"), fields.get("respCode")),
        (NUMBER, "00")
    );
    let certificate = fields.get("signPubKeyCert");
    let as_a_browser = certificate.replace("\r\n", "\n").replace('\n', "\r\n");
    assert_eq!(certificate, as_a_browser);
}

/// A refused form shows the code, and nothing is booked.
#[tokio::test]
async fn a_refused_form_shows_its_code() {
    let testbed = UnionPayTestbed::build().await;
    let front = testbed.front(NUMBER, "1001");
    for (code, body) in [
        ("11", testbed.merchant.sign_once(&front).body()),
        (
            "13",
            testbed
                .merchant
                .sign(&front.clone().without("frontUrl"))
                .body(),
        ),
        (
            "10",
            testbed
                .merchant
                .sign(&front.clone().with("orderDesc", &"长".repeat(33)))
                .body(),
        ),
        ("44", {
            let late = front.clone().with("txnTime", "20260101070000");
            testbed
                .merchant
                .sign(&late.with("payTimeout", "20260101075959"))
                .body()
        }),
    ] {
        let page = testbed.post_body(super::FRONT, FORM, body).await.unwrap();
        assert!(
            page.text.contains(&format!("respCode={code}")),
            "{code}: {}",
            page.text
        );
    }
    assert_eq!(testbed.unionpay.books().transactions().count(), 0);
    assert_eq!(testbed.query(NUMBER).await.code(), "34");
}

/// After its last moment a payment cannot be made, and the query is final.
#[tokio::test]
async fn nobody_pays_after_the_last_moment() {
    let testbed = UnionPayTestbed::build().await;
    let front = testbed
        .front(NUMBER, "1001")
        .with("payTimeout", "20260101080300");
    testbed.arrive(&front).await;
    testbed.control.hold_clock(Some(MORNING_S + 180));
    assert_eq!(testbed.query(NUMBER).await.original(), "05");
    testbed.control.hold_clock(Some(MORNING_S + 181));
    let page = testbed
        .payer
        .open(&testbed.unionpay.page_url(NUMBER).unwrap())
        .await
        .unwrap();
    assert!(page.html.contains("订单已关闭") && !page.html.contains("<form"));
    assert_eq!(testbed.query(NUMBER).await.original(), "69");
    assert_eq!(testbed.unionpay.books().taken_fen(), 0);
}

/// The app's SDK pays with the `tn`.
#[tokio::test]
async fn the_sdk_pays_with_its_number() {
    let testbed = UnionPayTestbed::build().await;
    let app = testbed.payment(["01", "01"], "000201", NUMBER, "1001");
    let created = testbed.post(APP, &app).await;
    let tn = created.fields.get("tn");
    assert!(
        tn.len() == 21 && tn.bytes().all(|byte| byte.is_ascii_digit()),
        "{tn}"
    );
    let origin = testbed.unionpay.origin();
    let parameters = serde_json::json!({ "token": tn });
    for (outcome, result) in [("nothing", "cancel"), ("fail", "fail"), ("pay", "success")] {
        let paid = testbed
            .payer
            .pay_by_sdk(&origin, &parameters, outcome)
            .await
            .unwrap();
        assert!(paid.html.contains(result), "{}", paid.html);
    }
    testbed.acknowledged(NUMBER, 1).await;
    assert_eq!(testbed.query(NUMBER).await.original(), "00");
    assert_eq!(
        testbed.post(APP, &app).await.code(),
        "12",
        "the tn is given once"
    );
}

/// A code that the payer scans: not found, then in progress, then refused or paid.
#[tokio::test]
async fn a_scanned_code_passes_through_its_states() {
    let testbed = UnionPayTestbed::build().await;
    let created = testbed.post(BACK, &testbed.qr(NUMBER, "1001")).await;
    let code = created.fields.get("qrCode").to_owned();
    let original = async || testbed.query(NUMBER).await.original().to_owned();
    assert_eq!(original().await, "34");
    testbed.payer.open(&code).await.unwrap();
    assert_eq!(original().await, "05");
    testbed.payer.fail(&code).await.unwrap();
    assert_eq!(original().await, "60");
    testbed.payer.pay(&code).await.unwrap();
    assert_eq!(original().await, "00");
    let found = testbed.acknowledged(NUMBER, 1).await;
    assert_eq!((found.state, found.failures), (UnionPayState::Succeeded, 1));
}

/// A payment by the payer's code is accepted first; its end, also a bad one, is notified.
#[tokio::test]
async fn a_shown_code_is_accepted_first_and_ends_later() {
    let testbed = UnionPayTestbed::build().await;
    let accepted = testbed.post(BACK, &testbed.barcode(NUMBER, "1001")).await;
    assert_eq!(
        (accepted.code(), accepted.fields.get("queryId")),
        ("00", "")
    );
    testbed.acknowledged(NUMBER, 1).await;
    assert_eq!(testbed.query(NUMBER).await.original(), "00");
    testbed
        .control
        .next_at(UnionPayCall::Barcode, UnionPayFault::BankRefuses, 1);
    let refused = "5GM20260101000002";
    assert_eq!(
        testbed
            .post(BACK, &testbed.barcode(refused, "500"))
            .await
            .code(),
        "00"
    );
    testbed.acknowledged(refused, 1).await;
    assert_eq!(testbed.query(refused).await.original(), "60");
    let form = testbed.listener.forms().remove(1);
    assert_eq!(UnionPayFieldList::of_form(&form.body).get("respCode"), "60");
    let no_code = testbed
        .barcode("5GM20260101000003", "500")
        .with("qrNo", "134567890123456789");
    assert_eq!(testbed.post(BACK, &no_code).await.code(), "10");
}

/// A reversal cancels a payment by code under its own number, and returns what was taken.
#[tokio::test]
async fn a_reversal_cancels_a_payment_by_code() {
    let testbed = UnionPayTestbed::build().await;
    testbed.post(BACK, &testbed.barcode(NUMBER, "1001")).await;
    testbed.acknowledged(NUMBER, 1).await;
    let reversal = |number: &str| {
        UnionPayTestbed::base(["99", "01"], "000000")
            .with("channelType", "08")
            .with("orderId", number)
    };
    assert_eq!(
        testbed
            .post(BACK, &reversal("5GM20260101000009"))
            .await
            .code(),
        "35"
    );
    assert_eq!(testbed.post(BACK, &reversal(NUMBER)).await.code(), "00");
    let after = testbed.query(NUMBER).await;
    assert_eq!((after.original(), after.fields.get("queryId")), ("01", ""));
    let books = testbed.unionpay.books();
    assert_eq!((books.taken_fen(), books.returned_fen()), (1_001, 1_001));
}

/// Each settlement day begins at 23:00.
#[tokio::test]
async fn the_settlement_day_begins_at_eleven_in_the_evening() {
    let testbed = UnionPayTestbed::build().await;
    for (number, moment_s, day) in [
        ("5GM20260101000001", MORNING_S + 15 * 3_600 - 1, "0101"),
        ("5GM20260101000002", MORNING_S + 15 * 3_600, "0102"),
    ] {
        testbed.control.hold_clock(Some(moment_s));
        testbed.post(BACK, &testbed.qr(number, "100")).await;
        testbed.press(number, "pay").await;
        let answer = testbed
            .post(QUERY, &UnionPayTestbed::query_of(number))
            .await;
        assert_eq!(answer.fields.get("settleDate"), day);
    }
}

/// A discount is in what is settled, not in what was paid for; a defect is still a success.
#[tokio::test]
async fn a_discount_and_a_defect_are_in_the_answer() {
    let testbed = UnionPayTestbed::build().await;
    testbed.paid(NUMBER, "1086").await;
    let answer = testbed.query(NUMBER).await;
    assert_eq!(
        (answer.fields.get("txnAmt"), answer.fields.get("settleAmt")),
        ("1086", "978")
    );
    testbed.paid("5GM20260101000002", "1087").await;
    assert_eq!(testbed.query("5GM20260101000002").await.original(), "A6");
}
