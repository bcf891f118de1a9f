//! What a payer carries to the institution, and calls for other merchants.

use std::collections::BTreeMap;

use paymux::domain::attempt::AttemptState;
use paymux::domain::evidence::{Finding, PaymentAction, PaymentActionKind};
use paymux::domain::institutions::AccountRole;
use paymux::domain::order::Order;
use paymux::domain::personal::payer_context::PayerAppId;
use paymux::institution::{
    Call, Operation, SecretText, SettingValue, SettingValues, SigningParty, Step,
};

use super::super::recorded::NOW_S;
use super::super::stamp;
use super::rig::{
    APP, AlipayRig, SELLER, order_with, order_with_refund, parameters, rig, rig_with,
};

fn read(text: &str) -> BTreeMap<String, String> {
    let pairs = form_urlencoded::parse(text.as_bytes());
    pairs
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect()
}

fn action(rig: &AlipayRig, order: &Order, at_s: i64) -> PaymentAction {
    let call = Call::new(Operation::Create, &order.attempts[0], &order.terms);
    let Step::Done(evidence) = rig.adapter.begin(&call, &stamp(at_s)) else {
        panic!("something is sent");
    };
    let Finding::Accepted(Some(action)) = evidence.finding else {
        panic!("{:?}", evidence.finding);
    };
    action
}

/// A1, A3: a page and an order string are signed here, and nothing is sent; made again they differ in
/// time and signature only. They end with the time to pay.
#[test]
fn what_a_payer_carries_is_signed_and_nothing_is_sent() {
    let rig = rig();
    for (id, method, product_code) in [
        ("WAP", "alipay.trade.wap.pay", "QUICK_WAP_WAY"),
        ("PAGE", "alipay.trade.page.pay", "FAST_INSTANT_TRADE_PAY"),
        ("APP", "alipay.trade.app.pay", "QUICK_MSECURITY_PAY"),
    ] {
        let order = order_with(AttemptState::Accepted, id);
        let read_action = |at_s| {
            let action = action(&rig, &order, at_s);
            assert_eq!(action.expires, Some(order.attempts[0].pay_by));
            match (action.way, id) {
                (PaymentActionKind::SdkParameters(text), "APP") => {
                    read(&serde_json::from_str::<String>(&text).unwrap())
                }
                (PaymentActionKind::Redirect(address), "WAP" | "PAGE") => {
                    assert!(address.parse::<http::Uri>().is_ok());
                    let query = address.strip_prefix("https://openapi.alipay.example/gateway.do?");
                    read(query.unwrap())
                }
                (way, _) => panic!("{id}: {:?}", PaymentAction { way, expires: None }),
            }
        };
        let (mut first, mut again) = (read_action(NOW_S), read_action(NOW_S + 60));
        assert!(rig.is_ours(&first) && rig.is_ours(&again), "{id}");
        assert_eq!(first["method"], method);
        assert_eq!(first["app_id"], APP);
        assert_eq!(first["charset"], "utf-8");
        assert_eq!(first["sign_type"], "RSA2");
        assert_eq!(
            first["notify_url"],
            "https://pay.example/v1/callbacks/harbour/ACC-1"
        );
        let content = format!(
            "{{\"out_trade_no\":\"{}\",\"total_amount\":\"12.30\",\"subject\":\"Oolong \\\"1\\\"\",\
             \"product_code\":\"{product_code}\",\"time_expire\":\"2026-11-22 00:45:00\"}}",
            order.attempts[0].id
        );
        assert_eq!(first["biz_content"], content, "{id}");
        for made in [&mut first, &mut again] {
            made.remove("timestamp");
            made.remove("sign");
        }
        assert_eq!(first, again, "{id}");
    }
}

/// D1: neither the payer's number nor what the merchant attached goes there.
#[test]
fn nothing_personal_is_sent() {
    let rig = rig();
    for id in ["WAP", "APP"] {
        let order = order_with(AttemptState::Accepted, id);
        let text = match action(&rig, &order, NOW_S).way {
            PaymentActionKind::Redirect(text) | PaymentActionKind::SdkParameters(text) => text,
            PaymentActionKind::QrCode(_) | PaymentActionKind::Form(_) => panic!("{id}"),
        };
        assert!(
            !text.contains("13812345678") && !text.contains("institution"),
            "{text}"
        );
    }
}

