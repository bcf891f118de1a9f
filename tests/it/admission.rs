//! Authentication and input validation: each bad request is refused with the documented code and
//! changes nothing.

mod limits;
mod once;
mod recorded;
mod secrets;
mod targets;

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use paymux::api::Peer;
use paymux::domain::identifiers::{MerchantId, Timestamp};
use paymux::domain::merchant::{Admission, ClientCertificate, ShownCertificate};
use paymux::signature::{Question, verify_response};
use serde_json::{Value, json};

use crate::world::enrolment::{
    ORIGIN, order_fields, platform_ring, shown, sign, snapshot, unsigned,
};
use crate::world::fake_institution::FakeInstitutionAbility;
use crate::world::test_gateway::{PEER, TestGateway, TestReply, changed, now};

const PLACE: &str = "/v1/orders";
const ONE: [(&str, FakeInstitutionAbility); 1] = [("bank", FakeInstitutionAbility::ALL)];

/// Sends the request and checks the refusal. Nothing durable may have changed except, where the
/// fields were at fault, the spent nonce.
fn refused(gateway: &TestGateway, request: Request<Bytes>, status: u16, code: &str) -> TestReply {
    let before = gateway.durable_state();
    let reply = gateway.send(request);
    assert_eq!(
        (reply.status, reply.result),
        (status, code),
        "{:?}",
        reply.json
    );
    assert_eq!(reply.text("result"), "REFUSED");
    assert_eq!(reply.text("code"), code);
    assert_eq!(reply.json["status"], json!(status));
    let media_type = &reply.response.headers()[header::CONTENT_TYPE];
    assert_eq!(media_type, "application/problem+json");
    let mut after = gateway.durable_state();
    after.nonces.clone_from(&before.nonces);
    assert_eq!(after, before, "{code} changed the store");
    reply
}

fn signed_raw(gateway: &TestGateway, body: impl Into<Bytes>) -> Request<Bytes> {
    let mut request = unsigned(PLACE, body);
    sign(&mut request, "M1-key", gateway.now_s(), &gateway.nonce());
    request
}

fn good(gateway: &TestGateway) -> Request<Bytes> {
    gateway.signed("M1", PLACE, &order_fields("M1", "T1"))
}

fn with(gateway: &TestGateway, changes: Value) -> Request<Bytes> {
    gateway.signed("M1", PLACE, &changed(order_fields("M1", "T1"), changes))
}

/// Q10, R-6.3.1-3a: a body that is not one flat JSON object is refused.
#[test]
fn unreadable_bodies_are_refused() {
    let gateway = TestGateway::new();
    let deep = format!("{{\"goodsName\":{}{}}}", "[".repeat(60), "]".repeat(60));
    for body in [
        b"".to_vec(),
        b"{".to_vec(),
        b"merchantId=M1".to_vec(),
        b"[1]".to_vec(),
        b"\"x\"".to_vec(),
        b"null".to_vec(),
        b"{\"orderAmount\":NaN}".to_vec(),
        b"{\"merchantName\":\"\xff\"}".to_vec(),
        b"{}{}".to_vec(),
        deep.into_bytes(),
    ] {
        refused(&gateway, signed_raw(&gateway, body), 400, "body_unreadable");
    }
    let twice = b"{\"merchantId\":\"M1\",\"merchantId\":\"M2\"}".to_vec();
    let reply = refused(
        &gateway,
        signed_raw(&gateway, twice),
        400,
        "field_duplicate",
    );
    assert_eq!(reply.text("field"), "merchantId");
    refused(
        &gateway,
        signed_raw(&gateway, vec![b' '; 70_000]),
        413,
        "body_too_large",
    );
}

/// Q10: only JSON bodies are accepted.
#[test]
fn other_media_types_are_refused() {
    let gateway = TestGateway::new();
    for other in [
        "text/plain",
        "application/json; charset=gbk",
        "application/xml",
    ] {
        let mut request = good(&gateway);
        let value = HeaderValue::from_static(other);
        request.headers_mut().insert(header::CONTENT_TYPE, value);
        refused(&gateway, request, 415, "media_type_wrong");
    }
}

