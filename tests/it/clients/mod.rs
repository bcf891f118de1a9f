//! The programs of `docs/clients.md`, run as documented: against the gateway over real TLS, with
//! sandbox institutions behind it and a tampering relay in front.

mod document;
mod mistakes;
mod notified;
mod program;
mod published;
mod refused;
mod relay;
mod wire;

use std::path::Path;
use std::process::Command;

use paymux::command::demo::enrolment::{RED, TEA, contract_account};
use paymux::command::demo::environment::{DemoEnvironment, DemoGateway};
use paymux::edge::DrainOutcome;
use serde_json::Value;

use program::{Program, ProgramEnvironment, ProgramOutput, WHOLE};
use relay::{ALL, Relay, Tampering};

use crate::socket::ports;

/// The programs' merchant.
const MERCHANT: &str = "M3003";
const PAYER: &str = "13800001234";

/// How to make a key with openssl alone.
#[derive(Debug, Clone, Copy)]
struct KeyKind {
    /// The algorithm as it is enrolled.
    algorithm: &'static str,
    openssl: &'static [&'static str],
}

const ED25519: KeyKind = KeyKind {
    algorithm: "ed25519",
    openssl: &["-algorithm", "ed25519"],
};

const ECDSA: KeyKind = KeyKind {
    algorithm: "ecdsa-p256-sha256",
    openssl: &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
};

const RSA_PSS: KeyKind = KeyKind {
    algorithm: "rsa-pss-sha512",
    openssl: &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
};

/// All parties, the programs' merchant enrolled among them.
struct ClientTestbed {
    stage: DemoEnvironment,
    open: DemoGateway,
    around: ProgramEnvironment,
    /// The port for notifications.
    notices: u16,
    relay: Option<Relay>,
}

impl ClientTestbed {
    async fn set(kind: KeyKind) -> Self {
        Self::with(kind, false).await
    }

    /// With the relay in front.
    async fn tampered() -> Self {
        Self::with(ED25519, true).await
    }

    async fn with(kind: KeyKind, between: bool) -> Self {
        let more = ports::free();
        let notices = more.tea;
        let stage = DemoEnvironment::set(ports::free(), &enrolment(kind, notices))
            .await
            .unwrap();
        for id in ["M3003-1", "platform-1"] {
            make_key(&stage, id, kind);
        }
        let gateway = stage.ports.public;
        let public = if between { more.public } else { gateway };
        let mut relay = None;
        if between {
            let origin = |port| format!("public_origin = \"https://localhost:{port}\"");
            let text = std::fs::read_to_string(&stage.config).unwrap();
            let text = text.replace(&origin(gateway), &origin(public));
            std::fs::write(&stage.config, text).unwrap();
            relay = Some(Relay::open(&stage.certs(), public, gateway, MERCHANT).await);
        }
        let variables = vec![
            ("PAYMUX", format!("https://localhost:{public}")),
            ("MERCHANT", MERCHANT.to_owned()),
            ("MERCHANT_NAME", "Corner \"Shop\"".to_owned()),
            ("MERCHANT_KEY", "certs/M3003-1.key".to_owned()),
            ("MERCHANT_KEY_ID", "M3003-1".to_owned()),
            ("MERCHANT_CERTIFICATE", "certs/M3003.pem".to_owned()),
            ("MERCHANT_CERTIFICATE_KEY", "certs/M3003.key".to_owned()),
            ("NOTICES", notice_url(notices)),
        ];
        let folder = stage.config.parent().unwrap().to_owned();
        Self {
            open: stage.open().await.unwrap(),
            stage,
            around: ProgramEnvironment { folder, variables },
            notices,
            relay,
        }
    }

    fn relay(&self) -> &Relay {
        self.relay.as_ref().unwrap()
    }

    async fn run(&self, program: Program, words: &[&str]) -> ProgramOutput {
        program.run(&self.around, words).await
    }

    /// Runs a program that must succeed.
    async fn done(&self, program: Program, words: &[&str]) -> Value {
        let output = self.run(program, words).await;
        assert_eq!(output.status, 0, "{program:?} {words:?}: {}", output.err);
        output.out
    }

    /// Enters an order into the program's own book, as if it had placed it.
    fn remember(&self, order: &str) {
        let var = self.around.folder.join("var");
        std::fs::create_dir_all(&var).unwrap();
        std::fs::write(var.join("orders.txt"), format!("{order}\n")).unwrap();
    }

