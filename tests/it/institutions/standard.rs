//! The institution of the `standard` dialect: its keys, its signatures, and what only it can be
//! asked.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use paymux::domain::attempt::AttemptState;
use paymux::domain::identifiers::InstitutionId;
use paymux::domain::institutions::Mode;
use paymux::institution::{ALWAYS, Asked, Call, Institution, Settings, SettingsFault, kind};
use paymux::signature::{
    Covering, EnrolledKey, KeyRing, Question, SigningKey, VerifyingKey, sign_request,
    sign_response, verify_response,
};

use super::recorded::{NOW_S, order_with};
use super::{Rig, Signer, sent, stamp};

const CALLBACK_URL: &str = "https://pay.example/v1/callbacks/harbour";

struct Standard {
    adapter: Arc<dyn Institution>,
    ours: KeyRing,
    institution: SigningKey,
    other: SigningKey,
    stranger: SigningKey,
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

fn settings(signing: SigningKey, keys: KeyRing) -> Settings {
    Settings {
        id: InstitutionId::parse("harbour").unwrap(),
        origin: "https://harbour.example:8443".to_owned(),
        callback_origin: "https://pay.example".to_owned(),
        merchant_name: None,
        signing: Arc::new(signing),
        signs_within: ALWAYS,
        keys,
        facts: kind("standard").unwrap().facts.clone(),
    }
}

pub(super) fn rig() -> impl Rig {
    let (ours, institution, other) = (key("paymux-1"), key("harbour-1"), key("lagoon-1"));
    let ring = KeyRing::new(vec![
        enrolled(&institution, "harbour"),
        enrolled(&other, "lagoon"),
    ])
    .unwrap();
    Standard {
        ours: KeyRing::new(vec![enrolled(&ours, "paymux")]).unwrap(),
        adapter: (kind("standard").unwrap().build)(settings(ours, ring)).unwrap(),
        institution,
        other,
        stranger: key("harbour-1"),
    }
}

impl Standard {
    fn key(&self, as_whom: Signer) -> &SigningKey {
        match as_whom {
            Signer::Institution => &self.institution,
            Signer::Other => &self.other,
            Signer::Stranger => &self.stranger,
        }
    }
}

impl Rig for Standard {
    fn adapter(&self) -> &dyn Institution {
        self.adapter.as_ref()
    }

    fn callback(&self, body: Bytes) -> Request<Bytes> {
        Request::post("/v1/callbacks/harbour")
            .header("content-type", "application/json")
            .body(body)
            .unwrap()
    }

    fn sign_callback(&self, callback: &mut Request<Bytes>, as_whom: Signer, created_s: i64) {
        let covering = Covering {
            created_s,
            expires_s: Some(created_s + 300),
            nonce: Some("0123456789abcdef"),
        };
        sign_request(callback, CALLBACK_URL, self.key(as_whom), &covering).unwrap();
    }

    fn sign_reply(&self, reply: &mut Response<Bytes>, to: &Asked, as_whom: Signer) {
        sign_response(reply, to.0.as_ref(), self.key(as_whom), NOW_S).unwrap();
    }

    fn is_ours(&self, answer: &Response<Bytes>, to: &Request<Bytes>) -> bool {
        let question = Question::of(to, CALLBACK_URL).unwrap();
        verify_response(answer, &question, &self.ours, NOW_S).is_ok()
    }
}

/// C1: where we call and where we are called is settled before anything is called.
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
        let mut settings = settings(key("paymux-1"), KeyRing::default());
        settings.origin = bad.to_owned();
        let built = (kind("standard").unwrap().build)(settings);
        assert_eq!(
            built.err(),
            Some(SettingsFault::NotAnOrigin("origin")),
            "{bad}"
        );
    }
    assert!(kind("no-such-kind").is_none());
}

/// Q5, A3: no two calls share a nonce, not even a create and its repeat, which share the draw.
#[test]
fn each_call_has_a_nonce_of_its_own() {
    let rig = rig();
    let order = order_with(AttemptState::Intent, Mode::Webview);
    let (attempt, terms) = (&order.attempts[0], &*order.terms);
    let create = Call::Create(attempt, terms);
    let mut nonces = Vec::new();
    for (call, at_s) in [
        (create, NOW_S),
        (create, NOW_S + 1),
        (Call::Query(attempt, terms), NOW_S),
        (Call::Close(attempt, terms), NOW_S),
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
