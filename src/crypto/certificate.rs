//! X.509 certificates (RFC 5280): the fields that institutions compare, and whether one was issued
//! under an authority ([`chain`]). Reads no clock and fetches nothing; no revocation is checked.

pub mod chain;
mod name;

use x509_parser::certificate::X509Certificate;

use crate::crypto::digest::{md5, sha256};
use crate::crypto::{hex, pem};

/// The longest serial number (RFC 5280, section 4.1.2.2). Unit: bytes.
pub const SERIAL_BYTES_MAX: usize = 20;

/// The family of algorithms of PKCS #1, `1.2.840.113549.1.1`, as the beginning of an identifier.
const RSA_FAMILY: &str = "1.2.840.113549.1.1.";

/// A certificate that was parsed. Nothing is known of who issued it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    serial: Vec<u8>,
    serial_decimal: String,
    issuer: Option<String>,
    issuer_der: Vec<u8>,
    subject_der: Vec<u8>,
    common_name: Option<String>,
    public_key: Vec<u8>,
    validity_s: (i64, i64),
    has_rsa_signature: bool,
    may_sign: bool,
}

impl Certificate {
    /// Parses DER; `None` if it is damaged, followed by anything, or its serial number is not
    /// positive or longer than [`SERIAL_BYTES_MAX`].
    pub fn from_der(der: &[u8]) -> Option<Self> {
        let (rest, parsed) = x509_parser::parse_x509_certificate(der).ok()?;
        let serial = magnitude(parsed.raw_serial())?;
        if !rest.is_empty() {
            return None;
        }
        let validity = parsed.validity();
        Some(Self {
            serial: serial.to_vec(),
            serial_decimal: parsed.tbs_certificate.serial.to_string(),
            issuer: name::most_specific_first(parsed.issuer()),
            issuer_der: parsed.issuer().as_raw().to_vec(),
            subject_der: parsed.subject().as_raw().to_vec(),
            common_name: name::common_name(parsed.subject()),
            public_key: parsed.public_key().raw.to_vec(),
            validity_s: (
                validity.not_before.timestamp(),
                validity.not_after.timestamp(),
            ),
            has_rsa_signature: has_rsa_signature(&parsed),
            may_sign: may_sign(&parsed)?,
            der: der.to_vec(),
        })
    }

    /// Parses the first certificate of a text in PEM; `None` as above.
    pub fn from_pem(text: &str) -> Option<Self> {
        Self::from_der(&pem::read_block(pem::CERTIFICATE, text)?)
    }

    /// The certificates of a text in PEM, in order, without those that cannot be parsed.
    pub fn all_from_pem(text: &str) -> Vec<Self> {
        pem::read_blocks(pem::CERTIFICATE, text)
            .into_iter()
            .filter_map(|der| Self::from_der(&der?))
            .collect()
    }

    /// The certificate in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The serial number as a decimal number.
    pub fn serial_decimal(&self) -> &str {
        &self.serial_decimal
    }

    /// The serial number in upper-case hexadecimal digits, two for each byte.
    pub fn serial_hex(&self) -> String {
        hex::upper(&self.serial)
    }

    /// The issuer's name as text, the most specific part first: `CN=…,OU=…,O=…,C=CN`. Special
    /// characters are escaped (RFC 2253, section 2.4). `None` if it has a part with another key
    /// than those of RFC 2253, or that is no text.
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// The common name of the subject; `None` unless there is exactly one.
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// The public key as `SubjectPublicKeyInfo`.
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// First and last second of the validity. Unit: Unix seconds.
    pub fn validity_s(&self) -> (i64, i64) {
        self.validity_s
    }

    /// Whether the certificate is valid at a time. Unit: Unix seconds.
    pub fn is_in_force(&self, now_s: i64) -> bool {
        let (from, until) = self.validity_s;
        (from..=until).contains(&now_s)
    }

    /// SHA-256 of the certificate.
    pub fn fingerprint(&self) -> [u8; 32] {
        sha256(&self.der)
    }

    /// Whether the other certificate's subject is this one's issuer by name, which proves nothing.
    pub fn names_as_issuer(&self, other: &Self) -> bool {
        self.issuer_der == other.subject_der
    }

    /// Lower-case MD5 of issuer and decimal serial number, by which Alipay names a certificate.
    /// Anybody can make another with the same name: it selects a certificate, and proves nothing.
    /// `None` if the issuer's name is.
    pub fn issuer_serial_md5(&self) -> Option<String> {
        let text = [self.issuer()?, self.serial_decimal()].concat();
        Some(hex::lower(&md5(text.as_bytes())))
    }
}

/// [`Certificate::issuer_serial_md5`] of each certificate of a text in PEM that is signed with an
/// RSA algorithm, in order, joined by `_`. Others, and those that cannot be parsed, are left out;
/// `None` if none is left.
pub fn rsa_issuer_serial_md5s(text: &str) -> Option<String> {
    let numbers: Vec<String> = Certificate::all_from_pem(text)
        .iter()
        .filter(|certificate| certificate.has_rsa_signature)
        .filter_map(Certificate::issuer_serial_md5)
        .collect();
    Some(numbers.join("_")).filter(|joined| !joined.is_empty())
}

/// Whether its key may sign messages: its usage names signatures, or is not restricted. An authority
/// that issues two certificates under one name keeps a copy of the other key, which only encrypts.
fn may_sign(certificate: &X509Certificate<'_>) -> Option<bool> {
    let usage = certificate.key_usage().ok()?;
    Some(usage.is_none_or(|usage| usage.value.digital_signature() || usage.value.non_repudiation()))
}

/// A positive number, big-endian, without leading zeros.
fn magnitude(number: &[u8]) -> Option<&[u8]> {
    if number.first()? >= &0x80 {
        return None;
    }
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let digits = number.get(zeros..)?;
    (!digits.is_empty() && digits.len() <= SERIAL_BYTES_MAX).then_some(digits)
}

fn has_rsa_signature(certificate: &X509Certificate<'_>) -> bool {
    let algorithm = certificate.signature_algorithm.algorithm.to_id_string();
    algorithm.starts_with(RSA_FAMILY)
}
