//! What the gateway refuses before a call means anything, and what it admits: the vectors.

use std::time::Duration;

use http::Method;
use paymux::sandbox::{
    AlipayAct, AlipayActed, AlipayCertificateNumbers, AlipayFault, AlipaySteered,
};
use serde_json::{Value, json};

use super::client::{
    APP_ID, AlipayTestbed, Answered, Form, SELLER_ID, SUB_APP_ID, SUB_SELLER_ID, TOKEN, covered,
    encoded, is_genuine, order, public_key, vectors, verified,
};

/// A vector's parameters with its signature.
fn vector(name: &str) -> Form {
    let vector = &vectors()["requests"][name];
    let mut form: Form = serde_json::from_value(vector["params"].clone()).unwrap();
    assert_eq!(
        covered(&form, &["sign"]),
        vector["msg"].as_str().unwrap(),
        "{name}"
    );
    form.insert(
        "sign".to_owned(),
        vector["sig"].as_str().unwrap().to_owned(),
    );
    form
}

/// The client's own reading is right: the vendor's answers and notifications verify.
#[test]
fn the_vectors_answers_and_notifications_verify() {
    let vectors = vectors();
    for (name, method) in [
        ("v7_answer", "alipay.trade.precreate"),
        ("v8_answer", "alipay.trade.query"),
        ("v9_answer", "alipay.trade.query"),
        ("v10_answer", "alipay.trade.query"),
    ] {
        let body = vectors[name].as_str().unwrap();
        let answer = Answered::read(body, method);
        assert!(answer.is_of_method && answer.is_signed, "{name}");
        let altered = body
            .replacen("10000", "10001", 1)
            .replacen("40004", "40005", 1);
        assert!(!Answered::read(&altered, method).is_signed, "{name}");
    }
    for body in ["v5_body", "v6_body"].map(|name| vectors[name].as_str().unwrap().to_owned()) {
        let form = form_urlencoded::parse(body.as_bytes())
            .into_owned()
            .collect();
        assert!(is_genuine(&form));
    }
    let agreement = &vectors["v17"];
    let text = agreement["msg"].as_str().unwrap();
    let signature = agreement["sig"].as_str().unwrap();
    assert!(verified(&public_key("alipay_public"), text, signature));
}

/// Every signed request of the wire format is carried out at its moment.
#[tokio::test]
async fn the_vectors_requests_are_carried_out() {
    let bed = AlipayTestbed::build().await;
    // The whole form in the body, as it stands in the wire format.
    let form = vectors()["v1_form"].as_str().unwrap().to_owned();
    let answer = bed.send_raw(Method::POST, "", &form).await.unwrap();
    let body = std::str::from_utf8(&answer.body).unwrap();
    let created = Answered::read(body, "alipay.trade.precreate");
    assert_eq!(created.outcome(), ("10000", ""), "{body}");
    assert!(created.is_signed && body.contains("https:\\/\\/"), "{body}");
    // The same in other places is the same call.
    let again = bed.send(&vector("V1")).await;
    assert_eq!(again.text("qr_code"), created.text("qr_code"));
    let in_query = bed.send_raw(Method::GET, &form, "").await.unwrap();
    assert!(String::from_utf8_lossy(&in_query.body).contains("10000"));

    // The vectors' addresses for notifications are nobody's.
    bed.control.order(AlipaySteered {
        times: 2,
        ..AlipaySteered::once(AlipayFault::NoticeLost)
    });
    let code = created.text("qr_code");
    assert_eq!(bed.control.scan(code, AlipayAct::Pay), AlipayActed::Paid);
    let for_merchant = bed.send(&vector("V15")).await;
    assert_eq!(
        for_merchant.outcome(),
        ("10000", ""),
        "{}",
        for_merchant.body
    );
    let trade = bed
        .gateway
        .books()
        .trade("5GM20260101000013")
        .cloned()
        .unwrap();
    assert_eq!(
        [trade.app_id, trade.auth_app_id, trade.seller_id],
        [APP_ID, SUB_APP_ID, SUB_SELLER_ID]
    );
    let exchanged = bed.send(&vector("V16")).await;
    assert_eq!(exchanged.node["tokens"][0]["app_auth_token"], TOKEN);
    let used = bed.send(&vector("V16")).await;
    assert_eq!(used.outcome(), ("40002", "isv.code-invalid"));

    bed.advance_s(3_600);
    let refunded = bed.send(&vector("V4")).await;
    assert_eq!(
        (refunded.text("fund_change"), refunded.text("refund_fee")),
        ("Y", "3.01")
    );
    bed.advance_s(25 * 3_600);
    let bill = bed.send(&vector("V14")).await;
    assert!(
        bill.text("bill_download_url").starts_with("https://"),
        "{}",
        bill.body
    );
}

