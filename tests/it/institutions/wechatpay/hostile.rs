//! Hostile and broken messages in the `wechatpay` dialect: none moves money, and none is taken for an
//! answer that it is not.

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use paymux::domain::amount::CNY;
use paymux::domain::attempt::{AttemptState, Contradiction};
use paymux::domain::evidence::{Evidence, Finding};
use paymux::domain::identifiers::{AccountId, Timestamp};
use paymux::domain::institutions::{AccountRole, Mode};
use paymux::domain::order::{Applied, Order};
use paymux::institution::{Acknowledgement, Call, CallState, Callback, Operation, Unverified};

use super::super::recorded::{ACCOUNT, NOW_S, order_with_refund};
use super::super::{DialectRig, SignedBy, incoming, read, reply_with, sent, stamp};
use super::{
    APP, MCHID, OTHER_SECRET, WechatRig, account, notification, order_of, rig, rig_of, sign, vector,
};

const PAID: &str = r#"{"appid":"wxd678efh567hg6787","mchid":"1900009191","out_trade_no":"A01KAMB7E80000000000000000A","transaction_id":"42","trade_state":"SUCCESS","success_time":"2026-11-22T00:29:00+08:00","amount":{"total":1230,"payer_total":1000,"currency":"CNY"}}"#;
const REFUNDED: &str = r#"{"mchid":"1900009191","out_trade_no":"A01KAMB7E80000000000000000A","out_refund_no":"R01KAMB7E80000000000000000C","refund_id":"50","refund_status":"SUCCESS","success_time":"2026-11-22T00:29:00+08:00","amount":{"total":1230,"refund":500}}"#;

/// What a reply to this call proves.
fn proves(rig: &WechatRig, call: &Call<'_>, reply: &Response<Bytes>) -> Finding {
    let (_, state) = sent(rig, call, &stamp(NOW_S));
    read(rig, call, &state, reply).finding
}

fn is_nothing(finding: &Finding) -> bool {
    matches!(finding, Finding::Ambiguous(_))
}

