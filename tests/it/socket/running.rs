//! A running edge, for the tests of its socket.

use std::sync::Mutex;

use bytes::Bytes;
use http::{Request, Response};
use paymux::api::Peer;
use paymux::api::refusal::problem;
use paymux::edge::{
    Bounds, ConnectionProof, DrainOutcome, Edge, EdgeResponse, Listener, LiveBounds, Refuse,
    Responder, Stop, TlsIdentity, TrustedProxies,
};
use paymux::metrics::Metrics;
use rustls::version::{TLS12, TLS13};
use tokio::task::JoinHandle;

use super::*;

pub(super) const GET: &[u8] = b"GET /a?b=c HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// The requests that reached the responder.
pub(super) type ReceivedRequests = Arc<Mutex<Vec<(Request<Bytes>, Peer)>>>;

/// A running edge.
pub(super) struct RunningEdge {
    pub(super) address: SocketAddr,
    pub(super) identity: TestIdentity,
    pub(super) shown: Arc<TlsIdentity>,
    pub(super) seen: ReceivedRequests,
    pub(super) metrics: Arc<Metrics>,
    pub(super) stop: Stop,
    pub(super) served: JoinHandle<DrainOutcome>,
    pub(super) bounds: LiveBounds,
}

impl RunningEdge {
    pub(super) fn start(bounds: Bounds, responder: Responder) -> Self {
        Self::behind(&[], bounds, responder)
    }

    /// Behind proxies in these networks.
    pub(super) fn behind(proxies: &[&str], bounds: Bounds, responder: Responder) -> Self {
        let proxies = proxies.iter().map(|network| network.parse().unwrap());
        let proxies = TrustedProxies::new(proxies.collect());
        let identity = TestIdentity::new();
        let shown = TlsIdentity::new(identity.chain(), identity.key()).unwrap();
        let shown = Arc::new(shown);
        let seen = ReceivedRequests::default();
        let recorded = Arc::clone(&seen);
        let responder: Responder = Arc::new(move |request: Request<Bytes>, peer, matched| {
            let mut copy = Request::new(request.body().clone());
            *copy.uri_mut() = request.uri().clone();
            *copy.headers_mut() = request.headers().clone();
            recorded.lock().unwrap().push((copy, peer));
            responder(request, peer, matched)
        });
        let listener = Listener {
            address: "127.0.0.1:0".parse().unwrap(),
            identity: Some(Arc::clone(&shown)),
            responder,
            trusted_proxies: Arc::new(proxies),
            // Any certificate counts as enrolled here.
            enrolled: Arc::new(|_| true),
        };
        let refuse: Refuse = Arc::new(|refusal| problem(refusal, "R1"));
        let metrics = Arc::new(Metrics::new().unwrap());
        let edge = Edge::bind(vec![listener], bounds, &refuse, &metrics).unwrap();
        Self {
            address: edge.addresses()[0],
            identity,
            shown,
            seen,
            metrics,
            stop: edge.stopper(),
            bounds: edge.bounds(),
            served: tokio::spawn(edge.serve()),
        }
    }

    pub(super) fn echo(bounds: Bounds) -> Self {
        Self::start(
            bounds,
            Arc::new(|request, _, _| Box::pin(async { echo(request) })),
        )
    }

    /// Every caller counts as an authenticated merchant from its first reply on.
    pub(super) fn proving(bounds: Bounds) -> Self {
        let responder: Responder = Arc::new(|request, _, _| {
            Box::pin(async {
                EdgeResponse {
                    proof: Some(ConnectionProof::Party),
                    ..echo(request)
                }
            })
        });
        Self::start(bounds, responder)
    }

    pub(super) async fn connect(&self) -> TlsStream<TcpStream> {
        connect(&self.client(None), self.address).await.unwrap()
    }

    pub(super) fn client(&self, shown: Option<&TestIdentity>) -> TlsConnector {
        client(&self.identity, &[&TLS13, &TLS12], shown)
    }

    /// Waits until the metrics page has this line; some counts lag behind.
    pub(super) async fn counts(&self, line: &str) {
        let seen = async {
            while !self.metrics.render().lines().any(|found| found == line) {
                tokio::task::yield_now().await;
            }
        };
        let seen = tokio::time::timeout(TIMEOUT, seen).await;
        assert!(seen.is_ok(), "{line} is not in\n{}", self.metrics.render());
    }

    pub(super) async fn stopped(self) -> DrainOutcome {
        self.stop.stop();
        tokio::time::timeout(TIMEOUT, self.served)
            .await
            .unwrap()
            .unwrap()
    }
}

pub(super) fn echo(request: Request<Bytes>) -> EdgeResponse {
    Response::new(request.into_body()).into()
}

pub(super) fn post(body: &str) -> String {
    let length = body.len();
    format!("POST /v1/orders HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")
}

pub(super) fn small() -> Bounds {
    Bounds {
        body_bytes_max: 16,
        header_lines_max: 4,
        header_bytes_max: 256,
        ..Bounds::default()
    }
}
