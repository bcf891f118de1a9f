//! One HTTPS exchange of a simulated party: a new connection, one request, one response.
//! Follows no redirects, retries nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use crate::sandbox::authority::{CertificateFault, PemIdentity, client_side};

/// Longest body of a response; a longer one is an error. Unit: bytes.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// How long a simulated party waits for a complete response.
const WHOLE_MAX: Duration = Duration::from_secs(15);

/// Why there is no response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeFault {
    /// Not an `https` URL with a host.
    #[error("not an https address: {0}")]
    Address(String),
    /// Connecting or the TLS handshake failed: nothing was sent.
    #[error("not connected: {0}")]
    NotConnected(String),
    /// The connection ended before a complete response was received.
    #[error("no complete response: {0}")]
    NoAnswer(String),
    /// The response took too long.
    #[error("no response within {} s", WHOLE_MAX.as_secs())]
    TooSlow,
}

/// The HTTPS client of a simulated party, with its trusted roots and client certificate.
#[derive(Clone)]
pub(super) struct SandboxCaller {
    tls: Arc<ClientConfig>,
}

impl SandboxCaller {
    pub(super) fn new(
        roots_pem: &str,
        identity: Option<&PemIdentity>,
    ) -> Result<Self, CertificateFault> {
        Ok(Self {
            tls: client_side(roots_pem, identity)?,
        })
    }

    /// Sends a request whose URI is absolute.
    pub(super) async fn send(
        &self,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, ExchangeFault> {
        tokio::time::timeout(WHOLE_MAX, self.exchange(request))
            .await
            .unwrap_or(Err(ExchangeFault::TooSlow))
    }

    async fn exchange(
        &self,
        mut request: Request<Bytes>,
    ) -> Result<Response<Bytes>, ExchangeFault> {
        let target = request.uri().clone();
        let stream = self.connect(&target).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(not_connected)?;
        let _driven = ConnectionTask(tokio::spawn(connection).abort_handle());
        let path = target.path_and_query().map_or("/", |path| path.as_str());
        let wrong = || ExchangeFault::Address(target.to_string());
        *request.uri_mut() = path.parse().map_err(|_| wrong())?;
        let authority = target.authority().ok_or_else(wrong)?;
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| wrong())?;
        request.headers_mut().insert(HOST, host);
        let answer = sender
            .send_request(request.map(Full::new))
            .await
            .map_err(no_answer)?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, BODY_BYTES_MAX)
            .collect()
            .await
            .map_err(|fault| ExchangeFault::NoAnswer(fault.to_string()))?;
        Ok(Response::from_parts(head, body.to_bytes()))
    }

    async fn connect(
        &self,
        target: &Uri,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, ExchangeFault> {
        let wrong = || ExchangeFault::Address(target.to_string());
        if target.scheme_str() != Some("https") {
            return Err(wrong());
        }
        let host = target.host().ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(|_| wrong())?;
        let port = target.port_u16().unwrap_or(443);
        let stream = TcpStream::connect((host, port))
            .await
            .map_err(not_connected)?;
        TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, stream)
            .await
            .map_err(not_connected)
    }
}

/// The task that drives a connection, aborted at the end of the exchange.
struct ConnectionTask(AbortHandle);

impl Drop for ConnectionTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[expect(clippy::needless_pass_by_value, reason = "a step of map_err")]
fn not_connected(fault: impl ToString) -> ExchangeFault {
    ExchangeFault::NotConnected(fault.to_string())
}

#[expect(clippy::needless_pass_by_value, reason = "a step of map_err")]
fn no_answer(fault: impl ToString) -> ExchangeFault {
    ExchangeFault::NoAnswer(fault.to_string())
}
