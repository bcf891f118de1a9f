//! Ed25519 (RFC 8032, keys by RFC 8410): `ed25519` of RFC 9421, section 3.3.6.
//! Refuses public keys under which anybody could sign.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::signature::key::{Algorithm, Scheme, Sign, Verify};
use crate::signature::multiples::Known;

/// This file's line in the list of algorithms.
pub(super) const SCHEME: Scheme = Scheme {
    algorithm: Algorithm("ed25519"),
    read_private,
    read_public,
    read_jwk,
    generate,
    slow: false,
};

/// Everything of a `SubjectPublicKeyInfo` that comes before the 32 bytes of the key (RFC 8410, section 4).
const SPKI_HEAD: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// The y of the points of order 8; those of smaller order are 0, 1 and -1.
const ORDER_EIGHT: [[u8; 32]; 2] = [
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

/// Version 1 of PKCS #8 is what other tools read; version 2 is not.
fn generate() -> Option<Vec<u8>> {
    let pair = Ed25519KeyPair::generate().ok()?;
    Some(pair.to_pkcs8v1().ok()?.as_ref().to_vec())
}

/// RFC 8037, section 2.
fn read_jwk(jwk: &serde_json::Value) -> Option<Arc<dyn Verify>> {
    if jwk.get("crv")?.as_str()? != "Ed25519" {
        return None;
    }
    let point = URL_SAFE_NO_PAD.decode(jwk.get("x")?.as_str()?).ok()?;
    read_public(&[SPKI_HEAD.as_slice(), &point].concat())
}

fn read_private(der: &[u8]) -> Option<Arc<dyn Sign>> {
    Some(Arc::new(Ed25519KeyPair::from_pkcs8(der).ok()?))
}

fn read_public(der: &[u8]) -> Option<Arc<dyn Verify>> {
    let point = <&[u8; 32]>::try_from(der.strip_prefix(&SPKI_HEAD)?).ok()?;
    if is_of_small_order(point) {
        return None;
    }
    Some(Arc::new(Public {
        library: ParsedPublicKey::new(&ED25519, der).ok()?,
        point: *point,
        asked: AtomicU32::new(0),
        known: OnceLock::new(),
    }))
}

/// So many good signatures in, a key is one that will call again, and its multiples are kept if there
/// is room; if not, it is tried again after as many.
const ASKED_BEFORE_KNOWN: u32 = 32;

/// A public key: at first the library's, later with its multiples at hand, to the same verdicts.
struct Public {
    library: ParsedPublicKey,
    point: [u8; 32],
    asked: AtomicU32,
    known: OnceLock<Known>,
}

impl Verify for Public {
    fn verifies(&self, base: &[u8], signature: &[u8]) -> bool {
        if let Some(known) = self.known.get() {
            return known.verifies(base, signature);
        }
        // Only good signatures count: a stranger who names a key must not choose what is kept.
        let good = self.library.verify_sig(base, signature).is_ok();
        if good {
            let before = self.asked.fetch_add(1, Ordering::Relaxed);
            if before % ASKED_BEFORE_KNOWN == ASKED_BEFORE_KNOWN.saturating_sub(1)
                && let Some(known) = Known::of(self.point)
            {
                let _ = self.known.set(known);
            }
        }
        good
    }
}

/// Under such a key one signature fits about every eighth message, whoever made it: an empty
/// secret, which never verifies (Q3). All zeroes is one of them.
fn is_of_small_order(point: &[u8; 32]) -> bool {
    let mut y = *point;
    if let Some(sign) = y.last_mut() {
        *sign &= 0x7f;
    }
    match y {
        [0 | 1, rest @ ..] if rest == [0; 31] => true,
        // -1, and 0 and 1 written as p and p + 1
        [0xec..=0xee, rest @ .., 0x7f] if rest == [0xff; 30] => true,
        _ => ORDER_EIGHT.contains(&y),
    }
}

impl Sign for Ed25519KeyPair {
    fn sign(&self, base: &[u8]) -> Option<Vec<u8>> {
        Some(self.try_sign(base).ok()?.as_ref().to_vec())
    }

    fn public_der(&self) -> Vec<u8> {
        [SPKI_HEAD.as_slice(), self.public_key().as_ref()].concat()
    }

    fn public_jwk(&self) -> serde_json::Value {
        serde_json::json!({
            "kty": "OKP",
            "crv": "Ed25519",
            "x": URL_SAFE_NO_PAD.encode(self.public_key().as_ref()),
            "alg": "EdDSA",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Q2: however often a key has called, what was altered is not believed; and what a stranger
    /// sends under its name does not count as its calling.
    #[test]
    fn a_key_that_calls_again_is_verified_to_the_same_verdicts() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[3; 32]).unwrap();
        let key = Public {
            library: ParsedPublicKey::new(&ED25519, pair.public_key()).unwrap(),
            point: pair.public_key().as_ref().try_into().unwrap(),
            asked: AtomicU32::new(0),
            known: OnceLock::new(),
        };
        let good = pair.sign(b"pay");
        for _ in 0..2 * ASKED_BEFORE_KNOWN {
            assert!(!key.verifies(b"pay more", good.as_ref()));
        }
        assert!(key.known.get().is_none());
        for _ in 0..2 * ASKED_BEFORE_KNOWN {
            assert!(key.verifies(b"pay", good.as_ref()));
            assert!(!key.verifies(b"pay more", good.as_ref()));
        }
        assert!(key.known.get().is_some());
    }
}
