//! `ecdsa-p256-sha256`: RFC 9421, section 3.3.4.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::crypto::ecdsa::{COORDINATE_BYTES, EcdsaP256PrivateKey, EcdsaP256PublicKey};
use crate::signature::key::{Algorithm, Scheme, Sign, Verify};

/// Registered in `key::SCHEMES`.
pub(super) const SCHEME: Scheme = Scheme {
    algorithm: Algorithm("ecdsa-p256-sha256"),
    read_private: |der| Some(Arc::new(EcdsaP256PrivateKey::from_pkcs8(der)?)),
    read_public: |der| Some(Arc::new(EcdsaP256PublicKey::from_spki(der)?)),
    read_jwk,
    generate: EcdsaP256PrivateKey::generate_pkcs8,
    slow: false,
};

/// RFC 7518, section 6.2.1.
fn read_jwk(jwk: &Value) -> Option<Arc<dyn Verify>> {
    if jwk.get("crv")?.as_str()? != "P-256" {
        return None;
    }
    let coordinate = |name| {
        let bytes = URL_SAFE_NO_PAD.decode(jwk.get(name)?.as_str()?).ok()?;
        <[u8; COORDINATE_BYTES]>::try_from(bytes).ok()
    };
    let key = EcdsaP256PublicKey::from_coordinates(&coordinate("x")?, &coordinate("y")?)?;
    Some(Arc::new(key))
}

impl Sign for EcdsaP256PrivateKey {
    fn sign(&self, base: &[u8]) -> Option<Vec<u8>> {
        Self::sign(self, base)
    }

    fn public_der(&self) -> Vec<u8> {
        self.public_spki()
    }

    fn public_jwk(&self) -> Value {
        let (x, y) = self.public_coordinates();
        serde_json::json!({
            "kty": "EC",
            "crv": "P-256",
            "x": URL_SAFE_NO_PAD.encode(x),
            "y": URL_SAFE_NO_PAD.encode(y),
            "alg": "ES256",
        })
    }
}

impl Verify for EcdsaP256PublicKey {
    fn verifies(&self, base: &[u8], signature: &[u8]) -> bool {
        self.verify(base, signature)
    }
}
