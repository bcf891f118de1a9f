//! Reloading under load, over real sockets: whole or not at all, without a dropped request (F1),
//! and without losing parties that payments still need (F2).

mod accounts;
mod numbers;
mod recorded;
mod routes;
mod silent;
mod trusted_proxies;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use paymux::command::demo::enrolment::RED;
use paymux::command::demo::environment::{DemoEnvironment, DemoGateway, WAIT_MAX, identity};
use paymux::config;
use paymux::run::control::{self, ControlReply};
use paymux::sandbox::{InstitutionFault, PemIdentity};
use paymux::signature::SigningKey;
use rusqlite::Connection;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

use super::{PAYER, client, key, open, operations, order, placed, queried};

/// Sends a command to the gateway's control socket.
async fn send_control(stage: &DemoEnvironment, word: &'static str) -> ControlReply {
    let socket = control::socket(&config::store_url(&stage.config).unwrap());
    let blocking = tokio::task::spawn_blocking(move || control::ask(&socket, word).unwrap());
    blocking.await.unwrap()
}

/// Reloads this text, which is accepted; its version, what changed, and the warnings.
async fn accepted(stage: &DemoEnvironment, text: &str) -> (u64, Vec<String>, String) {
    fs::write(&stage.config, text).unwrap();
    let reply = send_control(stage, control::RELOAD).await;
    let ControlReply::Accepted {
        version,
        changes,
        warnings,
        ..
    } = reply
    else {
        panic!("{reply:?}");
    };
    let changes = changes.iter().map(ToString::to_string).collect();
    (version, changes, warnings.join("\n"))
}

/// Reloads this text, which is refused; why.
async fn refused(stage: &DemoEnvironment, text: &str) -> String {
    fs::write(&stage.config, text).unwrap();
    let reply = send_control(stage, control::RELOAD).await;
    let ControlReply::Refused { faults, .. } = reply else {
        panic!("{reply:?}");
    };
    faults.join("\n")
}

/// For clients that call as fast as they can; rate limits have tests of their own.
async fn open_without_rate_limits() -> (DemoEnvironment, DemoGateway) {
    let unlimited = "\n[limits]\nrequests_per_second_per_caller = 100000\n\
                     requests_per_second_per_merchant = 100000\n";
    let stage = DemoEnvironment::set(crate::socket::ports::free(), unlimited);
    let stage = stage.await.unwrap();
    let open = stage.open().await.unwrap();
    (stage, open)
}

fn written(stage: &DemoEnvironment) -> String {
    fs::read_to_string(&stage.config).unwrap()
}

/// The text without the tables whose first line is `[[name]]` and that hold this line.
fn without(text: &str, name: &str, line: &str) -> String {
    let head = format!("[[{name}]]");
    let mut rest = String::new();
    for table in text
        .split_inclusive('\n')
        .fold(Vec::<String>::new(), |mut tables, line| {
            let starts = line.starts_with("[[") && !line.contains('.') || tables.is_empty();
            if starts {
                tables.push(String::new());
            }
            tables.last_mut().unwrap().push_str(line);
            tables
        })
    {
        if !(table.starts_with(&head) && table.lines().any(|it| it == line)) {
            rest.push_str(&table);
        }
    }
    assert_ne!(rest, text, "no [[{name}]] with {line}");
    rest
}

/// The text without an institution, its accounts, contracts and routes.
fn taken_out(text: &str, id: &str) -> String {
    let named = format!("institution = \"{id}\"");
    let mut text = without(text, "institution", &format!("id = \"{id}\""));
    text = without(&text, "account", &named);
    text = without(&text, "contract", &named);
    without(&text, "route", &named)
}

fn make_key(stage: &DemoEnvironment, id: &str) {
    let (private, public) = SigningKey::generate_ed25519().unwrap();
    let path = |end| stage.certs().join(format!("{id}.{end}"));
    private_file(path("key"), &private);
    fs::write(path("pub"), public).unwrap();
}

