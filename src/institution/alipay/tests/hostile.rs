//! Answers and notifications that somebody else made, cut or changed.

use bytes::Bytes;
use http::Response;

use super::{account, signature, their_key};
use crate::domain::evidence::Ambiguity;
use crate::institution::Unverified;
use crate::institution::alipay::answers::AlipayAnswer;
use crate::institution::alipay::callbacks::AlipayNotification;
use crate::institution::alipay::codes::AnswerCode;
use crate::institution::alipay::parameters::signed_text;

const METHOD: &str = "alipay.trade.query";
const NODE: &str = "alipay_trade_query_response";

fn read(body: &str) -> Result<(bool, Result<AnswerCode, Ambiguity>), Ambiguity> {
    let reply = Response::new(Bytes::copy_from_slice(body.as_bytes()));
    let account = account();
    let answer = AlipayAnswer::read(&account, METHOD, &reply)?;
    Ok((answer.is_proven, answer.code()))
}

fn signed(node: &str) -> String {
    signature(&their_key(), node)
}

/// C1: the node is found whatever its strings hold and wherever it stands, and only at the top level.
#[test]
fn the_node_is_found_among_hostile_strings() {
    for node in [
        r#"{"code":"10000","subject":"a } \"sign\" { b"}"#,
        r#"{"code":"10000","subject":"\\"}"#,
        r#"{"code":"10000","subject":"\\\""}"#,
        r#"{"code":"10000","subject":"]]}}","a":[{"b":"}"},[]],"c":{"d":{"e":"{{["}}}"#,
        r#"{ "code" : "10000" , "url":"https:\/\/a.example\/" }"#,
        r#"{"code":"10000","subject":"\u007d\u0022"}"#,
        r#"{"code":"10000","subject":"\",\"sign\":\"AAAA\"},\"alipay_trade_query_response\":{"}"#,
    ] {
        let sign = signed(node);
        let first = format!(r#"{{"{NODE}":{node},"sign":"{sign}"}}"#);
        let last = format!(
            r#"{{ "sign" : "{}" , "new" : {{"{NODE}":{{"code":"40004"}}}} , "{NODE}" : {node} }}"#,
            sign.replace('/', "\\/")
        );
        for body in [first, last] {
            assert_eq!(read(&body), Ok((true, Ok(AnswerCode::Executed))), "{body}");
        }
    }
}

/// C1, V1: what is not exactly one node under a signature of its bytes is not proven.
#[test]
fn another_text_than_the_signed_one_is_not_proven() {
    let node = r#"{"code":"10000","trade_status":"TRADE_SUCCESS"}"#;
    let sign = signed(node);
    for body in [
        format!(r#"{{"{NODE}":{node}}}"#),
        format!(r#"{{"{NODE}":{node},"sign":""}}"#),
        format!(r#"{{"{NODE}":{node},"sign":null}}"#),
        format!(r#"{{"{NODE}":{node},"sign":["{sign}"]}}"#),
        format!(r#"{{"{NODE}":{node},"sign":"{sign} "}}"#),
        format!(
            r#"{{"{NODE}":{},"sign":"{sign}"}}"#,
            node.replace(',', ", ")
        ),
        format!(
            r#"{{"{NODE}":{},"sign":"{sign}"}}"#,
            node.replace('_', "\\u005f")
        ),
        format!(
            r#"{{"{NODE}":{},"sign":"{sign}"}}"#,
            node.replace("10000", "40004")
        ),
        format!(
            r#"{{"{NODE}":{node},"sign":"{}"}}"#,
            signed(&format!("\"{node}\""))
        ),
        format!(r#"{{"{NODE}":{node},"sign":"{}"}}"#, sign.replace('=', "")),
    ] {
        assert!(matches!(read(&body), Ok((false, _))), "{body}");
    }
    for body in [
        format!(r#"{{"{NODE}":{node},"{NODE}":{node},"sign":"{sign}"}}"#),
        format!(r#"{{"{NODE}":{node},"sign":"{sign}","sign":"{sign}"}}"#),
        format!(r#"{{"{NODE}":{node},"error_response":{node},"sign":"{sign}"}}"#),
        format!(r#"{{"x":{{"{NODE}":{node}}},"sign":"{sign}"}}"#),
        format!(r#"{{"alipay_trade_close_response":{node},"sign":"{sign}"}}"#),
        format!(r#"[{{"{NODE}":{node},"sign":"{sign}"}}]"#),
        format!(r#"{{"{NODE}":{node},"sign":"{sign}"}}{{}}"#),
        format!(r#"{{"{NODE}":"{}","sign":"{sign}"}}"#, "hM7TQ18QF5bhZ"),
        format!(r#"{{"{NODE}":[],"sign":"{sign}"}}"#),
        "<html><body>10000 TRADE_SUCCESS</body></html>".to_owned(),
        String::new(),
    ] {
        assert_eq!(read(&body), Err(Ambiguity::Unreadable), "{body}");
    }
}

/// E3: an error of the gateway is never a success, signed or not.
#[test]
fn an_error_of_the_gateway_is_no_success() {
    let node = r#"{"code":"10000","trade_status":"TRADE_SUCCESS"}"#;
    let body = format!(r#"{{"error_response":{node},"sign":"{}"}}"#, signed(node));
    assert_eq!(read(&body), Ok((true, Err(Ambiguity::Unreadable))));
}

/// V1: bytes that are not UTF-8, and other statuses than 200, prove nothing.
#[test]
fn other_bytes_and_statuses_prove_nothing() {
    let account = account();
    let node = r#"{"code":"10000"}"#;
    let body = format!(r#"{{"{NODE}":{node},"sign":"{}"}}"#, signed(node));
    for (status, why) in [
        (500, Ambiguity::ServerFault),
        (502, Ambiguity::ServerFault),
        (201, Ambiguity::UnlistedWord),
        (302, Ambiguity::UnlistedWord),
        (404, Ambiguity::UnlistedWord),
    ] {
        let mut reply = Response::new(Bytes::from(body.clone()));
        *reply.status_mut() = status.try_into().unwrap();
        assert_eq!(
            AlipayAnswer::read(&account, METHOD, &reply).err(),
            Some(why),
            "{status}"
        );
    }
    let mut gbk = br#"{"alipay_trade_query_response":{"code":"10000","subject":""#.to_vec();
    gbk.extend([0xcf, 0xfb]);
    gbk.extend(br#""},"sign":"AAAA"}"#);
    let reply = Response::new(Bytes::from(gbk));
    let read = AlipayAnswer::read(&account, METHOD, &reply).err();
    assert_eq!(read, Some(Ambiguity::Unreadable));
}

/// The body of a notification of these fields, signed by the institution.
fn notification(fields: &[(&str, &str)]) -> String {
    let text = signed_text(
        fields
            .iter()
            .copied()
            .filter(|(name, _)| *name != "sign_type"),
    );
    let sign = signed(&text);
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(fields);
    form.append_pair("sign", &sign);
    form.finish()
}

const PAID: [(&str, &str); 9] = [
    ("app_id", super::OUR_APP),
    ("charset", "utf-8"),
    ("notify_type", "trade_status_sync"),
    ("out_trade_no", "A01KAMB7E80000000000000000A"),
    ("seller_id", super::SELLER),
    ("sign_type", "RSA2"),
    ("total_amount", "12.30"),
    ("trade_no", "2026112222001400000000000001"),
    ("trade_status", "TRADE_SUCCESS"),
];

fn refused(body: &str) -> Option<Unverified> {
    AlipayNotification::read(&account(), body.as_bytes()).err()
}

/// C1: of a notification nothing is believed that its signature does not cover, once and in one
/// reading.
#[test]
fn a_notification_counts_as_it_was_signed() {
    let body = notification(&PAID);
    assert_eq!(refused(&body), None);
    for (changed, word) in [
        (format!("{body}&a=b"), "signature"),
        (format!("{body}&app_id=1"), "form"),
        (format!("{body}&sign=AAAA"), "form"),
        (format!("{body}&"), "form"),
        (body.replace("12.30", "12.31"), "signature"),
        (body.replace("12.30", "12%2E3"), "signature"),
        (body.replace("RSA2", "RSA"), "sign_type"),
        (body.replace("&sign_type=RSA2", ""), "sign_type"),
        (body.replace("charset=utf-8", "charset=GBK"), "charset"),
        (body.split("&sign=").next().unwrap().to_owned(), "signature"),
        (body.replace("TRADE_SUCCESS", "TRADE%CF%FB"), "form"),
        (body.replace("TRADE_SUCCESS", "TRADE_SUCCESS%"), "form"),
        (r#"{"trade_status":"TRADE_SUCCESS"}"#.to_owned(), "form"),
        (String::new(), "form"),
    ] {
        assert_eq!(
            refused(&changed),
            Some(Unverified::Unverified(word)),
            "{changed}"
        );
    }
    // New fields come without warning; an empty one is not covered.
    let mut more = PAID.to_vec();
    more.push(("new_field", "a+b%20c&d=e f"));
    more.push(("empty", ""));
    assert_eq!(refused(&notification(&more)), None);
}

/// C1: a plus and an escape in a signed value are read once.
#[test]
fn signed_values_are_unescaped_once() {
    let mut fields = PAID.to_vec();
    fields.push(("passback_params", "s%3D1%26t+u"));
    let body = notification(&fields);
    assert!(body.contains("s%253D1%2526t%2Bu"), "{body}");
    assert_eq!(refused(&body), None);
    let twice = body.replace("%253D", "%3D");
    assert_eq!(refused(&twice), Some(Unverified::Unverified("signature")));
}

/// C2: without our number it is about nothing of ours.
#[test]
fn a_notification_names_a_number_of_ours() {
    for (name, value, word) in [
        ("out_trade_no", "5GM20260101000001", "names_no_attempt"),
        ("out_trade_no", "", "names_no_attempt"),
        ("notify_type", "dut_user_sign", "notify_type"),
    ] {
        let changed = PAID.map(|pair| if pair.0 == name { (name, value) } else { pair });
        let read = refused(&notification(&changed));
        assert_eq!(read, Some(Unverified::NamesNothing(word)), "{value}");
    }
}
