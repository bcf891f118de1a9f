//! The real outbound network: what may have been sent is never called unsent, and a merchant's
//! address never leads to a private network.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use paymux::domain::identifiers::InstitutionId;
use paymux::outbound::{HyperOutbound, HyperOutboundSettings, PartyClientSettings};
use paymux::world::{
    CallTimeouts, HeldPermit, Outbound, OutboundOptions, OutboundParty, Permit, PermitUnavailable,
    SendError,
};
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::*;

/// What the server does with its connections, one after another: an outer entry for each
/// connection, an inner one for each request on it.
type Script = Vec<Vec<ScriptStep>>;

#[derive(Clone)]
enum ScriptStep {
    /// Answers with these bytes and keeps the connection open.
    Say(String),
    /// Closes after the request was read, without a reply.
    HangUp,
    /// Waits until the caller gives up.
    Wait,
}

/// A server that follows a script and reports each message it read, with its connection's number.
struct ScriptedServer {
    address: SocketAddr,
    identity: TestIdentity,
    read: mpsc::UnboundedReceiver<(usize, SocketMessage)>,
}

impl ScriptedServer {
    async fn start(script: Script) -> Self {
        Self::demanding(script, None).await
    }

    async fn demanding(script: Script, caller: Option<&TestIdentity>) -> Self {
        let identity = TestIdentity::new();
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if let Some(caller) = caller {
            let mut roots = RootCertStore::empty();
            roots.add(caller.certificate.clone()).unwrap();
            let provider = Arc::new(default_provider());
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let config = builder.with_single_cert(identity.chain(), identity.key());
        let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, read) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            for (number, steps) in script.into_iter().enumerate() {
                let (tcp, _) = listener.accept().await.unwrap();
                let Ok(mut tls) = acceptor.accept(tcp).await else {
                    continue;
                };
                for step in steps {
                    let Some(message) = read_message(&mut tls).await else {
                        break;
                    };
                    let _ = sender.send((number, message));
                    match step {
                        ScriptStep::Say(answer) => tls.write_all(answer.as_bytes()).await.unwrap(),
                        ScriptStep::HangUp => break,
                        ScriptStep::Wait => assert!(read_message(&mut tls).await.is_none()),
                    }
                }
            }
        });
        Self {
            address,
            identity,
            read,
        }
    }

    fn network(&self) -> HyperOutbound {
        network(&self.identity, &["127.0.0.0/8"])
    }

    fn url(&self, host: &str) -> String {
        format!("https://{host}:{}/notice?x=1", self.address.port())
    }

    async fn ask(&mut self, network: &HyperOutbound) -> Result<Response<Bytes>, SendError> {
        let url = self.url("localhost");
        network
            .send(&OutboundParty::Merchant, request(&url), PLENTY.into())
            .await
    }

    async fn received(&mut self) -> (usize, SocketMessage) {
        self.read.recv().await.unwrap()
    }
}

const PLENTY: CallTimeouts = CallTimeouts {
    head: TIMEOUT,
    whole: TIMEOUT,
    body_bytes_max: 32,
};

fn network(believed: &TestIdentity, allowed: &[&str]) -> HyperOutbound {
    HyperOutbound::new(HyperOutboundSettings {
        merchant_roots: believed.chain(),
        allowed_networks: allowed.iter().map(|text| text.parse().unwrap()).collect(),
        ..HyperOutboundSettings::default()
    })
    .unwrap()
}

fn request(url: &str) -> Request<Bytes> {
    let request = Request::post(url).header("content-length", "5");
    request.body(Bytes::from_static(b"hello")).unwrap()
}

fn replying(body: &str) -> ScriptStep {
    let length = body.len();
    ScriptStep::Say(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"
    ))
}

fn was_not_sent(sent: &Result<Response<Bytes>, SendError>) -> bool {
    matches!(sent, Err(SendError::NotSent(_)))
}

fn is_unknown(sent: &Result<Response<Bytes>, SendError>) -> bool {
    matches!(sent, Err(SendError::Unknown(_)))
}

