//! The real edge and the real network on loopback: sockets, TLS, limits, draining. Ports are the
//! system's choice, or handed out once; tests wait for events, not for time.

mod edge;
mod expiring;
mod institutions;
mod load_shedding;
mod merchants;
mod outbound;
pub(crate) mod ports;
mod proxied;
mod running;
mod slow;
mod strict;
mod unauthenticated;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Longer than anything here takes; only a failing test waits for it.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A timeout that is meant to pass.
const SHORT: Duration = Duration::from_millis(50);

/// A certificate and its key, made for one test.
struct TestIdentity {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl TestIdentity {
    fn new() -> Self {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        Self {
            certificate: made.cert.der().clone(),
            key: made.signing_key.serialize_der(),
        }
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.clone()]
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.clone()).unwrap()
    }

    fn digest(&self) -> [u8; 32] {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.certificate);
        digest.as_ref().try_into().unwrap()
    }
}

/// A client that trusts one certificate.
fn client(
    server: &TestIdentity,
    versions: &[&'static SupportedProtocolVersion],
    shown: Option<&TestIdentity>,
) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(server.certificate.clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let config = match shown {
        Some(shown) => builder.with_client_auth_cert(shown.chain(), shown.key()),
        None => Ok(builder.with_no_client_auth()),
    };
    TlsConnector::from(Arc::new(config.unwrap()))
}

/// A client that offers these protocols.
fn client_of(server: &TestIdentity, offered: Vec<Vec<u8>>) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(server.certificate.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = offered;
    TlsConnector::from(Arc::new(config))
}

async fn connect(
    client: &TlsConnector,
    address: SocketAddr,
) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    client.connect(name, tcp).await
}

/// One message: its head as text, its body.
struct SocketMessage {
    head: String,
    body: Vec<u8>,
}

impl SocketMessage {
    fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

/// Reads a head, or what there is of it at the end of the connection.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = tokio::time::timeout(TIMEOUT, stream.read_u8()).await;
        match byte.expect("data arrives or the connection ends") {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// Reads one message framed by `content-length`; none at the end of the connection.
async fn read_message(stream: &mut (impl AsyncRead + Unpin)) -> Option<SocketMessage> {
    let head = read_head(stream).await;
    if !head.ends_with("\r\n\r\n") {
        return None;
    }
    let mut message = SocketMessage {
        head,
        body: Vec::new(),
    };
    let length = message
        .header("content-length")
        .unwrap_or("0")
        .parse()
        .unwrap();
    message.body.resize(length, 0);
    stream.read_exact(&mut message.body).await.ok()?;
    Some(message)
}

/// Sends bytes and reads one reply.
async fn ask<S>(stream: &mut S, bytes: impl AsRef<[u8]>) -> Option<SocketMessage>
where
    S: AsyncRead + AsyncWriteExt + Unpin,
{
    // A server may close before it has read everything; its reply is what counts.
    let _ = stream.write_all(bytes.as_ref()).await;
    let _ = stream.flush().await;
    read_message(stream).await
}
