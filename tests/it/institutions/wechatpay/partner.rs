//! The `wechatpay` dialect of a service provider (服务商), whose sub-merchant receives the money.

use bytes::Bytes;
use http::Request;
use paymux::domain::amount::CNY;
use paymux::domain::attempt::{AttemptState, Contradiction};
use paymux::domain::evidence::Finding;
use paymux::domain::identifiers::{ReceiverId, Timestamp};
use paymux::domain::institutions::{AccountRole, Mode};
use paymux::domain::order::{Applied, Order};
use paymux::domain::personal::payer_context::PayerAppId;
use paymux::institution::{Call, Operation, SettingValue, SettingValues};

use super::super::recorded::{ACCOUNT, NOW_S, order_with_refund};
use super::super::{DialectRig, SignedBy, incoming, read, sent, stamp};
use super::{APP, MCHID, WechatRig, account, order_of, rig_of, sdk, vector};

const SUB: &str = "1900009291";
const SUB_APP: &str = "wx-of-the-sub";
const HOST: &str = "https://api.mch.weixin.qq.com";

fn provider(app_partner: Option<&str>) -> WechatRig {
    let secret = vector("/constants/apiv3_key");
    let mut provider = account(ACCOUNT, MCHID, &secret);
    provider.role = AccountRole::Provider;
    if let Some(word) = app_partner {
        let word = SettingValue::Text(word.into());
        provider.values = provider.values.with("app_partner", word);
    }
    rig_of(provider, secret)
}

fn order(product: &str, state: AttemptState) -> Order {
    let mut order = order_of(product, state);
    order.attempts[0].receiver = ReceiverId::parse(SUB).unwrap();
    order
}

fn sub(app: Option<&str>) -> SettingValues {
    let values = SettingValues::default().with("sub_mchid", SettingValue::Text(SUB.into()));
    match app {
        Some(app) => values.with(
            "sub_appid",
            SettingValue::App(PayerAppId::parse(app).unwrap()),
        ),
        None => values,
    }
}

fn body(request: &Request<Bytes>) -> &str {
    std::str::from_utf8(request.body()).unwrap()
}

/// E3, A3: a provider signs for itself and names the sub-merchant in every request.
#[test]
fn a_provider_names_the_sub_merchant_in_every_request() {
    let rig = provider(None);
    let order = order("H5", AttemptState::Intent);
    let number = order.attempts[0].id.as_str();
    let mut refunding = order_with_refund("RESERVED", Mode::Webview);
    refunding.attempts[0].receiver = order.attempts[0].receiver.clone();
    let refund = &refunding.refunds[0];
    let sub = sub(Some(SUB_APP));
    let create = format!(
        "{{\"sp_appid\":\"{APP}\",\"sp_mchid\":\"{MCHID}\",\"sub_mchid\":\"{SUB}\",\
         \"description\":\"Oolong \\\"1\\\"\",\"out_trade_no\":\"{number}\",\
         \"time_expire\":\"2026-11-22T00:45:00+08:00\",\
         \"notify_url\":\"https://pay.example/v1/callbacks/harbour/ACC-1\",\
         \"amount\":{{\"total\":1230,\"currency\":\"CNY\"}},\
         \"scene_info\":{{\"payer_client_ip\":\"203.0.113.10\",\"h5_info\":{{\"type\":\"iOS\"}}}}}}"
    );
    let parties = format!("{{\"sp_mchid\":\"{MCHID}\",\"sub_mchid\":\"{SUB}\"}}");
    let refunded = format!(
        "{{\"sub_mchid\":\"{SUB}\",\"out_trade_no\":\"{number}\",\"out_refund_no\":\"{}\",\
         \"notify_url\":\"https://pay.example/v1/callbacks/harbour/ACC-1\",\
         \"amount\":{{\"refund\":500,\"total\":1230,\"currency\":\"CNY\"}}}}",
        refund.no
    );
    let payments = format!("{HOST}/v3/pay/partner/transactions");
    let refunds = format!("{HOST}/v3/refund/domestic/refunds");
    for (operation, uri, expected) in [
        (Operation::Create, format!("{payments}/h5"), create),
        (
            Operation::Query,
            format!("{payments}/out-trade-no/{number}?sp_mchid={MCHID}&sub_mchid={SUB}"),
            String::new(),
        ),
        (
            Operation::Close,
            format!("{payments}/out-trade-no/{number}/close"),
            parties,
        ),
        (Operation::Refund(refund), refunds.clone(), refunded),
        (
            Operation::RefundQuery(refund),
            format!("{refunds}/{}?sub_mchid={SUB}", refund.no),
            String::new(),
        ),
    ] {
        let mut call = Call::new(operation, &order.attempts[0], &order.terms);
        call.sub_merchant = Some(&sub);
        let (request, _) = sent(&rig, &call, &stamp(NOW_S));
        assert_eq!(request.uri().to_string(), uri);
        assert_eq!(body(&request), expected, "{uri}");
        let proof = request.headers()["authorization"].to_str().unwrap();
        assert!(proof.contains(&format!("mchid=\"{MCHID}\"")), "{uri}");
    }
}

