//! ECDSA on P-256 with SHA-256 (FIPS 186-5, keys by RFC 5480): `ecdsa-p256-sha256` of RFC 9421,
//! section 3.3.4. A signature is r and s, 32 bytes each, and nothing else.

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    ParsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::signature::key::{Algorithm, Scheme, Sign, Verify};

/// This file's line in the list of algorithms.
pub(super) const SCHEME: Scheme = Scheme {
    algorithm: Algorithm("ecdsa-p256-sha256"),
    read_private,
    read_public,
    read_jwk,
    generate,
    slow: false,
};

/// Everything of a `SubjectPublicKeyInfo` that comes before the uncompressed point (RFC 5480,
/// section 2): another curve, or another form of the point, begins otherwise.
const SPKI_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// Begins a point that is written as both of its coordinates.
const UNCOMPRESSED: u8 = 0x04;
const COORDINATE_BYTES: usize = 32;
const POINT_BYTES: usize = 1 + 2 * COORDINATE_BYTES;

fn generate() -> Option<Vec<u8>> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).ok()?;
    Some(pair.to_pkcs8v1().ok()?.as_ref().to_vec())
}

fn read_private(der: &[u8]) -> Option<Arc<dyn Sign>> {
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).ok()?;
    Some(Arc::new(pair))
}

fn read_public(der: &[u8]) -> Option<Arc<dyn Verify>> {
    let point = der.strip_prefix(&SPKI_HEAD)?;
    if point.len() != POINT_BYTES || point.first() != Some(&UNCOMPRESSED) {
        return None;
    }
    // The library finds out whether the point is one of the curve.
    Some(Arc::new(
        ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, der).ok()?,
    ))
}

/// RFC 7518, section 6.2.1.
fn read_jwk(jwk: &Value) -> Option<Arc<dyn Verify>> {
    if jwk.get("crv")?.as_str()? != "P-256" {
        return None;
    }
    let coordinate = |name| {
        let bytes = URL_SAFE_NO_PAD.decode(jwk.get(name)?.as_str()?).ok()?;
        (bytes.len() == COORDINATE_BYTES).then_some(bytes)
    };
    let (x, y) = (coordinate("x")?, coordinate("y")?);
    read_public(&[SPKI_HEAD.as_slice(), &[UNCOMPRESSED], &x, &y].concat())
}

impl Sign for EcdsaKeyPair {
    fn sign(&self, base: &[u8]) -> Option<Vec<u8>> {
        let signature = Self::sign(self, &SystemRandom::new(), base).ok()?;
        Some(signature.as_ref().to_vec())
    }

    fn public_der(&self) -> Vec<u8> {
        [SPKI_HEAD.as_slice(), self.public_key().as_ref()].concat()
    }

    fn public_jwk(&self) -> Value {
        let point = self.public_key().as_ref();
        let coordinates = point.strip_prefix(&[UNCOMPRESSED]).unwrap_or_default();
        let (x, y) = coordinates
            .split_at_checked(COORDINATE_BYTES)
            .unwrap_or_default();
        serde_json::json!({
            "kty": "EC",
            "crv": "P-256",
            "x": URL_SAFE_NO_PAD.encode(x),
            "y": URL_SAFE_NO_PAD.encode(y),
            "alg": "ES256",
        })
    }
}
