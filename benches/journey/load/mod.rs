//! The load: keep-alive connections over mutual TLS that send prepared messages and check every
//! answer. Nothing of the merchant's is signed while the clock runs.

pub(crate) mod closed;
pub(crate) mod metronome;
pub(crate) mod open;
pub(crate) mod wire;
pub(crate) mod work;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::load::wire::{RawMessage, ReceiveBuffer, field};

/// The server under load.
#[derive(Clone)]
pub(crate) struct LoadTarget {
    pub(crate) port: u16,
    pub(crate) tls: Arc<ClientConfig>,
}

/// One connection, after its handshake.
pub(crate) struct BenchConnection {
    stream: TlsStream<TcpStream>,
    inbox: ReceiveBuffer,
    /// The other side announced the end of the connection.
    over: bool,
}

impl BenchConnection {
    /// Opens a connection from this loopback address: ports per address are limited.
    pub(crate) async fn open(target: &LoadTarget, from: Ipv4Addr) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from((from, 0)))?;
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, target.port));
        let stream = socket.connect(to).await.context("no connection")?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let stream = TlsConnector::from(Arc::clone(&target.tls))
            .connect(name, stream)
            .await
            .context("no TLS")?;
        Ok(Self {
            stream,
            inbox: ReceiveBuffer::default(),
            over: false,
        })
    }

    /// Sends one request and passes the whole answer to `read`.
    pub(crate) async fn ask<T>(
        &mut self,
        request: &[u8],
        read: impl FnOnce(&RawMessage<'_>) -> T,
    ) -> Result<T> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        let answer = self.inbox.next(&mut self.stream, |answer| {
            let over = field(answer.head, "connection").is_some_and(|value| value == "close");
            (read(&answer), over)
        });
        let (result, over) = answer.await?.context("the connection ended unanswered")?;
        self.over = over;
        Ok(result)
    }
}

/// A client that sends requests one after another and reconnects when the other side ended the
/// connection.
pub(crate) struct ReconnectingClient {
    target: LoadTarget,
    held: Option<BenchConnection>,
    /// The number of connections so far.
    pub(crate) opened: usize,
}

impl ReconnectingClient {
    pub(crate) fn new(target: &LoadTarget) -> Self {
        Self {
            target: target.clone(),
            held: None,
            opened: 0,
        }
    }

    /// Connects, unless it is connected.
    pub(crate) async fn open(&mut self) -> Result<()> {
        if self.held.is_none() {
            self.opened += 1;
            self.held = Some(BenchConnection::open(&self.target, Ipv4Addr::LOCALHOST).await?);
        }
        Ok(())
    }

    /// As [`BenchConnection::ask`].
    pub(crate) async fn ask<T>(
        &mut self,
        request: &[u8],
        read: impl FnOnce(&RawMessage<'_>) -> T,
    ) -> Result<T> {
        self.open().await?;
        let mut connection = self.held.take().context("no connection")?;
        let result = connection.ask(request, read).await?;
        self.held = Some(connection).filter(|connection| !connection.over);
        Ok(result)
    }
}

/// One caller: a merchant's connection, and its institution's for the callback of its payment.
pub(crate) struct BenchCaller {
    pub(crate) merchant: ReconnectingClient,
    pub(crate) institution: ReconnectingClient,
}

/// This many connected callers; with `both`, their institutions too.
pub(crate) async fn callers(
    target: &LoadTarget,
    count: usize,
    both: bool,
) -> Result<Vec<BenchCaller>> {
    let mut callers = Vec::with_capacity(count);
    for _ in 0..count {
        let mut caller = BenchCaller {
            merchant: ReconnectingClient::new(target),
            institution: ReconnectingClient::new(target),
        };
        caller.merchant.open().await?;
        if both {
            caller.institution.open().await?;
        }
        callers.push(caller);
    }
    Ok(callers)
}
