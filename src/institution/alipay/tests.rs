//! The protocol's published vectors, byte for byte, and what hostile messages prove.

mod account;
mod hostile;
mod vectors;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::account::AlipayAccount;
use super::settings::{
    ALIPAY_CERTIFICATE, ALIPAY_PUBLIC_KEY, ALIPAY_ROOT, APP_CERTIFICATE, APP_ID, KEY,
};
use crate::crypto::pem;
use crate::crypto::rsa::{RsaPrivateKey, RsaScheme};
use crate::domain::identifiers::{AccountId, ReceiverId};
use crate::domain::institutions::AccountRole;
use crate::domain::personal::payer_context::PayerAppId;
use crate::institution::{
    ConfiguredAccount, SecretText, SettingValue, SettingValues, SettingsFault,
};
use crate::signature::{Algorithm, VerifyingKey};

/// The application and the merchant of every vector.
pub(super) const OUR_APP: &str = "2021000123456789";
pub(super) const SELLER: &str = "2088123412341234";

const KEYS: &str = include_str!("../../crypto/tests/vectors/institutions_rsa.json");
const CERTIFICATES: &str = include_str!("../../crypto/tests/vectors/certificates.json");

/// A published test key: `pkcs8`, `pkcs1` or `spki` of `ours` or `theirs`, in Base64.
fn key_text(whose: &str, form: &str) -> String {
    let all: Value = serde_json::from_str(KEYS).unwrap();
    let text = &all["keys"][format!("Alipay, {whose}").as_str()][form];
    text.as_str().unwrap().to_owned()
}

/// The published certificates under this name, in DER.
fn certificates(names: &[&str]) -> Vec<Box<[u8]>> {
    let all: Value = serde_json::from_str(CERTIFICATES).unwrap();
    let texts = names
        .iter()
        .map(|name| all["alipay"][name].as_str().unwrap());
    let ders = texts.flat_map(|text| pem::read_blocks(pem::CERTIFICATE, text));
    ders.map(|der| der.unwrap().into()).collect()
}

/// What the institution signs with.
fn their_key() -> RsaPrivateKey {
    RsaPrivateKey::from_text(&key_text("theirs", "pkcs8"), RsaScheme::Pkcs1Sha256).unwrap()
}

fn signature(key: &RsaPrivateKey, text: &str) -> String {
    STANDARD.encode(key.sign(text.as_bytes()).unwrap())
}

fn verifying(whose: &str) -> SettingValue {
    let der = pem::read_bare(&key_text(whose, "spki")).unwrap();
    let text = pem::write(pem::PUBLIC_KEY, &der);
    let algorithm = Algorithm::parse("rsa-v1_5-sha256").unwrap();
    SettingValue::PublicKey(VerifyingKey::of_algorithm(algorithm, &text).unwrap())
}

/// The settings of the account of the vectors, without what proves answers.
fn values() -> SettingValues {
    let key = SecretText::new(&key_text("ours", "pkcs8"));
    SettingValues::default()
        .with(
            APP_ID,
            SettingValue::App(PayerAppId::parse(OUR_APP).unwrap()),
        )
        .with(KEY, SettingValue::Secret(key))
}

fn with_public_key() -> SettingValues {
    values().with(ALIPAY_PUBLIC_KEY, verifying("theirs"))
}

fn with_certificates() -> SettingValues {
    let certificate = |names: &[&str]| SettingValue::Certificate(certificates(names));
    values()
        .with(APP_CERTIFICATE, certificate(&["app"]))
        .with(ALIPAY_CERTIFICATE, certificate(&["alipay", "intermediate"]))
        .with(ALIPAY_ROOT, certificate(&["roots"]))
}

fn built(values: SettingValues) -> Result<AlipayAccount, SettingsFault> {
    let configured = ConfiguredAccount {
        id: AccountId::parse("shop").unwrap(),
        role: AccountRole::Direct,
        receiver: ReceiverId::parse(SELLER).unwrap(),
        values,
    };
    AlipayAccount::new(
        configured,
        "https://pay.example/v1/callbacks/ali/shop".into(),
    )
}

/// The account of the vectors in key mode.
pub(super) fn account() -> AlipayAccount {
    built(with_public_key()).unwrap()
}
