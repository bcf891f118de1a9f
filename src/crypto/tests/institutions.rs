//! What institutions' documents publish: each signature and each sealed text, byte for byte.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::bytes;
use crate::crypto::aead::{Aes256GcmKey, Sm4GcmKey};
use crate::crypto::digest::{Sha1, md5, sha256, sm3};
use crate::crypto::hex;
use crate::crypto::hmac::HmacKey;
use crate::crypto::pem;
use crate::crypto::rsa::{RsaPrivateKey, RsaPublicKey, RsaScheme};

/// The keys are the documents' own test keys; `text` is what is signed; of `UnionPay` what is
/// hashed before.
const SIGNED: &str = include_str!("vectors/institutions_rsa.json");
const SEALED: &str = include_str!("vectors/institutions_sealed.json");

fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn decoded(value: &Value) -> Vec<u8> {
    STANDARD.decode(text(value)).unwrap()
}

/// What is signed: `UnionPay` signs the hexadecimal text of a digest, which is hashed once more.
fn signed_bytes(one: &Value) -> Vec<u8> {
    let whole = text(&one["text"]).as_bytes();
    if text(&one["who"]).starts_with("UnionPay") {
        return hex::lower(&sha256(whole)).into_bytes();
    }
    whole.to_vec()
}

/// Q3: institutions' signatures, made with our libraries and theirs, are the same bytes.
#[test]
fn published_signatures_are_made_and_verified() {
    let all = read(SIGNED);
    let signed = all["signed"].as_array().unwrap();
    assert_eq!(signed.len(), 40);
    for one in signed {
        let key = &all["keys"][text(&one["key"])];
        let private = RsaPrivateKey::from_text(text(&key["pkcs8"]), RsaScheme::Pkcs1Sha256);
        let public = RsaPublicKey::from_text(text(&key["spki"]), RsaScheme::Pkcs1Sha256);
        let (message, signature) = (signed_bytes(one), decoded(&one["signature"]));
        assert_eq!(private.unwrap().sign(&message).unwrap(), signature, "{one}");
        let public = public.unwrap();
        assert!(public.verify(&message, &signature), "{one}");
        let longer = [message.as_slice(), b" "].concat();
        assert!(!public.verify(&longer, &signature), "{one}");
        if text(&one["who"]).starts_with("UnionPay") {
            assert!(!public.verify(text(&one["text"]).as_bytes(), &signature));
        }
    }
}

/// Q3: the same key in every form in which it is handed out, and in no damaged one.
#[test]
fn a_key_is_read_in_every_form_of_institutions() {
    let all = read(SIGNED);
    let scheme = RsaScheme::Pkcs1Sha256;
    for key in all["keys"].as_object().unwrap().values() {
        let spki = decoded(&key["spki"]);
        for (label, field) in [(pem::PRIVATE_KEY, "pkcs8"), (pem::RSA_PRIVATE_KEY, "pkcs1")] {
            for form in forms(label, &key[field]) {
                let read = RsaPrivateKey::from_text(&form, scheme);
                assert_eq!(read.unwrap().public_spki(), spki, "{label}");
            }
        }
        for (label, field) in [
            (pem::PUBLIC_KEY, "spki"),
            (pem::RSA_PUBLIC_KEY, "public_pkcs1"),
        ] {
            for form in forms(label, &key[field]) {
                assert!(RsaPublicKey::from_text(&form, scheme).is_some(), "{label}");
            }
        }
        let wrong_label = pem::write(pem::PRIVATE_KEY, &decoded(&key["pkcs1"]));
        let cut = text(&key["pkcs8"]).split_at(400).0;
        for other in [
            wrong_label.as_str(),
            cut,
            text(&key["spki"]),
            "",
            "-----BEGIN",
        ] {
            assert!(RsaPrivateKey::from_text(other, scheme).is_none());
        }
        assert!(RsaPublicKey::from_text(text(&key["pkcs8"]), scheme).is_none());
    }
}

/// In PEM, in PEM on one line, bare, bare with line breaks, and after a comment.
fn forms(label: &str, der: &Value) -> [String; 5] {
    let pem = pem::write(label, &decoded(der));
    let lines: Vec<&str> = pem.lines().collect();
    let [_, inside @ .., _] = lines.as_slice() else {
        panic!("{pem}");
    };
    let bare = inside.join("\r\n");
    [
        pem.clone(),
        lines.concat(),
        text(der).to_owned(),
        format!("  {bare}\n"),
        format!("Bag Attributes\n    localKeyID: 01\n{pem}"),
    ]
}

