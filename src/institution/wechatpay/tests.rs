//! Vectors that several client libraries agree on, byte for byte, and what must not pass beside them.
//! All keys in them were made for tests.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use crate::crypto::aead::{Aes256GcmKey, NONCE_BYTES};
use crate::crypto::pem;
use crate::domain::fields::Fields;
use crate::domain::identifiers::{AccountId, InstitutionId, ReceiverId, Timestamp};
use crate::domain::institutions::AccountRole;
use crate::domain::personal::payer_context::PayerAppId;
use crate::institution::wechatpay::KIND;
use crate::institution::wechatpay::accounts::{WechatAccount, WechatAccounts};
use crate::institution::wechatpay::notifications::{Notification, opened};
use crate::institution::wechatpay::payments::{ClientParts, nested};
use crate::institution::wechatpay::requests::{
    PrepayAmountFields, PrepayFields, PrepayH5Fields, PrepayPartyFields, PrepaySceneFields,
    WechatRefundAmount, WechatRefundFields,
};
use crate::institution::wechatpay::signing::{
    SignedRequest, WechatUnproven, authorization, lines, sign, verify,
};
use crate::institution::{
    ALWAYS, ConfiguredAccount, ConfiguredInstitution, OwnKey, SecretText, SettingValue,
    SettingValues, Unverified,
};
use crate::signature::{Algorithm, EnrolledKey, KeyRing, SigningKey, VerifyingKey};

const VECTORS: &str = include_str!("tests/vectors.json");
const ACCOUNT: &str = "wx-shop";
const CLIENT_NONCE: &str = "5K8264ILTKCH16CQ2502SI8ZNMTM67VS";

fn vectors() -> Value {
    serde_json::from_str(VECTORS).unwrap()
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_else(|| panic!("no text at {pointer}"))
}

fn algorithm() -> Algorithm {
    Algorithm::parse("rsa-v1_5-sha256").unwrap()
}

/// A key of the vectors in PEM; there it stands without its frame.
fn pem(vectors: &Value, pointer: &str) -> String {
    let label = if pointer.ends_with("private") {
        pem::PRIVATE_KEY
    } else {
        pem::PUBLIC_KEY
    };
    pem::write(label, &STANDARD.decode(text(vectors, pointer)).unwrap())
}

fn merchant(vectors: &Value) -> SigningKey {
    let serial = text(vectors, "/constants/merchant_serial");
    let pem = pem(vectors, "/merchant_private");
    SigningKey::of_algorithm(algorithm(), serial, &pem).unwrap()
}

/// A platform key of this owner with this serial, valid in 2026.
fn enrolled(serial: &str, owner: &str, pem: &str) -> EnrolledKey {
    EnrolledKey {
        id: serial.to_owned(),
        owner: owner.to_owned(),
        key: VerifyingKey::of_algorithm(algorithm(), pem).unwrap(),
        not_before_s: 1_767_196_800,
        not_after_s: 1_798_732_799,
    }
}

fn ring(vectors: &Value) -> Vec<EnrolledKey> {
    let pem = pem(vectors, "/platform_public");
    let named = |name: &str| text(vectors, &format!("/constants/{name}")).to_owned();
    vec![
        enrolled(&named("public_key_id"), ACCOUNT, &pem),
        enrolled(&named("platform_serial"), ACCOUNT, &pem),
        enrolled("OTHERS", "wx-other", &pem),
    ]
}

fn institution(vectors: &Value, keys: Vec<EnrolledKey>) -> ConfiguredInstitution {
    let named = |name: &str| text(vectors, &format!("/constants/{name}"));
    let apps = vec![("default".into(), PayerAppId::parse(named("appid")).unwrap())];
    let own = OwnKey {
        key: Arc::new(merchant(vectors)),
        signs_within: ALWAYS,
    };
    let values = SettingValues::default()
        .with("mchid", SettingValue::Text(named("mchid").into()))
        .with("apps", SettingValue::Apps(apps))
        .with("key", SettingValue::PrivateKey(own))
        .with(
            "apiv3_key",
            SettingValue::Secret(SecretText::new(named("apiv3_key"))),
        )
        .with(
            "keys",
            SettingValue::PublicKeys(KeyRing::new(keys).unwrap()),
        );
    let url = SettingValue::Text("https://api.mch.weixin.qq.com".into());
    ConfiguredInstitution {
        id: InstitutionId::parse("wechat").unwrap(),
        callback_origin: "https://pay.example.com".to_owned(),
        facts: KIND.facts(),
        values: SettingValues::default().with("url", url),
        accounts: vec![ConfiguredAccount {
            id: AccountId::parse(ACCOUNT).unwrap(),
            role: AccountRole::Direct,
            receiver: ReceiverId::parse(named("mchid")).unwrap(),
            values,
        }],
    }
}