/// M4, R-A3.1-1: an amount is digits with at most one point and no more decimals than the currency
/// has; anything else is refused.
#[test]
fn malformed_amounts_are_refused() {
    let gateway = TestGateway::new();
    for (sum, status, code) in [
        (json!("1e3"), 400, "amount_unreadable"),
        (json!(1e30), 400, "amount_unreadable"),
        (json!("-1"), 400, "amount_unreadable"),
        (json!(-1), 400, "amount_unreadable"),
        (json!("NaN"), 400, "amount_unreadable"),
        (json!("00.10"), 400, "amount_unreadable"),
        (json!(".5"), 400, "amount_unreadable"),
        (json!("1."), 400, "amount_unreadable"),
        (json!("1_000"), 400, "amount_unreadable"),
        (json!("+1"), 400, "amount_unreadable"),
        (json!("1,000"), 400, "amount_unreadable"),
        (json!(" 1"), 400, "amount_unreadable"),
        (json!(""), 400, "amount_unreadable"),
        (json!("0.001"), 422, "amount_too_precise"),
        (json!(0.001), 422, "amount_too_precise"),
        (json!("0"), 422, "amount_out_of_range"),
        (json!("99999999999999999999"), 422, "amount_out_of_range"),
        (json!(true), 400, "field_malformed"),
        (json!([1]), 400, "field_malformed"),
        (json!({ "value": 1 }), 400, "field_malformed"),
    ] {
        let reply = refused(
            &gateway,
            with(&gateway, json!({ "orderAmount": sum })),
            status,
            code,
        );
        assert_eq!(reply.text("field"), "orderAmount", "{sum}");
    }
    let huge = serde_json::to_string(&order_fields("M1", "T1")).unwrap();
    let huge = huge.replace("\"12.30\"", &"9".repeat(5_000));
    refused(&gateway, signed_raw(&gateway, huge), 400, "field_malformed");
}

/// M4, G-1: trailing zeros are not precision, in a JSON number as in a string.
#[test]
fn trailing_zeros_are_not_precision() {
    for written in ["12.300", "\"12.300\"", "12.3", "12.30000000"] {
        let gateway = TestGateway::new();
        let fields = serde_json::to_string(&order_fields("M1", "T1")).unwrap();
        let fields = fields.replace("\"12.30\"", written);
        let reply = gateway.send(signed_raw(&gateway, fields));
        assert_eq!(reply.status, 200, "{written}: {:?}", reply.json);
        assert_eq!(gateway.order("T1").terms.amount.to_string(), "12.30");
    }
}

/// R-A3.1-1, R-6.1.1-3a, R-6.1.3-1, R-6.1.4-1: a refusal names the missing field, or the unknown
/// one: no field takes a password or a card number.
#[test]
fn only_documented_fields_are_accepted() {
    let gateway = TestGateway::new();
    for missing in [
        "transactionType",
        "businessType",
        "bankReturnUrl",
        "merchantOrderNo",
        "merchantName",
        "orderDate",
        "orderAmount",
        "merchantId",
        "mobileNo",
    ] {
        for absent in [Value::Null, json!("absent")] {
            let mut changes = json!({});
            changes[missing] = Value::Null;
            let mut fields = changed(order_fields("M1", "T1"), changes);
            if absent.is_null() {
                // Null counts as absent.
                fields[missing] = Value::Null;
            }
            let request = gateway.signed("M1", PLACE, &fields);
            let reply = refused(&gateway, request, 400, "field_missing");
            assert_eq!(reply.text("field"), missing);
        }
    }
    for unknown in ["payPassword", "cardNo", "cvv2", "MerchantId", "amount"] {
        let mut changes = json!({});
        changes[unknown] = json!("1");
        let reply = refused(&gateway, with(&gateway, changes), 400, "field_unknown");
        assert_eq!(reply.text("field"), unknown);
    }
}

/// Q10, R-A3.1-1: a refusal names the malformed field and the expected format.
#[test]
fn malformed_fields_are_refused() {
    let gateway = TestGateway::new();
    for (field, value) in [
        ("merchantOrderNo", json!("a b")),
        ("merchantOrderNo", json!("x".repeat(33))),
        ("merchantOrderNo", json!("é")),
        ("merchantOrderNo", json!(17)),
        ("merchantId", json!("M1\n")),
        ("merchantName", json!("Tea\u{0}House")),
        ("merchantName", json!("")),
        ("goodsNo", json!("x".repeat(65))),
        ("orderDate", json!("20260230")),
        ("orderDate", json!("2026-09-25")),
        ("mobileNo", json!("1381234567")),
        ("mobileNo", json!("+8613812345678")),
        ("businessType", json!("webview")),
        ("transactionType", json!("REFUND")),
        ("institutionId", json!("../bank")),
        ("mode", json!("FAX")),
        ("expireMinutes", json!(0)),
        ("expireMinutes", json!(1_441)),
        ("expireMinutes", json!(1.5)),
        ("expireMinutes", json!("015")),
        ("expireMinutes", json!("+15")),
        ("explainInstitutions", json!("true")),
    ] {
        let mut changes = json!({});
        changes[field] = value;
        let reply = refused(&gateway, with(&gateway, changes), 400, "field_malformed");
        assert_eq!(reply.text("field"), field);
        assert!(reply.text("detail").starts_with("expected"));
    }
    let both = json!({ "businessType": "WEBVIEW", "mode": "NATIVE" });
    refused(&gateway, with(&gateway, both), 400, "fields_disagree");
    refused(
        &gateway,
        with(&gateway, json!({ "mode": "NATIVE" })),
        400,
        "fields_disagree",
    );
}

