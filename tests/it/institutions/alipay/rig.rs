//! The institution's side of the dialect, with the protocol's published test keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response};
use paymux::crypto::pem;
use paymux::crypto::rsa::{RsaPrivateKey, RsaPublicKey, RsaScheme};
use paymux::domain::attempt::AttemptState;
use paymux::domain::identifiers::{AccountId, InstitutionId, ProductId, ReceiverId};
use paymux::domain::institutions::{AccountRole, Mode};
use paymux::domain::order::Order;
use paymux::domain::personal::payer_context::{PayerAppId, PayerIdentity, PayerOpenId};
use paymux::institution::{
    Acknowledgement, CallState, ConfiguredAccount, ConfiguredInstitution, Institution, SecretText,
    SettingValue, SettingValues, kind,
};
use paymux::signature::{Algorithm, VerifyingKey};
use serde_json::Value;

use super::super::recorded::{self, ACCOUNT};
use super::super::rig::{DialectRig, SignedBy};

/// Our application and our number as a merchant.
pub(super) const APP: &str = "2021000123456789";
pub(super) const SELLER: &str = "2088123412341234";

const KEYS: &str = include_str!("../../../../src/crypto/tests/vectors/institutions_rsa.json");

/// What the gateway answers itself is recorded with its node.
const ERROR_NODE: &[u8] = br#"{"error_response":"#;

/// The institution, and our adapter for it.
pub(in crate::institutions) struct AlipayRig {
    pub(super) adapter: Arc<dyn Institution>,
    account: AccountId,
    institution: RsaPrivateKey,
    ours: RsaPrivateKey,
    our_public: RsaPublicKey,
    other: RsaPrivateKey,
}

fn key_text(whose: &str, form: &str) -> String {
    let all: Value = serde_json::from_str(KEYS).unwrap();
    all["keys"][whose][form].as_str().unwrap().to_owned()
}

fn private(whose: &str) -> RsaPrivateKey {
    RsaPrivateKey::from_text(&key_text(whose, "pkcs8"), RsaScheme::Pkcs1Sha256).unwrap()
}

pub(in crate::institutions) fn rig() -> AlipayRig {
    rig_with(AccountRole::Direct, SettingValues::default())
}

/// With an account in this role and these settings besides the usual ones.
pub(super) fn rig_with(role: AccountRole, more: SettingValues) -> AlipayRig {
    let der = pem::read_bare(&key_text("Alipay, theirs", "spki")).unwrap();
    let algorithm = Algorithm::parse("rsa-v1_5-sha256").unwrap();
    let public = VerifyingKey::of_algorithm(algorithm, &pem::write(pem::PUBLIC_KEY, &der));
    let key = SecretText::new(&key_text("Alipay, ours", "pkcs8"));
    let values = more
        .with("app_id", SettingValue::App(PayerAppId::parse(APP).unwrap()))
        .with("key", SettingValue::Secret(key))
        .with(
            "alipay_public_key",
            SettingValue::PublicKey(public.unwrap()),
        );
    let account = AccountId::parse(ACCOUNT).unwrap();
    let settings = ConfiguredInstitution {
        id: InstitutionId::parse("harbour").unwrap(),
        callback_origin: "https://pay.example".to_owned(),
        facts: kind("alipay").unwrap().facts(),
        values: SettingValues::default().with(
            "url",
            SettingValue::Text("https://openapi.alipay.example".into()),
        ),
        accounts: vec![ConfiguredAccount {
            id: account.clone(),
            role,
            receiver: ReceiverId::parse(SELLER).unwrap(),
            values,
        }],
    };
    let our_public = key_text("Alipay, ours", "spki");
    AlipayRig {
        adapter: (kind("alipay").unwrap().build)(settings).unwrap(),
        account,
        institution: private("Alipay, theirs"),
        ours: private("Alipay, ours"),
        our_public: RsaPublicKey::from_text(&our_public, RsaScheme::Pkcs1Sha256).unwrap(),
        other: private("UnionPay, theirs"),
    }
}

impl AlipayRig {
    fn sign(&self, text: &[u8], as_whom: SignedBy) -> String {
        let key = match as_whom {
            SignedBy::Institution => &self.institution,
            SignedBy::Other => &self.other,
            // The institution has our public key, too.
            SignedBy::UnknownKey => &self.ours,
        };
        STANDARD.encode(key.sign(text).unwrap())
    }

    /// Whether the institution takes these parameters as ours.
    pub(super) fn is_ours(&self, parameters: &BTreeMap<String, String>) -> bool {
        let signed = parameters.iter().filter(|(name, _)| *name != "sign");
        let text = joined(signed.map(|(name, value)| (name.as_str(), value.as_str())));
        let signature = STANDARD.decode(&parameters["sign"]).unwrap();
        self.our_public.verify(text.as_bytes(), &signature)
    }
}

impl DialectRig for AlipayRig {
    fn adapter(&self) -> &dyn Institution {
        self.adapter.as_ref()
    }

    fn account(&self) -> Option<&AccountId> {
        Some(&self.account)
    }

    /// The body holds the fields of the form. What is no object of texts is sent as it is.
    fn callback(&self, body: Bytes) -> Request<Bytes> {
        let is_short = body.len() < 1 << 16;
        let fields: Option<BTreeMap<String, String>> = serde_json::from_slice(&body).ok();
        let body = match fields.filter(|_| is_short) {
            Some(fields) => form(fields.iter().map(|(name, value)| (&**name, &**value))).into(),
            None => body,
        };
        Request::post("/v1/callbacks/harbour/ACC-1")
            .header(
                "content-type",
                "application/x-www-form-urlencoded; charset=utf-8",
            )
            .body(body)
            .unwrap()
    }

