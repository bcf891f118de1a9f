//! The examples printed in RFC 9421: each signature base as printed, and each signature verified
//! with its key. RSA-PSS and ECDSA signatures are randomised, so they are only verified; HMAC is
//! also reproduced, as is Ed25519 in the parent module.

use super::*;

/// Appendix B.1.1 (`test-key-rsa`), as `SubjectPublicKeyInfo`.
const RSA: &str = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAhAKYdtoeoy8zcAcR874L\
    8cnZxKzAGwd7v36APp7Pv6Q2jdsPBRrwWEBnez6d0UDKDwGbc6nxfEXAy5mbhgaj\
    zrw3MOEt8uA5txSKobBpKDeBLOsdJKFqMGmXCQvEG7YemcxDTRPxAleIAgYYRjTS\
    d/QBwVW9OwNFhekro3RtlinV0a75jfZgkne/YiktSvLG34lw2zqXBDTC5NHROUqG\
    TlML4PlNZS5Ri2U4aCNx2rUPRcKIlE0PuKxI4T+HIaFpv8+rdV6eUgOrB2xeI1dS\
    FFn/nnv5OoZJEIB+VmuKn3DCUcCZSFlQPSXSfBDiUGhwOw76WuSSsf1D4b/vLoJ1\
    0wIDAQAB";
/// Appendix B.1.2 (`test-key-rsa-pss`).
const RSA_PSS: &str = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAr4tmm3r20Wd/PbqvP1s2\
    +QEtvpuRaV8Yq40gjUR8y2Rjxa6dpG2GXHbPfvMs8ct+Lh1GH45x28Rw3Ry53mm+\
    oAXjyQ86OnDkZ5N8lYbggD4O3w6M6pAvLkhk95AndTrifbIFPNU8PPMO7OyrFAHq\
    gDsznjPFmTOtCEcN2Z1FpWgchwuYLPL+Wokqltd11nqqzi+bJ9cvSKADYdUAAN5W\
    Utzdpiy6LbTgSxP7ociU4Tn0g5I6aDZJ7A8Lzo0KSyZYoA485mqcO0GVAdVw9lq4\
    aOT9v6d+nb4bnNkQVklLQ3fVAvJm+xdDOp9LCNCN48V2pnDOkFV6+U9nV5oyc6XI\
    2wIDAQAB";
/// Appendix B.1.3 (`test-key-ecc-p256`).
const ECC: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqIVYZVLCrPZHGHjP17CTW0/+D9Lf\
    w0EkjqF7xB4FivAxzic30tMM4GF+hR6Dxh71Z50VGGdldkkDXZCnTNnoXQ==";
/// Appendix B.1.5 (`test-shared-secret`).
const SHARED: &str = "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6p\
    cl8jsasjlTMtDQ==";

const REQUEST_DIGEST: &str = "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm\
    +AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:";
const RESPONSE_DIGEST: &str = "sha-512=:mEWXIS7MaLRuGgxOBdODa3xqM1XdEvxoYhvlCFJ41QJgJc4GTsPp29l5oGX6\
    9wWdXymyU0rjJuahq4l5aGgfLQ==:";

const REQUEST_URI: &str = "https://example.com/foo?param=Value&Pet=dog";

fn public(algorithm: &str, spki: &str) -> VerifyingKey {
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{spki}\n-----END PUBLIC KEY-----\n");
    VerifyingKey::of_algorithm(Algorithm::parse(algorithm).unwrap(), &pem).unwrap()
}

fn secret() -> Vec<u8> {
    STANDARD.decode(SHARED).unwrap()
}

/// The example request of appendix B.2, with further fields.
fn request_fields(more: &[(&str, &str)]) -> HeaderMap {
    let mut request = Request::post("/")
        .header("host", "example.com")
        .header("date", "Tue, 20 Apr 2021 02:07:55 GMT")
        .header("content-type", "application/json")
        .header("content-digest", REQUEST_DIGEST)
        .header("content-length", "18");
    for (name, value) in more {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().headers().clone()
}

fn base(input: &str, head: MessageHead<'_>, headers: &HeaderMap) -> Result<String, SignatureFault> {
    let message = Message {
        head,
        headers,
        question: None,
    };
    let input = field::inputs(input).unwrap().remove(0);
    input.covered.base(&message)
}

fn posted(target_uri: &str) -> MessageHead<'_> {
    MessageHead::Request {
        method: &Method::POST,
        target_uri,
    }
}

