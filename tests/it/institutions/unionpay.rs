//! Checks for the `unionpay` dialect alone: what it asks for, what it hands to the payer, and what it
//! concludes when.

mod hostile;
mod pages;
mod provider;
mod rig;

use std::sync::Arc;
use std::time::Duration;

use paymux::domain::amount::{Amount, Currency};
use paymux::domain::attempt::AttemptState;
use paymux::domain::evidence::{Ambiguity, Finding, Receipt};
use paymux::domain::identifiers::{AccountId, ProductId, ReceiverId, Timestamp};
use paymux::domain::institutions::{CreateSend, Ending, Mode, ReplyBinding, Visibility};
use paymux::domain::order::Order;
use paymux::institution::{
    Call, ConfiguredInstitution, Host, Operation, SettingValue, SettingValues, SettingsFault, Step,
    Unmade, kind,
};

use super::recorded::{NOW_S, order_with, order_with_refund, recordings};
use super::rig::{sent, stamp};
use super::{describe, reading};
use rig::{MER_ID, UnionPayRig, form_fields};

pub(super) use rig::rig;

/// UnionPay's number of the payment.
const QUERY_ID: &str = "442611220030001234568";

/// An order whose attempt is of this product.
fn order_of(product: &str, state: AttemptState) -> Order {
    at_unionpay(order_with(state, Mode::Webview), product)
}

/// A paid order with a refund in this state.
fn refund_of(product: &str, state: &str) -> Order {
    let mut order = at_unionpay(order_with_refund(state, Mode::Webview), product);
    let attempt = &mut order.attempts[0];
    attempt.receipt = Some(Receipt {
        amount: attempt.amount,
        institution_no: Some(QUERY_ID.into()),
        paid_at: attempt.sent_at,
        fee: None,
    });
    order
}

fn at_unionpay(mut order: Order, product: &str) -> Order {
    order.attempts[0].product = ProductId::parse(product).unwrap();
    order.attempts[0].receiver = ReceiverId::parse(MER_ID).unwrap();
    order
}

fn unmade(rig: &UnionPayRig, call: &Call<'_>) -> Option<Unmade> {
    match rig.adapter.begin(call, &stamp(NOW_S)) {
        Step::Unmade(why) => Some(why),
        Step::Send(_) | Step::Done(_) => None,
    }
}

/// C1: both addresses are checked before anything is called.
#[test]
fn an_address_that_is_no_origin_builds_no_adapter() {
    let kind = kind("unionpay").unwrap();
    let built = |url: &str, origin: &str| {
        let url = SettingValue::Text(url.into());
        (kind.build)(ConfiguredInstitution {
            id: paymux::domain::identifiers::InstitutionId::parse("harbour").unwrap(),
            callback_origin: origin.to_owned(),
            facts: kind.facts(),
            values: SettingValues::default().with("url", url),
            accounts: Vec::new(),
        })
        .err()
    };
    let good = "https://gateway.95516.com";
    for bad in [
        "http://gateway.95516.com",
        "https://gateway.95516.com/",
        "gateway",
        "",
    ] {
        assert_eq!(
            built(bad, good),
            Some(SettingsFault::NotAnOrigin("url")),
            "{bad}"
        );
        let found = built(good, bad);
        assert_eq!(
            found,
            Some(SettingsFault::NotAnOrigin("callback_origin")),
            "{bad}"
        );
    }
    assert_eq!(built(good, good), None);
    let rig = rig();
    assert_eq!(rig.adapter.origin(Host::Main), Some(good));
    assert_eq!(rig.adapter.origin(Host::Second), None);
    assert_eq!(rig.adapter.origin(Host::Files), None);
}

/// A5: what the products declare: nothing that was begun can be revoked, and nothing is concluded
/// before the deadline.
#[test]
fn the_products_declare_what_is_documented() {
    let kind = kind("unionpay").unwrap();
    let ids: Vec<_> = kind.products.iter().map(|one| one.id).collect();
    assert_eq!(ids, ["WAP", "WEB", "QR", "APP"]);
    for product in kind.products {
        let is_page = ["WAP", "WEB"].contains(&product.id);
        let create = if is_page {
            CreateSend::Nothing
        } else {
            CreateSend::Once
        };
        assert_eq!(product.create, create, "{}", product.id);
        assert_eq!(product.binding, ReplyBinding::Echo);
        assert_eq!(product.ending, Ending::Never);
        let after = Visibility::AfterDeadline(Duration::from_mins(5));
        assert_eq!(product.visibility, after);
        assert_eq!(product.pay_within.is_some(), product.id == "QR");
        assert!(product.wants.is_empty());
    }
    let facts = kind.facts();
    assert!(!facts.repeatable_refund);
    assert_eq!(facts.rates.calls_per_second, 20);
    // Only the day's file shows that a refund did not arrive.
    assert!(facts.refund_visibility > Duration::from_hours(24 * 365));
}

