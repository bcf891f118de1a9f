//! Behind a balancer: the client's address comes from its PROXY protocol v2 header, and from nobody else.

use std::num::NonZeroU32;

use paymux::api::AddressSource;
use paymux::edge::{Bounds, ConnectionProof, EdgeResponse, Responder};
use paymux::limits::{LimitSettings, Rate};
use tokio::net::TcpSocket;

use super::running::{GET, RunningEdge, echo};
use super::unauthenticated::hello;
use super::*;
use crate::world::test_gateway::TestGateway;

/// The balancer of these tests, and a peer that is none.
const BALANCER: &str = "127.0.0.1/32";
const OUTSIDER: &str = "127.0.0.9:0";

/// A header with this command and family, and these bytes behind its length.
fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([command, family]);
    header.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
    header.extend(rest);
    header
}

/// The header of a client at this address.
fn of_client(client: &str) -> Vec<u8> {
    match client.parse().unwrap() {
        std::net::IpAddr::V4(client) => {
            let rest = [&client.octets()[..], &[10, 0, 0, 1], &[1, 2, 1, 187]].concat();
            header(0x21, 0x11, &rest)
        }
        std::net::IpAddr::V6(client) => {
            let rest = [&client.octets()[..], &[0; 16], &[1, 2, 1, 187]].concat();
            header(0x21, 0x21, &rest)
        }
    }
}

fn behind_balancer(bounds: Bounds) -> RunningEdge {
    let responder: Responder = Arc::new(|request, _, _| Box::pin(async { echo(request) }));
    RunningEdge::behind(&[BALANCER], bounds, responder)
}

/// Each client has proven something from its first reply on.
fn proving(bounds: Bounds) -> RunningEdge {
    let responder: Responder = Arc::new(|request, _, _| {
        Box::pin(async {
            EdgeResponse {
                proof: Some(ConnectionProof::Party),
                ..echo(request)
            }
        })
    });
    RunningEdge::behind(&[BALANCER], bounds, responder)
}

