//! What goes wrong when ordered, and the control interface.

use http::Method;
use serde_json::{Value, json};

use super::{APP, BACK, FORM, QUERY, UnionPayTestbed};
use paymux::sandbox::{UnionPayCall, UnionPayFault};

const NUMBER: &str = "5GM20260101000001";

impl UnionPayTestbed {
    async fn steer(&self, what: &str, body: &Value) -> (u16, Value) {
        let url = format!("{}/control/{what}", self.unionpay.origin());
        let method = if body.is_null() {
            Method::GET
        } else {
            Method::POST
        };
        let answer = self
            .caller
            .send(method, &url, "application/json", body.to_string())
            .await;
        let answer = answer.unwrap();
        (answer.status, serde_json::from_str(&answer.text).unwrap())
    }
}

/// Each code that can be ordered is answered, signed, and nothing is carried out.
#[tokio::test]
async fn ordered_codes_are_answered_and_nothing_is_done() {
    let testbed = UnionPayTestbed::build().await;
    for code in ["02", "06", "10", "11", "12", "13", "37", "88", "98"] {
        testbed.control.next(UnionPayFault::Refuses(code), 1);
        let refused = testbed.post(BACK, &testbed.qr(NUMBER, "1001")).await;
        assert_eq!(refused.code(), code, "{}", refused.text);
    }
    testbed.control.next(UnionPayFault::Refuses("37"), 2);
    for code in ["37", "37", "34"] {
        assert_eq!(testbed.query(NUMBER).await.code(), code);
    }
    let page = {
        testbed
            .control
            .next_at(UnionPayCall::Front, UnionPayFault::Refuses("06"), 1);
        testbed.arrive(&testbed.front(NUMBER, "1001")).await
    };
    assert!(page.text.contains("respCode=06"));
    assert_eq!(testbed.unionpay.books().transactions().count(), 0);
}

/// Pages, errors and silence, before and after the call was carried out.
#[tokio::test]
async fn pages_and_silence_come_when_ordered() {
    let testbed = UnionPayTestbed::build().await;
    testbed.control.next(UnionPayFault::HtmlPage, 1);
    let page = testbed
        .try_post(BACK, &testbed.qr(NUMBER, "1001"))
        .await
        .unwrap();
    assert_eq!(
        (page.status, &*page.media_type),
        (200, "text/html;charset=UTF-8")
    );
    assert!(testbed.trust.check(&page.fields).is_err());
    testbed.control.next(UnionPayFault::ServerError, 1);
    assert_eq!(
        testbed
            .try_post(BACK, &testbed.qr(NUMBER, "1001"))
            .await
            .unwrap()
            .status,
        503
    );
    testbed.control.next(UnionPayFault::NotReceived, 1);
    assert!(
        testbed
            .try_post(BACK, &testbed.qr(NUMBER, "1001"))
            .await
            .is_none()
    );
    assert_eq!(
        testbed.query(NUMBER).await.code(),
        "34",
        "nothing was carried out"
    );
    for (number, fault) in [
        ("5GM20260101000002", UnionPayFault::AnswerLost),
        ("5GM20260101000003", UnionPayFault::NoAnswer),
    ] {
        testbed.control.next(fault, 1);
        assert!(
            testbed
                .try_post(BACK, &testbed.qr(number, "1001"))
                .await
                .is_none()
        );
        assert_eq!(
            testbed.query(number).await.code(),
            "00",
            "it was carried out"
        );
    }
    let slow = testbed.qr("5GM20260101000004", "1061");
    assert_eq!(testbed.post(BACK, &slow).await.code(), "00");
}

/// An answer that must not be believed was carried out nevertheless, and fails for one reason.
#[tokio::test]
async fn spoilt_answers_fail_for_their_own_reason() {
    let testbed = UnionPayTestbed::build().await;
    for (order, (fault, reason)) in (1_u32..).zip([
        (UnionPayFault::WrongSignature, "signature"),
        (UnionPayFault::SingleHash, "signature"),
        (UnionPayFault::Unsigned, "signature"),
        (UnionPayFault::OtherName, "name"),
        (UnionPayFault::ForeignChain, "chain"),
        (UnionPayFault::ExpiredCertificate, "expired"),
        (UnionPayFault::Downgrade, "version or method"),
    ]) {
        let number = format!("5GM2026010100000{order}");
        testbed.control.next(fault, 1);
        let answer = testbed
            .try_post(BACK, &testbed.qr(&number, "1001"))
            .await
            .unwrap();
        assert_eq!(
            testbed.trust.check(&answer.fields),
            Err(reason),
            "{fault:?}"
        );
        assert_eq!(testbed.query(&number).await.code(), "00");
    }
    testbed.control.next(UnionPayFault::Wrapped, 1);
    let wrapped = testbed.query(NUMBER).await;
    assert!(wrapped.text.starts_with('{') && wrapped.text.ends_with('}'));
}

