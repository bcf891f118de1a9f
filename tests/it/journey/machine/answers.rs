//! How real merchants' servers answer a notification.

use std::path::Path;
use std::sync::Arc;

use paymux::command::demo::enrolment::BLUE;
use paymux::command::demo::environment::{WAIT_MAX, identity};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::{paymux, ran};
use crate::journey::{open, order, placed};

/// A merchant's server that answers each request with the next of these bytes and closes without
/// TLS `close_notify`; it sends the delivery's number to the channel.
async fn server(
    (certs, port): (&Path, u16),
    answers: Vec<String>,
) -> mpsc::UnboundedReceiver<String> {
    let pair = identity(certs, "server").unwrap();
    let chain = CertificateDer::pem_slice_iter(pair.certificates_pem.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes()).unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.map(Result::unwrap).collect(), key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let (sender, deliveries) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for answer in answers {
            let (tcp, _) = listener.accept().await.unwrap();
            let mut tls = acceptor.accept(tcp).await.unwrap();
            let mut read = Vec::new();
            while !String::from_utf8_lossy(&read).contains("\r\n\r\n{") || !read.ends_with(b"}") {
                if tls.read_buf(&mut read).await.unwrap() == 0 {
                    break;
                }
            }
            tls.write_all(answer.as_bytes()).await.unwrap();
            tls.flush().await.unwrap();
            let text = String::from_utf8_lossy(&read).to_lowercase();
            let number = text
                .lines()
                .find_map(|line| line.strip_prefix("paymux-delivery: "));
            let _ = sender.send(number.unwrap_or_default().to_owned());
            // The socket alone is closed: no close_notify.
            drop(tls.into_inner());
        }
    });
    deliveries
}

/// R-A3.3-2: a reply with a byte order mark, and one that ends with the connection and is complete,
/// acknowledge at once; a truncated one does not, and `explain` and the log say why.
#[tokio::test(flavor = "multi_thread")]
async fn a_reply_without_close_notify_counts_if_complete() {
    let (stage, open) = open().await;
    let body = "\u{feff}{\"noticeResult\":\"SUCCESS\"}\r\n";
    let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\n\r\n";
    let wanted = order(&stage.tea, "T1", "12.30", BLUE.id);
    let link = placed(&stage.tea, &wanted).await.text("payUrl").to_owned();
    // In place of the merchant's own server.
    let cut = format!("{head}{{\"noticeResult\":\"SUCC");
    let (certs, port) = (stage.certs(), stage.ports.tea);
    stage.tea.merchant.stop().await;
    let mut deliveries = server((&certs, port), vec![cut, format!("{head}{body}")]).await;
    stage.payer.pay(&link).await.unwrap();
    for number in ["1", "2"] {
        let number_sent = tokio::time::timeout(WAIT_MAX, deliveries.recv()).await;
        assert_eq!(
            number_sent.expect("it is notified").as_deref(),
            Some(number)
        );
    }
    let explaining = async {
        loop {
            let output = ran(paymux(&["explain", "M1001/T1", "--json"], &stage.config)).await;
            let printed = String::from_utf8(output.stdout).unwrap();
            // The ledger has it at once; the exchange log is written a moment later.
            if printed.contains("\"acknowledged, ") && printed.contains("truncated JSON") {
                break printed;
            }
        }
    };
    let printed = tokio::time::timeout(WAIT_MAX, explaining).await;
    printed.expect("it is acknowledged, and explained");
    open.close().await.unwrap();
}
