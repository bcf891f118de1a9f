//! Requests, answers, certificate numbers and notifications as the protocol's documents publish
//! them.

use bytes::Bytes;
use http::Response;
use serde_json::Value;

use super::{account, built, key_text, with_certificates};
use crate::crypto::rsa::{RsaPrivateKey, RsaScheme};
use crate::domain::amount::Amount;
use crate::domain::evidence::{EvidenceSubject, Finding};
use crate::institution::Unverified;
use crate::institution::alipay::answers::AlipayAnswer;
use crate::institution::alipay::callbacks::AlipayNotification;
use crate::institution::alipay::codes::AnswerCode;
use crate::institution::alipay::form::DecodedForm;
use crate::institution::alipay::parameters::{RequestParameters, SIGN, SIGN_TYPE, signed_text};

const VECTORS: &str = include_str!("vectors.json");

fn vectors(of: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(VECTORS).unwrap();
    all[of].as_array().unwrap().clone()
}

fn text<'v>(vector: &'v Value, name: &str) -> &'v str {
    vector[name].as_str().unwrap()
}

/// Q2, A3: each published request is signed over the same text, to the same signature, and escaped
/// to the same form.
#[test]
fn published_requests_are_signed_byte_for_byte() {
    let key = RsaPrivateKey::from_text(&key_text("ours", "pkcs8"), RsaScheme::Pkcs1Sha256);
    let key = key.unwrap();
    let all = vectors("requests");
    assert_eq!(all.len(), 7);
    let mut forms = 0;
    for vector in &all {
        let what = text(vector, "what");
        let mut parameters = RequestParameters::default();
        for (name, value) in vector["params"].as_object().unwrap() {
            let name: &'static str = name.clone().leak();
            parameters = parameters.with(name, value.as_str().unwrap());
        }
        assert_eq!(parameters.text(), text(vector, "text"), "{what}");
        let signed = parameters.signed(&key).unwrap();
        let whole = signed.whole();
        let sent = DecodedForm::parse(whole.as_bytes()).ok().unwrap();
        assert_eq!(sent.get(SIGN), vector["signature"].as_str(), "{what}");
        let read = signed_text(sent.without(&[SIGN]));
        assert_eq!(read, text(vector, "text"), "{what}: escaped after signing");
        if let Some(form) = vector["form"].as_str() {
            forms += 1;
            assert_eq!(whole, form, "{what}");
        }
        // The encoding stands in the query, and nowhere twice.
        let body = signed.body();
        let body = DecodedForm::parse(body.as_bytes()).ok().unwrap();
        assert_eq!(body.get("charset"), None, "{what}");
    }
    assert_eq!(forms, 2);
}

/// C1: each published answer is verified over the very bytes of its node, in key mode and, where it
/// names a certificate, in certificate mode.
#[test]
fn published_answers_are_verified_byte_for_byte() {
    for vector in vectors("answers") {
        let (what, body) = (text(&vector, "what"), text(&vector, "body"));
        let reply = Response::new(Bytes::copy_from_slice(body.as_bytes()));
        let names_certificate = body.contains("alipay_cert_sn");
        let account = if names_certificate {
            built(with_certificates()).unwrap()
        } else {
            account()
        };
        let answer = AlipayAnswer::read(&account, text(&vector, "method"), &reply)
            .ok()
            .unwrap();
        assert!(answer.is_proven, "{what}");
        let code = answer.code().unwrap();
        let failed = body.contains("40004");
        let expected = if failed {
            AnswerCode::Business
        } else {
            AnswerCode::Executed
        };
        assert_eq!(code, expected, "{what}");
        if let Some(signed) = vector["signed"].as_str() {
            assert!(body.contains(signed), "{what}");
        }
        // An answer to another call is none to this one.
        assert!(
            AlipayAnswer::read(&account, "alipay.trade.close", &reply).is_err(),
            "{what}"
        );
    }
}

