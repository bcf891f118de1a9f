//! Accounts of service providers: a platform's sub-merchants, and the merchants of an acquirer.

use paymux::domain::attempt::AttemptState;
use paymux::domain::evidence::Finding;
use paymux::domain::identifiers::{ReceiverId, Timestamp};
use paymux::domain::institutions::AccountRole;
use paymux::domain::order::Order;
use paymux::institution::{Call, Operation, SettingValue, SettingValues, Unmade};

use super::super::recorded::NOW_S;
use super::super::rig::{evidence_of, sent, stamp};
use super::rig::{UnionPayRig, WireFields, form_fields, rig_with};
use super::{MER_ID, QUERY_ID, order_of, refund_of, unmade};

const SUB: &str = "00001";

fn contract(more: &[(&'static str, &str)]) -> SettingValues {
    let named = [("sub_mer_id", SUB), ("sub_mer_name", "示例商城有限公司")];
    let named = named
        .iter()
        .chain(&[("sub_mer_abbr", "示例商城")])
        .chain(more);
    named.fold(SettingValues::default(), |values, (name, value)| {
        values.with(name, SettingValue::Text((*value).into()))
    })
}

fn of_sub(mut order: Order) -> Order {
    order.attempts[0].receiver = ReceiverId::parse(SUB).unwrap();
    order
}

fn fields(rig: &UnionPayRig, call: &Call<'_>) -> WireFields {
    let fields = form_fields(sent(rig, call, &stamp(NOW_S)).0.body());
    assert!(rig.is_our_message(&fields));
    fields
}

/// C2: a platform names its sub-merchant in creates, in other requests only where its contract says
/// so, and is of the same access type in all of them.
#[test]
fn a_platform_names_its_sub_merchant() {
    for (more, is_always) in [
        (&[][..], false),
        (&[("name_sub_merchant", "always")][..], true),
    ] {
        let rig = rig_with(AccountRole::Provider, more);
        let sub = contract(&[]);
        let paying = of_sub(order_of("QR", AttemptState::Intent));
        let refunding = of_sub(refund_of("QR", "RESERVED"));
        let refund = &refunding.refunds[0];
        for (order, operation, is_named) in [
            (&paying, Operation::Create, true),
            (&paying, Operation::Query, is_always),
            (&refunding, Operation::Refund(refund), is_always),
            (&refunding, Operation::RefundQuery(refund), is_always),
        ] {
            let call = Call {
                sub_merchant: Some(&sub),
                ..Call::new(operation, &order.attempts[0], &order.terms)
            };
            let fields = fields(&rig, &call);
            assert_eq!(
                (fields["accessType"].as_str(), fields["merId"].as_str()),
                ("2", MER_ID)
            );
            let names = [
                ("subMerId", SUB),
                ("subMerName", "示例商城有限公司"),
                ("subMerAbbr", "示例商城"),
            ];
            for (name, value) in names {
                let found = fields.get(name).map(String::as_str);
                assert_eq!(found, is_named.then_some(value), "{} {name}", call.word());
            }
        }
    }
}

/// An acquirer names itself, its merchant and the merchant's line of business.
#[test]
fn an_acquirer_names_itself_and_its_merchant() {
    let rig = rig_with(AccountRole::Provider, &[("access_type", "1")]);
    let sub = contract(&[("acq_ins_code", "48270000"), ("mer_cat_code", "5311")]);
    let order = of_sub(order_of("APP", AttemptState::Intent));
    let call = |sub| Call {
        sub_merchant: Some(sub),
        ..Call::new(Operation::Create, &order.attempts[0], &order.terms)
    };
    let found = fields(&rig, &call(&sub));
    for (name, value) in [
        ("accessType", "1"),
        ("acqInsCode", "48270000"),
        ("merCatCode", "5311"),
        ("merName", "示例商城有限公司"),
        ("merAbbr", "示例商城"),
    ] {
        assert_eq!(found[name], value, "{name}");
    }
    assert!(!found.contains_key("subMerId"));
    let without = contract(&[]);
    assert_eq!(unmade(&rig, &call(&without)), Some(Unmade::Malformed));
}

/// A1: a sub-merchant that cannot be named as it must be is not paid.
#[test]
fn a_sub_merchant_that_cannot_be_named_is_not_paid() {
    let rig = rig_with(AccountRole::Provider, &[]);
    let order = of_sub(order_of("QR", AttemptState::Intent));
    let create = |sub: Option<&SettingValues>| {
        let call = Call {
            sub_merchant: sub,
            ..Call::new(Operation::Create, &order.attempts[0], &order.terms)
        };
        unmade(&rig, &call)
    };
    assert_eq!(create(Some(&contract(&[]))), None);
    assert_eq!(create(None), Some(Unmade::Malformed));
    let twenty_one = "商".repeat(21);
    let twenty = "商".repeat(20);
    assert_eq!(create(Some(&contract(&[("sub_mer_name", &twenty)]))), None);
    for (name, value) in [
        ("sub_mer_name", twenty_one.as_str()),
        ("sub_mer_name", "a&merId=1"),
        ("sub_mer_abbr", "示例商城示例商城示"),
        ("sub_mer_abbr", "示例 商城"),
    ] {
        let found = create(Some(&contract(&[(name, value)])));
        assert_eq!(found, Some(Unmade::Malformed), "{value}");
    }
    for number in ["0001", "0123456789012345", "00-01"] {
        let mut order = order_of("QR", AttemptState::Intent);
        order.attempts[0].receiver = ReceiverId::parse(number).unwrap();
        let sub = contract(&[]);
        let call = Call {
            sub_merchant: Some(&sub),
            ..Call::new(Operation::Create, &order.attempts[0], &order.terms)
        };
        assert_eq!(unmade(&rig, &call), Some(Unmade::Malformed), "{number}");
    }
}

/// C2, E3: a notification to a provider counts for the sub-merchant that it names; without one it is
/// a reason to ask, and no more.
#[test]
fn a_notification_without_its_sub_merchant_only_hints() {
    let rig = rig_with(AccountRole::Provider, &[]);
    let read = |sub: Option<&str>| {
        let mut fields: WireFields = [
            ("version", "5.1.0"),
            ("encoding", "UTF-8"),
            ("txnType", "01"),
            ("txnSubType", "07"),
            ("bizType", "000000"),
            ("accessType", "2"),
            ("merId", MER_ID),
            ("orderId", "A01KAMB7E80000000000000000A"),
            ("txnTime", "20261122003000"),
            ("txnAmt", "1230"),
            ("currencyCode", "156"),
            ("queryId", QUERY_ID),
            ("respCode", "00"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        if let Some(sub) = sub {
            fields.insert("subMerId".to_owned(), sub.to_owned());
        }
        evidence_of(&rig, &rig.notification(&fields), Timestamp::from_s(NOW_S)).unwrap()
    };
    let named = read(Some(SUB));
    assert_eq!(named.receiver.as_ref().map(ReceiverId::as_str), Some(SUB));
    assert!(matches!(named.finding, Finding::Succeeded(_)));
    let other = read(Some("00002"));
    assert_eq!(
        other.receiver.as_ref().map(ReceiverId::as_str),
        Some("00002")
    );
    let bare = read(None);
    assert_eq!((bare.receiver, bare.finding), (None, Finding::Hint));
}