/// One exchange arrives whole, by name and by address, with the client certificate, and the
/// connection is reused.
#[tokio::test]
async fn a_request_goes_out_and_its_answer_comes_back() {
    let mut other = ScriptedServer::start(vec![
        vec![replying("one"), replying("two")],
        vec![replying("three")],
    ])
    .await;
    let network = other.network();
    for (host, answer, connection) in [
        ("localhost", "one", 0),
        ("LOCALHOST", "two", 0),
        ("127.0.0.1", "three", 1),
    ] {
        let url = other.url(host);
        let sent = network
            .send(&OutboundParty::Merchant, request(&url), PLENTY.into())
            .await;
        assert_eq!(sent.unwrap().body(), answer);
        let (number, message) = other.received().await;
        assert_eq!(number, connection, "{host}");
        assert!(message.head.starts_with("POST /notice?x=1 HTTP/1.1\r\n"));
        assert_eq!(message.body, b"hello");
        let authority = format!("{host}:{}", other.address.port());
        assert_eq!(message.header("host"), Some(authority.as_str()));
        let us = concat!("paymux/", env!("CARGO_PKG_VERSION"));
        assert_eq!(message.header("user-agent"), Some(us));
        assert_eq!(message.header("accept"), Some("application/json"));
    }
}

/// R-A3.3-3: a private address is not called unless its network is allowed.
#[tokio::test]
async fn a_private_address_is_not_called() {
    let mut other = ScriptedServer::start(vec![]).await;
    for allowed in [&[][..], &["10.0.0.0/8", "127.0.0.2/32"]] {
        let network = network(&other.identity, allowed);
        for host in [
            "127.0.0.1",
            "localhost",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "2130706433",
        ] {
            let url = other.url(host);
            let sent = network
                .send(&OutboundParty::Merchant, request(&url), PLENTY.into())
                .await;
            assert!(was_not_sent(&sent), "{host}: {sent:?}");
        }
    }
    assert!(other.read.try_recv().is_err());
}

/// E1: a call that fails before its first byte was not sent.
#[tokio::test]
async fn a_connection_that_was_never_established_sent_nothing() {
    let mut other = ScriptedServer::start(vec![vec![replying("one")]]).await;
    let unauthenticated = network(&TestIdentity::new(), &["127.0.0.0/8"]);
    let sent = other.ask(&unauthenticated).await;
    assert!(was_not_sent(&sent), "an untrusted authority: {sent:?}");

    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = format!("https://{}/", unused.local_addr().unwrap());
    drop(unused);
    let network = other.network();
    for url in [closed.as_str(), "http://127.0.0.1/", "/only/a/path"] {
        let sent = network
            .send(&OutboundParty::Merchant, request(url), PLENTY.into())
            .await;
        assert!(was_not_sent(&sent), "{url}: {sent:?}");
    }
    // Where no name server answers, the failure is ours (H1).
    let unknown = request("https://no-such-name.invalid/");
    let sent = network
        .send(&OutboundParty::Merchant, unknown, PLENTY.into())
        .await;
    assert!(
        was_not_sent(&sent) || matches!(sent, Err(SendError::LocalShortage(_))),
        "{sent:?}"
    );
    let unconfigured = OutboundParty::Institution(InstitutionId::parse("nobody").unwrap());
    let url = other.url("localhost");
    let sent = network
        .send(&unconfigured, request(&url), PLENTY.into())
        .await;
    assert!(
        was_not_sent(&sent),
        "an institution that is not configured: {sent:?}"
    );
}

/// V1, E5: once the request may have been read, every failure leaves it unresolved, and it is not
/// sent a second time.
#[tokio::test]
async fn a_failure_after_the_request_leaves_it_unresolved() {
    let long = "HTTP/1.1 200 OK\r\nContent-Length: 33\r\n\r\n";
    let short = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut";
    for steps in [
        vec![ScriptStep::HangUp],
        vec![ScriptStep::Say("not http\r\n\r\n".to_owned())],
        vec![ScriptStep::Say(format!("{long}{}", "x".repeat(33)))],
        vec![ScriptStep::Say(short.to_owned())],
    ] {
        let mut other = ScriptedServer::start(vec![steps, vec![replying("again")]]).await;
        let network = other.network();
        let sent = other.ask(&network).await;
        assert!(is_unknown(&sent), "{sent:?}");
        other.received().await;
        assert!(other.read.try_recv().is_err(), "sent once");
    }
}

