//! Keys and certificates of the counterpart: an authority of its own in two stages, merchants'
//! certificates, and the signature with its double hash. Holds what the gateway's own certificate
//! code must not be asked for, so that both sides stay independent.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize, SerialNumber, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::crypto::digest::sha256;
use crate::crypto::pem;
use crate::crypto::rsa::{RsaPrivateKey, RsaPublicKey, RsaScheme};
use crate::sandbox::authority::PemIdentity;
use crate::sandbox::unionpay::form::UnionPayFields;

/// The name of UnionPay's signing certificate; the third part is what merchants check.
const COMMON_NAME: &str = "041@8310000000083040@中国银联股份有限公司@00016495";
/// A name as above of somebody else.
const OTHER_NAME: &str = "041@8310000000083040@某某支付股份有限公司@00016495";
/// Of the first signing certificate; each further one has the next.
const SIGNER_SERIAL: u64 = 4_251_298_764;

/// A key or a certificate is unusable.
#[derive(Debug, thiserror::Error)]
#[error("key or certificate: {0}")]
pub struct UnionPayKeyFault(String);

fn fault(why: impl fmt::Display) -> UnionPayKeyFault {
    UnionPayKeyFault(why.to_string())
}

/// Issues UnionPay's and merchants' certificates: a root and a middle certificate. The same keys
/// give the same certificates.
pub struct UnionPayAuthority {
    root: CertifiedIssuer<'static, KeyPair>,
    middle: CertifiedIssuer<'static, KeyPair>,
}

impl UnionPayAuthority {
    /// Creates one with new keys.
    ///
    /// # Errors
    /// [`UnionPayKeyFault`] if there is no randomness.
    pub fn new() -> Result<Self, UnionPayKeyFault> {
        Self::from_keys(&Self::draw_key()?, &Self::draw_key()?)
    }

    /// A new RSA key (PKCS #8, PEM).
    ///
    /// # Errors
    /// [`UnionPayKeyFault`] if there is no randomness.
    pub fn draw_key() -> Result<String, UnionPayKeyFault> {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048);
        Ok(key.map_err(fault)?.serialize_pem())
    }

    /// The authority of these keys (PKCS #8, PEM).
    ///
    /// # Errors
    /// [`UnionPayKeyFault`] for a key that is not RSA.
    pub fn from_keys(root_pem: &str, middle_pem: &str) -> Result<Self, UnionPayKeyFault> {
        let params = authority_params("Sandbox ROOT", 1)?;
        let root = CertifiedIssuer::self_signed(params, read_key(root_pem)?).map_err(fault)?;
        let params = authority_params("Sandbox OCA1", 2)?;
        let middle =
            CertifiedIssuer::signed_by(params, read_key(middle_pem)?, &root).map_err(fault)?;
        Ok(Self { root, middle })
    }

    /// The root certificate, in PEM.
    pub fn root_pem(&self) -> String {
        self.root.pem()
    }

    /// The middle certificate, in PEM.
    pub fn middle_pem(&self) -> String {
        self.middle.pem()
    }

    /// A merchant's signing certificate with a new key; the serial number is its `certId`.
    ///
    /// # Errors
    /// [`UnionPayKeyFault`] if there is no randomness.
    pub fn issue_merchant(
        &self,
        mer_id: &str,
        serial: u64,
    ) -> Result<PemIdentity, UnionPayKeyFault> {
        let key_pem = UnionPayAuthority::draw_key()?;
        let name = format!("041@Z2025@{mer_id}@1");
        let certificates_pem = self.issue(&name, serial, (2025, 2045), &key_pem)?;
        Ok(PemIdentity {
            certificates_pem,
            key_pem,
        })
    }

    /// Valid from the first day of one year to the first day of another.
    fn issue(
        &self,
        name: &str,
        serial: u64,
        (from, until): (i32, i32),
        key_pem: &str,
    ) -> Result<String, UnionPayKeyFault> {
        let mut params = named(name, serial)?;
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::ContentCommitment,
        ];
        let certificate = params.signed_by(&read_key(key_pem)?, &self.middle);
        Ok(certificate.map_err(fault)?.pem())
    }
}

fn authority_params(name: &str, serial: u64) -> Result<CertificateParams, UnionPayKeyFault> {
    let mut params = named(name, serial)?;
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2045, 1, 1);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn named(name: &str, serial: u64) -> Result<CertificateParams, UnionPayKeyFault> {
    let mut params = CertificateParams::new(Vec::new()).map_err(fault)?;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CountryName, "CN");
    subject.push(DnType::OrganizationName, "Sandbox Financial CA");
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    params.serial_number = Some(SerialNumber::from_slice(&serial.to_be_bytes()));
    Ok(params)
}

fn read_key(pem: &str) -> Result<KeyPair, UnionPayKeyFault> {
    KeyPair::from_pkcs8_pem_and_sign_algo(pem, &PKCS_RSA_SHA256).map_err(fault)
}

fn der_of(pem: &str) -> Result<CertificateDer<'static>, UnionPayKeyFault> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(fault)
}

/// What signs UnionPay's messages, with the certificates that faults put in its place. All hold the
/// same key, so that each fails for one reason only.
pub(super) struct UnionPaySigningSet {
    key: RsaPrivateKey,
    /// Of UnionPay, valid.
    right: String,
    /// Of somebody else, in the same chain.
    other_name: String,
    expired: String,
    /// Of UnionPay by name, in another chain whose authorities have the same names.
    foreign: String,
    /// Signs what is to be forged.
    forging: RsaPrivateKey,
    /// Of the certificate's text in an answer.
    line_end: &'static str,
}

