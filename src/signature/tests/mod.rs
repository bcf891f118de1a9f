//! What is signed verifies, as printed in the standard; and builders of messages for the other
//! tests.

mod algorithms;
mod answered;
mod published;
mod refused;

use super::proof::prove;
use super::*;

const ORIGIN: &str = "https://pay.example/v1/orders?a=1";
const NOW_S: i64 = 1_750_000_000;

/// RFC 9421, appendix B.1.4: `test-key-ed25519`.
const RFC_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF\n\
    -----END PRIVATE KEY-----\n";
const RFC_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
    MCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=\n\
    -----END PUBLIC KEY-----\n";
const RFC_KEY_ID: &str = "test-key-ed25519";
const RFC_PARAMETERS: &str = "(\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \
    \"content-length\");created=1618884473;keyid=\"test-key-ed25519\"";
const RFC_SIGNATURE: &str =
    ":wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==:";

fn merchant_key() -> SigningKey {
    SigningKey::from_pkcs8_pem("merchant-1", RFC_PRIVATE).unwrap()
}

fn other_key(id: &str) -> SigningKey {
    let (private, public) = SigningKey::generate_ed25519().unwrap();
    let key = SigningKey::from_pkcs8_pem(id, &private).unwrap();
    assert_eq!(key.public_pem(), public);
    key
}

fn enrolled(key: &SigningKey) -> EnrolledKey {
    EnrolledKey {
        id: key.id().to_owned(),
        owner: format!("owner of {}", key.id()),
        key: VerifyingKey::from_spki_pem(&key.public_pem()).unwrap(),
        not_before_s: NOW_S - 1_000,
        not_after_s: NOW_S + 1_000,
    }
}

fn ring(keys: &[&SigningKey]) -> KeyRing {
    KeyRing::new(keys.iter().map(|key| enrolled(key)).collect()).unwrap()
}

fn unsigned() -> Request<Bytes> {
    Request::post("/v1/orders?a=1")
        .header("content-type", "application/json")
        .body(Bytes::from_static(b"{\"amount\":\"1.00\"}"))
        .unwrap()
}

fn covering_now() -> Covering<'static> {
    Covering {
        created_s: NOW_S,
        expires_s: Some(NOW_S + 300),
        nonce: Some("abcdefghijklmnop"),
    }
}

fn signed(key: &SigningKey) -> Request<Bytes> {
    let mut request = unsigned();
    sign_request(&mut request, ORIGIN, key, &covering_now()).unwrap();
    request
}

/// Signs what `sign_request` would not: any component list, any parameters.
fn signed_over(key: &SigningKey, request: &mut Request<Bytes>, label: &str, member: &str) {
    let digest = digest::of(request.body());
    request
        .headers_mut()
        .insert(CONTENT_DIGEST, digest.parse().unwrap());
    let field = format!("{label}={member}");
    let input = field::inputs(&field).unwrap().remove(0);
    let head = MessageHead::Request {
        method: request.method(),
        target_uri: ORIGIN,
    };
    let message = Message {
        head,
        headers: request.headers(),
        question: None,
    };
    let base = input.covered.base(&message).unwrap_or_default();
    let signature = byte_sequence(&key.sign(base.as_bytes()).unwrap());
    let signature = format!("{label}={signature}");
    request
        .headers_mut()
        .append(SIGNATURE_INPUT, field.parse().unwrap());
    request
        .headers_mut()
        .append(SIGNATURE, signature.parse().unwrap());
}

fn verify_over(member: &str) -> Result<Proven, SignatureFault> {
    let key = merchant_key();
    let mut request = unsigned();
    signed_over(&key, &mut request, "any", member);
    verify_request(&request, ORIGIN, &ring(&[&key]), NOW_S)
}

fn decision(request: &Request<Bytes>) -> Result<Proven, SignatureFault> {
    verify_request(request, ORIGIN, &ring(&[&merchant_key()]), NOW_S)
}

fn malformed(outcome: &Result<Proven, SignatureFault>) -> bool {
    matches!(outcome, Err(SignatureFault::Malformed(_)))
}

const FULL: &str = "(\"@method\" \"@target-uri\" \"content-digest\" \"content-type\")";

