//! Unauthenticated connections reserve nothing: no connection, no permit; and no unknown
//! certificate causes a fault of ours.

use bytes::Bytes;
use http::Response;
use paymux::edge::Bounds;
use rustls::ClientConnection;
use rustls::client::ResolvesClientCert;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::version::{TLS12, TLS13};

use super::running::{GET, RunningEdge, post};
use super::*;

const UNPROVEN: &str = r#"paymux_connections_cut_total{cause="unproven"} 1"#;

/// The `ClientHello` of a real client.
pub(super) fn hello(edge: &RunningEdge) -> Vec<u8> {
    let name = ServerName::try_from("localhost").unwrap();
    let config = Arc::clone(edge.client(None).config());
    let mut written = Vec::new();
    let mut client = ClientConnection::new(config, name).unwrap();
    client.write_tls(&mut written).unwrap();
    written
}

fn few(connections_max: u32) -> Bounds {
    Bounds {
        connections_max,
        handshake_within: TIMEOUT * 9,
        idle_within: TIMEOUT * 9,
        ..Bounds::default()
    }
}

async fn is_ended(stream: &mut (impl AsyncRead + Unpin)) {
    let ended = tokio::time::timeout(TIMEOUT, stream.read_u8()).await;
    assert!(ended.expect("it is ended").is_err());
}

/// R-6.3.1-3a: when all connections are taken, the oldest unauthenticated one is closed for a new
/// one, however far its handshake has come; authenticated ones stay.
#[tokio::test]
async fn unauthenticated_connections_are_closed_for_new_ones() {
    let edge = RunningEdge::proving(few(2));
    let mut merchant = edge.connect().await;
    assert_eq!(ask(&mut merchant, GET).await.unwrap().status(), 200);
    let mut silent = TcpStream::connect(edge.address).await.unwrap();
    edge.counts("paymux_connections 2").await;
    let mut idle = edge.connect().await;
    is_ended(&mut silent).await;
    edge.counts(UNPROVEN).await;
    let mut other = edge.connect().await;
    is_ended(&mut idle).await;
    for proven in [&mut other, &mut merchant] {
        assert_eq!(ask(proven, GET).await.unwrap().status(), 200);
    }
    assert!(connect(&edge.client(None), edge.address).await.is_err());
}

/// R-6.3.1-3a: a connection with an enrolled certificate stays open without a request.
#[tokio::test]
async fn an_enrolled_certificate_keeps_its_connection() {
    let edge = RunningEdge::echo(few(2));
    let shown = TestIdentity::new();
    let mut merchant = connect(&edge.client(Some(&shown)), edge.address)
        .await
        .unwrap();
    let mut first = edge.connect().await;
    edge.counts("paymux_connections 2").await;
    let _second = edge.connect().await;
    is_ended(&mut first).await;
    assert_eq!(ask(&mut merchant, GET).await.unwrap().status(), 200);
}

/// A connection whose request is in flight is not closed for another, authenticated or not.
#[tokio::test]
async fn a_request_in_flight_is_not_cut_off() {
    let release = Arc::new(tokio::sync::Notify::new());
    let wait = Arc::clone(&release);
    let edge = RunningEdge::start(
        few(1),
        Arc::new(move |request, _, _| {
            let wait = Arc::clone(&wait);
            Box::pin(async move {
                wait.notified().await;
                super::running::echo(request)
            })
        }),
    );
    let mut in_flight = edge.connect().await;
    in_flight.write_all(post("whole").as_bytes()).await.unwrap();
    edge.counts("paymux_requests_in_flight 1").await;
    assert!(connect(&edge.client(None), edge.address).await.is_err());
    release.notify_one();
    assert_eq!(read_message(&mut in_flight).await.unwrap().body, b"whole");
    let _next = edge.connect().await;
    is_ended(&mut in_flight).await;
}

