//! The institution of the `standard` dialect: its keys, its signatures, and checks for it alone.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use paymux::domain::amount::{Amount, CNY, Currency};
use paymux::domain::attempt::{AttemptState, Contradiction};
use paymux::domain::evidence::Finding;
use paymux::domain::identifiers::{AccountId, ReceiverId, Timestamp};
use paymux::domain::institutions::{AccountRole, Mode};
use paymux::domain::order::Applied;
use paymux::institution::{
    Acknowledgement, Call, CallState, Callback, ConfiguredAccount, ConfiguredInstitution,
    Institution, Operation, SettingValue, SettingValues, SettingsFault, Unverified, kind,
};
use paymux::signature::{
    Covering, EnrolledKey, KeyRing, Question, SigningKey, VerifyingKey, sign_request,
    sign_response, verify_response,
};

use crate::world::enrolment::standard;

use super::recorded::{ACCOUNT, NOW_S, order_with, order_with_refund, recordings};
use super::{DialectRig, SignedBy, sent, stamp};

const CALLBACK_URL: &str = "https://pay.example/v1/callbacks/harbour";

struct StandardRig {
    adapter: Arc<dyn Institution>,
    ours: KeyRing,
    institution: SigningKey,
    other: SigningKey,
    unauthenticated: SigningKey,
}

fn key(id: &str) -> SigningKey {
    let (private, _) = SigningKey::generate_ed25519().unwrap();
    SigningKey::from_pkcs8_pem(id, &private).unwrap()
}

fn enrolled(key: &SigningKey, owner: &str) -> EnrolledKey {
    EnrolledKey {
        id: key.id().to_owned(),
        owner: owner.to_owned(),
        key: VerifyingKey::from_spki_pem(&key.public_pem()).unwrap(),
        not_before_s: NOW_S - 1_000,
        not_after_s: NOW_S + 1_000,
    }
}

fn account(id: &str, number: &str, own: SigningKey, keys: Vec<EnrolledKey>) -> ConfiguredAccount {
    standard::account((id, number), own, keys)
}

fn settings(accounts: Vec<ConfiguredAccount>) -> ConfiguredInstitution {
    let places = ["https://harbour.example:8443", "https://pay.example"];
    standard::institution("harbour", places, accounts)
}

pub(super) fn rig() -> impl DialectRig {
    let (ours, institution, other) = (key("paymux-1"), key("harbour-1"), key("lagoon-1"));
    let ring = vec![enrolled(&institution, ACCOUNT), enrolled(&other, "lagoon")];
    StandardRig {
        ours: KeyRing::new(vec![enrolled(&ours, "paymux")]).unwrap(),
        adapter: built(vec![account(ACCOUNT, ACCOUNT, ours, ring)]),
        institution,
        other,
        unauthenticated: key("harbour-1"),
    }
}

fn built(accounts: Vec<ConfiguredAccount>) -> Arc<dyn Institution> {
    (kind("standard").unwrap().build)(settings(accounts)).unwrap()
}

impl StandardRig {
    fn key(&self, as_whom: SignedBy) -> &SigningKey {
        match as_whom {
            SignedBy::Institution => &self.institution,
            SignedBy::Other => &self.other,
            SignedBy::UnknownKey => &self.unauthenticated,
        }
    }
}

impl DialectRig for StandardRig {
    fn adapter(&self) -> &dyn Institution {
        self.adapter.as_ref()
    }

    fn callback(&self, body: Bytes) -> Request<Bytes> {
        Request::post("/v1/callbacks/harbour")
            .header("content-type", "application/json")
            .body(body)
            .unwrap()
    }

    fn sign_callback(&self, callback: &mut Request<Bytes>, as_whom: SignedBy, created_s: i64) {
        let covering = Covering {
            created_s,
            expires_s: Some(created_s + 300),
            nonce: Some("0123456789abcdef"),
        };
        sign_request(callback, CALLBACK_URL, self.key(as_whom), &covering).unwrap();
    }

    fn sign_reply(&self, reply: &mut Response<Bytes>, to: &CallState, as_whom: SignedBy) {
        sign_response(reply, to.get::<Question>(), self.key(as_whom), NOW_S).unwrap();
    }

    fn is_ours(&self, answer: &Response<Bytes>, to: &Request<Bytes>) -> Option<bool> {
        let question = Question::of(to, CALLBACK_URL).unwrap();
        Some(verify_response(answer, &question, &self.ours, NOW_S).is_ok())
    }

