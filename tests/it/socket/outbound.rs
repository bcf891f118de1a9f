//! What the real network promises: what may have left is never called unsent, and a merchant's
//! address never leads inside.

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

/// What the other side does with the connections it gets, one after another: each line is one
/// connection, each word what follows one request on it.
type Script = Vec<Vec<ScriptStep>>;

#[derive(Clone)]
enum ScriptStep {
    /// Answers with these bytes and keeps the connection.
    Say(String),
    /// Closes after the request was read, without a word.
    HangUp,
    /// Waits for the caller to give up.
    Wait,
}

/// A server that follows a script and tells what it read, with the number of the connection.
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
        let (tell, read) = mpsc::unbounded_channel();
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
                    let _ = tell.send((number, message));
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

    async fn told(&mut self) -> (usize, SocketMessage) {
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

fn say(body: &str) -> ScriptStep {
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

/// One exchange arrives whole, by name and by address, says who calls, and the connection is used
/// again.
#[tokio::test]
async fn a_request_goes_out_and_its_answer_comes_back() {
    let mut other =
        ScriptedServer::start(vec![vec![say("one"), say("two")], vec![say("three")]]).await;
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
        let (number, message) = other.told().await;
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

/// R-A3.3-3: an address that is not public is not called unless its network is allowed.
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

/// E1: what fails before the first byte was not sent.
#[tokio::test]
async fn a_connection_that_never_stood_sent_nothing() {
    let mut other = ScriptedServer::start(vec![vec![say("one")]]).await;
    let unauthenticated = network(&TestIdentity::new(), &["127.0.0.0/8"]);
    let sent = other.ask(&unauthenticated).await;
    assert!(was_not_sent(&sent), "an authority not believed: {sent:?}");

    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = format!("https://{}/", taken.local_addr().unwrap());
    drop(taken);
    let network = other.network();
    for url in [closed.as_str(), "http://127.0.0.1/", "/only/a/path"] {
        let sent = network
            .send(&OutboundParty::Merchant, request(url), PLENTY.into())
            .await;
        assert!(was_not_sent(&sent), "{url}: {sent:?}");
    }
    // Where no name server answers, it is ourselves who do not know (H1).
    let unknown = request("https://no-such-name.invalid/");
    let sent = network
        .send(&OutboundParty::Merchant, unknown, PLENTY.into())
        .await;
    assert!(
        was_not_sent(&sent) || matches!(sent, Err(SendError::LocalShortage(_))),
        "{sent:?}"
    );
    let nobody = OutboundParty::Institution(InstitutionId::parse("nobody").unwrap());
    let url = other.url("localhost");
    let sent = network.send(&nobody, request(&url), PLENTY.into()).await;
    assert!(
        was_not_sent(&sent),
        "an institution nobody configured: {sent:?}"
    );
}

/// V1, E5: once the request may have been read, every failure leaves it in doubt, and it is not
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
        let mut other = ScriptedServer::start(vec![steps, vec![say("again")]]).await;
        let network = other.network();
        let sent = other.ask(&network).await;
        assert!(is_unknown(&sent), "{sent:?}");
        other.told().await;
        assert!(other.read.try_recv().is_err(), "sent once");
    }
}

/// A failure on a kept connection after the request was read is in doubt as well: it is not sent
/// again over a new one.
#[tokio::test]
async fn a_kept_connection_that_breaks_leaves_its_request_unresolved() {
    let steps = vec![vec![say("one"), ScriptStep::HangUp], vec![say("again")]];
    let mut other = ScriptedServer::start(steps).await;
    let network = other.network();
    other.ask(&network).await.unwrap();
    let sent = other.ask(&network).await;
    assert!(is_unknown(&sent), "{sent:?}");
    assert_eq!(other.told().await.0, 0);
    assert_eq!(other.told().await.0, 0);
    assert_eq!(other.ask(&network).await.unwrap().body(), "again");
}

/// Deadlines hold for the head and for the whole, and passing one leaves the request in doubt.
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
        other.told().await;
    }
}

/// R-A3.3-3: a redirect is an answer like any other and is not followed.
#[tokio::test]
async fn a_redirect_is_not_followed() {
    let answer =
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n";
    let mut other = ScriptedServer::start(vec![vec![
        ScriptStep::Say(answer.to_owned()),
        say("followed"),
    ]])
    .await;
    let network = other.network();
    assert_eq!(other.ask(&network).await.unwrap().status(), 307);
    other.told().await;
    assert!(other.read.try_recv().is_err());
}

/// An institution is shown our certificate, believed by its own authorities, and may lie in a
/// private network.
#[tokio::test]
async fn an_institution_has_its_own_connection_limit() {
    let ours = TestIdentity::new();
    let mut other = ScriptedServer::demanding(vec![vec![say("one")]], Some(&ours)).await;
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
    other.told().await;
}

/// E1, F1: an institution has as many calls under way at once as was set, and another number holds
/// once it is set. What is over was kept back by us: it did not leave, and no fault of theirs.
#[tokio::test]
async fn an_institution_has_as_many_calls_at_once_as_were_set() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (tell, mut arrived) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut tcp, _)) = listener.accept().await {
            tell.send(read_message(&mut tcp).await.unwrap()).unwrap();
            kept.push(tcp);
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
                sent = &mut call => panic!("nobody answers: {sent:?}"),
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

/// How many calls may leave, and how many have.
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

/// E1: an institution's rate is counted on a connection that stands, right before the bytes leave;
/// what may not leave then did not, and nothing is held against the institution.
#[tokio::test]
async fn a_call_is_marked_sent_when_its_connection_is_established() {
    let mut other = ScriptedServer::start(vec![vec![say("one"), say("two")]]).await;
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
    assert_eq!(other.told().await.0, 0, "on the connection that stood");
    assert_eq!(Arc::strong_count(&open), 1, "no turn is left anywhere");
}

/// N7, H1: connections to merchants are bounded all together; what is kept idle makes room for
/// whoever is called next, and what is in use does not.
#[tokio::test]
async fn kept_connections_make_room_for_others() {
    let mut one = ScriptedServer::start(vec![vec![say("one"), ScriptStep::Wait]]).await;
    let mut two = ScriptedServer::start(vec![vec![say("two")]]).await;
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
        sent = under_way => panic!("nobody answers: {sent:?}"),
        sent = async {
            third.told().await;
            network.send(&OutboundParty::Merchant, request(&url.replace("localhost", "127.0.0.1")), hasty.into()).await
        } => assert!(matches!(sent, Err(SendError::LocalShortage(_))), "{sent:?}"),
    }
}