/// R-6.3.1-3a: a connection whose client does not read the reply can be closed for a new one, also
/// while the reply is being written and before its write timeout.
#[tokio::test]
async fn a_connection_that_is_not_read_is_closed_for_others() {
    let large = Bytes::from(vec![b'x'; 64 << 20]);
    let bounds = Bounds {
        write_within: TIMEOUT * 9,
        ..few(2)
    };
    let edge = RunningEdge::start(
        bounds,
        Arc::new(move |_, _, _| {
            let large = large.clone();
            Box::pin(async move { Response::new(large).into() })
        }),
    );
    let mut crowd = Vec::new();
    for _ in 0..2 {
        let mut unauthenticated = edge.connect().await;
        unauthenticated.write_all(&GET.repeat(32)).await.unwrap();
        // The first byte has come, so it is being written.
        unauthenticated.read_u8().await.unwrap();
        crowd.push(unauthenticated);
    }
    let (shown, mut came_in) = (TestIdentity::new(), Vec::new());
    for (who, shown) in [
        ("an unauthenticated caller", None),
        ("a merchant", Some(&shown)),
    ] {
        let client = edge.client(shown);
        let outcome = tokio::time::timeout(TIMEOUT, connect(&client, edge.address)).await;
        came_in.push(outcome.unwrap().expect(who));
    }
    edge.counts(&UNPROVEN.replace(" 1", " 2")).await;
}

/// Shows a certificate as it is, valid or not.
#[derive(Debug)]
struct FixedCertificate(Arc<CertifiedKey>);

impl ResolvesClientCert for FixedCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The result for a client that shows these bytes: a reply, or the alert that says why not.
async fn shown(edge: &RunningEdge, der: Vec<u8>, key: &Arc<dyn SigningKey>) -> Result<u16, String> {
    let mut roots = RootCertStore::empty();
    roots.add(edge.identity.certificate.clone()).unwrap();
    let certified = CertifiedKey::new(vec![CertificateDer::from(der)], Arc::clone(key));
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(FixedCertificate(Arc::new(certified))));
    let client = TlsConnector::from(Arc::new(config));
    let exchange = async {
        let mut stream = connect(&client, edge.address).await?;
        stream.write_all(GET).await?;
        let mut first = [0; 12];
        stream.read_exact(&mut first).await?;
        Ok::<_, std::io::Error>(first)
    };
    match exchange.await {
        Ok(first) => Ok(String::from_utf8_lossy(&first[9..]).parse().unwrap()),
        Err(error) => Err(error.to_string()),
    }
}

/// A fault of ours would end a connection without an alert.
fn is_explained(outcome: &Result<u16, String>) -> bool {
    match outcome {
        Ok(status) => *status == 200,
        Err(why) => why.contains("received fatal alert"),
    }
}

/// R-6.3.1-3a: any certificate of an unauthenticated caller is refused by an alert or accepted: one
/// that only one of two parsers can read causes no panic. Some are chosen, most are random.
#[tokio::test]
async fn no_unknown_certificate_causes_a_panic() {
    let edge = RunningEdge::echo(Bounds::default());
    let identity = TestIdentity::new();
    let der = identity.certificate.to_vec();
    let key = default_provider()
        .key_provider
        .load_private_key(identity.key());
    let key = key.unwrap();
    assert_eq!(shown(&edge, der.clone(), &key).await, Ok(200));
    // A start of validity that is no time; a parser that reads names only does not see it.
    let at = der
        .windows(2)
        .position(|two| matches!(two, [0x17, 13] | [0x18, 15]))
        .unwrap();
    let mut misdated = der.clone();
    misdated[at + 4..at + 6].copy_from_slice(b"AB");
    let outcome = shown(&edge, misdated, &key).await;
    assert!(outcome.is_err() && is_explained(&outcome), "{outcome:?}");
    let (seed, mut drawn) = (0x9e37_79b9_7f4a_7c15_u64, 0x9e37_79b9_7f4a_7c15_u64);
    let mut draw = |below: usize| {
        drawn = drawn
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(drawn >> 33).unwrap() % below
    };
    for number in 0..400 {
        let mut odd = der.clone();
        for _ in 0..=draw(3) {
            let at = draw(odd.len());
            match draw(4) {
                0 => odd[at] = u8::try_from(draw(256)).unwrap(),
                1 => odd[at] ^= 1 << draw(8),
                2 => drop(odd.remove(at)),
                _ => odd.insert(at, u8::try_from(draw(256)).unwrap()),
            }
        }
        let outcome = shown(&edge, odd, &key).await;
        assert!(
            is_explained(&outcome),
            "seed {seed:#x}, certificate {number}: {outcome:?}"
        );
    }
    edge.counts("paymux_connections 0").await;
}
