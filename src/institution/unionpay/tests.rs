//! Vectors that were confirmed with the vendor's library, byte for byte, and what must not pass beside
//! them. All keys in them were made for tests.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::crypto::certificate::Certificate;
use crate::crypto::pem;
use crate::crypto::sm2::{Sm2Encoding, Sm2PublicKey};
use crate::domain::identifiers::{AccountId, InstitutionId, ReceiverId, Timestamp};
use crate::domain::institutions::AccountRole;
use crate::institution::unionpay::KIND;
use crate::institution::unionpay::accounts::{UnionPayAccess, UnionPayAccount, UnionPayAccounts};
use crate::institution::unionpay::message::{SIGNATURE, UnionPayMessage};
use crate::institution::unionpay::signing::{
    UnionPayProvingKey, UnionPaySignMethod, UnionPaySigner,
};
use crate::institution::unionpay::trust::{
    UnionPayEnvironment, UnionPayTrustAnchors, UnionPayUnproven,
};
use crate::institution::{
    ConfiguredAccount, ConfiguredInstitution, SecretText, SettingValue, SettingValues,
    SettingsFault,
};

const VECTORS: &str = include_str!("tests/vectors.json");

/// A time of the vectors, one at which the certificates with SM2 are valid, and one at which none is.
const THEN: Timestamp = Timestamp::from_s(1_767_225_600);
const LATER: Timestamp = Timestamp::from_s(1_798_761_600);
const TOO_LATE: Timestamp = Timestamp::from_s(2_398_761_600);

fn vector(pointer: &str) -> String {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let found = vectors.pointer(pointer).and_then(Value::as_str);
    found
        .unwrap_or_else(|| panic!("no text at {pointer}"))
        .to_owned()
}

fn certificate(pointer: &str) -> Certificate {
    Certificate::from_pem(&vector(pointer)).unwrap()
}

/// The folder of the vectors with the certificates of a method.
fn folder(method: UnionPaySignMethod) -> &'static str {
    match method {
        UnionPaySignMethod::Rsa => "",
        UnionPaySignMethod::Sm2 => "/sm2",
    }
}

fn trust(method: UnionPaySignMethod, environment: UnionPayEnvironment) -> UnionPayTrustAnchors {
    let of = folder(method);
    let middle = certificate(&format!("{of}/middle_certificate"));
    let root = certificate(&format!("{of}/root_certificate"));
    UnionPayTrustAnchors::new(method, environment, vec![middle], vec![root])
}

fn production() -> UnionPayTrustAnchors {
    trust(UnionPaySignMethod::Rsa, UnionPayEnvironment::Production)
}

/// A signer of ours, or of UnionPay.
fn signer(method: UnionPaySignMethod, whose: &str) -> UnionPaySigner {
    let of = folder(method);
    let key = vector(&format!("{of}/{whose}_key"));
    let certificate = certificate(&format!("{of}/{whose}_certificate"));
    UnionPaySigner::new(method, &key, &certificate).unwrap()
}

/// The recorded request without what signing adds.
fn request(name: &str) -> UnionPayMessage {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let params = vectors[name]["params"].as_object().unwrap();
    let of_signing = ["signMethod", "certId"];
    params
        .iter()
        .filter(|(name, _)| !of_signing.contains(&name.as_str()))
        .fold(UnionPayMessage::default(), |message, (name, value)| {
            message.with(name, value.as_str().unwrap())
        })
}

/// The same message with one field changed, or without it.
fn changed(message: &UnionPayMessage, name: &str, value: Option<&str>) -> UnionPayMessage {
    let fields = message.clone().into_fields().into_iter();
    let kept = fields.filter(|(known, _)| known != name);
    let message = kept.fold(UnionPayMessage::default(), |message, (name, value)| {
        let text = UnionPayMessage::from_raw(format!("x={value}").as_bytes()).unwrap();
        message.with(&name, text.get("x").unwrap())
    });
    message.with(name, value.unwrap_or_default())
}