fn refused(reason: &str, count: u32) -> String {
    format!(r#"paymux_proxy_headers_refused_total{{reason="{reason}"}} {count}"#)
}

/// A connection of the balancer's that begins with these bytes.
async fn opened(edge: &RunningEdge, begins: &[u8]) -> TcpStream {
    let mut tcp = TcpStream::connect(edge.address).await.unwrap();
    tcp.write_all(begins).await.unwrap();
    tcp
}

/// TLS on an open connection.
async fn secured(edge: &RunningEdge, tcp: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("localhost").unwrap();
    edge.client(None).connect(name, tcp).await
}

/// A client's connection through the balancer.
async fn through(edge: &RunningEdge, client: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = opened(edge, &of_client(client)).await;
    secured(edge, tcp).await
}

/// What the server sends until it closes the connection.
async fn rest(tcp: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(TIMEOUT, tcp.read_to_end(&mut rest)).await;
    let _ = ended.expect("it is ended");
    rest
}

async fn is_open(stream: &mut TlsStream<TcpStream>) -> bool {
    ask(stream, GET).await.is_some_and(|it| it.status() == 200)
}

/// The header's source is the client's address in every request, in canonical form; a connection that the
/// balancer opens for itself, or for a client that it cannot name, keeps the balancer's.
#[tokio::test]
async fn the_headers_source_is_the_clients_address() {
    let edge = behind_balancer(Bounds::default());
    let with_field = [
        &[203, 0, 113, 5, 10, 0, 0, 1, 1, 2, 1, 187][..],
        &[4, 0, 1, 0],
    ]
    .concat();
    for (header, address) in [
        (of_client("203.0.113.4"), "203.0.113.4"),
        (of_client("2001:db8::4"), "2001:db8::4"),
        (of_client("::ffff:203.0.113.4"), "203.0.113.4"),
        (header(0x21, 0x11, &with_field), "203.0.113.5"),
        (header(0x20, 0x00, &[]), "127.0.0.1"),
        (header(0x20, 0x11, &with_field), "127.0.0.1"),
        (header(0x21, 0x00, &[]), "127.0.0.1"),
    ] {
        let mut stream = secured(&edge, opened(&edge, &header).await).await.unwrap();
        assert!(is_open(&mut stream).await && is_open(&mut stream).await);
        let seen: Vec<_> = edge.seen.lock().unwrap().drain(..).collect();
        assert_eq!(seen.len(), 2);
        for (_, peer) in seen {
            assert_eq!(peer.address.to_string(), address);
            assert_eq!(peer.source, AddressSource::TrustedProxy);
        }
    }
}

/// A header that comes in pieces, or in one piece with the client's TLS, is read to its end and not
/// further.
#[tokio::test]
async fn a_header_may_come_in_pieces() {
    let edge = behind_balancer(Bounds::default());
    let header = of_client("203.0.113.4");
    let mut pieces = TcpStream::connect(edge.address).await.unwrap();
    pieces.set_nodelay(true).unwrap();
    for byte in &header {
        pieces.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert!(is_open(&mut secured(&edge, pieces).await.unwrap()).await);
    let mut whole = opened(&edge, &[header, hello(&edge)].concat()).await;
    let mut record = [0; 3];
    whole.read_exact(&mut record).await.unwrap();
    assert_eq!(record[..2], [22, 3], "a handshake, not an alert");
}

/// A trusted peer without a valid header is closed without an answer and counted by its reason.
#[tokio::test]
async fn a_trusted_peer_without_a_valid_header_is_closed() {
    let edge = behind_balancer(Bounds::default());
    let mut too_long = header(0x21, 0x11, &[0; 4_081]);
    too_long.truncate(16);
    for (begins, reason) in [
        (hello(&edge), "missing"),
        (GET.to_vec(), "missing"),
        (b"PROXY TCP4 203.0.113.4 10.0.0.1 5 443\r\n".to_vec(), "v1"),
        (header(0x21, 0x31, &[b'/'; 216]), "unsupported"),
        (header(0x22, 0x11, &[0; 12]), "invalid"),
        (too_long, "too_long"),
    ] {
        let count = edge.metrics.render().matches(&refused(reason, 1)).count();
        let mut tcp = opened(&edge, &begins).await;
        assert!(rest(&mut tcp).await.is_empty(), "{reason}");
        edge.counts(&refused(reason, 1 + u32::try_from(count).unwrap()))
            .await;
    }
    for begins in [&b""[..], &of_client("203.0.113.4")[..20]] {
        let mut cut = opened(&edge, begins).await;
        cut.shutdown().await.unwrap();
        assert!(rest(&mut cut).await.is_empty());
    }
    edge.counts(&refused("cut", 2)).await;
    edge.counts("paymux_connections 0").await;
    assert!(edge.seen.lock().unwrap().is_empty());
    assert!(!edge.metrics.render().contains("handshake_failed"));
}

/// R-6.3.1-3a: header and handshake have the time of one handshake together.
#[tokio::test]
async fn a_slow_header_is_cut_off() {
    let edge = behind_balancer(Bounds {
        handshake_within: SHORT,
        ..Bounds::default()
    });
    for begins in [&b""[..], &of_client("203.0.113.4")[..20]] {
        let mut slow = opened(&edge, begins).await;
        assert!(rest(&mut slow).await.is_empty());
    }
    edge.counts(&refused("slow", 2)).await;
    let mut silent = opened(&edge, &of_client("203.0.113.4")).await;
    rest(&mut silent).await;
    edge.counts(r#"paymux_connections_cut_total{cause="handshake_slow"} 1"#)
        .await;
    edge.counts("paymux_connections 0").await;
}

/// A second header is no TLS: a client that sends one of its own behind the balancer's is refused.
#[tokio::test]
async fn a_second_header_is_no_handshake() {
    let edge = behind_balancer(Bounds::default());
    let both = [of_client("203.0.113.4"), of_client("198.51.100.1")].concat();
    let mut tcp = opened(&edge, &both).await;
    let alert = rest(&mut tcp).await;
    assert!(
        alert.is_empty() || alert[0] == 21,
        "an alert at most: {alert:?}"
    );
    edge.counts(r#"paymux_connections_cut_total{cause="handshake_failed"} 1"#)
        .await;
    assert!(
        !edge
            .metrics
            .render()
            .contains("proxy_headers_refused_total{")
    );
}

/// From a peer that is not trusted no header is read: its connection begins with TLS, or fails.
#[tokio::test]
async fn an_untrusted_peer_cannot_choose_its_address() {
    let edge = behind_balancer(Bounds::default());
    let outside = || async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(OUTSIDER.parse().unwrap()).unwrap();
        socket.connect(edge.address).await.unwrap()
    };
    let mut forged = outside().await;
    forged.write_all(&of_client("203.0.113.4")).await.unwrap();
    let alert = rest(&mut forged).await;
    assert!(
        alert.is_empty() || alert[0] == 21,
        "an alert at most: {alert:?}"
    );
    edge.counts(r#"paymux_connections_cut_total{cause="handshake_failed"} 1"#)
        .await;
    let mut direct = secured(&edge, outside().await).await.unwrap();
    assert!(is_open(&mut direct).await);
    let (_, peer) = edge.seen.lock().unwrap().pop().unwrap();
    assert_eq!(peer.address.to_string(), "127.0.0.9");
    assert_eq!(peer.source, AddressSource::Connection);
}

/// R-6.3.1-3a: connections are counted by the client behind the balancer, in whatever form its address
/// comes: who holds too many loses its own oldest, or gets no more, and no other client notices.
#[tokio::test]
async fn connections_are_counted_by_the_client() {
    let edge = proving(Bounds {
        connections_per_address_max: 2,
        ..Bounds::default()
    });
    let mut other = through(&edge, "203.0.113.5").await.unwrap();
    let mut oldest = through(&edge, "203.0.113.4").await.unwrap();
    let mut second = through(&edge, "::ffff:203.0.113.4").await.unwrap();
    let mut third = through(&edge, "203.0.113.4").await.unwrap();
    assert!(
        read_message(&mut oldest).await.is_none(),
        "closed for the third"
    );
    for open in [&mut other, &mut second, &mut third] {
        assert!(is_open(open).await);
    }
    assert!(through(&edge, "203.0.113.4").await.is_err());
    edge.counts(r#"paymux_connections_refused_total{cause="address"} 1"#)
        .await;
    let mut another = through(&edge, "203.0.113.6").await.unwrap();
    assert!(is_open(&mut another).await);
    drop((other, second, third, another));
    edge.counts("paymux_connections 0").await;
    // Nothing of the closed connections is still counted.
    for _ in 0..2 {
        let mut again = through(&edge, "203.0.113.4").await.unwrap();
        assert!(is_open(&mut again).await);
    }
}

/// A balancer may have any number of connections, before their headers and after: they are not one
/// client's. Those of its own, which name no client, are.
#[tokio::test]
async fn a_balancer_is_not_limited_as_one_client() {
    const MANY: u8 = 40;
    let edge = proving(Bounds {
        connections_per_address_max: 2,
        handshakes_per_address_max: 1,
        ..Bounds::default()
    });
    let mut waiting = Vec::new();
    for _ in 0..MANY {
        waiting.push(TcpStream::connect(edge.address).await.unwrap());
    }
    edge.counts(&format!("paymux_connections {MANY}")).await;
    let mut open = Vec::new();
    for (last, mut tcp) in (0..MANY).zip(waiting) {
        tcp.write_all(&of_client(&format!("203.0.113.{last}")))
            .await
            .unwrap();
        open.push(secured(&edge, tcp).await.unwrap());
    }
    for stream in &mut open {
        assert!(is_open(stream).await);
    }
    let own = header(0x20, 0x00, &[]);
    let mut checks = Vec::new();
    for _ in 0..2 {
        let mut check = secured(&edge, opened(&edge, &own).await).await.unwrap();
        assert!(is_open(&mut check).await);
        checks.push(check);
    }
    assert!(secured(&edge, opened(&edge, &own).await).await.is_err());
    edge.counts(r#"paymux_connections_refused_total{cause="address"} 1"#)
        .await;
}

/// R-6.3.1-3a: where all connections are taken, the oldest that has proven nothing makes room, also one
/// whose header has not come: silent connections through a balancer hold nothing.
#[tokio::test]
async fn a_connection_without_its_header_makes_room() {
    let edge = proving(Bounds {
        connections_max: 2,
        handshake_within: TIMEOUT * 9,
        ..Bounds::default()
    });
    let mut merchant = through(&edge, "203.0.113.4").await.unwrap();
    assert!(is_open(&mut merchant).await);
    let mut silent = opened(&edge, b"").await;
    edge.counts("paymux_connections 2").await;
    let mut next = through(&edge, "203.0.113.5").await.unwrap();
    assert!(rest(&mut silent).await.is_empty());
    edge.counts(r#"paymux_connections_cut_total{cause="unproven"} 1"#)
        .await;
    assert!(is_open(&mut next).await && is_open(&mut merchant).await);
}

/// Q1: the rate limit per address counts the client behind the balancer, not the balancer.
#[tokio::test]
async fn rate_limits_count_the_client() {
    let one = Rate {
        per_second: NonZeroU32::MIN,
        burst: NonZeroU32::MIN,
    };
    let gateway = Arc::new(TestGateway::new());
    gateway.api.admission.limits.replace(&LimitSettings {
        certificate: one,
        address: one,
        merchant: one,
    });
    let responder: Responder = Arc::new(move |request, peer, matched| {
        let gateway = Arc::clone(&gateway);
        Box::pin(async move {
            let answered = gateway.api.answer_matched(matched, request, peer).await;
            answered.response.into()
        })
    });
    let edge = RunningEdge::behind(&[BALANCER], Bounds::default(), responder);
    for (client, status) in [
        ("203.0.113.4", 404),
        ("203.0.113.4", 429),
        ("::ffff:203.0.113.4", 429),
        ("203.0.113.5", 404),
    ] {
        let mut stream = through(&edge, client).await.unwrap();
        let answer = ask(&mut stream, GET).await.unwrap();
        assert_eq!(answer.status(), status, "{client}");
    }
}
