//! `paymux reconcile` as staff run it: against a running gateway, and alone.

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
    let run = tokio::task::spawn_blocking(move || command.output().unwrap());
    let Output {
        status,
        stdout,
        stderr,
    } = run.await.unwrap();
    let printed = String::from_utf8(stdout).unwrap();
    let code = status.code();
    (
        code.unwrap(),
        format!("{printed}{}", String::from_utf8_lossy(&stderr)),
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
    // Straight on: a view of our page would have the institution asked, and nothing left to repair.
    let onward = format!("{}/go", answer.text("payUrl"));
    stage.payer.pay(&onward).await.unwrap();
    let booked =
        |book: &paymux::sandbox::InstitutionLedger| payment_of(book, number)?.paid_s.map(drop);
    stage.blue.wait_for(booked, WAIT_MAX).await.unwrap();
}

/// An invalid date is a usage error; an unknown institution has another exit status than a refused
/// statement.
#[tokio::test(flavor = "multi_thread")]
async fn date_and_institution_are_checked_first() {
    let stage = DemoEnvironment::start_on_free_ports("").await.unwrap();
    let (status, printed) = reconcile(&stage, "2026-13-24", &[]).await;
    assert_eq!(status, 2, "{printed}");
    assert!(printed.contains("a day as yyyy-MM-dd"), "{printed}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_paymux"));
    command.arg("reconcile").arg("--config").arg(&stage.config);
    command.args(["--institution", "nobank", "--date", "2026-11-24"]);
    let run = tokio::task::spawn_blocking(move || command.output().unwrap());
    assert_eq!(run.await.unwrap().status.code(), Some(4));
}

/// M7, L5: a payment whose callback was lost is found in the institution's statement, queried and
/// repaired by the running gateway, and the merchant is notified; then nothing differs, with or
/// without a gateway; differences have the exit status 3, a refused statement 1.
#[tokio::test(flavor = "multi_thread")]
async fn staff_reconcile_with_a_gateway_and_without() {
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

    let (status, printed) = reconcile(&stage, &date, &["--json"]).await;
    assert_eq!(status, 0, "{printed}");
    let outcome_lines: Vec<Value> = printed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(outcome_lines[0]["kind"], "not_done", "{printed}");
    assert_eq!(outcome_lines[0]["outcome"], "repaired");
    assert_eq!(outcome_lines[1]["message"], "reconciled");
    assert_eq!(
        (&outcome_lines[1]["lines"], &outcome_lines[1]["repaired"]),
        (&json!(1), &json!(1))
    );
    stage
        .tea
        .wait_for_notification("ORDER_PAID", "T1")
        .await
        .unwrap();
    open.close().await.unwrap();

    let (status, printed) = reconcile(&stage, &date, &[]).await;
    assert_eq!(status, 0, "{printed}");
    let summary =
        format!("bluebank {date}: 1 lines, payments 12.30 CNY; 1 movements in our ledger");
    assert!(printed.contains(&summary), "{printed}");

    let theirs = receiver(stage.tea.role, BLUE);
    let stray = format!(
        "PAYMENT,{theirs},STRAY-1,B-1,1.00,CNY,{}",
        &line[line.len() - 25..]
    );
    let folder = stage.certs();
    let file = write(&folder, &date, &[&line, &stray], "13.30");
    let (status, printed) = reconcile(&stage, &date, &["--statement", &file]).await;
    assert_eq!(status, 3, "{printed}");
    assert!(
        printed.contains("unknown_line") && printed.contains("STRAY-1"),
        "{printed}"
    );
    assert!(printed.contains("breaks: 1 new, 0 resolved"), "{printed}");

    let file = write(&folder, &date, &[&line, &stray], "13.31");
    let (status, printed) = reconcile(&stage, &date, &["--statement", &file]).await;
    assert_eq!(status, 1, "{printed}");
    assert!(
        printed.contains("refused, the ledger is unchanged: cut_off"),
        "{printed}"
    );
}

/// A statement that is a pipe, a directory or the gateway's own store blocks nothing: it is refused
/// at once, and the gateway goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_is_no_plain_file_blocks_nothing() {
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
            "expected a file other than this gateway's store",
        ),
    ] {
        let more = ["--statement", path.to_str().unwrap()];
        let (code, printed) = reconcile(&stage, "20260101", &more).await;
        assert!(code != 0 && printed.contains(expected), "{printed}");
    }
    pay(&stage, "T2").await;
}
