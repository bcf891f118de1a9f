//! PKCS #12 (RFC 7292), the files in which authorities hand out a private key with its certificate.
//! Only read here, once, to be written as PEM.

use p12_keystore::Pkcs12Archive;
use p12_keystore::error::Error;

use crate::crypto::certificate::Certificate;
use crate::crypto::rsa::{RsaPrivateKey, RsaScheme};
use crate::crypto::sm2::{DEFAULT_USER_ID, Sm2PrivateKey};

/// A private key and its certificates. Cannot be printed.
pub struct KeyWithCertificates {
    /// The key as PKCS #8 (RFC 5208).
    pub private_key: Vec<u8>,
    /// The key's certificate.
    pub certificate: Certificate,
    /// Who issued it, who issued that, and so on, as far as the file has them; by name, nothing is
    /// verified.
    pub issuers: Vec<Certificate>,
}

/// Why a file is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Pkcs12Fault {
    /// It is another kind of file, damaged, or encrypted in an unknown way.
    #[error("expected PKCS #12 (.pfx or .p12) in DER, with a known encryption")]
    Unreadable,
    /// The password does not open it, or it was altered.
    #[error("the password does not open the file")]
    WrongPassword,
    /// It has no key, or more than one.
    #[error("expected one private key, found {0}")]
    Keys(usize),
    /// The key is of an unsupported kind.
    #[error("expected an RSA key of 2048 to 4096 bits, or an SM2 key")]
    KeyKind,
    /// No certificate is of this key.
    #[error("the file has no certificate of its private key")]
    NoCertificate,
}

/// Reads a file with one private key. Of several certificates of the key, the one that expires last
/// is taken.
///
/// # Errors
/// [`Pkcs12Fault`].
pub fn read(der: &[u8], password: &str) -> Result<KeyWithCertificates, Pkcs12Fault> {
    let archive = Pkcs12Archive::from_pkcs12(der, password).map_err(|error| fault(&error))?;
    let [key] = archive.keys.as_slice() else {
        return Err(Pkcs12Fault::Keys(archive.keys.len()));
    };
    let private_key = key.key.as_der().to_vec();
    let public_key = public_half(&private_key).ok_or(Pkcs12Fault::KeyKind)?;
    let certificates: Vec<Certificate> = archive
        .certs
        .iter()
        .filter_map(|bag| Certificate::from_der(bag.cert.as_der()))
        .collect();
    let certificate = certificates
        .iter()
        .filter(|certificate| certificate.public_key() == public_key)
        .max_by_key(|certificate| certificate.validity_s().1)
        .ok_or(Pkcs12Fault::NoCertificate)?;
    Ok(KeyWithCertificates {
        private_key,
        certificate: certificate.clone(),
        issuers: issuers(certificate, &certificates),
    })
}

#[expect(clippy::wildcard_enum_match_arm, reason = "a library's, and growing")]
fn fault(error: &Error) -> Pkcs12Fault {
    match error {
        // A file without a digest is decrypted at once, which then fails in one of the other ways.
        Error::MacError(_) | Error::UnpadError | Error::Pkcs5Error(_) => Pkcs12Fault::WrongPassword,
        _ => Pkcs12Fault::Unreadable,
    }
}

/// The public half of a supported key, as `SubjectPublicKeyInfo`.
fn public_half(pkcs8: &[u8]) -> Option<Vec<u8>> {
    let rsa = RsaPrivateKey::from_pkcs8(pkcs8, RsaScheme::Pkcs1Sha256);
    if let Some(key) = rsa {
        return Some(key.public_spki());
    }
    let sm2 = Sm2PrivateKey::from_pkcs8(pkcs8, DEFAULT_USER_ID)?;
    Some(sm2.public_spki())
}

/// Follows the names of issuers up to the first that is its own, or that is not there.
fn issuers(certificate: &Certificate, all: &[Certificate]) -> Vec<Certificate> {
    let mut found: Vec<Certificate> = Vec::new();
    let mut last = certificate;
    while !last.names_as_issuer(last) {
        let next = all.iter().find(|other| {
            last.names_as_issuer(other) && *other != certificate && !found.contains(other)
        });
        let Some(issuer) = next else {
            break;
        };
        found.push(issuer.clone());
        last = issuer;
    }
    found
}
