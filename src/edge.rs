//! The edge: pingora's connections and TLS, HTTP/1.1 read strictly on top; bytes in, bytes out.
//!
//! Reads one whole request within bounds, passes it on as `http` types and writes the response; rejects
//! early in overload. Decides nothing about money. No other module names pingora.

mod accepting;
mod answer;
mod body;
mod bounds;
mod connection;
mod handshakes;
mod head;
mod hello;
mod identity;
mod known_addresses;
mod overload;
mod places;
mod rejection;
mod trusted_proxies;

use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response};
use pingora_core::listeners::tls::Acceptor;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::api::{EndpointMatch, Peer};
use crate::domain::merchant::ShownCertificate;
use crate::domain::refusal::Refusal;
use crate::limits::bound::Bound;
use crate::metrics::Metrics;

use bounds::OpenConnections;
use connection::ListenerConnections;
use handshakes::Handshakes;
use known_addresses::KnownAddresses;
use overload::{Overload, TICK};
use places::Places;
use rejection::Rejections;

pub use bounds::{Bounds, LiveBounds};
pub use identity::TlsIdentity;
pub use trusted_proxies::TrustedProxies;

/// Answers a whole request. Its endpoint was matched when the head was read, for its priority.
pub type Responder = Arc<dyn Fn(Request<Bytes>, Peer, EndpointMatch) -> Responding + Send + Sync>;
/// The future of a response.
pub type Responding = Pin<Box<dyn Future<Output = EdgeResponse> + Send>>;
/// Makes the response to a request that could not be read or is rejected.
pub type Refuse = Arc<dyn Fn(&Refusal) -> Response<Bytes> + Send + Sync>;
/// Whether a client certificate is enrolled.
pub type EnrolmentCheck = Arc<dyn Fn(&ShownCertificate) -> bool + Send + Sync>;

/// A response, and what the request proved of the caller.
pub struct EdgeResponse {
    /// The response.
    pub response: Response<Bytes>,
    /// Nothing, unless the caller proved who it is.
    pub proof: Option<ConnectionProof>,
}

impl From<Response<Bytes>> for EdgeResponse {
    /// A response to a caller that proved nothing.
    fn from(response: Response<Bytes>) -> Self {
        let proof = None;
        Self { response, proof }
    }
}

/// The caller has proven who it is: its connection is not closed to make room for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionProof {
    /// A merchant or an institution.
    Party,
    /// Whoever has the address of a payer's page; equal numbers are the same page.
    Payer(u64),
}

/// One address to listen on.
pub struct Listener {
    /// The address; port 0 lets the system choose, see [`Edge::addresses`].
    pub address: SocketAddr,
    /// The server certificate; none makes a plain listener, for operations on loopback.
    pub identity: Option<Arc<TlsIdentity>>,
    /// What answers its requests.
    pub responder: Responder,
    /// Whose connections begin with a PROXY protocol header.
    pub trusted_proxies: Arc<TrustedProxies>,
    /// Which certificates are enrolled: some connections are reserved for them.
    pub enrolled: EnrolmentCheck,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainOutcome {
    /// Every request in progress was answered.
    Whole,
    /// The timeout passed first. Requests in progress still run, until their runtime ends.
    Cut,
}

impl DrainOutcome {
    /// The word in the log.
    pub fn word(self) -> &'static str {
        match self {
            Self::Whole => "drained",
            Self::Cut => "cut",
        }
    }
}

/// Stops an edge; can be cloned and kept.
#[derive(Clone)]
pub struct Stop(Arc<watch::Sender<bool>>);

impl Stop {
    /// Accepts no more connections and lets requests in progress finish. A second call changes nothing.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// Listeners that are bound and not yet accepting.
pub struct Edge {
    listeners: Vec<(tokio::net::TcpListener, Arc<ListenerConnections>)>,
    addresses: Vec<SocketAddr>,
    live: LiveBounds,
    metrics: Arc<Metrics>,
    stop: Stop,
    /// Created with the sender, so that a stop before the first accept is seen as well.
    stopped: watch::Receiver<bool>,
}

impl Edge {
    /// Binds every address, so that a port in use is an error here. Call it on the runtime that will
    /// serve.
    ///
    /// # Errors
    /// If an address cannot be bound or the TLS configuration cannot be built.
    pub fn bind(
        listeners: Vec<Listener>,
        bounds: Bounds,
        refuse: &Refuse,
        metrics: &Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let mut edge = Self {
            listeners: Vec::new(),
            addresses: Vec::new(),
            live: LiveBounds::of(bounds),
            metrics: Arc::clone(metrics),
            stop: Stop(Arc::new(stop)),
            stopped,
        };
        for listener in listeners {
            let bound = TcpListener::bind(listener.address);
            let socket = bound.map_err(|why| {
                std::io::Error::new(why.kind(), format!("{}: {why}", listener.address))
            })?;
            socket.set_nonblocking(true)?;
            let address = socket.local_addr()?;
            let connections = edge.connections(listener, &bounds, refuse)?;
            let socket = tokio::net::TcpListener::from_std(socket)?;
            edge.listeners.push((socket, Arc::new(connections)));
            edge.addresses.push(address);
        }
        Ok(edge)
    }

