//! The platform's signing keys: certificates, the public key, which of them signs what for whom,
//! and the switch from one to the other while running (section 5 of the protocol).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use crate::crypto::aead::{Aes256GcmKey, NONCE_BYTES};
use crate::crypto::pem;
use crate::crypto::rsa::{RsaPrivateKey, RsaScheme};
use crate::sandbox::wechatpay::drawing::{draw_hex, draw_letters};
use crate::sandbox::wechatpay::refusal::{WechatErrorCode, WechatRefusal, reason};
use crate::sandbox::wechatpay::time::rfc_3339;

/// What a signed message says about its algorithm.
pub(super) const SIGNATURE_TYPE: &str = "WECHATPAY2-SHA256-RSA2048";
/// How a deliberately wrong signature begins.
pub(super) const PROBE_PREFIX: &str = "WECHATPAY/SIGNTEST/";
/// Notifications signed with the public key on days 1 to 7 of a switch. Unit: per mille.
const SWITCH_SHARES: [u64; 7] = [1, 10, 50, 100, 200, 500, 1_000];
const DAY_S: i64 = 86_400;

/// A key or certificate of the settings is unusable.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WechatKeyFault(pub(super) String);

/// A platform certificate with its private key.
#[derive(Clone)]
pub struct PlatformCertificate {
    /// Its serial number: 40 hex digits.
    pub serial: String,
    /// The certificate, in PEM, as merchants download it.
    pub certificate_pem: String,
    /// PKCS #8.
    pub key_pem: String,
    /// From when it is valid. Unit: Unix seconds.
    pub effective_s: i64,
    /// Until when it is valid. Unit: Unix seconds.
    pub expires_s: i64,
}

/// The key pair of the public-key mode.
#[derive(Clone)]
pub struct PlatformPublicKey {
    /// `PUB_KEY_ID_` and digits.
    pub id: String,
    /// PKCS #8.
    pub key_pem: String,
}

/// Which key signs for a merchant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPhase {
    /// The certificate, whatever a request names.
    Certificates,
    /// Answers: the key that the request's `Wechatpay-Serial` names. Notifications: the public
    /// key for a share that grows over seven days.
    Switching {
        /// When the merchant started it. Unit: Unix seconds.
        since_s: i64,
    },
    /// The public key; there are no certificates.
    PublicKey,
}

/// How `/v3/certificates` says that there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoCertificates {
    /// 404 `RESOURCE_NOT_EXISTS`.
    NotFound,
    /// 200 with an empty list.
    EmptyList,
    /// 403 `NOT_ENOUGH`.
    NotEnough,
}

/// One signing key under the serial that messages name.
pub(super) struct PlatformSigner {
    pub(super) serial: String,
    key: RsaPrivateKey,
}

impl PlatformSigner {
    fn read(serial: &str, key_pem: &str) -> Result<Self, WechatKeyFault> {
        let der = pem::read_private_key(key_pem.as_bytes());
        let key = der.and_then(|der| RsaPrivateKey::from_pkcs8(&der, RsaScheme::Pkcs1Sha256));
        Ok(Self {
            serial: serial.to_owned(),
            key: key.ok_or_else(|| WechatKeyFault(format!("{serial}: no usable RSA key")))?,
        })
    }

    /// The signature of a message: three lines, each ended by a line feed.
    pub(super) fn sign(&self, timestamp: &str, nonce: &str, body: &[u8]) -> String {
        let mut text = format!("{timestamp}\n{nonce}\n").into_bytes();
        text.extend_from_slice(body);
        text.push(b'\n');
        STANDARD.encode(self.key.sign(&text).unwrap_or_default())
    }
}

/// What a message's signature is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SignatureKind {
    Right,
    /// Begins with [`PROBE_PREFIX`].
    Probe,
    /// Names a serial that nobody knows.
    UnknownSerial,
    /// Made with another key under the right serial.
    ForeignKey,
    /// Right, but of ten minutes ago.
    Old,
}

/// All keys, and the phase of each merchant.
pub(super) struct PlatformKeys {
    certificates: Vec<(PlatformSigner, PlatformCertificate)>,
    public_key: Option<PlatformSigner>,
    foreign: PlatformSigner,
    state: Mutex<PlatformKeyState>,
}

struct PlatformKeyState {
    phases: BTreeMap<String, KeyPhase>,
    none: NoCertificates,
    /// The certificate that signs; all are listed.
    signing: usize,
    notifications: u64,
}

