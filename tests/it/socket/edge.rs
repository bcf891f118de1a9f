//! What the edge promises at its socket.

use std::sync::Mutex;

use bytes::Bytes;
use http::{Request, Response};
use paymux::api::Peer;
use paymux::api::refusal::problem;
use paymux::edge::{Bounds, Drained, Edge, Listener, Refuse, Responder, Stop, TlsIdentity};
use paymux::metrics::Metrics;
use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

use super::*;

const GET: &[u8] = b"GET /a?b=c HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// What reached whoever answers.
type Seen = Arc<Mutex<Vec<(Request<Bytes>, Peer)>>>;

/// An edge that runs.
struct Running {
    address: SocketAddr,
    identity: Identity,
    shown: Arc<TlsIdentity>,
    seen: Seen,
    metrics: Arc<Metrics>,
    stop: Stop,
    served: JoinHandle<Drained>,
}

impl Running {
    fn start(bounds: Bounds, responder: Responder) -> Self {
        let identity = Identity::new();
        let shown = TlsIdentity::new(identity.chain(), identity.key()).unwrap();
        let shown = Arc::new(shown);
        let seen = Seen::default();
        let keep = Arc::clone(&seen);
        let responder: Responder = Arc::new(move |request: Request<Bytes>, peer| {
            let mut copy = Request::new(request.body().clone());
            *copy.uri_mut() = request.uri().clone();
            *copy.headers_mut() = request.headers().clone();
            keep.lock().unwrap().push((copy, peer));
            responder(request, peer)
        });
        let listener = Listener {
            address: "127.0.0.1:0".parse().unwrap(),
            identity: Some(Arc::clone(&shown)),
            responder,
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
            served: tokio::spawn(edge.serve()),
        }
    }

    fn echo(bounds: Bounds) -> Self {
        Self::start(
            bounds,
            Arc::new(|request, _| Box::pin(async { echo(request) })),
        )
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        connect(&self.client(None), self.address).await.unwrap()
    }

    fn client(&self, shown: Option<&Identity>) -> TlsConnector {
        client(&self.identity, &[&TLS13, &TLS12], shown)
    }

    async fn stopped(self) -> Drained {
        self.stop.stop();
        tokio::time::timeout(PATIENCE, self.served)
            .await
            .unwrap()
            .unwrap()
    }
}

fn echo(request: Request<Bytes>) -> Response<Bytes> {
    Response::new(request.into_body())
}

fn post(body: &str) -> String {
    let length = body.len();
    format!("POST /v1/orders HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn small() -> Bounds {
    Bounds {
        body_bytes_max: 16,
        header_lines_max: 4,
        header_bytes_max: 256,
        ..Bounds::default()
    }
}

/// R-6.3.1-2c, R-6.3.1-2d: TLS 1.2 and 1.3 are spoken, nothing older.
#[tokio::test]
async fn only_tls_1_2_and_1_3_are_spoken() {
    let edge = Running::echo(Bounds::default());
    for version in [&TLS12, &TLS13] {
        let client = client(&edge.identity, &[version], None);
        let mut stream = connect(&client, edge.address).await.unwrap();
        let answer = ask(&mut stream, GET).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(answer.header("strict-transport-security").is_some());
    }
    // A client hello of TLS 1.1 with one suite that exists in every version.
    let mut hello = vec![22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x13, 1, 0]);
    hello.truncate(50);
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    stream.write_all(&hello).await.unwrap();
    let mut alert = Vec::new();
    let _ = stream.read_to_end(&mut alert).await;
    assert_eq!(alert.first(), Some(&21), "an alert and nothing else");
}

/// Q4: the digest of a certificate whose key was proven reaches whoever answers, on every request
/// and on resumed sessions; without one there is none.
#[tokio::test]
async fn the_client_certificate_is_told_by_its_digest() {
    let edge = Running::echo(Bounds::default());
    let merchant = Identity::new();
    for version in [&TLS12, &TLS13] {
        let client = client(&edge.identity, &[version], Some(&merchant));
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut stream = connect(&client, edge.address).await.unwrap();
            ask(&mut stream, GET).await.unwrap();
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(kind));
        }
    }
    ask(&mut edge.connect().await, GET).await.unwrap();
    let seen = edge.seen.lock().unwrap();
    let told: Vec<_> = seen.iter().map(|(_, peer)| peer.certificate).collect();
    let proven = Some(merchant.digest());
    assert_eq!(told, [proven, proven, proven, proven, None]);
    assert!(seen.iter().all(|(_, peer)| peer.address.is_loopback()));
}

/// F1: another certificate is shown from the next handshake on; standing connections go on.
#[tokio::test]
async fn a_certificate_is_swapped_without_a_restart() {
    let edge = Running::echo(Bounds::default());
    let mut standing = edge.connect().await;
    let next = Identity::new();
    edge.shown.replace(next.chain(), next.key()).unwrap();
    assert!(
        edge.shown
            .replace(next.chain(), Identity::new().key())
            .is_err()
    );
    assert!(connect(&edge.client(None), edge.address).await.is_err());
    let mut new = connect(&client(&next, &[&TLS13], None), edge.address)
        .await
        .unwrap();
    assert_eq!(ask(&mut new, GET).await.unwrap().status(), 200);
    assert_eq!(ask(&mut standing, GET).await.unwrap().status(), 200);
}