fn private_file(path: PathBuf, text: &str) {
    use std::io::Write;
    let mut options = fs::File::options();
    let file = options.create(true).truncate(true).write(true).mode(0o600);
    file.open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

/// One persistent connection.
struct KeptConnection {
    sender: SendRequest<Full<Bytes>>,
    shown: CertificateDer<'static>,
}

impl KeptConnection {
    async fn connect(stage: &DemoEnvironment, identity: &PemIdentity) -> Self {
        let tcp = TcpStream::connect(("127.0.0.1", stage.ports.public)).await;
        Self::over(stage, identity, tcp.unwrap()).await.unwrap()
    }

    async fn over(
        stage: &DemoEnvironment,
        identity: &PemIdentity,
        tcp: TcpStream,
    ) -> std::io::Result<Self> {
        let mut roots = RootCertStore::empty();
        let pem = fs::read(stage.certs().join("ca.pem")).unwrap();
        roots
            .add(CertificateDer::from_pem_slice(&pem).unwrap())
            .unwrap();
        let chain = CertificateDer::pem_slice_iter(identity.certificates_pem.as_bytes());
        let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
        let own = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, own)
            .unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let tls = TlsConnector::from(Arc::new(config));
        let tls = tls.connect(name, tcp).await?;
        let shown = tls.get_ref().1.peer_certificates().unwrap()[0].clone();
        let (sender, connection) = handshake(TokioIo::new(tls)).await.unwrap();
        tokio::spawn(connection);
        Ok(Self { sender, shown })
    }

    async fn send(&mut self, request: Request<Bytes>) -> (Response<()>, Value) {
        let (mut parts, body) = request.into_parts();
        let host = parts.uri.authority().unwrap().as_str().parse().unwrap();
        parts.headers.insert("host", host);
        parts.uri = parts.uri.path().parse().unwrap();
        let request = Request::from_parts(parts, Full::new(body));
        // The previous reply may have been read before the connection knew that it had ended.
        self.sender.ready().await.expect("the connection is open");
        let answer = tokio::time::timeout(WAIT_MAX, self.sender.send_request(request)).await;
        let answer = answer.expect("in time").expect("the connection is open");
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        (Response::from_parts(parts, ()), json)
    }

    /// Places the merchant's order; the reply's status and code.
    async fn places(
        &mut self,
        stage: &DemoEnvironment,
        key: SigningKey,
        number: &str,
    ) -> (u16, String) {
        let wanted = stage.tea.order(number, "AGGREGATED", "12.30", PAYER);
        let client = client(stage, key, None);
        let request = client.signed("/v1/orders", &wanted.to_string()).unwrap();
        let (answer, json) = self.send(request).await;
        let code = json["code"].as_str().unwrap_or_default().to_owned();
        (answer.status().as_u16(), code)
    }
}

fn tea(stage: &DemoEnvironment) -> PemIdentity {
    identity(&stage.certs(), stage.tea.role.id).unwrap()
}

/// One of the two versions of the load test: institutions' names, and the signing key.
fn version_b(text: &str) -> String {
    let key = "\n[[platform.keys]]\nid = \"platform-2\"\nkey = \"file:certs/platform-2.key\"\n\
        not_before = 2026-01-02\nnot_after = 2099-12-31\n";
    let names = text
        .replace("Blue Bank", "Second Blue")
        .replace("Red Pay", "Second Red");
    names.replacen("\n[outbound]", &format!("{key}\n[outbound]"), 1)
}

/// The version of a reply: everything in it must be of the same one.
fn version_of(answer: &Response<()>, json: &Value) -> char {
    assert_eq!(answer.status(), 200, "{json}");
    let names: Vec<_> = json["institutions"].as_array().unwrap().iter().collect();
    let second = |it: &&&Value| it["nameEn"].as_str().unwrap().starts_with("Second");
    let signed = answer.headers()["signature-input"].to_str().unwrap();
    match (
        names.iter().filter(second).count(),
        signed.contains("platform-2"),
    ) {
        (0, false) => 'a',
        (2, true) => 'b',
        mixed => panic!("half of each: {mixed:?}, {json}"),
    }
}

