//! How messages are signed: the digest of the signed text, written in hexadecimal digits, is what the
//! key signs. So the text is hashed twice; a plain signature of the text is wrong.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::crypto::certificate::Certificate;
use crate::crypto::digest::{sha256, sm3};
use crate::crypto::hex;
use crate::crypto::pem;
use crate::crypto::rsa::{RsaPrivateKey, RsaPublicKey, RsaScheme};
use crate::crypto::sm2::{Sm2Encoding, Sm2PrivateKey, Sm2PublicKey};
use crate::domain::identifiers::Timestamp;
use crate::institution::unionpay::message::{SIGNATURE, UnionPayMessage};

/// How a contract says that messages are signed, in both directions. Methods with a shared secret are
/// not offered: a shared secret alone moves no money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnionPaySignMethod {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rsa,
    /// SM2 with SM3.
    Sm2,
}

impl UnionPaySignMethod {
    /// The value of `signMethod`.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Rsa => "01",
            Self::Sm2 => "21",
        }
    }

    /// What the key signs.
    pub(super) fn digest_text(self, text: &str) -> String {
        match self {
            Self::Rsa => hex::lower(&sha256(text.as_bytes())),
            Self::Sm2 => hex::lower(&sm3(text.as_bytes())),
        }
    }
}

/// Our key, with the certificate that names it.
pub(super) struct UnionPaySigner {
    method: UnionPaySignMethod,
    key: UnionPaySigningKey,
    /// The decimal serial number of our certificate.
    cert_id: String,
    validity_s: (i64, i64),
}

enum UnionPaySigningKey {
    Rsa(Box<RsaPrivateKey>),
    Sm2(Box<Sm2PrivateKey>),
}

impl UnionPaySigner {
    /// A key in PEM and its certificate; `None` if the key is of another kind than the method, damaged
    /// or weak, or is not that of the certificate.
    pub(super) fn new(
        method: UnionPaySignMethod,
        key_pem: &str,
        certificate: &Certificate,
    ) -> Option<Self> {
        let cert_id = certificate.serial_decimal();
        let (key, public) = match method {
            UnionPaySignMethod::Rsa => {
                let key = RsaPrivateKey::from_text(key_pem, RsaScheme::Pkcs1Sha256)?;
                let public = key.public_spki();
                (UnionPaySigningKey::Rsa(Box::new(key)), public)
            }
            UnionPaySignMethod::Sm2 => {
                let der = pem::read_block(pem::PRIVATE_KEY, key_pem)?;
                // The user id is the number of the certificate, not the usual one.
                let key = Sm2PrivateKey::from_pkcs8(&der, cert_id)?;
                let public = key.public_spki();
                (UnionPaySigningKey::Sm2(Box::new(key)), public)
            }
        };
        (public == certificate.public_key()).then(|| Self {
            method,
            key,
            cert_id: cert_id.to_owned(),
            validity_s: certificate.validity_s(),
        })
    }

    /// Whether our certificate is valid now.
    pub(super) fn is_in_force(&self, now: Timestamp) -> bool {
        let (from, until) = self.validity_s;
        (from..=until).contains(&now.seconds())
    }

    /// The message with method, certificate number and signature; `None` if the library fails.
    pub(super) fn signed(&self, message: UnionPayMessage) -> Option<UnionPayMessage> {
        let message = message
            .with("signMethod", self.method.word())
            .with("certId", &self.cert_id);
        let text = self.method.digest_text(&message.signed_text());
        let signature = match &self.key {
            UnionPaySigningKey::Rsa(key) => key.sign(text.as_bytes())?,
            UnionPaySigningKey::Sm2(key) => key.sign(text.as_bytes(), Sm2Encoding::Fixed)?,
        };
        Some(message.with(SIGNATURE, &STANDARD.encode(signature)))
    }
}

/// The public key in UnionPay's certificate.
pub(super) enum UnionPayProvingKey {
    /// For [`UnionPaySignMethod::Rsa`].
    Rsa(Box<RsaPublicKey>),
    /// For [`UnionPaySignMethod::Sm2`].
    Sm2(Box<Sm2PublicKey>),
}

impl UnionPayProvingKey {
    /// The key of a certificate; `None` if it is not one for this method.
    pub(super) fn of(method: UnionPaySignMethod, certificate: &Certificate) -> Option<Self> {
        let spki = certificate.public_key();
        match method {
            UnionPaySignMethod::Rsa => {
                let key = RsaPublicKey::from_spki(spki, RsaScheme::Pkcs1Sha256)?;
                Some(Self::Rsa(Box::new(key)))
            }
            UnionPaySignMethod::Sm2 => {
                let key = Sm2PublicKey::from_spki(spki, certificate.serial_decimal())?;
                Some(Self::Sm2(Box::new(key)))
            }
        }
    }

    /// Whether this is a signature of the text by this key.
    pub(super) fn verifies(&self, text: &str, signature: &[u8]) -> bool {
        match self {
            Self::Rsa(key) => {
                let text = UnionPaySignMethod::Rsa.digest_text(text);
                key.verify(text.as_bytes(), signature)
            }
            Self::Sm2(key) => {
                let text = UnionPaySignMethod::Sm2.digest_text(text);
                key.verify(text.as_bytes(), signature, Sm2Encoding::Fixed)
            }
        }
    }
}
