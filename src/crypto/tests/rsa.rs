//! RSA with PKCS #1 v1.5: signatures from institutions' documents, byte for byte, and attacks that
//! broke other implementations.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::crypto::rsa::oaep::RsaOaepPublicKey;
use crate::crypto::rsa::{RsaPrivateKey, RsaPublicKey, RsaScheme};

/// Key pairs made for tests, messages as institutions compose them, signatures made with one
/// library and verified with another.
const KNOWN: &str = include_str!("vectors/rsa_pkcs1_sha256.json");
/// Made with the private key itself, without any library's padding: each states what is wrong with
/// it.
const FORGED: &str = include_str!("vectors/rsa_pkcs1_forged.json");

fn der(value: &Value) -> Vec<u8> {
    STANDARD.decode(value.as_str().unwrap()).unwrap()
}

fn message(value: &Value) -> &[u8] {
    value["message"].as_str().unwrap().as_bytes()
}

fn known() -> Vec<Value> {
    serde_json::from_str(KNOWN).unwrap()
}

fn pkcs1(spki: &Value) -> RsaPublicKey {
    RsaPublicKey::from_spki(&der(spki), RsaScheme::Pkcs1Sha256).unwrap()
}

/// Q3: PKCS #1 v1.5 is deterministic, so a message has one signature per key.
#[test]
fn known_messages_have_their_known_signatures() {
    let known = known();
    assert_eq!(known.len(), 5);
    for one in &known {
        let private = RsaPrivateKey::from_pkcs8(&der(&one["pkcs8"]), RsaScheme::Pkcs1Sha256);
        let private = private.unwrap();
        let signature = der(&one["signature"]);
        assert_eq!(private.sign(message(one)).unwrap(), signature, "{one}");
        assert_eq!(private.public_spki(), der(&one["spki"]));
        let (n, e) = private.public_components();
        let from_numbers = RsaPublicKey::from_components(n, e, RsaScheme::Pkcs1Sha256).unwrap();
        for key in [pkcs1(&one["spki"]), from_numbers] {
            assert!(key.verify(message(one), &signature), "{one}");
            assert!(!key.verify(&message(one)[1..], &signature));
            assert!(!key.verify(b"", &signature));
        }
    }
    let other = pkcs1(&known[1]["spki"]);
    assert!(!other.verify(message(&known[0]), &der(&known[0]["signature"])));
}

/// Q3: every byte of a signature matters, and its length is that of the modulus.
#[test]
fn an_altered_or_resized_signature_is_never_good() {
    let one = &known()[0];
    let (key, message) = (pkcs1(&one["spki"]), message(one));
    let good = der(&one["signature"]);
    for at in 0..good.len() {
        let mut altered = good.clone();
        altered[at] ^= 1;
        assert!(!key.verify(message, &altered), "byte {at}");
        assert!(!key.verify(message, &good[..at]), "{at} bytes");
    }
    assert!(!key.verify(message, &good[1..]));
    assert!(!key.verify(message, &[&[0], good.as_slice()].concat()));
    assert!(!key.verify(message, &[good.as_slice(), &[0]].concat()));
    for digit in [0, 1, 0xff] {
        assert!(!key.verify(message, &[digit; 256]));
    }
    assert!(!key.verify(message, one["signature"].as_str().unwrap().as_bytes()));
}

/// Q3: padding is compared byte for byte (RFC 8017, section 8.2.2): other block types, short or
/// hollow padding (Bleichenbacher, 2006), another `DigestInfo`, another hash, another scheme.
#[test]
fn a_forged_padding_is_never_good() {
    let all: Value = serde_json::from_str(FORGED).unwrap();
    let key = pkcs1(&all["spki"]);
    assert!(key.verify(message(&all), &der(&all["signature"])));
    let forged = all["forged"].as_array().unwrap();
    assert_eq!(forged.len(), 21);
    for one in forged {
        let good = key.verify(message(&all), &der(&one["signature"]));
        assert!(!good, "{}", one["why"]);
    }
}

