//! Checks for the `alipay` dialect alone, whose messages are forms and signed nodes, and whose answers
//! count by what they name.

mod actions;
mod rig;

use bytes::Bytes;
use http::Request;
use paymux::domain::amount::{Amount, Currency};
use paymux::domain::attempt::AttemptState;
use paymux::domain::identifiers::{AccountId, Timestamp};
use paymux::domain::order::Applied;
use paymux::institution::{Callback, Step, Unverified};

use super::recorded::{NOW_S, Recording, recordings};
use super::rig::{
    DialectRig, SignedBy, evidence_of, incoming, reached, read, reply_to, sent, stamp,
};
use super::{proves_nothing, reading};
use rig::{AlipayRig, parameters};

pub(in crate::institutions) use rig::rig;

/// Every recording of this dialect.
fn all() -> Vec<Recording> {
    let all = recordings("alipay");
    assert!(all.len() > 100, "{}", all.len());
    all
}

fn recording(file: &str) -> Recording {
    let mut all = all().into_iter();
    all.find(|one| one.file == file).unwrap()
}

/// A notification of this recording, signed.
fn notification(rig: &AlipayRig, recording: &Recording) -> Request<Bytes> {
    let mut notification = rig.callback(Bytes::copy_from_slice(recording.body()));
    rig.sign_callback(&mut notification, SignedBy::Institution, NOW_S);
    notification
}

/// V1, E5: a page, or an answer with any status but 200, proves nothing.
#[test]
fn what_is_no_answer_proves_nothing() {
    let rig = rig();
    let page = b"<!DOCTYPE html><html><body>code 10000 TRADE_SUCCESS</body></html>";
    for recording in all() {
        let order = recording.order();
        let Some(call) = recording.call(&order) else {
            continue;
        };
        let asked = reached(&rig, &recording, &call);
        let mut reply = super::reply_with(200, &page[..]);
        assert!(proves_nothing(&Ok(read(&rig, &call, &asked.1, &reply))));
        let (content, signer) = (
            Bytes::copy_from_slice(recording.body()),
            Some(SignedBy::Institution),
        );
        reply = reply_to(&rig, &asked, 200, content, signer);
        for status in [500, 502, 503, 404, 302] {
            *reply.status_mut() = status.try_into().unwrap();
            let read = Ok(read(&rig, &call, &asked.1, &reply));
            assert!(proves_nothing(&read), "{} {status}", recording.file);
        }
    }
}

/// A5: a close goes on to a query, whatever is answered.
#[test]
fn a_close_goes_on_to_a_query() {
    let rig = rig();
    for recording in all().iter().filter(|one| one.call == "close") {
        let order = recording.order();
        let call = recording.call(&order).unwrap();
        let (close, _) = sent(&rig, &call, &stamp(NOW_S));
        assert_eq!(parameters(&close)["method"], "alipay.trade.close");
        let (query, _) = reached(&rig, recording, &call);
        let parameters = parameters(&query);
        assert_eq!(parameters["method"], "alipay.trade.query");
        assert!(AlipayRig::is_ours(&rig, &parameters));
    }
}

/// Q5: the time of a request is that of its stamp, in Shanghai.
#[test]
fn a_request_names_its_time() {
    let rig = rig();
    let recording = recording("query_waiting.json");
    let order = recording.order();
    let call = recording.call(&order).unwrap();
    for (at_s, expected) in [
        (NOW_S, "2026-11-22 00:30:00"),
        (NOW_S + 60, "2026-11-22 00:31:00"),
    ] {
        let (request, _) = sent(&rig, &call, &stamp(at_s));
        assert_eq!(parameters(&request)["timestamp"], expected);
    }
}