/// Q1: what is over a bound is refused before anybody answers it, and the refusal arrives.
#[tokio::test]
async fn what_is_over_a_bound_is_refused() {
    let edge = Running::echo(small());
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                   a\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n";
    let long = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "x".repeat(256)
    );
    let endless = format!("GET /{}", "x".repeat(8_000));
    let lines = "GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 1\r\nC: 1\r\nD: 1\r\n\r\n".to_owned();
    for (bytes, status, code) in [
        (post(&"x".repeat(17)), 413, "body_too_large"),
        (post(&"x".repeat(300_000)), 413, "body_too_large"),
        (chunked.to_owned(), 413, "body_too_large"),
        (long, 431, "head_too_large"),
        (endless, 431, "head_too_large"),
        (lines, 431, "head_too_large"),
    ] {
        let mut stream = edge.connect().await;
        let answer = ask(&mut stream, bytes).await.unwrap();
        assert_eq!(answer.status(), status);
        assert!(String::from_utf8_lossy(&answer.body).contains(code));
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(read_message(&mut stream).await.is_none());
    }
    assert!(edge.seen.lock().unwrap().is_empty());
    let page = edge.metrics.render();
    assert!(
        page.contains(r#"paymux_refusals_total{code="body_too_large"} 3"#),
        "{page}"
    );
    let answer = ask(&mut edge.connect().await, post(&"x".repeat(16))).await;
    assert_eq!(answer.unwrap().body.len(), 16);
}

/// Q1: what two programs may read differently is refused and the connection closed.
#[tokio::test]
async fn an_ambiguous_request_is_refused() {
    let edge = Running::echo(Bounds::default());
    for bytes in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nnot a size\r\n",
    ] {
        let mut stream = edge.connect().await;
        let answer = ask(&mut stream, bytes).await.unwrap();
        assert_eq!(answer.status(), 400, "{bytes}");
        assert!(read_message(&mut stream).await.is_none(), "{bytes}");
    }
    assert!(edge.seen.lock().unwrap().is_empty());
}

/// Q1: a caller that sends slowly is told so and cut off.
#[tokio::test]
async fn slow_callers_are_cut_off() {
    let bounds = Bounds {
        head_within: SHORT,
        ..Bounds::default()
    };
    let edge = Running::echo(bounds);
    let answer = ask(&mut edge.connect().await, &GET[..20]).await;
    assert_eq!(answer.unwrap().status(), 408);

    let bounds = Bounds {
        body_within: SHORT,
        ..Bounds::default()
    };
    let edge = Running::echo(bounds);
    let whole = post("0123456789");
    let answer = ask(&mut edge.connect().await, &whole[..whole.len() - 1]).await;
    assert_eq!(answer.unwrap().status(), 408);

    let bounds = Bounds {
        idle_within: SHORT,
        ..Bounds::default()
    };
    let edge = Running::echo(bounds);
    assert!(read_message(&mut edge.connect().await).await.is_none());
    assert!(edge.seen.lock().unwrap().is_empty());
}

/// RFC 9112, 9.3: one connection carries many requests, also sent ahead, answered in order.
#[tokio::test]
async fn one_connection_carries_many_requests() {
    let edge = Running::echo(Bounds::default());
    let mut stream = edge.connect().await;
    for body in ["one", "two"] {
        assert_eq!(
            ask(&mut stream, post(body)).await.unwrap().body,
            body.as_bytes()
        );
    }
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nfi\r\n2\r\nve\r\n0\r\n\r\n";
    let ahead = format!("{}\r\n{}{chunked}", post("three"), post("four"));
    assert_eq!(ask(&mut stream, ahead).await.unwrap().body, b"three");
    for body in ["four", "five"] {
        assert_eq!(
            read_message(&mut stream).await.unwrap().body,
            body.as_bytes()
        );
    }
    let last = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert_eq!(
        ask(&mut stream, last).await.unwrap().header("connection"),
        Some("close")
    );
    assert!(read_message(&mut stream).await.is_none());
}

/// Whoever answers sees path, query and every header line, whatever form the target had.
#[tokio::test]
async fn a_request_arrives_whole() {
    let edge = Running::echo(Bounds::default());
    let mut stream = edge.connect().await;
    let absolute = "POST https://localhost/a?b=c HTTP/1.1\r\nHost: localhost\r\nX: 1\r\nx: 2\r\n\
                    Expect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    assert_eq!(ask(&mut stream, absolute).await.unwrap().status(), 100);
    assert_eq!(ask(&mut stream, "hi").await.unwrap().body, b"hi");
    let old = "GET /old HTTP/1.0\r\n\r\n";
    assert_eq!(ask(&mut stream, old).await.unwrap().status(), 200);
    let seen = edge.seen.lock().unwrap();
    assert_eq!(seen[0].0.uri(), "/a?b=c");
    let lines: Vec<_> = seen[0].0.headers().get_all("x").iter().collect();
    assert_eq!(lines, ["1", "2"]);
    assert_eq!(seen[1].0.uri(), "/old");
}

