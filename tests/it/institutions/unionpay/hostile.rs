//! Hostile and broken messages: none moves money, and none is taken for what it is not.

use bytes::Bytes;
use http::Response;
use paymux::domain::attempt::{AttemptState, Contradiction};
use paymux::domain::evidence::{Ambiguity, Evidence, Finding};
use paymux::domain::identifiers::{AccountId, Timestamp};
use paymux::domain::order::Applied;
use paymux::institution::{Call, Callback, Institution, Operation, Unverified};

use super::super::recorded::NOW_S;
use super::super::rig::{DialectRig, SignedBy, evidence_of, read, reply_with, sent, stamp};
use super::rig::{UnionPayRig, WireFields, form, posted, raw};
use super::{QUERY_ID, order_of, paid, queried, refund_of, rig};

fn is_nothing(finding: &Finding) -> bool {
    matches!(finding, Finding::Ambiguous(_))
}

fn proves(rig: &UnionPayRig, call: &Call<'_>, reply: &Response<Bytes>) -> Finding {
    let (_, state) = sent(rig, call, &stamp(NOW_S));
    read(rig, call, &state, reply).finding
}

/// Every call about an attempt or refund that is in doubt.
fn with_every_call(check: impl Fn(&str, &Call<'_>)) {
    let order = order_of("QR", AttemptState::Unknown);
    let refunding = refund_of("QR", "UNKNOWN");
    let refund = &refunding.refunds[0];
    for operation in [Operation::Create, Operation::Query, Operation::Close] {
        let call = Call::new(operation, &order.attempts[0], &order.terms);
        check(call.word(), &call);
    }
    for operation in [Operation::Refund(refund), Operation::RefundQuery(refund)] {
        let call = Call::new(operation, &refunding.attempts[0], &refunding.terms);
        check(call.word(), &call);
    }
}

/// E5, V1: pages, fragments, unsigned text and errors in the wrong place prove nothing.
#[test]
fn what_is_no_answer_proves_nothing() {
    let rig = rig();
    let page = "<html><body><p>respCode=00&amp;respMsg=成功</p></body></html>";
    let unsigned: WireFields = paid("1122002959").into_iter().map(owned).collect();
    let unsigned = raw(unsigned.iter());
    with_every_call(|word, call| {
        for body in [
            "",
            page,
            "null",
            "{}",
            "00",
            "success",
            "respCode=00",
            "=",
            "&",
            &unsigned,
        ] {
            for status in [200, 201, 202, 204, 301, 302, 400, 404, 500, 502, 503, 504] {
                let found = proves(&rig, call, &reply_with(status, body.to_owned()));
                assert!(is_nothing(&found), "{word} {status} {body}: {found:?}");
            }
        }
        // A good answer with another status is no result either.
        for status in [201, 202, 302, 404, 500, 503] {
            let mut reply = rig.answer(&paid("1122002959"));
            *reply.status_mut() = status.try_into().unwrap();
            let found = proves(&rig, call, &reply);
            assert!(is_nothing(&found), "{word} {status}: {found:?}");
        }
    });
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// E3, V3, M5: an answer that differs in number, time, account, receiver, sum or currency proves nothing;
/// a settled sum may differ.
#[test]
fn an_answer_about_something_else_proves_nothing() {
    let rig = rig();
    let order = order_of("WAP", AttemptState::Unknown);
    let call = Call::new(Operation::Query, &order.attempts[0], &order.terms);
    let with = |name: &'static str, value: &'static str| {
        let mut fields = paid("1122002959");
        fields.retain(|(known, _)| *known != name);
        if !value.is_empty() {
            fields.push((name, value));
        }
        proves(&rig, &call, &rig.answer(&fields))
    };
    assert!(matches!(with("settleAmt", "1000"), Finding::Succeeded(_)));
    assert!(matches!(with("newField", "x=1"), Finding::Succeeded(_)));
    for (name, value) in [
        ("orderId", "A01KAMB7E80000000000000000B"),
        ("orderId", "a01KAMB7E80000000000000000A"),
        ("orderId", ""),
        ("txnTime", "20261122003001"),
        ("txnTime", ""),
        ("merId", "777290058110049"),
        ("merId", ""),
        ("subMerId", "00001"),
        ("accessType", "2"),
        ("txnType", "01"),
        ("txnAmt", "1231"),
        ("txnAmt", "01230"),
        ("txnAmt", "12.30"),
        ("txnAmt", "-1230"),
        ("txnAmt", "１２３０"),
        ("txnAmt", ""),
        ("currencyCode", "840"),
        ("queryId", ""),
        ("queryId", "4426112200300012345x8"),
        ("respCode", ""),
        ("origRespCode", ""),
        ("signMethod", "11"),
        ("encoding", "GBK"),
        ("version", "5.0.0"),
    ] {
        let found = with(name, value);
        assert!(is_nothing(&found), "{name}={value}: {found:?}");
    }
}

/// C1: an answer is UTF-8 and is split once: other bytes, names that occur twice and fields that are
/// escaped in it are not what was signed.
#[test]
fn an_answer_has_one_reading() {
    let rig = rig();
    let order = order_of("WAP", AttemptState::Unknown);
    let call = Call::new(Operation::Query, &order.attempts[0], &order.terms);
    let mut fields: WireFields = paid("1122002959").into_iter().map(owned).collect();
    fields.insert("respMsg".to_owned(), "成功 a+b%41=c[0000000]".to_owned());
    let signed = rig.signed(fields, SignedBy::Institution);
    let text = raw(signed.iter());
    let found = |body: Vec<u8>| proves(&rig, &call, &reply_with(200, body));
    assert!(matches!(found(text.clone().into()), Finding::Succeeded(_)));
    assert!(matches!(
        found(format!("{{{text}}}").into()),
        Finding::Succeeded(_)
    ));
    for (from, to) in [
        ("a+b", "a b"),
        ("%41", "A"),
        ("respCode=00", "respCode=00&respCode=00"),
        ("respCode=00", "respCode=00&respCode="),
        ("&respCode=00", "&respCode=01&respCode=00"),
        ("\n", "\r\n"),
        ("\n", ""),
    ] {
        let other = text.replacen(from, to, 1);
        assert_ne!(other, text, "{from}");
        let found = found(other.into());
        assert!(is_nothing(&found), "{from} as {to}: {found:?}");
    }
    // The same message in GBK, which it does not claim to be.
    let gbk: Vec<u8> = [0xb3, 0xc9, 0xb9, 0xa6].into();
    let at = text.find("成功").unwrap();
    let bytes = [&text.as_bytes()[..at], &gbk, &text.as_bytes()[at + 6..]].concat();
    assert_eq!(found(bytes), Finding::Ambiguous(Ambiguity::Unreadable));
    let escaped = form(&signed);
    assert!(
        is_nothing(&found(escaped.into())),
        "an answer is not escaped"
    );
}

/// V1, R3: a refund fails only by a signed refusal of its first sending, or when it is asked about.
#[test]
fn a_refund_fails_only_by_a_signed_refusal_of_its_first_sending() {
    let rig = rig();
    for state in ["RESERVED", "UNKNOWN"] {
        let order = refund_of("WAP", state);
        let refund = &order.refunds[0];
        let call = Call::new(Operation::Refund(refund), &order.attempts[0], &order.terms);
        for code in ["01", "33", "35", "36", "40", "60", "99"] {
            let fields = [
                ("version", "5.1.0"),
                ("encoding", "UTF-8"),
                ("txnType", "04"),
                ("merId", super::MER_ID),
                ("orderId", refund.no.as_str()),
                ("txnTime", "20261122003000"),
                ("respCode", code),
            ];
            let plain: WireFields = fields.into_iter().map(owned).collect();
            let unsigned = proves(&rig, &call, &reply_with(200, raw(plain.iter())));
            assert!(is_nothing(&unsigned), "{state} {code}: {unsigned:?}");
            let signed = proves(&rig, &call, &rig.answer(&fields));
            let is_refused = matches!(signed, Finding::Refused(_));
            assert_eq!(
                is_refused,
                state == "RESERVED",
                "{state} {code}: {signed:?}"
            );
            assert!(is_refused || is_nothing(&signed));
        }
    }
}

/// The fields of a notification of a payment, with one of them changed, or left out if its value is
/// empty.
fn notified(name: &str, value: &str) -> WireFields {
    let mut fields: WireFields = paid("1122002959").into_iter().map(owned).collect();
    fields.remove("origRespCode");
    fields.insert("txnType".to_owned(), "01".to_owned());
    fields.insert("txnSubType".to_owned(), "01".to_owned());
    fields.insert(name.to_owned(), value.to_owned());
    fields.retain(|_, value| !value.is_empty());
    fields
}

fn applied(evidence: &Evidence) -> Applied {
    let order = order_of("WAP", AttemptState::Accepted);
    let facts = paymux::institution::kind("unionpay").unwrap().facts();
    order.apply(evidence, &facts, Timestamp::from_s(NOW_S))
}

/// V3, C2: a notification of another account, receiver, sum or access type is put aside, one of another
/// currency or without a sum proves nothing.
#[test]
fn a_notification_of_something_else_is_put_aside() {
    let rig = rig();
    let read = |name, value| {
        let message = rig.notification(&notified(name, value));
        evidence_of(&rig, &message, Timestamp::from_s(NOW_S))
    };
    let genuine = read("respCode", "00").unwrap();
    assert!(matches!(applied(&genuine), Applied::Commit(_)));
    for (name, value, why) in [
        ("merId", "777290058110049", Contradiction::Account),
        ("merId", "", Contradiction::Account),
        ("accessType", "2", Contradiction::Account),
        ("txnAmt", "1231", Contradiction::Amount),
    ] {
        let found = applied(&read(name, value).unwrap());
        assert_eq!(found, Applied::Quarantine(why), "{name}={value}");
    }
    for (name, value) in [
        ("currencyCode", "344"),
        ("txnAmt", ""),
        ("txnAmt", "01230"),
        ("txnAmt", "0"),
        ("queryId", ""),
        ("respCode", ""),
        ("respCode", "81"),
    ] {
        let found = read(name, value).unwrap();
        assert!(is_nothing(&found.finding), "{name}={value}: {found:?}");
    }
    for (name, value) in [
        ("orderId", "5GM20260101000001"),
        ("orderId", ""),
        ("orderId", "R01KAMB7E80000000000000000C"),
        ("txnType", "31"),
        ("txnType", ""),
    ] {
        let found = read(name, value);
        assert!(
            matches!(found, Err(Unverified::NamesNothing(_))),
            "{name}={value}"
        );
    }
}

/// C1: a notification counts for the account of its address only, and only signed by UnionPay.
#[test]
fn a_notification_counts_where_it_came_to() {
    let rig = rig();
    let fields = notified("respCode", "00");
    let genuine = rig.notification(&fields);
    let now = Timestamp::from_s(NOW_S);
    let adapter: &dyn Institution = rig.adapter();
    let other = AccountId::parse("ACC-2").unwrap();
    for account in [None, Some(&other)] {
        let message = &genuine;
        let read = adapter.read_callback(Callback { message, account }, now);
        assert!(matches!(
            read.err(),
            Some(Unverified::Unverified("account"))
        ));
    }
    for (signer, word) in [
        (SignedBy::Other, "owner"),
        (SignedBy::UnknownKey, "signature"),
    ] {
        let forged = posted(form(&rig.signed(fields.clone(), signer)).into());
        let read = evidence_of(&rig, &forged, now);
        assert_eq!(read, Err(Unverified::Unverified(word)));
    }
    for body in [
        form(&fields),
        String::new(),
        "x".repeat(1 << 20),
        format!("{}&a=%zz", form(&fields)),
        format!("{0}&{0}", form(&fields)),
        raw(fields.iter()),
        "<xml/>".to_owned(),
    ] {
        let read = evidence_of(&rig, &posted(body.clone().into()), now);
        assert!(
            matches!(read, Err(Unverified::Unverified(_))),
            "{}",
            body.len()
        );
    }
}

/// C5, M5: what the payer was settled may be less than what was ordered, and a repeat says the same.
#[test]
fn a_repeated_notification_says_the_same() {
    let rig = rig();
    let message = rig.notification(&notified("settleAmt", "1"));
    let first = evidence_of(&rig, &message, Timestamp::from_s(NOW_S)).unwrap();
    let again = evidence_of(&rig, &message, Timestamp::from_s(NOW_S + 86_400)).unwrap();
    assert_eq!(first, again);
    let Finding::Succeeded(receipt) = &first.finding else {
        panic!("{first:?}");
    };
    assert_eq!(receipt.institution_no.as_deref(), Some(QUERY_ID));
    assert_eq!(receipt.amount.minor(), 1_230);
    // An earlier failure says nothing of the payment.
    let failed = rig.notification(&notified("respCode", "61"));
    let failed = evidence_of(&rig, &failed, Timestamp::from_s(NOW_S)).unwrap();
    assert_eq!(failed.finding, Finding::Hint);
    let order = order_of("WAP", AttemptState::Accepted);
    let call = Call::new(Operation::Query, &order.attempts[0], &order.terms);
    let open = proves(&rig, &call, &rig.answer(&queried("WAP", "00", Some("61"))));
    assert_eq!(open, Finding::Accepted(None));
}
