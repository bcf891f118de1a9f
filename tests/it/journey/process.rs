//! The real binary as a process: killed, terminated, and running `check` and `demo`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use paymux::command::demo::enrolment::BLUE;
use paymux::command::demo::environment::{DemoEnvironment, WAIT_MAX, payment_of};
use paymux::sandbox::{InstitutionFault, SandboxCall};
use serde_json::json;

use super::{booked, order, placed, queried, states};

pub(super) fn paymux() -> Command {
    Command::new(env!("CARGO_BIN_EXE_paymux"))
}

/// `paymux serve` as a process; killed when it is dropped.
pub(crate) struct GatewayProcess(Option<Child>);

impl GatewayProcess {
    /// Starts it and waits until it logs that it listens.
    pub(crate) fn start(stage: &DemoEnvironment) -> Self {
        Self::under(paymux(), stage)
    }

    /// The same, by a command that runs the program with these arguments under some limit.
    pub(super) fn under(mut program: Command, stage: &DemoEnvironment) -> Self {
        let mut child = program
            .arg("serve")
            .arg("--config")
            .arg(&stage.config)
            .env("RUST_LOG", "info")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let printed = lines.find(|line| {
            let line = line.as_ref().unwrap();
            line.contains("listening") && line.contains("operations")
        });
        assert!(printed.is_some(), "it logs where it listens");
        // The pipe must be read on, or the process would block on its log.
        std::thread::spawn(move || lines.for_each(drop));
        Self(Some(child))
    }

    pub(super) fn id(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let sent = Command::new("kill").args([name, &id]).status().unwrap();
        assert!(sent.success());
    }

    async fn ended(mut self) -> ExitStatus {
        let mut child = self.0.take().unwrap();
        let waiting = tokio::task::spawn_blocking(move || child.wait().unwrap());
        let ended = tokio::time::timeout(WAIT_MAX, waiting).await;
        ended.expect("it ends").unwrap()
    }
}

impl Drop for GatewayProcess {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A1, S1, V1: what was durable before a crash is there after it; a call in flight is queried, not
/// sent again, and can be paid.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loses_no_order_and_what_was_unresolved_is_resolved() {
    let stage = DemoEnvironment::set(crate::socket::ports::free(), "")
        .await
        .unwrap();
    let shop = &stage.tea;
    let served = GatewayProcess::start(&stage);
    let paid = placed(shop, &order(shop, "T1", "12.30", BLUE.id)).await;
    stage.payer.pay(paid.text("payUrl")).await.unwrap();
    shop.wait_for_notification("ORDER_PAID", "T1")
        .await
        .unwrap();

    let control = stage.blue.control();
    control.next_at(SandboxCall::Create, InstitutionFault::NoAnswer, 1);
    let lost = order(shop, "T2", "45.60", BLUE.id);
    let crash = async {
        booked(&stage.blue, "T2").await;
        served.signal("-KILL");
        served.ended().await
    };
    let (answer, _) = tokio::join!(shop.place(&lost), crash);
    assert!(answer.is_err(), "the reply was lost with the process");

    let _open = stage.open().await.unwrap();
    let found = queried(shop, "T1").await;
    assert_eq!(
        (found.text("orderStatus"), found.text("payOrderNo")),
        ("PAID", paid.text("payOrderNo"))
    );
    let is_queried = |book: &paymux::sandbox::InstitutionLedger| {
        payment_of(book, "T2").filter(|it| it.queries > 0).map(drop)
    };
    stage
        .blue
        .wait_for(is_queried, WAIT_MAX)
        .await
        .expect("it is queried");
    let known = ("OPEN".to_owned(), "ACCEPTED".to_owned());
    assert_eq!(states(shop, "T2").await, known);
    let answer = placed(shop, &lost).await;
    stage.payer.pay(answer.text("payUrl")).await.unwrap();
    shop.wait_for_notification("ORDER_PAID", "T2")
        .await
        .unwrap();
    assert_eq!(stage.blue.books().payments().count(), 2);
    assert_eq!(stage.blue.books().taken_cents(), 1_230 + 4_560);
}

/// A SIGTERM and a second one right after it lose nothing: the reply arrives, the process exits
/// with 0, and the order is stored.
#[tokio::test(flavor = "multi_thread")]
async fn two_sigterms_lose_nothing() {
    let stage = DemoEnvironment::set(crate::socket::ports::free(), "")
        .await
        .unwrap();
    let shop = &stage.tea;
    let served = GatewayProcess::start(&stage);
    stage
        .blue
        .control()
        .next_at(SandboxCall::Create, InstitutionFault::SlowAnswer, 1);
    let wanted = order(shop, "T1", "12.30", BLUE.id);
    let ending = async {
        booked(&stage.blue, "T1").await;
        served.signal("-TERM");
        served.signal("-TERM");
        served.ended().await
    };
    let (answer, ended) = tokio::join!(placed(shop, &wanted), ending);
    assert_eq!(answer.text("attemptStatus"), "ACCEPTED");
    assert!(ended.success(), "{ended}");
    let _open = stage.open().await.unwrap();
    let found = states(shop, "T1").await;
    assert_eq!(found, ("OPEN".to_owned(), "ACCEPTED".to_owned()));
}

pub(super) async fn ran(mut command: Command) -> (Output, String) {
    let running = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = running.await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output, text)
}

fn check(config: &Path) -> Command {
    let mut command = paymux();
    command.arg("check").arg("--config").arg(config);
    command
}

