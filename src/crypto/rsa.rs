//! RSA signatures (RFC 8017): RSASSA-PSS with SHA-512 and RSASSA-PKCS1-v1_5 with SHA-256, signing
//! and verifying. A key is parsed for one scheme and used for no other, because keys rarely say
//! which scheme they are for (Q3). Encryption is in [`oaep`].

pub mod oaep;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    KeyPair as _, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256,
    RSA_PSS_2048_8192_SHA512, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair, RsaParameters,
    RsaPublicKeyComponents,
};

use crate::crypto::der::{BIT_STRING, INTEGER, OCTET_STRING, SEQUENCE, element, positive};
use crate::crypto::pem;

/// Shorter ones can be broken; longer ones would let a caller multiply the cost of each
/// verification.
const MODULUS_BITS: std::ops::RangeInclusive<u32> = 2048..=4096;
/// Below the minimum only padding keeps a signature from being a plain root (FIPS 186-5, section
/// 5.1); above 33 bits verifying becomes expensive.
const EXPONENT: std::ops::RangeInclusive<u64> = 65_537..=(1 << 33);

/// `rsaEncryption` (RFC 8017, appendix A.1), as the content of an `AlgorithmIdentifier`.
const RSA: &[u8] = &[
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
];
/// `id-RSASSA-PSS` without parameters, which leaves hash and salt unspecified.
const RSA_PSS: &[u8] = &[
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a,
];

/// Modulus and exponent, big-endian, without leading zeros.
type Public<'a> = (&'a [u8], &'a [u8]);

/// Signature scheme: how a message is padded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RsaScheme {
    /// RSASSA-PSS with SHA-512 throughout and a 64-byte salt.
    PssSha512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Pkcs1Sha256,
}

impl RsaScheme {
    /// Accepted algorithm identifiers of a key: one marked for PSS may be used for nothing else
    /// (RFC 4055, section 1.2).
    fn identifiers(self) -> &'static [&'static [u8]] {
        match self {
            Self::PssSha512 => &[RSA, RSA_PSS],
            Self::Pkcs1Sha256 => &[RSA],
        }
    }

    fn signing(self) -> &'static dyn RsaEncoding {
        match self {
            Self::PssSha512 => &RSA_PSS_SHA512,
            Self::Pkcs1Sha256 => &RSA_PKCS1_SHA256,
        }
    }

    fn verifying(self) -> &'static RsaParameters {
        match self {
            Self::PssSha512 => &RSA_PSS_2048_8192_SHA512,
            Self::Pkcs1Sha256 => &RSA_PKCS1_2048_8192_SHA256,
        }
    }
}

/// A private key for one scheme. Cannot be printed.
pub struct RsaPrivateKey {
    pair: RsaKeyPair,
    scheme: RsaScheme,
}

impl RsaPrivateKey {
    /// Generates a 2048-bit key for either scheme, as PKCS #8; `None` if there is no randomness.
    pub fn generate_pkcs8() -> Option<Vec<u8>> {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).ok()?;
        Some(pair.as_der().ok()?.as_ref().to_vec())
    }

    /// Parses PKCS #8 (RFC 5208); `None` if it is of another kind, marked for another scheme,
    /// damaged or weak.
    pub fn from_pkcs8(der: &[u8], scheme: RsaScheme) -> Option<Self> {
        let (whole, []) = element(SEQUENCE, der)? else {
            return None;
        };
        let ([0], rest) = element(INTEGER, whole)? else {
            return None;
        };
        let (algorithm, rest) = element(SEQUENCE, rest)?;
        let (key, _attributes) = element(OCTET_STRING, rest)?;
        if !scheme.identifiers().contains(&algorithm) {
            return None;
        }
        Self::from_pkcs1(key, scheme)
    }

    /// Parses `RSAPrivateKey` (RFC 8017, appendix A.1.2); `None` if it is damaged or weak.
    pub fn from_pkcs1(der: &[u8], scheme: RsaScheme) -> Option<Self> {
        // The library checks that the parts of the key are consistent.
        let pair = RsaKeyPair::from_der(der).ok()?;
        strength(components(pair.public_key().as_ref())?)?;
        Some(Self { pair, scheme })
    }

    /// Parses a key as institutions and their tools write it: PKCS #8 or PKCS #1, in PEM or as bare
    /// Base64, with line breaks or without; `None` as above.
    pub fn from_text(text: &str, scheme: RsaScheme) -> Option<Self> {
        if let Some(der) = pem::read_block(pem::PRIVATE_KEY, text) {
            return Self::from_pkcs8(&der, scheme);
        }
        if let Some(der) = pem::read_block(pem::RSA_PRIVATE_KEY, text) {
            return Self::from_pkcs1(&der, scheme);
        }
        let der = pem::read_bare(text)?;
        Self::from_pkcs8(&der, scheme).or_else(|| Self::from_pkcs1(&der, scheme))
    }

    /// Signs a message, which takes about as long as the rest of a request; `None` only if the
    /// library fails.
    pub fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(
                self.scheme.signing(),
                &SystemRandom::new(),
                message,
                &mut signature,
            )
            .ok()?;
        Some(signature)
    }

    /// The public half as `SubjectPublicKeyInfo` under `rsaEncryption`, which all tools accept.
    pub fn public_spki(&self) -> Vec<u8> {
        let der = self.pair.public_key().as_der();
        der.map_or_else(|_| Vec::new(), |der| der.as_ref().to_vec())
    }

    /// The public half as modulus and exponent, big-endian, without leading zeros.
    pub fn public_components(&self) -> (&[u8], &[u8]) {
        components(self.pair.public_key().as_ref()).unwrap_or_default()
    }
}

