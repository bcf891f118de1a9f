//! The real binary on a machine with too few resources: its own shortage is no other party's
//! failure (H1).

use std::process::Command;

use paymux::command::demo::enrolment::BLUE;
use paymux::command::demo::environment::DemoEnvironment;
use paymux::run::machine;
use rustix::process::{
    DumpableBehavior, Pid, Resource, Rlimit, dumpable_behavior, getrlimit, prlimit,
};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::journey::process::{GatewayProcess, paymux, ran};
use crate::journey::{PAYER, operations, placed};

/// The program under these limits of open files, as a shell sets them.
fn limited(limits: &str) -> Command {
    let mut shell = Command::new("sh");
    let run = format!("ulimit {limits}; exec \"$0\" \"$@\"");
    shell.arg("-c").arg(run).arg(env!("CARGO_BIN_EXE_paymux"));
    shell
}

/// A line of `/proc/PID/limits`: the soft and the hard limit.
fn limit(served: &GatewayProcess, name: &str) -> (String, String) {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", served.id())).unwrap();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap();
    let mut words = line.split_whitespace();
    (
        words.next().unwrap().to_owned(),
        words.next().unwrap().to_owned(),
    )
}

/// H1: a gateway raises its soft limit of open files, and leaves no core dump.
#[tokio::test(flavor = "multi_thread")]
async fn the_file_limit_is_raised_and_no_core_is_dumped() {
    let stage = DemoEnvironment::start_on_free_ports("").await.unwrap();
    let served = GatewayProcess::under(limited("-Sn 256"), &stage);
    let (soft, hard) = limit(&served, "Max open files");
    assert_eq!(soft, hard);
    let none = || "0".to_owned();
    assert_eq!(limit(&served, "Max core file size"), (none(), none()));
    machine::keep_memory_private().unwrap();
    assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    assert_eq!(getrlimit(Resource::Core).maximum, Some(0));
}

/// H1: limits that add up to more files than allowed are refused at the start, and reported by
/// `paymux check` on that machine.
#[tokio::test(flavor = "multi_thread")]
async fn limits_that_do_not_fit_the_machine_are_refused() {
    let stage = DemoEnvironment::start_on_free_ports("\n[limits]\nconnections_max = 3_000\n")
        .await
        .unwrap();
    for (command, status) in [("check", 3), ("serve", 1)] {
        let mut limited = limited("-n 2000");
        limited.arg(command).arg("--config").arg(&stage.config);
        let (output, text) = ran(limited).await;
        let printed = text + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{printed}");
        let expected = "[limits] connections_max: expected limits that add up to at most 2000";
        assert!(
            printed.contains(expected) && printed.contains("LimitNOFILE"),
            "{printed}"
        );
    }
    let mut check = paymux();
    check.arg("check").arg("--config").arg(&stage.config);
    let (output, text) = ran(check).await;
    assert!(
        output.status.success() && text.contains("connections 3000"),
        "{text}"
    );
}

async fn chosen(stage: &DemoEnvironment, number: &str) -> Value {
    let choice = json!({ "institutionId": BLUE.id, "mode": "WEBVIEW" });
    let answer = stage
        .tea
        .ask("/v1/orders/select", number, choice)
        .await
        .unwrap();
    answer.json
}

/// H1, R-6.3.1-3a: on a machine with few files idle connections take none that a call needs: an
/// authenticated caller is served, and an institution is reached.
#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_take_no_file_from_a_call() {
    let stage = DemoEnvironment::start_on_free_ports("").await.unwrap();
    let served = GatewayProcess::under(limited("-n 256"), &stage);
    let shop = &stage.tea;
    placed(shop, &shop.order("T1", "AGGREGATED", "12.30", PAYER)).await;
    let mut idle = Vec::new();
    for _ in 0..400 {
        let address = ("127.0.0.1", stage.ports.public);
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    assert_eq!(chosen(&stage, "T1").await["result"], "ACCEPTED");
    placed(shop, &shop.order("T2", "AGGREGATED", "12.30", PAYER)).await;
    assert_eq!(chosen(&stage, "T2").await["result"], "ACCEPTED");
    let page = operations(&stage, "/metrics").await;
    assert!(
        page.contains("paymux_connections_cut_total{cause=\"unproven\"}"),
        "{page}"
    );
    drop((idle, served));
}

/// The descriptor that the next opened file gets.
fn first_free(served: &GatewayProcess) -> u64 {
    let open = std::fs::read_dir(format!("/proc/{}/fd", served.id())).unwrap();
    let open: std::collections::BTreeSet<u64> = open
        .map(|file| file.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    (0..u64::MAX).find(|number| !open.contains(number)).unwrap()
}

/// Whether a connection is still held at this port.
fn has_callers(port: u16) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().skip(1).any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ours = words[1].ends_with(&format!(":{port:04X}"));
        ours && words[3] != "0A" && words[9] != "0"
    })
}

/// Sets the file limit of a running process to this number, or to this process's own limit.
fn allow(served: &GatewayProcess, files: Option<u64>) {
    let pid = Pid::from_raw(i32::try_from(served.id()).unwrap());
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: files.or(maximum),
        maximum,
    };
    prlimit(pid, Resource::Nofile, limit).unwrap();
}

/// H1, E1: a gateway that cannot open a file blames no institution: the circuit breaker stays
/// closed, however often the call is tried, and the first payer after the shortage is taken there.
#[tokio::test(flavor = "multi_thread")]
async fn a_shortage_of_ours_is_no_institutions_failure() {
    let stage = DemoEnvironment::start_on_free_ports("").await.unwrap();
    let served = GatewayProcess::start(&stage);
    let shop = &stage.tea;
    for number in 0..9 {
        let order = shop.order(&format!("T{number}"), "AGGREGATED", "12.30", PAYER);
        placed(shop, &order).await;
    }
    while has_callers(stage.ports.public) {
        tokio::task::yield_now().await;
    }
    // One more file, for the caller; none for the call, nor for resolving its name.
    allow(&served, Some(first_free(&served) + 1));
    for number in 0..8 {
        let answer = chosen(&stage, &format!("T{number}")).await;
        assert_eq!(answer["attemptStatus"], "FAILED", "{answer}");
        assert_eq!(answer["reason"], "NOT_REACHED", "{answer}");
    }
    allow(&served, None);
    assert_eq!(chosen(&stage, "T8").await["result"], "ACCEPTED");
    assert_eq!(
        chosen(&stage, "T0").await["result"],
        "ACCEPTED",
        "nothing was sent"
    );
    let page = operations(&stage, "/metrics").await;
    for line in [
        "paymux_institution_breaker{institution=\"bluebank\",state=\"closed\"} 1",
        "paymux_institution_calls_total{call=\"create\",institution=\"bluebank\",outcome=\"our_shortage\"} 8",
    ] {
        assert!(page.contains(line), "{line} is not in {page}");
    }
}
