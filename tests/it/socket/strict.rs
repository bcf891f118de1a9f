//! Ambiguous requests over a real socket, which two programs might parse differently: each is
//! refused together with its connection, before the responder sees it.

use paymux::edge::Bounds;

use super::running::{GET, RunningEdge, post, small};
use super::*;

/// Sends each on a connection of its own; each is refused with this status and not seen by the
/// responder.
async fn refused(edge: &RunningEdge, status: u16, all: &[&str]) {
    for bytes in all {
        let mut stream = edge.connect().await;
        let answer = ask(&mut stream, bytes).await.expect(bytes);
        assert_eq!(answer.status(), status, "{bytes}");
        assert_eq!(answer.header("connection"), Some("close"), "{bytes}");
        assert!(read_message(&mut stream).await.is_none(), "{bytes}");
    }
    assert!(edge.seen.lock().unwrap().is_empty());
}

/// Q1: a request over a limit is refused before the responder sees it, and the refusal arrives.
#[tokio::test]
async fn a_request_over_a_limit_is_refused() {
    let edge = RunningEdge::echo(small());
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

/// Q1, R-6.3.1-3a: a body has one framing or the request is refused: both framings at once, twice,
/// malformed, or a coding other than chunked.
#[tokio::test]
async fn a_body_with_two_lengths_is_refused() {
    let edge = RunningEdge::echo(Bounds::default());
    refused(
        &edge,
        400,
        &[
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nhello",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 05\r\n\r\nhello",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\nhello",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-maybe\r\nContent-Length: 2\r\n\r\n",
        ],
    )
    .await;
}

/// Q1, RFC 9112, 7.1: a chunk is a size and its bytes; other forms that some programs accept are
/// refused.
#[tokio::test]
async fn an_odd_chunk_is_refused() {
    let edge = RunningEdge::echo(Bounds::default());
    let chunks = [
        "not a size\r\n",
        "\r\n\r\n",
        ";x\r\n\r\n",
        "-1\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5;a=b\r\nhello\r\n0\r\n\r\n",
        "5;\nxxx\r\nhello\r\n0\r\n\r\n",
        "0000000000000005\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: 1\r\n\r\n",
        "5\r\nhello\r\n0\r\n\nGET / HTTP/1.1\r\n\r\n",
    ];
    let whole = chunks.map(|chunk| {
        format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}")
    });
    refused(&edge, 400, &whole.each_ref().map(String::as_str)).await;
}

/// Q1, RFC 9112, 2.2, 5.1, 5.2: header lines are not folded, have no extra spaces, end in a whole
/// line end, and hold no control character.
#[tokio::test]
async fn an_odd_header_line_is_refused() {
    let edge = RunningEdge::echo(Bounds::default());
    let lines = [
        "X: 1\r\n folded",
        "X: 1\r\n\tfolded",
        " X: 1",
        "X : 1",
        "X\t: 1",
        ": 1",
        "X",
        "X\"Y: 1",
        "X: 1\nY: 2",
        "X: 1\rY: 2",
        "X: 1\r\r",
        "X: \0",
        "X: \x07",
        "X: \x7f",
        "X\0: 1",
        "Content-Length\0: 5",
    ];
    let whole = lines.map(|line| format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n"));
    refused(&edge, 400, &whole.each_ref().map(String::as_str)).await;
}

/// Q1, Q2, R-6.3.1-2d: HTTP/1.1 only; a request names one host, and its target is a path or names
/// the same host. HTTP/2 is off: its preface is no request, and TLS does not offer it.
#[tokio::test]
async fn an_odd_first_line_is_refused() {
    let edge = RunningEdge::echo(Bounds::default());
    refused(
        &edge,
        400,
        &[
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "GET /\r\n\r\n",
            "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
            "G\"T / HTTP/1.1\r\nHost: a\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
            "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET https://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET https://a:8443/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET https://x@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET https://a\\@b/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET https:a HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET //a/v1 HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost:\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x@a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
            "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /<a> HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /%c HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /%c% HTTP/1.1\r\nHost: a\r\n\r\n",
        ],
    )
    .await;
    let mut stream = edge.connect().await;
    assert_eq!(ask(&mut stream, GET).await.unwrap().status(), 200);
    assert_eq!(
        stream.get_ref().1.alpn_protocol(),
        None,
        "nothing was offered"
    );
}

/// A client that offers only HTTP/2 is refused in the handshake; one that offers both gets 1.1.
#[tokio::test]
async fn http_2_is_not_spoken() {
    let edge = RunningEdge::echo(Bounds::default());
    for (offered, spoken) in [
        (&[&b"h2"[..], b"http/1.1"][..], Some(&b"http/1.1"[..])),
        (&[b"h2"], None),
    ] {
        let offered = offered.iter().map(|word| word.to_vec()).collect();
        let client = client_of(&edge.identity, offered);
        let connected = connect(&client, edge.address).await;
        let found = connected.ok();
        let found = found
            .as_ref()
            .and_then(|stream| stream.get_ref().1.alpn_protocol());
        assert_eq!(found, spoken);
    }
}

/// Q2: a path arrives byte for byte: it is not decoded, normalised or shortened.
#[tokio::test]
async fn a_path_is_not_normalised() {
    let edge = RunningEdge::echo(Bounds::default());
    let paths = [
        "/v1/%6frders",
        "/v1//orders",
        "/v1/./orders",
        "/v1/x/../orders",
        "/v1/orders/",
        "/v1/orders;x",
        "/v1%2forders",
        "/v1/orders%00",
        "/v1/%c0%afx",
        "/V1/ORDERS",
        "//v1/orders",
        "/v1/orders?",
        "/?/v1/orders",
    ];
    let mut stream = edge.connect().await;
    for path in paths {
        let get = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(ask(&mut stream, get).await.unwrap().status(), 200);
    }
    let seen = edge.seen.lock().unwrap();
    let seen: Vec<_> = seen
        .iter()
        .map(|(request, _)| request.uri().to_string())
        .collect();
    assert_eq!(seen, paths);
}

/// A smuggled request is never answered: what follows a refused request is not read as another.
#[tokio::test]
async fn what_follows_a_refused_request_is_not_read() {
    let edge = RunningEdge::echo(Bounds::default());
    let mut stream = edge.connect().await;
    let smuggling = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n\
                     0\r\n\r\nGET /secret HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(ask(&mut stream, smuggling).await.unwrap().status(), 400);
    assert!(read_message(&mut stream).await.is_none());
    assert!(edge.seen.lock().unwrap().is_empty());
}