/// Q3: a signature is a number below the modulus, with all its leading zeros.
#[test]
fn a_signature_has_one_number_and_one_length() {
    let all: Value = serde_json::from_str(FORGED).unwrap();
    let key = pkcs1(&all["spki"]);
    let short = &all["short"];
    assert!(key.verify(message(short), &der(&short["signature"])));
    assert_eq!(der(&short["modulus_added"]).len(), 256);
    assert!(!key.verify(message(short), &der(&short["modulus_added"])));
    let zero = &all["leading_zero"];
    let signature = der(&zero["signature"]);
    assert_eq!(signature[0], 0);
    assert!(key.verify(message(zero), &signature));
    assert!(!key.verify(message(zero), &signature[1..]));
}

/// Q3: a key parsed for one scheme neither makes nor accepts signatures of the other.
#[test]
fn a_key_serves_the_scheme_it_was_read_for() {
    use RsaScheme::{Pkcs1Sha256, PssSha512};
    let one = &known()[0];
    for (scheme, other) in [(PssSha512, Pkcs1Sha256), (Pkcs1Sha256, PssSha512)] {
        let private = RsaPrivateKey::from_pkcs8(&der(&one["pkcs8"]), scheme).unwrap();
        let signature = private.sign(b"pay").unwrap();
        let read = |scheme| RsaPublicKey::from_spki(&der(&one["spki"]), scheme).unwrap();
        assert!(read(scheme).verify(b"pay", &signature));
        assert!(!read(other).verify(b"pay", &signature));
    }
}

/// Q3: a private key marked for PSS does not sign with PKCS #1 v1.5 padding.
#[test]
fn a_private_key_for_pss_is_none_for_pkcs1() {
    const RSA: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
    const PSS: &[u8] = b"\x30\x0b\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a";
    let plain = der(&known()[0]["pkcs8"]);
    let at = plain.windows(RSA.len()).position(|it| it == RSA).unwrap();
    let mut says_pss = [&plain[..at], PSS, &plain[at + RSA.len()..]].concat();
    let length = u16::try_from(says_pss.len() - 4).unwrap().to_be_bytes();
    says_pss[2..4].copy_from_slice(&length);
    assert!(RsaPrivateKey::from_pkcs8(&says_pss, RsaScheme::PssSha512).is_some());
    assert!(RsaPrivateKey::from_pkcs8(&says_pss, RsaScheme::Pkcs1Sha256).is_none());
    for length in [0, 1, 30, plain.len() - 1] {
        let cut = RsaPrivateKey::from_pkcs8(&plain[..length], RsaScheme::Pkcs1Sha256);
        assert!(cut.is_none(), "{length} bytes");
    }
}