/// A message as UnionPay signs it, with the certificate of this party in it.
fn message_of(method: UnionPaySignMethod, whose: &str) -> UnionPayMessage {
    let of = folder(method);
    let text = vector(&format!("{of}/{whose}_certificate"));
    let message = UnionPayMessage::default()
        .with("version", "5.1.0")
        .with("encoding", "UTF-8")
        .with("respCode", "00")
        .with("signPubKeyCert", &text);
    signer(method, whose).signed(message).unwrap()
}

fn answer(name: &str) -> UnionPayMessage {
    let raw = vector(&format!("/{name}/raw"));
    let read = match name {
        "v5" => UnionPayMessage::from_form(raw.as_bytes()),
        _ => UnionPayMessage::from_raw(raw.as_bytes()),
    };
    read.unwrap()
}

/// Q3: requests are signed as recorded: the text that is signed, its digest and the signature.
#[test]
fn requests_are_signed_byte_for_byte() {
    let ours = signer(UnionPaySignMethod::Rsa, "merchant");
    for name in ["v1", "v2", "v3", "v4", "v11"] {
        let signed = ours.signed(request(name)).unwrap();
        let text = signed.signed_text();
        assert_eq!(text, vector(&format!("/{name}/msg")), "{name}");
        let digest = UnionPaySignMethod::Rsa.digest_text(&text);
        assert_eq!(digest, vector(&format!("/{name}/hash")), "{name}");
        let signature = vector(&format!("/{name}/sig"));
        assert_eq!(signed.get(SIGNATURE), Some(signature.as_str()), "{name}");
        let again = UnionPayMessage::from_form(signed.form().as_bytes());
        // A value with a separator in it has two readings once it was signed.
        assert_eq!(again.is_some(), name != "v1", "{name}");
    }
}

/// C1: the recorded notification and answers are UnionPay's.
#[test]
fn recorded_messages_are_proven() {
    for name in ["v5", "v6", "v7"] {
        let read = answer(name);
        if name != "v7" {
            assert_eq!(
                read.signed_text(),
                vector(&format!("/{name}/msg")),
                "{name}"
            );
        }
        assert_eq!(
            read.get(SIGNATURE),
            Some(vector(&format!("/{name}/sig")).as_str())
        );
        let trust = production();
        // The second time its chain is remembered.
        for _ in 0..2 {
            assert_eq!(trust.verify(&read, THEN), Ok(()), "{name}");
        }
        let of_sm2 = trust_of_sm2(UnionPayEnvironment::Production);
        assert_eq!(
            of_sm2.verify(&read, THEN),
            Err(UnionPayUnproven::SignMethod)
        );
    }
    assert_eq!(
        answer("v6").get("reserved"),
        Some("{cardIssueName=Example&x=1}")
    );
}

fn trust_of_sm2(environment: UnionPayEnvironment) -> UnionPayTrustAnchors {
    trust(UnionPaySignMethod::Sm2, environment)
}