/// A3, D1: a description is cut at a character, without what separates fields, the same at each repeat;
/// neither the payer's number nor what the merchant attached is sent.
#[test]
fn a_description_is_plain_and_short() {
    let rig = rig();
    let mut order = order_of("QR", AttemptState::Intent);
    for (goods, expected) in [
        (Some("茶".repeat(200)), Some("茶".repeat(32))),
        (
            Some("a&b=c{d}[e]\"f'\n".to_owned()),
            Some("a b c d  e  f".to_owned()),
        ),
        (Some("&&".to_owned()), None),
        (None, Some("茶".to_owned())),
    ] {
        let mut terms = (*order.terms).clone();
        terms.goods_name = goods.map(Into::into);
        order.terms = Arc::new(terms);
        let call = Call::new(Operation::Create, &order.attempts[0], &order.terms);
        let body = |at_s| sent(&rig, &call, &stamp(at_s)).0.into_body();
        let fields = form_fields(&body(NOW_S));
        assert_eq!(fields.get("orderDesc"), expected.as_ref());
        assert_eq!(body(NOW_S), body(NOW_S + 99));
        let text = format!("{fields:?}");
        assert!(!text.contains("13812345678") && !text.contains("not for the institution"));
    }
}

/// M5, A1: what cannot be said exactly, or not at all, is not sent.
#[test]
fn what_cannot_be_said_is_not_sent() {
    let rig = rig();
    for product in ["WAP", "WEB", "QR", "APP"] {
        let create = |order: &Order| {
            unmade(
                &rig,
                &Call::new(Operation::Create, &order.attempts[0], &order.terms),
            )
        };
        let mut order = order_of(product, AttemptState::Intent);
        assert_eq!(create(&order), None);
        let dollars = Currency::parse("USD").unwrap();
        order.attempts[0].amount = Amount::parse("12.30", dollars).unwrap();
        assert_eq!(create(&order), Some(Unmade::Malformed));
        let mut order = order_of(product, AttemptState::Intent);
        order.attempts[0].account = AccountId::parse("another").unwrap();
        assert_eq!(create(&order), Some(Unmade::Unsigned));
    }
    let order = order_of("H5", AttemptState::Intent);
    let call = Call::new(Operation::Create, &order.attempts[0], &order.terms);
    assert_eq!(unmade(&rig, &call), Some(Unmade::Malformed));
    // A refund names UnionPay's number of its payment.
    let mut order = refund_of("WAP", "RESERVED");
    let refund = order.refunds[0].clone();
    let call = |order: &Order| {
        unmade(
            &rig,
            &Call::new(Operation::Refund(&refund), &order.attempts[0], &order.terms),
        )
    };
    assert_eq!(call(&order), None);
    order.attempts[0].receipt.as_mut().unwrap().institution_no = None;
    assert_eq!(call(&order), Some(Unmade::Malformed));
}

/// R4, A3: a refund and each query of it name the same moment, however late they are sent: another
/// moment would be another refund.
#[test]
fn a_refund_is_named_by_its_number_and_first_moment() {
    let rig = rig();
    let order = refund_of("QR", "RESERVED");
    let refund = &order.refunds[0];
    for (operation, at_s) in [
        (Operation::Refund(refund), NOW_S),
        (Operation::Refund(refund), NOW_S + 86_400),
        (Operation::RefundQuery(refund), NOW_S + 1),
        (Operation::RefundQuery(refund), NOW_S + 86_400),
    ] {
        let call = Call::new(operation, &order.attempts[0], &order.terms);
        let (request, _) = sent(&rig, &call, &stamp(at_s));
        let fields = form_fields(request.body());
        assert_eq!(fields["orderId"], refund.no.as_str());
        assert_eq!(fields["txnTime"], "20261122003000");
        assert_eq!(fields["bizType"], "000000");
    }
}

/// V2: of a payment that its payer may try again, a failure counts only if it was asked about five
/// minutes after the deadline, and then for good.
#[test]
fn a_failed_try_counts_after_the_deadline_only() {
    let rig = rig();
    for (product, code) in [("WAP", "61"), ("WEB", "38"), ("APP", "01"), ("QR", "60")] {
        let order = order_of(product, AttemptState::Accepted);
        let attempt = &order.attempts[0];
        let over_s = attempt.pay_by.seconds() + 300;
        let call = Call::new(Operation::Query, attempt, &order.terms);
        for (asked_s, read_s, is_over) in [
            (NOW_S, NOW_S, false),
            (over_s - 1, over_s - 1, false),
            // Asked before, answered after.
            (over_s - 1, over_s + 5, false),
            (over_s, over_s, true),
            (over_s + 86_400, over_s + 86_400, true),
        ] {
            let (_, state) = sent(&rig, &call, &stamp(asked_s));
            let answer = rig.answer(&queried(product, "00", Some(code)));
            let Step::Done(evidence) = rig.adapter.next(&call, &state, &answer, &stamp(read_s))
            else {
                panic!("{product} goes on");
            };
            let found = evidence.finding;
            let is_refused = matches!(&found, Finding::Refused(why) if why.as_str() == code);
            assert_eq!(is_refused, is_over, "{product} {code}: {found:?}");
            assert!(
                is_over || found == Finding::Accepted(None),
                "{product}: {found:?}"
            );
            // What is under way, or that nothing is there, is said at any time.
            for (code, orig, expected) in [
                ("00", Some("05"), Finding::Accepted(None)),
                ("34", None, Finding::NotFound),
            ] {
                let answer = rig.answer(&queried(product, code, orig));
                let step = rig.adapter.next(&call, &state, &answer, &stamp(read_s));
                let is_it = matches!(&step, Step::Done(read) if read.finding == expected);
                assert!(is_it, "{product} {code}: {step:?}");
            }
        }
    }
}