/// A changed byte of base or signature, and a truncated or extended signature, do not verify.
fn proven(key: &VerifyingKey, base: &str, signature: &str) {
    let signature = STANDARD.decode(signature).unwrap();
    assert!(key.verifies(base.as_bytes(), &signature), "{base}");
    assert!(!key.verifies(format!("{base} ").as_bytes(), &signature));
    for at in 0..signature.len() {
        let mut changed = signature.clone();
        changed[at] ^= 0x80;
        assert!(!key.verifies(base.as_bytes(), &changed), "byte {at}");
    }
    let (_, shorter) = signature.split_last().unwrap();
    assert!(!key.verifies(base.as_bytes(), shorter));
    assert!(!key.verifies(base.as_bytes(), &[signature.as_slice(), &[0]].concat()));
}

/// R-6.3.2-2b: RFC 9421, appendix B.2.1 to B.2.3: no, some and all components covered.
#[test]
fn the_published_examples_of_rsa_pss_are_proven() {
    let key = public("rsa-pss-sha512", RSA_PSS);
    let headers = request_fields(&[]);

    let input = "sig-b21=();created=1618884473;keyid=\"test-key-rsa-pss\";\
        nonce=\"b3k2pp5k7z-50gnwp.yemd\"";
    let minimal = base(input, posted(REQUEST_URI), &headers).unwrap();
    assert_eq!(
        minimal,
        "\"@signature-params\": ();created=1618884473;keyid=\"test-key-rsa-pss\";\
         nonce=\"b3k2pp5k7z-50gnwp.yemd\""
    );
    proven(
        &key,
        &minimal,
        "d2pmTvmbncD3xQm8E9ZV2828BjQWGgiwAaw5bAkgibUopemLJcWDy/lkbbHAve4cRAtx31Iq786U7it++wgGxbtR\
         xf8Udx7zFZsckzXaJMkA7ChG52eSkFxykJeNqsrWH5S+oxNFlD4dzVuwe8DhTSja8xxbR/Z2cOGdCbzR72rgFWhz\
         x2VjBqJzsPLMIQKhO4DGezXehhWwE56YCE+O6c0mKZsfxVrogUvA4HELjVKWmAvtl6UnCh8jYzuVG5WSb/QEVPnP\
         5TmcAnLH1g+s++v6d4s8m0gCw1fV5/SITLq9mhho8K3+7EPYTU8IU1bLhdxO5Nyt8C8ssinQ98Xw9Q==",
    );

    // Our paths have no query, so its parameters are not parsed: refused by name. The printed
    // example still verifies.
    let members = "(\"@authority\" \"content-digest\" \"@query-param\";name=\"Pet\");\
        created=1618884473;keyid=\"test-key-rsa-pss\";tag=\"header-example\"";
    let outcome = base(&format!("sig-b22={members}"), posted(REQUEST_URI), &headers);
    let name = "\"@query-param\";name=\"Pet\"".to_owned();
    assert_eq!(outcome, Err(SignatureFault::UnsupportedComponent(name)));
    proven(
        &key,
        &format!(
            "\"@authority\": example.com\n\"content-digest\": {REQUEST_DIGEST}\n\
             \"@query-param\";name=\"Pet\": dog\n\"@signature-params\": {members}"
        ),
        "LjbtqUbfmvjj5C5kr1Ugj4PmLYvx9wVjZvD9GsTT4F7GrcQEdJzgI9qHxICagShLRiLMlAJjtq6N4CDfKtjvuJyE\
         5qH7KT8UCMkSowOB4+ECxCmT8rtAmj/0PIXxi0A0nxKyB09RNrCQibbUjsLS/2YyFYXEu4TRJQzRw1rLEuEfY17S\
         ARYhpTlaqwZVtR8NV7+4UKkjqpcAoFqWFQh62s7Cl+H2fjBSpqfZUJcsIk4N6wiKYd4je2U/lankenQ99PZfB4jY\
         3I5rSV2DSBVkSFsURIjYErOs0tFTQosMTAoxk//0RoKUqiYY8Bh0aaUEb0rQl3/XaVe4bXTugEjHSw==",
    );

    let members = "(\"date\" \"@method\" \"@path\" \"@query\" \"@authority\" \"content-type\" \
        \"content-digest\" \"content-length\");created=1618884473;keyid=\"test-key-rsa-pss\"";
    let full = base(&format!("sig-b23={members}"), posted(REQUEST_URI), &headers).unwrap();
    let expected = format!(
        "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\"@method\": POST\n\"@path\": /foo\n\
         \"@query\": ?param=Value&Pet=dog\n\"@authority\": example.com\n\
         \"content-type\": application/json\n\"content-digest\": {REQUEST_DIGEST}\n\
         \"content-length\": 18\n\"@signature-params\": {members}"
    );
    assert_eq!(full, expected);
    proven(
        &key,
        &full,
        "bbN8oArOxYoyylQQUU6QYwrTuaxLwjAC9fbY2F6SVWvh0yBiMIRGOnMYwZ/5MR6fb0Kh1rIRASVxFkeGt683+qRp\
         RRU5p2voTp768ZrCUb38K0fUxN0O0iC59DzYx8DFll5GmydPxSmme9v6ULbMFkl+V5B1TP/yPViV7KsLNmvKiLJH\
         1pFkh/aYA2HXXZzNBXmIkoQoLd7YfW91kE9o/CCoC1xMy7JA1ipwvKvfrs65ldmlu9bpG6A9BmzhuzF8Eim5f8ui\
         9eH8LZH896+QIF61ka39VBrohr9iyMUJpvRX2Zbhl5ZJzSRxpJyoEZAFL2FUo5fTIztsDZKEgM4cUA==",
    );
}