/// F1, Q8: while merchants keep placing orders on persistent connections, the file is replaced many
/// times by another one and by broken ones. No request is dropped, no connection closed, each reply
/// is of one version, and after the reload's result the next request is of the new one.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_under_load_drops_nothing_and_mixes_nothing() {
    const CLIENTS: u64 = 4;
    const ROUNDS: u64 = 6;
    let (stage, open) = open_without_rate_limits().await;
    make_key(&stage, "platform-2");
    let first = written(&stage);
    let second = version_b(&first);
    let broken = second.replace("mtls = \"required\"", "mtls = \"perhaps\"");
    let stage = Arc::new(stage);
    let (count, mut seen_so_far) = watch::channel(0_u64);
    let (count, stop) = (Arc::new(count), Arc::new(AtomicBool::new(false)));
    let mut clients = Vec::new();
    for client in 0..CLIENTS {
        let (stage, count, stop) = (Arc::clone(&stage), Arc::clone(&count), Arc::clone(&stop));
        clients.push(tokio::spawn(async move {
            let mut persistent = KeptConnection::connect(&stage, &tea(&stage)).await;
            let mut seen = BTreeSet::new();
            for number in 0_u64.. {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let number = format!("L{client}-{number}");
                let wanted = stage.tea.order(&number, "AGGREGATED", "12.30", PAYER);
                let signed = stage.tea.client.signed("/v1/orders", &wanted.to_string());
                let (answer, json) = persistent.send(signed.unwrap()).await;
                seen.insert(version_of(&answer, &json));
                count.send_modify(|count| *count += 1);
            }
            seen
        }));
    }
    let mut own = KeptConnection::connect(&stage, &tea(&stage)).await;
    let mut versions = BTreeSet::new();
    for round in 0..ROUNDS {
        for (text, is) in [(&second, 'b'), (&first, 'a')] {
            let (version, changes, _) = accepted(&stage, text).await;
            assert!(versions.last().is_none_or(|last| *last < version));
            versions.insert(version);
            assert!(!changes.is_empty());
            let why = refused(&stage, &broken).await;
            assert!(why.contains("perhaps"), "{why}");
            let number = format!("R{round}{is}");
            let wanted = stage.tea.order(&number, "AGGREGATED", "12.30", PAYER);
            let signed = stage.tea.client.signed("/v1/orders", &wanted.to_string());
            let (answer, json) = own.send(signed.unwrap()).await;
            assert_eq!(version_of(&answer, &json), is);
            // Every client goes on under this version before the next one comes.
            let enough = *seen_so_far.borrow() + 2 * CLIENTS;
            let more = seen_so_far.wait_for(|count| *count >= enough);
            tokio::time::timeout(WAIT_MAX, more).await.unwrap().unwrap();
        }
    }
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        let seen = client.await.expect("no request was dropped");
        assert_eq!(seen, BTreeSet::from(['a', 'b']));
    }
    let page = operations(&stage, "/metrics").await;
    let total = 2 * ROUNDS;
    let last = versions.last().unwrap();
    for line in [
        format!("paymux_config_reloads_total{{result=\"accepted\"}} {total}"),
        format!("paymux_config_reloads_total{{result=\"refused\"}} {total}"),
        format!("version=\"{last}\""),
    ] {
        assert!(page.contains(&line), "{line} is not in {page}");
    }
    open.close().await.unwrap();
}