/// Runs a check with the account of the vectors.
fn with_account(check: impl FnOnce(&Value, &WechatAccount)) {
    let vectors = vectors();
    let settings = institution(&vectors, ring(&vectors));
    let accounts = WechatAccounts::new(&settings);
    check(&vectors, accounts.get(&settings.accounts[0].id).unwrap());
}

fn headers(timestamp: &str, nonce: &str, signature: &str, serial: &str) -> HeaderMap {
    let all = [
        ("wechatpay-timestamp", timestamp),
        ("wechatpay-nonce", nonce),
        ("wechatpay-signature", signature),
        ("wechatpay-serial", serial),
    ];
    let pairs = all.map(|(name, value)| {
        let value = HeaderValue::from_str(value).unwrap();
        (HeaderName::from_static(name), value)
    });
    pairs.into_iter().collect()
}

/// A recorded message of the platform: its headers, and when it arrived.
fn message(vectors: &Value, name: &str, serial: &str) -> (HeaderMap, Vec<u8>, Timestamp) {
    let of = |part: &str| text(vectors, &format!("/{name}/{part}"));
    let mut signed = of("msg").splitn(3, '\n');
    let (timestamp, nonce) = (signed.next().unwrap(), signed.next().unwrap());
    let body = signed.next().unwrap().strip_suffix('\n').unwrap();
    let now = Timestamp::from_s(timestamp.parse().unwrap());
    let headers = headers(timestamp, nonce, of("sig"), serial);
    (headers, body.as_bytes().to_vec(), now)
}

/// Requests are signed as documented: the five lines, and the whole header.
#[test]
fn requests_are_signed_as_documented() {
    let vectors = vectors();
    let (own, mchid) = (merchant(&vectors), text(&vectors, "/constants/mchid"));
    for name in [
        "prepay",
        "query",
        "refund",
        "partner/h5",
        "partner/query",
        "partner/close",
        "partner/refundquery",
    ] {
        let of = |part: &str| text(&vectors, &format!("/{name}/{part}"));
        let mut signed = of("msg").splitn(5, '\n');
        let mut line = || signed.next().unwrap();
        let (method, target, timestamp, nonce) = (line(), line(), line(), line());
        let body = line().strip_suffix('\n').unwrap();
        let parts = [method, target, timestamp, nonce, body].map(str::as_bytes);
        assert_eq!(lines(&parts), of("msg").as_bytes(), "{name}");
        assert_eq!(sign(&own, &parts).unwrap(), of("sig"), "{name}");
        let request = SignedRequest {
            method,
            target,
            body: body.as_bytes(),
        };
        let now = Timestamp::from_s(timestamp.parse().unwrap());
        let header = authorization(&request, mchid, &own, nonce, now).unwrap();
        let expected = format!(
            "WECHATPAY2-SHA256-RSA2048 mchid=\"1900009191\",nonce_str=\"{nonce}\",\
             timestamp=\"{timestamp}\",serial_no=\"5157F09EFDC096DE15EBE81A47057A7232F1B8E1\",\
             signature=\"{}\"",
            of("sig")
        );
        assert_eq!(header.to_str().unwrap(), expected, "{name}");
    }
}

/// M5, A3: bodies are the documented ones byte for byte, sums in fen as plain integers.
#[test]
fn bodies_are_the_documented_ones() {
    let vectors = vectors();
    let prepay = |out_trade_no, parties, scene_info| PrepayFields {
        parties,
        description: "5G消息-话费充值".to_owned(),
        out_trade_no,
        time_expire: Timestamp::from_s(1_767_225_780).rfc3339(),
        notify_url: "https://pay.example.com/notify/wechat/pay",
        amount: PrepayAmountFields {
            total: 1_001,
            currency: "CNY",
        },
        payer: None,
        scene_info,
    };
    let direct = PrepayPartyFields::Direct {
        appid: "wxd678efh567hg6787",
        mchid: "1900009191",
    };
    let partner = PrepayPartyFields::Partner {
        sp_appid: "wxd678efh567hg6787",
        sp_mchid: "1900009191",
        sub_appid: None,
        sub_mchid: "1900009291",
    };
    let scene = PrepaySceneFields {
        payer_client_ip: "203.0.113.10".to_owned(),
        h5_info: PrepayH5Fields { device: "Wap" },
    };
    let refund = WechatRefundFields {
        sub_mchid: None,
        out_trade_no: "5GM20260101000001",
        out_refund_no: "5GR20260101000001",
        reason: Some("partial refund".to_owned()),
        notify_url: "https://pay.example.com/notify/wechat/refund",
        amount: WechatRefundAmount {
            refund: 301,
            total: 1_001,
            currency: "CNY",
        },
    };
    for (body, of) in [
        (
            serde_json::to_string(&prepay("5GM20260101000001", direct, None)),
            "/prepay/body",
        ),
        (
            serde_json::to_string(&prepay("5GM20260101000011", partner, Some(scene))),
            "/partner/h5/body",
        ),
        (serde_json::to_string(&refund), "/refund/body"),
    ] {
        assert_eq!(body.unwrap(), text(&vectors, of));
    }
}

