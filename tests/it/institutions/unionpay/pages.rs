//! Payments that the payer's browser brings to UnionPay's page.

use paymux::domain::attempt::AttemptState;
use paymux::domain::evidence::{Finding, PaymentActionKind, PaymentForm};
use paymux::domain::identifiers::Timestamp;
use paymux::institution::{Call, Operation, Step};

use super::super::recorded::NOW_S;
use super::super::rig::stamp;
use super::rig::{UnionPayRig, WireFields};
use super::{order_of, rig};

/// The form of an attempt, made at this time.
fn form_at(rig: &UnionPayRig, call: &Call<'_>, at_s: i64) -> PaymentForm {
    let step = rig.adapter.begin(call, &stamp(at_s));
    let Step::Done(evidence) = step else {
        panic!("it is sent: {step:?}");
    };
    assert!(!evidence.proves_arrival, "nobody knows of it yet");
    let Finding::Accepted(Some(action)) = evidence.finding else {
        panic!("no way to pay: {:?}", evidence.finding);
    };
    assert_eq!(action.expires, Some(call.attempt.pay_by));
    match action.way {
        PaymentActionKind::Form(form) => form,
        PaymentActionKind::Redirect(_)
        | PaymentActionKind::SdkParameters(_)
        | PaymentActionKind::QrCode(_) => panic!("no form"),
    }
}

/// A3: a page's form is signed anew each time and stays the same: number, time and deadline are those of
/// the first create. Nothing is sent.
#[test]
fn a_form_is_the_same_each_time_it_is_made() {
    let rig = rig();
    for (product, channel) in [("WAP", "08"), ("WEB", "07")] {
        let order = order_of(product, AttemptState::Accepted);
        let call = Call::new(Operation::Create, &order.attempts[0], &order.terms);
        let form = form_at(&rig, &call, NOW_S);
        let address = "https://gateway.95516.com/gateway/api/frontTransReq.do";
        assert_eq!(&*form.url, address);
        assert!(form == form_at(&rig, &call, NOW_S + 600));
        let count = form.fields.len();
        let fields = form.fields.into_iter();
        let fields: WireFields = fields
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        assert_eq!(fields.len(), count, "no name twice");
        assert!(rig.is_our_message(&fields));
        for (name, value) in [
            ("accessType", "0"),
            ("backUrl", "https://pay.example/v1/callbacks/harbour/ACC-1"),
            ("bizType", "000201"),
            ("channelType", channel),
            ("currencyCode", "156"),
            ("frontUrl", "https://pay.example/pay/return"),
            ("merId", "777290058110048"),
            ("orderDesc", "Oolong  1"),
            ("orderId", "A01KAMB7E80000000000000000A"),
            ("payTimeout", "20261122004500"),
            ("signMethod", "01"),
            ("txnAmt", "1230"),
            ("txnSubType", "01"),
            ("txnTime", "20261122003000"),
            ("txnType", "01"),
        ] {
            assert_eq!(fields[name], value, "{name}");
        }
    }
}

/// R-6.3.1-1c: no form is made once our certificate has expired.
#[test]
fn no_form_is_made_without_a_valid_certificate() {
    let rig = rig();
    let order = order_of("WAP", AttemptState::Accepted);
    let call = Call::new(Operation::Create, &order.attempts[0], &order.terms);
    let late = Timestamp::parse_rfc3339("2046-01-02T00:00:00+08:00").unwrap();
    let step = rig.adapter.begin(&call, &stamp(late.seconds()));
    assert!(matches!(step, Step::Unmade(_)), "{step:?}");
}