/// Q8: past the bound the answer is 503 at once, with `Retry-After`, and nobody was asked.
#[tokio::test]
async fn too_many_at_once_are_refused_at_once() {
    let bounds = Bounds {
        in_flight_max: 1,
        ..Bounds::default()
    };
    let (release, arrived) = (Arc::new(Semaphore::new(0)), Arc::new(Notify::new()));
    let (wait, arrive) = (Arc::clone(&release), Arc::clone(&arrived));
    let responder: Responder = Arc::new(move |request, _| {
        let wait = Arc::clone(&wait);
        arrive.notify_one();
        Box::pin(async move {
            wait.acquire().await.unwrap().forget();
            echo(request)
        })
    });
    let edge = Running::start(bounds, responder);
    let mut first = edge.connect().await;
    first.write_all(post("first").as_bytes()).await.unwrap();
    arrived.notified().await;
    let mut second = edge.connect().await;
    let answer = ask(&mut second, GET).await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(edge.seen.lock().unwrap().len(), 1);
    release.add_permits(1);
    assert_eq!(read_message(&mut first).await.unwrap().body, b"first");
    release.add_permits(1);
    assert_eq!(
        ask(&mut second, post("again")).await.unwrap().body,
        b"again"
    );
}

/// One address cannot take every connection.
#[tokio::test]
async fn one_address_has_only_its_share_of_connections() {
    let bounds = Bounds {
        connections_per_address_max: 1,
        ..Bounds::default()
    };
    let edge = Running::echo(bounds);
    let mut first = edge.connect().await;
    assert_eq!(ask(&mut first, GET).await.unwrap().status(), 200);
    assert!(connect(&edge.client(None), edge.address).await.is_err());
    let last = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    ask(&mut first, last).await.unwrap();
    assert!(read_message(&mut first).await.is_none());
    drop(first);
    while connect(&edge.client(None), edge.address).await.is_err() {
        tokio::task::yield_now().await;
    }
}

/// A request that ends in a panic is in doubt, and its caller is told so; others go on.
#[tokio::test]
async fn a_panic_is_answered_as_unknown() {
    let responder: Responder = Arc::new(|request, _| {
        assert!(request.uri().path() != "/a", "as the test wants");
        Box::pin(async { echo(request) })
    });
    let edge = Running::start(Bounds::default(), responder);
    let mut stream = edge.connect().await;
    let answer = ask(&mut stream, GET).await.unwrap();
    assert_eq!(answer.status(), 500);
    assert!(String::from_utf8_lossy(&answer.body).contains("outcome_unknown"));
    assert_eq!(ask(&mut stream, post("next")).await.unwrap().body, b"next");
}

/// Stopping: new connections are refused, idle ones closed, and what was handed over is finished,
/// whether its client still waits or has gone; a second stop changes nothing.
#[tokio::test]
async fn a_stop_finishes_what_was_handed_over() {
    let (release, arrived) = (Arc::new(Semaphore::new(0)), Arc::new(Notify::new()));
    let ended = Arc::new(Mutex::new(0));
    let (wait, arrive, count) = (
        Arc::clone(&release),
        Arc::clone(&arrived),
        Arc::clone(&ended),
    );
    let responder: Responder = Arc::new(move |request, _| {
        let (wait, count) = (Arc::clone(&wait), Arc::clone(&count));
        arrive.notify_one();
        Box::pin(async move {
            wait.acquire().await.unwrap().forget();
            *count.lock().unwrap() += 1;
            echo(request)
        })
    });
    let edge = Running::start(Bounds::default(), responder);
    let mut idle = edge.connect().await;
    let mut waits = edge.connect().await;
    waits.write_all(post("kept").as_bytes()).await.unwrap();
    arrived.notified().await;
    let mut gone = edge.connect().await;
    gone.write_all(post("gone").as_bytes()).await.unwrap();
    arrived.notified().await;
    drop(gone);
    edge.stop.stop();
    edge.stop.stop();
    assert!(read_message(&mut idle).await.is_none());
    while TcpStream::connect(edge.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!edge.served.is_finished());
    release.add_permits(2);
    let answer = read_message(&mut waits).await.unwrap();
    assert_eq!(answer.body, b"kept");
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(edge.stopped().await, Drained::Whole);
    assert_eq!(*ended.lock().unwrap(), 2);
}

/// A stop has an end: what is not answered by then is reported, not waited for.
#[tokio::test]
async fn a_stop_does_not_wait_for_ever() {
    let bounds = Bounds {
        drain_within: SHORT,
        ..Bounds::default()
    };
    let arrived = Arc::new(Notify::new());
    let arrive = Arc::clone(&arrived);
    let responder: Responder = Arc::new(move |_, _| {
        arrive.notify_one();
        Box::pin(std::future::pending())
    });
    let edge = Running::start(bounds, responder);
    let mut waits = edge.connect().await;
    waits.write_all(GET).await.unwrap();
    arrived.notified().await;
    assert_eq!(edge.stopped().await, Drained::Cut);
}