/// F1, Q4, R-6.3.1-1c: from the reload on a new key is accepted and the old one refused, on the
/// connection that was open before; and so is a certificate that is no longer enrolled.
#[tokio::test(flavor = "multi_thread")]
async fn keys_and_certificates_are_swapped_on_open_connections() {
    let (stage, _open) = open().await;
    let first = written(&stage);
    let mut persistent = KeptConnection::connect(&stage, &tea(&stage)).await;
    assert_eq!(
        persistent
            .places(&stage, key(&stage, "M1001-1"), "T1")
            .await
            .0,
        200
    );

    make_key(&stage, "M1001-2");
    let rolled = first.replace("M1001-1", "M1001-2");
    accepted(&stage, &rolled).await;
    let old = persistent
        .places(&stage, key(&stage, "M1001-1"), "T2")
        .await;
    assert_eq!(old, (401, "key_unknown".to_owned()));
    assert_eq!(
        persistent
            .places(&stage, key(&stage, "M1001-2"), "T3")
            .await
            .0,
        200
    );

    let other = first.replace("\"certs/M1001.pem\"", "\"certs/M2002.pem\"");
    accepted(&stage, &other).await;
    let shown = persistent
        .places(&stage, key(&stage, "M1001-1"), "T4")
        .await;
    assert_eq!(shown, (403, "certificate_foreign".to_owned()));
    for (number, status) in [("T1", 200), ("T2", 404), ("T3", 200), ("T4", 404)] {
        accepted(&stage, &first).await;
        assert_eq!(queried(&stage.tea, number).await.status, status, "{number}");
    }
}

/// F1, R-6.3.1-1c: another certificate is shown from the next handshake on; open connections go on.
#[tokio::test(flavor = "multi_thread")]
async fn another_server_certificate_is_shown_after_a_reload() {
    let (stage, _open) = open().await;
    let mut persistent = KeptConnection::connect(&stage, &tea(&stage)).await;
    // The development authority makes what a configuration names and does not exist.
    let next = written(&stage)
        .replace("certs/server.pem", "certs/server-2.pem")
        .replace("certs/server.key", "certs/server-2.key");
    fs::write(&stage.config, &next).unwrap();
    let now = paymux::world::Clock::now(&paymux::world::SystemClock::start());
    paymux::command::keys::dev(&mut Vec::new(), &stage.config, &stage.certs(), now).unwrap();
    let (_, changes, _) = accepted(&stage, &next).await;
    let listed = changes.join("\n");
    assert!(listed.contains("listen: certificate shown: "), "{listed}");
    assert_eq!(
        persistent
            .places(&stage, key(&stage, "M1001-1"), "T1")
            .await
            .0,
        200
    );
    let fresh = KeptConnection::connect(&stage, &tea(&stage)).await;
    let pem = fs::read(stage.certs().join("server-2.pem")).unwrap();
    assert_eq!(fresh.shown, CertificateDer::from_pem_slice(&pem).unwrap());
    assert_ne!(fresh.shown, persistent.shown);
}

/// Sets `stopped = true` of an institution.
fn stopped(text: &str, id: &str) -> String {
    let line = format!("id = \"{id}\"\n");
    let head = format!("[[institution]]\n{line}");
    let shut = text.replace(&head, &format!("{head}stopped = true\n"));
    assert_ne!(shut, text);
    shut
}

/// Opens the gateway's own store beside it.
fn beside(stage: &DemoEnvironment) -> Connection {
    let url = config::store_url(&stage.config).unwrap();
    Connection::open(url.strip_prefix("sqlite:").unwrap()).unwrap()
}

/// Moves every end this many days into the past.
fn long_ago(stage: &DemoEnvironment, days: i64) {
    let sql = "UPDATE attempts SET ended_at = ended_at - ?1";
    let store = beside(stage);
    store.busy_timeout(WAIT_MAX).unwrap();
    store.execute(sql, [days * 86_400_000]).unwrap();
}