impl PlatformKeys {
    pub(super) fn read(
        certificates: Vec<PlatformCertificate>,
        public_key: Option<&PlatformPublicKey>,
        phases: BTreeMap<String, KeyPhase>,
    ) -> Result<Self, WechatKeyFault> {
        if certificates.is_empty() && public_key.is_none() {
            return Err(WechatKeyFault("no platform key".to_owned()));
        }
        let foreign = RsaPrivateKey::generate_pkcs8()
            .and_then(|der| RsaPrivateKey::from_pkcs8(&der, RsaScheme::Pkcs1Sha256))
            .ok_or_else(|| WechatKeyFault("no key could be generated".to_owned()))?;
        let certificates = certificates.into_iter().map(|certificate| {
            let signer = PlatformSigner::read(&certificate.serial, &certificate.key_pem)?;
            Ok((signer, certificate))
        });
        let public_key = public_key.map(|key| PlatformSigner::read(&key.id, &key.key_pem));
        Ok(Self {
            certificates: certificates.collect::<Result<_, WechatKeyFault>>()?,
            public_key: public_key.transpose()?,
            foreign: PlatformSigner {
                serial: String::new(),
                key: foreign,
            },
            state: Mutex::new(PlatformKeyState {
                phases,
                none: NoCertificates::NotFound,
                signing: 0,
                notifications: 0,
            }),
        })
    }

