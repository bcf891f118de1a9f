//! `ed25519`: RFC 9421, section 3.3.6.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::crypto::ed25519::{Ed25519PrivateKey, Ed25519PublicKey, POINT_BYTES};
use crate::signature::key::{Algorithm, Scheme, Sign, Verify};

/// Registered in `key::SCHEMES`.
pub(super) const SCHEME: Scheme = Scheme {
    algorithm: Algorithm("ed25519"),
    read_private: |der| Some(Arc::new(Ed25519PrivateKey::from_pkcs8(der)?)),
    read_public: |der| Some(Arc::new(Ed25519PublicKey::from_spki(der)?)),
    read_jwk,
    generate: Ed25519PrivateKey::generate_pkcs8,
    slow: false,
};

/// RFC 8037, section 2.
fn read_jwk(jwk: &Value) -> Option<Arc<dyn Verify>> {
    if jwk.get("crv")?.as_str()? != "Ed25519" {
        return None;
    }
    let point = URL_SAFE_NO_PAD.decode(jwk.get("x")?.as_str()?).ok()?;
    let point = <[u8; POINT_BYTES]>::try_from(point).ok()?;
    Some(Arc::new(Ed25519PublicKey::from_point(&point)?))
}

impl Sign for Ed25519PrivateKey {
    fn sign(&self, base: &[u8]) -> Option<Vec<u8>> {
        Self::sign(self, base)
    }

    fn public_der(&self) -> Vec<u8> {
        self.public_spki()
    }

    fn public_jwk(&self) -> Value {
        serde_json::json!({
            "kty": "OKP",
            "crv": "Ed25519",
            "x": URL_SAFE_NO_PAD.encode(self.public_point()),
            "alg": "EdDSA",
        })
    }
}

impl Verify for Ed25519PublicKey {
    fn verifies(&self, base: &[u8], signature: &[u8]) -> bool {
        self.verify(base, signature)
    }
}