/// C1, Q3: one changed field, another party's certificate, another root, a certificate that is not
/// valid now, a weaker method and another encoding are each refused, with their own word.
#[test]
fn what_is_not_unionpays_is_not_proven() {
    let trust = production();
    let read = answer("v5");
    for (name, value, why) in [
        ("txnAmt", Some("1002"), UnionPayUnproven::Signature),
        ("txnAmt", None, UnionPayUnproven::Signature),
        (SIGNATURE, None, UnionPayUnproven::Signature),
        (SIGNATURE, Some("x"), UnionPayUnproven::Signature),
        (SIGNATURE, Some("AAAA"), UnionPayUnproven::Signature),
        ("extra", Some("1"), UnionPayUnproven::Signature),
        ("signPubKeyCert", None, UnionPayUnproven::Certificate),
        ("signPubKeyCert", Some("x"), UnionPayUnproven::Certificate),
        ("signMethod", None, UnionPayUnproven::SignMethod),
        ("signMethod", Some("11"), UnionPayUnproven::SignMethod),
        ("signMethod", Some("12"), UnionPayUnproven::SignMethod),
        ("version", Some("5.0.0"), UnionPayUnproven::Version),
        ("encoding", Some("GBK"), UnionPayUnproven::Encoding),
        ("encoding", None, UnionPayUnproven::Encoding),
    ] {
        let other = changed(&read, name, value);
        assert_eq!(trust.verify(&other, THEN), Err(why), "{name}={value:?}");
    }
    let text = vector("/someone_else/msg");
    let else_ = UnionPayMessage::from_raw(text.as_bytes()).unwrap();
    let signature = vector("/someone_else/sig");
    let else_ = else_.with(SIGNATURE, &signature);
    assert_eq!(trust.verify(&else_, THEN), Err(UnionPayUnproven::Owner));
    // Before, and remembered from when it was valid.
    assert_eq!(trust.verify(&read, THEN), Ok(()));
    for at in [
        Timestamp::from_s(1_700_000_000),
        TOO_LATE,
        Timestamp::from_s(-1),
    ] {
        assert_eq!(trust.verify(&read, at), Err(UnionPayUnproven::Chain));
    }
    let foreign = UnionPayTrustAnchors::new(
        UnionPaySignMethod::Rsa,
        UnionPayEnvironment::Test,
        vec![certificate("/sm2/middle_certificate")],
        vec![certificate("/sm2/root_certificate")],
    );
    assert_eq!(foreign.verify(&read, THEN), Err(UnionPayUnproven::Chain));
    let without_middle = UnionPayTrustAnchors::new(
        UnionPaySignMethod::Rsa,
        UnionPayEnvironment::Production,
        Vec::new(),
        vec![certificate("/root_certificate")],
    );
    assert_eq!(
        without_middle.verify(&read, THEN),
        Err(UnionPayUnproven::Chain)
    );
}

/// Q3: a signature of the text itself, which is hashed once only, is refused.
#[test]
fn a_single_hash_is_refused() {
    use crate::crypto::rsa::{RsaPrivateKey, RsaScheme};
    let key = vector("/unionpay_key");
    let key = RsaPrivateKey::from_text(&key, RsaScheme::Pkcs1Sha256).unwrap();
    let message = changed(&answer("v5"), SIGNATURE, None);
    let signature = STANDARD.encode(key.sign(message.signed_text().as_bytes()).unwrap());
    let message = message.with(SIGNATURE, &signature);
    let found = production().verify(&message, THEN);
    assert_eq!(found, Err(UnionPayUnproven::Signature));
}

/// C1: a notification whose fields were joined to hide or add one has the same signed text, and is
/// not read.
#[test]
fn a_signed_text_split_otherwise_is_not_read() {
    let raw = vector("/v5/raw");
    assert!(UnionPayMessage::from_form(raw.as_bytes()).is_some());
    for (whole, hidden) in [
        ("&respCode=00&respMsg=", "%26respCode%3D00&respMsg="),
        (
            "&txnAmt=1001&currencyCode=156",
            "&txnAmt=1001%26currencyCode%3D156",
        ),
    ] {
        assert!(raw.contains(whole));
        let other = raw.replacen(whole, hidden, 1);
        assert!(
            UnionPayMessage::from_form(other.as_bytes()).is_none(),
            "{hidden}"
        );
    }
}

