//! Overload at a real socket: which requests are rejected first, and that a rejection has no effect
//! but a delay.

use bytes::Bytes;
use http::Response;
use paymux::edge::{Bounds, ConnectionProof, Responder};
use tokio::sync::{Notify, Semaphore};

use super::running::{GET, RunningEdge, echo, post};
use super::*;

/// An edge whose replies are held until they are released, one by one.
struct HeldEdge {
    edge: RunningEdge,
    shown: TestIdentity,
    release: Arc<Semaphore>,
    arrived: Arc<Notify>,
}

impl HeldEdge {
    fn start(bounds: Bounds) -> Self {
        let (release, arrived) = (Arc::new(Semaphore::new(0)), Arc::new(Notify::new()));
        let (wait, arrive) = (Arc::clone(&release), Arc::clone(&arrived));
        let responder: Responder = Arc::new(move |request, _, _| {
            let wait = Arc::clone(&wait);
            arrive.notify_one();
            Box::pin(async move {
                wait.acquire().await.unwrap().forget();
                echo(request)
            })
        });
        Self {
            edge: RunningEdge::start(bounds, responder),
            shown: TestIdentity::new(),
            release,
            arrived,
        }
    }

    /// A connection of an enrolled caller.
    async fn connect(&self) -> TlsStream<TcpStream> {
        let client = self.edge.client(Some(&self.shown));
        connect(&client, self.edge.address).await.unwrap()
    }

    /// A connection whose request is in flight.
    async fn under_way(&self, request: &str) -> TlsStream<TcpStream> {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        self.arrived.notified().await;
        stream
    }
}

fn to(path: &str, body: &str) -> String {
    post(body).replace("/v1/orders", path)
}

fn is_rejected(answer: &SocketMessage) {
    assert_eq!(answer.status(), 503);
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=4).contains(&wait));
    assert!(String::from_utf8_lossy(&answer.body).contains("\"code\":\"unavailable\""));
}

/// Q8: past the limit the reply is 503 at once, with `Retry-After`, and the request goes no
/// further.
#[tokio::test]
async fn too_many_concurrent_requests_are_rejected_at_once() {
    let bounds = Bounds {
        in_flight_max: 1,
        ..Bounds::default()
    };
    let held = HeldEdge::start(bounds);
    let (edge, release) = (&held.edge, &held.release);
    let mut first = held.under_way(&post("first")).await;
    let mut second = held.connect().await;
    let answer = ask(&mut second, GET).await.unwrap();
    is_rejected(&answer);
    assert_eq!(edge.seen.lock().unwrap().len(), 1);
    release.add_permits(1);
    assert_eq!(read_message(&mut first).await.unwrap().body, b"first");
    release.add_permits(1);
    assert_eq!(
        ask(&mut second, post("again")).await.unwrap().body,
        b"again"
    );
}

/// R-6.4-1c, Q8: as the permits run out, new orders are rejected first, then selections, also on
/// the payer's page, and all others last; each may be repeated on the same connection, and is
/// answered when there is a permit. A rejected request does not get past the edge.
#[tokio::test]
async fn orders_are_rejected_before_selections_and_both_before_the_rest() {
    let held = HeldEdge::start(Bounds {
        in_flight_orders_max: 1,
        in_flight_selections_max: 2,
        in_flight_max: 3,
        ..Bounds::default()
    });
    let (order, choice) = (to("/v1/orders", "o"), to("/v1/orders/select", "c"));
    let (page, query) = (to("/pay/abc", "p"), to("/v1/orders/query", "q"));
    let mut waiting = vec![held.under_way(&order).await];
    let mut caller = held.connect().await;
    is_rejected(&ask(&mut caller, &order).await.unwrap());
    waiting.push(held.under_way(&choice).await);
    for refused in [&order, &choice, &page] {
        is_rejected(&ask(&mut caller, refused).await.unwrap());
    }
    waiting.push(held.under_way(&query).await);
    for refused in [&order, &choice, &query] {
        is_rejected(&ask(&mut caller, refused).await.unwrap());
    }
    assert_eq!(held.edge.seen.lock().unwrap().len(), 3);
    for (priority, count) in [("new_order", 3), ("selection", 3), ("other", 1)] {
        let line = format!(
            "paymux_load_shed_total{{priority=\"{priority}\",reason=\"in_flight\"}} {count}"
        );
        held.edge.counts(&line).await;
    }
    held.release.add_permits(4);
    for stream in &mut waiting {
        assert_eq!(read_message(stream).await.unwrap().status(), 200);
    }
    held.edge.counts("paymux_requests_in_flight 0").await;
    assert_eq!(ask(&mut caller, &order).await.unwrap().body, b"o");
}