    fn sign_callback(&self, callback: &mut Request<Bytes>, as_whom: SignedBy, _: i64) {
        let fields: BTreeMap<_, _> = form_urlencoded::parse(callback.body()).collect();
        let covered = fields
            .iter()
            .filter(|(name, value)| *name != "sign_type" && !value.is_empty());
        let text = joined(covered.map(|(name, value)| (&**name, &**value)));
        let sign = form([("sign", &*self.sign(text.as_bytes(), as_whom))].into_iter());
        let signed = [callback.body(), &b"&"[..], sign.as_bytes()].concat();
        *callback.body_mut() = signed.into();
    }

    /// The content is the node of the method that was called.
    fn reply_body(&self, content: Bytes, request: &Request<Bytes>) -> Bytes {
        if content.starts_with(ERROR_NODE) {
            return content;
        }
        let name = parameters(request)["method"].replace('.', "_");
        let start = format!(r#"{{"{name}_response":"#);
        [start.as_bytes(), &content, b"}"].concat().into()
    }

    fn sign_reply(&self, reply: &mut Response<Bytes>, _: &CallState, as_whom: SignedBy) {
        let body = reply.body();
        let start = body.iter().position(|byte| *byte == b':').map(|at| at + 1);
        let node = &body[start.unwrap_or(0)..body.len().saturating_sub(1).max(start.unwrap_or(0))];
        let sign = format!(r#","sign":"{}"}}"#, self.sign(node, as_whom));
        let kept = &body[..body.len().saturating_sub(1)];
        let signed = [kept, sign.as_bytes()].concat();
        *reply.body_mut() = signed.into();
    }

    fn is_ours(&self, _: &Response<Bytes>, _: &Request<Bytes>) -> Option<bool> {
        None
    }

    /// The parameters without time and signature.
    fn lasting(&self, request: &Request<Bytes>) -> Bytes {
        let mut parameters = parameters(request);
        assert!(AlipayRig::is_ours(self, &parameters));
        for name in ["timestamp", "sign"] {
            parameters.remove(name);
        }
        serde_json::to_vec(&parameters).unwrap().into()
    }

    fn fresh(&self, request: &Request<Bytes>) -> Option<String> {
        let parameters = parameters(request);
        Some(format!(
            "{} {}",
            parameters["timestamp"], parameters["sign"]
        ))
    }

    fn unlisted(&self) -> &[&str] {
        &[
            "SUCCESS",
            "paid",
            "TRADE_SUCCESS ",
            "ACQ.trade_not_exist",
            "-",
        ]
    }

    fn callback_ages(&self) -> &[(i64, bool)] {
        &[]
    }

    fn altered(&self) -> &[&str] {
        &[
            "forged signature",
            "forged form",
            "forged charset",
            "forged sign_type",
        ]
    }

    fn acknowledged(&self) -> [(Acknowledgement, u16); 6] {
        [
            (Acknowledgement::Recorded, 200),
            (Acknowledgement::TryAgain, 503),
            (Acknowledgement::UnknownReference, 404),
            (Acknowledgement::Quarantined, 200),
            (Acknowledgement::Unreadable, 400),
            (Acknowledgement::Unverified, 401),
        ]
    }

    fn is_refusal(&self, answer: &Response<Bytes>, _: &str) -> bool {
        assert_eq!(answer.headers()["content-type"], "text/plain");
        assert!(["success", "fail"].contains(&std::str::from_utf8(answer.body()).unwrap()));
        answer.body() == "fail"
    }

    fn believes_unsigned_refusals(&self) -> bool {
        true
    }
}

/// `name=value`, joined by `&`.
fn joined<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let pairs = pairs.map(|(name, value)| format!("{name}={value}"));
    pairs.collect::<Vec<_>>().join("&")
}

/// An escaped form.
fn form<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(pairs);
    form.finish()
}

/// The parameters of a request: its query and its body, no name twice.
pub(super) fn parameters(request: &Request<Bytes>) -> BTreeMap<String, String> {
    let query = request.uri().query().unwrap_or_default();
    let mut all = BTreeMap::new();
    for text in [query.as_bytes(), request.body()] {
        for (name, value) in form_urlencoded::parse(text) {
            let before = all.insert(name.clone().into_owned(), value.into_owned());
            assert_eq!(before, None, "{name} twice");
        }
    }
    all
}

pub(super) fn product(id: &str) -> ProductId {
    ProductId::parse(id).unwrap()
}

fn at_alipay(mut order: Order, id: &str) -> Order {
    let attempt = &mut order.attempts[0];
    attempt.receiver = ReceiverId::parse(SELLER).unwrap();
    attempt.product = product(id);
    let open_id = "074a1CcTG1LelxKe4xQC0zgNdId0nxi95b5lsNpazWYoCo5";
    attempt.payer.identity = (id == "CREATE").then(|| PayerIdentity {
        open_id: PayerOpenId::parse(open_id).unwrap(),
        app: PayerAppId::parse(APP).unwrap(),
    });
    order
}

/// An open order of 12.30 yuan with one attempt.
pub(super) fn order_with(state: AttemptState, id: &str) -> Order {
    at_alipay(recorded::order_with(state, Mode::Webview), id)
}

/// A paid order of 12.30 yuan, with a refund of 5.00 in progress.
pub(super) fn order_with_refund(state: &str, id: &str) -> Order {
    at_alipay(recorded::order_with_refund(state, Mode::Webview), id)
}
