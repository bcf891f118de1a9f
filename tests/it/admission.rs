//! Who may ask, and what cannot be asked: each bad request gets the refusal of the interface and
//! leaves nothing behind.

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
use paymux::store::Store;
use serde_json::{Value, json};

use crate::world::books::Ability;
use crate::world::enrolment::{
    ORIGIN, order_fields, platform_ring, register, shown, sign, unsigned,
};
use crate::world::town::{PEER, Told, Town, changed, now};

const PLACE: &str = "/v1/orders";
const ONE: [(&str, Ability); 1] = [("bank", Ability::ALL)];

/// Sends it and holds the answer to what is expected; nothing durable may have changed but, where
/// the refusal was about fields, the spent nonce.
fn refused(town: &Town, request: Request<Bytes>, status: u16, code: &str) -> Told {
    let before = town.snapshot();
    let told = town.send(request);
    assert_eq!(
        (told.status, told.result),
        (status, code),
        "{:?}",
        told.json
    );
    assert_eq!(told.text("result"), "REFUSED");
    assert_eq!(told.text("code"), code);
    assert_eq!(told.json["status"], json!(status));
    let media_type = &told.response.headers()[header::CONTENT_TYPE];
    assert_eq!(media_type, "application/problem+json");
    let mut after = town.snapshot();
    after.nonces.clone_from(&before.nonces);
    assert_eq!(after, before, "{code} left something behind");
    told
}

fn signed_raw(town: &Town, body: impl Into<Bytes>) -> Request<Bytes> {
    let mut request = unsigned(PLACE, body);
    sign(&mut request, "M1-key", town.now_s(), &town.nonce());
    request
}

fn good(town: &Town) -> Request<Bytes> {
    town.signed("M1", PLACE, &order_fields("M1", "T1"))
}

fn with(town: &Town, changes: Value) -> Request<Bytes> {
    town.signed("M1", PLACE, &changed(order_fields("M1", "T1"), changes))
}

/// Q10, R-6.3.1-3a: what is not one JSON object of plain fields is refused as such.
#[test]
fn unreadable_bodies_are_refused() {
    let town = Town::new();
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
        refused(&town, signed_raw(&town, body), 400, "body_unreadable");
    }
    let twice = b"{\"merchantId\":\"M1\",\"merchantId\":\"M2\"}".to_vec();
    let told = refused(&town, signed_raw(&town, twice), 400, "field_duplicate");
    assert_eq!(told.text("field"), "merchantId");
    refused(
        &town,
        signed_raw(&town, vec![b' '; 70_000]),
        413,
        "body_too_large",
    );
}

/// Q10: only JSON is read.
#[test]
fn other_media_types_are_refused() {
    let town = Town::new();
    for other in [
        "text/plain",
        "application/json; charset=gbk",
        "application/xml",
    ] {
        let mut request = good(&town);
        let value = HeaderValue::from_static(other);
        request.headers_mut().insert(header::CONTENT_TYPE, value);
        refused(&town, request, 415, "media_type_wrong");
    }
}

/// M4, R-A3.1-1: a sum is digits with at most one point, in the currency's places, or refused.
#[test]
fn sums_that_are_none_are_refused() {
    let town = Town::new();
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
        let told = refused(
            &town,
            with(&town, json!({ "orderAmount": sum })),
            status,
            code,
        );
        assert_eq!(told.text("field"), "orderAmount", "{sum}");
    }
    let huge = serde_json::to_string(&order_fields("M1", "T1")).unwrap();
    let huge = huge.replace("\"12.30\"", &"9".repeat(5_000));
    refused(&town, signed_raw(&town, huge), 400, "field_malformed");
}

/// M4, G-1: zeros behind a sum's last place change nothing, in a number as little as in a text.
#[test]
fn trailing_zeros_are_no_precision() {
    for written in ["12.300", "\"12.300\"", "12.3", "12.30000000"] {
        let town = Town::new();
        let fields = serde_json::to_string(&order_fields("M1", "T1")).unwrap();
        let fields = fields.replace("\"12.30\"", written);
        let told = town.send(signed_raw(&town, fields));
        assert_eq!(told.status, 200, "{written}: {:?}", told.json);
        assert_eq!(town.order("T1").terms.amount.to_string(), "12.30");
    }
}