/// A rejected request is read to its end, however it is sent: in pieces, in chunks, or after
/// `100-continue`. What follows on the connection is the next request, or the connection ends.
#[tokio::test]
async fn a_rejected_request_is_read_to_its_end() {
    let held = HeldEdge::start(Bounds {
        in_flight_orders_max: 0,
        ..Bounds::default()
    });
    let order = to("/v1/orders", &"x".repeat(9_000));
    let mut caller = held.connect().await;
    let (first, second) = order.split_at(200);
    caller.write_all(first.as_bytes()).await.unwrap();
    caller.flush().await.unwrap();
    is_rejected(&ask(&mut caller, second).await.unwrap());
    held.release.add_permits(1);
    let query = to("/v1/orders/query", "q");
    assert_eq!(ask(&mut caller, query).await.unwrap().status(), 200);
    for (head, body) in [
        ("Transfer-Encoding: chunked", "1\r\nx\r\n0\r\n\r\n"),
        ("Content-Length: 1\r\nExpect: 100-continue", ""),
    ] {
        let mut caller = held.connect().await;
        let order = format!("POST /v1/orders HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n{body}");
        let answer = ask(&mut caller, order).await.unwrap();
        is_rejected(&answer);
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(read_message(&mut caller).await.is_none());
    }
}

/// Q9: a request that waited past its deadline is dropped before it has an effect, never after.
#[tokio::test]
async fn a_request_past_its_deadline_is_not_begun() {
    let bounds = Bounds {
        start_within: Duration::ZERO,
        ..Bounds::default()
    };
    let edge = RunningEdge::start(
        bounds,
        Arc::new(|_, _, _| Box::pin(async { Response::new(Bytes::new()).into() })),
    );
    let answer = ask(&mut edge.connect().await, GET).await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.header("retry-after"), Some("1"));
    edge.counts(r#"paymux_load_shed_total{priority="unknown",reason="late"} 1"#)
        .await;
}

