//! Certificates of one run: an authority, one certificate for every server and one for the caller,
//! all ECDSA P-256, so that gateway and yardstick make the same handshakes.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use paymux::domain::identifiers::hex;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig, version};

/// TLS configurations of the load and of its servers.
pub(crate) struct Certificates {
    /// Of clients to gateway and yardstick: TLS 1.3, with the caller's certificate.
    pub(crate) caller: Arc<ClientConfig>,
    /// Of the institution's server.
    pub(crate) server: Arc<ServerConfig>,
    /// SHA-256 of the caller's certificate, in hexadecimal, as it is enrolled.
    pub(crate) caller_digest: String,
}

/// Creates them, and writes `ca.pem`, `server.pem` and `server.key` for the measured processes.
pub(crate) fn make(dir: &Path) -> Result<Certificates> {
    let mut params = CertificateParams::new(Vec::new())?;
    params
        .distinguished_name
        .push(DnType::CommonName, "paymux bench");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let (server_pem, server_chain, server_key) = issue(&authority, &["localhost", "127.0.0.1"])?;
    let (_, caller_chain, caller_key) = issue(&authority, &["merchant"])?;
    fs::write(dir.join("ca.pem"), authority.pem())?;
    fs::write(dir.join("server.pem"), server_pem)?;
    fs::write(dir.join("server.key"), server_key.serialize_pem())?;

    let provider = Arc::new(default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone())?;
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(server_chain, der(&server_key))?;
    let caller_digest = digest_hex(&caller_chain);
    let caller = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(caller_chain, der(&caller_key))?;
    Ok(Certificates {
        caller: Arc::new(caller),
        server: Arc::new(server),
        caller_digest,
    })
}

type IssuedCertificate = (String, Vec<CertificateDer<'static>>, KeyPair);

fn issue(authority: &CertifiedIssuer<'_, KeyPair>, names: &[&str]) -> Result<IssuedCertificate> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names.clone())?;
    params
        .distinguished_name
        .push(DnType::CommonName, names[0].as_str());
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, authority)?;
    Ok((certificate.pem(), vec![certificate.der().clone()], key))
}

fn der(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()))
}

fn digest_hex(chain: &[CertificateDer<'_>]) -> String {
    let own = chain.first().map(AsRef::as_ref).unwrap_or_default();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, own);
    hex(digest.as_ref())
}