/// R-6.3.2-2b: RFC 9421, appendix B.2.4 and B.3: a response, and a request of a TLS-terminating
/// proxy.
#[test]
fn the_published_examples_of_ecdsa_are_proven() {
    let key = public("ecdsa-p256-sha256", ECC);
    let answer = Response::builder()
        .header("date", "Tue, 20 Apr 2021 02:07:56 GMT")
        .header("content-type", "application/json")
        .header("content-digest", RESPONSE_DIGEST)
        .header("content-length", "23")
        .body(())
        .unwrap();
    assert_eq!(
        digest::check(answer.headers(), b"{\"message\": \"good dog\"}"),
        Ok(())
    );
    let members = "(\"@status\" \"content-type\" \"content-digest\" \"content-length\");\
        created=1618884473;keyid=\"test-key-ecc-p256\"";
    let head = MessageHead::Answer {
        status: answer.status(),
    };
    let answered = base(&format!("sig-b24={members}"), head, answer.headers()).unwrap();
    let expected = format!(
        "\"@status\": 200\n\"content-type\": application/json\n\
         \"content-digest\": {RESPONSE_DIGEST}\n\"content-length\": 23\n\
         \"@signature-params\": {members}"
    );
    assert_eq!(answered, expected);
    proven(
        &key,
        &answered,
        "wNmSUAhwb5LxtOtOpNa6W5xj067m5hFrj0XQ4fvpaCLx0NKocgPquLgyahnzDnDAUy5eCdlYUEkLIj+32oiasw==",
    );

    let certificate = ":MIIBqDCCAU6gAwIBAgIBBzAKBggqhkjOPQQDAjA6MRswGQYDVQQKDBJMZXQncyBBdXRoZW50\
        aWNhdGUxGzAZBgNVBAMMEkxBIEludGVybWVkaWF0ZSBDQTAeFw0yMDAxMTQyMjU1MzNaFw0yMTAxMjMyMjU1MzNa\
        MA0xCzAJBgNVBAMMAkJDMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE8YnXXfaUgmnMtOXU/IncWalRhebrXmck\
        C8vdgJ1p5Be5F/3YC8OthxM4+k1M6aEAEFcGzkJiNy6J84y7uzo9M6NyMHAwCQYDVR0TBAIwADAfBgNVHSMEGDAW\
        gBRm3WjLa38lbEYCuiCPct0ZaSED2DAOBgNVHQ8BAf8EBAMCBsAwEwYDVR0lBAwwCgYIKwYBBQUHAwIwHQYDVR0R\
        AQH/BBMwEYEPYmRjQGV4YW1wbGUuY29tMAoGCCqGSM49BAMCA0gAMEUCIBHda/r1vaL6G3VliL4/Di6YK0Q6bMje\
        SkC3dFCOOB8TAiEAx/kHSB4urmiZ0NX5r5XarmPk0wmuydBVoU4hBVZ1yhk=:";
    let headers = request_fields(&[("client-cert", certificate)]);
    let members = "(\"@path\" \"@query\" \"@method\" \"@authority\" \"client-cert\");\
        created=1618884473;keyid=\"test-key-ecc-p256\"";
    let uri = "https://service.internal.example/foo?param=Value&Pet=dog";
    let passed_on = base(&format!("ttrp={members}"), posted(uri), &headers).unwrap();
    let expected = format!(
        "\"@path\": /foo\n\"@query\": ?param=Value&Pet=dog\n\"@method\": POST\n\
         \"@authority\": service.internal.example\n\"client-cert\": {certificate}\n\
         \"@signature-params\": {members}"
    );
    assert_eq!(passed_on, expected);
    proven(
        &key,
        &passed_on,
        "xVMHVpawaAC/0SbHrKRs9i8I3eOs5RtTMGCWXm/9nvZzoHsIg6Mce9315T6xoklyy0yzhD9ah4JHRwMLOgmizw==",
    );
}