/// Every call about an attempt or refund that is in doubt.
fn with_every_call(check: impl Fn(&str, &Call<'_>)) {
    let order = order_of("H5", AttemptState::Unknown);
    let mut refunding = order_with_refund("UNKNOWN", Mode::Webview);
    refunding.attempts[0].product = order.attempts[0].product.clone();
    refunding.attempts[0].receiver = order.attempts[0].receiver.clone();
    let refund = &refunding.refunds[0];
    for operation in [Operation::Create, Operation::Query] {
        let call = Call::new(operation, &order.attempts[0], &order.terms);
        check(call.word(), &call);
    }
    for operation in [Operation::Refund(refund), Operation::RefundQuery(refund)] {
        let call = Call::new(operation, &refunding.attempts[0], &refunding.terms);
        check(call.word(), &call);
    }
}

/// E5, V1: pages, fragments and errors in the wrong place prove nothing, signed or not.
#[test]
fn what_is_no_answer_proves_nothing() {
    let rig = rig();
    with_every_call(|word, call| {
        for body in [
            "",
            "<html><body>502 Bad Gateway</body></html>",
            "null",
            "[]",
            "\"SUCCESS\"",
            "{}",
            "{\"code\":\"SUCCESS\",\"message\":\"成功\"}",
            "{\"code\":\"SYSTEM_ERROR\"}",
            "{\"trade_state\":\"SUCCESS\"}",
            "{\"status\":\"SUCCESS\"}",
            "{\"h5_url\":7}",
            "{\"h5_url\":\"http://wx.tenpay.com/x\"}",
            "{\"h5_url\":\"https://wx.tenpay.com@evil.example/x\"}",
            "{\"h5_url\":\"javascript:alert(1)\"}",
            "{\"h5_url\":\"https://wx.tenpay.com/\\\"><script>\"}",
        ] {
            for status in [200, 202, 204, 206, 301, 302, 500, 502, 503, 504] {
                let found = proves(&rig, call, &rig.reply(status, body));
                assert!(is_nothing(&found), "{word} {status} {body}: {found:?}");
                let found = proves(&rig, call, &reply_with(status, body.to_owned()));
                assert!(is_nothing(&found), "{word} {status} {body}: {found:?}");
            }
        }
        let endless = format!("{PAID}{}", " ".repeat(1 << 20));
        assert!(
            is_nothing(&proves(&rig, call, &rig.reply(200, &endless))),
            "{word}"
        );
    });
}

/// Without the platform's key no bytes at all make a payment, a refund or an acceptance.
#[test]
fn bytes_without_the_key_prove_nothing() {
    let rig = rig();
    let mut drawn: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut draw = move || {
        drawn ^= drawn << 13;
        drawn ^= drawn >> 7;
        drawn ^= drawn << 17;
        drawn
    };
    let alphabet = br#"{}[]":,0123456789ESUCtradestamounttotal\"#;
    for _ in 0..200 {
        let length = usize::try_from(draw() % 300).unwrap();
        let noise: Vec<u8> = (0..length)
            .map(|_| alphabet[usize::try_from(draw()).unwrap() % alphabet.len()])
            .collect();
        let text = String::from_utf8(noise).unwrap();
        for body in [PAID, REFUNDED, text.as_str()] {
            with_every_call(|word, call| {
                let mut reply = reply_with(200, body.to_owned());
                for name in ["timestamp", "nonce", "signature", "serial"] {
                    let value = match name {
                        "timestamp" => NOW_S.to_string(),
                        "serial" => super::SERIAL.to_owned(),
                        _ => "QUFBQUFBQUFBQUFBQUFBQQ==".to_owned(),
                    };
                    let name = format!("wechatpay-{name}");
                    let name = http::HeaderName::try_from(name).unwrap();
                    reply.headers_mut().insert(name, value.parse().unwrap());
                }
                assert!(is_nothing(&proves(&rig, call, &reply)), "{word} {body}");
            });
        }
    }
}

/// V1, R3: of a refund an unsigned error, whatever it says, and a rejected rate, signed or not, is unknown
/// and never a failure; so is any refusal of a repeat.
#[test]
fn a_refund_fails_only_by_a_signed_refusal_of_its_first_sending() {
    let rig = rig();
    for state in ["RESERVED", "UNKNOWN"] {
        let mut order = order_with_refund(state, Mode::Webview);
        order.attempts[0].receiver = order_of("H5", AttemptState::Paid).attempts[0]
            .receiver
            .clone();
        let refund = Operation::Refund(&order.refunds[0]);
        let call = Call::new(refund, &order.attempts[0], &order.terms);
        for (status, code) in [
            (400, "INVALID_REQUEST"),
            (400, "PARAM_ERROR"),
            (403, "NOT_ENOUGH"),
            (403, "USER_ACCOUNT_ABNORMAL"),
            (404, "RESOURCE_NOT_EXISTS"),
        ] {
            let body = format!(r#"{{"code":"{code}","message":"x"}}"#);
            let unsigned = proves(&rig, &call, &reply_with(status, body.clone()));
            assert!(is_nothing(&unsigned), "{state} {code}");
            let signed = proves(&rig, &call, &rig.reply(status, &body));
            let is_refused = matches!(&signed, Finding::Refused(why) if why.as_str() == code);
            assert_eq!(
                is_refused,
                state == "RESERVED",
                "{state} {code}: {signed:?}"
            );
            assert!(
                is_refused || is_nothing(&signed),
                "{state} {code}: {signed:?}"
            );
        }
        for code in [
            "FREQUENCY_LIMITED",
            "RATE_LIMITED",
            "RATELIMIT_EXCEEDED",
            "NOT_ENOUGH",
        ] {
            let body = format!(r#"{{"code":"{code}"}}"#);
            for reply in [rig.reply(429, &body), reply_with(429, body.clone())] {
                assert!(is_nothing(&proves(&rig, &call, &reply)), "{state} {code}");
            }
        }
    }
}

/// E2: a refused create gave nobody a way to pay; but the refusal of a repeat says nothing about the
/// sending before it.
#[test]
fn a_create_fails_only_by_a_refusal_of_its_first_sending() {
    let rig = rig();
    for state in [
        AttemptState::Intent,
        AttemptState::Unknown,
        AttemptState::Accepted,
    ] {
        let order = order_of("H5", state);
        let call = Call::new(Operation::Create, &order.attempts[0], &order.terms);
        for code in [
            "INVALID_REQUEST",
            "PARAM_ERROR",
            "ORDER_CLOSED",
            "OUT_TRADE_NO_USED",
        ] {
            let body = format!(r#"{{"code":"{code}"}}"#);
            for reply in [rig.reply(400, &body), reply_with(400, body.clone())] {
                let found = proves(&rig, &call, &reply);
                let is_refused = matches!(found, Finding::Refused(_));
                assert_eq!(
                    is_refused,
                    state == AttemptState::Intent,
                    "{code}: {found:?}"
                );
                assert!(is_refused || is_nothing(&found), "{code}: {found:?}");
            }
        }
        let paid = rig.reply(400, r#"{"code":"ORDERPAID"}"#);
        assert!(
            is_nothing(&proves(&rig, &call, &paid)),
            "only a query says so"
        );
    }
}

/// E3, V3, M5: a query's answer that differs in number, party, sum or currency, or names one of them
/// twice or inexactly, proves nothing.
#[test]
fn an_answer_about_something_else_proves_nothing() {
    let rig = rig();
    let order = order_of("H5", AttemptState::Unknown);
    let call = Call::new(Operation::Query, &order.attempts[0], &order.terms);
    assert!(matches!(
        proves(&rig, &call, &rig.reply(200, PAID)),
        Finding::Succeeded(_)
    ));
    for (from, to) in [
        ("000A\"", "000B\""),
        ("\"mchid\":\"1900009191\"", "\"mchid\":\"1900009192\""),
        ("\"mchid\":\"1900009191\",", ""),
        ("\"mchid\":\"1900009191\"", "\"mchid\":1900009191"),
        ("\"wxd678efh567hg6787\"", "\"wx-of-another\""),
        ("\"total\":1230", "\"total\":1231"),
        ("\"total\":1230", "\"total\":1000"),
        ("\"total\":1230", "\"total\":\"1230\""),
        ("\"total\":1230", "\"total\":1230.0"),
        ("\"total\":1230", "\"total\":123e1"),
        ("\"total\":1230", "\"total\":-1230"),
        ("\"total\":1230", "\"total\":0"),
        ("\"total\":1230", "\"total\":12300000000000000000000"),
        ("\"total\":1230", "\"total\":1230,\"total\":1"),
        ("\"total\":1230", "\"total\":1,\"total\":1230"),
        ("\"total\":1230,", ""),
        ("\"currency\":\"CNY\"", "\"currency\":\"USD\""),
        ("\"currency\":\"CNY\"", "\"currency\":\"cny\""),
        ("\"currency\":\"CNY\"", "\"currency\":156"),
        (
            "\"trade_state\":\"SUCCESS\"",
            "\"trade_state\":\"SUCCESS\",\"trade_state\":\"NOTPAY\"",
        ),
        (
            "\"trade_state\":\"SUCCESS\"",
            "\"trade_state\":\"NOTPAY\",\"trade_st\\u0061te\":\"SUCCESS\"",
        ),
        ("\"trade_state\":\"SUCCESS\"", "\"trade_state\":\"Success\""),
        ("\"trade_state\":\"SUCCESS\"", "\"trade_state\":true"),
        ("\"transaction_id\":\"42\",", ""),
        ("\"transaction_id\":\"42\"", "\"transaction_id\":\"\""),
        (
            "\"amount\":{\"total\":1230,\"payer_total\":1000,\"currency\":\"CNY\"}",
            "\"amount\":1230",
        ),
    ] {
        let body = PAID.replace(from, to);
        assert_ne!(body, PAID, "{from}");
        let found = proves(&rig, &call, &rig.reply(200, &body));
        assert!(is_nothing(&found), "{to}: {found:?}");
    }
}

/// E5: an answer without a signature, under an unknown or retired serial, too old or too new, or a probe is
/// unproven, however good its text.
#[test]
fn an_unproven_answer_proves_nothing() {
    let rig = rig();
    let order = order_of("H5", AttemptState::Unknown);
    let call = Call::new(Operation::Query, &order.attempts[0], &order.terms);
    let platform = super::key(super::SERIAL, "/platform_private");
    let signed = |serial: &str, created_s| {
        let mut reply = reply_with(200, PAID.to_owned());
        sign(
            reply.headers_mut(),
            PAID.as_bytes(),
            &platform,
            serial,
            created_s,
        );
        reply
    };
    let good = signed(super::SERIAL, NOW_S);
    assert!(matches!(proves(&rig, &call, &good), Finding::Succeeded(_)));
    let unproven = [
        reply_with(200, PAID.to_owned()),
        signed("RETIRED", NOW_S),
        signed("OTHERS", NOW_S),
        signed("UNKNOWN", NOW_S),
        signed(super::SERIAL, NOW_S - 300),
        signed(super::SERIAL, NOW_S + 300),
        signed(super::SERIAL, 0),
    ];
    for reply in unproven {
        let found = proves(&rig, &call, &reply);
        assert_eq!(found.class(), "E5 unproven", "{:?}", reply.headers());
    }
    let mut probe = good.clone();
    let text = HeaderValue::from_static("WECHATPAY/SIGNTEST/not-base64!");
    probe.headers_mut().insert("wechatpay-signature", text);
    assert_eq!(proves(&rig, &call, &probe).class(), "E5 unproven");
}

/// A reply to another step, or to no step of this dialect, proves nothing.
#[test]
fn a_reply_without_its_step_proves_nothing() {
    let rig = rig();
    with_every_call(|word, call| {
        let found = read(&rig, call, &CallState::default(), &rig.reply(200, PAID));
        assert!(is_nothing(&found.finding), "{word}");
    });
}

/// What a signed notification proves at the address of this account.
fn noticed(rig: &WechatRig, message: &mut Request<Bytes>) -> Result<Evidence, Unverified> {
    rig.sign_callback(message, SignedBy::Institution, NOW_S);
    let read = rig
        .adapter
        .read_callback(incoming(rig, message), Timestamp::from_s(NOW_S));
    read.map(|read| read.evidence(CNY))
}

fn applied(order: &Order, rig: &WechatRig, evidence: &Evidence) -> Applied {
    order.apply(evidence, rig.adapter.facts(), Timestamp::from_s(NOW_S))
}

/// C1, C2, V3: a notification of another receiver, application, sum or currency is put aside, with the
/// reason, and acknowledged: no repeat makes it true.
#[test]
fn a_notification_of_something_else_is_put_aside() {
    let rig = rig();
    let order = order_of("H5", AttemptState::Accepted);
    let notice = |plain: &str| {
        let secret = vector("/constants/apiv3_key");
        let event = "TRANSACTION.SUCCESS";
        noticed(&rig, &mut notification(event, &secret, plain.as_bytes())).unwrap()
    };
    assert!(matches!(
        applied(&order, &rig, &notice(PAID)),
        Applied::Commit(_)
    ));
    for (from, to, why) in [
        ("\"1900009191\"", "\"1900009192\"", Contradiction::Account),
        (
            "\"wxd678efh567hg6787\"",
            "\"wx-of-another\"",
            Contradiction::Account,
        ),
        ("\"total\":1230", "\"total\":1231", Contradiction::Amount),
        ("\"CNY\"", "\"USD\"", Contradiction::Amount),
    ] {
        let found = applied(&order, &rig, &notice(&PAID.replace(from, to)));
        assert_eq!(found, Applied::Quarantine(why), "{to}");
    }
    for state in [
        "NOTPAY",
        "CLOSED",
        "PAYERROR",
        "REVOKED",
        "USERPAYING",
        "ACCEPT",
        "paid",
    ] {
        let read = notice(&PAID.replace("\"SUCCESS\"", &format!("\"{state}\"")));
        assert_eq!(read.finding.class(), "E5 unlisted_word", "{state}");
    }
    let answer = rig.adapter.acknowledge(
        incoming(&rig, &Request::default()),
        Acknowledgement::Quarantined,
        "1",
        &stamp(NOW_S),
    );
    assert_eq!((answer.status().as_u16(), answer.body().len()), (200, 0));
}

/// R3, V3: the same for refunds; an event that disagrees with the status proves nothing.
#[test]
fn a_notification_of_another_refund_is_put_aside() {
    let rig = rig();
    let mut order = order_with_refund("UNKNOWN", Mode::Webview);
    order.attempts[0].receiver = order_of("H5", AttemptState::Paid).attempts[0]
        .receiver
        .clone();
    let notice = |event: &str, plain: &str| {
        let secret = vector("/constants/apiv3_key");
        noticed(&rig, &mut notification(event, &secret, plain.as_bytes())).unwrap()
    };
    let found = applied(&order, &rig, &notice("REFUND.SUCCESS", REFUNDED));
    assert!(matches!(found, Applied::Commit(_)), "{found:?}");
    for (from, to, why) in [
        ("\"1900009191\"", "\"1900009192\"", Contradiction::Receiver),
        ("\"refund\":500", "\"refund\":501", Contradiction::Amount),
        ("\"total\":1230", "\"total\":1231", Contradiction::Payment),
        ("000A\"", "000B\"", Contradiction::Payment),
    ] {
        let read = notice("REFUND.SUCCESS", &REFUNDED.replace(from, to));
        assert_eq!(
            applied(&order, &rig, &read),
            Applied::Quarantine(why),
            "{to}"
        );
    }
    for (event, status) in [
        ("REFUND.CLOSED", "SUCCESS"),
        ("REFUND.ABNORMAL", "SUCCESS"),
        ("REFUND.SUCCESS", "CLOSED"),
        ("REFUND.PROCESSING", "PROCESSING"),
        ("REFUND.SUCCESS", "Success"),
    ] {
        let read = notice(
            event,
            &REFUNDED.replace("\"SUCCESS\"", &format!("\"{status}\"")),
        );
        assert_eq!(read.finding.class(), "E5 unlisted_word", "{event} {status}");
    }
}

/// C1: what was encrypted for another account, or altered, is not evidence, although it is signed; nor is
/// anything at the address of no account.
#[test]
fn a_notification_that_cannot_be_decrypted_is_not_evidence() {
    let rig = rig();
    let event = "TRANSACTION.SUCCESS";
    let mut message = notification(event, OTHER_SECRET, PAID.as_bytes());
    let found = noticed(&rig, &mut message).err();
    assert_eq!(found, Some(Unverified::Unreadable("decryption")));
    assert_eq!(found.unwrap().received(), Acknowledgement::Unreadable);
    let secret = vector("/constants/apiv3_key");
    let sound = notification(event, &secret, PAID.as_bytes());
    let text = String::from_utf8(sound.body().to_vec()).unwrap();
    for (from, to) in [
        ("\"nonce\":\"fdasflkja484\"", "\"nonce\":\"fdasflkja485\""),
        ("\"nonce\":\"fdasflkja484\"", "\"nonce\":\"short\""),
        (
            "\"associated_data\":\"transaction\"",
            "\"associated_data\":\"\"",
        ),
        ("\"AEAD_AES_256_GCM\"", "\"AEAD_SM4_GCM\""),
        ("\"ciphertext\":\"", "\"ciphertext\":\"A"),
        (
            "\"resource\":{",
            "\"resource\":{\"nonce\":\"fdasflkja484\",",
        ),
        (
            "\"event_type\"",
            "\"event_type\":\"REFUND.SUCCESS\",\"event_type\"",
        ),
        ("\"resource\":", "\"resources\":"),
    ] {
        let mut altered = sound.clone();
        *altered.body_mut() = text.replacen(from, to, 1).into();
        assert_ne!(altered.body(), sound.body(), "{from}");
        let found = noticed(&rig, &mut altered);
        assert!(
            matches!(found, Err(Unverified::Unreadable(_))),
            "{to}: {found:?}"
        );
    }
    let mut signed = sound;
    rig.sign_callback(&mut signed, SignedBy::Institution, NOW_S);
    let other = AccountId::parse("another").unwrap();
    for account in [None, Some(&other)] {
        let callback = Callback {
            message: &signed,
            account,
        };
        let found = rig
            .adapter
            .read_callback(callback, Timestamp::from_s(NOW_S));
        assert_eq!(found.err(), Some(Unverified::Unverified("account")));
    }
}

/// A probe is answered like any wrong signature, and counted apart.
#[test]
fn a_probe_notification_is_not_acknowledged() {
    let rig = rig();
    let secret = vector("/constants/apiv3_key");
    let mut message = notification("TRANSACTION.SUCCESS", &secret, PAID.as_bytes());
    rig.sign_callback(&mut message, SignedBy::Institution, NOW_S);
    let probe = HeaderValue::from_static("WECHATPAY/SIGNTEST/1795278600/xyz");
    message.headers_mut().insert("wechatpay-signature", probe);
    let read = rig
        .adapter
        .read_callback(incoming(&rig, &message), Timestamp::from_s(NOW_S));
    let why = read.err().unwrap();
    assert_eq!(why, Unverified::Unverified("probe"));
    let callback = incoming(&rig, &message);
    let answer = rig
        .adapter
        .acknowledge(callback, why.received(), "1", &stamp(NOW_S));
    assert_eq!(answer.status(), 401);
}

/// C2: a provider's refund notification that does not say who receives is only a reason to ask.
#[test]
fn a_refund_notification_without_its_receiver_only_hints() {
    let secret = vector("/constants/apiv3_key");
    let mut provider = account(ACCOUNT, MCHID, &secret);
    provider.role = AccountRole::Provider;
    let rig = rig_of(provider, secret.clone());
    let notice = |plain: &str| {
        let event = "REFUND.SUCCESS";
        noticed(&rig, &mut notification(event, &secret, plain.as_bytes())).unwrap()
    };
    assert_eq!(notice(REFUNDED).finding, Finding::Hint);
    for own in ["\"mchid\":\"1900009191\"", "\"sp_mchid\":\"1900009191\""] {
        let named = format!("{own},\"sub_mchid\":\"1900009291\"");
        let read = notice(&REFUNDED.replace("\"mchid\":\"1900009191\"", &named));
        assert!(matches!(read.finding, Finding::Succeeded(_)), "{own}");
        assert_eq!(read.receiver.unwrap().as_str(), "1900009291");
    }
    let other = "\"sp_mchid\":\"1900009192\",\"sub_mchid\":\"1900009291\"";
    let read = notice(&REFUNDED.replace("\"mchid\":\"1900009191\"", other));
    assert_eq!(read.accounts, Some(Vec::new()), "{APP}");
}
