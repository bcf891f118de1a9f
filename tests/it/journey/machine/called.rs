//! `paymux call` at a terminal: what it prints, and its exit status.

use std::process::{Command, Output};

use paymux::command::demo::enrolment::BLUE;
use paymux::command::demo::environment::DemoEnvironment;
use paymux::sandbox::{InstitutionFault, SandboxCall};

use crate::journey::process::ran;
use crate::journey::{PAYER, open};

/// `paymux call` as the first merchant of this environment.
fn call(stage: &DemoEnvironment, words: &[&str]) -> Command {
    let config = std::fs::read_to_string(&stage.config).unwrap();
    let origin = config.split_once("public_origin = \"").unwrap().1;
    let origin = origin.split_once('"').unwrap().0;
    let certs = stage.certs();
    let mut command = Command::new(env!("CARGO_BIN_EXE_paymux"));
    command.arg("call").args(words).args(["--gateway", origin]);
    for (flag, name) in [
        ("--roots", "ca.pem"),
        ("--key", "M1001-1.key"),
        ("--certificate", "M1001.pem"),
        ("--certificate-key", "M1001.key"),
    ] {
        command.arg(flag).arg(certs.join(name));
    }
    command
}

fn place<'a>(return_url: &'a str, number: &'a str) -> [&'a str; 11] {
    [
        "place",
        "--amount",
        "12.30",
        "--mobile",
        PAYER,
        "--return-url",
        return_url,
        "--order-no",
        number,
        "--business-type",
        "AGGREGATED",
    ]
}

/// The printed curl line has a nonce of its own: it is answered as the call was, and works once.
#[tokio::test(flavor = "multi_thread")]
async fn the_printed_curl_line_works_once() {
    let (stage, open) = open().await;
    let url = stage.tea.merchant.notice_url();
    let mut command = call(&stage, &place(&url, "T1"));
    command.arg("--explain");
    let (Output { status, stderr, .. }, printed) = ran(command).await;
    assert!(
        status.success(),
        "{printed}{}",
        String::from_utf8_lossy(&stderr)
    );
    let line = printed.split_once("\ncurl ").unwrap().1;
    let line = line.split_once("\n\n").unwrap().0;
    for expected in ["200", "401"] {
        let mut shell = Command::new("sh");
        let command_line = format!("curl -s -o /dev/null -w '%{{http_code}}' {line}");
        shell.args(["-c", &command_line]);
        assert_eq!(ran(shell).await.1, expected, "{line}");
    }
    open.close().await.unwrap();
}

/// An institution's refusal is a failure, and standard error says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_call_is_a_failure() {
    let (stage, open) = open().await;
    let url = stage.tea.merchant.notice_url();
    let (output, printed) = ran(call(&stage, &place(&url, "T1"))).await;
    assert!(output.status.success(), "{printed}");
    let control = stage.blue.control();
    control.next_at(SandboxCall::Create, InstitutionFault::RefusesPayment, 1);
    let select = ["select", "--order-no", "T1", "--institution", BLUE.id];
    let select = [&select[..], &["--mode", "WEBVIEW"]].concat();
    let (output, printed) = ran(call(&stage, &select)).await;
    assert!(printed.contains("\"result\": \"REFUSED\""), "{printed}");
    assert_eq!(output.status.code(), Some(1));
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(why.contains("refused"), "{why}");
    open.close().await.unwrap();
}
