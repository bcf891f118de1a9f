//! Messages that must be refused, with the reason.

use super::*;

/// Q2
#[test]
fn a_signature_that_covers_less_is_refused_naming_what_is_missing() {
    let outcome = verify_over(
        "(\"@method\" \"@path\" \"content-type\");created=1750000000;keyid=\"merchant-1\"",
    );
    let missing = "\"@target-uri\" \"content-digest\"".to_owned();
    assert_eq!(outcome, Err(SignatureFault::CoversTooLittle { missing }));
    let outcome = verify_over(&format!("{FULL};keyid=\"merchant-1\""));
    assert_eq!(outcome, Err(SignatureFault::ParameterMissing("created")));
}

/// RFC 9421, section 2
#[test]
fn unsupported_components_are_refused_by_name() {
    for (component, absent) in [
        ("\"content-type\";bs", false),
        ("\"content-type\";sf", false),
        ("\"content-type\";tr", false),
        ("\"content-digest\";key=\"sha-256\"", false),
        ("\"content-type\";req=?0", false),
        ("\"@status\"", false),
        ("\"@query-param\";name=\"a\"", false),
        ("\"@signature-params\"", false),
        ("\"Content-Type\"", false),
        ("\"a b\"", false),
        ("\"@method\";req", true),
        ("\"x-none\"", true),
    ] {
        let full = FULL.trim_end_matches(')');
        let outcome = verify_over(&format!(
            "{full} {component});created=1;keyid=\"merchant-1\""
        ));
        let name = component.to_owned();
        let expected = if absent {
            SignatureFault::ComponentAbsent(name)
        } else {
            SignatureFault::UnsupportedComponent(name)
        };
        assert_eq!(outcome, Err(expected));
    }
}

/// Q2
#[test]
fn unreadable_signatures_are_refused() {
    for member in [
        "(\"@method\" \"@method\" \"@target-uri\" \"content-digest\" \"content-type\");created=1;\
         keyid=\"merchant-1\"",
        "(\"@method\" token \"@target-uri\" \"content-digest\" \"content-type\");created=1;\
         keyid=\"merchant-1\"",
        &format!("{FULL};created=1;created=2;keyid=\"merchant-1\""),
        &format!("{FULL};created=\"1\";keyid=\"merchant-1\""),
        &format!("{FULL};created=1;nonce=5;keyid=\"merchant-1\""),
    ] {
        assert!(malformed(&verify_over(member)), "{member}");
    }
    let good = signed(&merchant_key());
    for (name, value) in [
        ("signature", "sig1=\"text\""),
        ("signature", "sig1=(:AA==:)"),
        ("signature", "sig1=:AA==:;p"),
        ("signature", "sig2=:AA==:"),
        ("signature", "sig1=:A"),
        ("signature-input", "sig1=1"),
        ("signature-input", "sig1=("),
        (
            "signature-input",
            "sig1=();keyid=\"merchant-1\", sig1=();keyid=\"merchant-1\"",
        ),
        (
            "signature-input",
            "a=(), b=(), c=(), d=(), e=(), f=(), g=(), h=(), i=()",
        ),
    ] {
        let mut request = unsigned();
        *request.headers_mut() = good.headers().clone();
        request
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
        assert!(malformed(&decision(&request)), "{name}: {value}");
    }
    for name in ["signature", "signature-input"] {
        let mut request = signed(&merchant_key());
        request.headers_mut().remove(name);
        assert!(malformed(&decision(&request)));
    }
    assert_eq!(decision(&unsigned()), Err(SignatureFault::Unsigned));
}

/// Q2
#[test]
fn a_component_list_has_an_end() {
    let names: Vec<String> = (0..100).map(|n| format!("\"x-{n}\"")).collect();
    let member = format!("({});created=1;keyid=\"merchant-1\"", names.join(" "));
    assert!(malformed(&verify_over(&member)));
}

/// Q3
#[test]
fn an_empty_or_foreign_signature_never_verifies() {
    for value in ["sig1=::", "sig1=:AA==:", RFC_SIGNATURE] {
        let mut request = signed(&merchant_key());
        let value = if value.starts_with(':') {
            &format!("sig1={value}")
        } else {
            value
        };
        request
            .headers_mut()
            .insert(SIGNATURE, value.parse().unwrap());
        assert!(decision(&request).unwrap_err().base().is_some());
    }
}

/// Q3
#[test]
fn the_key_decides_the_algorithm() {
    let with = |alg: &str| {
        verify_over(&format!(
            "{FULL};created={NOW_S};keyid=\"merchant-1\";alg=\"{alg}\""
        ))
    };
    assert!(with("ed25519").is_ok());
    for named in ["hmac-sha256", "rsa-v1_5-sha256", "ED25519", "none", ""] {
        let expected = Algorithm("ed25519");
        let named_owned = named.to_owned();
        let fault = SignatureFault::AlgorithmMismatch {
            named: named_owned,
            expected,
        };
        assert_eq!(with(named), Err(fault));
    }
}

