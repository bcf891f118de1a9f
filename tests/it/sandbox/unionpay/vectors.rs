//! The description's own messages, byte for byte.

use super::client::{UnionPayFieldList, UnionPayTrust, hex};
use super::{
    APP, BACK, FILES, FORM, FRONT, MORNING_S, QUERY, UnionPayTestbed, VECTORS, identity, vector,
    whole,
};
use paymux::crypto::digest::sha256;

/// A request with its recorded signature.
fn recorded(name: &str) -> UnionPayFieldList {
    let params = VECTORS[name]["params"].as_object().unwrap();
    let fields = params.iter().map(|(name, value)| {
        let value = value.as_str().unwrap();
        (name.clone(), value.to_owned())
    });
    UnionPayFieldList(fields.collect()).with("signature", &vector(name, "sig"))
}

/// The test merchant signs as the description does, so that it can judge the counterpart.
#[tokio::test]
async fn the_test_merchant_signs_the_recorded_requests() {
    let testbed = UnionPayTestbed::build().await;
    for name in ["v1", "v2", "v3", "v4", "v10", "v11"] {
        let fields = recorded(name);
        assert_eq!(fields.sign_text(), vector(name, "msg"), "{name}");
        assert_eq!(
            hex(&sha256(fields.sign_text().as_bytes())),
            vector(name, "hash")
        );
        let signed = testbed.merchant.sign(&fields.clone().without("signature"));
        assert_eq!(signed.get("signature"), fields.get("signature"), "{name}");
    }
}

/// Every recorded request is accepted with its recorded signature.
#[tokio::test]
async fn the_recorded_requests_are_accepted() {
    let testbed = UnionPayTestbed::build().await;
    let page = testbed
        .post_body(FRONT, FORM, recorded("v1").body())
        .await
        .unwrap();
    assert!(page.text.contains("确认付款"), "{}", page.text);
    testbed.press("5GM20260101000001", "pay").await;
    testbed.control.hold_clock(Some(MORNING_S + 3_600));
    for (name, path, code) in [
        ("v2", QUERY, "00"),
        ("v3", BACK, "00"),
        ("v11", BACK, "44"),
        ("v4", BACK, "44"),
    ] {
        let answer = testbed
            .post_body(path, FORM, recorded(name).body())
            .await
            .unwrap();
        assert_eq!(testbed.trust.check(&answer.fields), Ok(()));
        assert_eq!(answer.code(), code, "{name}: {}", answer.text);
    }
    // In time, the two codes are given.
    testbed.control.hold_clock(Some(MORNING_S));
    for name in ["v4", "v11"] {
        let answer = testbed
            .post_body(BACK, FORM, recorded(name).body())
            .await
            .unwrap();
        assert_eq!(answer.code(), "00", "{name}: {}", answer.text);
        assert!(answer.fields.get("qrCode").starts_with("https://"));
    }
    let elsewhere = testbed
        .post_body(APP, FORM, recorded("v4").body())
        .await
        .unwrap();
    assert_eq!(elsewhere.code(), "10", "a call of another path");
}

/// With the description's key, the answers and the notification are those of the description.
#[tokio::test]
async fn the_recorded_answers_are_given_byte_for_byte() {
    let testbed = UnionPayTestbed::build().await;
    let theirs = identity("unionpay_certificate", "unionpay_key");
    testbed.control.sign_with(&theirs).unwrap();
    let purchase = recorded("v1").without("signature");
    let purchase = purchase.with("backUrl", &testbed.listener.url("/notify"));
    testbed.arrive(&purchase).await;
    testbed.press("5GM20260101000001", "pay").await;
    testbed.acknowledged("5GM20260101000001", 1).await;
    let form = testbed.listener.forms().remove(0);
    assert_eq!(String::from_utf8_lossy(&form.body), vector("v5", "raw"));
    let answer = testbed
        .post_body(QUERY, FORM, recorded("v2").body())
        .await
        .unwrap();
    assert_eq!(answer.text, vector("v6", "raw"));
    let unknown = recorded("v2")
        .without("signature")
        .with("orderId", "5GM20260101009999");
    let unknown = testbed.try_post(QUERY, &unknown).await.unwrap();
    assert_eq!(unknown.text, vector("v7", "raw"));
    let trust = UnionPayTrust {
        root_pem: whole("root_certificate").to_owned(),
        middle_pem: whole("middle_certificate").to_owned(),
        now_s: MORNING_S,
    };
    assert_eq!(trust.check(&answer.fields), Ok(()));
    assert_eq!(testbed.trust.check(&answer.fields), Err("chain"));
    let changed = UnionPayFieldList::of_form(&form.body).with("txnAmt", "1002");
    assert_eq!(trust.check(&changed), Err("signature"));
}

/// The recorded message of somebody else is refused for its name, so the test merchant's judgement
/// counts.
#[tokio::test]
async fn the_test_merchant_refuses_somebody_elses_message() {
    let message = vector("someone_else", "msg");
    let message =
        UnionPayFieldList::of_raw(&message).with("signature", &vector("someone_else", "sig"));
    let trust = UnionPayTrust {
        root_pem: whole("root_certificate").to_owned(),
        middle_pem: whole("middle_certificate").to_owned(),
        now_s: MORNING_S,
    };
    assert_eq!(trust.check(&message), Err("name"));
}

/// The recorded request for a file is accepted, and the recorded line of the purchase is in it.
#[tokio::test]
async fn the_recorded_file_is_written() {
    let testbed = UnionPayTestbed::build().await;
    testbed
        .post_body(FRONT, FORM, recorded("v1").body())
        .await
        .unwrap();
    testbed.press("5GM20260101000001", "pay").await;
    testbed.control.hold_clock(Some(MORNING_S + 3_600));
    testbed
        .post_body(BACK, FORM, recorded("v3").body())
        .await
        .unwrap();
    testbed
        .wait_for("5GR20260101000001", |refund| refund.receipt.is_some())
        .await;
    testbed.control.hold_clock(Some(MORNING_S + 26 * 3_600));
    let answer = testbed
        .post_body(FILES, FORM, recorded("v10").body())
        .await
        .unwrap();
    assert_eq!(answer.code(), "00", "{}", answer.text);
    let written = super::files::members(answer.fields.get("fileContent"));
    let expected = super::files::members(whole("v12"));
    assert_eq!(written[0].0, expected[0].0);
    let [written, expected] = [&written[0].1, &expected[0].1].map(|text| text.split_at(610));
    assert_eq!(
        String::from_utf8_lossy(written.0),
        String::from_utf8_lossy(expected.0)
    );
    // The recorded refund has a sub-merchant, which its recorded request has not.
    let blanked = |line: &[u8]| [&line[..311], &[b' '; 48], &line[359..]].concat();
    assert_eq!(
        String::from_utf8_lossy(written.1),
        String::from_utf8_lossy(&blanked(expected.1))
    );
}