/// Parameter, value, and the refusal.
#[rustfmt::skip]
const WRONG: [(&str, &str, &str, &str, bool); 24] = [
    ("app_id", "", "40001", "isv.missing-app-id", false),
    ("app_id", "2021000123456788", "40002", "isv.invalid-app-id", false),
    ("app_id", "111111111111111111111111111111111", "40002", "isv.invalid-parameter", false),
    ("method", "", "40001", "isv.missing-method", false),
    ("method", "alipay.trade.app.pay", "40002", "isv.invalid-method", false),
    ("charset", "", "40001", "isv.missing-charset", false),
    ("charset", "GBK", "40002", "isv.invalid-charset", false),
    ("sign_type", "", "40001", "isv.missing-sign-type", true),
    ("sign_type", "RSA", "40002", "isv.invalid-signature-type", true),
    ("format", "XML", "40002", "isv.invalid-format", true),
    ("version", "", "40001", "isv.missing-version", true),
    ("version", "1.1", "40002", "isv.invalid-parameter", true),
    ("encrypt_type", "AES", "40002", "isv.invalid-encrypt-type", true),
    ("timestamp", "", "40001", "isv.missing-timestamp", true),
    ("timestamp", "2026-01-01T08:00:00", "40002", "isv.invalid-timestamp", true),
    ("timestamp", "2026-01-01 08:15:01", "40002", "isv.invalid-timestamp", true),
    ("timestamp", "2026-01-01 07:44:59", "40002", "isv.invalid-timestamp", true),
    ("app_cert_sn", "88d85e3660168e6fde9aeabe92e3fe5f", "40002", "isv.invalid-app-cert-sn", true),
    ("app_auth_token", "unknown", "20001", "aop.invalid-app-auth-token", true),
    ("notify_url", "https://a.example/", "40002", "isv.invalid-parameter", true),
    ("return_url", "https://a.example/", "40002", "isv.invalid-parameter", true),
    ("biz_content", "", "40001", "isv.missing-biz-content", true),
    ("biz_content", "[]", "40002", "isv.invalid-biz-content", true),
    ("biz_content", "{\"a\":\"1\",\"a\":\"1\"}", "40002", "isv.invalid-biz-content", true),
];

/// Each common parameter is checked; an answer is signed once the application is known.
#[tokio::test]
async fn a_wrong_common_parameter_is_refused_with_its_code() {
    let bed = AlipayTestbed::build().await;
    let biz = json!({ "out_trade_no": "A1" });
    for (name, value, code, sub_code, signed) in WRONG {
        let mut form = bed.unsigned("alipay.trade.query", &biz);
        form.insert(name.to_owned(), value.to_owned());
        let answer = bed.send(&bed.sign(form)).await;
        let body = &answer.body;
        assert_eq!(answer.outcome(), (code, sub_code), "{name}={value}: {body}");
        let shape = (answer.is_signed, answer.is_of_method);
        assert_eq!(shape, (signed, signed), "{name}={value}: {body}");
    }
}

