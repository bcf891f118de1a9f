//! The platform of the `wechatpay` dialect: its keys, its signatures, its notifications, and checks for
//! it alone.

mod closing;
mod hostile;
mod partner;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use paymux::crypto::aead::Aes256GcmKey;
use paymux::crypto::pem;
use paymux::domain::attempt::AttemptState;
use paymux::domain::evidence::{Finding, PaymentAction, PaymentActionKind};
use paymux::domain::identifiers::{AccountId, InstitutionId, ProductId, ReceiverId};
use paymux::domain::institutions::{
    AccountRole, CreateSend, Ending, Mode, ReplyBinding, Visibility,
};
use paymux::domain::order::Order;
use paymux::domain::personal::payer_context::PayerAppId;
use paymux::institution::{
    ALWAYS, Acknowledgement, Call, CallState, ConfiguredAccount, ConfiguredInstitution, Host,
    Institution, Operation, OwnKey, SecretText, SettingValue, SettingValues, SettingsFault, Step,
    Unmade, kind,
};
use paymux::signature::{Algorithm, EnrolledKey, KeyRing, SigningKey, VerifyingKey};
use serde_json::Value;

use super::recorded::{ACCOUNT, NOW_S, order_with, payer, recordings};
use super::{DialectRig, SignedBy, reading, sent, stamp};

/// Keys and numbers that were made for tests.
const VECTORS: &str = include_str!("../../../src/institution/wechatpay/tests/vectors.json");

pub(super) const MCHID: &str = "1900009191";
pub(super) const APP: &str = "wxd678efh567hg6787";
pub(super) const SERIAL: &str = "PUB_KEY_ID_0119000091912026010100389200000001";

/// A secret that opens notifications, of another account.
pub(super) const OTHER_SECRET: &str = "0123456789abcdef0123456789abcdef";

pub(super) struct WechatRig {
    pub(super) adapter: Arc<dyn Institution>,
    account: AccountId,
    platform: SigningKey,
    other: SigningKey,
    secret: String,
}

pub(super) fn vector(pointer: &str) -> String {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    vectors
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap()
        .to_owned()
}

fn algorithm() -> Algorithm {
    Algorithm::parse("rsa-v1_5-sha256").unwrap()
}

pub(super) fn key(id: &str, pointer: &str) -> SigningKey {
    let der = STANDARD.decode(vector(pointer)).unwrap();
    let pem = pem::write(pem::PRIVATE_KEY, &der);
    SigningKey::of_algorithm(algorithm(), id, &pem).unwrap()
}

fn enrolled(id: &str, owner: &str, pointer: &str, until_s: i64) -> EnrolledKey {
    let der = STANDARD.decode(vector(pointer)).unwrap();
    let pem = pem::write(pem::PUBLIC_KEY, &der);
    EnrolledKey {
        id: id.to_owned(),
        owner: owner.to_owned(),
        key: VerifyingKey::of_algorithm(algorithm(), &pem).unwrap(),
        not_before_s: NOW_S - 1_000_000,
        not_after_s: until_s,
    }
}

/// An account with this id, this number and this secret.
pub(super) fn account(id: &str, number: &str, secret: &str) -> ConfiguredAccount {
    let keys = vec![
        enrolled(SERIAL, id, "/platform_public", NOW_S + 1_000_000),
        enrolled("RETIRED", id, "/platform_public", NOW_S - 1),
        enrolled("OTHERS", "lagoon", "/merchant_public", NOW_S + 1_000_000),
    ];
    let own = OwnKey {
        key: Arc::new(key(
            &vector("/constants/merchant_serial"),
            "/merchant_private",
        )),
        signs_within: ALWAYS,
    };
    let apps = vec![("default".into(), PayerAppId::parse(APP).unwrap())];
    let values = SettingValues::default()
        .with("mchid", SettingValue::Text(number.into()))
        .with("apps", SettingValue::Apps(apps))
        .with("key", SettingValue::PrivateKey(own))
        .with("apiv3_key", SettingValue::Secret(SecretText::new(secret)))
        .with(
            "keys",
            SettingValue::PublicKeys(KeyRing::new(keys).unwrap()),
        );
    ConfiguredAccount {
        id: AccountId::parse(id).unwrap(),
        role: AccountRole::Direct,
        receiver: ReceiverId::parse(number).unwrap(),
        values,
    }
}