/// Q3
#[test]
fn keys_under_which_anybody_could_sign_are_refused() {
    let minus_one = [&[0xec], [0xff; 30].as_slice(), &[0x7f]].concat();
    let order_eight = STANDARD
        .decode("JuiVj8KyJ7BFw/SJ8u+Y8NXfrAXTxjM5sTgCiG1T/AU=")
        .unwrap();
    let one_signed = [&[1], [0; 30].as_slice(), &[0x80]].concat();
    for point in [vec![0; 32], minus_one, order_eight, one_signed] {
        let spki = [STANDARD.decode("MCowBQYDK2VwAyEA").unwrap(), point].concat();
        let pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            STANDARD.encode(spki)
        );
        assert!(matches!(
            VerifyingKey::from_spki_pem(&pem),
            Err(KeyFault::Unsupported(_))
        ));
    }
}

/// Q2
#[test]
fn exactly_one_signature_by_a_known_key_counts() {
    let (ours, unauthenticated, second) =
        (merchant_key(), other_key("nobody"), other_key("merchant-2"));
    let mut request = unsigned();
    let member = |key: &SigningKey| format!("{FULL};created={NOW_S};keyid=\"{}\"", key.id());
    signed_over(
        &unauthenticated,
        &mut request,
        "proxy",
        "(token);keyid=\"nobody\";sf",
    );
    signed_over(&ours, &mut request, "mine", &member(&ours));
    assert_eq!(decision(&request).unwrap().label, "mine");

    signed_over(&second, &mut request, "theirs", &member(&second));
    assert_eq!(decision(&request).unwrap().label, "mine");
    let outcome = verify_request(&request, ORIGIN, &ring(&[&ours, &second]), NOW_S);
    assert_eq!(outcome, Err(SignatureFault::TooManySignatures));

    let outcome = verify_request(&request, ORIGIN, &KeyRing::default(), NOW_S);
    assert_eq!(
        outcome,
        Err(SignatureFault::KeyUnknown {
            named: "nobody".to_owned()
        })
    );
}

/// Q1
#[test]
fn a_key_counts_only_in_its_time() {
    let key = merchant_key();
    let (request, keys) = (signed(&key), ring(&[&key]));
    let at = |now_s| verify_request(&request, ORIGIN, &keys, now_s);
    assert!(matches!(
        at(NOW_S - 1_001),
        Err(SignatureFault::KeyNotYetValid { .. })
    ));
    assert!(at(NOW_S - 1_000).is_ok());
    assert!(at(NOW_S + 1_000).is_ok());
    assert!(matches!(
        at(NOW_S + 1_001),
        Err(SignatureFault::KeyExpired { .. })
    ));
}

/// Q4
#[test]
fn a_key_id_names_one_key() {
    let (one, other) = (other_key("k"), other_key("k"));
    let outcome = KeyRing::new(vec![enrolled(&one), enrolled(&other)]);
    assert_eq!(
        outcome.unwrap_err(),
        KeyFault::IdTaken { id: "k".to_owned() }
    );
}

/// Q3
#[test]
fn bad_keys_are_refused_with_a_reason() {
    for id in ["", "a\"b", "a\\b", "ä", &"x".repeat(65)] {
        assert_eq!(
            SigningKey::from_pkcs8_pem(id, RFC_PRIVATE).unwrap_err(),
            KeyFault::BadId
        );
    }
    for pem in ["", "text", RFC_PUBLIC] {
        let fault = SigningKey::from_pkcs8_pem("k", pem).unwrap_err();
        assert_eq!(
            fault,
            KeyFault::Unreadable {
                expected: "PRIVATE KEY"
            }
        );
    }
    let fault = VerifyingKey::from_spki_pem(RFC_PRIVATE).unwrap_err();
    assert_eq!(
        fault,
        KeyFault::Unreadable {
            expected: "PUBLIC KEY"
        }
    );
    assert_eq!(
        format!("{:?}", merchant_key()),
        "SigningKey(merchant-1, ed25519)"
    );
}

/// Q2
#[test]
fn every_known_digest_has_to_fit_and_one_has_to_be_known() {
    let body = b"{\"hello\": \"world\"}";
    let sha_256 = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:";
    let sha_512 = "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm\
                   +AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:";
    let check = |field: &str| {
        let headers = HeaderMap::from_iter([(CONTENT_DIGEST, field.parse().unwrap())]);
        digest::check(&headers, body)
    };
    assert_eq!(digest::of(body), sha_256);
    for right in [
        sha_256,
        sha_512,
        &format!("md5=:AA==:, {sha_512}, {sha_256}"),
    ] {
        assert_eq!(check(right), Ok(()), "{right}");
    }
    let mismatch = |field: &str| matches!(check(field), Err(SignatureFault::DigestMismatch { .. }));
    assert!(mismatch("md5=:AA==:"));
    assert!(mismatch("sha-256=::"));
    assert!(mismatch(&format!("{sha_256}, sha-512=:AA==:")));
    for wrong in [
        "sha-256=abc",
        "sha-256=(:AA==:)",
        "sha-256",
        "=",
        "sha-256=:AA",
    ] {
        assert!(
            matches!(check(wrong), Err(SignatureFault::Malformed(_))),
            "{wrong}"
        );
    }
}