/// R-6.3.2-2b: RFC 9421, appendix B.2.6, its request with a SHA-512 digest.
#[test]
fn the_published_example_of_ed25519_is_proven_and_reproduced() {
    let request = Request::post("/foo?param=Value&Pet=dog")
        .header("host", "example.com")
        .header("date", "Tue, 20 Apr 2021 02:07:55 GMT")
        .header("content-type", "application/json")
        .header(
            "content-digest",
            "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm\
             +AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:",
        )
        .header("content-length", "18")
        .header("signature-input", format!("sig-b26={RFC_PARAMETERS}"))
        .header("signature", format!("sig-b26={RFC_SIGNATURE}"))
        .body(Bytes::from_static(b"{\"hello\": \"world\"}"))
        .unwrap();
    let uri = "https://example.com/foo?param=Value&Pet=dog";
    let head = MessageHead::Request {
        method: request.method(),
        target_uri: uri,
    };
    let message = Message {
        head,
        headers: request.headers(),
        question: None,
    };
    let key = VerifyingKey::from_spki_pem(RFC_PUBLIC).unwrap();
    let id = RFC_KEY_ID.to_owned();
    let keys = KeyRing::new(vec![EnrolledKey {
        id: id.clone(),
        owner: String::new(),
        key,
        not_before_s: 0,
        not_after_s: i64::MAX,
    }])
    .unwrap();

    let proven = prove(&message, &[], request.body(), &keys, NOW_S).unwrap();
    assert_eq!((proven.key_id, proven.created_s), (id, 1_618_884_473));
    assert_eq!(proven.label, "sig-b26");

    let field = format!("sig-b26={RFC_PARAMETERS}");
    let base = field::inputs(&field)
        .unwrap()
        .remove(0)
        .covered
        .base(&message)
        .unwrap();
    let expected = format!(
        "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\"@method\": POST\n\"@path\": /foo\n\
         \"@authority\": example.com\n\"content-type\": application/json\n\
         \"content-length\": 18\n\"@signature-params\": {RFC_PARAMETERS}"
    );
    assert_eq!(base, expected);
    let key = SigningKey::from_pkcs8_pem(RFC_KEY_ID, RFC_PRIVATE).unwrap();
    assert_eq!(
        byte_sequence(&key.sign(base.as_bytes()).unwrap()),
        RFC_SIGNATURE
    );
    assert_eq!(key.public_pem(), RFC_PUBLIC);
    assert_eq!(
        key.public_jwk()["x"],
        "JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs"
    );

    // Only the caller requires more than the example covers.
    let outcome = verify_request(&request, uri, &keys, NOW_S);
    assert!(matches!(
        outcome,
        Err(SignatureFault::CoversTooLittle { .. })
    ));
}

/// Q2
#[test]
fn a_signature_made_here_verifies_here() {
    let proven = decision(&signed(&merchant_key())).unwrap();
    assert_eq!(proven.key_id, "merchant-1");
    assert_eq!(proven.owner, "owner of merchant-1");
    assert_eq!(proven.label, LABEL);
    assert_eq!(
        (proven.created_s, proven.expires_s),
        (NOW_S, Some(NOW_S + 300))
    );
    assert_eq!(proven.nonce.as_deref(), Some("abcdefghijklmnop"));
}

/// Q2
#[test]
fn a_change_to_anything_covered_is_detected() {
    let key = merchant_key();
    let mismatch = |change: fn(&mut Request<Bytes>)| {
        let mut request = signed(&key);
        change(&mut request);
        decision(&request).unwrap_err()
    };
    let fault = mismatch(|request| *request.method_mut() = Method::PUT);
    assert!(
        fault
            .base()
            .unwrap()
            .starts_with("\"@method\": PUT\n\"@target-uri\": https://pay.")
    );
    let changes: [fn(&mut Request<Bytes>); 4] = [
        |request| {
            request
                .headers_mut()
                .insert("content-type", HeaderValue::from_static("text/plain"));
        },
        |request| {
            request
                .headers_mut()
                .append("content-type", HeaderValue::from_static("text/plain"));
        },
        |request| {
            let input = request.headers()["signature-input"].to_str().unwrap();
            let later = input.replace("expires=1750000300", "expires=1750000301");
            request
                .headers_mut()
                .insert("signature-input", later.parse().unwrap());
        },
        |request| {
            let body = Bytes::from_static(b"{\"amount\":\"9.00\"}");
            let digest = digest::of(&body);
            *request.body_mut() = body;
            request
                .headers_mut()
                .insert("content-digest", digest.parse().unwrap());
        },
    ];
    for change in changes {
        assert!(matches!(
            mismatch(change),
            SignatureFault::SignatureMismatch { .. }
        ));
    }
    let elsewhere = "https://pay.example/v1/refunds";
    let outcome = verify_request(&signed(&key), elsewhere, &ring(&[&key]), NOW_S);
    assert!(matches!(
        outcome,
        Err(SignatureFault::SignatureMismatch { .. })
    ));
}