/// Well-formed but invalid: a merchant name other than the enrolled one, an unknown currency or
/// institution, an address that is not registered (R-A3.1-5).
#[test]
fn impossible_orders_are_refused() {
    let gateway = TestGateway::new();
    for (changes, status, code) in [
        (
            json!({ "merchantName": "Coffee House" }),
            422,
            "merchant_name_wrong",
        ),
        (json!({ "currency": "QQQ" }), 422, "currency_unknown"),
        (
            json!({ "institutionId": "nobody" }),
            422,
            "institution_unknown",
        ),
        (
            json!({ "businessType": "NATIVE" }),
            422,
            "institution_required",
        ),
        (json!({ "businessType": "CHATBOT" }), 422, "not_offered"),
        (
            json!({ "transactionType": "PASSWORD_FREE_PAY" }),
            422,
            "not_offered",
        ),
        (json!({ "merchantId": "M2" }), 403, "merchant_foreign"),
        (json!({ "merchantId": "nobody" }), 403, "merchant_foreign"),
    ] {
        refused(&gateway, with(&gateway, changes), status, code);
    }
    for address in [
        "http://m1.shop.example/paid",
        "https://m2.shop.example/paid",
        "https://m1.shop.example.evil/paid",
        "https://m1.shop.example@evil.example/",
        "https://127.0.0.1/paid",
        "//m1.shop.example/paid",
    ] {
        let changes = json!({ "bankReturnUrl": address });
        refused(
            &gateway,
            with(&gateway, changes),
            422,
            "return_url_unregistered",
        );
    }
}

/// R-6.3.1-1a, R-6.3.1-2a, Q2, Q3: unsigned, signed over too few components, signed by an unknown
/// key or by another merchant's, or changed in transit: refused on every endpoint.
#[test]
fn unauthenticated_requests_are_refused() {
    let gateway = TestGateway::new();
    for path in [
        "/v1/orders",
        "/v1/orders/institutions",
        "/v1/orders/select",
        "/v1/orders/query",
        "/v1/orders/close",
    ] {
        let body = serde_json::to_vec(&order_fields("M1", "T1")).unwrap();
        let reply = refused(&gateway, unsigned(path, body), 401, "signature_unusable");
        assert!(!reply.response.headers().contains_key("signature"));
    }
    let mut little = good(&gateway);
    let input = little.headers()["signature-input"].to_str().unwrap();
    let input = input.replace(" \"content-digest\"", "");
    let input = HeaderValue::try_from(input).unwrap();
    little.headers_mut().insert("signature-input", input);
    refused(&gateway, little, 401, "signature_unusable");

    let mut unauthenticated = unsigned(
        PLACE,
        serde_json::to_vec(&order_fields("M1", "T1")).unwrap(),
    );
    sign(
        &mut unauthenticated,
        "unknown",
        gateway.now_s(),
        &gateway.nonce(),
    );
    refused(&gateway, unauthenticated, 401, "key_unknown");

    let mut changed_body = good(&gateway);
    *changed_body.body_mut() = Bytes::from(order_fields("M1", "T2").to_string());
    refused(&gateway, changed_body, 401, "digest_mismatch");

    let mut elsewhere = good(&gateway);
    *elsewhere.uri_mut() = "/v1/orders/close".parse().unwrap();
    let reply = refused(&gateway, elsewhere, 401, "signature_mismatch");
    assert!(
        reply
            .text("detail")
            .contains("\"@target-uri\": https://pay.example/v1/orders/close")
    );

    let mut renamed = good(&gateway);
    let input = renamed.headers()["signature-input"].to_str().unwrap();
    let input = input.replace("M1-key", "M2-key");
    let input = HeaderValue::try_from(input).unwrap();
    renamed.headers_mut().insert("signature-input", input);
    refused(&gateway, renamed, 401, "signature_mismatch");

    let mut host = good(&gateway);
    let value = HeaderValue::from_static("pay.example.evil");
    host.headers_mut().insert(header::HOST, value);
    refused(&gateway, host, 421, "authority_wrong");
}

