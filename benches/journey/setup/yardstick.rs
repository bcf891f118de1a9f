//! The yardstick: the distribution's nginx as a bare proxy behind the same mutual TLS, on the same
//! core, for the same requests; and its backend, which returns the gateway's own bytes.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use bytes::Bytes;

use crate::load::wire::RawMessage;
use crate::setup::cpu::MeasuredProcess;
use crate::setup::https::{BenchReply, BenchResponder, serve};

/// nginx's backend, on the load's core.
pub(crate) struct Backend {
    pub(crate) port: u16,
    site: Arc<EchoResponder>,
}

/// Always returns the same bytes.
#[derive(Default)]
struct EchoResponder(Mutex<Bytes>);

/// Starts nginx on the measured core, with the certificates in `dir`.
pub(crate) fn start(dir: &Path, port: u16, backend_port: u16) -> Result<MeasuredProcess> {
    let path = dir.join("nginx.conf");
    fs::write(&path, config(dir, port, backend_port))?;
    let mut nginx = Command::new("nginx");
    nginx.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    nginx.args(["-p", &dir.to_string_lossy(), "-c", &path.to_string_lossy()]);
    nginx.args(["-e", &dir.join("nginx.log").to_string_lossy()]);
    MeasuredProcess::start(&nginx).context("nginx (package nginx) is the yardstick")
}

/// The version that nginx reports.
pub(crate) fn version() -> String {
    let output = Command::new("nginx")
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .arg("-v")
        .output();
    let output = output.map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
    let output = output.unwrap_or_default();
    output
        .trim()
        .rsplit(' ')
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn config(dir: &Path, port: u16, backend_port: u16) -> String {
    let dir = dir.display();
    format!(
        "worker_processes 1;
daemon off;
pid {dir}/nginx.pid;
error_log {dir}/nginx.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {dir}/body;
  proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi;
  scgi_temp_path {dir}/scgi;
  keepalive_requests 100000000;
  upstream backend {{
    server 127.0.0.1:{backend_port};
    keepalive 256;
    keepalive_requests 100000000;
  }}
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {dir}/server.pem;
    ssl_certificate_key {dir}/server.key;
    ssl_client_certificate {dir}/ca.pem;
    ssl_verify_client on;
    ssl_protocols TLSv1.3;
    location / {{
      proxy_pass http://backend;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
    }}
  }}
}}
"
    )
}

impl Backend {
    /// Starts serving, with an empty response at first.
    pub(crate) fn serve() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let site = Arc::<EchoResponder>::default();
        serve(listener, None, Arc::clone(&site))?;
        Ok(Self { port, site })
    }

    /// From now on it returns these bytes: a copy of a response of the gateway.
    pub(crate) fn answers(&self, answer: &Bytes) {
        let mut bytes = self.site.0.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.clone_from(answer);
    }
}

impl BenchResponder for EchoResponder {
    fn answer(&self, _asked: &RawMessage<'_>) -> Result<BenchReply> {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(bytes.clone().into())
    }
}