/// The certificate numbers of requests and of answers are those that the documents publish: a root
/// of another algorithm does not count.
#[test]
fn published_certificate_numbers_are_sent() {
    let account = built(with_certificates()).unwrap();
    let numbers = account.certificate_numbers().unwrap();
    assert_eq!(numbers.app, "88d85e3660168e6fde9aeabe92e3fe5f");
    assert_eq!(
        numbers.root,
        "7e5e5bbe934b56aced8b25f7c7b1c9a7_ef960c9b6a6f83c29f3453bf984eafc0"
    );
}

/// C1: each published notification is verified over its values, unescaped once. A payment is proof;
/// a refund is a hint, with the same status; one about an agreement is about no payment.
#[test]
fn published_notifications_are_verified() {
    let account = account();
    let all = vectors("notifications");
    for vector in &all {
        let (what, body) = (text(vector, "what"), text(vector, "body"));
        let form = DecodedForm::parse(body.as_bytes()).ok().unwrap();
        let signed = signed_text(form.without(&[SIGN, SIGN_TYPE]));
        assert_eq!(signed, text(vector, "text"), "{what}");
        assert_eq!(form.get(SIGN), vector["signature"].as_str(), "{what}");
        assert!(account.proves(&signed, text(vector, "signature")), "{what}");
        // Its numbers are not of our form.
        let read = AlipayNotification::read(&account, body.as_bytes()).err();
        let expected = if body.contains("dut_user_sign") {
            "notify_type"
        } else {
            "names_no_attempt"
        };
        assert_eq!(read, Some(Unverified::NamesNothing(expected)), "{what}");
    }
    assert_eq!(all.len(), 3);
}

/// E3, R1: the notification of a payment proves it, that of a refund is a hint whatever its running
/// total.
#[test]
fn a_notification_about_a_refund_is_a_hint() {
    let account = account();
    let ours = |body: &str| {
        let form = DecodedForm::parse(body.as_bytes()).ok().unwrap();
        let ours = [
            ("5GM20260101000001", "A01KAMB7E80000000000000000A"),
            ("5GR20260101000001", "R01KAMB7E80000000000000000C"),
        ];
        let mut text = form_urlencoded::Serializer::new(String::new());
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (name, value) in form.without(&[SIGN, SIGN_TYPE]) {
            let value = ours
                .iter()
                .find(|(theirs, _)| *theirs == value)
                .map_or(value, |it| it.1);
            pairs.push((name.to_owned(), value.to_owned()));
        }
        let signed = signed_text(
            pairs
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        );
        let sign = super::signature(&super::their_key(), &signed);
        pairs.push((SIGN_TYPE.to_owned(), "RSA2".to_owned()));
        pairs.push((SIGN.to_owned(), sign));
        text.extend_pairs(pairs);
        let body = text.finish();
        AlipayNotification::read(&account, body.as_bytes())
            .ok()
            .unwrap()
    };
    let all = vectors("notifications");
    let paid = ours(text(&all[0], "body"));
    assert!(matches!(paid.about, EvidenceSubject::Attempt(_)));
    let Ok(Finding::Succeeded(receipt)) = paid.finding() else {
        panic!("{:?}", paid.finding());
    };
    assert_eq!(receipt.amount.minor(), 1_001);
    assert_eq!(
        receipt.institution_no.as_deref(),
        Some("2026010122001400000000000001")
    );
    assert_eq!(receipt.paid_at.rfc3339(), "2026-01-01T08:01:12+08:00");
    assert_eq!(paid.sum().map(Amount::minor), Some(1_001));
    assert!(paid.is_of(&account));
    let refunded = ours(text(&all[1], "body"));
    assert!(matches!(refunded.about, EvidenceSubject::Refund(_)));
    assert_eq!(refunded.finding(), Ok(Finding::Hint));
    assert_eq!(
        refunded.sum(),
        None,
        "a running total is no sum of a refund"
    );
    assert_eq!(refunded.along().paid.map(Amount::minor), Some(1_001));
}