/// The certificate of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnionPayCertificateChoice {
    Right,
    OtherName,
    Expired,
    Foreign,
}

impl UnionPaySigningSet {
    /// A new key and its certificates; `generation` counts from 0.
    pub(super) fn draw(
        authority: &UnionPayAuthority,
        generation: u64,
    ) -> Result<Self, UnionPayKeyFault> {
        let key_pem = UnionPayAuthority::draw_key()?;
        let other_pem = UnionPayAuthority::draw_key()?;
        let foreign = UnionPayAuthority::from_keys(&other_pem, &other_pem)?;
        let serial = SIGNER_SERIAL.saturating_add(generation);
        let valid = (2025, 2045);
        Ok(Self {
            key: private_key(&key_pem)?,
            right: authority.issue(COMMON_NAME, serial, valid, &key_pem)?,
            other_name: authority.issue(OTHER_NAME, serial, valid, &key_pem)?,
            expired: authority.issue(COMMON_NAME, serial, (2020, 2025), &key_pem)?,
            foreign: foreign.issue(COMMON_NAME, serial, valid, &key_pem)?,
            forging: private_key(&other_pem)?,
            line_end: "\r\n",
        })
    }

    /// The same with a certificate and key from elsewhere in place of the valid one, and with bare
    /// line feeds, as in the document's examples.
    pub(super) fn with(mut self, identity: &PemIdentity) -> Result<Self, UnionPayKeyFault> {
        self.key = private_key(&identity.key_pem)?;
        der_of(&identity.certificates_pem)?;
        self.right.clone_from(&identity.certificates_pem);
        self.line_end = "\n";
        Ok(self)
    }

    /// The valid certificate, in PEM.
    pub(super) fn certificate_pem(&self) -> &str {
        &self.right
    }

    /// Of the certificate's text in an answer; merchants must take either.
    pub(super) fn line_end(&self) -> &'static str {
        self.line_end
    }

    /// The text of a certificate with these line ends, the last line without one.
    pub(super) fn certificate(&self, choice: UnionPayCertificateChoice, line_end: &str) -> String {
        let pem = match choice {
            UnionPayCertificateChoice::Right => &self.right,
            UnionPayCertificateChoice::OtherName => &self.other_name,
            UnionPayCertificateChoice::Expired => &self.expired,
            UnionPayCertificateChoice::Foreign => &self.foreign,
        };
        let lines: Vec<&str> = pem.lines().map(str::trim_end).collect();
        lines.join(line_end).trim_end().to_owned()
    }

    /// Signs the fields as they are.
    pub(super) fn sign(&self, fields: &UnionPayFields, how: UnionPaySigningWay) -> String {
        let text = fields.sign_text();
        let signature = match how {
            UnionPaySigningWay::Right => self.key.sign(hashed(&text).as_bytes()),
            UnionPaySigningWay::Forged => self.forging.sign(hashed(&text).as_bytes()),
            UnionPaySigningWay::SingleHash => self.key.sign(text.as_bytes()),
        };
        STANDARD.encode(signature.unwrap_or_default())
    }
}

/// How a message is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnionPaySigningWay {
    Right,
    /// With a key that does not fit the certificate.
    Forged,
    /// Over the text itself instead of its hash.
    SingleHash,
}

fn private_key(pem: &str) -> Result<RsaPrivateKey, UnionPayKeyFault> {
    pem::read_private_key(pem.as_bytes())
        .and_then(|der| RsaPrivateKey::from_pkcs8(&der, RsaScheme::Pkcs1Sha256))
        .ok_or_else(|| fault("not an RSA key in PKCS #8"))
}

/// The lower-case hexadecimal SHA-256, which is signed instead of the text.
fn hashed(text: &str) -> String {
    let digest = sha256(text.as_bytes());
    digest
        .iter()
        .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

/// A merchant's certificate as enrolled.
pub(super) struct UnionPayMerchantCertificate {
    /// The serial number in decimal.
    pub(super) cert_id: String,
    not_before_s: i64,
    not_after_s: i64,
    key: RsaPublicKey,
}

impl UnionPayMerchantCertificate {
    pub(super) fn read(pem: &str) -> Result<Self, UnionPayKeyFault> {
        let der = der_of(pem)?;
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).map_err(fault)?;
        let spki = certificate.public_key().raw;
        let key = RsaPublicKey::from_spki(spki, RsaScheme::Pkcs1Sha256);
        let validity = certificate.validity();
        Ok(Self {
            cert_id: certificate.tbs_certificate.serial.to_string(),
            not_before_s: validity.not_before.timestamp(),
            not_after_s: validity.not_after.timestamp(),
            key: key.ok_or_else(|| fault("not an RSA key of at least 2048 bits"))?,
        })
    }

    pub(super) fn is_valid(&self, now_s: i64) -> bool {
        (self.not_before_s..=self.not_after_s).contains(&now_s)
    }

    /// Whether the fields carry a signature by this certificate, over the hash of their text.
    pub(super) fn verifies(&self, fields: &UnionPayFields) -> bool {
        let signature = STANDARD.decode(fields.text("signature"));
        let text = hashed(&fields.sign_text());
        signature.is_ok_and(|signature| self.key.verify(text.as_bytes(), &signature))
    }
}