/// F1: every fault is listed at once, and the exit status says that there are any.
#[tokio::test(flavor = "multi_thread")]
async fn check_lists_every_fault_at_once() {
    let stage = DemoEnvironment::set(crate::socket::ports::free(), "")
        .await
        .unwrap();
    let (output, text) = ran(check(&stage.config)).await;
    assert!(output.status.success(), "{text}");
    let right = std::fs::read_to_string(&stage.config).unwrap();
    let wrong = right
        .replace("seal_key = \"seal-1\"", "seal_key = \"seal-9\"")
        .replace("kind = \"standard\"", "kind = \"unheard-of\"")
        .replace("mtls = \"required\"", "mtls = \"perhaps\"")
        .replace(
            "\n[[route]]\ninstitution = \"redpay\"",
            "\n[[route]]\ninstitution = \"nobody\"",
        );
    std::fs::write(&stage.config, wrong + "\n[nonsense]\nx = 1\n").unwrap();
    let (output, text) = ran(check(&stage.config)).await;
    assert_eq!(output.status.code(), Some(3));
    for word in ["seal-9", "unheard-of", "perhaps", "nobody", "nonsense"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(
        text.contains("nothing of this file would be used"),
        "{text}"
    );
}

fn of(command: &str, config: &Path, more: &[&str]) -> Command {
    let mut made = paymux();
    made.arg(command).arg("--config").arg(config).args(more);
    made
}

/// F1: reloading from a terminal shows first what would change and then the result, and has an exit
/// status for scripts; of two gateways, the one that uses this store replies.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_reports_its_result() {
    let (stage, other) = (
        DemoEnvironment::start_on_free_ports("").await.unwrap(),
        DemoEnvironment::start_on_free_ports("").await.unwrap(),
    );
    let none = ran(of("reload", &stage.config, &[])).await.0;
    let printed = String::from_utf8_lossy(&none.stderr).into_owned();
    assert_eq!(none.status.code(), Some(1), "{printed}");
    assert!(
        printed.contains("expected a running gateway at"),
        "{printed}"
    );

    let (served, _second) = (GatewayProcess::start(&stage), GatewayProcess::start(&other));
    let first = std::fs::read_to_string(&stage.config).unwrap();
    let next = first.replace("name = \"Tea House\"", "name = \"Tea Room\"");
    std::fs::write(&stage.config, &next).unwrap();
    let change = "merchant M1001: name: \"Tea House\" becomes \"Tea Room\"";
    let (output, text) = ran(of("check", &stage.config, &["--diff"])).await;
    assert!(output.status.success() && text.contains(change), "{text}");
    assert!(
        text.contains("1 changes, compared with the running gateway"),
        "{text}"
    );
    let (output, text) = ran(of("check", &stage.config, &["--diff", "--json"])).await;
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(output.status.success());
    assert_eq!(document["changes"][0]["subject"], "merchant M1001");
    assert_eq!(document["needsRestart"], false);
    let (output, text) = ran(of("reload", &stage.config, &[])).await;
    assert!(output.status.success() && text.contains(change), "{text}");
    assert!(text.contains("in force: version "), "{text}");
    let (_, text) = ran(of("reload", &stage.config, &[])).await;
    assert!(text.starts_with("nothing changed\n"), "{text}");
    std::fs::write(&stage.config, format!("{next}\n")).unwrap();
    let (_, text) = ran(of("reload", &stage.config, &[])).await;
    assert!(
        text.starts_with("only comments or formatting changed\n"),
        "{text}"
    );

    std::fs::write(
        &stage.config,
        next.replace("mtls = \"required\"", "mtls = 7"),
    )
    .unwrap();
    for command in ["reload", "check"] {
        let more: &[&str] = if command == "check" { &["--diff"] } else { &[] };
        let (output, text) = ran(of(command, &stage.config, more)).await;
        assert_eq!(output.status.code(), Some(3));
        assert!(
            text.contains("[[merchant]] mtls: expected one of"),
            "{text}"
        );
    }
    let (output, text) = ran(of("check", &other.config, &["--diff"])).await;
    assert!(
        output.status.success() && text.contains("nothing would change"),
        "{text}"
    );

    // SIGHUP does the same, with the result in the log; it stops nothing.
    std::fs::write(&stage.config, &first).unwrap();
    served.signal("-HUP");
    while !ran(of("check", &stage.config, &["--diff"]))
        .await
        .1
        .contains("nothing would change")
    {}
    placed(&stage.tea, &order(&stage.tea, "T1", "12.30", BLUE.id)).await;
}

/// R-4-6, R-6.2.3-1: the demonstration runs every flow in each mode and checks books and inboxes.
#[tokio::test(flavor = "multi_thread")]
async fn the_demonstration_holds() {
    let mut command = paymux();
    command.args(["demo", "--once"]);
    let (output, text) = ran(command).await;
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("steps passed") && !text.contains('✗'),
        "{text}"
    );
    assert!(!text.contains('\x1b'), "no colours in a pipe: {text}");
    let folder = text
        .lines()
        .find_map(|line| line.split_once(" files in ").map(|(_, folder)| folder))
        .unwrap();
    assert!(!Path::new(folder).exists(), "it cleans up: {folder}");
}

/// A port in use is reported by its number, with the option to choose others.
#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_named() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut command = paymux();
    command.args(["demo", "--once", "--port-base", &port]);
    let (output, _) = ran(command).await;
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(
        printed.contains(&port) && printed.contains("--port-base"),
        "{printed}"
    );
    // Standard output, which a script would read, is empty.
    assert_eq!(json!(output.stdout), json!([]));
}