/// Amounts trigger faults at the first call, as in the table.
#[tokio::test]
async fn amounts_trigger_faults() {
    let testbed = UnionPayTestbed::build().await;
    let unknown = testbed.post(BACK, &testbed.qr(NUMBER, "1067")).await;
    assert_eq!(unknown.code(), "88");
    let app = testbed.payment(["01", "01"], "000201", NUMBER, "1075");
    assert_eq!(testbed.post(APP, &app).await.code(), "05");
    assert_eq!(testbed.query(NUMBER).await.code(), "00");
}

/// UnionPay changes its signing key while everything runs; the chain stays.
#[tokio::test]
async fn the_signing_key_is_renewed_while_running() {
    let testbed = UnionPayTestbed::build().await;
    let before = testbed
        .query(NUMBER)
        .await
        .fields
        .get("signPubKeyCert")
        .to_owned();
    testbed.control.renew_signing_key().unwrap();
    let after = testbed
        .query(NUMBER)
        .await
        .fields
        .get("signPubKeyCert")
        .to_owned();
    assert_ne!(before, after);
    let pem = testbed.control.signing_certificate_pem();
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(&after), lines(&pem));
}

/// The same control over HTTP, for the demo.
#[tokio::test]
async fn the_counterpart_is_steered_over_http() {
    let testbed = UnionPayTestbed::build().await;
    let order = json!({ "fault": "refuses_37", "call": "query", "times": 1 });
    assert_eq!(testbed.steer("next", &order).await.0, 200);
    assert_eq!(testbed.query(NUMBER).await.code(), "37");
    let (status, _) = testbed
        .steer("clock", &json!({ "at": "20260101080100" }))
        .await;
    assert_eq!(status, 200);
    let late = testbed
        .qr(NUMBER, "1001")
        .with("payTimeout", "20260101080030");
    assert_eq!(testbed.post(BACK, &late).await.code(), "44");
    testbed.paid("5GM20260101000002", "1001").await;
    let (_, books) = testbed.steer("books", &Value::Null).await;
    assert_eq!(
        (&books["taken"], &books["transactions"][0]["origRespCode"]),
        (&json!("10.01"), &json!("00"))
    );
    let (_, faults) = testbed.steer("faults", &Value::Null).await;
    assert_eq!(faults["faults"].as_array().unwrap().len(), 36);
    let before = testbed.control.signing_certificate_pem();
    assert_eq!(testbed.steer("renew", &json!({})).await.0, 200);
    assert_ne!(testbed.control.signing_certificate_pem(), before);
    let withdrawal = json!({ "merId": super::MER_ID, "certId": super::CERT_ID });
    assert_eq!(testbed.steer("withdraw", &withdrawal).await.0, 200);
    assert_eq!(testbed.query(NUMBER).await.code(), "11");
    let enrolment = json!({
        "merId": super::MER_ID, "certificate": super::whole("merchant_certificate"),
    });
    let (_, enrolled) = testbed.steer("enrol", &enrolment).await;
    assert_eq!(enrolled["certId"], super::CERT_ID);
    assert_eq!(testbed.query(NUMBER).await.code(), "34");
    for (what, body) in [
        ("next", json!({ "fault": "none" })),
        ("next", json!({ "fault": "refuses_37", "call": "none" })),
        ("clock", json!({ "at": "noon" })),
        (
            "enrol",
            json!({ "merId": super::MER_ID, "certificate": "none" }),
        ),
        ("else", json!({})),
    ] {
        assert_eq!(testbed.steer(what, &body).await.0, 400, "{what}");
    }
}

/// Requests to another name are not this server's.
#[tokio::test]
async fn another_host_name_is_refused() {
    let testbed = UnionPayTestbed::build().await;
    let body = testbed
        .merchant
        .sign(&UnionPayTestbed::query_of(NUMBER))
        .body();
    let port = testbed.unionpay.address().port();
    let url = format!("https://127.0.0.1:{port}{QUERY}");
    let answer = testbed
        .caller
        .send_to("elsewhere", &url, FORM, body)
        .await
        .unwrap();
    assert_eq!(answer.status, 421);
}
