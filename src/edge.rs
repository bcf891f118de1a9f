//! The edge: pingora's connections and TLS, HTTP/1.1 read strictly on top; bytes in, bytes out.
//!
//! Reads one whole request within bounds, hands it over as `http` types, writes the answer; refuses
//! early when there is more than can be done. Decides nothing about money. No other file names
//! pingora.

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

use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;

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

/// What answers: from a whole request to a whole answer. Its endpoint was matched in the head, for its
/// priority.
pub type Responder = Arc<dyn Fn(Request<Bytes>, Peer, EndpointMatch) -> Responding + Send + Sync>;
/// An answer in the making.
pub type Responding = Pin<Box<dyn Future<Output = EdgeResponse> + Send>>;
/// Writes the answer to a request that never became one.
pub type Refuse = Arc<dyn Fn(&Refusal) -> Response<Bytes> + Send + Sync>;
/// Whether a certificate that a client has shown is one of somebody enrolled.
pub type EnrolmentCheck = Arc<dyn Fn(&ShownCertificate) -> bool + Send + Sync>;

/// An answer, and what its request proved of the caller.
pub struct EdgeResponse {
    /// What goes back.
    pub response: Response<Bytes>,
    /// Nothing, unless the caller proved who it is.
    pub proof: Option<ConnectionProof>,
}

impl From<Response<Bytes>> for EdgeResponse {
    /// An answer that proves nothing.
    fn from(response: Response<Bytes>) -> Self {
        let proof = None;
        Self { response, proof }
    }
}

/// The caller has proven who it is. Such a connection keeps its place when there are no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionProof {
    /// A merchant or an institution.
    Party,
    /// Somebody who knows the address of a payer's page; the same number is the same page.
    Payer(u64),
}

/// One address to listen on.
pub struct Listener {
    /// Where; port 0 lets the system choose, see [`Edge::addresses`].
    pub address: SocketAddr,
    /// The certificate shown; none makes a plain listener, for operations on loopback.
    pub identity: Option<Arc<TlsIdentity>>,
    /// What answers here.
    pub responder: Responder,
    /// Whose certificates are enrolled: some places are left to them.
    pub enrolled: EnrolmentCheck,
}

/// How a stop went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainOutcome {
    /// Everything that was handed over was answered.
    Whole,
    /// The limit passed first. What was handed over still runs, until its runtime ends.
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

/// Asks an edge to stop; can be cloned and kept.
#[derive(Clone)]
pub struct Stop(Arc<watch::Sender<bool>>);

impl Stop {
    /// Refuses new connections and lets what is here finish. A second call changes nothing.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// Listeners that are bound and not yet accepting.
pub struct Edge {
    doors: Vec<(tokio::net::TcpListener, Arc<ListenerConnections>)>,
    addresses: Vec<SocketAddr>,
    live: LiveBounds,
    metrics: Arc<Metrics>,
    stop: Stop,
    /// From before anybody can ask: a stop that comes before anything is accepted is a change as well.
    stopped: watch::Receiver<bool>,
}

impl Edge {
    /// Binds every address, so that a taken port is an error here. To be called on the runtime that
    /// will serve.
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
            doors: Vec::new(),
            addresses: Vec::new(),
            live: LiveBounds::of(bounds),
            metrics: Arc::clone(metrics),
            stop: Stop(Arc::new(stop)),
            stopped,
        };
        for listener in listeners {
            let socket = TcpListener::bind(listener.address)?;
            socket.set_nonblocking(true)?;
            let address = socket.local_addr()?;
            let door = edge.door(listener, &bounds, refuse)?;
            let socket = tokio::net::TcpListener::from_std(socket)?;
            edge.doors.push((socket, Arc::new(door)));
            edge.addresses.push(address);
        }
        Ok(edge)
    }

    /// Each door counts its own: whoever crowds the public one must not keep operations out.
    fn door(
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
            enrolled: listener.enrolled,
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

    /// The way to replace its bounds.
    pub fn bounds(&self) -> LiveBounds {
        self.live.clone()
    }

    /// Accepts on the present runtime until stopped, then drains.
    ///
    /// Each request is handed over as a task of its own: neither a client that hangs up nor the
    /// end of its connection cuts an order in progress off.
    pub async fn serve(self) -> DrainOutcome {
        let mut accepting = tokio::task::JoinSet::new();
        let overloads = &self.live.overloads;
        let open = &self.live.open;
        for (socket, door) in self.doors {
            accepting.spawn(door.accept(socket, self.stopped.clone()));
        }
        let drained = async {
            accepting.join_all().await;
            let leaving = async {
                // First the connections, then what clients that have gone had handed over.
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
            never = watch(overloads, &self.metrics) => match never {},
        };
        if drained.is_ok() {
            return DrainOutcome::Whole;
        }
        let requests = overloads.iter().map(|overload| overload.requests_open());
        let requests: u32 = requests.sum();
        tracing::error!(
            requests,
            "the time to drain passed with requests not answered"
        );
        DrainOutcome::Cut
    }
}

/// Ticks, sees how late each tick is served, and says once in a while who was rejected.
async fn watch(overloads: &[Arc<Overload>], metrics: &Metrics) -> std::convert::Infallible {
    const TICKS_BETWEEN_WORDS: u32 = 100;
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut since = 0_u32;
    loop {
        let late_by = ticks.tick().await.elapsed();
        metrics.front.scheduling_delay(late_by);
        for overload in overloads {
            overload.tick(late_by, Instant::now());
        }
        since = since.saturating_add(1);
        if since < TICKS_BETWEEN_WORDS {
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
                    "overload: these requests were rejected with 503 and may come again"
                );
            }
        }
    }
}