/// The payer's parameters are signed as documented: with the prefix for JSAPI, without it for APP.
#[test]
fn client_parameters_are_signed_as_documented() {
    let vectors = vectors();
    let own = merchant(&vectors);
    let parts = ClientParts {
        app: "wxd678efh567hg6787",
        partner: "1900009191",
        timestamp: "1767225600",
        nonce: CLIENT_NONCE,
        prepay_id: "wx201410272009395522657a690389285100",
    };
    let jsapi = parts.jsapi(|lines| sign(&own, lines)).unwrap();
    let app = parts.app(|lines| sign(&own, lines)).unwrap();
    let expected = format!(
        "{{\"appId\":\"wxd678efh567hg6787\",\"timeStamp\":\"1767225600\",\
         \"nonceStr\":\"{CLIENT_NONCE}\",\
         \"package\":\"prepay_id=wx201410272009395522657a690389285100\",\"signType\":\"RSA\",\
         \"paySign\":\"{}\"}}",
        text(&vectors, "/client/jsapi/sig")
    );
    assert_eq!(jsapi, expected);
    let expected = format!(
        "{{\"appid\":\"wxd678efh567hg6787\",\"partnerid\":\"1900009191\",\
         \"prepayid\":\"wx201410272009395522657a690389285100\",\"package\":\"Sign=WXPay\",\
         \"noncestr\":\"{CLIENT_NONCE}\",\"timestamp\":\"1767225600\",\"sign\":\"{}\"}}",
        text(&vectors, "/client/app/sig")
    );
    assert_eq!(app, expected);
}

/// C1, E5: answers and notifications are verified over raw bytes, each by the key that it names;
/// whatever differs is not proven.
#[test]
fn messages_are_verified_as_documented() {
    with_account(|vectors, account| {
        let serial = text(vectors, "/constants/platform_serial");
        let id = text(vectors, "/constants/public_key_id");
        for name in ["answer", "answer_empty", "paid", "refunded"] {
            for named in [serial, id, &serial.to_lowercase()] {
                let (headers, body, now) = message(vectors, name, named);
                assert_eq!(verify(&headers, &body, account, now), Ok(()), "{name}");
            }
            let wrong = Err(WechatUnproven::Signature);
            let (headers, body, now) = message(vectors, name, serial);
            let mut longer = body.clone();
            longer.push(b' ');
            assert_eq!(verify(&headers, &longer, account, now), wrong, "{name}");
            for at in 0..body.len() {
                let mut changed = body.clone();
                changed[at] ^= 1;
                assert_eq!(
                    verify(&headers, &changed, account, now),
                    wrong,
                    "{name} {at}"
                );
            }
            for (header, value) in [
                ("wechatpay-nonce", "another"),
                ("wechatpay-serial", "OTHERS"),
                (
                    "wechatpay-serial",
                    "7132D72A03E93CDDF8C03BBD1F37EEDF5A1B2C3E",
                ),
                ("wechatpay-serial", ""),
                ("wechatpay-signature", "AAAA"),
                ("wechatpay-signature", "not Base64"),
                ("wechatpay-timestamp", "+1767225601"),
                ("wechatpay-timestamp", "1767225601.0"),
                ("wechatpay-signature-type", "WECHATPAY2-SM2-WITH-SM3"),
                ("wechatpay-signature-type", ""),
            ] {
                let mut changed = headers.clone();
                changed.insert(header, HeaderValue::from_static(value));
                assert_eq!(
                    verify(&changed, &body, account, now),
                    wrong,
                    "{name} {value}"
                );
                let mut twice = headers.clone();
                twice.append(header, HeaderValue::from_static(value));
                assert_ne!(
                    verify(&twice, &body, account, now),
                    Ok(()),
                    "{name} {value}"
                );
            }
            for header in ["timestamp", "nonce", "serial", "signature"] {
                let mut fewer = headers.clone();
                fewer.remove(format!("wechatpay-{header}"));
                assert_eq!(
                    verify(&fewer, &body, account, now),
                    wrong,
                    "{name} {header}"
                );
            }
            let mut typed = headers.clone();
            let rsa = HeaderValue::from_static("WECHATPAY2-SHA256-RSA2048");
            typed.insert("wechatpay-signature-type", rsa);
            assert_eq!(verify(&typed, &body, account, now), Ok(()), "{name}");
        }
    });
}

