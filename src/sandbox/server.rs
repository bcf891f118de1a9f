//! HTTPS server for simulated parties: TLS, HTTP/1.1, buffered bodies. Nothing specific to
//! payments.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::sandbox::authority::{CertificateFault, PemIdentity};
use crate::sandbox::clock::wait;
use crate::signature::KeyFault;

/// Longest body of a request; a longer one is refused. Unit: bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Concurrent connections; more wait in the listen queue.
const CONNECTIONS_MAX: usize = 1_024;
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);

/// Why a simulated party did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartFault {
    /// The address is in use, or not local.
    #[error("cannot listen: {0}")]
    Listen(#[from] io::Error),
    /// A certificate is unusable.
    #[error(transparent)]
    Certificate(#[from] CertificateFault),
    /// A key is unusable.
    #[error(transparent)]
    Key(#[from] KeyFault),
}

/// A party's reply to a request.
#[derive(Debug)]
pub(super) enum SandboxReply {
    /// Sends a response.
    Answer(Response<Bytes>),
    /// Closes the connection without a response, after this time.
    Silence(Duration),
}

/// A simulated party, for which the server receives requests.
#[async_trait]
pub(super) trait SandboxParty: Send + Sync + 'static {
    async fn reply(self: Arc<Self>, request: Request<Bytes>, from: SocketAddr) -> SandboxReply;
}

/// A bound address that does not serve yet: a party must know its address before it can respond.
pub(super) struct BoundListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    pub(super) address: SocketAddr,
}

impl BoundListener {
    pub(super) async fn bind(
        listen: SocketAddr,
        identity: &PemIdentity,
    ) -> Result<Self, StartFault> {
        let acceptor = TlsAcceptor::from(identity.server_side()?);
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        Ok(Self {
            listener,
            acceptor,
            address,
        })
    }

    pub(super) fn serve(self, site: Arc<dyn SandboxParty>) -> RunningServer {
        RunningServer {
            accepting: tokio::spawn(accept(self.listener, self.acceptor, site)),
        }
    }
}

/// A running server. Dropping it stops it and closes every connection.
pub(super) struct RunningServer {
    accepting: JoinHandle<()>,
}

impl RunningServer {
    /// Stops it; the address is free afterwards.
    pub(super) async fn stop(mut self) {
        self.accepting.abort();
        // The task was just aborted, so its error is expected.
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, site: Arc<dyn SandboxParty>) {
    let mut connections = JoinSet::new();
    loop {
        if connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => {
                    connections.spawn(converse(stream, acceptor.clone(), Arc::clone(&site), from));
                }
                // Most likely out of file descriptors: wait for connections to close.
                Err(_) => wait(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => (),
        }
    }
}

async fn converse(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    site: Arc<dyn SandboxParty>,
    from: SocketAddr,
) {
    // Responses are small: do not delay them to fill a packet.
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await else {
        return;
    };
    let answer = service_fn(move |request| answer(Arc::clone(&site), request, from));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), answer)
        .await;
    if let Err(fault) = served {
        tracing::debug!(%fault, "a connection to a simulated party ended early");
    }
}

/// An error closes the connection without a response.
async fn answer(
    site: Arc<dyn SandboxParty>,
    request: Request<Incoming>,
    from: SocketAddr,
) -> Result<Response<Full<Bytes>>, io::Error> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
        let mut refusal = Response::new(Full::new(Bytes::new()));
        *refusal.status_mut() = http::StatusCode::PAYLOAD_TOO_LARGE;
        return Ok(refusal);
    };
    let request = Request::from_parts(head, body.to_bytes());
    match site.reply(request, from).await {
        SandboxReply::Answer(answer) => Ok(answer.map(Full::new)),
        SandboxReply::Silence(how_long) => {
            wait(how_long).await;
            Err(io::Error::other("no response, on purpose"))
        }
    }
}