    /// Each listener has limits of its own: load on the public one must not keep operations out.
    fn connections(
        &mut self,
        listener: Listener,
        bounds: &Bounds,
        refuse: &Refuse,
    ) -> std::io::Result<ListenerConnections> {
        let acceptor = listener
            .identity
            .map(identity::server_config)
            .transpose()
            .map_err(std::io::Error::other)?
            .map(|config| Acceptor::from_server_config(Arc::new(config)));
        let overload = Arc::new(Overload::new(bounds));
        let handshakes = Arc::new(Handshakes::new(bounds));
        self.live.overloads.push(Arc::clone(&overload));
        self.live.handshakes.push(Arc::clone(&handshakes));
        let is_public = acceptor.is_some();
        let open = Bound::new(bounds.open_max(is_public));
        self.live.open.push(OpenConnections {
            is_public,
            bound: Arc::clone(&open),
        });
        Ok(ListenerConnections {
            rejections: Rejections::new(refuse, acceptor.is_some()),
            acceptor,
            responder: listener.responder,
            bounds: Arc::clone(&self.live.bounds),
            refuse: Arc::clone(refuse),
            metrics: Arc::clone(&self.metrics),
            places: Places::default(),
            overload,
            open,
            handshakes,
            known: KnownAddresses::default(),
            trusted_proxies: listener.trusted_proxies,
            enrolled: listener.enrolled,
        })
    }

    /// The addresses it listens on, in the order of the listeners.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// A handle that stops it.
    pub fn stopper(&self) -> Stop {
        self.stop.clone()
    }

    /// A handle that replaces its bounds.
    pub fn bounds(&self) -> LiveBounds {
        self.live.clone()
    }

    /// Accepts connections on the current runtime until stopped, then drains.
    ///
    /// Each request runs as a task of its own, so that neither a client that disconnects nor the end of
    /// its connection interrupts an order in progress.
    pub async fn serve(self) -> DrainOutcome {
        let mut accepting = tokio::task::JoinSet::new();
        let overloads = &self.live.overloads;
        let open = &self.live.open;
        for (socket, connections) in self.listeners {
            accepting.spawn(connections.accept(socket, self.stopped.clone()));
        }
        let drained = async {
            accepting.join_all().await;
            let leaving = async {
                // First the connections, then the requests of clients that have disconnected.
                for connections in open {
                    connections.bound.all_back().await;
                }
                for overload in overloads {
                    overload.drain().await;
                }
            };
            timeout(self.live.bounds.load().drain_within, leaving).await
        };
        let drained = tokio::select! {
            drained = drained => drained,
            never = watch(overloads, &self.live.bounds, &self.metrics) => match never {},
        };
        if drained.is_ok() {
            return DrainOutcome::Whole;
        }
        let requests = overloads.iter().map(|overload| overload.requests_open());
        let requests: u32 = requests.sum();
        tracing::error!(
            requests,
            "the drain timeout passed with unanswered requests"
        );
        DrainOutcome::Cut
    }
}

/// Measures the scheduling delay with a timer, and logs every second how many requests were rejected.
async fn watch(
    overloads: &[Arc<Overload>],
    bounds: &ArcSwap<Bounds>,
    metrics: &Metrics,
) -> std::convert::Infallible {
    const TICKS_BETWEEN_LOGS: u32 = 100;
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut since = 0_u32;
    loop {
        let late_by = ticks.tick().await.elapsed();
        metrics.front.scheduling_delay(late_by);
        let bounds = bounds.load();
        for overload in overloads {
            overload.tick(late_by, &bounds, Instant::now());
        }
        since = since.saturating_add(1);
        if since < TICKS_BETWEEN_LOGS {
            continue;
        }
        since = 0;
        for overload in overloads {
            let [unknown, new_orders, selections, other] = overload.rejected_lately();
            if [unknown, new_orders, selections, other] != [0; 4] {
                tracing::warn!(
                    unknown,
                    new_orders,
                    selections,
                    other,
                    "overload: so many requests were rejected with 503 and may be repeated"
                );
            }
        }
    }
}