pub(super) fn settings(accounts: Vec<ConfiguredAccount>) -> ConfiguredInstitution {
    let address = |text: &str| SettingValue::Text(text.into());
    ConfiguredInstitution {
        id: InstitutionId::parse("harbour").unwrap(),
        callback_origin: "https://pay.example".to_owned(),
        facts: kind("wechatpay").unwrap().facts(),
        values: SettingValues::default()
            .with("url", address("https://api.mch.weixin.qq.com"))
            .with("second_url", address("https://api2.mch.weixin.qq.com")),
        accounts,
    }
}

pub(super) fn rig() -> WechatRig {
    let secret = vector("/constants/apiv3_key");
    rig_of(account(ACCOUNT, MCHID, &secret), secret)
}

pub(super) fn rig_of(account: ConfiguredAccount, secret: String) -> WechatRig {
    let id = account.id.clone();
    WechatRig {
        adapter: (kind("wechatpay").unwrap().build)(settings(vec![account])).unwrap(),
        account: id,
        platform: key(SERIAL, "/platform_private"),
        other: key("OTHERS", "/merchant_private"),
        secret,
    }
}

/// Signs a message as the platform does.
pub(super) fn sign(
    headers: &mut HeaderMap,
    body: &[u8],
    key: &SigningKey,
    serial: &str,
    created_s: i64,
) {
    let nonce = "c5ac7061fccab6bf3e254dcf98995b8c";
    let mut text = format!("{created_s}\n{nonce}\n").into_bytes();
    text.extend_from_slice(body);
    text.push(b'\n');
    let signature = STANDARD.encode(key.sign(&text).unwrap());
    for (name, value) in [
        ("wechatpay-timestamp", created_s.to_string().as_str()),
        ("wechatpay-nonce", nonce),
        ("wechatpay-signature", &signature),
        ("wechatpay-serial", serial),
        ("wechatpay-signature-type", "WECHATPAY2-SHA256-RSA2048"),
    ] {
        headers.insert(name, value.parse().unwrap());
    }
}

impl WechatRig {
    fn signer(&self, as_whom: SignedBy) -> (&SigningKey, &str) {
        match as_whom {
            SignedBy::Institution => (&self.platform, SERIAL),
            SignedBy::Other => (&self.other, "OTHERS"),
            SignedBy::UnknownKey => (&self.other, SERIAL),
        }
    }

    pub(super) fn reply(&self, status: u16, body: &str) -> Response<Bytes> {
        let mut reply = super::reply_with(status, body.to_owned());
        self.sign_reply(&mut reply, &CallState::default(), SignedBy::Institution);
        reply
    }
}

/// A notification of this event, encrypted with this secret.
pub(super) fn notification(event: &str, secret: &str, plain: &[u8]) -> Request<Bytes> {
    let key = Aes256GcmKey::new(secret.as_bytes().try_into().unwrap()).unwrap();
    let kind = if event.starts_with("REFUND") {
        "refund"
    } else {
        "transaction"
    };
    let sealed = key.seal(*b"fdasflkja484", kind.as_bytes(), plain).unwrap();
    let envelope = serde_json::json!({
        "id": "EV-2026010100000000000001", "create_time": "2026-11-22T00:30:00+08:00",
        "resource_type": "encrypt-resource", "event_type": event, "summary": "支付成功",
        "resource": {
            "original_type": kind, "algorithm": "AEAD_AES_256_GCM", "nonce": "fdasflkja484",
            "associated_data": kind, "ciphertext": STANDARD.encode(sealed),
        },
    });
    Request::post("/v1/callbacks/harbour/ACC-1")
        .header("content-type", "application/json")
        .body(envelope.to_string().into())
        .unwrap()
}

impl DialectRig for WechatRig {
    fn adapter(&self) -> &dyn Institution {
        self.adapter.as_ref()
    }

    fn account(&self) -> Option<&AccountId> {
        Some(&self.account)
    }

