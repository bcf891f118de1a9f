//! The merchant's side of RFC 9421, implemented separately from the gateway's: the benchmark signs
//! with every algorithm that a merchant may use, also those that the gateway only verifies.

use std::fs;
use std::path::Path;

use anyhow::{Result, anyhow};
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RSA_PSS_SHA512, RsaEncoding,
};
use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::setup::enrolment::secret;

/// The algorithm of a key, by its name in RFC 9421.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignerAlgorithm {
    Ed25519,
    EcdsaP256,
    RsaPss,
    RsaV15,
    Hmac,
}

impl SignerAlgorithm {
    pub(crate) const ALL: [Self; 5] = [
        Self::Ed25519,
        Self::EcdsaP256,
        Self::RsaPss,
        Self::RsaV15,
        Self::Hmac,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::EcdsaP256 => "ecdsa-p256-sha256",
            Self::RsaPss => "rsa-pss-sha512",
            Self::RsaV15 => "rsa-v1_5-sha256",
            Self::Hmac => "hmac-sha256",
        }
    }
}

/// A key of the merchant.
pub(crate) struct BenchSigner {
    pub(crate) id: String,
    pub(crate) algorithm: SignerAlgorithm,
    key: SignerKey,
}

enum SignerKey {
    Ed25519(Ed25519KeyPair),
    Ecdsa(EcdsaKeyPair),
    Rsa(RsaPair, &'static dyn RsaEncoding),
    Hmac(Box<hmac::Key>),
}

impl BenchSigner {
    /// Creates a key and writes what the gateway needs: `NAME.pub`, or for a shared secret, in
    /// hexadecimal, `NAME.secret`.
    pub(crate) fn make(dir: &Path, name: &str, algorithm: SignerAlgorithm) -> Result<Self> {
        let random = SystemRandom::new();
        let (key, public) = match algorithm {
            SignerAlgorithm::Ed25519 => {
                let key = Ed25519KeyPair::generate()?;
                let public: PublicKeyX509Der<'_> = key.public_key().as_der()?;
                let public = public.as_ref().to_vec();
                (SignerKey::Ed25519(key), public)
            }
            SignerAlgorithm::EcdsaP256 => {
                let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)?;
                let key =
                    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, made.as_ref())?;
                let public: PublicKeyX509Der<'_> = key.public_key().as_der()?;
                let public = public.as_ref().to_vec();
                (SignerKey::Ecdsa(key), public)
            }
            SignerAlgorithm::RsaPss | SignerAlgorithm::RsaV15 => {
                let key = RsaPair::generate(KeySize::Rsa2048)?;
                let public: PublicKeyX509Der<'_> = key.public_key().as_der()?;
                let public = public.as_ref().to_vec();
                let padding: &'static dyn RsaEncoding = if algorithm == SignerAlgorithm::RsaV15 {
                    &RSA_PKCS1_SHA256
                } else {
                    &RSA_PSS_SHA512
                };
                (SignerKey::Rsa(key, padding), public)
            }
            SignerAlgorithm::Hmac => {
                let mut shared = [0_u8; 32];
                rand::fill(&mut shared)?;
                let text = paymux::domain::identifiers::hex(&shared);
                secret(dir, &format!("{name}.secret"), &text)?;
                (
                    SignerKey::Hmac(Box::new(hmac::Key::new(hmac::HMAC_SHA256, &shared))),
                    Vec::new(),
                )
            }
        };
        if algorithm != SignerAlgorithm::Hmac {
            fs::write(dir.join(format!("{name}.pub")), pem("PUBLIC KEY", &public))?;
        }
        Ok(Self {
            id: name.to_owned(),
            algorithm,
            key,
        })
    }

    /// The signature over a base, in base64.
    pub(crate) fn sign(&self, base: &[u8]) -> Result<String> {
        let random = SystemRandom::new();
        Ok(match &self.key {
            SignerKey::Ed25519(key) => STANDARD.encode(key.sign(base)),
            SignerKey::Ecdsa(key) => STANDARD.encode(key.sign(&random, base)?),
            SignerKey::Rsa(key, padding) => {
                let mut made = vec![0; key.public_modulus_len()];
                key.sign(*padding, &random, base, &mut made)?;
                STANDARD.encode(made)
            }
            SignerKey::Hmac(key) => STANDARD.encode(hmac::sign(key, base)),
        })
    }
}

/// An RSA key of 2,048 bits for the platform, as PKCS #8 in PEM.
pub(crate) fn platform_rsa() -> Result<String> {
    let key = RsaPair::generate(KeySize::Rsa2048)?;
    let private: Pkcs8V1Der<'_> = key.as_der().map_err(|_| anyhow!("cannot encode PKCS #8"))?;
    Ok(pem("PRIVATE KEY", private.as_ref()))
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out + &format!("-----END {label}-----\n")
}