/// R-A3.1-1, R-6.1.1-3a, R-6.1.3-1, R-6.1.4-1: a missing field is named, and so is one
/// that the interface does not have: no field takes a password or a card number.
#[test]
fn fields_are_those_of_the_table() {
    let town = Town::new();
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
        for gone in [Value::Null, json!("absent")] {
            let mut changes = json!({});
            changes[missing] = Value::Null;
            let mut fields = changed(order_fields("M1", "T1"), changes);
            if gone.is_null() {
                // A null counts as absent.
                fields[missing] = Value::Null;
            }
            let request = town.signed("M1", PLACE, &fields);
            let told = refused(&town, request, 400, "field_missing");
            assert_eq!(told.text("field"), missing);
        }
    }
    for unknown in ["payPassword", "cardNo", "cvv2", "MerchantId", "amount"] {
        let mut changes = json!({});
        changes[unknown] = json!("1");
        let told = refused(&town, with(&town, changes), 400, "field_unknown");
        assert_eq!(told.text("field"), unknown);
    }
}

/// Q10, R-A3.1-1: a field that does not have its shape is named, and what was expected is said.
#[test]
fn malformed_fields_are_refused() {
    let town = Town::new();
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
        let told = refused(&town, with(&town, changes), 400, "field_malformed");
        assert_eq!(told.text("field"), field);
        assert!(told.text("detail").starts_with("expected"));
    }
    let both = json!({ "businessType": "WEBVIEW", "mode": "NATIVE" });
    refused(&town, with(&town, both), 400, "fields_disagree");
    refused(
        &town,
        with(&town, json!({ "mode": "NATIVE" })),
        400,
        "fields_disagree",
    );
}

/// What is understood and impossible: another name than the enrolled one, an unknown currency or
/// institution, an address that was not registered (R-A3.1-5).
#[test]
fn impossible_orders_are_refused() {
    let town = Town::new();
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
        refused(&town, with(&town, changes), status, code);
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
        refused(&town, with(&town, changes), 422, "return_url_unregistered");
    }
}

/// R-6.3.1-1a, R-6.3.1-2a, Q2, Q3: unsigned, signed over too little, by an unknown key, by another
/// merchant's, changed on the way: all refused, on every endpoint.
#[test]
fn nothing_unproven_is_answered() {
    let town = Town::new();
    for path in [
        "/v1/orders",
        "/v1/orders/institutions",
        "/v1/orders/select",
        "/v1/orders/query",
        "/v1/orders/close",
    ] {
        let body = serde_json::to_vec(&order_fields("M1", "T1")).unwrap();
        let told = refused(&town, unsigned(path, body), 401, "signature_unusable");
        assert!(!told.response.headers().contains_key("signature"));
    }
    let mut little = good(&town);
    let input = little.headers()["signature-input"].to_str().unwrap();
    let input = input.replace(" \"content-digest\"", "");
    let input = HeaderValue::try_from(input).unwrap();
    little.headers_mut().insert("signature-input", input);
    refused(&town, little, 401, "signature_unusable");

    let mut stranger = unsigned(
        PLACE,
        serde_json::to_vec(&order_fields("M1", "T1")).unwrap(),
    );
    sign(&mut stranger, "stranger", town.now_s(), &town.nonce());
    refused(&town, stranger, 401, "key_unknown");

    let mut changed_body = good(&town);
    *changed_body.body_mut() = Bytes::from(order_fields("M1", "T2").to_string());
    refused(&town, changed_body, 401, "digest_mismatch");

    let mut elsewhere = good(&town);
    *elsewhere.uri_mut() = "/v1/orders/close".parse().unwrap();
    let told = refused(&town, elsewhere, 401, "signature_mismatch");
    assert!(
        told.text("detail")
            .contains("\"@target-uri\": https://pay.example/v1/orders/close")
    );

    let mut renamed = good(&town);
    let input = renamed.headers()["signature-input"].to_str().unwrap();
    let input = input.replace("M1-key", "M2-key");
    let input = HeaderValue::try_from(input).unwrap();
    renamed.headers_mut().insert("signature-input", input);
    refused(&town, renamed, 401, "signature_mismatch");

    let mut host = good(&town);
    let value = HeaderValue::from_static("pay.example.evil");
    host.headers_mut().insert(header::HOST, value);
    refused(&town, host, 421, "authority_wrong");
}