/// Q3: what our own key signed is not the platform's.
#[test]
fn a_message_signed_by_our_own_key_is_not_proven() {
    with_account(|vectors, account| {
        let own = merchant(vectors);
        let signature = sign(&own, &[b"1767225601", b"n", b"{}"]).unwrap();
        let serial = text(vectors, "/constants/platform_serial");
        let headers = headers("1767225601", "n", &signature, serial);
        let now = Timestamp::from_s(1_767_225_601);
        let found = verify(&headers, b"{}", account, now);
        assert_eq!(found, Err(WechatUnproven::Signature));
    });
}

/// C5: five minutes in both directions, and no longer.
#[test]
fn a_message_is_believed_for_five_minutes() {
    with_account(|vectors, account| {
        let serial = text(vectors, "/constants/platform_serial");
        let (headers, body, now) = message(vectors, "answer", serial);
        for (off_s, expected) in [
            (299, Ok(())),
            (-299, Ok(())),
            (300, Err(WechatUnproven::Window)),
            (-300, Err(WechatUnproven::Window)),
            (i64::MAX / 2_000, Err(WechatUnproven::Window)),
        ] {
            let at = Timestamp::from_s(now.seconds() + off_s);
            assert_eq!(verify(&headers, &body, account, at), expected, "{off_s}");
        }
    });
}

/// A deliberately wrong signature is counted apart, and never believed.
#[test]
fn a_probe_is_recognised() {
    with_account(|vectors, account| {
        let serial = text(vectors, "/constants/platform_serial");
        let (mut headers, body, now) = message(vectors, "answer", serial);
        let probe = HeaderValue::from_static("WECHATPAY/SIGNTEST/1767225601/abc==");
        headers.insert("wechatpay-signature", probe);
        let found = verify(&headers, &body, account, now);
        assert_eq!(found, Err(WechatUnproven::Probe));
        assert_eq!(WechatUnproven::Probe.word(), "probe");
    });
}

/// C1: a retired key proves nothing, nor one that is not valid yet.
#[test]
fn a_retired_key_proves_nothing() {
    let vectors = vectors();
    let serial = text(&vectors, "/constants/platform_serial");
    let (headers, body, now) = message(&vectors, "answer", serial);
    for (from_s, until_s, expected) in [
        (0, now.seconds(), Ok(())),
        (now.seconds(), i64::MAX, Ok(())),
        (0, now.seconds() - 1, Err(WechatUnproven::Signature)),
        (now.seconds() + 1, i64::MAX, Err(WechatUnproven::Signature)),
    ] {
        let keys = ring(&vectors).into_iter().map(|key| EnrolledKey {
            not_before_s: from_s,
            not_after_s: until_s,
            ..key
        });
        let settings = institution(&vectors, keys.collect());
        let accounts = WechatAccounts::new(&settings);
        let account = accounts.get(&settings.accounts[0].id).unwrap();
        assert_eq!(verify(&headers, &body, account, now), expected);
    }
}