/// Messages of institutions that are encrypted.
#[test]
fn published_texts_are_opened_and_sealed() {
    let all = read(SEALED);
    let all = all.as_array().unwrap();
    assert_eq!(all.len(), 6);
    for one in all {
        let nonce: [u8; 12] = text(&one["nonce"]).as_bytes().try_into().unwrap();
        let aad = text(&one["aad"]).as_bytes();
        let (sealed, plain) = (decoded(&one["sealed"]), text(&one["plain"]).as_bytes());
        let secret = text(&one["key"]).as_bytes();
        let (made, opened, other) = match text(&one["cipher"]) {
            "AES-256-GCM" => {
                let key = Aes256GcmKey::new(secret.try_into().unwrap()).unwrap();
                let other = key.open(nonce, b"other", &sealed);
                (
                    key.seal(nonce, aad, plain),
                    key.open(nonce, aad, &sealed),
                    other,
                )
            }
            "SM4-GCM" => {
                let key = Sm4GcmKey::new(sm3(secret)[..16].try_into().unwrap());
                let other = key.open(nonce, b"other", &sealed);
                (
                    key.seal(nonce, aad, plain),
                    key.open(nonce, aad, &sealed),
                    other,
                )
            }
            other => panic!("{other}"),
        };
        assert_eq!(opened.as_deref(), Some(plain), "{one}");
        assert_eq!(made.as_deref(), Some(sealed.as_slice()), "{one}");
        assert_eq!(other, None);
    }
}

/// The key derived for `SM4-GCM` is the one that is published.
#[test]
fn published_sm4_keys_are_derived() {
    for (secret, key) in [
        (
            "Gw7Kx2mQ9vTz4Lp8Rb3Nc6Hd1Js5Fy0A",
            "c6215ca190ac1ba89eafe13529411e34",
        ),
        (
            "a7cde1ZJB1kG2e7VfTs3jQzaWizur8Gb",
            "fa2028801e86d45f5638cadafb5db2e9",
        ),
    ] {
        assert_eq!(sm3(secret.as_bytes())[..16], bytes(key));
    }
}

/// `WeChat` Pay's older interface: the tag as upper-case text; MD5 is known here for certificates
/// only.
#[test]
fn published_tags_are_upper_case_text() {
    let secret = "192006250b4c09247ec02edce69f6a2d";
    let message = format!(
        "appid=wxd930ea5d5a258f4f&body=test&device_info=1000&mch_id=10000100&\
         nonce_str=ibuaiVcKdpRxkhJA&key={secret}"
    );
    let key = HmacKey::new(secret.as_bytes());
    let tag = "6A9AE1657590FD6257D693A078E1C3E4BB6BA4DC30B23E0EE2496E54170DACD6";
    assert_eq!(key.sign_hex(message.as_bytes()), tag);
    let md5_text = hex::upper(&md5(message.as_bytes()));
    assert_eq!(md5_text, "9A0A8659F005D6984697E2CA0A9CF3B7");

    let secret = "8934e7d15453e97507ef794cf7b0519d";
    let key = HmacKey::new(secret.as_bytes());
    let message = format!(
        "appid=wxd678efh567hg6787&auth_code=134567890123456789&body=5G消息-话费充值&\
         mch_id=1900009191&nonce_str=5K8264ILTKCH16CQ2502SI8ZNMTM67VS&\
         out_trade_no=5GM20260101000002&sign_type=HMAC-SHA256&spbill_create_ip=203.0.113.10&\
         total_fee=1001&key={secret}"
    );
    let tag = "484DA32F8E4FB5BB0B571A3DF93679A38DF365F917B476EAC43C147E29A90F6C";
    assert_eq!(key.sign_hex(message.as_bytes()), tag);
    assert!(key.verify_hex(message.as_bytes(), tag));
    for other in [tag.to_lowercase().as_str(), &tag[1..], ""] {
        assert!(!key.verify_hex(message.as_bytes(), other));
    }
    assert!(!key.verify_hex(&message.as_bytes()[1..], tag));
}

/// FIPS 180-4 and RFC 1321: the three-letter examples.
#[test]
fn older_digests_are_those_of_the_standard() {
    let mut digest = Sha1::default();
    digest.update(b"a");
    digest.update(b"bc");
    let abc = "a9993e364706816aba3e25717850c26c9cd0d89d";
    assert_eq!(hex::lower(&digest.finish()), abc);
    assert_eq!(hex::lower(&md5(b"abc")), "900150983cd24fb0d6963f7d28e17f72");
}
