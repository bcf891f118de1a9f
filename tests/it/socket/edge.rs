//! The edge at its socket.

use std::sync::Mutex;

use paymux::edge::{Bounds, DrainOutcome, Responder};
use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};
use tokio::sync::{Notify, Semaphore};

use super::running::{GET, RunningEdge, echo, post};
use super::*;

/// R-6.3.1-2d: TLS 1.2 and 1.3 are accepted, nothing older.
#[tokio::test]
async fn only_tls_1_2_and_1_3_are_spoken() {
    let edge = RunningEdge::echo(Bounds::default());
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

/// Q4: the responder gets the digest of a certificate whose key was proven, on every request and on
/// resumed sessions; without a certificate it gets none.
#[tokio::test]
async fn the_responder_gets_the_client_certificates_digest() {
    let edge = RunningEdge::echo(Bounds::default());
    let merchant = TestIdentity::new();
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
    let digests: Vec<_> = seen
        .iter()
        .map(|(_, peer)| peer.certificate.map(|shown| shown.digest))
        .collect();
    let (from, until) = paymux::config::validity_s(&merchant.certificate).unwrap();
    let mut shown = seen.iter().filter_map(|(_, peer)| peer.certificate);
    assert!(shown.all(|shown| (shown.not_before_s, shown.not_after_s) == (from, until)));
    let proven = Some(merchant.digest());
    assert_eq!(digests, [proven, proven, proven, proven, None]);
    assert!(seen.iter().all(|(_, peer)| peer.address.is_loopback()));
}

/// F1: another certificate is shown from the next handshake on; open connections go on.
#[tokio::test]
async fn a_certificate_is_swapped_without_a_restart() {
    let edge = RunningEdge::echo(Bounds::default());
    let mut open = edge.connect().await;
    let next = TestIdentity::new();
    edge.shown.replace(next.chain(), next.key()).unwrap();
    assert!(
        edge.shown
            .replace(next.chain(), TestIdentity::new().key())
            .is_err()
    );
    assert!(connect(&edge.client(None), edge.address).await.is_err());
    let mut new = connect(&client(&next, &[&TLS13], None), edge.address)
        .await
        .unwrap();
    assert_eq!(ask(&mut new, GET).await.unwrap().status(), 200);
    assert_eq!(ask(&mut open, GET).await.unwrap().status(), 200);
}

/// RFC 9112, 9.3: one connection carries many requests, also pipelined, answered in order.
#[tokio::test]
async fn one_connection_carries_many_requests() {
    let edge = RunningEdge::echo(Bounds::default());
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

/// RFC 9112, 9.6: after the last reply what the client still sends is read and dropped; otherwise a
/// reset could lose the reply to an order just placed.
#[tokio::test]
async fn the_last_answer_is_not_lost_by_what_follows_it() {
    let last = "Host: localhost\r\nConnection: close\r\n";
    let last = post("last").replace("Host: localhost\r\n", last);
    let only = Bounds {
        requests_per_connection_max: 1,
        ..Bounds::default()
    };
    for (bounds, request) in [(Bounds::default(), last), (only, post("last"))] {
        let edge = RunningEdge::echo(bounds);
        let mut stream = edge.connect().await;
        let ahead = format!("{request}{}", post(&"x".repeat(50_000)));
        assert_eq!(ask(&mut stream, ahead).await.unwrap().body, b"last");
        assert!(read_message(&mut stream).await.is_none());
        for _ in 0..9 {
            stream.write_all(&[b'x'; 512]).await.unwrap();
            stream.flush().await.unwrap();
            tokio::task::yield_now().await;
        }
        drop(stream);
        edge.counts("paymux_connections 0").await;
        assert_eq!(edge.seen.lock().unwrap().len(), 1);
    }
}

/// RFC 9112, 2.2: an extra line end after a body is no request: no request time runs and a stop
/// ends the connection; packet boundaries make no difference.
#[tokio::test]
async fn a_line_end_after_a_body_is_no_request() {
    let edge = RunningEdge::echo(Bounds {
        pipelined_max: 0,
        ..Bounds::default()
    });
    let mut stream = edge.connect().await;
    for body in ["one", "two", "three"] {
        let sent = format!("{}\r\n", post(body));
        let answer = ask(&mut stream, sent).await.unwrap();
        assert_eq!(answer.body, body.as_bytes());
        assert_eq!(answer.header("connection"), Some("keep-alive"));
    }
    for byte in ["\r", "\n"] {
        // The extra one after the third body was accepted; this one belongs to the next request.
        let mut stream = edge.connect().await;
        for piece in ["\r", "\n", byte] {
            stream.write_all(piece.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            tokio::task::yield_now().await;
        }
        let rest = if byte == "\r" { "\nGET" } else { "GET" };
        let rest = format!("{rest} / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(ask(&mut stream, rest).await.unwrap().status(), 400);
    }
    let mut halves = edge.connect().await;
    for piece in ["\r", "\nGET / HTTP/1.1\r\nHost: a\r\n"] {
        halves.write_all(piece.as_bytes()).await.unwrap();
        halves.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(ask(&mut halves, "\r\n").await.unwrap().status(), 200);
    drop(halves);
    edge.stop.stop();
    assert!(read_message(&mut stream).await.is_none());
    drop(stream);
    assert_eq!(edge.stopped().await, DrainOutcome::Whole);
}

/// The responder gets path, query and every header line, whatever the form of the target.
#[tokio::test]
async fn a_request_arrives_whole() {
    let edge = RunningEdge::echo(Bounds::default());
    let mut stream = edge.connect().await;
    let absolute = "POST https://localhost/a?b=c HTTP/1.1\r\nHost: localhost\r\nX: 1\r\nx: 2\r\n\
                    Expect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    assert_eq!(ask(&mut stream, absolute).await.unwrap().status(), 100);
    assert_eq!(ask(&mut stream, "hi").await.unwrap().body, b"hi");
    let seen = edge.seen.lock().unwrap();
    assert_eq!(seen[0].0.uri(), "/a?b=c");
    let lines: Vec<_> = seen[0].0.headers().get_all("x").iter().collect();
    assert_eq!(lines, ["1", "2"]);
}

/// A request that ends in a panic has an unknown outcome, and the reply says so; others go on.
#[tokio::test]
async fn a_panic_is_answered_as_unknown_outcome() {
    let responder: Responder = Arc::new(|request, _, _| {
        assert!(request.uri().path() != "/a", "as the test wants");
        Box::pin(async { echo(request) })
    });
    let edge = RunningEdge::start(Bounds::default(), responder);
    let mut stream = edge.connect().await;
    let answer = ask(&mut stream, GET).await.unwrap();
    assert_eq!(answer.status(), 500);
    assert!(String::from_utf8_lossy(&answer.body).contains("outcome_unknown"));
    assert_eq!(ask(&mut stream, post("next")).await.unwrap().body, b"next");
}

/// Stopping: new connections are refused, idle ones closed, and requests in flight are finished,
/// whether the client still waits or has gone; a second stop changes nothing.
#[tokio::test]
async fn a_stop_finishes_requests_in_flight() {
    let (release, arrived) = (Arc::new(Semaphore::new(0)), Arc::new(Notify::new()));
    let ended = Arc::new(Mutex::new(0));
    let (wait, arrive, count) = (
        Arc::clone(&release),
        Arc::clone(&arrived),
        Arc::clone(&ended),
    );
    let responder: Responder = Arc::new(move |request, _, _| {
        let (wait, count) = (Arc::clone(&wait), Arc::clone(&count));
        arrive.notify_one();
        Box::pin(async move {
            wait.acquire().await.unwrap().forget();
            *count.lock().unwrap() += 1;
            echo(request)
        })
    });
    let edge = RunningEdge::start(Bounds::default(), responder);
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
    assert_eq!(edge.stopped().await, DrainOutcome::Whole);
    assert_eq!(*ended.lock().unwrap(), 2);
}

/// A stop requested before anything is accepted takes effect.
#[tokio::test]
async fn a_stop_right_after_a_start_is_not_missed() {
    let edge = RunningEdge::echo(Bounds::default());
    // On this single thread nothing of it has run yet.
    assert_eq!(edge.stopped().await, DrainOutcome::Whole);
}

/// A stop has a deadline: what is not answered by then is reported, not waited for.
#[tokio::test]
async fn a_stop_does_not_wait_for_ever() {
    let bounds = Bounds {
        drain_within: SHORT,
        ..Bounds::default()
    };
    let arrived = Arc::new(Notify::new());
    let arrive = Arc::clone(&arrived);
    let responder: Responder = Arc::new(move |_, _, _| {
        arrive.notify_one();
        Box::pin(std::future::pending())
    });
    let edge = RunningEdge::start(bounds, responder);
    let mut waits = edge.connect().await;
    waits.write_all(GET).await.unwrap();
    arrived.notified().await;
    assert_eq!(edge.stopped().await, DrainOutcome::Cut);
}