/// E1: a call in another currency, or of an unknown product, is not made.
#[test]
fn a_call_that_cannot_be_made_is_not_sent() {
    let rig = rig();
    let recording = recording("create_code_accepted.json");
    let is_unmade = |order: &_| {
        let call = recording.call(order).unwrap();
        matches!(rig.adapter.begin(&call, &stamp(NOW_S)), Step::Unmade(_))
    };
    assert!(!is_unmade(&recording.order()));
    let mut order = recording.order();
    order.attempts[0].product = rig::product("STANDARD");
    assert!(is_unmade(&order));
    let mut order = recording.order();
    let yen = Currency::parse("JPY").unwrap();
    order.attempts[0].amount = Amount::parse("1230", yen).unwrap();
    assert!(is_unmade(&order));
    let mut order = recording.order();
    order.attempts[0].account = AccountId::parse("another").unwrap();
    assert!(is_unmade(&order));
}

/// V5: the institution names what it has, whatever its status.
#[test]
fn an_institution_names_what_it_has() {
    let rig = rig();
    for recording in all() {
        let Ok(read) = reading(&rig, &recording, recording.body()) else {
            continue;
        };
        let expected = recording.evidence.as_str();
        let moved = expected.starts_with("accepted") || expected.starts_with("paid");
        let has = match recording.call.as_str() {
            "callback" => true,
            "create" | "refund" | "refund_query" => moved,
            _ => {
                let is_other = ["mismatch", "gateway", "payer_confirming"];
                let is_other = is_other
                    .iter()
                    .any(|word| expected.contains(word) || recording.file.contains(word));
                let text = std::str::from_utf8(recording.body()).unwrap();
                text.contains("trade_status") && !is_other
            }
        };
        assert_eq!(read.proves_arrival, has, "{}", recording.file);
    }
}

/// C1: a notification is read with the keys of the account of its address only.
#[test]
fn a_notification_without_its_account_is_not_read() {
    let rig = rig();
    let message = notification(&rig, &recording("callback_paid.json"));
    let unknown = AccountId::parse("another").unwrap();
    for account in [None, Some(&unknown)] {
        let callback = Callback {
            message: &message,
            account,
        };
        let read = rig
            .adapter
            .read_callback(callback, Timestamp::from_s(NOW_S));
        assert_eq!(read.err(), Some(Unverified::Unverified("account")));
    }
}

/// E3: an order that waits is paid by a notification, and only once.
#[test]
fn a_notification_pays_the_attempt() {
    let rig = rig();
    let message = notification(&rig, &recording("callback_paid.json"));
    let now = Timestamp::from_s(NOW_S);
    let evidence = evidence_of(&rig, &message, now).unwrap();
    let order = rig::order_with(AttemptState::Accepted, "WAP");
    let Applied::Commit(change) = order.apply(&evidence, rig.adapter.facts(), now) else {
        panic!("it is not paid");
    };
    let after = change.into_order().unwrap();
    assert_eq!(after.attempts[0].state, AttemptState::Paid);
    let again = after.apply(&evidence, rig.adapter.facts(), now);
    assert_eq!(again, Applied::Repeat);
}

/// C1: a form with a field twice, an escape that is none, or bytes of another encoding is no
/// notification.
#[test]
fn a_notification_has_one_reading() {
    let rig = rig();
    for recording in all().iter().filter(|one| one.call == "callback") {
        let signed = notification(&rig, recording);
        let text = std::str::from_utf8(signed.body()).unwrap();
        for hostile in [
            format!("{text}&trade_status=TRADE_SUCCESS"),
            format!("trade_status=TRADE_SUCCESS&{text}"),
            format!("{text}&sign_type=RSA2"),
            format!("{text}&x=%"),
            format!("{text}&x=%CF%FB"),
            format!("{text}&x"),
            text.replace("utf-8", "gbk"),
            text.replace("RSA2", "RSA"),
            text.replace('+', "%20%20"),
        ] {
            let message = Request::new(Bytes::from(hostile.clone()));
            let callback = incoming(&rig, &message);
            let read = rig
                .adapter
                .read_callback(callback, Timestamp::from_s(NOW_S));
            assert!(read.is_err(), "{} {hostile}", recording.file);
        }
    }
}