/// After the request was read, a failure on a reused connection leaves it unresolved too: it is not
/// sent again on a new connection.
#[tokio::test]
async fn a_reused_connection_that_breaks_leaves_its_request_unresolved() {
    let steps = vec![
        vec![replying("one"), ScriptStep::HangUp],
        vec![replying("again")],
    ];
    let mut other = ScriptedServer::start(steps).await;
    let network = other.network();
    other.ask(&network).await.unwrap();
    let sent = other.ask(&network).await;
    assert!(is_unknown(&sent), "{sent:?}");
    assert_eq!(other.received().await.0, 0);
    assert_eq!(other.received().await.0, 0);
    assert_eq!(other.ask(&network).await.unwrap().body(), "again");
}

/// There are deadlines for the head and for the whole reply; passing one leaves the request
/// unresolved.
#[tokio::test]
async fn a_deadline_leaves_the_request_unresolved() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";
    let slow_body = vec![ScriptStep::Say(head.to_owned()), ScriptStep::Wait];
    for (steps, timeouts) in [
        (
            vec![ScriptStep::Wait],
            CallTimeouts {
                head: SHORT * 20,
                ..PLENTY
            },
        ),
        (
            slow_body,
            CallTimeouts {
                whole: SHORT * 20,
                ..PLENTY
            },
        ),
    ] {
        let mut other = ScriptedServer::start(vec![steps]).await;
        let network = other.network();
        let url = other.url("localhost");
        let sent = network
            .send(&OutboundParty::Merchant, request(&url), timeouts.into())
            .await;
        assert!(is_unknown(&sent), "{sent:?}");
        other.received().await;
    }
}

/// R-A3.3-3: a redirect is a reply like any other and is not followed.
#[tokio::test]
async fn a_redirect_is_not_followed() {
    let answer =
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n";
    let mut other = ScriptedServer::start(vec![vec![
        ScriptStep::Say(answer.to_owned()),
        replying("followed"),
    ]])
    .await;
    let network = other.network();
    assert_eq!(other.ask(&network).await.unwrap().status(), 307);
    other.received().await;
    assert!(other.read.try_recv().is_err());
}

/// An institution is shown our certificate, verified by its own authorities, and may be in a
/// private network.
#[tokio::test]
async fn an_institution_has_its_own_connection_limit() {
    let ours = TestIdentity::new();
    let mut other = ScriptedServer::demanding(vec![vec![replying("one")]], Some(&ours)).await;
    let harbour = InstitutionId::parse("harbour").unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let shown = CertifiedKey::from_der(ours.chain(), ours.key(), &provider).unwrap();
    let line = PartyClientSettings {
        roots: other.identity.chain(),
        client_identity: Some(Arc::new(shown)),
        connections_max: 1,
    };
    let network = HyperOutbound::new(HyperOutboundSettings {
        institutions: [(harbour.clone(), line)].into(),
        ..HyperOutboundSettings::default()
    })
    .unwrap();
    let url = other.url("localhost");
    let sent = network
        .send(
            &OutboundParty::Institution(harbour),
            request(&url),
            PLENTY.into(),
        )
        .await;
    assert_eq!(sent.unwrap().body(), "one");
    other.received().await;
}

/// E1, F1: an institution has a configured number of calls in flight, and a new number applies once
/// it is set. A call past it was held back by us: not sent, and not the institution's failure.
#[tokio::test]
async fn an_institution_has_a_configured_number_of_calls_in_flight() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (sender, mut arrived) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut connections = Vec::new();
        while let Ok((mut tcp, _)) = listener.accept().await {
            sender.send(read_message(&mut tcp).await.unwrap()).unwrap();
            connections.push(tcp);
        }
    });
    let harbour = InstitutionId::parse("harbour").unwrap();
    let settings = |connections_max| {
        let line = PartyClientSettings {
            roots: Vec::new(),
            client_identity: None,
            connections_max,
        };
        HyperOutboundSettings {
            institutions: [(harbour.clone(), line)].into(),
            ..HyperOutboundSettings::default()
        }
    };
    let mut network = HyperOutbound::new(settings(1)).unwrap();
    for many in [2, 3, 1] {
        network = network.renewed(settings(many)).unwrap();
        let party = OutboundParty::Institution(harbour.clone());
        let mut calls = Vec::new();
        for _ in 0..many {
            let mut call = Box::pin(network.send(&party, request(&url), PLENTY.into()));
            tokio::select! {
                sent = &mut call => panic!("there is no reply: {sent:?}"),
                message = arrived.recv() => assert_eq!(message.unwrap().body, b"hello"),
            }
            calls.push(call);
        }
        let hasty = CallTimeouts {
            head: SHORT,
            ..PLENTY
        };
        let over = network.send(&party, request(&url), hasty.into()).await;
        assert!(
            matches!(over, Err(SendError::Throttled(_))),
            "{many}: {over:?}"
        );
        assert!(arrived.try_recv().is_err());
    }
}