    /// The lines of the program's own book.
    fn book(&self) -> Vec<String> {
        let book = self.around.folder.join("var/notices.txt");
        let text = std::fs::read_to_string(book).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

fn notice_url(port: u16) -> String {
    format!("https://localhost:{port}/notices?shop=7")
}

/// Requires a client certificate as well, so that the programs show one.
fn enrolment(kind: KeyKind, notices: u16) -> String {
    let algorithm = kind.algorithm;
    let account = contract_account(TEA, RED);
    format!(
        r#"
[[merchant]]
id = "{MERCHANT}"
name = 'Corner "Shop"'
state = "admitted"
evidence = "a test"
since = 2026-01-01
mtls = "required"
certificates = ["certs/M3003.pem"]
notify_origins = ["https://localhost:{notices}"]

[[merchant.keys]]
id = "M3003-1"
algorithm = "{algorithm}"
file = "certs/M3003-1.pub"
not_before = 2020-01-01
not_after = 2099-12-31

[[contract]]
merchant = "{MERCHANT}"
institution = "redpay"
{account}modes = ["WEBVIEW"]
transaction_types = ["PASSWORD_PAY"]
amount_max = "2000.00"
"#
    )
}

/// Makes a key as `docs/clients.md` says, in place of the one `paymux keys dev` made: the
/// merchant's, and the platform's of the same kind, so that both directions are tested.
fn make_key(stage: &DemoEnvironment, id: &str, kind: KeyKind) {
    let file = |end: &str| stage.certs().join(format!("{id}.{end}"));
    let openssl = |command: &mut Command| {
        let made = command.output().expect("openssl is needed here");
        let output = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{output}");
    };
    let mut make = Command::new("openssl");
    openssl(
        make.arg("genpkey")
            .args(kind.openssl)
            .arg("-out")
            .arg(file("key")),
    );
    let mut show = Command::new("openssl");
    let show = show.args(["pkey", "-pubout", "-in"]).arg(file("key"));
    openssl(show.arg("-out").arg(file("pub")));
}

/// An order from placing to notification, through the program alone.
async fn goes_the_whole_way(program: Program, kind: KeyKind) {
    let scene = ClientTestbed::set(kind).await;
    let mut listening = program.listen(&scene.around, scene.notices).await;
    let placed = scene.done(program, &["place", "T1", "12.30", PAYER]).await;
    let listed: Vec<_> = placed["institutions"].as_array().unwrap().iter().collect();
    assert_eq!(listed.len(), 1, "{placed}");
    assert_eq!(listed[0]["institutionId"], RED.id);

    let chosen = scene.done(program, &["select", "T1", RED.id]).await;
    assert_eq!(chosen["attemptStatus"], "ACCEPTED");
    assert_eq!(chosen["payOrderNo"], placed["payOrderNo"]);
    let page = chosen["payUrl"].as_str().unwrap();
    assert!(page.starts_with(&scene.stage.origin()), "{page}");
    scene.stage.payer.pay(page).await.unwrap();

    let event = listening.first_event().await;
    assert_eq!(
        scene.book(),
        [format!("{event} ORDER_PAID T1 12.30 CNY PAID")]
    );
    let found = scene.done(program, &["query", "T1"]).await;
    assert_eq!(found["orderStatus"], "PAID");
    assert_eq!(found["goodsName"], "明前龙井");
    assert_eq!(found["merchantName"], "Corner \"Shop\"");

    let unknown = scene.run(program, &["query", "T2"]).await;
    assert_eq!(unknown.status, 1, "{}", unknown.err);
    assert_eq!(unknown.out["code"], "order_unknown");
    assert_eq!(scene.run(program, &["query"]).await.status, 2);

    let books = scene.stage.red.books();
    assert_eq!((books.payments().count(), books.taken_cents()), (1, 1_230));
    let delivered = [(event, "DELIVERED".to_owned())];
    // For a program that starts slowly the first delivery may have failed.
    let delivering = tokio::time::timeout(WHOLE, async {
        while event_states(&scene.around.folder) != delivered {
            tokio::task::yield_now().await;
        }
    });
    delivering.await.expect("the event is delivered");
    assert_eq!(scene.open.close().await.unwrap(), DrainOutcome::Whole);
}

/// Every event of the programs' merchant in the gateway's own store, and its state.
fn event_states(folder: &Path) -> Vec<(String, String)> {
    let store = rusqlite::Connection::open(folder.join("paymux.sqlite")).unwrap();
    let mut events = store
        .prepare("SELECT event_id, state FROM events WHERE merchant_id = ?1")
        .unwrap();
    let rows = events.query_map([MERCHANT], |row| Ok((row.get(0)?, row.get(1)?)));
    rows.unwrap().map(Result::unwrap).collect()
}

/// A tampered reply is refused.
async fn refuses_tampered_replies(program: Program) {
    let scene = ClientTestbed::tampered().await;
    let relay = scene.relay();
    // After a lost reply the request is repeated: the same order, signed anew, placed once.
    relay.next(Tampering::Lost);
    let placed = scene.done(program, &["place", "T1", "12.30", PAYER]).await;
    let requests = relay.requests();
    let [first, second] = requests.as_slice() else {
        panic!("{} requests", requests.len());
    };
    assert_eq!(first.body(), second.body());
    assert_ne!(
        first.headers()["signature-input"],
        second.headers()["signature-input"]
    );
    assert_eq!(placed["orderStatus"], "OPEN");

    let honest = scene.done(program, &["query", "T1"]).await;
    assert_eq!(honest["payOrderNo"], placed["payOrderNo"]);
    relay.next(Tampering::Resigned);
    let resigned = scene.done(program, &["query", "T1"]).await;
    assert_eq!(
        resigned["orderStatus"], "PAID",
        "the platform's own key is accepted"
    );
    for tampering in ALL {
        relay.next(tampering);
        let output = scene.run(program, &["query", "T1"]).await;
        assert_eq!(
            output.status, 3,
            "{program:?} believes {tampering:?}: {}",
            output.out
        );
        assert_eq!(output.out, Value::Null, "{tampering:?}");
        assert!(
            output.err.starts_with("not proven: "),
            "{tampering:?}: {}",
            output.err
        );
    }
}

/// A3.1, X-2, A3.2, A3.3, R-5.1.4-1, R-5.1.4-4, R-5.1.4-8, R-6.3.1-1a: a merchant integrates with
/// Python's library for RFC 9421.
#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_goes_the_whole_way() {
    goes_the_whole_way(Program::Python, ED25519).await;
}

/// A3.1, X-2, A3.2, A3.3: the same with the library for Node.
#[tokio::test(flavor = "multi_thread")]
async fn the_node_client_goes_the_whole_way() {
    goes_the_whole_way(Program::Node, ED25519).await;
}

/// A3.1, X-2, A3.2, A3.3: the same with curl and openssl alone.
#[tokio::test(flavor = "multi_thread")]
async fn the_curl_client_goes_the_whole_way() {
    goes_the_whole_way(Program::Curl, ED25519).await;
}

/// A3.1, X-2, A3.2, A3.3: the same with Java and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn the_java_client_goes_the_whole_way() {
    goes_the_whole_way(Program::Java, ED25519).await;
}