/// Q3: a key below 2048 bits is refused in every form, as a key for signatures and for encryption.
#[test]
fn a_short_key_is_refused() {
    // Made with openssl: 1024 bits.
    let private = "MIICdwIBADANBgkqhkiG9w0BAQEFAASCAmEwggJdAgEAAoGBAKa3xCMhGU88uOnltrqqtk+cTNuf\
                   KDc9B4W1SLzhxfCtgmy8IR+7EkU2lti1lm7Y7w4rx9dSv77ls1DQ4GK9cQH6FRRxaf6VX3KkqxvC\
                   i/U1QFBJ4gdu+3+bcq73/0mmcXka561g2WtO8eGAt+y9omQ/JOvfrwnRopqcD6S6F1G/AgMBAAEC\
                   gYAzLNOLCPzw4q3MNlQp5n8B3vOEss0wb45gj64dNJyC7W/Mms78I3tPPZt+N/dOXU68Jdo5EVCE\
                   c5Pgac2G4anPN3te8sfhhh9O2BWHLjux6j512zf9Se5z2GKoFnNHQ/G5bI2RHEisr6K4LVhWkS3o\
                   bpAPqxZoo8pLgz3Ot0V8UQJBANtIvT4JjtEdcnzZman1exy2m7E4RT0kJNR1yH2qR4doGBqw/2eB\
                   KnLg73uODbePwpoPR6VOe0Zayr+/EOw0+5kCQQDCodt0mOvkQ8UXXAkD8tMMWtK/TMQ4FH2ywraK\
                   EaSPZASy5+znXcOPU3BVTXP1AHOZCjYF2FiPSjaWUfPHhM8XAkB5X+q3kuzFHKqJJpyicWkCfKTy\
                   0/WnIQFtxAAEZqMO9PQamgvUi68mRRDpb7hx+RW61mhOvIEJcSm2Npi0VaNJAkEArLfR9gCWpTR2\
                   vKoR3g0ouLgIeXb4UgPtICumrZPGgvDxMoqaMx+EIbab4zcehfbmnpLvKfS5cj8bff4v5Yi39QJB\
                   AI80MoucWrhkqALzRbqo32yKFZZIGB+sI595iGOibWbtw3EbZD7YxXdewI8fJ3oPHWKS+FsFRuxt\
                   5Ut45yluvqM=";
    let spki = "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCmt8QjIRlPPLjp5ba6qrZPnEzbnyg3PQeFtUi8\
                4cXwrYJsvCEfuxJFNpbYtZZu2O8OK8fXUr++5bNQ0OBivXEB+hUUcWn+lV9ypKsbwov1NUBQSeIH\
                bvt/m3Ku9/9JpnF5GuetYNlrTvHhgLfsvaJkPyTr368J0aKanA+kuhdRvwIDAQAB";
    let scheme = RsaScheme::Pkcs1Sha256;
    assert!(RsaPrivateKey::from_text(private, scheme).is_none());
    let der = STANDARD.decode(private).unwrap();
    assert!(RsaPrivateKey::from_pkcs8(&der, scheme).is_none());
    let key = &der[26..];
    assert_eq!(key[..2], [0x30, 0x82]);
    assert!(RsaPrivateKey::from_pkcs1(key, scheme).is_none());
    assert!(RsaPublicKey::from_text(spki, scheme).is_none());
    assert!(RsaOaepPublicKey::from_spki(&STANDARD.decode(spki).unwrap()).is_none());
}

/// Only the owner of the key reads a field; SHA-1 with MGF1 as the institutions' libraries do;
/// a text has no two equal forms.
#[test]
fn a_field_is_read_by_the_keys_owner_only() {
    use aws_lc_rs::rsa::{
        OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey,
    };
    let (owner, other) = (&known()[0], &known()[1]);
    let key = RsaOaepPublicKey::from_spki(&der(&owner["spki"])).unwrap();
    let private = |one: &Value| {
        let key = PrivateDecryptingKey::from_pkcs8(&der(&one["pkcs8"])).unwrap();
        OaepPrivateDecryptingKey::new(key).unwrap()
    };
    let field = "张三".as_bytes();
    let sealed = key.encrypt(field).unwrap();
    let mut plain = [0; 256];
    let opened = private(owner).decrypt(&OAEP_SHA1_MGF1SHA1, &sealed, &mut plain, None);
    assert_eq!(opened.unwrap(), field);
    for (key, algorithm) in [
        (private(other), &OAEP_SHA1_MGF1SHA1),
        (private(owner), &OAEP_SHA256_MGF1SHA256),
    ] {
        assert!(key.decrypt(algorithm, &sealed, &mut plain, None).is_err());
    }
    assert_ne!(key.encrypt(field).unwrap(), sealed);
    assert_eq!(key.encrypt(&[0x5a; 214]).unwrap().len(), 256);
    assert!(key.encrypt(&[0x5a; 215]).is_none());
    assert!(RsaOaepPublicKey::from_spki(&der(&owner["pkcs8"])).is_none());
}
