//! Clients that are slow, too many or endless: each is cut off at a named limit and counted, and
//! delays no other.

use super::running::{GET, RunningEdge, post};
use super::*;
use bytes::Bytes;
use http::Response;
use paymux::edge::{Bounds, Responder};

const CLOSE: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// Q1: a caller that sends slowly gets a refusal and is cut off.
#[tokio::test]
async fn slow_callers_are_cut_off() {
    let bounds = Bounds {
        head_within: SHORT,
        ..Bounds::default()
    };
    let edge = RunningEdge::echo(bounds);
    let answer = ask(&mut edge.connect().await, &GET[..20]).await;
    assert_eq!(answer.unwrap().status(), 408);
    edge.counts(r#"paymux_connections_cut_total{cause="head_slow"} 1"#)
        .await;

    let bounds = Bounds {
        body_within: SHORT,
        ..Bounds::default()
    };
    let edge = RunningEdge::echo(bounds);
    let whole = post("0123456789");
    let answer = ask(&mut edge.connect().await, &whole[..whole.len() - 1]).await;
    assert_eq!(answer.unwrap().status(), 408);
    edge.counts(r#"paymux_connections_cut_total{cause="body_slow"} 1"#)
        .await;

    let bounds = Bounds {
        idle_within: SHORT,
        ..Bounds::default()
    };
    let edge = RunningEdge::echo(bounds);
    assert!(read_message(&mut edge.connect().await).await.is_none());
    assert!(edge.seen.lock().unwrap().is_empty());
}

/// R-6.3.1-3a: a handshake that stalls is cut off, whether nothing or half of it was sent.
#[tokio::test]
async fn a_slow_handshake_is_cut_off() {
    let bounds = Bounds {
        handshake_within: SHORT,
        ..Bounds::default()
    };
    let edge = RunningEdge::echo(bounds);
    for hello in [&b""[..], b"\x16\x03\x01\x01\x00\x01"] {
        let mut stream = TcpStream::connect(edge.address).await.unwrap();
        stream.write_all(hello).await.unwrap();
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(TIMEOUT, stream.read_to_end(&mut rest))
            .await
            .unwrap();
    }
    edge.counts(r#"paymux_connections_cut_total{cause="handshake_slow"} 2"#)
        .await;
    edge.counts("paymux_handshakes_in_progress 0").await;
    edge.counts("paymux_connections 0").await;
}

/// A connection without a TLS handshake is counted and takes up a handshake, not a connection
/// permit.
#[tokio::test]
async fn a_connection_without_a_handshake_is_refused() {
    let edge = RunningEdge::echo(Bounds::default());
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    stream.write_all(GET).await.unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(!rest.starts_with(b"HTTP"));
    edge.counts(r#"paymux_connections_cut_total{cause="handshake_failed"} 1"#)
        .await;
    edge.counts("paymux_connections 0").await;
}

/// R-6.3.1-3a: a connection that sends nothing, or only part of a `ClientHello`, takes no handshake
/// permit; one that stalls after our reply to it has returned its permit.
#[tokio::test]
async fn stalled_handshakes_block_no_other() {
    let bounds = Bounds {
        handshakes_max: 1,
        handshakes_per_address_max: 1,
        handshake_within: TIMEOUT,
        ..Bounds::default()
    };
    let edge = RunningEdge::echo(bounds);
    let hello = crate::socket::unauthenticated::hello(&edge);
    let mut still = Vec::new();
    for part in [&b""[..], &hello[..1], &hello[..hello.len() - 1], &hello] {
        let mut tcp = TcpStream::connect(edge.address).await.unwrap();
        tcp.write_all(part).await.unwrap();
        still.push(tcp);
    }
    // The complete one is answered.
    let last = still.last_mut().unwrap();
    assert_eq!(last.read_u8().await.unwrap(), 0x16);
    edge.counts("paymux_connections 4").await;
    edge.counts("paymux_handshakes_in_progress 1").await;
    for _ in 0..2 {
        assert_eq!(
            ask(&mut edge.connect().await, GET).await.unwrap().status(),
            200
        );
    }
    edge.counts("paymux_connections 4").await;
}

/// R-6.3.1-3a: an endless `ClientHello` is cut off by its size.
#[tokio::test]
async fn an_endless_client_hello_is_cut_off() {
    let bounds = Bounds {
        handshake_within: TIMEOUT,
        ..Bounds::default()
    };
    let edge = RunningEdge::echo(bounds);
    let mut tcp = TcpStream::connect(edge.address).await.unwrap();
    // A ClientHello of 60,000 bytes by its header, in records of 4,096.
    let mut record = vec![0x16, 3, 1, 0x10, 0, 1, 0, 0xea, 0x60];
    record.resize(5 + 4_096, 0);
    tcp.write_all(&record).await.unwrap();
    record.splice(5.., std::iter::repeat_n(0, 4_096));
    for _ in 0..9 {
        let _ = tcp.write_all(&record).await;
    }
    let mut rest = Vec::new();
    let _ = tcp.read_to_end(&mut rest).await;
    edge.counts(r#"paymux_connections_cut_total{cause="handshake_failed"} 1"#)
        .await;
}

/// R-6.3.1-3a: a body that drips, always just within the timeout, is cut off by its rate.
#[tokio::test]
async fn a_dripping_body_is_cut_off() {
    let bounds = Bounds {
        body_within: TIMEOUT * 2,
        body_rate_min: 1_000_000,
        ..Bounds::default()
    };
    let edge = RunningEdge::echo(bounds);
    let mut stream = edge.connect().await;
    let whole = post("0123456789");
    let answer = ask(&mut stream, &whole[..whole.len() - 1]).await;
    assert_eq!(answer.unwrap().status(), 408);
}

/// R-6.3.1-3a: a client that does not read the reply loses its connection; no other waits for it.
#[tokio::test]
async fn a_slow_reader_is_cut_off() {
    const LARGE: usize = 64 << 20;
    let bounds = Bounds {
        write_within: SHORT,
        ..Bounds::default()
    };
    let responder: Responder = Arc::new(|request, _, _| {
        Box::pin(async move {
            let body = match request.uri().path() {
                "/large" => Bytes::from(vec![b'x'; LARGE]),
                _ => Bytes::new(),
            };
            Response::new(body).into()
        })
    });
    let edge = RunningEdge::start(bounds, responder);
    let mut slow = edge.connect().await;
    let large = "GET /large HTTP/1.1\r\nHost: a\r\n\r\n";
    slow.write_all(large.as_bytes()).await.unwrap();
    slow.flush().await.unwrap();
    edge.counts(r#"paymux_connections_cut_total{cause="reader_slow"} 1"#)
        .await;
    assert_eq!(
        ask(&mut edge.connect().await, GET).await.unwrap().status(),
        200
    );
    edge.counts("paymux_requests_in_flight 0").await;
    drop(slow);
    edge.counts("paymux_connections 0").await;
}

/// R-6.3.1-3a: one address cannot take every connection, and what is refused is counted.
#[tokio::test]
async fn one_address_has_only_its_share_of_connections() {
    let bounds = Bounds {
        connections_per_address_max: 1,
        ..Bounds::default()
    };
    let edge = RunningEdge::proving(bounds);
    let mut first = edge.connect().await;
    assert_eq!(ask(&mut first, GET).await.unwrap().status(), 200);
    assert!(connect(&edge.client(None), edge.address).await.is_err());
    edge.counts(r#"paymux_connections_refused_total{cause="address"} 1"#)
        .await;
    ask(&mut first, CLOSE).await.unwrap();
    assert!(read_message(&mut first).await.is_none());
    drop(first);
    while connect(&edge.client(None), edge.address).await.is_err() {
        tokio::task::yield_now().await;
    }
}

/// All connections together are limited as well; past that one ends before its handshake.
#[tokio::test]
async fn connections_are_bounded() {
    let bounds = Bounds {
        connections_max: 1,
        ..Bounds::default()
    };
    let edge = RunningEdge::proving(bounds);
    let mut first = edge.connect().await;
    assert_eq!(ask(&mut first, GET).await.unwrap().status(), 200);
    assert!(connect(&edge.client(None), edge.address).await.is_err());
    edge.counts(r#"paymux_connections_refused_total{cause="connections"} 1"#)
        .await;
    assert_eq!(ask(&mut first, GET).await.unwrap().status(), 200);
}

/// A connection ends properly after a number of requests, and after a number of pipelined ones.
#[tokio::test]
async fn a_connection_carries_only_so_many_requests() {
    let bounds = Bounds {
        requests_per_connection_max: 2,
        ..Bounds::default()
    };
    let edge = RunningEdge::echo(bounds);
    let mut stream = edge.connect().await;
    for expected in ["keep-alive", "close"] {
        let answer = ask(&mut stream, GET).await.unwrap();
        assert_eq!(
            (answer.status(), answer.header("connection")),
            (200, Some(expected))
        );
    }
    assert!(read_message(&mut stream).await.is_none());

    let bounds = Bounds {
        pipelined_max: 2,
        ..Bounds::default()
    };
    let edge = RunningEdge::echo(bounds);
    let mut stream = edge.connect().await;
    stream.write_all(&GET.repeat(9)).await.unwrap();
    let mut answers = 0;
    while let Some(answer) = read_message(&mut stream).await {
        assert_eq!(answer.status(), 200);
        answers += 1;
    }
    assert_eq!(
        answers, 4,
        "one, two ahead of their answers, and the one too many"
    );
}

/// F1: limits are replaced while connections are open, and apply from the next request on.
#[tokio::test]
async fn bounds_are_replaced_while_it_serves() {
    let edge = RunningEdge::proving(Bounds::default());
    let mut open = edge.connect().await;
    assert_eq!(
        ask(&mut open, post("0123456789")).await.unwrap().status(),
        200
    );
    edge.bounds.replace(Bounds {
        body_bytes_max: 4,
        connections_max: 1,
        handshakes_max: 1,
        ..Bounds::default()
    });
    assert!(connect(&edge.client(None), edge.address).await.is_err());
    assert_eq!(ask(&mut open, post("0123")).await.unwrap().status(), 200);
    assert_eq!(ask(&mut open, post("01234")).await.unwrap().status(), 413);
    edge.bounds.replace(Bounds::default());
    while connect(&edge.client(None), edge.address).await.is_err() {
        tokio::task::yield_now().await;
    }
}