/// R-6.4-1c: an unauthenticated request for an unknown path takes no permit of an order, and is
/// rejected before an order is.
#[tokio::test]
async fn unknown_paths_are_rejected_before_orders() {
    let held = HeldEdge::start(Bounds {
        in_flight_orders_max: 2,
        ..Bounds::default()
    });
    let mut junk = held.under_way(&to("/nothing", "j")).await;
    let mut caller = held.connect().await;
    is_rejected(&ask(&mut caller, GET).await.unwrap());
    held.edge
        .counts(r#"paymux_load_shed_total{priority="unknown",reason="in_flight"} 1"#)
        .await;
    let mut order = held.under_way(&to("/v1/orders", "o")).await;
    let mut query = held.under_way(&to("/v1/orders/query", "q")).await;
    held.release.add_permits(3);
    for stream in [&mut junk, &mut order, &mut query] {
        assert_eq!(read_message(stream).await.unwrap().status(), 200);
    }
}

/// A rejected `HEAD` has no body, which would be taken for the next reply; and no rejection has a
/// stale date.
#[tokio::test]
async fn a_rejected_head_request_has_no_body() {
    let held = HeldEdge::start(Bounds {
        in_flight_max: 0,
        rejection_pause: Duration::ZERO,
        ..Bounds::default()
    });
    let mut caller = held.connect().await;
    let head_request = "HEAD /pay/abc HTTP/1.1\r\nHost: a\r\n\r\n";
    caller.write_all(head_request.as_bytes()).await.unwrap();
    let refused = read_head(&mut caller).await;
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(refused.contains("content-length: ") && !refused.contains("date: "));
    let next = ask(&mut caller, GET).await.unwrap();
    is_rejected(&next);
    assert_eq!(next.header("date"), None);
    // Refused for its length; its connection ends after the head.
    let long = head_request.replace("Host: a", "Host: a\r\nContent-Length: 9999999");
    caller.write_all(long.as_bytes()).await.unwrap();
    let refused = read_head(&mut caller).await;
    assert!(refused.starts_with("HTTP/1.1 413 "), "{refused}");
    assert!(refused.contains("date: "));
    assert!(read_message(&mut caller).await.is_none());
}

/// R-6.4-1c: unauthenticated requests, to whatever path, take at most half of the permits of new
/// orders; an authenticated merchant places its order beside them.
#[tokio::test]
async fn unauthenticated_callers_displace_no_authenticated_order() {
    let (release, arrived) = (Arc::new(Semaphore::new(0)), Arc::new(Notify::new()));
    let (wait, arrive) = (Arc::clone(&release), Arc::clone(&arrived));
    let edge = RunningEdge::start(
        Bounds {
            in_flight_orders_max: 4,
            in_flight_selections_max: 4,
            in_flight_max: 4,
            ..Bounds::default()
        },
        Arc::new(move |request, peer, _| {
            let (wait, arrive) = (Arc::clone(&wait), Arc::clone(&arrive));
            Box::pin(async move {
                if request.uri().path() != "/v1/orders" {
                    arrive.notify_one();
                    wait.acquire().await.unwrap().forget();
                }
                let mut answer = echo(request);
                if peer.certificate.is_some() {
                    answer.proof = Some(ConnectionProof::Payer(1));
                }
                answer
            })
        }),
    );
    let mut unauthenticated_callers = Vec::new();
    for path in ["/v1/orders/query", "/v1/callbacks/bluebank"] {
        let mut unauthenticated = edge.connect().await;
        unauthenticated
            .write_all(to(path, "s").as_bytes())
            .await
            .unwrap();
        arrived.notified().await;
        unauthenticated_callers.push(unauthenticated);
    }
    for path in [
        "/v1/orders/query",
        "/v1/callbacks/bluebank",
        "/pay/abc",
        "/v1/orders",
    ] {
        is_rejected(&ask(&mut edge.connect().await, to(path, "s")).await.unwrap());
    }
    edge.counts(r#"paymux_load_shed_total{priority="other",reason="unauthenticated"} 2"#)
        .await;
    let shown = TestIdentity::new();
    let known = edge.client(Some(&shown));
    let mut merchant = connect(&known, edge.address).await.unwrap();
    let order = to("/v1/orders", "o");
    assert_eq!(ask(&mut merchant, order).await.unwrap().body, b"o");
    release.add_permits(2);
    for unauthenticated in &mut unauthenticated_callers {
        assert_eq!(read_message(unauthenticated).await.unwrap().status(), 200);
    }
}

/// R-6.4-1c: an institution without a certificate counts as authenticated if it was authenticated
/// recently, also on another connection.
#[tokio::test]
async fn a_recently_authenticated_caller_counts_as_authenticated() {
    let bounds = Bounds {
        in_flight_orders_max: 0,
        ..Bounds::default()
    };
    let edge = RunningEdge::proving(bounds);
    let query = to("/v1/orders/query", "q");
    is_rejected(&ask(&mut edge.connect().await, &query).await.unwrap());
    let shown = TestIdentity::new();
    let mut proven = connect(&edge.client(Some(&shown)), edge.address)
        .await
        .unwrap();
    assert_eq!(ask(&mut proven, &query).await.unwrap().status(), 200);
    let mut other = edge.connect().await;
    assert_eq!(ask(&mut other, &query).await.unwrap().status(), 200);
}

/// R-6.4-1c: the pause after a rejected order delays orders, and nothing else on its connection.
#[tokio::test]
async fn a_query_does_not_wait_for_a_rejected_order() {
    let held = HeldEdge::start(Bounds {
        in_flight_orders_max: 0,
        rejection_pause: TIMEOUT * 9,
        ..Bounds::default()
    });
    held.release.add_permits(2);
    let mut caller = held.connect().await;
    is_rejected(&ask(&mut caller, post("o")).await.unwrap());
    for path in ["/v1/orders/query", "/v1/orders/close"] {
        let answer = ask(&mut caller, to(path, "q")).await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
    }
}