/// A public key for one scheme.
pub struct RsaPublicKey(ParsedPublicKey);

impl RsaPublicKey {
    /// Parses a `SubjectPublicKeyInfo` (RFC 5280, section 4.1); `None` if it is of another kind,
    /// marked for another scheme, damaged or weak.
    pub fn from_spki(der: &[u8], scheme: RsaScheme) -> Option<Self> {
        let (n, e) = public_components(der, scheme.identifiers())?;
        Self::from_components(n, e, scheme)
    }

    /// Parses `RSAPublicKey` (RFC 8017, appendix A.1.1); `None` if it is damaged or weak.
    pub fn from_pkcs1(der: &[u8], scheme: RsaScheme) -> Option<Self> {
        let (n, e) = components(der)?;
        Self::from_components(n, e, scheme)
    }

    /// Parses a key as institutions and their tools write it: `SubjectPublicKeyInfo` or PKCS #1, in
    /// PEM or as bare Base64, with line breaks or without; `None` as above.
    pub fn from_text(text: &str, scheme: RsaScheme) -> Option<Self> {
        if let Some(der) = pem::read_block(pem::PUBLIC_KEY, text) {
            return Self::from_spki(&der, scheme);
        }
        if let Some(der) = pem::read_block(pem::RSA_PUBLIC_KEY, text) {
            return Self::from_pkcs1(&der, scheme);
        }
        let der = pem::read_bare(text)?;
        Self::from_spki(&der, scheme).or_else(|| Self::from_pkcs1(&der, scheme))
    }

    /// A key from modulus and exponent, big-endian; `None` if it is weak.
    pub fn from_components(n: &[u8], e: &[u8], scheme: RsaScheme) -> Option<Self> {
        strength((n, e))?;
        let key = RsaPublicKeyComponents { n, e }.to_parsed_public_key(scheme.verifying());
        Some(Self(key.ok()?))
    }

    /// Whether this is a valid signature of the message by this key: as long as the modulus, with
    /// exactly the padding of the scheme.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.0.verify_sig(message, signature).is_ok()
    }
}

/// Modulus and exponent in a `SubjectPublicKeyInfo` with one of these algorithm identifiers.
fn public_components<'a>(der: &'a [u8], identifiers: &[&[u8]]) -> Option<Public<'a>> {
    let (whole, []) = element(SEQUENCE, der)? else {
        return None;
    };
    let (algorithm, rest) = element(SEQUENCE, whole)?;
    let (bits, []) = element(BIT_STRING, rest)? else {
        return None;
    };
    if !identifiers.contains(&algorithm) {
        return None;
    }
    components(bits.strip_prefix(&[0])?)
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

/// `None` if a key of these numbers is weak, or too expensive to use.
fn strength((modulus, exponent): Public<'_>) -> Option<()> {
    let bytes = u32::try_from(modulus.len()).ok()?;
    let unused = modulus.first()?.leading_zeros();
    let bits = bytes.checked_mul(8)?.checked_sub(unused)?;
    let exponent = exponent.iter().try_fold(0_u64, |n, byte| {
        n.checked_mul(256)?.checked_add((*byte).into())
    })?;
    let odd = modulus.last()? & 1 == 1 && exponent & 1 == 1;
    (odd && MODULUS_BITS.contains(&bits) && EXPONENT.contains(&exponent)).then_some(())
}