    fn is_refusal(&self, answer: &Response<Bytes>, request_id: &str) -> bool {
        let fields: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
        let is_later = answer.status() == 503;
        assert_eq!(answer.headers().contains_key("retry-after"), is_later);
        fields["requestId"] == request_id && fields["result"] == "REFUSED"
    }
}

/// C1: the addresses in both directions are checked before anything is called.
#[test]
fn an_address_that_is_no_origin_builds_no_adapter() {
    for bad in [
        "http://harbour.example",
        "https://harbour.example/",
        "https://harbour.example:443",
        "https://a@harbour.example",
        "harbour.example",
        "",
    ] {
        let mut settings = settings(Vec::new());
        let url = SettingValue::Text(bad.into());
        settings.values = SettingValues::default().with("url", url);
        let built = (kind("standard").unwrap().build)(settings);
        assert_eq!(
            built.err(),
            Some(SettingsFault::NotAnOrigin("url")),
            "{bad}"
        );
    }
    assert!(kind("no-such-kind").is_none());
}

/// Q5, A3: no two calls share a nonce, not even a create and its repeat, which share the random
/// draw.
#[test]
fn each_call_has_a_nonce_of_its_own() {
    let rig = rig();
    let order = order_with(AttemptState::Intent, Mode::Webview);
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
        let input = request.headers()["signature-input"].to_str().unwrap();
        assert!(input.contains(&format!(";created={at_s};expires={};", at_s + 300)));
        let nonce = input.split("nonce=\"").nth(1).unwrap();
        nonces.push(nonce.split('"').next().unwrap().to_owned());
    }
    for nonce in &nonces {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        assert!((16..=64).contains(&nonce.len()) && nonce.bytes().all(plain));
    }
    let drawn = nonces.len();
    nonces.sort();
    nonces.dedup();
    assert_eq!(nonces.len(), drawn);
}

/// M6: an amount without a currency in a reply is in the call's currency, in a callback in that of
/// its object; a named currency counts as named.
#[test]
fn an_amount_without_a_currency_is_in_the_calls() {
    let rig = rig();
    let yen = Currency::parse("JPY").unwrap();
    let mut order = order_with(AttemptState::Unknown, Mode::Webview);
    let sum = Amount::parse("1230", yen).unwrap();
    order.attempts[0].amount = sum;
    let (attempt, terms) = (order.attempts[0].clone(), &*order.terms);
    let paid = |currency: &str| {
        format!(
            r#"{{"merchantId":"{}","merchantOrderNo":"{}","result":"ALREADY_PAID","orderStatus":"PAID",
            "orderAmount":"1230"{currency},"payOrderNo":"H-1","paymentDate":"20261122",
            "paymentTime":"003000"}}"#,
            attempt.receiver, attempt.id
        )
    };
    let read = |call: &Call<'_>, body: String| {
        let (_, state) = sent(&rig, call, &stamp(NOW_S));
        let mut reply = Response::new(Bytes::from(body));
        let json = http::HeaderValue::from_static("application/json");
        reply.headers_mut().insert("content-type", json);
        rig.sign_reply(&mut reply, &state, SignedBy::Institution);
        super::read(&rig, call, &state, &reply).finding
    };
    let is = |finding: Finding, expected: Amount| {
        let found = matches!(&finding, Finding::Succeeded(receipt) if receipt.amount == expected);
        assert!(found, "{finding:?}");
    };
    for call in [
        Call::new(Operation::Create, &attempt, terms),
        Call::new(Operation::Query, &attempt, terms),
        Call::new(Operation::Close, &attempt, terms),
    ] {
        is(read(&call, paid("")), sum);
        let yuan = Amount::parse("1230", CNY).unwrap();
        is(read(&call, paid(r#","currency":"CNY""#)), yuan);
    }
    let body = paid("").replace("\"result\":\"ALREADY_PAID\",", "");
    let mut callback = rig.callback(Bytes::from(body));
    rig.sign_callback(&mut callback, SignedBy::Institution, NOW_S);
    let now = Timestamp::from_s(NOW_S);
    let message = rig
        .adapter()
        .read_callback(Callback::of_institution(&callback), now)
        .unwrap();
    let message = message.evidence(yen);
    assert_eq!(message.sum, Some(sum));
    is(message.finding, sum);
}

/// M6: the same for refunds.
#[test]
fn a_refunded_amount_without_a_currency_is_in_the_calls() {
    let rig = rig();
    let yen = Currency::parse("JPY").unwrap();
    let mut order = order_with_refund("UNKNOWN", Mode::Webview);
    let sum = Amount::parse("500", yen).unwrap();
    order.refunds[0].amount = sum;
    let (refund, attempt) = (&order.refunds[0], &order.attempts[0]);
    let body = format!(
        r#"{{"merchantId":"{}","merchantRefundNo":"{}","refundStatus":"SUCCEEDED",
        "eventType":"REFUND_SUCCEEDED","refundAmount":"500","refundOrderNo":"H-R-1"}}"#,
        attempt.receiver, refund.no
    );
    for call in [
        Call::new(Operation::Refund(refund), attempt, &order.terms),
        Call::new(Operation::RefundQuery(refund), attempt, &order.terms),
    ] {
        let (_, state) = sent(&rig, &call, &stamp(NOW_S));
        let mut reply = Response::new(Bytes::from(body.clone()));
        let json = http::HeaderValue::from_static("application/json");
        reply.headers_mut().insert("content-type", json);
        rig.sign_reply(&mut reply, &state, SignedBy::Institution);
        let read = super::read(&rig, &call, &state, &reply);
        let found = matches!(&read.finding, Finding::Succeeded(one) if one.amount == sum);
        assert!(found && read.proves_arrival, "{read:?}");
    }
    let mut callback = rig.callback(Bytes::from(body));
    rig.sign_callback(&mut callback, SignedBy::Institution, NOW_S);
    let now = Timestamp::from_s(NOW_S);
    let message = rig
        .adapter()
        .read_callback(Callback::of_institution(&callback), now)
        .unwrap();
    assert_eq!(message.evidence(yen).sum, Some(sum));
}

