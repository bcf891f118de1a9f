//! Which requests are refused, and with which code.

use http::Method;

use super::client::UnionPayFieldList;
use super::{APP, AUTHORITY, BACK, FORM, MER_ID, MORNING_S, QUERY, UnionPayTestbed};
use paymux::crypto::pem;

const NUMBER: &str = "5GM20260101000001";

/// A form with a mistake is no form.
#[tokio::test]
async fn a_body_that_is_no_strict_form_is_refused() {
    let testbed = UnionPayTestbed::build().await;
    let good = testbed
        .merchant
        .sign(&UnionPayTestbed::query_of(NUMBER))
        .body();
    for (what, body) in [
        ("nothing", String::new()),
        ("a field twice", format!("{good}&merId={MER_ID}")),
        ("an empty field", format!("{good}&reqReserved=")),
        ("an empty pair", format!("{good}&")),
        ("a name without a value", format!("{good}&reqReserved")),
        ("a plus sign that became a blank", good.replace("%2B", "+")),
        ("a bare equals sign", good.replace("%3D", "=")),
        ("a bare character", format!("{good}&reqReserved={{a}}")),
        ("a wrong escape", format!("{good}&reqReserved=%4g")),
        ("a cut escape", format!("{good}&reqReserved=%4")),
        ("GBK", format!("{good}&reqReserved=%B3%C9")),
        ("a blank at the end", format!("{good}&reqReserved=a+")),
    ] {
        let answer = testbed.post_body(QUERY, FORM, body).await.unwrap();
        let code = answer.code();
        let expected = if what.starts_with("a plus") {
            "11"
        } else {
            "10"
        };
        assert_eq!(
            (code, testbed.trust.check(&answer.fields)),
            (expected, Ok(())),
            "{what}"
        );
    }
    for media_type in [
        "application/json",
        "application/x-www-form-urlencoded",
        "application/x-www-form-urlencoded;charset=GBK",
    ] {
        let answer = testbed
            .post_body(QUERY, media_type, good.clone())
            .await
            .unwrap();
        assert_eq!(answer.code(), "10", "{media_type}");
    }
    assert_eq!(
        testbed.post_body(QUERY, FORM, good).await.unwrap().code(),
        "34"
    );
}

/// Addresses and methods that the interface does not have.
#[tokio::test]
async fn other_addresses_and_methods_are_refused() {
    let testbed = UnionPayTestbed::build().await;
    let query = UnionPayTestbed::query_of(NUMBER);
    let unknown = testbed.try_post("/gateway/api/else.do", &query).await;
    assert_eq!(unknown.unwrap().status, 404);
    let url = format!("{}{QUERY}", testbed.unionpay.origin());
    let got = testbed
        .caller
        .send(Method::GET, &url, FORM, String::new())
        .await
        .unwrap();
    assert_eq!(got.status, 405);
}

/// The signature is by RSA over the hexadecimal hash of the text, and by nothing else.
#[tokio::test]
async fn other_signatures_are_refused() {
    let testbed = UnionPayTestbed::build().await;
    let query = UnionPayTestbed::query_of(NUMBER);
    let signed = testbed.merchant.sign(&query);
    let symmetric = |method: &str| {
        let fields = query.clone().with("signMethod", method);
        fields.with("signature", &"ab".repeat(32))
    };
    for (what, fields) in [
        ("a single hash", testbed.merchant.sign_once(&query)),
        (
            "another text",
            signed.clone().with("orderId", "5GM20260101000002"),
        ),
        ("a field more", signed.clone().with("reqReserved", "a")),
        (
            "a field less",
            signed.clone().without("bizType").with("bizType", "000201"),
        ),
        (
            "an unknown certificate",
            signed.clone().with("certId", "68759663126"),
        ),
        ("no Base64", signed.clone().with("signature", "§")),
        ("method 11", symmetric("11")),
        ("method 12", symmetric("12")),
        (
            "method 21",
            testbed
                .merchant
                .sign(&query.clone().with("signMethod", "21")),
        ),
        (
            "another merchant's",
            testbed
                .merchant
                .sign(&query.clone().with("merId", "777290058110097")),
        ),
    ] {
        let answer = testbed.post_body(QUERY, FORM, fields.body()).await.unwrap();
        assert_eq!(
            (answer.code(), testbed.trust.check(&answer.fields)),
            ("11", Ok(())),
            "{what}"
        );
    }
    assert_eq!(testbed.query(NUMBER).await.code(), "34");
    assert_eq!(
        testbed.unionpay.books().calls,
        1,
        "only one signature was good"
    );
}

/// Each field has its form, and none may be missing or unknown.
#[tokio::test]
async fn each_field_is_judged() {
    let testbed = UnionPayTestbed::build().await;
    let good = testbed.qr(NUMBER, "1001");
    for (code, fields) in [
        ("13", good.clone().without("backUrl")),
        ("13", good.clone().without("channelType")),
        ("13", good.clone().without("version")),
        ("13", good.clone().without("txnType")),
        ("10", good.clone().with("version", "5.0.0")),
        ("10", good.clone().with("encoding", "GBK")),
        ("10", good.clone().with("bizType", "000201")),
        ("10", good.clone().with("channelType", "07")),
        ("10", good.clone().with("txnSubType", "09")),
        ("10", good.clone().with("orderId", "5GM-20260101000001")),
        ("10", good.clone().with("txnAmt", "10.01")),
        ("10", good.clone().with("txnAmt", "0")),
        ("10", good.clone().with("currencyCode", "840")),
        ("10", good.clone().with("backUrl", "pay.example.com/notify")),
        (
            "10",
            good.clone().with("frontUrl", "https://pay.example.com/"),
        ),
        ("10", good.clone().with("reqReserved", "a=b")),
        ("10", good.clone().with("merchantName", "x")),
        ("10", good.clone().with("txnTime", "20251231075959")),
        ("10", good.clone().with("txnTime", "20260101081001")),
        ("10", good.clone().with("payTimeout", "20260101080000")),
        ("30", good.clone().with("merId", "777290058110099")),
    ] {
        let answer = testbed.post(BACK, &fields).await;
        assert_eq!(answer.code(), code, "{fields:?}");
        let message = answer.fields.get("respMsg");
        let detail = message
            .rsplit_once('[')
            .unwrap()
            .1
            .strip_suffix(']')
            .unwrap();
        assert!(detail.len() == 7 && detail.bytes().all(|byte| byte.is_ascii_digit()));
    }
    assert_eq!(testbed.unionpay.books().transactions().count(), 0);
    assert_eq!(
        testbed
            .post(BACK, &good.with("reqReserved", "a-b"))
            .await
            .code(),
        "00"
    );
}