/// The signature covers every parameter, raw; without or with another it is no request.
#[tokio::test]
async fn any_change_after_signing_is_refused() {
    let bed = AlipayTestbed::build().await;
    let form = bed.sign(bed.unsigned("alipay.trade.query", &json!({ "out_trade_no": "A1" })));
    for (name, value) in [
        ("biz_content", "{\"out_trade_no\":\"A2\"}"),
        ("biz_content", "{ \"out_trade_no\":\"A1\"}"),
        ("method", "alipay.trade.close"),
        ("timestamp", "2026-01-01 08:00:01"),
        ("alipay_sdk", "added"),
        ("format", ""),
        ("sign", "AAAA"),
    ] {
        let mut changed = form.clone();
        changed.insert(name.to_owned(), value.to_owned());
        let answer = bed.send(&changed).await;
        assert_eq!(
            answer.outcome(),
            ("40002", "isv.invalid-signature"),
            "{name}"
        );
        assert!(answer.is_signed && answer.is_of_method, "{name}");
    }
    let mut without = form.clone();
    without.remove("sign");
    let answer = bed.send(&without).await;
    assert_eq!(answer.outcome(), ("40001", "isv.missing-signature"));
    let mut more = bed.unsigned("alipay.trade.query", &json!({ "out_trade_no": "A1" }));
    more.insert("alipay_sdk".to_owned(), "java 4.40".to_owned());
    let answer = bed.send(&bed.sign(more)).await;
    assert_eq!(
        answer.outcome().1,
        "ACQ.TRADE_NOT_EXIST",
        "a signed parameter more is no fault"
    );
    let refusals = bed.gateway.books().refusals;
    assert_eq!(
        refusals[0],
        (
            "alipay.trade.query".to_owned(),
            "isv.invalid-signature".to_owned()
        )
    );
}

/// One form: nothing twice, everything encoded, in a form's media type.
#[tokio::test]
async fn a_form_that_is_not_one_is_refused_unsigned() {
    let bed = AlipayTestbed::build().await;
    let form = bed.sign(bed.unsigned("alipay.trade.query", &json!({ "out_trade_no": "A1" })));
    let text = encoded(&form);
    for (query, body) in [
        ("charset=utf-8", text.as_str()),
        ("", &format!("{text}&version=1.0")),
        ("", &text.replace("%7B", "{")),
        ("", &text.replace("%7B", "%7")),
        ("", &format!("{text}&")),
        ("", &format!("{text}&x")),
    ] {
        let answer = bed.send_raw(Method::POST, query, body).await.unwrap();
        let body = String::from_utf8(answer.body.to_vec()).unwrap();
        let answer = Answered::read(&body, "alipay.trade.query");
        assert_eq!(
            answer.outcome(),
            ("40002", "isv.invalid-parameter"),
            "{body}"
        );
        assert!(!answer.is_signed && !answer.is_of_method);
    }
    let put = bed.send_raw(Method::PUT, "", &text).await.unwrap();
    assert!(String::from_utf8_lossy(&put.body).contains("error_response"));
}

