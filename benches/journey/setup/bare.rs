//! The other yardstick: a bare pingora that reads a request over the same mutual TLS and returns
//! the gateway's own bytes. It shows the cost of the framework, a lower bound for the gateway.
//!
//! It is this program, started again with `--bare-pingora`, on the measured core.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use bytes::Bytes;
use http::Response;
use pingora_core::apps::http_app::ServeHttp;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::protocols::http::ServerSession;
use pingora_core::services::Service as _;
use pingora_core::services::listening::Service;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::WebPkiClientVerifier;

use crate::load::wire::{head_end, lines};
use crate::setup::cpu::MeasuredProcess;

/// The flag that makes this program the bare pingora.
pub(crate) const FLAG: &str = "--bare-pingora";
const ANSWER: &str = "bare.answer";

/// Starts it on the measured core, with the certificates in `dir`.
pub(crate) fn start(dir: &Path, port: u16, answer: &Bytes) -> Result<MeasuredProcess> {
    fs::write(dir.join(ANSWER), answer)?;
    let mut bare = Command::new(std::env::current_exe()?);
    bare.arg(FLAG).arg(dir).arg(port.to_string());
    MeasuredProcess::start(&bare).context("a bare pingora")
}

/// Runs it until the process is ended.
pub(crate) fn run(dir: &Path, port: &str) -> Result<()> {
    let answer = fs::read(dir.join(ANSWER))?;
    let head = head_end(&answer);
    let headers = lines(&answer[..head]).filter(|(name, _)| !name.is_empty());
    let app = BareServer {
        headers: headers
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        body: answer[head..].to_vec(),
    };
    let path = |name: &str| dir.join(name).to_string_lossy().into_owned();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(dir.join("ca.pem"))?)?;
    let mut settings = TlsSettings::intermediate(&path("server.pem"), &path("server.key"))
        .ok()
        .context("TLS settings")?;
    settings.set_client_cert_verifier(WebPkiClientVerifier::builder(Arc::new(roots)).build()?);
    let mut service = Service::new("bare".to_owned(), app);
    service.add_tls_with_settings(&format!("127.0.0.1:{port}"), None, settings);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    runtime.block_on(service.start_service(None, stopped, 1));
    Ok(())
}

struct BareServer {
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

#[async_trait]
impl ServeHttp for BareServer {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        while let Ok(Some(_)) = session.read_request_body().await {}
        let mut response = Response::builder();
        for (name, value) in &self.headers {
            response = response.header(name, value);
        }
        response.body(self.body.clone()).unwrap_or_default()
    }
}
