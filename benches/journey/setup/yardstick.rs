//! The yardstick: the distribution's nginx as a bare proxy behind the same mutual TLS, on the same
//! core, for the same requests; and the backend it asks, which answers the gateway's own bytes.

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

/// What nginx asks; on the load's core.
pub(crate) struct Backend {
    pub(crate) port: u16,
    site: Arc<EchoResponder>,
}

/// Answers always the same.
#[derive(Default)]
struct EchoResponder(Mutex<Bytes>);

/// Starts nginx on the measured core; certificates as they were made there.
pub(crate) fn start(dir: &Path, port: u16, backend_port: u16) -> Result<MeasuredProcess> {
    let path = dir.join("nginx.conf");
    fs::write(&path, config(dir, port, backend_port))?;
    let mut nginx = Command::new("nginx");
    nginx.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    nginx.args(["-p", &dir.to_string_lossy(), "-c", &path.to_string_lossy()]);
    nginx.args(["-e", &dir.join("nginx.log").to_string_lossy()]);
    MeasuredProcess::start(&nginx).context("nginx (package nginx) is the yardstick")
}

/// The version as nginx tells it.
pub(crate) fn version() -> String {
    let told = Command::new("nginx")
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .arg("-v")
        .output();
    let told = told.map(|told| String::from_utf8_lossy(&told.stderr).into_owned());
    let told = told.unwrap_or_default();
    told.trim()
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
    /// Serves from now on; answers nothing sensible before it is told what.
    pub(crate) fn serve() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let site = Arc::<EchoResponder>::default();
        serve(listener, None, Arc::clone(&site))?;
        Ok(Self { port, site })
    }

    /// From now on it answers these bytes: a copy of what the gateway answered.
    pub(crate) fn answers(&self, answer: &Bytes) {
        let mut kept = self.site.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clone_from(answer);
    }
}

impl BenchResponder for EchoResponder {
    fn answer(&self, _asked: &RawMessage<'_>) -> Result<BenchReply> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(kept.clone().into())
    }
}