/// R-6.3.2-2b: RFC 9421, appendix B.2.5: verified, and reproduced bit for bit.
#[test]
fn the_published_example_of_hmac_is_proven_and_reproduced() {
    let members = "(\"date\" \"@authority\" \"content-type\");created=1618884473;\
        keyid=\"test-shared-secret\"";
    let headers = request_fields(&[]);
    let shared = base(&format!("sig-b25={members}"), posted(REQUEST_URI), &headers).unwrap();
    let expected = format!(
        "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\"@authority\": example.com\n\
         \"content-type\": application/json\n\"@signature-params\": {members}"
    );
    assert_eq!(shared, expected);
    let signature = "pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=";
    proven(
        &VerifyingKey::from_secret(&secret()).unwrap(),
        &shared,
        signature,
    );
    let key = SigningKey::from_secret("test-shared-secret", &secret()).unwrap();
    let made = key.sign(shared.as_bytes()).unwrap();
    assert_eq!(STANDARD.encode(made), signature);

    let mut other = secret();
    *other.last_mut().unwrap() ^= 1;
    let other = VerifyingKey::from_secret(&other).unwrap();
    assert!(!other.verifies(shared.as_bytes(), &STANDARD.decode(signature).unwrap()));
}

/// R-6.3.2-2b: RFC 9421, section 4.3: a proxy's signature with `rsa-v1_5-sha256`, which we verify
/// but never make.
#[test]
fn the_published_example_of_rsa_v1_5_is_proven() {
    let key = public("rsa-v1_5-sha256", RSA);
    let headers = request_fields(&[("forwarded", "for=192.0.2.123;host=example.com;proto=https")]);
    let uri = "https://origin.host.internal.example/foo?param=Value&Pet=dog";
    let members = "(\"@method\" \"@authority\" \"@path\" \"content-digest\" \"content-type\" \
        \"content-length\" \"forwarded\");created=1618884480;keyid=\"test-key-rsa\";\
        alg=\"rsa-v1_5-sha256\";expires=1618884540";
    let passed_on = base(&format!("proxy_sig={members}"), posted(uri), &headers).unwrap();
    let signature = "S6ZzPXSdAMOPjN/6KXfXWNO/f7V6cHm7BXYUh3YD/fRad4BCaRZxP+JH+8XY1I6+8Cy+CM5g92iHgxtRPz+\
         MjniOaYmdkDcnL9cCpXJleXsOckpURl49GwiyUpZ10KHgOEe11sx3G2gxI8S0jnxQB+Pu68U9vVcasqOWAEObtNKK\
         Zd8tSFu7LB5YAv0RAGhB8tmpv7sFnIm9y+7X5kXQfi8NMaZaA8i2ZHwpBdg7a6CMfwnnrtflzvZdXAsD3LH2TwevU\
         +/PBPv0B6NMNk93wUs/vfJvye+YuI87HU38lZHowtznbLVdp770I6VHR6WfgS9ddzirrswsE1w5o0LV/g==";
    proven(&key, &passed_on, signature);

    // The padding follows from the key, not from the signature (Q3).
    let pss = public("rsa-pss-sha512", RSA);
    assert!(!pss.verifies(passed_on.as_bytes(), &STANDARD.decode(signature).unwrap()));
}
