//! UnionPay's side of the dialect: it signs messages with the certificates of the recorded vectors.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response};
use paymux::crypto::certificate::Certificate;
use paymux::crypto::digest::sha256;
use paymux::crypto::hex;
use paymux::crypto::rsa::{RsaPrivateKey, RsaPublicKey, RsaScheme};
use paymux::domain::identifiers::{AccountId, InstitutionId, ReceiverId};
use paymux::domain::institutions::AccountRole;
use paymux::institution::{
    Acknowledgement, CallState, ConfiguredAccount, ConfiguredInstitution, Institution, SecretText,
    SettingValue, SettingValues, kind,
};
use serde_json::Value;

use super::super::recorded::ACCOUNT;
use super::super::rig::{DialectRig, SignedBy};

/// Keys and certificates that were made for tests.
const VECTORS: &str = include_str!("../../../../src/institution/unionpay/tests/vectors.json");

/// Our number, and where it is.
pub(super) const MER_ID: &str = "777290058110048";
const ORIGIN: &str = "https://gateway.95516.com";

pub(in crate::institutions) struct UnionPayRig {
    pub(super) adapter: Arc<dyn Institution>,
    account: AccountId,
    institution: RsaPrivateKey,
    ours: RsaPrivateKey,
    our_public: RsaPublicKey,
}

pub(super) fn vector(name: &str) -> String {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    vectors[name].as_str().unwrap().to_owned()
}

fn private(name: &str) -> RsaPrivateKey {
    RsaPrivateKey::from_text(&vector(name), RsaScheme::Pkcs1Sha256).unwrap()
}

pub(in crate::institutions) fn rig() -> UnionPayRig {
    rig_with(AccountRole::Direct, &[])
}

/// With an account of this role and these further settings.
pub(super) fn rig_with(role: AccountRole, more: &[(&'static str, &str)]) -> UnionPayRig {
    let text = |text: &str| SettingValue::Text(text.into());
    let certificate = |name: &str| Certificate::from_pem(&vector(name)).unwrap();
    let chain = |name: &str| SettingValue::Certificate(vec![certificate(name).der().into()]);
    let key = SecretText::new(&vector("merchant_key"));
    let values = SettingValues::default()
        .with("mer_id", text(MER_ID))
        .with("sign_method", text("01"))
        .with("environment", text("production"))
        .with("key", SettingValue::Secret(key))
        .with("certificate", chain("merchant_certificate"))
        .with("middle", chain("middle_certificate"))
        .with("root", chain("root_certificate"));
    let values = more.iter().fold(values, |values, (name, value)| {
        values.with(name, text(value))
    });
    let account = ConfiguredAccount {
        id: AccountId::parse(ACCOUNT).unwrap(),
        role,
        receiver: ReceiverId::parse(MER_ID).unwrap(),
        values,
    };
    let kind = kind("unionpay").unwrap();
    let adapter = (kind.build)(ConfiguredInstitution {
        id: InstitutionId::parse("harbour").unwrap(),
        callback_origin: "https://pay.example".to_owned(),
        facts: kind.facts(),
        values: SettingValues::default().with("url", text(ORIGIN)),
        accounts: vec![account],
    });
    let ours = certificate("merchant_certificate");
    let our_public = RsaPublicKey::from_spki(ours.public_key(), RsaScheme::Pkcs1Sha256);
    UnionPayRig {
        adapter: adapter.unwrap(),
        account: AccountId::parse(ACCOUNT).unwrap(),
        institution: private("unionpay_key"),
        ours: private("merchant_key"),
        our_public: our_public.unwrap(),
    }
}

/// The names and values of a message.
pub(super) type WireFields = BTreeMap<String, String>;

/// What is signed: twice hashed.
fn digest_text(fields: &WireFields) -> String {
    let signed = fields
        .iter()
        .filter(|(name, value)| *name != "signature" && !value.is_empty());
    hex::lower(&sha256(raw(signed).as_bytes()))
}

/// The text of an answer.
pub(super) fn raw<'a>(fields: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    let pairs = fields.map(|(name, value)| format!("{name}={value}"));
    pairs.collect::<Vec<_>>().join("&")
}

/// The text of a form.
pub(super) fn form(fields: &WireFields) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(fields);
    form.finish()
}

/// The fields of a form of ours or of UnionPay's, no name twice.
pub(super) fn form_fields(body: &[u8]) -> WireFields {
    let mut fields = WireFields::new();
    for (name, value) in form_urlencoded::parse(body) {
        let before = fields.insert(name.clone().into_owned(), value.into_owned());
        assert_eq!(before, None, "{name} twice");
    }
    fields
}

/// The content of a recording; `None` for what is no object of texts, or endless.
fn recorded_fields(content: &[u8]) -> Option<WireFields> {
    let is_short = content.len() < 1 << 16;
    is_short.then(|| serde_json::from_slice(content).ok())?
}