/// Fields that came without a value are left out of the signed text, or stand in it without one.
#[test]
fn fields_without_a_value_are_signed_in_either_way() {
    let method = UnionPaySignMethod::Rsa;
    let plain = message_of(method, "unionpay");
    let body = |message: &UnionPayMessage| format!("{}&reqReserved=", message.form());
    let read = UnionPayMessage::from_form(body(&plain).as_bytes()).unwrap();
    assert_eq!(production().verify(&read, THEN), Ok(()));
    let text = changed(&plain, SIGNATURE, None);
    let text = UnionPayMessage::from_form(body(&text).as_bytes()).unwrap();
    let text = method.digest_text(&text.signed_text_with_empty().unwrap());
    let key = vector("/unionpay_key");
    let scheme = crate::crypto::rsa::RsaScheme::Pkcs1Sha256;
    let key = crate::crypto::rsa::RsaPrivateKey::from_text(&key, scheme).unwrap();
    let signature = STANDARD.encode(key.sign(text.as_bytes()).unwrap());
    let with_empty = changed(&plain, SIGNATURE, Some(&signature));
    let read = UnionPayMessage::from_form(body(&with_empty).as_bytes()).unwrap();
    assert_eq!(production().verify(&read, THEN), Ok(()));
    // Without the field it is not what was signed.
    let found = production().verify(&with_empty, THEN);
    assert_eq!(found, Err(UnionPayUnproven::Signature));
}

/// Q3: SM2 signs the digest's text too, under the number of the certificate, as 64 plain bytes.
#[test]
fn sm2_signs_under_the_number_of_the_certificate() {
    let method = UnionPaySignMethod::Sm2;
    assert_eq!(method.digest_text(&vector("/v9/msg")), vector("/v9/h"));
    let ours = certificate("/sm2/merchant_certificate");
    assert_eq!(ours.serial_decimal(), "68759663125");
    let key = UnionPayProvingKey::of(method, &ours).unwrap();
    let decoded = |name| STANDARD.decode(vector(name)).unwrap();
    assert!(key.verifies(&vector("/v9/msg"), &decoded("/v9/raw")));
    assert!(!key.verifies(&vector("/v9/msg"), &decoded("/v9/der")));
    assert!(!key.verifies("x", &decoded("/v9/raw")));
    let signed = signer(method, "merchant").signed(request("v2")).unwrap();
    assert_eq!(signed.signed_text(), vector("/v9/msg"));
    let signature = STANDARD.decode(signed.get(SIGNATURE).unwrap()).unwrap();
    assert_eq!(signature.len(), 64);
    assert!(key.verifies(&signed.signed_text(), &signature));
    let usual = Sm2PublicKey::from_spki(ours.public_key(), "1234567812345678").unwrap();
    let text = method.digest_text(&signed.signed_text());
    assert!(!usual.verify(text.as_bytes(), &signature, Sm2Encoding::Fixed));
}

/// C1: messages with SM2 are proven by a chain of SM2 certificates; UnionPay's test certificate counts
/// in the test environment only.
#[test]
fn a_test_certificate_counts_in_the_test_environment_only() {
    let method = UnionPaySignMethod::Sm2;
    let (real, test) = (message_of(method, "unionpay"), message_of(method, "test"));
    let ours = message_of(method, "merchant");
    for (environment, of_test) in [
        (
            UnionPayEnvironment::Production,
            Err(UnionPayUnproven::Owner),
        ),
        (UnionPayEnvironment::Test, Ok(())),
    ] {
        let trust = trust_of_sm2(environment);
        assert_eq!(trust.verify(&real, LATER), Ok(()));
        assert_eq!(trust.verify(&test, LATER), of_test);
        assert_eq!(trust.verify(&ours, LATER), Err(UnionPayUnproven::Owner));
    }
}