/// V5: the institution names what it has, whatever its status; what it does not have, or gives no
/// answer about, it does not name.
#[test]
fn an_institution_names_what_it_has() {
    let rig = rig();
    for recording in recordings("standard") {
        let Ok(read) = super::reading(&rig, &recording, recording.body()) else {
            continue;
        };
        let expected = recording.evidence.as_str();
        let has = match recording.call.as_str() {
            "callback" => true,
            "create" | "refund" => {
                expected.starts_with("accepted")
                    || expected.starts_with("paid")
                    || expected == "closed"
            }
            _ => {
                let is_other =
                    expected == "ambiguous mismatch" && recording.file.contains("account");
                let knows = recording.file.contains("close_refused")
                    || recording.file.contains("close_of_paid_refused");
                (matches!(recording.status, 200 | 202) && !is_other) || knows
            }
        };
        assert_eq!(read.proves_arrival, has, "{}", recording.file);
    }
}

/// Two accounts, each with keys of its own under the same ids, and what the institution signs with.
fn two_accounts() -> (Arc<dyn Institution>, [SigningKey; 2], [KeyRing; 2]) {
    let (ours, theirs) = (
        [key("paymux-1"), key("paymux-1")],
        [key("harbour-1"), key("harbour-1")],
    );
    let rings =
        [&ours[0], &ours[1]].map(|key| KeyRing::new(vec![enrolled(key, "paymux")]).unwrap());
    let [first, second] = ours;
    let adapter = built(vec![
        account("tea", "ACC-1", first, vec![enrolled(&theirs[0], "tea")]),
        account(
            "books",
            "ACC-2",
            second,
            vec![enrolled(&theirs[1], "books")],
        ),
    ]);
    (adapter, theirs, rings)
}

fn paid_callback(number: &str, receiver: &str, by: &SigningKey) -> Request<Bytes> {
    let body = serde_json::json!({
        "eventType": "ORDER_PAID", "merchantOrderNo": number, "merchantId": receiver,
        "orderStatus": "PAID", "orderAmount": "12.30", "payOrderNo": "H-1",
        "paymentDate": "20260925", "paymentTime": "120000",
    });
    let mut callback = Request::post("/v1/callbacks/harbour")
        .header("content-type", "application/json")
        .body(Bytes::from(body.to_string()))
        .unwrap();
    let covering = Covering {
        created_s: NOW_S,
        expires_s: None,
        nonce: None,
    };
    sign_request(&mut callback, CALLBACK_URL, by, &covering).unwrap();
    callback
}