/// The fields of an answer to the query of a payment.
fn queried<'a>(
    product: &str,
    code: &'a str,
    orig: Option<&'a str>,
) -> Vec<(&'static str, &'a str)> {
    let biz_type = if product == "QR" { "000000" } else { "000201" };
    let fields = [
        ("version", "5.1.0"),
        ("encoding", "UTF-8"),
        ("txnType", "00"),
        ("txnSubType", "00"),
        ("bizType", biz_type),
        ("accessType", "0"),
        ("merId", MER_ID),
        ("orderId", "A01KAMB7E80000000000000000A"),
        ("txnTime", "20261122003000"),
        ("respCode", code),
    ];
    let orig = orig.map(|orig| ("origRespCode", orig));
    fields.into_iter().chain(orig).collect()
}

/// The same of one that was paid at this moment, which has no year.
fn paid(trace_time: &str) -> Vec<(&'static str, &str)> {
    let mut fields = queried("WAP", "00", Some("00"));
    fields.extend([
        ("queryId", QUERY_ID),
        ("txnAmt", "1230"),
        ("currencyCode", "156"),
        ("traceTime", trace_time),
    ]);
    fields
}

/// M7: the moment of a payment has no year: it is in the year in which the payment began, or the next.
#[test]
fn the_year_of_a_payment_is_that_after_it_began() {
    let rig = rig();
    let mut order = order_of("WAP", AttemptState::Accepted);
    // 2026-12-31 23:59:30 in Shanghai.
    let began = Timestamp::parse_rfc3339("2026-12-31T23:59:30+08:00").unwrap();
    order.attempts[0].stamp.now = began;
    order.attempts[0].pay_by = began.plus(Duration::from_mins(15));
    let call = Call::new(Operation::Query, &order.attempts[0], &order.terms);
    let (_, state) = sent(&rig, &call, &stamp(began.seconds() + 60));
    for (trace_time, expected) in [
        ("1231235959", "2026-12-31T23:59:59+08:00"),
        // Its clock is a little behind ours.
        ("1231235900", "2026-12-31T23:59:00+08:00"),
        ("0101000012", "2027-01-01T00:00:12+08:00"),
        ("1331000012", "1970-01-01T08:00:00+08:00"),
        ("x", "1970-01-01T08:00:00+08:00"),
    ] {
        let mut fields = paid(trace_time);
        for (name, value) in &mut fields {
            if *name == "txnTime" {
                *value = "20261231235930";
            }
        }
        let answer = rig.answer(&fields);
        let step = rig
            .adapter
            .next(&call, &state, &answer, &stamp(began.seconds() + 61));
        let Step::Done(evidence) = step else {
            panic!("it goes on");
        };
        let Finding::Succeeded(receipt) = &evidence.finding else {
            panic!("{trace_time}: {evidence:?}");
        };
        assert_eq!(receipt.paid_at.rfc3339(), expected, "{trace_time}");
    }
}

/// V5: UnionPay has what it accepts and what it tells the state of; an error shows nothing, nor does an
/// answer about something else.
#[test]
fn unionpay_names_what_it_has() {
    let rig = rig();
    for recording in recordings("unionpay") {
        let read = reading(&rig, &recording, recording.body());
        let word = describe(&read);
        let Ok(read) = read else {
            continue;
        };
        let fields: serde_json::Value = serde_json::from_slice(recording.body()).unwrap();
        let (code, orig) = (fields["respCode"].as_str(), fields["origRespCode"].as_str());
        let is_of_it = word != "ambiguous mismatch" && fields["orderId"].is_string();
        let has = match recording.call.as_str() {
            "callback" => true,
            "create" => word.starts_with("accepted") || code == Some("12"),
            "refund" => matches!(code, Some("00" | "A6" | "05" | "12")) && is_of_it,
            _ => code == Some("00") && orig.is_some() && orig != Some("34") && is_of_it,
        };
        assert_eq!(read.proves_arrival, has, "{}", recording.file);
    }
}

/// A5: a close is a question only: what is still open was not closed.
#[test]
fn a_close_only_asks() {
    let rig = rig();
    let order = order_of("WAP", AttemptState::Closing);
    let call = Call::new(Operation::Close, &order.attempts[0], &order.terms);
    let (request, state) = sent(&rig, &call, &stamp(NOW_S));
    assert!(request.uri().path().ends_with("/queryTrans.do"));
    let answer = rig.answer(&queried("WAP", "00", Some("05")));
    let step = rig.adapter.next(&call, &state, &answer, &stamp(NOW_S));
    let no_answer = Finding::Ambiguous(Ambiguity::NoAnswer);
    assert!(matches!(step, Step::Done(read) if read.finding == no_answer));
}