/// R-6.3.1-1c: a key outside its validity period is refused.
#[test]
fn an_expired_key_is_refused() {
    let gateway = TestGateway::new();
    let mut request = good(&gateway);
    sign(&mut request, "M1-old", gateway.now_s(), &gateway.nonce());
    refused(&gateway, request, 401, "key_expired");
}

/// R-6.3.2-2a, Q5: a nonce is accepted once, also after a restart, whatever the request was and
/// even if it was refused because of the order's state.
#[test]
fn a_request_is_admitted_once() {
    let mut gateway = TestGateway::new();
    let place = good(&gateway);
    assert_eq!(gateway.send(place.clone()).status, 200);
    let naming = json!({ "merchantId": "M1", "merchantOrderNo": "T1" });
    let query = gateway.signed("M1", "/v1/orders/query", &naming);
    assert_eq!(gateway.send(query.clone()).status, 200);
    refused(&gateway, query, 401, "nonce_spent");
    let conflict = with(&gateway, json!({ "orderAmount": "1" }));
    refused(&gateway, conflict.clone(), 409, "order_conflict");
    for _ in 0..2 {
        refused(&gateway, place.clone(), 401, "nonce_spent");
        refused(&gateway, conflict.clone(), 401, "nonce_spent");
        gateway.restart();
    }
    let close = gateway.signed("M1", "/v1/orders/close", &naming);
    assert_eq!(gateway.send(close.clone()).status, 200);
    refused(&gateway, close, 401, "nonce_spent");
}

/// R-6.3.2-2a, Q5, Q6, T2: too old, too far ahead, expired, or made at a time whose nonces were
/// dropped: refused whatever the clock reads later; requests from before or after that time are
/// accepted.
#[test]
fn requests_outside_the_window_are_refused() {
    let gateway = TestGateway::new();
    for created in [-301, 31, -130] {
        let mut request = good(&gateway);
        sign(
            &mut request,
            "M1-key",
            gateway.now_s() + created,
            &gateway.nonce(),
        );
        refused(&gateway, request, 401, "outside_window");
    }
    for nonce in ["short", "has a blank in it", &"x".repeat(65)] {
        let mut request = good(&gateway);
        sign(&mut request, "M1-key", gateway.now_s(), nonce);
        refused(&gateway, request, 401, "nonce_malformed");
    }
    let spent = good(&gateway);
    assert_eq!(gateway.send(spent.clone()).status, 200);
    let until = Timestamp::from_s(gateway.now_s());
    now(gateway.api.store.nonces.forget_nonces(until)).unwrap();
    let remembered = gateway.durable_state().nonces;
    let is_above = |created: &Timestamp| *created > until;
    assert!(remembered.values().all(is_above), "forgotten, and yet:");
    refused(&gateway, spent, 401, "outside_window");
    gateway.clock.set_off(-60_000);
    let mut request = good(&gateway);
    sign(&mut request, "M1-key", gateway.now_s(), &gateway.nonce());
    assert_eq!(gateway.send(request).status, 200);
    gateway.clock.set_off(0);
    let mut request = good(&gateway);
    sign(&mut request, "M1-key", gateway.now_s(), &gateway.nonce());
    refused(&gateway, request, 401, "outside_window");
}

/// Q4, R-6.3.1-1b: certificate, key and `merchantId` must belong to the same merchant.
#[test]
fn a_certificate_of_another_merchant_is_refused() {
    let mut enrolled = snapshot(&ONE);
    let m1 = MerchantId::parse("M1").unwrap();
    let merchant = enrolled.routing.merchants.get_mut(&m1).unwrap();
    merchant.client_certificate = ClientCertificate::Required;
    let gateway = TestGateway::enrolled(&ONE, enrolled);
    let shown = |name: &str| Peer {
        certificate: Some(shown(name, gateway.now_s() + 60)),
        ..PEER
    };
    assert_eq!(gateway.send(good(&gateway)).result, "certificate_missing");
    for foreign in ["M2", "nobody"] {
        let reply = gateway.send_from(good(&gateway), shown(foreign));
        assert_eq!((reply.status, reply.result), (403, "certificate_foreign"));
    }
    assert!(gateway.durable_state().orders.is_empty());
    assert_eq!(gateway.send_from(good(&gateway), shown("M1")).status, 200);
}