/// R-6.3.1-1b, R-6.3.2-2b: a key on P-256 works as well, the merchant's and ours.
#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_signs_with_ecdsa() {
    goes_the_whole_way(Program::Python, ECDSA).await;
}

/// R-6.3.1-1b, R-6.3.2-2b: an RSA key works as well, the merchant's and ours.
#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_signs_with_rsa_pss() {
    goes_the_whole_way(Program::Python, RSA_PSS).await;
}

/// R-6.3.2-2b: the same in Node.
#[tokio::test(flavor = "multi_thread")]
async fn the_node_client_signs_with_ecdsa() {
    goes_the_whole_way(Program::Node, ECDSA).await;
}

/// R-6.3.2-2b: the same in Node, with the salt length that the library does not support.
#[tokio::test(flavor = "multi_thread")]
async fn the_node_client_signs_with_rsa_pss() {
    goes_the_whole_way(Program::Node, RSA_PSS).await;
}

/// R-6.3.2-2b: the same in Java.
#[tokio::test(flavor = "multi_thread")]
async fn the_java_client_signs_with_ecdsa() {
    goes_the_whole_way(Program::Compiled, ECDSA).await;
}

/// Q2, Q3, R-6.3.2-2a: a reply is accepted only whole, signed by the platform's key, and bound to
/// its request.
#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_refuses_tampered_replies() {
    refuses_tampered_replies(Program::Python).await;
}

/// Q2, Q3: the same in Node, whose library leaves a part of it to the program.
#[tokio::test(flavor = "multi_thread")]
async fn the_node_client_refuses_tampered_replies() {
    refuses_tampered_replies(Program::Node).await;
}

/// Q2, Q3: the same with curl and openssl.
#[tokio::test(flavor = "multi_thread")]
async fn the_curl_client_refuses_tampered_replies() {
    refuses_tampered_replies(Program::Curl).await;
}

/// Q2, Q3: the same in Java.
#[tokio::test(flavor = "multi_thread")]
async fn the_java_client_refuses_tampered_replies() {
    refuses_tampered_replies(Program::Compiled).await;
}