/// C1, C2, E3: the key that signed a callback says whose it is: what another account's key signed is no
/// evidence for an attempt, whatever receiver it names; nor is what names another receiver.
#[test]
fn a_callback_is_of_the_account_whose_key_signed_it() {
    let (adapter, theirs, ours) = two_accounts();
    let now = Timestamp::from_s(NOW_S);
    let mut order = order_with(AttemptState::Accepted, Mode::Webview);
    order.attempts[0].account = AccountId::parse("tea").unwrap();
    order.attempts[0].receiver = ReceiverId::parse("ACC-1").unwrap();
    let number = order.attempts[0].id.to_string();
    for (signer, receiver, expected) in [
        (0, "ACC-1", None),
        (1, "ACC-1", Some(Contradiction::Account)),
        (1, "ACC-2", Some(Contradiction::Account)),
        (0, "ACC-2", Some(Contradiction::Receiver)),
    ] {
        let callback = paid_callback(&number, receiver, &theirs[signer]);
        let evidence = adapter
            .read_callback(Callback::of_institution(&callback), now)
            .unwrap()
            .evidence(CNY);
        let account = AccountId::parse(["tea", "books"][signer]).unwrap();
        assert_eq!(evidence.accounts, Some(vec![account]));
        let applied = order.apply(&evidence, adapter.facts(), now);
        match expected {
            None => assert!(matches!(applied, Applied::Commit(_)), "{applied:?}"),
            Some(why) => assert_eq!(applied, Applied::Quarantine(why), "{signer} {receiver}"),
        }
        // C4: it is answered as the account that it names.
        let answer = adapter.acknowledge(
            Callback::of_institution(&callback),
            Acknowledgement::Recorded,
            "r",
            &stamp(NOW_S),
        );
        let question = Question::of(&callback, CALLBACK_URL).unwrap();
        let ring = &ours[usize::from(receiver == "ACC-2")];
        assert!(verify_response(&answer, &question, ring, NOW_S).is_ok());
    }
    let unknown_key = paid_callback(&number, "ACC-1", &key("harbour-1"));
    let read = adapter.read_callback(Callback::of_institution(&unknown_key), now);
    assert_eq!(read.err(), Some(Unverified::Unverified("signature")));
}

/// C1, C2, E3: a key that is enrolled for several accounts proves nothing about another one's attempt, whatever
/// receiver the message names; of its own accounts it does, with the receiver of the attempt.
#[test]
fn a_key_of_several_accounts_is_evidence_of_those_only() {
    let theirs = key("harbour-1");
    let one =
        |id: &str, number: &str| account(id, number, key("paymux-1"), vec![enrolled(&theirs, id)]);
    let now = Timestamp::from_s(NOW_S);
    let mut provider = one("platform", "PAYMUX");
    provider.role = AccountRole::Provider;
    let adapter = built(vec![one("tea", "ACC-1"), one("books", "ACC-2"), provider]);
    for (account, receiver, named, expected) in [
        ("tea", "ACC-1", "ACC-1", None),
        ("books", "ACC-2", "ACC-2", None),
        ("platform", "SUB-7", "SUB-7", None),
        // Its money moved from an account of its own to the provider's, under one number.
        ("platform", "ACC-1", "ACC-1", None),
        ("tea", "ACC-1", "ACC-2", Some(Contradiction::Receiver)),
        ("toys", "ACC-3", "ACC-3", Some(Contradiction::Account)),
    ] {
        let mut order = order_with(AttemptState::Accepted, Mode::Webview);
        order.attempts[0].account = AccountId::parse(account).unwrap();
        order.attempts[0].receiver = ReceiverId::parse(receiver).unwrap();
        let callback = paid_callback(order.attempts[0].id.as_str(), named, &theirs);
        let evidence = adapter
            .read_callback(Callback::of_institution(&callback), now)
            .unwrap()
            .evidence(CNY);
        let applied = order.apply(&evidence, adapter.facts(), now);
        match expected {
            None => assert!(
                matches!(applied, Applied::Commit(_)),
                "{account}: {applied:?}"
            ),
            Some(why) => assert_eq!(applied, Applied::Quarantine(why), "{account} {named}"),
        }
    }
}

/// C1, C2: one key that two accounts enrol with different days proves the messages of both.
#[test]
fn a_key_enrolled_with_other_days_is_both_accounts() {
    let theirs = key("harbour-1");
    let until = |id: &str, number: &str, days: i64| {
        let mut enrolled = enrolled(&theirs, id);
        enrolled.not_after_s = NOW_S + days * 86_400;
        account(id, number, key("paymux-1"), vec![enrolled])
    };
    let adapter = built(vec![until("books", "ACC-2", 1), until("tea", "ACC-1", 9)]);
    let now = Timestamp::from_s(NOW_S);
    let order = order_with(AttemptState::Accepted, Mode::Webview);
    let callback = paid_callback(order.attempts[0].id.as_str(), "ACC-1", &theirs);
    let evidence = adapter
        .read_callback(Callback::of_institution(&callback), now)
        .unwrap()
        .evidence(CNY);
    let accounts = ["books", "tea"].map(|id| AccountId::parse(id).unwrap());
    assert_eq!(evidence.accounts, Some(accounts.to_vec()));
}