    /// The body is what the platform encrypts; its event is the one that fits.
    fn callback(&self, body: Bytes) -> Request<Bytes> {
        let fields: Option<Value> = serde_json::from_slice(&body).ok();
        let status = fields
            .as_ref()
            .and_then(|fields| fields["refund_status"].as_str());
        let event = match status {
            Some(status) => format!("REFUND.{status}"),
            None => "TRANSACTION.SUCCESS".to_owned(),
        };
        notification(&event, &self.secret, &body)
    }

    fn sign_callback(&self, callback: &mut Request<Bytes>, as_whom: SignedBy, created_s: i64) {
        let (key, serial) = self.signer(as_whom);
        let body = callback.body().clone();
        sign(callback.headers_mut(), &body, key, serial, created_s);
    }

    fn sign_reply(&self, reply: &mut Response<Bytes>, _: &CallState, as_whom: SignedBy) {
        let (key, serial) = self.signer(as_whom);
        let body = reply.body().clone();
        sign(reply.headers_mut(), &body, key, serial, NOW_S);
    }

    fn is_ours(&self, _: &Response<Bytes>, _: &Request<Bytes>) -> Option<bool> {
        None
    }

    fn unlisted(&self) -> &[&str] {
        &["PAID", "success", "", "SUCCESS "]
    }

    fn callback_ages(&self) -> &[(i64, bool)] {
        &[(300, false), (299, true), (-299, true), (-300, false)]
    }

    fn acknowledged(&self) -> [(Acknowledgement, u16); 6] {
        [
            (Acknowledgement::Recorded, 200),
            (Acknowledgement::TryAgain, 503),
            (Acknowledgement::UnknownReference, 503),
            (Acknowledgement::Quarantined, 200),
            (Acknowledgement::Unreadable, 503),
            (Acknowledgement::Unverified, 401),
        ]
    }

    fn is_refusal(&self, answer: &Response<Bytes>, _: &str) -> bool {
        let fields: Option<Value> = serde_json::from_slice(answer.body()).ok();
        assert_eq!(fields.is_none(), answer.body().is_empty());
        fields.is_some_and(|fields| fields["code"] == "FAIL")
    }

    fn believes_unsigned_refusals(&self) -> bool {
        true
    }
}

/// An order whose attempt is of this product, and whose payer is known.
pub(super) fn order_of(product: &str, state: AttemptState) -> Order {
    let mut order = order_with(state, Mode::Webview);
    order.attempts[0].product = ProductId::parse(product).unwrap();
    order.attempts[0].receiver = ReceiverId::parse(MCHID).unwrap();
    order.attempts[0].payer = payer();
    order
}

pub(super) fn sdk(finding: &Finding) -> Value {
    let Finding::Accepted(Some(PaymentAction {
        way: PaymentActionKind::SdkParameters(text),
        ..
    })) = finding
    else {
        panic!("{finding:?}");
    };
    serde_json::from_str(text).unwrap()
}

/// C1: the addresses of both hosts and our own are checked before anything is called.
#[test]
fn an_address_that_is_no_origin_builds_no_adapter() {
    for name in ["url", "second_url"] {
        for bad in [
            "http://api.example",
            "https://api.example/",
            "api.example",
            "",
        ] {
            let mut settings = settings(Vec::new());
            settings.values = settings.values.with(name, SettingValue::Text(bad.into()));
            let built = (kind("wechatpay").unwrap().build)(settings);
            assert_eq!(built.err(), Some(SettingsFault::NotAnOrigin(name)), "{bad}");
        }
    }
    let rig = rig();
    let second = Some("https://api2.mch.weixin.qq.com");
    assert_eq!(rig.adapter.origin(Host::Second), second);
    assert_eq!(rig.adapter.origin(Host::Files), None);
}

/// A5: what the four products declare.
#[test]
fn the_products_declare_what_is_documented() {
    let kind = kind("wechatpay").unwrap();
    let after = Visibility::AfterSend(Duration::from_secs(330));
    let ids: Vec<_> = kind.products.iter().map(|one| one.id).collect();
    assert_eq!(ids, ["JSAPI", "H5", "NATIVE", "APP"]);
    for product in kind.products {
        assert_eq!(product.create, CreateSend::Repeatable);
        assert_eq!(product.binding, ReplyBinding::Connection);
        assert_eq!((product.ending, product.visibility), (Ending::Close, after));
        assert_eq!(product.least_left, Duration::from_mins(1));
        let is_code = product.id == "NATIVE";
        assert_eq!(product.pay_within.is_some(), is_code, "{}", product.id);
    }
    let facts = kind.facts();
    assert_eq!(facts.refund_visibility, Duration::from_secs(330));
    assert_eq!(facts.rates.refund_question_gap, Duration::from_mins(1));
    assert!(facts.repeatable_refund);
}

