//! A throwaway certificate authority for simulated parties and tests. Its key is in memory only;
//! never trust it outside a sandbox.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256, SerialNumber, date_time_ymd,
};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::crypto::digest::sha256;
use crate::crypto::pem;
use crate::crypto::rsa::{RsaPrivateKey, RsaScheme};

/// A certificate or key could not be created or used.
#[derive(Debug, thiserror::Error)]
#[error("certificate or key: {0}")]
pub struct CertificateFault(String);

impl CertificateFault {
    pub(super) fn of(why: impl fmt::Display) -> Self {
        Self(why.to_string())
    }
}

fn fault(why: impl fmt::Display) -> CertificateFault {
    CertificateFault::of(why)
}

/// A certificate chain and its private key, both in PEM.
#[derive(Clone)]
pub struct PemIdentity {
    /// The party's own certificate first.
    pub certificates_pem: String,
    /// PKCS #8.
    pub key_pem: String,
}

/// The key is not printed.
impl fmt::Debug for PemIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

impl PemIdentity {
    fn read(
        &self,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), CertificateFault> {
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(self.certificates_pem.as_bytes()).collect();
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).map_err(fault)?;
        Ok((chain.map_err(fault)?, key))
    }

    /// A TLS 1.2 and 1.3 server configuration with this certificate; requests no client
    /// certificate.
    pub(super) fn server_side(&self) -> Result<Arc<ServerConfig>, CertificateFault> {
        let (chain, key) = self.read()?;
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(fault)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(fault)?;
        Ok(Arc::new(config))
    }
}

/// A TLS client configuration that trusts these roots, with an optional client certificate.
pub(super) fn client_side(
    roots_pem: &str,
    identity: Option<&PemIdentity>,
) -> Result<Arc<ClientConfig>, CertificateFault> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(roots_pem.as_bytes()) {
        roots.add(root.map_err(fault)?).map_err(fault)?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(fault)?
        .with_root_certificates(roots);
    let config = match identity {
        None => config.with_no_client_auth(),
        Some(identity) => {
            let (chain, key) = identity.read()?;
            config.with_client_auth_cert(chain, key).map_err(fault)?
        }
    };
    Ok(Arc::new(config))
}

/// A certificate authority for one run.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// Creates one.
    ///
    /// # Errors
    /// [`CertificateFault`] if key generation fails.
    pub fn new(name: &str) -> Result<Self, CertificateFault> {
        let mut params = dated(Vec::new(), name)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(fault)?;
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(fault)?;
        Ok(Self { issuer })
    }

    /// The root certificate to trust, in PEM.
    pub fn roots_pem(&self) -> String {
        self.issuer.pem()
    }

    /// Issues a certificate for these DNS names and addresses, valid for servers and clients.
    ///
    /// # Errors
    /// [`CertificateFault`] for a name not allowed in a certificate.
    pub fn issue(&self, name: &str, hosts: &[&str]) -> Result<PemIdentity, CertificateFault> {
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = dated(hosts, name)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(fault)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(fault)?;
        Ok(PemIdentity {
            certificates_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }

    /// Issues an RSA certificate that signs messages, as payment platforms give out; its serial
    /// number is made from its key, so whoever has the key knows it. Returns both, and the serial
    /// number in upper-case hex.
    ///
    /// # Errors
    /// [`CertificateFault`] for a key that is no RSA key in PKCS #8, or a name not allowed.
    pub fn certify(
        &self,
        name: &str,
        key_pem: &str,
    ) -> Result<(PemIdentity, String), CertificateFault> {
        let key =
            KeyPair::from_pkcs8_pem_and_sign_algo(key_pem, &PKCS_RSA_SHA256).map_err(fault)?;
        let serial = rsa_serial(key_pem)?;
        let mut params = dated(Vec::new(), name)?;
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::ContentCommitment,
        ];
        params.serial_number = Some(SerialNumber::from(serial.to_vec()));
        let certificate = params.signed_by(&key, &self.issuer).map_err(fault)?;
        let mut text = String::with_capacity(40);
        for byte in serial {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02X}");
        }
        let identity = PemIdentity {
            certificates_pem: certificate.pem(),
            key_pem: key_pem.to_owned(),
        };
        Ok((identity, text))
    }
}

/// Twenty bytes made from the public key; positive and never zero.
fn rsa_serial(key_pem: &str) -> Result<[u8; 20], CertificateFault> {
    let key = pem::read_private_key(key_pem.as_bytes())
        .and_then(|der| RsaPrivateKey::from_pkcs8(&der, RsaScheme::Pkcs1Sha256));
    let key = key.ok_or_else(|| fault("no RSA key in PKCS #8"))?;
    let digest = sha256(&key.public_spki());
    let mut serial = [0; 20];
    for (byte, drawn) in serial.iter_mut().zip(digest) {
        *byte = drawn;
    }
    // A leading byte from 0x40 to 0x7f: twenty bytes in DER, and positive.
    if let Some(first) = serial.first_mut() {
        *first = (*first & 0x3f) | 0x40;
    }
    Ok(serial)
}

fn dated(hosts: Vec<String>, name: &str) -> Result<CertificateParams, CertificateFault> {
    let mut params = CertificateParams::new(hosts).map_err(fault)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params
        .distinguished_name
        .push(DnType::OrganizationName, "paymux sandbox");
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(2045, 1, 1);
    Ok(params)
}