/// F2, C6, A6: an institution is stopped before it is removed: it gets nothing new, and is still
/// queried and has its callbacks accepted. A reload without it is refused while anything is
/// unfinished there, and while ended attempts can still move money; each attempt keeps the version
/// it was made under.
#[tokio::test(flavor = "multi_thread")]
async fn an_institution_is_removed_when_nothing_depends_on_it() {
    let (stage, _open) = open().await;
    let (shop, first) = (&stage.tea, written(&stage));
    let (version, ..) = accepted(&stage, &first).await;
    let called_back = placed(shop, &order(shop, "T1", "12.30", RED.id)).await;
    let control = stage.red.control();
    control.next_at(
        paymux::sandbox::SandboxCall::Create,
        InstitutionFault::AnswerLost,
        1,
    );
    let unresolved = order(shop, "T2", "4.50", RED.id);
    let (answer, ()) = tokio::join!(shop.place(&unresolved), super::booked(&stage.red, "T2"));
    assert_eq!(answer.unwrap().status, 202);

    let without = taken_out(&first, RED.id);
    let why = refused(&stage, &without).await;
    for expected in [
        "institution redpay: expected to remove only what was stopped before",
        "found none, with 2 unfinished payments and refunds, and 0 payments that ended",
        "put it back with stopped = true",
    ] {
        assert!(why.contains(expected), "{expected} is not in {why}");
    }

    let (after, ..) = accepted(&stage, &stopped(&first, RED.id)).await;
    assert!(after > version);
    let rejected = shop.place(&order(shop, "T3", "1.00", RED.id)).await;
    assert_eq!(rejected.unwrap().status, 422);
    stage.payer.pay(called_back.text("payUrl")).await.unwrap();
    shop.wait_for_notification("ORDER_PAID", "T1")
        .await
        .unwrap();
    let send_control = |book: &paymux::sandbox::InstitutionLedger| {
        let payment = paymux::command::demo::environment::payment_of(book, "T2");
        payment.filter(|it| it.queries > 0).map(drop)
    };
    let red = stage.red.wait_for(send_control, WAIT_MAX).await;
    red.expect("it is queried");
    let sql = "SELECT count(*) FROM attempts WHERE configuration = ?1";
    let made: i64 = beside(&stage)
        .query_row(sql, [i64::try_from(version).unwrap()], |row| row.get(0))
        .unwrap();
    assert_eq!(made, 2, "F2: the version each was made under");

    let why = refused(&stage, &without).await;
    assert!(
        why.contains("1 unfinished payments and refunds, and 1 payments"),
        "{why}"
    );
    shop.ask("/v1/orders/close", "T2", json!({})).await.unwrap();
    shop.wait_for_notification("ORDER_CLOSED", "T2")
        .await
        .unwrap();
    let why = refused(&stage, &without).await;
    assert!(
        why.contains("0 unfinished payments and refunds, and 2 payments"),
        "{why}"
    );
    let fewer = format!("{without}\n[limits]\nremoval_guard_days = 3\n");
    long_ago(&stage, 4);
    let why = refused(&stage, &without).await;
    assert!(
        why.contains("2 payments that ended within the 365 days"),
        "{why}"
    );
    let (_, changes, _) = accepted(&stage, &fewer).await;
    assert!(
        changes.contains(&"institution redpay: taken out".to_owned()),
        "{changes:?}"
    );
    let late = client(&stage, key(&stage, "redpay-1"), None);
    let reply = late.post("/v1/callbacks/redpay", &json!({})).await.unwrap();
    assert_eq!(reply.status, 404);
}