/// The fields of a raw text; `None` for what is none.
fn raw_fields(text: &[u8]) -> Option<WireFields> {
    let text = std::str::from_utf8(text).ok()?;
    let (mut depth, mut pairs) = (0, vec![String::new()]);
    for letter in text.chars() {
        match letter {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            _ => (),
        }
        if letter == '&' && depth == 0 {
            pairs.push(String::new());
        } else {
            pairs.last_mut()?.push(letter);
        }
    }
    let pairs = pairs.iter().map(|pair| {
        let (name, value) = pair.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    });
    pairs.collect()
}

impl UnionPayRig {
    /// The same message with certificate and signature.
    pub(super) fn signed(&self, mut fields: WireFields, as_whom: SignedBy) -> WireFields {
        let (key, certificate) = match as_whom {
            SignedBy::Institution => (&self.institution, "unionpay_certificate"),
            SignedBy::Other => (&self.ours, "merchant_certificate"),
            SignedBy::UnknownKey => (&self.ours, "unionpay_certificate"),
        };
        let method = ("signMethod".to_owned(), "01".to_owned());
        fields.entry(method.0).or_insert(method.1);
        fields.insert("signPubKeyCert".to_owned(), vector(certificate));
        let signature = key.sign(digest_text(&fields).as_bytes()).unwrap();
        fields.insert("signature".to_owned(), STANDARD.encode(signature));
        fields
    }

    /// Whether UnionPay takes this message as ours.
    pub(super) fn is_our_message(&self, fields: &WireFields) -> bool {
        let signature = STANDARD.decode(&fields["signature"]).unwrap();
        assert_eq!(fields["certId"], "68759663125");
        self.our_public
            .verify(digest_text(fields).as_bytes(), &signature)
    }

    /// A signed answer with these fields.
    pub(super) fn answer(&self, fields: &[(&str, &str)]) -> Response<Bytes> {
        let fields = fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let signed = self.signed(fields.collect(), SignedBy::Institution);
        Response::new(raw(signed.iter()).into())
    }

    /// A signed notification with these fields.
    pub(super) fn notification(&self, fields: &WireFields) -> Request<Bytes> {
        let signed = self.signed(fields.clone(), SignedBy::Institution);
        posted(form(&signed).into())
    }
}

pub(super) fn posted(body: Bytes) -> Request<Bytes> {
    Request::post("/v1/callbacks/harbour/ACC-1")
        .header(
            "content-type",
            "application/x-www-form-urlencoded;charset=UTF-8",
        )
        .body(body)
        .unwrap()
}

impl DialectRig for UnionPayRig {
    fn adapter(&self) -> &dyn Institution {
        self.adapter.as_ref()
    }

    fn account(&self) -> Option<&AccountId> {
        Some(&self.account)
    }

    /// The body holds the fields of the form. What is no object of texts is sent as it is.
    fn callback(&self, body: Bytes) -> Request<Bytes> {
        posted(recorded_fields(&body).map_or(body, |fields| form(&fields).into()))
    }

    fn sign_callback(&self, callback: &mut Request<Bytes>, as_whom: SignedBy, _: i64) {
        if callback.body().starts_with(b"{") || callback.body().is_empty() {
            return;
        }
        let fields = form_fields(callback.body());
        *callback.body_mut() = form(&self.signed(fields, as_whom)).into();
    }

    /// The content holds the fields of the answer; a text is an answer that has none.
    fn reply_body(&self, content: Bytes, _: &Request<Bytes>) -> Bytes {
        if let Some(fields) = recorded_fields(&content) {
            return raw(fields.iter()).into();
        }
        let text: Option<String> = serde_json::from_slice(&content).ok();
        text.map_or(content, Bytes::from)
    }

    fn sign_reply(&self, reply: &mut Response<Bytes>, _: &CallState, as_whom: SignedBy) {
        if let Some(fields) = raw_fields(reply.body()) {
            let signed = self.signed(fields, as_whom);
            *reply.body_mut() = raw(signed.iter()).into();
        }
    }

    fn is_ours(&self, _: &Response<Bytes>, _: &Request<Bytes>) -> Option<bool> {
        None
    }

    /// The fields without the signature, which is ours.
    fn lasting(&self, request: &Request<Bytes>) -> Bytes {
        let mut fields = form_fields(request.body());
        assert!(self.is_our_message(&fields));
        fields.remove("signature");
        serde_json::to_vec(&fields).unwrap().into()
    }

    /// A transaction is identified by its number and the time of the first sending: an equal request
    /// is the same one.
    fn fresh(&self, _: &Request<Bytes>) -> Option<String> {
        None
    }

    fn unlisted(&self) -> &[&str] {
        &["0", "000", "a6", "81", "SUCCESS", "", "00 ", " 00"]
    }

    fn callback_ages(&self) -> &[(i64, bool)] {
        &[]
    }

    fn altered(&self) -> &[&str] {
        &[
            "forged certificate",
            "forged chain",
            "forged encoding",
            "forged form",
            "forged owner",
            "forged sign_method",
            "forged signature",
            "forged version",
        ]
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

    /// Only the status counts.
    fn is_refusal(&self, answer: &Response<Bytes>, _: &str) -> bool {
        assert!(answer.body().is_empty());
        answer.status() != 200
    }
}
