//! The yardstick: the distribution's nginx as a bare proxy behind the same mutual TLS, on the same
//! core, for the same requests; and the backend it asks, which answers the gateway's own bytes.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;

use crate::cpu::Party;
use crate::wire::Inbox;

/// What nginx asks; on the load's core.
pub(crate) struct Backend {
    pub(crate) port: u16,
    answer: Arc<Mutex<Bytes>>,
}

/// Starts nginx on the measured core; certificates as [`crate::enrolment`] wrote them.
pub(crate) fn start(dir: &Path, port: u16, backend_port: u16) -> Result<Party> {
    let path = dir.join("nginx.conf");
    fs::write(&path, config(dir, port, backend_port))?;
    let mut nginx = Command::new("nginx");
    nginx.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    nginx.args(["-p", &dir.to_string_lossy(), "-c", &path.to_string_lossy()]);
    nginx.args(["-e", &dir.join("nginx.log").to_string_lossy()]);
    Party::start(&nginx).context("nginx (package nginx) is the yardstick")
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
events {{ worker_connections 1024; }}
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
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let answer: Arc<Mutex<Bytes>> = Arc::default();
        let backend = Self {
            port,
            answer: Arc::clone(&answer),
        };
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let answer = Arc::clone(&answer);
                tokio::spawn(async move {
                    let _ = stream.set_nodelay(true);
                    let mut inbox = Inbox::default();
                    while let Ok(Some(())) = inbox.next(&mut stream, |_| ()).await {
                        let bytes = held(&answer).clone();
                        if stream.write_all(&bytes).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Ok(backend)
    }

    /// From now on it answers these bytes: a copy of what the gateway answered.
    pub(crate) fn answers(&self, answer: &Bytes) {
        held(&self.answer).clone_from(answer);
    }
}

fn held(answer: &Mutex<Bytes>) -> MutexGuard<'_, Bytes> {
    answer.lock().unwrap_or_else(PoisonError::into_inner)
}