/// Certificate mode: both numbers in the request, the gateway's in the answer, and its
/// certificate for who asks.
#[tokio::test]
async fn certificate_mode_names_certificates_both_ways() {
    const SERIAL: &str = "12f778c258d25f4a14a96bb3f6d6ee35";
    let numbers = AlipayCertificateNumbers {
        app_cert_sn: "88d85e3660168e6fde9aeabe92e3fe5f".to_owned(),
        root_cert_sn: "7e5e5bbe934b56aced8b25f7c7b1c9a7_ef960c9b6a6f83c29f3453bf984eafc0"
            .to_owned(),
    };
    let bed = AlipayTestbed::build_with(|settings| {
        settings.apps[0].certificates = Some(numbers.clone());
        settings.key.certificate = Some((SERIAL.to_owned(), "the certificate".to_owned()));
    })
    .await;
    bed.advance_s(60);
    let answer = bed.send(&vector("V2")).await;
    assert_eq!(answer.outcome().1, "ACQ.TRADE_NOT_EXIST", "{}", answer.body);
    assert!(
        answer.is_signed
            && answer
                .body
                .contains(&format!("\"alipay_cert_sn\":\"{SERIAL}\""))
    );

    let with = |root: &str, biz: Value, method: &str| {
        let mut form = bed.unsigned(method, &biz);
        form.insert("app_cert_sn".to_owned(), numbers.app_cert_sn.clone());
        form.insert("alipay_root_cert_sn".to_owned(), root.to_owned());
        bed.sign(form)
    };
    let biz = json!({ "out_trade_no": "A1" });
    for (root, expected) in [
        ("", ("40001", "isv.missing-alipay-root-cert-sn")),
        ("7e5e", ("40002", "isv.invalid-alipay-root-cert-sn")),
    ] {
        let answer = bed
            .send(&with(root, biz.clone(), "alipay.trade.query"))
            .await;
        assert_eq!(answer.outcome(), expected);
    }
    let biz = json!({ "alipay_cert_sn": SERIAL });
    let method = "alipay.open.app.alipaycert.download";
    let answer = bed.send(&with(&numbers.root_cert_sn, biz, method)).await;
    assert_eq!(answer.text("alipay_cert_content"), "dGhlIGNlcnRpZmljYXRl");
}

/// A provider acts for the merchant that authorised it, until the merchant withdraws.
#[tokio::test]
async fn a_provider_acts_for_its_merchants_only() {
    let bed = AlipayTestbed::build().await;
    let create = |token: Option<&str>, number: &str| {
        let mut form = bed.unsigned("alipay.trade.precreate", &order(number, "1.00"));
        if let Some(token) = token {
            form.insert("app_auth_token".to_owned(), token.to_owned());
        }
        bed.sign(form)
    };
    let own = bed.send(&create(None, "A1")).await;
    let theirs = bed.send(&create(Some(TOKEN), "A1")).await;
    assert_ne!(
        own.text("qr_code"),
        theirs.text("qr_code"),
        "numbers are each merchant's own"
    );
    bed.control.scan(theirs.text("qr_code"), AlipayAct::Pay);
    assert_eq!(bed.query("A1").await.outcome().1, "ACQ.TRADE_NOT_EXIST");
    let trades: Vec<String> = bed
        .gateway
        .books()
        .trades()
        .map(|trade| trade.seller_id.clone())
        .collect();
    assert_eq!(trades, [SUB_SELLER_ID]);
    let mut seller = order("A2", "1.00");
    seller["seller_id"] = "2088999999999999".into();
    let answer = bed.create("alipay.trade.precreate", &seller).await;
    assert_eq!(answer.outcome(), ("40004", "ACQ.PARTNER_ERROR"));
    seller["seller_id"] = SELLER_ID.into();
    let answer = bed.create("alipay.trade.precreate", &seller).await;
    assert_eq!(answer.outcome(), ("10000", ""));

    let state = json!({ "app_auth_token": TOKEN });
    let method = "alipay.open.auth.token.app.query";
    assert_eq!(bed.call(method, &state).await.text("status"), "valid");
    assert!(bed.control.withdraw(TOKEN));
    assert_eq!(bed.call(method, &state).await.text("status"), "invalid");
    let refused = bed.send(&create(Some(TOKEN), "A3")).await;
    assert_eq!(refused.outcome(), ("20001", "aop.invalid-app-auth-token"));
}

/// 40003: an application without a key at the portal.
#[tokio::test]
async fn an_application_without_a_key_is_refused() {
    let bed = AlipayTestbed::build_with(|settings| settings.apps[0].public_key = None).await;
    let answer = bed.query("A1").await;
    assert_eq!(answer.outcome(), ("40003", "isv.missing-signature-config"));
    bed.control.advance(Duration::from_secs(1));
}
