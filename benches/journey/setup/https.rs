//! A minimal server of the load: whole messages over TLS or plain TCP, one response for each.
//! Institutions, the merchant's endpoint and the yardstick's backend use it.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use bytes::Bytes;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use crate::load::wire::{RawMessage, ReceiveBuffer};

/// A response, and a channel notified when its last byte was passed to the kernel.
pub(crate) struct BenchReply {
    pub(crate) bytes: Bytes,
    pub(crate) written: Option<oneshot::Sender<Instant>>,
}

impl From<Bytes> for BenchReply {
    fn from(bytes: Bytes) -> Self {
        Self {
            bytes,
            written: None,
        }
    }
}

/// Answers messages. An error ends the connection.
pub(crate) trait BenchResponder: Send + Sync + 'static {
    fn answer(&self, request: &RawMessage<'_>) -> Result<BenchReply>;
    /// Waits until the response may be sent; returns whether it is. If not, the connection ends.
    fn hold(&self) -> impl Future<Output = bool> + Send {
        std::future::ready(true)
    }
}

/// Starts serving; over TLS if there is a configuration.
pub(crate) fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    site: Arc<impl BenchResponder>,
) -> Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let acceptor = tls.map(TlsAcceptor::from);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, site) = (acceptor.clone(), Arc::clone(&site));
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                let Some(acceptor) = acceptor else {
                    return converse(stream, &*site).await;
                };
                if let Ok(stream) = acceptor.accept(stream).await {
                    converse(stream, &*site).await;
                }
            });
        }
    });
    Ok(())
}

async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, site: &impl BenchResponder) {
    let mut inbox = ReceiveBuffer::default();
    loop {
        let reply = inbox
            .next(&mut stream, |request| site.answer(&request))
            .await;
        let Ok(Some(Ok(reply))) = reply else {
            break;
        };
        if !site.hold().await {
            break;
        }
        if stream.write_all(&reply.bytes).await.is_err() || stream.flush().await.is_err() {
            break;
        }
        if let Some(written) = reply.written {
            let _ = written.send(Instant::now());
        }
    }
}