/// R-6.3.1-1c: a key outside its validity counts no longer.
#[test]
fn an_expired_key_is_refused() {
    let town = Town::new();
    let mut request = good(&town);
    sign(&mut request, "M1-old", town.now_s(), &town.nonce());
    refused(&town, request, 401, "key_expired");
}

/// R-6.3.2-2a, Q5: a request is admitted once, also after a restart, whatever it asked and even if
/// it was refused for reasons of state.
#[test]
fn a_request_is_admitted_once() {
    let mut town = Town::new();
    let place = good(&town);
    assert_eq!(town.send(place.clone()).status, 200);
    let naming = json!({ "merchantId": "M1", "merchantOrderNo": "T1" });
    let query = town.signed("M1", "/v1/orders/query", &naming);
    assert_eq!(town.send(query.clone()).status, 200);
    refused(&town, query, 401, "nonce_spent");
    let conflict = with(&town, json!({ "orderAmount": "1" }));
    refused(&town, conflict.clone(), 409, "order_conflict");
    for _ in 0..2 {
        refused(&town, place.clone(), 401, "nonce_spent");
        refused(&town, conflict.clone(), 401, "nonce_spent");
        town.restart();
    }
    let close = town.signed("M1", "/v1/orders/close", &naming);
    assert_eq!(town.send(close.clone()).status, 200);
    refused(&town, close, 401, "nonce_spent");
}

/// R-6.3.2-2a, Q5, Q6, T2: too old, too far ahead, expired or made in a moment that is forgotten: refused
/// whatever the clock says later; what was made before or after it is taken.
#[test]
fn requests_outside_the_window_are_refused() {
    let town = Town::new();
    for created in [-301, 31, -130] {
        let mut request = good(&town);
        sign(
            &mut request,
            "M1-key",
            town.now_s() + created,
            &town.nonce(),
        );
        refused(&town, request, 401, "outside_window");
    }
    for nonce in ["short", "has a blank in it", &"x".repeat(65)] {
        let mut request = good(&town);
        sign(&mut request, "M1-key", town.now_s(), nonce);
        refused(&town, request, 401, "nonce_malformed");
    }
    let spent = good(&town);
    assert_eq!(town.send(spent.clone()).status, 200);
    let until = Timestamp::from_s(town.now_s());
    now(town.memory.forget_nonces(until)).unwrap();
    let remembered = town.snapshot().nonces;
    let is_above = |created: &Timestamp| *created > until;
    assert!(remembered.values().all(is_above), "forgotten, and yet:");
    refused(&town, spent, 401, "outside_window");
    town.clock.set_off(-60_000);
    let mut request = good(&town);
    sign(&mut request, "M1-key", town.now_s(), &town.nonce());
    assert_eq!(town.send(request).status, 200);
    town.clock.set_off(0);
    let mut request = good(&town);
    sign(&mut request, "M1-key", town.now_s(), &town.nonce());
    refused(&town, request, 401, "outside_window");
}

/// Q4, R-6.3.1-1b: certificate, key and `merchantId` belong to one merchant.
#[test]
fn a_certificate_is_its_merchants_own() {
    let mut enrolled = register(&ONE);
    let m1 = MerchantId::parse("M1").unwrap();
    let merchant = enrolled.directory.merchants.get_mut(&m1).unwrap();
    merchant.client_certificate = ClientCertificate::Required;
    let town = Town::enrolled(&ONE, enrolled);
    let shown = |name: &str| Peer {
        certificate: Some(shown(name, town.now_s() + 60)),
        ..PEER
    };
    assert_eq!(town.send(good(&town)).result, "certificate_missing");
    for foreign in ["M2", "nobody"] {
        let told = town.send_from(good(&town), shown(foreign));
        assert_eq!((told.status, told.result), (403, "certificate_foreign"));
    }
    assert!(town.snapshot().orders.is_empty());
    assert_eq!(town.send_from(good(&town), shown("M1")).status, 200);
}