/// A payer's id means nothing in another application than its own, so it is sent under the name that says
/// whose that is.
#[test]
fn a_payers_id_goes_with_its_application() {
    let rig = provider(None);
    let sub = sub(Some(SUB_APP));
    for (app, expected, client) in [
        (APP, format!("\"sub_mchid\":\"{SUB}\",\"description\""), APP),
        (
            SUB_APP,
            format!("\"sub_appid\":\"{SUB_APP}\",\"sub_mchid\":\"{SUB}\",\"description\""),
            SUB_APP,
        ),
    ] {
        let mut order = order("JSAPI", AttemptState::Intent);
        let identity = order.attempts[0].payer.identity.as_mut().unwrap();
        identity.app = PayerAppId::parse(app).unwrap();
        let mut call = Call::new(Operation::Create, &order.attempts[0], &order.terms);
        call.sub_merchant = Some(&sub);
        let (request, state) = sent(&rig, &call, &stamp(NOW_S));
        let text = body(&request);
        let head = format!("{{\"sp_appid\":\"{APP}\",\"sp_mchid\":\"{MCHID}\",{expected}");
        assert!(text.starts_with(&head), "{text}");
        let whose = if app == APP {
            "sp_openid"
        } else {
            "sub_openid"
        };
        let payer = format!("\"payer\":{{\"{whose}\":\"oUpF8uMuAJO_M2pxb1Q9zNjWeS6o\"}}");
        assert!(text.contains(&payer), "{text}");
        let reply = rig.reply(200, r#"{"prepay_id":"wx1"}"#);
        let read = read(&rig, &call, &state, &reply);
        assert_eq!(sdk(&read.finding)["appId"], client);
    }
}

/// An application starts with the number of the sub-merchant, unless it is configured otherwise, and with the
/// very application that the payment was created with.
#[test]
fn an_application_starts_with_the_configured_number() {
    for (word, app, partner, client) in [
        (None, None, SUB, APP),
        (Some("sub"), Some(SUB_APP), SUB, SUB_APP),
        (Some("provider"), Some(SUB_APP), MCHID, SUB_APP),
    ] {
        let (rig, sub) = (provider(word), sub(app));
        let order = order("APP", AttemptState::Intent);
        let mut call = Call::new(Operation::Create, &order.attempts[0], &order.terms);
        call.sub_merchant = Some(&sub);
        let (request, state) = sent(&rig, &call, &stamp(NOW_S));
        assert_eq!(body(&request).contains("sub_appid"), app.is_some());
        let reply = rig.reply(200, r#"{"prepay_id":"wx1"}"#);
        let parameters = sdk(&read(&rig, &call, &state, &reply).finding);
        assert_eq!(parameters["partnerid"], partner);
        assert_eq!(parameters["appid"], client);
    }
}

/// E3, C2: answers and notifications name both parties; another provider's or sub-merchant's proves
/// nothing about ours.
#[test]
fn a_message_names_provider_and_sub_merchant() {
    let rig = provider(None);
    let order = order("H5", AttemptState::Accepted);
    let paid = format!(
        r#"{{"sp_appid":"{APP}","sp_mchid":"{MCHID}","sub_mchid":"{SUB}","out_trade_no":"{}",
        "transaction_id":"42","trade_state":"SUCCESS","success_time":"2026-11-22T00:29:00+08:00",
        "amount":{{"total":1230,"currency":"CNY"}}}}"#,
        order.attempts[0].id
    );
    let call = Call::new(Operation::Query, &order.attempts[0], &order.terms);
    for (from, to, why) in [
        ("", "", None),
        (MCHID, "1900009192", Some(Contradiction::Account)),
        (APP, "wx-of-another", Some(Contradiction::Account)),
        (SUB, "1900009292", Some(Contradiction::Receiver)),
    ] {
        let body = paid.replacen(from, to, 1);
        let (_, state) = sent(&rig, &call, &stamp(NOW_S));
        let finding = read(&rig, &call, &state, &rig.reply(200, &body)).finding;
        let is_paid = matches!(finding, Finding::Succeeded(_));
        assert_eq!(is_paid, why.is_none(), "{to}: {finding:?}");
        let mut notice = rig.callback(body.into());
        rig.sign_callback(&mut notice, SignedBy::Institution, NOW_S);
        let now = Timestamp::from_s(NOW_S);
        let read = rig.adapter.read_callback(incoming(&rig, &notice), now);
        let evidence = read.unwrap().evidence(CNY);
        let applied = order.apply(&evidence, rig.adapter.facts(), now);
        match why {
            None => assert!(matches!(applied, Applied::Commit(_)), "{applied:?}"),
            Some(why) => assert_eq!(applied, Applied::Quarantine(why), "{to}"),
        }
    }
}
