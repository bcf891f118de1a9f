//! SM2 signatures with SM3 (GB/T 32918.2). User id and encoding differ between institutions and are
//! parameters; the library does all arithmetic.

use sm2::SecretKey;
use sm2::dsa::signature::{Signer as _, Verifier as _};
use sm2::dsa::{Signature, SigningKey, VerifyingKey};
use sm2::pkcs8::DecodePrivateKey as _;

/// The user id of certificates, and of whoever agrees on none (GM/T 0009).
pub const DEFAULT_USER_ID: &str = "1234567812345678";

/// The part of a `SubjectPublicKeyInfo` before the uncompressed point: it differs for other curves
/// and point formats.
const SPKI_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x81, 0x1c, 0xcf, 0x55, 0x01, 0x82, 0x2d, 0x03, 0x42, 0x00,
];
/// First byte of an uncompressed point, which has both coordinates.
const UNCOMPRESSED: u8 = 0x04;
/// Length of an uncompressed point. Unit: bytes.
const POINT_BYTES: usize = 65;

/// How the numbers r and s of a signature are written. Which one an institution uses is agreed, not
/// recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sm2Encoding {
    /// `SEQUENCE { INTEGER r, INTEGER s }` in DER.
    Der,
    /// r and s, 32 bytes each.
    Fixed,
}

impl Sm2Encoding {
    fn write(self, signature: &Signature) -> Vec<u8> {
        match self {
            Self::Der => signature.to_der().to_vec(),
            Self::Fixed => signature.to_bytes().to_vec(),
        }
    }

    /// Accepts only what [`write`](Self::write) returns for the same numbers.
    fn read(self, bytes: &[u8]) -> Option<Signature> {
        let signature = match self {
            Self::Der => Signature::from_der(bytes),
            Self::Fixed => Signature::from_slice(bytes),
        };
        signature.ok().filter(|read| self.write(read) == bytes)
    }
}

/// A private key of one user id. Cannot be printed.
pub struct Sm2PrivateKey(SigningKey);

impl Sm2PrivateKey {
    /// Parses PKCS #8 (RFC 5208); `None` if it is of another kind, damaged, or the user id is empty
    /// or too long: an empty one would give signatures that nobody else accepts.
    pub fn from_pkcs8(der: &[u8], user_id: &str) -> Option<Self> {
        let key = SecretKey::from_pkcs8_der(der).ok()?;
        if user_id.is_empty() {
            return None;
        }
        Some(Self(SigningKey::new(user_id, &key).ok()?))
    }

    /// Signs a message; `None` only if the library fails. The same message has the same signature,
    /// because the library derives the nonce from key and message (RFC 6979).
    pub fn sign(&self, message: &[u8], encoding: Sm2Encoding) -> Option<Vec<u8>> {
        let signature = self.0.try_sign(message).ok()?;
        Some(encoding.write(&signature))
    }

    /// The public half as `SubjectPublicKeyInfo`.
    pub fn public_spki(&self) -> Vec<u8> {
        let point = self.0.verifying_key().to_sec1_bytes();
        [SPKI_HEAD.as_slice(), &point].concat()
    }
}

/// A public key of one user id.
pub struct Sm2PublicKey(VerifyingKey);

impl Sm2PublicKey {
    /// Parses a `SubjectPublicKeyInfo` with both coordinates; `None` for anything else, for a point
    /// that is not on the curve, and for an empty or too long user id.
    pub fn from_spki(der: &[u8], user_id: &str) -> Option<Self> {
        Self::from_point(der.strip_prefix(&SPKI_HEAD)?, user_id)
    }

    /// A key from an uncompressed point; `None` as above.
    pub fn from_point(point: &[u8], user_id: &str) -> Option<Self> {
        let whole = point.len() == POINT_BYTES && point.first() == Some(&UNCOMPRESSED);
        if !whole || user_id.is_empty() {
            return None;
        }
        // The library checks that the point is on the curve.
        Some(Self(VerifyingKey::from_sec1_bytes(user_id, point).ok()?))
    }

    /// Whether this is a valid signature of the message by this key and user id, in this encoding.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8], encoding: Sm2Encoding) -> bool {
        let signature = encoding.read(signature);
        signature.is_some_and(|signature| self.0.verify(message, &signature).is_ok())
    }
}