/// An account with these settings beside what every one needs.
fn account(
    role: AccountRole,
    with: &[(&'static str, SettingValue)],
) -> Result<UnionPayAccounts, SettingsFault> {
    let text = |text: &str| SettingValue::Text(text.into());
    let chain = |name: &str| SettingValue::Certificate(vec![certificate(name).der().into()]);
    let values = SettingValues::default()
        .with("mer_id", text("777290058110048"))
        .with("sign_method", text("01"))
        .with("environment", text("production"))
        .with(
            "key",
            SettingValue::Secret(SecretText::new(&vector("/merchant_key"))),
        )
        .with("certificate", chain("/merchant_certificate"))
        .with("middle", chain("/middle_certificate"))
        .with("root", chain("/root_certificate"));
    let values = with.iter().fold(values, |values, (name, value)| {
        values.with(name, value.clone())
    });
    let configured = ConfiguredAccount {
        id: AccountId::parse("up-shop").unwrap(),
        role,
        receiver: ReceiverId::parse("777290058110048").unwrap(),
        values,
    };
    UnionPayAccounts::new(&ConfiguredInstitution {
        id: InstitutionId::parse("unionpay").unwrap(),
        callback_origin: "https://pay.example.com".to_owned(),
        facts: KIND.facts(),
        values: SettingValues::default(),
        accounts: vec![configured],
    })
}

fn only(accounts: &UnionPayAccounts) -> &UnionPayAccount {
    accounts.get(&AccountId::parse("up-shop").unwrap()).unwrap()
}

/// F1: keys, certificates and numbers that do not fit together are a fault of the configuration.
#[test]
fn settings_that_do_not_fit_are_refused() {
    let text = |text: &str| SettingValue::Text(text.into());
    let chain = |name: &str| SettingValue::Certificate(vec![certificate(name).der().into()]);
    let secret = |pem: &str| SettingValue::Secret(SecretText::new(pem));
    let damaged = SettingValue::Certificate(vec![[0x30, 0].into()]);
    for (name, value) in [
        ("mer_id", text("77729005811004")),
        ("mer_id", text("77729005811004X")),
        ("access_type", text("2")),
        ("key", secret(&vector("/unionpay_key"))),
        ("key", secret("x")),
        ("key", secret(&vector("/sm2/merchant_key"))),
        ("certificate", damaged.clone()),
        ("middle", chain("/sm2/middle_certificate")),
        ("middle", chain("/root_certificate")),
        ("root", damaged),
    ] {
        let found = account(AccountRole::Direct, &[(name, value)]).err();
        let is_named = matches!(found, Some(SettingsFault::Unfit(at, _)) if at == name);
        assert!(is_named, "{name}: {found:?}");
    }
    let found = account(
        AccountRole::Direct,
        &[("certificate", chain("/unionpay_certificate"))],
    );
    assert!(matches!(found.err(), Some(SettingsFault::Unfit("key", _))));
}

/// R-6.3.1-1c: nothing is signed outside the validity of our certificate, nor where no answer could be
/// proven.
#[test]
fn nothing_is_signed_without_a_valid_certificate() {
    let accounts = account(AccountRole::Direct, &[]).unwrap();
    let found = only(&accounts);
    assert_eq!(found.access, UnionPayAccess::Direct);
    assert_eq!(
        found.callback_url,
        "https://pay.example.com/v1/callbacks/unionpay/up-shop"
    );
    assert!(found.is_slow());
    assert!(found.signing(THEN).is_some());
    assert!(found.signing(TOO_LATE).is_none());
    let mut values = SettingValues::default();
    let text = SettingValue::Text("777290058110048".into());
    values = values.with("mer_id", text);
    let bare = ConfiguredAccount {
        id: AccountId::parse("up-shop").unwrap(),
        role: AccountRole::Provider,
        receiver: ReceiverId::parse("777290058110048").unwrap(),
        values,
    };
    let accounts = UnionPayAccounts::new(&ConfiguredInstitution {
        id: InstitutionId::parse("unionpay").unwrap(),
        callback_origin: "https://pay.example.com".to_owned(),
        facts: KIND.facts(),
        values: SettingValues::default(),
        accounts: vec![bare],
    })
    .unwrap();
    let found = only(&accounts);
    assert_eq!(found.access, UnionPayAccess::Platform);
    assert!(found.signing(THEN).is_none() && found.trust().is_none() && !found.is_slow());
}

/// The key of a file with line breaks is the same key.
#[test]
fn a_key_is_read_in_pem_too() {
    let bare = vector("/merchant_key");
    let framed = pem::write(pem::PRIVATE_KEY, &STANDARD.decode(bare).unwrap());
    let key = ("key", SettingValue::Secret(SecretText::new(&framed)));
    assert!(account(AccountRole::Direct, &[key]).is_ok());
}
