//! `RSA2`: RSASSA-PKCS1-v1_5 with SHA-256 over UTF-8 text, in Base64; keys with or without PEM
//! armour. Numbers of certificates are settings, not computed here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::crypto::pem;
use crate::crypto::rsa::{RsaPrivateKey, RsaPublicKey, RsaScheme};
use crate::sandbox::alipay::{AlipayApp, AlipayKey, AlipayStartFault};

const SCHEME: RsaScheme = RsaScheme::Pkcs1Sha256;

/// Parses PKCS #8, in PEM or as bare Base64.
pub(super) fn private_key(text: &str) -> Option<RsaPrivateKey> {
    let der = pem::read_private_key(text.as_bytes()).or_else(|| bare(text))?;
    RsaPrivateKey::from_pkcs8(&der, SCHEME)
}

/// Parses a `SubjectPublicKeyInfo`, in PEM or as bare Base64.
pub(super) fn public_key(text: &str) -> Option<RsaPublicKey> {
    let der = pem::read_public_key(text.as_bytes()).or_else(|| bare(text))?;
    RsaPublicKey::from_spki(&der, SCHEME)
}

/// A new private key; `None` if there is no randomness.
pub(super) fn generate() -> Option<RsaPrivateKey> {
    RsaPrivateKey::from_pkcs8(&RsaPrivateKey::generate_pkcs8()?, SCHEME)
}

/// Signs a text; empty only if the library fails.
pub(super) fn sign(key: &RsaPrivateKey, text: &str) -> String {
    let signature = key.sign(text.as_bytes()).unwrap_or_default();
    STANDARD.encode(signature)
}

/// Whether the Base64 text is this key's signature of a text.
pub(super) fn verify(key: &RsaPublicKey, text: &str, signature: &str) -> bool {
    let decoded = STANDARD.decode(signature);
    decoded.is_ok_and(|signature| key.verify(text.as_bytes(), &signature))
}

fn bare(text: &str) -> Option<Vec<u8>> {
    let joined: String = text.split_ascii_whitespace().collect();
    STANDARD.decode(joined).ok()
}

/// An application and its key.
pub(super) struct EnrolledApp {
    pub(super) app: AlipayApp,
    pub(super) key: Option<RsaPublicKey>,
}

impl EnrolledApp {
    pub(super) fn read(app: AlipayApp) -> Result<Self, AlipayStartFault> {
        let key = match app.public_key.as_deref() {
            None => None,
            Some(text) => {
                let key = public_key(text);
                Some(key.ok_or_else(|| AlipayStartFault::Key(format!("of {}", app.app_id)))?)
            }
        };
        Ok(Self { app, key })
    }
}

/// A signing key, parsed.
pub(super) struct CurrentKey {
    pub(super) private: RsaPrivateKey,
    pub(super) certificate: Option<(String, String)>,
}

impl CurrentKey {
    pub(super) fn read(key: &AlipayKey) -> Result<Self, AlipayStartFault> {
        let private = private_key(&key.private_key);
        Ok(Self {
            private: private.ok_or_else(|| AlipayStartFault::Key("private_key".to_owned()))?,
            certificate: key.certificate.clone(),
        })
    }

    pub(super) fn serial(&self) -> Option<&str> {
        self.certificate.as_ref().map(|(serial, _)| serial.as_str())
    }
}