    fn state<R>(&self, change: impl FnOnce(&mut PlatformKeyState) -> R) -> R {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set_phase(&self, mchid: &str, phase: KeyPhase) {
        self.state(|state| state.phases.insert(mchid.to_owned(), phase));
    }

    pub(super) fn phase(&self, mchid: &str) -> KeyPhase {
        let without = if self.certificates.is_empty() {
            KeyPhase::PublicKey
        } else {
            KeyPhase::Certificates
        };
        self.state(|state| state.phases.get(mchid).copied())
            .unwrap_or(without)
    }

    pub(super) fn set_none(&self, none: NoCertificates) {
        self.state(|state| state.none = none);
    }

    /// Signs with this certificate from now on; returns whether there is one of this serial.
    pub(super) fn sign_with(&self, serial: &str) -> bool {
        let found = self
            .certificates
            .iter()
            .position(|(signer, _)| signer.serial.eq_ignore_ascii_case(serial));
        if let Some(found) = found {
            self.state(|state| state.signing = found);
        }
        found.is_some()
    }

    /// Whether a request may name this serial in `Wechatpay-Serial`.
    pub(super) fn knows(&self, serial: &str) -> bool {
        let is_public = |key: &PlatformSigner| key.serial == serial;
        let is_certificate =
            |(signer, _): &(PlatformSigner, _)| signer.serial.eq_ignore_ascii_case(serial);
        self.public_key.as_ref().is_some_and(is_public)
            || self.certificates.iter().any(is_certificate)
    }

    fn certificate(&self) -> Option<&PlatformSigner> {
        let signing = self.state(|state| state.signing);
        self.certificates.get(signing).map(|(signer, _)| signer)
    }

    /// The key that signs an answer to this merchant, who asked for `asked`.
    pub(super) fn for_answer(&self, mchid: &str, asked: Option<&str>) -> &PlatformSigner {
        let named = asked.and_then(|asked| {
            let public = self.public_key.as_ref().filter(|key| key.serial == asked);
            public.or_else(|| {
                let mut signers = self.certificates.iter().map(|(signer, _)| signer);
                signers.find(|signer| signer.serial.eq_ignore_ascii_case(asked))
            })
        });
        let chosen = match self.phase(mchid) {
            KeyPhase::Certificates => self.certificate(),
            KeyPhase::Switching { .. } => named.or_else(|| self.certificate()),
            KeyPhase::PublicKey => self.public_key.as_ref(),
        };
        chosen
            .or(self.public_key.as_ref())
            .or_else(|| self.certificate())
            .unwrap_or(&self.foreign)
    }

    /// The key that signs the next notification to this merchant.
    pub(super) fn for_notification(&self, mchid: &str, now_s: i64) -> &PlatformSigner {
        let share = match self.phase(mchid) {
            KeyPhase::Certificates => 0,
            KeyPhase::PublicKey => 1_000,
            KeyPhase::Switching { since_s } => {
                let days = now_s.saturating_sub(since_s) / DAY_S;
                let day = usize::try_from(days).unwrap_or(0);
                SWITCH_SHARES.get(day).copied().unwrap_or(1_000)
            }
        };
        let is_public = self.state(|state| {
            let before = state.notifications.saturating_mul(share) / 1_000;
            state.notifications = state.notifications.saturating_add(1);
            state.notifications.saturating_mul(share) / 1_000 > before
        });
        let public_key = self.public_key.as_ref().filter(|_| is_public);
        public_key
            .or_else(|| self.certificate())
            .or(self.public_key.as_ref())
            .unwrap_or(&self.foreign)
    }

    /// Signs a message's headers.
    pub(super) fn sign_headers(
        &self,
        headers: &mut HeaderMap,
        body: &[u8],
        (signer, kind, now_s): (&PlatformSigner, SignatureKind, i64),
    ) {
        let age_s = i64::from(kind == SignatureKind::Old).saturating_mul(600);
        let timestamp = now_s.saturating_sub(age_s).to_string();
        let nonce = draw_hex(32);
        let right = match kind {
            SignatureKind::ForeignKey => self.foreign.sign(&timestamp, &nonce, body),
            SignatureKind::Right
            | SignatureKind::Probe
            | SignatureKind::UnknownSerial
            | SignatureKind::Old => signer.sign(&timestamp, &nonce, body),
        };
        let signature = match kind {
            SignatureKind::Probe => format!("{PROBE_PREFIX}{right}"),
            SignatureKind::Right
            | SignatureKind::UnknownSerial
            | SignatureKind::ForeignKey
            | SignatureKind::Old => right,
        };
        let serial = match kind {
            SignatureKind::UnknownSerial => draw_hex(40).to_ascii_uppercase(),
            SignatureKind::Right
            | SignatureKind::Probe
            | SignatureKind::ForeignKey
            | SignatureKind::Old => signer.serial.clone(),
        };
        for (name, value) in [
            ("wechatpay-timestamp", timestamp.as_str()),
            ("wechatpay-nonce", &nonce),
            ("wechatpay-signature", &signature),
            ("wechatpay-serial", &serial),
            ("wechatpay-signature-type", SIGNATURE_TYPE),
        ] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
    }

    /// The answer of `/v3/certificates`.
    pub(super) fn list(&self, mchid: &str, apiv3: &Aes256GcmKey) -> Result<Value, WechatRefusal> {
        let has_none = self.phase(mchid) == KeyPhase::PublicKey || self.certificates.is_empty();
        if has_none {
            let of = |code| WechatRefusal::of(code, reason::PARAMETER);
            return match self.state(|state| state.none) {
                NoCertificates::EmptyList => Ok(json!({ "data": [] })),
                NoCertificates::NotFound => Err(of(WechatErrorCode::ResourceNotExists)
                    .saying("无可用的平台证书，请在商户平台-API安全申请使用微信支付公钥")),
                NoCertificates::NotEnough => Err(of(WechatErrorCode::NotEnough)),
            };
        }
        let lines = self.certificates.iter().map(|(_, certificate)| {
            let pem = certificate.certificate_pem.as_bytes();
            json!({
                "serial_no": certificate.serial,
                "effective_time": rfc_3339(certificate.effective_s),
                "expire_time": rfc_3339(certificate.expires_s),
                "encrypt_certificate": sealed(apiv3, &draw_letters(NONCE_BYTES), "certificate", pem),
            })
        });
        Ok(json!({ "data": lines.collect::<Vec<_>>() }))
    }
}

/// A text under the merchant's secret, as `resource` and `encrypt_certificate` hold it.
pub(super) fn sealed(key: &Aes256GcmKey, nonce: &str, about: &str, plain: &[u8]) -> Value {
    let bytes: [u8; NONCE_BYTES] = nonce.as_bytes().try_into().unwrap_or_default();
    let text = key.seal(bytes, about.as_bytes(), plain).unwrap_or_default();
    json!({
        "algorithm": "AEAD_AES_256_GCM",
        "nonce": nonce,
        "associated_data": about,
        "ciphertext": STANDARD.encode(text),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The protocol's test vectors.
    const VECTORS: &str = include_str!("../../../tests/it/sandbox/wechatpay/vectors.json");
    const NOW_S: i64 = 1_767_225_600;

    fn vectors() -> Value {
        serde_json::from_str(VECTORS).unwrap()
    }

    fn key_pem(vectors: &Value) -> String {
        let der = STANDARD.decode(vectors["platform_private"].as_str().unwrap());
        pem::write(pem::PRIVATE_KEY, &der.unwrap())
    }

    /// Answers with and without body, and both notifications: byte for byte.
    #[test]
    fn published_messages_have_their_published_signatures() {
        let vectors = vectors();
        let signer = PlatformSigner::read("x", &key_pem(&vectors)).unwrap();
        for name in [
            "answer",
            "answer_204",
            "payment_notification",
            "refund_notification",
        ] {
            let text = vectors[name]["msg"].as_str().unwrap();
            let mut parts = text.splitn(3, '\n');
            let (timestamp, nonce) = (parts.next().unwrap(), parts.next().unwrap());
            let body = parts.next().unwrap().strip_suffix('\n').unwrap();
            let signature = signer.sign(timestamp, nonce, body.as_bytes());
            assert_eq!(signature, vectors[name]["sig"], "{name}");
        }
    }

    #[test]
    fn published_texts_are_sealed_as_published() {
        let vectors = vectors();
        let secret = vectors["constants"]["apiv3_key"].as_str().unwrap();
        let key = Aes256GcmKey::new(secret.as_bytes().try_into().unwrap()).unwrap();
        for (name, about) in [
            ("payment_notification", "transaction"),
            ("refund_notification", "refund"),
        ] {
            let body: Value =
                serde_json::from_str(vectors[name]["body"].as_str().unwrap()).unwrap();
            let nonce = body["resource"]["nonce"].as_str().unwrap();
            let plain = vectors[name]["plain"].as_str().unwrap();
            let resource = sealed(&key, nonce, about, plain.as_bytes());
            assert_eq!(resource["ciphertext"], body["resource"]["ciphertext"]);
        }
        let bare = &vectors["no_associated_data"];
        let plain = bare["plain"].as_str().unwrap();
        let resource = sealed(&key, "0123456789ab", "", plain.as_bytes());
        assert_eq!(resource["ciphertext"], bare["ct"]);
        let der = STANDARD.decode(vectors["platform_certificate"].as_str().unwrap());
        let certificate = pem::write("CERTIFICATE", &der.unwrap());
        let listed = sealed(&key, "61f9c719728a", "certificate", certificate.as_bytes());
        assert_eq!(listed["ciphertext"], vectors["certificate"]["ct"]);
    }

    fn keys() -> PlatformKeys {
        let key_pem = key_pem(&vectors());
        let certificate = |serial: &str| PlatformCertificate {
            serial: serial.to_owned(),
            certificate_pem: String::new(),
            key_pem: key_pem.clone(),
            effective_s: 0,
            expires_s: 1,
        };
        let public_key = PlatformPublicKey {
            id: "PUB_KEY_ID_1".to_owned(),
            key_pem: key_pem.clone(),
        };
        let certificates = vec![certificate("AA"), certificate("BB")];
        PlatformKeys::read(certificates, Some(&public_key), BTreeMap::new()).unwrap()
    }

    /// Section 5.3 of the protocol, both tables.
    #[test]
    fn a_switch_has_two_sides() {
        let keys = keys();
        let answered = |asked| keys.for_answer("m", asked).serial.clone();
        let public_of_thousand = |now_s| {
            let serials = (0..1_000).map(|_| keys.for_notification("m", now_s).serial.clone());
            serials.filter(|serial| serial.starts_with("PUB")).count()
        };
        assert_eq!(answered(Some("PUB_KEY_ID_1")), "AA");
        assert_eq!(public_of_thousand(NOW_S), 0);
        keys.set_phase("m", KeyPhase::Switching { since_s: NOW_S });
        assert_eq!(answered(None), "AA");
        assert_eq!(answered(Some("PUB_KEY_ID_1")), "PUB_KEY_ID_1");
        assert_eq!(answered(Some("bb")), "BB");
        for (day, share) in (0..).zip([1, 10, 50, 100, 200, 500, 1_000, 1_000]) {
            assert_eq!(public_of_thousand(NOW_S + day * DAY_S), share, "day {day}");
        }
        keys.set_phase("m", KeyPhase::PublicKey);
        assert_eq!(answered(None), "PUB_KEY_ID_1");
        assert_eq!(keys.for_answer("other", None).serial, "AA");
        assert!(keys.sign_with("bb") && !keys.sign_with("CC"));
        assert_eq!(keys.for_answer("other", None).serial, "BB");
    }
}
