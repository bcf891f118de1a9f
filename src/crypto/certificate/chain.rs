//! Whether a certificate was issued under an authority: the path of RFC 5280, section 6, built and
//! checked by the library that also checks TLS certificates, with RSA, and with SM2 added to it.

use std::time::Duration;

use rustls::pki_types::{
    AlgorithmIdentifier, CertificateDer, InvalidSignature, SignatureVerificationAlgorithm,
    TrustAnchor, UnixTime,
};
use webpki::aws_lc_rs::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
};
use webpki::{
    EndEntityCert, Error, ExtendedKeyUsageValidator, KeyPurposeIdIter, anchor_from_trusted_cert,
};

use super::Certificate;
use crate::crypto::sm2::{DEFAULT_USER_ID, Sm2Encoding, Sm2PublicKey};

/// RSA below 2048 bits, and SHA-1, are not among them.
const ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512,
    &Sm2WithSm3 {
        identifier: &SM2_WITH_SM3,
    },
    &Sm2WithSm3 {
        identifier: &SM2_WITH_SM3_AND_NULL,
    },
];

/// `1.2.156.10197.1.501`, as the content of an `AlgorithmIdentifier`.
const SM2_WITH_SM3: [u8; 10] = [0x06, 0x08, 0x2a, 0x81, 0x1c, 0xcf, 0x55, 0x01, 0x83, 0x75];
/// The same with the parameters that some authorities add.
const SM2_WITH_SM3_AND_NULL: [u8; 12] = [
    0x06, 0x08, 0x2a, 0x81, 0x1c, 0xcf, 0x55, 0x01, 0x83, 0x75, 0x05, 0x00,
];
/// An EC key on the curve of SM2, as the content of an `AlgorithmIdentifier`.
const SM2_KEY: [u8; 19] = [
    0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x81, 0x1c, 0xcf, 0x55,
    0x01, 0x82, 0x2d,
];

/// Maximum number of intermediates: each may cost a signature.
pub const INTERMEDIATES_MAX: usize = 8;

/// Why a certificate is not trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    /// A certificate of the path is not yet valid, or expired.
    #[error("a certificate of the chain is not in force")]
    NotInForce,
    /// No path leads to a root: another issuer, a bad signature, an algorithm that is not accepted,
    /// a certificate that may not issue others, too many intermediates, or a key that may not sign
    /// messages.
    #[error("the certificate does not chain to a configured root")]
    Untrusted,
}

impl Certificate {
    /// Checks that this certificate was issued by one of the roots, or by an intermediate that was,
    /// that all of them are in force, and that its key may sign messages. The roots are trusted; which
    /// extended key usages the certificate names does not matter. Whose it is, the caller compares.
    ///
    /// # Errors
    /// [`ChainFault`].
    pub fn verify_chain(
        &self,
        intermediates: &[Self],
        roots: &[Self],
        now_s: i64,
    ) -> Result<(), ChainFault> {
        if !self.may_sign || intermediates.len() > INTERMEDIATES_MAX {
            return Err(ChainFault::Untrusted);
        }
        let now = u64::try_from(now_s).map_err(|_| ChainFault::NotInForce)?;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
        let current: Vec<CertificateDer<'_>> = roots
            .iter()
            .filter(|root| root.is_in_force(now_s))
            .map(library_form)
            .collect();
        if current.is_empty() && !roots.is_empty() {
            return Err(ChainFault::NotInForce);
        }
        let anchors: Vec<TrustAnchor<'_>> = current
            .iter()
            .filter_map(|root| anchor_from_trusted_cert(root).ok())
            .collect();
        let intermediates: Vec<_> = intermediates.iter().map(library_form).collect();
        let leaf = library_form(self);
        let leaf = EndEntityCert::try_from(&leaf).map_err(|error| fault(&error))?;
        leaf.verify_for_usage(
            ALGORITHMS,
            &anchors,
            &intermediates,
            now,
            AnyUsage,
            None,
            None,
        )
        .map_err(|error| fault(&error))?;
        Ok(())
    }
}

fn library_form(certificate: &Certificate) -> CertificateDer<'_> {
    CertificateDer::from(certificate.der())
}

#[expect(clippy::wildcard_enum_match_arm, reason = "a library's, and growing")]
fn fault(error: &Error) -> ChainFault {
    match error {
        Error::CertExpired { .. } | Error::CertNotValidYet { .. } => ChainFault::NotInForce,
        _ => ChainFault::Untrusted,
    }
}

/// Certificates that sign payment messages have no agreed extended key usage.
struct AnyUsage;

impl ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, _usages: KeyPurposeIdIter<'_, '_>) -> Result<(), Error> {
        Ok(())
    }
}

/// Signatures of certificates with SM2, under the default user id.
#[derive(Debug)]
struct Sm2WithSm3 {
    identifier: &'static [u8],
}

impl SignatureVerificationAlgorithm for Sm2WithSm3 {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let key = Sm2PublicKey::from_point(public_key, DEFAULT_USER_ID).ok_or(InvalidSignature)?;
        let good = key.verify(message, signature, Sm2Encoding::Der);
        good.then_some(()).ok_or(InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        AlgorithmIdentifier::from_slice(&SM2_KEY)
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        AlgorithmIdentifier::from_slice(self.identifier)
    }
}