/// Q4, R-6.3.1-1c: a certificate that was in force when the connection was made is refused from
/// the second after its last, and so is one that is not in force yet; nothing is recorded.
#[test]
fn a_certificate_that_ends_meanwhile_is_refused() {
    let town = Town::new();
    let peer = Peer {
        certificate: Some(shown("M1", town.now_s() + 60)),
        ..PEER
    };
    town.pass_s(60);
    assert_eq!(town.send_from(good(&town), peer).status, 200);
    town.pass_s(1);
    let before = town.snapshot();
    let told = town.send_from(town.signed("M1", PLACE, &order_fields("M1", "T2")), peer);
    assert_eq!((told.status, told.result), (403, "certificate_expired"));
    let early = ShownCertificate {
        not_before_s: town.now_s() + 1,
        ..shown("M1", i64::MAX)
    };
    let peer = Peer {
        certificate: Some(early),
        ..PEER
    };
    assert_eq!(
        town.send_from(good(&town), peer).result,
        "certificate_expired"
    );
    let mut after = town.snapshot();
    after.nonces.clone_from(&before.nonces);
    assert_eq!(after, before, "nothing but the nonces (Q5)");
}

/// R-4-3: who is not admitted starts nothing; a suspended merchant may still ask and close.
#[test]
fn a_suspended_merchant_starts_nothing() {
    let mut town = Town::with(&ONE);
    town.place("T1", json!({}));
    let m1 = MerchantId::parse("M1").unwrap();
    let with = |admission| {
        let mut enrolled = register(&ONE);
        enrolled.directory.merchants.get_mut(&m1).unwrap().admission = admission;
        std::sync::Arc::new(enrolled)
    };
    town.api.register = with(Admission::Suspended);
    assert_eq!(town.place("T2", json!({})).result, "merchant_not_admitted");
    assert_eq!(town.select("T1", "bank").result, "merchant_not_admitted");
    assert_eq!(town.query("T1").status, 200);
    assert_eq!(town.close("T1").status, 200);
    town.api.register = with(Admission::Applied);
    assert_eq!(town.query("T1").result, "merchant_not_admitted");
    assert_eq!(town.snapshot().orders.len(), 1);
}

/// R-6.3.1-1b, R-6.3.1-2b, R-6.5-1b: answers and refusals to a proven caller are signed and bound
/// to their question; nothing is kept on the way.
#[test]
fn answers_are_signed_for_their_question() {
    let town = Town::new();
    let target = format!("{ORIGIN}{PLACE}");
    let ring = platform_ring();
    for request in [
        good(&town),
        good(&town),
        with(&town, json!({ "orderAmount": "x" })),
    ] {
        let question = Question::of(&request, &target).unwrap();
        let told = town.send(request);
        let proven = verify_response(&told.response, &question, &ring, town.now_s());
        assert_eq!(proven.unwrap().owner, "platform");
        let other = Question::of(&good(&town), &target).unwrap();
        assert!(verify_response(&told.response, &other, &ring, town.now_s()).is_err());
        assert_eq!(told.response.headers()[header::CACHE_CONTROL], "no-store");
    }
}

/// K3: somebody else's order is answered like none, whatever is asked of it.
#[test]
fn somebody_elses_order_is_no_order() {
    let town = Town::new();
    town.place("T1", json!({}));
    for path in ["select", "query", "close", "institutions"] {
        let mut body = json!({ "merchantId": "M2", "merchantOrderNo": "T1" });
        if path == "select" {
            body["institutionId"] = json!("bank");
        }
        let request = town.signed("M2", &format!("/v1/orders/{path}"), &body);
        refused(&town, request, 404, "order_unknown");
    }
}

/// What is no interface is not answered as one.
#[test]
fn other_paths_and_methods_are_refused() {
    let town = Town::new();
    refused(&town, unsigned("/v1/secrets", "{}"), 404, "path_unknown");
    let mut get = good(&town);
    *get.method_mut() = http::Method::GET;
    let told = refused(&town, get, 405, "method_wrong");
    assert_eq!(told.response.headers()[header::ALLOW], "POST");
}
