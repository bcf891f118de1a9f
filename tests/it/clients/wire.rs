//! HTTPS on loopback, one whole message at a time: for the relay between a program and the gateway,
//! and for calls to a program as the gateway makes them.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1 as calling;
use hyper::server::conn::http1 as serving;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Answers requests; `None` closes the connection without a byte.
pub(super) trait HttpAnswerer: Send + Sync + 'static {
    fn answer(
        self: Arc<Self>,
        request: Request<Bytes>,
    ) -> impl Future<Output = Option<Response<Bytes>>> + Send;
}

/// A listening server; closed on drop.
pub(super) struct TestServer(JoinHandle<()>);

impl Drop for TestServer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl TestServer {
    /// Closes it and waits: its port is free afterwards.
    pub(super) async fn closed(mut self) {
        self.0.abort();
        let _ = (&mut self.0).await;
    }

    /// Listens on this port with the certificate `server` of a directory.
    pub(super) async fn open(certs: &Path, port: u16, who: Arc<impl HttpAnswerer>) -> Self {
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain(certs, "server"), key(certs, "server"))
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .unwrap();
        Self(tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(converse(stream, acceptor.clone(), Arc::clone(&who)));
            }
        }))
    }
}

async fn converse(stream: TcpStream, acceptor: TlsAcceptor, who: Arc<impl HttpAnswerer>) {
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let answer = service_fn(move |request: Request<Incoming>| {
        let who = Arc::clone(&who);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map_err(std::io::Error::other)?;
            let request = Request::from_parts(head, body.to_bytes());
            let answer = who.answer(request).await;
            let answer = answer.ok_or_else(|| std::io::Error::other("closed without an answer"));
            answer.map(|answer| answer.map(Full::new))
        }
    });
    // The caller sees why a connection ended.
    let _ = serving::Builder::new()
        .serve_connection(TokioIo::new(stream), answer)
        .await;
}

/// Sends a request to a port unchanged, `Host` included, showing a certificate if one is named.
pub(super) async fn send(
    certs: &Path,
    shown: Option<&str>,
    port: u16,
    request: Request<Bytes>,
) -> Response<Bytes> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(certs.join("ca.pem")).unwrap() {
        roots.add(root.unwrap()).unwrap();
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match shown {
        Some(name) => config.with_client_auth_cert(chain(certs, name), key(certs, name)),
        None => Ok(config.with_no_client_auth()),
    };
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .await
        .unwrap();
    let stream = TlsConnector::from(Arc::new(config.unwrap()))
        .connect(ServerName::try_from("localhost").unwrap(), stream)
        .await
        .unwrap();
    let (mut sender, connection) = calling::handshake(TokioIo::new(stream)).await.unwrap();
    let driven = tokio::spawn(connection);
    let answer = sender.send_request(request.map(Full::new)).await.unwrap();
    let (head, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    driven.abort();
    Response::from_parts(head, body)
}

fn chain(certs: &Path, name: &str) -> Vec<CertificateDer<'static>> {
    let file = certs.join(format!("{name}.pem"));
    let read = CertificateDer::pem_file_iter(file).unwrap();
    read.map(Result::unwrap).collect()
}

fn key(certs: &Path, name: &str) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_file(certs.join(format!("{name}.key"))).unwrap()
}