/// Service providers name their sub-merchants; others must not.
#[tokio::test]
async fn access_types_have_their_fields() {
    let testbed = UnionPayTestbed::build().await;
    let sub = |number: &str| {
        testbed
            .qr(number, "1001")
            .with("accessType", "2")
            .with("subMerId", "00001")
            .with("subMerName", "示例商城有限公司")
            .with("subMerAbbr", "示例商城")
    };
    let acquirer = |number: &str| {
        testbed
            .qr(number, "1001")
            .with("accessType", "1")
            .with("acqInsCode", "48270000")
            .with("merCatCode", "5311")
            .with("merName", "示例商城有限公司")
            .with("merAbbr", "示例商城")
    };
    for (code, fields) in [
        ("00", sub("5GM20260101000002")),
        ("00", acquirer("5GM20260101000001")),
        ("13", sub("5GM20260101000003").without("subMerAbbr")),
        ("10", sub("5GM20260101000003").with("subMerId", "1")),
        (
            "10",
            sub("5GM20260101000003").with("subMerAbbr", "一二三四五六七八九"),
        ),
        ("10", sub("5GM20260101000003").with("merName", "x")),
        ("10", sub("5GM20260101000003").with("accessType", "0")),
        ("13", acquirer("5GM20260101000003").without("merCatCode")),
        (
            "10",
            acquirer("5GM20260101000003").with("merCatCode", "531"),
        ),
    ] {
        assert_eq!(testbed.post(BACK, &fields).await.code(), code, "{fields:?}");
    }
    let query = UnionPayTestbed::query_of("5GM20260101000002");
    assert_eq!(
        testbed.post(QUERY, &query).await.code(),
        "36",
        "another access type"
    );
    let query = query.with("accessType", "2");
    assert_eq!(testbed.post(QUERY, &query).await.code(), "00");
}

/// A number is one merchant's for a day; the same again is a duplicate.
#[tokio::test]
async fn a_repeated_number_is_a_duplicate() {
    let testbed = UnionPayTestbed::build().await;
    let first = testbed.qr(NUMBER, "1001");
    assert_eq!(testbed.post(BACK, &first).await.code(), "00");
    for again in [
        first.clone(),
        first.clone().with("txnAmt", "1002"),
        first.clone().with("txnTime", "20260101080001"),
    ] {
        assert_eq!(testbed.post(BACK, &again).await.code(), "12");
    }
    let app = testbed.payment(["01", "01"], "000201", NUMBER, "1001");
    assert_eq!(testbed.post(APP, &app).await.code(), "12");
    testbed.control.hold_clock(Some(MORNING_S + 24 * 3_600));
    let tomorrow = first.with("txnTime", "20260102080000");
    assert_eq!(testbed.post(BACK, &tomorrow).await.code(), "00");
}

/// A merchant changes its key while everything runs: both count until the old one is withdrawn.
#[tokio::test]
async fn a_merchants_key_is_switched_while_running() {
    let testbed = UnionPayTestbed::build().await;
    let next = AUTHORITY.issue_merchant(MER_ID, 70_000_000_001).unwrap();
    let cert_id = testbed
        .control
        .enrol(MER_ID, &next.certificates_pem)
        .unwrap();
    assert_eq!(cert_id, "70000000001");
    let key = pem::read_private_key(next.key_pem.as_bytes()).unwrap();
    let new = super::UnionPayTestMerchant::new(&cert_id, &key);
    let query = UnionPayTestbed::query_of(NUMBER);
    let code = async |fields: UnionPayFieldList| {
        let answer = testbed.post_body(QUERY, FORM, fields.body()).await.unwrap();
        answer.code().to_owned()
    };
    assert_eq!(code(new.sign(&query)).await, "34");
    assert_eq!(code(testbed.merchant.sign(&query)).await, "34");
    let crossed = new.sign(&query).get("signature").to_owned();
    let crossed = testbed.merchant.sign(&query).with("signature", &crossed);
    assert_eq!(code(crossed).await, "11");
    testbed.control.withdraw(MER_ID, super::CERT_ID);
    assert_eq!(code(testbed.merchant.sign(&query)).await, "11");
    assert_eq!(code(new.sign(&query)).await, "34");
}

/// A certificate that has expired signs nothing.
#[tokio::test]
async fn an_expired_certificate_signs_nothing() {
    let testbed = UnionPayTestbed::build().await;
    testbed.control.hold_clock(Some(2_400_000_000));
    let answer = testbed
        .try_post(QUERY, &UnionPayTestbed::query_of(NUMBER))
        .await
        .unwrap();
    assert_eq!(answer.code(), "11");
}
