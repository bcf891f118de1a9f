//! `paymux reconcile` as an operator runs it: against a running gateway, and alone.

use std::path::Path;
use std::process::{Command, Output};

use paymux::command::demo::enrolment::{BLUE, receiver};
use paymux::command::demo::environment::{DemoEnvironment, WAIT_MAX, payment_of};
use paymux::domain::identifiers::Timestamp;
use paymux::domain::statement::COLUMNS;
use paymux::sandbox::{InstitutionFault, SandboxInstitution};
use serde_json::{Value, json};

async fn reconcile(stage: &DemoEnvironment, date: &str, more: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_paymux"));
    command.arg("reconcile").arg("--config").arg(&stage.config);
    command.args(["--institution", BLUE.id, "--date", date]);
    command.args(more);
    let asked = tokio::task::spawn_blocking(move || command.output().unwrap());
    let Output {
        status,
        stdout,
        stderr,
    } = asked.await.unwrap();
    let said = String::from_utf8(stdout).unwrap();
    let code = status.code();
    (
        code.unwrap(),
        format!("{said}{}", String::from_utf8_lossy(&stderr)),
    )
}

/// The day on which the institution took the money, and its line in a file.
fn movement(institution: &SandboxInstitution, number: &str) -> (String, String) {
    let book = institution.books();
    let payment = payment_of(&book, number).unwrap();
    let at = Timestamp::from_s(payment.paid_s.unwrap());
    let line = format!(
        "PAYMENT,{},{},{},12.30,CNY,{}",
        payment.terms.merchant_id,
        payment.terms.merchant_order_no,
        payment.institution_no,
        at.rfc3339()
    );
    (at.date(), line)
}

fn write(folder: &Path, date: &str, lines: &[&str], sum: &str) -> String {
    let path = folder.join("statement.csv");
    let (count, rows) = (lines.len(), lines.join("\n"));
    let text =
        format!("{COLUMNS}\n{rows}\nTOTAL,,,{sum},0.00,CNY,\nEND,bluebank,{date},{count},,,\n");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

async fn pay(stage: &DemoEnvironment, number: &str) {
    let mut order = stage.tea.order(number, "WEBVIEW", "12.30", "13800001234");
    order["institutionId"] = json!(BLUE.id);
    let answer = stage.tea.place(&order).await.unwrap();
    stage.payer.pay(answer.text("payUrl")).await.unwrap();
    let booked =
        |book: &paymux::sandbox::InstitutionLedger| payment_of(book, number)?.paid_s.map(drop);
    stage.blue.wait_for(booked, WAIT_MAX).await.unwrap();
}

/// A day that there is not is not understood; an institution that nobody configured is no refused
/// statement.
#[tokio::test(flavor = "multi_thread")]
async fn who_and_when_are_seen_to_first() {
    let stage = DemoEnvironment::start_on_free_ports("").await.unwrap();
    let (status, said) = reconcile(&stage, "2026-13-24", &[]).await;
    assert_eq!(status, 2, "{said}");
    assert!(said.contains("a day as yyyy-MM-dd"), "{said}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_paymux"));
    command.arg("reconcile").arg("--config").arg(&stage.config);
    command.args(["--institution", "nobank", "--date", "2026-11-24"]);
    let asked = tokio::task::spawn_blocking(move || command.output().unwrap());
    assert_eq!(asked.await.unwrap().status.code(), Some(4));
}

/// M7, L5: a payment whose callback was lost is found in the institution's statement, asked
/// about and repaired by the running gateway, and the merchant is told; then nothing differs, whoever
/// holds the store; and what differs is an exit status of 3, a refused statement one of 1.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_reconciles_with_a_gateway_and_without() {
    let stage = DemoEnvironment::set(crate::socket::ports::free(), "")
        .await
        .unwrap();
    let open = stage.open().await.unwrap();
    stage.blue.control().next(InstitutionFault::LostCallback, 1);
    pay(&stage, "T1").await;
    let (date, line) = movement(&stage.blue, "T1");
    assert!(
        stage
            .tea
            .merchant
            .inbox()
            .event("ORDER_PAID", "T1")
            .is_none()
    );

    let (status, said) = reconcile(&stage, &date, &["--json"]).await;
    assert_eq!(status, 0, "{said}");
    let told: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(told[0]["kind"], "not_done", "{said}");
    assert_eq!(told[0]["fate"], "repaired");
    assert_eq!(told[1]["told"], "reconciled");
    assert_eq!(
        (&told[1]["lines"], &told[1]["repaired"]),
        (&json!(1), &json!(1))
    );
    stage
        .tea
        .wait_for_notification("ORDER_PAID", "T1")
        .await
        .unwrap();
    open.close().await.unwrap();

    let (status, said) = reconcile(&stage, &date, &[]).await;
    assert_eq!(status, 0, "{said}");
    let summary = format!("bluebank {date}: 1 lines, payments 12.30 CNY; 1 movements of ours");
    assert!(said.contains(&summary), "{said}");

    let theirs = receiver(stage.tea.role, BLUE);
    let stray = format!(
        "PAYMENT,{theirs},STRAY-1,B-1,1.00,CNY,{}",
        &line[line.len() - 25..]
    );
    let folder = stage.certs();
    let file = write(&folder, &date, &[&line, &stray], "13.30");
    let (status, said) = reconcile(&stage, &date, &["--statement", &file]).await;
    assert_eq!(status, 3, "{said}");
    assert!(
        said.contains("unknown_line") && said.contains("STRAY-1"),
        "{said}"
    );
    assert!(said.contains("breaks: 1 new, 0 resolved"), "{said}");

    let file = write(&folder, &date, &[&line, &stray], "13.31");
    let (status, said) = reconcile(&stage, &date, &["--statement", &file]).await;
    assert_eq!(status, 1, "{said}");
    assert!(
        said.contains("refused, nothing was touched: cut_off"),
        "{said}"
    );
}

/// A statement that is a pipe, a folder or the gateway's own store keeps nobody: it is refused at once,
/// and the gateway goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_is_no_plain_file_keeps_nobody() {
    let stage = DemoEnvironment::set(crate::socket::ports::free(), "")
        .await
        .unwrap();
    let _open = stage.open().await.unwrap();
    pay(&stage, "T1").await;
    let folder = stage.config.parent().unwrap();
    let pipe = folder.join("statement");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    for (path, expected) in [
        (pipe.as_path(), "expected a plain file"),
        (folder, "expected a plain file"),
        (
            &folder.join("paymux.sqlite"),
            "expected another file than the store",
        ),
    ] {
        let more = ["--statement", path.to_str().unwrap()];
        let (code, said) = reconcile(&stage, "20260101", &more).await;
        assert!(code != 0 && said.contains(expected), "{said}");
    }
    pay(&stage, "T2").await;
}
