//! RSA (RFC 8017): `rsa-pss-sha512` with a salt of 64 bytes, both ways, and `rsa-v1_5-sha256`, which
//! is verified and never made: RFC 9421, sections 3.3.1 and 3.3.2.
//!
//! A public key rarely says for which of the two it is; the enrolment does (Q3).

use std::sync::Arc;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    KeyPair as _, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA512,
    RSA_PSS_SHA512, RsaKeyPair, RsaParameters, RsaPublicKeyComponents,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::signature::key::{Algorithm, Scheme, Sign, Verify};

/// The line of `rsa-pss-sha512` in the list of algorithms.
pub(super) const PSS: Scheme = Scheme {
    algorithm: Algorithm("rsa-pss-sha512"),
    read_private,
    read_public: |der| parsed(&RSA_PSS_2048_8192_SHA512, public(der, &[RSA, RSA_PSS])?),
    read_jwk: |jwk| parsed_jwk("PS512", &RSA_PSS_2048_8192_SHA512, jwk),
    generate,
    slow: true,
};

/// The line of `rsa-v1_5-sha256`. A key that says it is for PSS is not for this.
pub(super) const PKCS1: Scheme = Scheme {
    algorithm: Algorithm("rsa-v1_5-sha256"),
    read_private: |_| None,
    read_public: |der| parsed(&RSA_PKCS1_2048_8192_SHA256, public(der, &[RSA])?),
    read_jwk: |jwk| parsed_jwk("RS256", &RSA_PKCS1_2048_8192_SHA256, jwk),
    generate: || None,
    slow: true,
};

/// Less can be broken; more would let one caller buy many times the work with each signature.
const MODULUS_BITS: std::ops::RangeInclusive<u32> = 2048..=4096;
/// Below it padding is all that keeps a signature from being a root (FIPS 186-5, section 5.1);
/// above 33 bits verifying gets dear.
const EXPONENT: std::ops::RangeInclusive<u64> = 65_537..=(1 << 33);

/// `rsaEncryption` (RFC 8017, appendix A.1), as the content of an `AlgorithmIdentifier`.
const RSA: &[u8] = &[
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
];
/// `id-RSASSA-PSS` without parameters, which leaves hash and salt open.
const RSA_PSS: &[u8] = &[
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a,
];

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;

/// Modulus and exponent, big-endian, without leading zeros.
type Public<'a> = (&'a [u8], &'a [u8]);

fn generate() -> Option<Vec<u8>> {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).ok()?;
    Some(pair.as_der().ok()?.as_ref().to_vec())
}

/// PKCS #8 (RFC 5208), whichever of the two identifiers it has: we sign with PSS alone.
fn read_private(der: &[u8]) -> Option<Arc<dyn Sign>> {
    let (whole, []) = element(SEQUENCE, der)? else {
        return None;
    };
    let ([0], rest) = element(INTEGER, whole)? else {
        return None;
    };
    let (algorithm, rest) = element(SEQUENCE, rest)?;
    let (key, _attributes) = element(OCTET_STRING, rest)?;
    if ![RSA, RSA_PSS].contains(&algorithm) {
        return None;
    }
    // The library checks that the parts of the key belong together.
    let pair = RsaKeyPair::from_der(key).ok()?;
    is_strong(components(pair.public_key().as_ref())?)?;
    Some(Arc::new(pair))
}

/// What a `SubjectPublicKeyInfo` holds (RFC 5280, section 4.1), under one of these identifiers.
fn public<'a>(der: &'a [u8], algorithms: &[&[u8]]) -> Option<Public<'a>> {
    let (whole, []) = element(SEQUENCE, der)? else {
        return None;
    };
    let (algorithm, rest) = element(SEQUENCE, whole)?;
    let (bits, []) = element(BIT_STRING, rest)? else {
        return None;
    };
    let key = bits.strip_prefix(&[0])?;
    algorithms
        .contains(&algorithm)
        .then(|| components(key))
        .flatten()
}

/// `RSAPublicKey` (RFC 8017, appendix A.1.1).
fn components(der: &[u8]) -> Option<Public<'_>> {
    let (whole, []) = element(SEQUENCE, der)? else {
        return None;
    };
    let (modulus, rest) = element(INTEGER, whole)?;
    let (exponent, []) = element(INTEGER, rest)? else {
        return None;
    };
    Some((positive(modulus)?, positive(exponent)?))
}

/// A number above zero: one zero before it says that it is not negative, a second one nothing.
fn positive(number: &[u8]) -> Option<&[u8]> {
    match number {
        [0, rest @ ..] if rest.first()? >= &0x80 => Some(rest),
        [0x01..=0x7f, ..] => Some(number),
        _ => None,
    }
}

fn is_strong((modulus, exponent): Public<'_>) -> Option<()> {
    let bytes = u32::try_from(modulus.len()).ok()?;
    let unused = modulus.first()?.leading_zeros();
    let bits = bytes.checked_mul(8)?.checked_sub(unused)?;
    let exponent = exponent.iter().try_fold(0_u64, |n, byte| {
        n.checked_mul(256)?.checked_add((*byte).into())
    })?;
    let odd = modulus.last()? & 1 == 1 && exponent & 1 == 1;
    (odd && MODULUS_BITS.contains(&bits) && EXPONENT.contains(&exponent)).then_some(())
}

fn parsed(params: &'static RsaParameters, (n, e): Public<'_>) -> Option<Arc<dyn Verify>> {
    is_strong((n, e))?;
    let key: ParsedPublicKey = RsaPublicKeyComponents { n, e }
        .to_parsed_public_key(params)
        .ok()?;
    Some(Arc::new(key))
}

/// RFC 7518, section 6.3.1. Without `alg` it would be for either.
fn parsed_jwk(alg: &str, params: &'static RsaParameters, jwk: &Value) -> Option<Arc<dyn Verify>> {
    let text = |name| jwk.get(name)?.as_str();
    if text("kty")? != "RSA" || text("alg")? != alg {
        return None;
    }
    let number = |name| URL_SAFE_NO_PAD.decode(text(name)?).ok();
    parsed(params, (&number("n")?, &number("e")?))
}

/// The content of the element that DER begins with, and what follows it (X.690, section 8.1).
fn element(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = match der.strip_prefix(&[tag])? {
        [length @ ..=0x7f, rest @ ..] | [0x81, length, rest @ ..] => (usize::from(*length), rest),
        [0x82, high, low, rest @ ..] => (u16::from_be_bytes([*high, *low]).into(), rest),
        _ => return None,
    };
    rest.split_at_checked(length)
}

impl Sign for RsaKeyPair {
    fn sign(&self, base: &[u8]) -> Option<Vec<u8>> {
        let mut signature = vec![0; self.public_modulus_len()];
        Self::sign(
            self,
            &RSA_PSS_SHA512,
            &SystemRandom::new(),
            base,
            &mut signature,
        )
        .ok()?;
        Some(signature)
    }

    /// Under `rsaEncryption`, which everybody reads.
    fn public_der(&self) -> Vec<u8> {
        let der = self.public_key().as_der();
        der.map_or_else(|_| Vec::new(), |der| der.as_ref().to_vec())
    }

    fn public_jwk(&self) -> Value {
        let (n, e) = components(self.public_key().as_ref()).unwrap_or_default();
        serde_json::json!({
            "kty": "RSA",
            "n": URL_SAFE_NO_PAD.encode(n),
            "e": URL_SAFE_NO_PAD.encode(e),
            "alg": "PS512",
        })
    }
}