/// Q4, R-6.3.1-1c: a certificate that expires while the connection is open is refused from the
/// second after its end, and so is one that is not valid yet; nothing is recorded.
#[test]
fn a_certificate_that_expires_meanwhile_is_refused() {
    let gateway = TestGateway::new();
    let peer = Peer {
        certificate: Some(shown("M1", gateway.now_s() + 60)),
        ..PEER
    };
    gateway.advance_s(60);
    assert_eq!(gateway.send_from(good(&gateway), peer).status, 200);
    gateway.advance_s(1);
    let before = gateway.durable_state();
    let reply = gateway.send_from(gateway.signed("M1", PLACE, &order_fields("M1", "T2")), peer);
    assert_eq!((reply.status, reply.result), (403, "certificate_expired"));
    let early = ShownCertificate {
        not_before_s: gateway.now_s() + 1,
        ..shown("M1", i64::MAX)
    };
    let peer = Peer {
        certificate: Some(early),
        ..PEER
    };
    assert_eq!(
        gateway.send_from(good(&gateway), peer).result,
        "certificate_expired"
    );
    let mut after = gateway.durable_state();
    after.nonces.clone_from(&before.nonces);
    assert_eq!(after, before, "nothing but the nonces (Q5)");
}

/// R-4-3: a merchant that is not admitted starts nothing; a suspended one may still query and
/// close.
#[test]
fn a_suspended_merchant_starts_nothing() {
    let mut gateway = TestGateway::with(&ONE);
    gateway.place("T1", json!({}));
    let m1 = MerchantId::parse("M1").unwrap();
    let with = |admission| {
        let mut enrolled = snapshot(&ONE);
        enrolled.routing.merchants.get_mut(&m1).unwrap().admission = admission;
        std::sync::Arc::new(enrolled)
    };
    gateway.api.snapshot = with(Admission::Suspended);
    assert_eq!(
        gateway.place("T2", json!({})).result,
        "merchant_not_admitted"
    );
    assert_eq!(gateway.select("T1", "bank").result, "merchant_not_admitted");
    assert_eq!(gateway.query("T1").status, 200);
    assert_eq!(gateway.close("T1").status, 200);
    gateway.api.snapshot = with(Admission::Applied);
    assert_eq!(gateway.query("T1").result, "merchant_not_admitted");
    assert_eq!(gateway.durable_state().orders.len(), 1);
}

/// R-6.3.1-1b, R-6.3.1-2b, R-6.5-1b: replies and refusals to an authenticated caller are signed,
/// bound to their request and not cacheable.
#[test]
fn replies_are_signed_for_their_request() {
    let gateway = TestGateway::new();
    let target = format!("{ORIGIN}{PLACE}");
    let ring = platform_ring();
    for request in [
        good(&gateway),
        good(&gateway),
        with(&gateway, json!({ "orderAmount": "x" })),
    ] {
        let question = Question::of(&request, &target).unwrap();
        let reply = gateway.send(request);
        let proven = verify_response(&reply.response, &question, &ring, gateway.now_s());
        assert_eq!(proven.unwrap().owner, "platform");
        let other = Question::of(&good(&gateway), &target).unwrap();
        assert!(verify_response(&reply.response, &other, &ring, gateway.now_s()).is_err());
        assert_eq!(reply.response.headers()[header::CACHE_CONTROL], "no-store");
    }
}

/// K3: another merchant's order is answered as unknown on every endpoint.
#[test]
fn another_merchants_order_is_unknown() {
    let gateway = TestGateway::new();
    gateway.place("T1", json!({}));
    for path in ["select", "query", "close", "institutions"] {
        let mut body = json!({ "merchantId": "M2", "merchantOrderNo": "T1" });
        if path == "select" {
            body["institutionId"] = json!("bank");
        }
        let request = gateway.signed("M2", &format!("/v1/orders/{path}"), &body);
        refused(&gateway, request, 404, "order_unknown");
    }
}

/// Unknown paths and wrong methods are refused.
#[test]
fn other_paths_and_methods_are_refused() {
    let gateway = TestGateway::new();
    refused(&gateway, unsigned("/v1/secrets", "{}"), 404, "path_unknown");
    let mut get = good(&gateway);
    *get.method_mut() = http::Method::GET;
    let reply = refused(&gateway, get, 405, "method_wrong");
    assert_eq!(reply.response.headers()[header::ALLOW], "POST");
}