fn sub() -> SettingValues {
    let token = SecretText::new("202601BB5c2b1a0d9e8f47a6b3c4d5e6f7a8b901");
    SettingValues::default().with("app_auth_token", SettingValue::Secret(token))
}

/// C2, A1: a provider's calls carry the token of the merchant who receives the money, and are not
/// made without one: about ourselves they would mean something else.
#[test]
fn a_provider_acts_with_the_merchants_token_only() {
    let rig = rig_with(AccountRole::Provider, SettingValues::default());
    let sub = sub();
    let order = order_with_refund("RESERVED", "PRECREATE");
    let (attempt, refund) = (&order.attempts[0], &order.refunds[0]);
    for operation in [
        Operation::Create,
        Operation::Query,
        Operation::Close,
        Operation::Refund(refund),
        Operation::RefundQuery(refund),
    ] {
        let call = Call::new(operation, attempt, &order.terms);
        assert!(matches!(
            rig.adapter.begin(&call, &stamp(NOW_S)),
            Step::Unmade(_)
        ));
        let call = Call {
            sub_merchant: Some(&sub),
            ..call
        };
        let Step::Send(outgoing) = rig.adapter.begin(&call, &stamp(NOW_S)) else {
            panic!("{} is not sent", call.word());
        };
        let sent = parameters(&outgoing.request);
        assert!(rig.is_ours(&sent));
        assert_eq!(
            sent["app_auth_token"],
            "202601BB5c2b1a0d9e8f47a6b3c4d5e6f7a8b901"
        );
        let names_us = sent["biz_content"].contains(&format!(
            "\"extend_params\":{{\"sys_service_provider_id\":\"{SELLER}\"}}"
        ));
        assert_eq!(names_us, matches!(operation, Operation::Create));
    }
}

/// A payer is named as the application knows payers.
#[test]
fn a_payer_is_named_as_the_application_knows_payers() {
    let payer = |more: SettingValues, app: &str| {
        let mut order = order_with(AttemptState::Intent, "CREATE");
        let identity = order.attempts[0].payer.identity.as_mut().unwrap();
        identity.app = PayerAppId::parse(app).unwrap();
        let rig = rig_with(AccountRole::Direct, more);
        let call = Call::new(Operation::Create, &order.attempts[0], &order.terms);
        let Step::Send(outgoing) = rig.adapter.begin(&call, &stamp(NOW_S)) else {
            panic!("not sent");
        };
        let content = parameters(&outgoing.request)["biz_content"].clone();
        serde_json::from_str::<serde_json::Value>(&content).unwrap()
    };
    let open_id = "074a1CcTG1LelxKe4xQC0zgNdId0nxi95b5lsNpazWYoCo5";
    let ours = payer(SettingValues::default(), APP);
    assert_eq!(
        (&ours["buyer_open_id"], &ours["op_app_id"]),
        (&open_id.into(), &APP.into())
    );
    let other = payer(SettingValues::default(), "2021000987654321");
    assert_eq!(other["op_buyer_open_id"], open_id);
    assert_eq!(other["buyer_open_id"], serde_json::Value::Null);
    let text = |text: &str| SettingValue::Text(text.into());
    let more = SettingValues::default()
        .with("payer_id", text("buyer_id"))
        .with("create_product_code", text("FACE_TO_FACE_PAYMENT"));
    let by_number = payer(more, APP);
    assert_eq!(by_number["buyer_id"], open_id);
    assert_eq!(by_number["product_code"], "FACE_TO_FACE_PAYMENT");
    // Destroyed since: nobody else may be named.
    let mut order = order_with(AttemptState::Unknown, "CREATE");
    order.attempts[0].payer.identity = None;
    let call = Call::new(Operation::Create, &order.attempts[0], &order.terms);
    assert!(matches!(
        rig().adapter.begin(&call, &stamp(NOW_S)),
        Step::Unmade(_)
    ));
}

/// Calls are signed in the signing pool, acknowledgements not at all.
#[test]
fn calls_are_signed_in_the_signing_pool() {
    let rig = rig();
    let order = order_with(AttemptState::Intent, "WAP");
    let account = &order.attempts[0].account;
    assert!(rig.adapter.slow(SigningParty::Account(account)).is_some());
    let message = http::Request::new(bytes::Bytes::new());
    let callback = paymux::institution::Callback::of_institution(&message);
    assert!(rig.adapter.slow(SigningParty::Answer(callback)).is_none());
}
