//! The operations listener answers reads under a host name it is known by.

use paymux::command::demo::environment::DemoEnvironment;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn response_to(stage: &DemoEnvironment, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", stage.ports.operations))
        .await
        .unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// R-6.3.1-3a: a web page in a browser cannot read metrics under a host name of its own, and only
/// reads are accepted; an old health check, which names no host, is answered.
#[tokio::test(flavor = "multi_thread")]
async fn operations_answer_reads_under_a_known_host_name() {
    let stage = DemoEnvironment::start_on_free_ports("").await.unwrap();
    let written = std::fs::read_to_string(&stage.config).unwrap();
    let hosts = "[listen]\noperations_hosts = [\"paymux.internal\"]\n";
    std::fs::write(&stage.config, written.replacen("[listen]\n", hosts, 1)).unwrap();
    let open = stage.open().await.unwrap();
    for (host, status) in [
        ("localhost", 200),
        ("localhost:9443", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1:9443", 200),
        ("[::1]:9443", 200),
        ("10.1.2.3", 200),
        ("paymux.internal:9443", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
    ] {
        for path in ["/metrics", "/healthz", "/readyz"] {
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            let answer = response_to(&stage, &request).await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{host}: {answer}"
            );
            assert_eq!(
                answer.contains("paymux_build_info"),
                status == 200 && path == "/metrics"
            );
        }
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let request = format!(
            "{method} /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        let answer = response_to(&stage, &request).await;
        assert!(answer.starts_with("HTTP/1.1 405 "), "{method}: {answer}");
        assert!(answer.contains("allow: GET, HEAD"), "{answer}");
    }
    let answer = response_to(
        &stage,
        "HEAD /healthz HTTP/1.1\r\nHost: a.b\r\nHost: c\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let answer = response_to(&stage, "GET /healthz HTTP/1.0\r\n\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("alive\n"),
        "{answer}"
    );
    let answer = response_to(
        &stage,
        "GET /metrics HTTP/1.0\r\nHost: evil.example\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
    open.close().await.unwrap();
}
