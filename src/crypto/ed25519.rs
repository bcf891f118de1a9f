//! Ed25519 (RFC 8032, keys by RFC 8410). Refuses public keys under which anybody could sign, and
//! non-canonical ones; all other checks are the library's.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, ParsedPublicKey};

/// Length of a public key. Unit: bytes.
pub const POINT_BYTES: usize = 32;

/// The part of a `SubjectPublicKeyInfo` before the 32 bytes of the key (RFC 8410, section 4).
const SPKI_HEAD: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// The y coordinates of the points of order 8; those of smaller order are 0, 1 and -1.
const ORDER_EIGHT: [[u8; POINT_BYTES]; 2] = [
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
];

/// A private key. Cannot be printed.
pub struct Ed25519PrivateKey(Ed25519KeyPair);

impl Ed25519PrivateKey {
    /// Generates a key, as PKCS #8; `None` if there is no randomness.
    pub fn generate_pkcs8() -> Option<Vec<u8>> {
        let pair = Ed25519KeyPair::generate().ok()?;
        // Other tools read version 1 but not version 2.
        Some(pair.to_pkcs8v1().ok()?.as_ref().to_vec())
    }

    /// Parses PKCS #8, version 1 or 2 (RFC 5958); `None` if it is of another kind or damaged.
    pub fn from_pkcs8(der: &[u8]) -> Option<Self> {
        Some(Self(Ed25519KeyPair::from_pkcs8(der).ok()?))
    }

    /// Signs a message; `None` only if the library fails.
    pub fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        Some(self.0.try_sign(message).ok()?.as_ref().to_vec())
    }

    /// The public half as `SubjectPublicKeyInfo`.
    pub fn public_spki(&self) -> Vec<u8> {
        [SPKI_HEAD.as_slice(), self.public_point()].concat()
    }

    /// The public half as its bare [`POINT_BYTES`].
    pub fn public_point(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }
}

/// A public key.
pub struct Ed25519PublicKey(ParsedPublicKey);

impl Ed25519PublicKey {
    /// Parses a `SubjectPublicKeyInfo`; `None` for anything else, for a point of small order, and
    /// for a non-canonical encoding (RFC 8032, section 5.1.2).
    pub fn from_spki(der: &[u8]) -> Option<Self> {
        let point = <&[u8; POINT_BYTES]>::try_from(der.strip_prefix(&SPKI_HEAD)?).ok()?;
        if !is_canonical(point) || is_of_small_order(point) {
            return None;
        }
        Some(Self(ParsedPublicKey::new(&ED25519, der).ok()?))
    }

    /// A key from its bare bytes; `None` as above.
    pub fn from_point(point: &[u8; POINT_BYTES]) -> Option<Self> {
        Self::from_spki(&[SPKI_HEAD.as_slice(), point].concat())
    }

    /// Whether this is a valid signature of the message by this key: RFC 8032, section 5.1.7,
    /// without the cofactor, R compared as bytes, S below the order of the group.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.0.verify_sig(message, signature).is_ok()
    }
}

/// The y coordinate of a point, without the sign bit of x.
fn without_sign(point: &[u8; POINT_BYTES]) -> [u8; POINT_BYTES] {
    let mut y = *point;
    if let Some(sign) = y.last_mut() {
        *sign &= 0x7f;
    }
    y
}

/// Whether y is below 2^255 - 19. A zero x with a sign bit is caught by [`is_of_small_order`], as
/// its y is 1 or -1.
fn is_canonical(point: &[u8; POINT_BYTES]) -> bool {
    !matches!(without_sign(point), [0xed..=0xff, rest @ .., 0x7f] if rest == [0xff; 30])
}

/// Under such a key one signature is valid for about every eighth message, whoever made it:
/// equivalent to an empty secret, which never verifies (Q3). The all-zero key is one of them.
fn is_of_small_order(point: &[u8; POINT_BYTES]) -> bool {
    let y = without_sign(point);
    match y {
        [0 | 1, rest @ ..] if rest == [0; 31] => true,
        // -1
        [0xec, rest @ .., 0x7f] if rest == [0xff; 30] => true,
        _ => ORDER_EIGHT.contains(&y),
    }
}
