//! ECDSA on P-256 with SHA-256 (FIPS 186-5, keys by RFC 5480). A signature is r and s, 32 bytes
//! each, never DER.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    ParsedPublicKey,
};

/// Length of one coordinate of a point. Unit: bytes.
pub const COORDINATE_BYTES: usize = 32;

/// The part of a `SubjectPublicKeyInfo` before the uncompressed point (RFC 5480, section 2): it
/// differs for other curves and point formats.
const SPKI_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// First byte of an uncompressed point, which has both coordinates.
const UNCOMPRESSED: u8 = 0x04;
const POINT_BYTES: usize = 1 + 2 * COORDINATE_BYTES;

/// A private key. Cannot be printed.
pub struct EcdsaP256PrivateKey(EcdsaKeyPair);

impl EcdsaP256PrivateKey {
    /// Generates a key, as PKCS #8; `None` if there is no randomness.
    pub fn generate_pkcs8() -> Option<Vec<u8>> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).ok()?;
        Some(pair.to_pkcs8v1().ok()?.as_ref().to_vec())
    }

    /// Parses PKCS #8 (RFC 5208); `None` if it is of another kind or damaged.
    pub fn from_pkcs8(der: &[u8]) -> Option<Self> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).ok()?;
        Some(Self(pair))
    }

    /// Signs a message; `None` if there is no randomness.
    pub fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let signature = self.0.sign(&SystemRandom::new(), message).ok()?;
        Some(signature.as_ref().to_vec())
    }

    /// The public half as `SubjectPublicKeyInfo`.
    pub fn public_spki(&self) -> Vec<u8> {
        [SPKI_HEAD.as_slice(), self.0.public_key().as_ref()].concat()
    }

    /// The public half as x and y, of [`COORDINATE_BYTES`] each, big-endian.
    pub fn public_coordinates(&self) -> (&[u8], &[u8]) {
        let point = self.0.public_key().as_ref();
        let coordinates = point.strip_prefix(&[UNCOMPRESSED]).unwrap_or_default();
        coordinates
            .split_at_checked(COORDINATE_BYTES)
            .unwrap_or_default()
    }
}

/// A public key.
pub struct EcdsaP256PublicKey(ParsedPublicKey);

impl EcdsaP256PublicKey {
    /// Parses a `SubjectPublicKeyInfo` with both coordinates; `None` for anything else, and for a
    /// point that is not on the curve.
    pub fn from_spki(der: &[u8]) -> Option<Self> {
        let point = der.strip_prefix(&SPKI_HEAD)?;
        if point.len() != POINT_BYTES || point.first() != Some(&UNCOMPRESSED) {
            return None;
        }
        // The library checks that the point is on the curve.
        let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, der).ok()?;
        Some(Self(key))
    }

    /// A key from two coordinates, big-endian; `None` as above.
    pub fn from_coordinates(
        x: &[u8; COORDINATE_BYTES],
        y: &[u8; COORDINATE_BYTES],
    ) -> Option<Self> {
        Self::from_spki(&[SPKI_HEAD.as_slice(), &[UNCOMPRESSED], x, y].concat())
    }

    /// Whether this is a valid signature of the message by this key.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.0.verify_sig(message, signature).is_ok()
    }
}
