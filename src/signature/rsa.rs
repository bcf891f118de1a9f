//! `rsa-pss-sha512` and `rsa-v1_5-sha256`: RFC 9421, sections 3.3.1 and 3.3.2. With the second we
//! sign only what an institution's dialect demands: a key is read for it only if it is named.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::crypto::rsa::{RsaPrivateKey, RsaPublicKey, RsaScheme};
use crate::signature::key::{Algorithm, Scheme, Sign, Verify};

/// `rsa-pss-sha512`, registered in `key::SCHEMES`.
pub(super) const PSS: Scheme = Scheme {
    algorithm: Algorithm("rsa-pss-sha512"),
    read_private: |der| {
        Some(Arc::new(RsaPrivateKey::from_pkcs8(
            der,
            RsaScheme::PssSha512,
        )?))
    },
    read_public: |der| read_public(der, RsaScheme::PssSha512),
    read_jwk: |jwk| read_jwk("PS512", RsaScheme::PssSha512, jwk),
    generate: RsaPrivateKey::generate_pkcs8,
    slow: true,
};

/// `rsa-v1_5-sha256`, registered in `key::SCHEMES`.
pub(super) const PKCS1: Scheme = Scheme {
    algorithm: Algorithm("rsa-v1_5-sha256"),
    read_private: |der| {
        let key = RsaPrivateKey::from_pkcs8(der, RsaScheme::Pkcs1Sha256)?;
        Some(Arc::new(Pkcs1PrivateKey(key)))
    },
    read_public: |der| read_public(der, RsaScheme::Pkcs1Sha256),
    read_jwk: |jwk| read_jwk("RS256", RsaScheme::Pkcs1Sha256, jwk),
    generate: || None,
    slow: true,
};

fn read_public(der: &[u8], scheme: RsaScheme) -> Option<Arc<dyn Verify>> {
    Some(Arc::new(RsaPublicKey::from_spki(der, scheme)?))
}

/// RFC 7518, section 6.3.1. `alg` is required, as the key would otherwise suit both.
fn read_jwk(alg: &str, scheme: RsaScheme, jwk: &Value) -> Option<Arc<dyn Verify>> {
    let text = |name| jwk.get(name)?.as_str();
    if text("kty")? != "RSA" || text("alg")? != alg {
        return None;
    }
    let number = |name| URL_SAFE_NO_PAD.decode(text(name)?).ok();
    let key = RsaPublicKey::from_components(&number("n")?, &number("e")?, scheme)?;
    Some(Arc::new(key))
}

impl Sign for RsaPrivateKey {
    fn sign(&self, base: &[u8]) -> Option<Vec<u8>> {
        Self::sign(self, base)
    }

    fn public_der(&self) -> Vec<u8> {
        self.public_spki()
    }

    fn public_jwk(&self) -> Value {
        jwk(self, "PS512")
    }
}

/// A private key that signs with `rsa-v1_5-sha256`.
struct Pkcs1PrivateKey(RsaPrivateKey);

impl Sign for Pkcs1PrivateKey {
    fn sign(&self, base: &[u8]) -> Option<Vec<u8>> {
        self.0.sign(base)
    }

    fn public_der(&self) -> Vec<u8> {
        self.0.public_spki()
    }

    fn public_jwk(&self) -> Value {
        jwk(&self.0, "RS256")
    }
}

fn jwk(key: &RsaPrivateKey, alg: &str) -> Value {
    let (n, e) = key.public_components();
    serde_json::json!({
        "kty": "RSA",
        "n": URL_SAFE_NO_PAD.encode(n),
        "e": URL_SAFE_NO_PAD.encode(e),
        "alg": alg,
    })
}

impl Verify for RsaPublicKey {
    fn verifies(&self, base: &[u8], signature: &[u8]) -> bool {
        self.verify(base, signature)
    }
}