/// Q2
#[test]
fn a_changed_body_is_detected_and_its_digest_reported() {
    let mut request = signed(&merchant_key());
    *request.body_mut() = Bytes::from_static(b"{\"amount\": \"1.00\"}");
    let computed = digest::of(request.body());
    assert_eq!(
        decision(&request),
        Err(SignatureFault::DigestMismatch { computed })
    );
}

/// Q2
#[test]
fn additional_components_and_parameters_are_accepted() {
    let more = "(\"@method\" \"@target-uri\" \"@authority\" \"@scheme\" \"@path\" \"@query\" \
        \"@request-target\" \"content-digest\" \"content-type\");tag=\"app\";x=1.5;\
        created=1750000000;keyid=\"merchant-1\";alg=\"ed25519\"";
    assert_eq!(verify_over(more).unwrap().label, "any");
}

/// RFC 9421, section 2.2
#[test]
fn derived_components_follow_from_the_target() {
    let value = |name: &str, target_uri: &str| {
        let headers = HeaderMap::new();
        let head = MessageHead::Request {
            method: &Method::POST,
            target_uri,
        };
        let message = Message {
            head,
            headers: &headers,
            question: None,
        };
        let mut out = String::new();
        message.write(&Part::own(name), &mut out).map(|_| out)
    };
    for (name, target_uri, expected) in [
        ("@authority", "https://Pay.Example:443/x", "pay.example"),
        (
            "@authority",
            "https://pay.example:8443/x",
            "pay.example:8443",
        ),
        ("@authority", "http://[::1]:80/x", "[::1]"),
        ("@scheme", "HTTPS://pay.example/x", "https"),
        ("@path", "https://pay.example", "/"),
        ("@query", "https://pay.example/x", "?"),
        ("@query", "https://pay.example/x?a=b%20c", "?a=b%20c"),
        ("@request-target", "https://pay.example/x?a=b", "/x?a=b"),
        (
            "@target-uri",
            "https://pay.example/x?a=b",
            "https://pay.example/x?a=b",
        ),
    ] {
        assert_eq!(
            value(name, target_uri).unwrap(),
            expected,
            "{name} of {target_uri}"
        );
    }
    for smuggled in [
        "https://pay.example/\n\"@method\": GET",
        "https://pay.example/ä",
    ] {
        assert!(matches!(
            value("@target-uri", smuggled),
            Err(SignatureFault::Malformed(_))
        ));
    }
    assert!(matches!(
        value("@authority", "/x"),
        Err(SignatureFault::Malformed(_))
    ));
}

/// RFC 9421, section 2.1
#[test]
fn fields_of_several_lines_are_trimmed_and_joined() {
    let key = merchant_key();
    let mut request = unsigned();
    for line in ["  one\t", "", "two, three "] {
        request
            .headers_mut()
            .append("x-note", HeaderValue::from_static(line));
    }
    let member = "(\"@method\" \"@target-uri\" \"content-digest\" \"content-type\" \"x-note\");\
        created=1750000000;keyid=\"merchant-1\"";
    signed_over(&key, &mut request, "a", member);
    decision(&request).unwrap();
    request
        .headers_mut()
        .insert("x-note", HeaderValue::from_static("other"));
    let fault = decision(&request).unwrap_err();
    assert!(fault.base().unwrap().contains("\n\"x-note\": other\n"));
    request
        .headers_mut()
        .insert("x-note", HeaderValue::from_static("one, , two, three"));
    decision(&request).unwrap();
}

/// RFC 9421, section 3.1
#[test]
fn nothing_is_signed_that_could_not_be_verified() {
    let mut request = unsigned();
    let with = Covering {
        nonce: Some("line\nbreak"),
        ..covering_now()
    };
    let outcome = sign_request(&mut request, ORIGIN, &merchant_key(), &with);
    assert!(matches!(outcome, Err(SignatureFault::Malformed(_))));
    request.headers_mut().remove("content-type");
    let outcome = sign_request(&mut request, ORIGIN, &merchant_key(), &covering_now());
    let name = "\"content-type\"".to_owned();
    assert_eq!(outcome, Err(SignatureFault::ComponentAbsent(name)));
}
