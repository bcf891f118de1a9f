//! TLS of the public listener: our certificate, replaceable while running, and the client's.
//!
//! Never decides whether a client certificate is accepted; the enrolment does (Q4).

use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme, version,
};

use crate::crypto::digest::sha256;
use crate::domain::merchant::ShownCertificate;

/// Our certificate chain and key; replaced at once, without a restart (F1).
#[derive(Debug)]
pub struct TlsIdentity(RwLock<Arc<CertifiedKey>>);

impl TlsIdentity {
    /// Takes a chain, leaf first, and its key.
    ///
    /// # Errors
    /// If the chain is empty or the key is not the leaf's.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, Error> {
        Ok(Self(RwLock::new(Arc::new(certified(chain, key)?))))
    }

    /// Uses a certificate that was read and checked before.
    pub fn of(shown: Arc<CertifiedKey>) -> Self {
        Self(RwLock::new(shown))
    }

    /// Uses another certificate from the next handshake on. Open connections keep theirs.
    ///
    /// # Errors
    /// As [`Self::new`]; then the old one stays.
    pub fn replace(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<(), Error> {
        self.show(Arc::new(certified(chain, key)?));
        Ok(())
    }

    /// Uses a certificate that was read and checked before, from the next handshake on.
    pub fn show(&self, next: Arc<CertifiedKey>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = next;
    }
}

impl ResolvesServerCert for TlsIdentity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let shown = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&shown))
    }
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, Error> {
    if chain.is_empty() {
        return Err(Error::NoCertificatesPresented);
    }
    CertifiedKey::from_der(chain, key, &default_provider())
}

/// A client certificate: its digest and validity. `None` for what cannot be parsed whole.
pub(super) fn shown(leaf: &[u8]) -> Option<ShownCertificate> {
    let (rest, certificate) = x509_parser::parse_x509_certificate(leaf).ok()?;
    let validity = certificate.validity();
    Some(ShownCertificate {
        digest: sha256(leaf),
        not_before_s: validity.not_before.timestamp(),
        not_after_s: validity.not_after.timestamp(),
    })
    .filter(|_| rest.is_empty())
}

/// TLS 1.2 and 1.3, a client certificate requested, sessions resumable, HTTP/1.1 only.
///
/// Tickets are stateless, encrypted with keys that rotate by themselves: a session cache would hold a few
/// hundred, and a full handshake costs twice the CPU of a resumed one.
pub(super) fn server_config(identity: Arc<TlsIdentity>) -> Result<ServerConfig, Error> {
    let provider = Arc::new(default_provider());
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&version::TLS12, &version::TLS13])?
        .with_client_cert_verifier(Arc::new(KeyPossessionVerifier(provider)))
        .with_cert_resolver(identity);
    config.ticketer = Ticketer::new()?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Accepts any client certificate whose private key the client proves to hold, or none.
///
/// No authority is checked: a merchant's certificate is enrolled by its digest, so that a name in a
/// certificate, whoever signed it, grants nothing (Q4). The signature over the handshake is what makes
/// the digest worth comparing; that is verified in full.
#[derive(Debug)]
struct KeyPossessionVerifier(Arc<CryptoProvider>);

impl ClientCertVerifier for KeyPossessionVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        ParsedCertificate::try_from(leaf)?;
        // Two parsers must accept it: pingora parses the same bytes again with the second one, and
        // expects that to work.
        shown(leaf)
            .map(|_| ClientCertVerified::assertion())
            .ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            leaf,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            leaf,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
