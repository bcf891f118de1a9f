//! The edge: pingora's listeners, TLS and HTTP/1.1; bytes in, bytes out.
//!
//! Reads one whole request within bounds, hands it over as `http` types, writes the answer. Knows
//! no interface and decides nothing about money. No other file names pingora.

mod door;
mod head;
mod identity;
mod places;

use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use pingora_core::listeners::tls::Acceptor;
use pingora_core::listeners::{L4BufferSettings, ListenerConfig};
use pingora_core::server::{Fds, ListenFds};
use pingora_core::services::Service as _;
use pingora_core::services::listening::Service as Accepting;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::api::Peer;
use crate::domain::refusal::Refusal;
use crate::metrics::Metrics;

use door::Door;
use places::Places;

pub use identity::TlsIdentity;

/// Room for an answer on its way out, so that it leaves in one piece. Nothing is buffered on the way
/// in: TLS reads into a buffer of its own, and pingora's 64 KiB for each connection would be most of
/// the memory of a gateway with many of them. Unit: bytes.
const ANSWER_BYTES: usize = 8 << 10;

/// What answers: from a whole request to a whole answer.
pub type Responder = Arc<dyn Fn(Request<Bytes>, Peer) -> Responding + Send + Sync>;
/// An answer in the making.
pub type Responding = Pin<Box<dyn Future<Output = Response<Bytes>> + Send>>;
/// Writes the answer to a request that never became one.
pub type Refuse = Arc<dyn Fn(&Refusal) -> Response<Bytes> + Send + Sync>;

/// One address to listen on.
pub struct Listener {
    /// Where; port 0 lets the system choose, see [`Edge::addresses`].
    pub address: SocketAddr,
    /// The certificate shown; none makes a plain listener, for operations on loopback.
    pub identity: Option<Arc<TlsIdentity>>,
    /// What answers here.
    pub responder: Responder,
}

/// What one caller, and all together, may take (interface.md, Details; Q1).
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes of a body.
    pub body_bytes_max: usize,
    /// Header lines, the request line not counted.
    pub header_lines_max: usize,
    /// Bytes of the head, request line and empty line included.
    pub header_bytes_max: usize,
    /// From a request's first byte to the end of its head; also for a TLS handshake.
    pub head_within: Duration,
    /// From the end of the head to the end of the body.
    pub body_within: Duration,
    /// Until the client has taken the whole answer.
    pub write_within: Duration,
    /// How long a connection may stay without a request.
    pub idle_within: Duration,
    /// Requests handed over at once; past it 503 (Q8).
    pub in_flight_max: u32,
    /// Connections at once, all together.
    pub connections_max: u32,
    /// Connections at once from one address.
    pub connections_per_address_max: u32,
    /// At a stop: how long requests already here may take.
    pub drain_within: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            body_bytes_max: 64 << 10,
            header_lines_max: 64,
            header_bytes_max: 16 << 10,
            head_within: Duration::from_secs(5),
            body_within: Duration::from_secs(10),
            write_within: Duration::from_secs(10),
            idle_within: Duration::from_mins(1),
            in_flight_max: 1024,
            connections_max: 8192,
            connections_per_address_max: 512,
            drain_within: Duration::from_secs(20),
        }
    }
}

/// How a stop went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Everything that was handed over was answered.
    Whole,
    /// The limit passed first. What was handed over still runs, until its runtime ends.
    Cut,
}

/// Asks an edge to stop; can be cloned and kept.
#[derive(Clone)]
pub struct Stop(Arc<watch::Sender<bool>>);

impl Stop {
    /// Refuses new connections and lets what is here finish. A second call changes nothing.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }

    /// Stops at SIGTERM or SIGINT. Later signals are taken and change nothing, so that an
    /// impatient second one cuts nothing off.
    ///
    /// # Errors
    /// If the system gives no signals.
    pub fn stop_on_signals(self) -> std::io::Result<impl Future<Output = ()> + Send> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        Ok(async move {
            tokio::select! {
                _ = terminate.recv() => (),
                _ = interrupt.recv() => (),
            }
            self.stop();
        })
    }
}

/// Listeners that are bound and not yet accepting.
pub struct Edge {
    services: Vec<Accepting<Door>>,
    addresses: Vec<SocketAddr>,
    sockets: ListenFds,
    places: Vec<Arc<Places>>,
    drain_within: Duration,
    stop: Stop,
}

impl Edge {
    /// Binds every address, so that a taken port is an error here and not a panic later.
    ///
    /// # Errors
    /// If an address cannot be bound or the TLS configuration cannot be built.
    pub fn bind(
        listeners: Vec<Listener>,
        bounds: Bounds,
        refuse: &Refuse,
        metrics: &Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let mut all_places = Vec::new();
        let mut sockets = Fds::new();
        let mut services = Vec::new();
        let mut addresses = Vec::new();
        for listener in listeners {
            let acceptor = listener
                .identity
                .map(identity::server_config)
                .transpose()
                .map_err(std::io::Error::other)?
                .map(|config| Acceptor::from_server_config(Arc::new(config)));
            let socket = TcpListener::bind(listener.address)?;
            socket.set_nonblocking(true)?;
            let address = socket.local_addr()?;
            // Each door counts its own: whoever crowds the public one must not keep operations out.
            let places = Arc::new(Places::new(&bounds));
            all_places.push(Arc::clone(&places));
            let door = Door {
                acceptor,
                responder: listener.responder,
                bounds,
                refuse: Arc::clone(refuse),
                metrics: Arc::clone(metrics),
                places,
            };
            let mut service = Accepting::new(address.to_string(), door);
            service.add_listener(
                ListenerConfig::tcp(address.to_string())
                    .l4_buffer(L4BufferSettings::new(0, ANSWER_BYTES)),
            );
            // pingora takes a socket over by the name of its address, as in an upgrade.
            sockets.add(address.to_string(), socket.into_raw_fd());
            services.push(service);
            addresses.push(address);
        }
        Ok(Self {
            services,
            addresses,
            sockets: Arc::new(sockets.into()),
            places: all_places,
            drain_within: bounds.drain_within,
            stop: Stop(Arc::new(watch::Sender::new(false))),
        })
    }

    /// Where it listens, in the order of the listeners.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The way to stop it.
    pub fn stopper(&self) -> Stop {
        self.stop.clone()
    }

    /// Accepts on the present runtime until stopped, then drains.
    ///
    /// Each request is handed over as a task of its own: neither a client that hangs up nor the
    /// end of its connection cuts an order in progress off.
    pub async fn serve(self) -> Drained {
        let mut accepting = tokio::task::JoinSet::new();
        for mut service in self.services {
            let (sockets, stopped) = (Arc::clone(&self.sockets), self.stop.0.subscribe());
            accepting.spawn(async move {
                service.start_service(Some(sockets), stopped, 1).await;
            });
        }
        accepting.join_all().await;
        let drained = async {
            for places in &self.places {
                places.drain().await;
            }
        };
        if timeout(self.drain_within, drained).await.is_ok() {
            return Drained::Whole;
        }
        let open = self.places.iter().map(|places| places.requests_open());
        let requests: usize = open.sum();
        tracing::error!(
            requests,
            "the time to drain passed with requests not answered"
        );
        Drained::Cut
    }
}