/// F2, S1: a start without an institution that payments need is refused, with how many and what to
/// write; also when all of them have ended, because a payment may come late. With it, stopped,
/// everything goes on. A merchant's orders end although it is no longer in the file.
#[tokio::test(flavor = "multi_thread")]
async fn no_start_loses_an_institution_that_payments_need() {
    let (stage, open) = open().await;
    let (shop, first) = (&stage.tea, written(&stage));
    let answer = placed(shop, &order(shop, "T1", "12.30", RED.id)).await;
    open.close().await.unwrap();
    let without_red = taken_out(&first, RED.id);
    let start = async |text: &str| {
        fs::write(&stage.config, text).unwrap();
        stage.open().await
    };
    let why = start(&without_red).await.err().expect("refused");
    let why = format!("{why:#}");
    for expected in [
        "institution redpay: expected its [[institution]], because payments need it",
        "found none, with 1 unfinished",
        "stopped = true",
    ] {
        assert!(why.contains(expected), "{expected} is not in {why}");
    }

    let mut reduced = without(&stopped(&first, RED.id), "merchant", "id = \"M1001\"");
    for id in ["bluebank", "redpay", "greencard"] {
        let line = match id {
            "bluebank" => "account = \"M1001\"".to_owned(),
            _ => format!("sub = {{ merchant_id = \"M1001-{id}\" }}"),
        };
        reduced = without(&reduced, "contract", &line);
    }
    let open = start(&reduced).await.unwrap();
    assert_eq!(queried(shop, "T1").await.text("code"), "key_unknown");
    stage.payer.pay(answer.text("payUrl")).await.unwrap();
    shop.wait_for_notification("ORDER_PAID", "T1")
        .await
        .unwrap();
    open.close().await.unwrap();

    let why = start(&without_red).await.err().expect("refused");
    let why = format!("{why:#}");
    assert!(
        why.contains("0 unfinished payments and refunds, and 1 payments"),
        "{why}"
    );
    long_ago(&stage, 366);
    let open = start(&without_red).await.unwrap();
    // A stop that comes before it serves is not handled.
    assert!(operations(&stage, "/readyz").await.contains("200 OK"));
    open.close().await.unwrap();
}

/// F1, D3: sockets and the store stay; a reload that would move them, or remove a key that sealed
/// something, is refused with the line, and a seal key that is added and made current is accepted.
#[tokio::test(flavor = "multi_thread")]
async fn a_setting_that_needs_a_restart_is_refused_with_its_line() {
    let (stage, _open) = open().await;
    let first = written(&stage);
    let public = format!("127.0.0.1:{}", stage.ports.public);
    for (from, to, line) in [
        (
            public.as_str(),
            "127.0.0.1:1",
            ":3: [listen] public: expected",
        ),
        ("paymux.sqlite", "other.sqlite", ": [store] url: expected"),
        (
            "certs/digest.key",
            "certs/seal-1.key",
            ": [store] digest_key: expected",
        ),
        (
            "\"seal-1\"",
            "\"seal-9\"",
            ": [[store.seal_keys]]: expected every seal key",
        ),
    ] {
        let text = first.replace(from, to);
        // The control socket is found by the store that is running.
        let socket = control::socket(&config::store_url(&stage.config).unwrap());
        fs::write(&stage.config, text).unwrap();
        let blocking = tokio::task::spawn_blocking(move || control::ask(&socket, control::RELOAD));
        let ControlReply::Refused { faults, .. } = blocking.await.unwrap().unwrap() else {
            panic!("{to} was accepted");
        };
        let listed = faults.join("\n");
        assert!(
            listed.contains(line) && listed.contains("needs a restart"),
            "{listed}"
        );
        fs::write(&stage.config, &first).unwrap();
    }
    private_file(stage.certs().join("seal-2.key"), &"ab".repeat(32));
    let more = "\n[[store.seal_keys]]\nid = \"seal-2\"\nkey = \"file:certs/seal-2.key\"\n";
    let rotated = first
        .replace("seal_key = \"seal-1\"", "seal_key = \"seal-2\"")
        .replacen(
            "\n[[platform.keys]]",
            &format!("{more}\n[[platform.keys]]"),
            1,
        );
    placed(
        &stage.tea,
        &stage.tea.order("T1", "AGGREGATED", "1.00", PAYER),
    )
    .await;
    accepted(&stage, &rotated).await;
    placed(
        &stage.tea,
        &stage.tea.order("T2", "AGGREGATED", "1.00", PAYER),
    )
    .await;
    for number in ["T1", "T2"] {
        assert_eq!(queried(&stage.tea, number).await.status, 200);
    }
}