/// Q5, A3: each request is signed anew and names who asks; a repeated create, too, although it shares
/// the random draw of the first.
#[test]
fn each_request_is_signed_anew() {
    let rig = rig();
    let order = order_of("NATIVE", AttemptState::Intent);
    let (attempt, terms) = (&order.attempts[0], &*order.terms);
    let create = Call::new(Operation::Create, attempt, terms);
    let mut nonces = Vec::new();
    for (call, at_s) in [
        (create, NOW_S),
        (create, NOW_S + 1),
        (Call::new(Operation::Query, attempt, terms), NOW_S),
        (Call::new(Operation::Close, attempt, terms), NOW_S),
    ] {
        let (request, _) = sent(&rig, &call, &stamp(at_s));
        let headers = request.headers();
        assert_eq!(headers["accept"], "application/json");
        assert!(!headers["user-agent"].is_empty());
        assert_eq!(
            headers.contains_key("content-type"),
            request.method() == "POST"
        );
        let proof = headers["authorization"].to_str().unwrap();
        let start = format!("WECHATPAY2-SHA256-RSA2048 mchid=\"{MCHID}\",nonce_str=\"");
        let nonce = proof
            .strip_prefix(&start)
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        assert!(nonce.len() == 32 && nonce.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert!(proof.contains(&format!("timestamp=\"{at_s}\"")));
        nonces.push(nonce.to_owned());
    }
    let drawn = nonces.len();
    nonces.sort();
    nonces.dedup();
    assert_eq!(nonces.len(), drawn);
}

/// The key that answers are to be signed with is asked for in every request.
#[test]
fn the_key_of_answers_is_asked_for() {
    let secret = vector("/constants/apiv3_key");
    let mut asking = account(ACCOUNT, MCHID, &secret);
    let id = SettingValue::Text(SERIAL.into());
    asking.values = asking.values.with("ask_for_key", id);
    let rig = rig_of(asking, secret);
    let order = order_of("NATIVE", AttemptState::Intent);
    for operation in [Operation::Create, Operation::Query, Operation::Close] {
        let call = Call::new(operation, &order.attempts[0], &order.terms);
        let (request, _) = sent(&rig, &call, &stamp(NOW_S));
        assert_eq!(request.headers()["wechatpay-serial"], SERIAL);
    }
}

/// A3: a description is cut at a character, the same at each repeat; without one of the goods it is the
/// merchant's name.
#[test]
fn a_description_is_cut_at_a_character() {
    let rig = rig();
    let mut order = order_of("NATIVE", AttemptState::Intent);
    for (goods, expected) in [
        (Some("茶".repeat(200)), "茶".repeat(127)),
        (Some("a".repeat(127)), "a".repeat(127)),
        (None, "茶".to_owned()),
    ] {
        let mut terms = (*order.terms).clone();
        terms.goods_name = goods.map(Into::into);
        order.terms = Arc::new(terms);
        let call = Call::new(Operation::Create, &order.attempts[0], &order.terms);
        let body = |at_s| sent(&rig, &call, &stamp(at_s)).0.into_body();
        let fields: Value = serde_json::from_slice(&body(NOW_S)).unwrap();
        assert_eq!(fields["description"], expected);
        assert_eq!(body(NOW_S), body(NOW_S + 99));
        // Neither the payer's number nor what the merchant attached is sent.
        let text = fields.to_string();
        assert!(!text.contains("13812345678") && !text.contains("not for the institution"));
    }
}

/// M5, A1: what cannot be said exactly, or not at all, is not sent.
#[test]
fn what_cannot_be_said_is_not_sent() {
    use paymux::domain::amount::{Amount, Currency};
    use paymux::domain::personal::payer_context::PayerDetails;
    let rig = rig();
    let unmade = |order: &Order| {
        let call = Call::new(Operation::Create, &order.attempts[0], &order.terms);
        match rig.adapter.begin(&call, &stamp(NOW_S)) {
            Step::Unmade(why) => Some(why),
            Step::Send(_) | Step::Done(_) => None,
        }
    };
    for product in ["JSAPI", "H5"] {
        let mut order = order_of(product, AttemptState::Intent);
        assert_eq!(unmade(&order), None);
        order.attempts[0].payer = PayerDetails::UNKNOWN;
        assert_eq!(unmade(&order), Some(Unmade::Malformed), "{product}");
    }
    let mut order = order_of("JSAPI", AttemptState::Intent);
    let identity = order.attempts[0].payer.identity.as_mut().unwrap();
    identity.app = PayerAppId::parse("wx-of-another").unwrap();
    assert_eq!(unmade(&order), Some(Unmade::Malformed));
    let mut order = order_of("NATIVE", AttemptState::Intent);
    let dollars = Currency::parse("USD").unwrap();
    order.attempts[0].amount = Amount::parse("12.30", dollars).unwrap();
    assert_eq!(unmade(&order), Some(Unmade::Malformed));
    let order = order_of("STANDARD", AttemptState::Intent);
    assert_eq!(unmade(&order), Some(Unmade::Malformed));
    let mut order = order_of("NATIVE", AttemptState::Intent);
    order.attempts[0].account = AccountId::parse("another").unwrap();
    assert_eq!(unmade(&order), Some(Unmade::Unsigned));
}

/// E3: what the payer pays with is signed after the reply, with a stamp of its own, by our key.
#[test]
fn client_parameters_are_signed_with_the_stamp_of_the_reply() {
    let rig = rig();
    let serial = vector("/constants/merchant_serial");
    let own = enrolled(&serial, "paymux", "/merchant_public", NOW_S).key;
    for (product, names, prefix) in [
        (
            "JSAPI",
            ["appId", "timeStamp", "nonceStr", "paySign"],
            "prepay_id=",
        ),
        ("APP", ["appid", "timestamp", "noncestr", "sign"], ""),
    ] {
        let order = order_of(product, AttemptState::Intent);
        let call = Call::new(Operation::Create, &order.attempts[0], &order.terms);
        let (request, state) = sent(&rig, &call, &stamp(NOW_S));
        let reply = rig.reply(
            200,
            r#"{"prepay_id":"wx201410272009395522657a690389285100"}"#,
        );
        let Step::Done(evidence) = rig.adapter.next(&call, &state, &reply, &stamp(NOW_S + 7))
        else {
            panic!("{product} goes on");
        };
        let parameters = sdk(&evidence.finding);
        let [app, timestamp, nonce, signature] =
            names.map(|name| parameters[name].as_str().unwrap());
        assert_eq!((app, timestamp), (APP, (NOW_S + 7).to_string().as_str()));
        let proof = request.headers()["authorization"].to_str().unwrap();
        assert!(!proof.contains(nonce), "each step has a nonce of its own");
        let package = format!("{prefix}wx201410272009395522657a690389285100");
        let lines = format!("{app}\n{timestamp}\n{nonce}\n{package}\n");
        let signature = STANDARD.decode(signature).unwrap();
        assert!(own.verifies(lines.as_bytes(), &signature), "{product}");
        if product == "JSAPI" {
            assert_eq!(
                (&parameters["package"], &parameters["signType"]),
                (&package.into(), &"RSA".into())
            );
        } else {
            assert_eq!(parameters["package"], "Sign=WXPay");
            assert_eq!(parameters["partnerid"], MCHID);
        }
    }
}

/// V5: the platform has what it accepts and what it tells the state of; an error shows nothing.
#[test]
fn the_platform_names_what_it_has() {
    let rig = rig();
    for recording in recordings("wechatpay") {
        let Ok(read) = reading(&rig, &recording, recording.body()) else {
            continue;
        };
        let tells = recording.call != "create" || recording.evidence.starts_with("accepted");
        let is_of_another =
            recording.file.contains("other") || recording.file.contains("unreadable");
        let has =
            recording.call == "callback" || (recording.status == 200 && tells && !is_of_another);
        assert_eq!(read.proves_arrival, has, "{}", recording.file);
    }
}