/// How many calls may be sent, and how many were.
struct CountingPermit(u32, AtomicU32);

#[async_trait]
impl HeldPermit for CountingPermit {
    async fn mark_sent(&self) -> Result<(), PermitUnavailable> {
        if self.1.fetch_add(1, Ordering::SeqCst) < self.0 {
            Ok(())
        } else {
            Err(PermitUnavailable { wait: SHORT })
        }
    }

    fn mark_unsent(&self) {
        self.1.fetch_sub(1, Ordering::SeqCst);
    }
}

/// E1: an institution's rate is counted on an open connection, right before the bytes are sent; a
/// call that the rate holds back was not sent, and does not count against the institution.
#[tokio::test]
async fn a_call_is_marked_sent_when_its_connection_is_established() {
    let mut other = ScriptedServer::start(vec![vec![replying("one"), replying("two")]]).await;
    let network = other.network();
    let url = other.url("localhost");
    let through = |admission: &Arc<CountingPermit>| {
        let permit = Permit::held(Arc::<CountingPermit>::clone(admission));
        let options = OutboundOptions {
            permit: Some(permit),
            ..OutboundOptions::from(PLENTY)
        };
        network.send(&OutboundParty::Merchant, request(&url), options)
    };
    let closed = Arc::new(CountingPermit(0, AtomicU32::new(0)));
    let sent = through(&closed).await;
    assert!(matches!(sent, Err(SendError::Throttled(_))), "{sent:?}");
    assert_eq!(closed.1.load(Ordering::SeqCst), 1);
    let open = Arc::new(CountingPermit(2, AtomicU32::new(0)));
    assert_eq!(through(&open).await.unwrap().body(), "one");
    assert_eq!(through(&open).await.unwrap().body(), "two");
    assert_eq!(open.1.load(Ordering::SeqCst), 2);
    assert_eq!(
        other.received().await.0,
        0,
        "on the connection that was open"
    );
    assert_eq!(Arc::strong_count(&open), 1, "every permit is returned");
}

/// N7, H1: connections to merchants have a common limit; an idle one is closed for the next call,
/// one in use is not.
#[tokio::test]
async fn idle_connections_are_closed_for_others() {
    let mut one = ScriptedServer::start(vec![vec![replying("one"), ScriptStep::Wait]]).await;
    let mut two = ScriptedServer::start(vec![vec![replying("two")]]).await;
    let mut roots = one.identity.chain();
    roots.extend(two.identity.chain());
    let network = HyperOutbound::new(HyperOutboundSettings {
        merchant_roots: roots,
        allowed_networks: vec!["127.0.0.0/8".parse().unwrap()],
        merchant_connections_max: Some(1),
        ..HyperOutboundSettings::default()
    })
    .unwrap();
    assert_eq!(one.ask(&network).await.unwrap().body(), "one");
    assert_eq!(two.ask(&network).await.unwrap().body(), "two");
    let hasty = CallTimeouts {
        head: SHORT,
        ..PLENTY
    };
    let mut third = ScriptedServer::start(vec![vec![ScriptStep::Wait]]).await;
    let roots = third.identity.chain();
    let network = HyperOutbound::new(HyperOutboundSettings {
        merchant_roots: roots,
        allowed_networks: vec!["127.0.0.0/8".parse().unwrap()],
        merchant_connections_max: Some(1),
        ..HyperOutboundSettings::default()
    })
    .unwrap();
    let url = third.url("localhost");
    let under_way = network.send(&OutboundParty::Merchant, request(&url), PLENTY.into());
    tokio::select! {
        sent = under_way => panic!("there is no reply: {sent:?}"),
        sent = async {
            third.received().await;
            network.send(&OutboundParty::Merchant, request(&url.replace("localhost", "127.0.0.1")), hasty.into()).await
        } => assert!(matches!(sent, Err(SendError::LocalShortage(_))), "{sent:?}"),
    }
}