/// Resources are decrypted as documented, with and without associated data.
#[test]
fn resources_are_decrypted_as_documented() {
    with_account(|vectors, account| {
        for name in ["paid", "refunded"] {
            let body = text(vectors, &format!("/{name}/body")).as_bytes();
            let envelope = Fields::parse(body).unwrap();
            let resource = nested(&envelope, "resource").unwrap();
            let plain = opened(&resource, account).unwrap();
            let expected = text(vectors, &format!("/{name}/plain"));
            assert_eq!(plain, expected.as_bytes(), "{name}");
            // The numbers in it are not of this gateway.
            let found = Notification::open(body, account).err();
            assert!(
                matches!(found, Some(Unverified::NamesNothing(_))),
                "{found:?}"
            );
        }
        for (name, nonce, associated, plain) in [
            (
                "no_associated_data",
                "0123456789ab",
                "",
                text(vectors, "/no_associated_data/plain"),
            ),
            (
                "certificate",
                "61f9c719728a",
                "certificate",
                text(vectors, "/platform_certificate"),
            ),
        ] {
            let sealed = text(vectors, &format!("/{name}/ct"));
            let resource = |ciphertext: &str| {
                serde_json::json!({
                    "ciphertext": ciphertext, "nonce": nonce, "associated_data": associated,
                })
                .to_string()
            };
            let open = |text: &str| {
                let fields = Fields::parse(text.as_bytes()).unwrap();
                opened(&fields, account)
            };
            assert_eq!(open(&resource(sealed)).unwrap(), plain.as_bytes(), "{name}");
            let mut bytes = STANDARD.decode(sealed).unwrap();
            for at in 0..bytes.len() {
                bytes[at] ^= 1;
                assert!(
                    open(&resource(&STANDARD.encode(&bytes))).is_none(),
                    "{name} {at}"
                );
                bytes[at] ^= 1;
            }
        }
    });
}

/// An absent member is no associated data, like an empty one.
#[test]
fn absent_associated_data_is_none() {
    with_account(|vectors, account| {
        let sealed = text(vectors, "/no_associated_data/ct");
        let body = format!(r#"{{"ciphertext":"{sealed}","nonce":"0123456789ab"}}"#);
        let fields = Fields::parse(body.as_bytes()).unwrap();
        assert_eq!(opened(&fields, account).as_deref(), Some(&b"{\"a\":1}"[..]));
        for nonce in ["0123456789a", "0123456789abc", "", "0123456789aé"] {
            let body = format!(r#"{{"ciphertext":"{sealed}","nonce":"{nonce}"}}"#);
            let fields = Fields::parse(body.as_bytes()).unwrap();
            assert!(opened(&fields, account).is_none(), "{nonce}");
        }
    });
}

/// An envelope around a plain text, encrypted for the account of the vectors.
fn envelope(vectors: &Value, event: &str, kind: &str, cipher: &str, plain: &str) -> String {
    let secret = text(vectors, "/constants/apiv3_key").as_bytes();
    let key = Aes256GcmKey::new(secret.try_into().unwrap()).unwrap();
    let nonce: [u8; NONCE_BYTES] = *b"fdasflkja484";
    let sealed = key.seal(nonce, b"x", plain.as_bytes()).unwrap();
    serde_json::json!({
        "event_type": event,
        "resource": {
            "original_type": kind, "algorithm": cipher, "nonce": "fdasflkja484",
            "associated_data": "x", "ciphertext": STANDARD.encode(sealed),
        },
    })
    .to_string()
}

/// C3: another cipher, event or type, or one that does not fit the other, is not evidence.
#[test]
fn an_unknown_envelope_is_not_evidence() {
    with_account(|vectors, account| {
        let plain = r#"{"out_trade_no":"A01KAMB7E80000000000000000A"}"#;
        let open = |event, kind, cipher| {
            let body = envelope(vectors, event, kind, cipher, plain);
            Notification::open(body.as_bytes(), account).err()
        };
        let known = "AEAD_AES_256_GCM";
        assert_eq!(open("TRANSACTION.SUCCESS", "transaction", known), None);
        let unreadable = Some(Unverified::Unreadable("algorithm"));
        for cipher in ["AEAD_SM4_GCM", "AES_256_GCM", "", "none"] {
            assert_eq!(
                open("TRANSACTION.SUCCESS", "transaction", cipher),
                unreadable
            );
        }
        for (event, kind) in [
            ("TRANSACTION.SUCCESS", "refund"),
            ("REFUND.SUCCESS", "transaction"),
            ("REFUND.SUCCESS", "refund"),
            ("ENTRUST.SIGN", "transaction"),
            ("", "transaction"),
            ("TRANSACTION.SUCCESS", ""),
        ] {
            let found = open(event, kind, known);
            assert!(
                matches!(found, Some(Unverified::NamesNothing(_))),
                "{event} {kind}"
            );
        }
    });
}

/// The whole adapter does not print a key.
#[test]
fn a_request_prints_no_key() {
    let vectors = vectors();
    let settings = institution(&vectors, ring(&vectors));
    let printed = format!("{settings:?}");
    assert!(!printed.contains(text(&vectors, "/constants/apiv3_key")));
    let adapter = (KIND.build)(settings).unwrap();
    assert_eq!(adapter.id().as_str(), "wechat");
}
