//! Manual review of refunds and breaks, by staff with the program.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use paymux::command::demo::enrolment::BLUE;
use paymux::command::demo::environment::{DemoEnvironment, WAIT_MAX};
use paymux::config;
use paymux::crypto::digest::sha256;
use paymux::domain::identifiers::hex;
use paymux::domain::statement::COLUMNS;
use paymux::sandbox::{InstitutionFault, NotificationInbox, SandboxCall};
use rusqlite::Connection;
use serde_json::json;

use super::{PAYER, operations, order, placed, queried};

/// Two staff members, whose keys the environment makes.
const OPERATORS: &str = r#"
[[staff]]
id = "anna"

[[staff.keys]]
id = "anna-1"
algorithm = "ed25519"
file = "certs/anna-1.pub"
not_before = 2026-01-01
not_after = 2035-12-31

[[staff]]
id = "ben"

[[staff.keys]]
id = "ben-1"
algorithm = "ed25519"
file = "certs/ben-1.pub"
not_before = 2026-01-01
not_after = 2035-12-31
"#;

/// Runs the program with these arguments; its exit status and what it prints.
async fn paymux(words: &[&str], input: &str) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_paymux"));
    command.args(words).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let input = input.to_owned();
    let run = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        // A program that refuses need not read.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    });
    let output = run.await.unwrap();
    let printed = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8(printed).unwrap(),
    )
}

/// Opens the store directly, without the gateway.
fn file(stage: &DemoEnvironment) -> Connection {
    let url = config::store_url(&stage.config).unwrap();
    let store = Connection::open(url.strip_prefix("sqlite:").unwrap()).unwrap();
    store.busy_timeout(WAIT_MAX).unwrap();
    store
}

fn text(store: &Connection, sql: &str) -> String {
    store.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// A paid order with a refund of 5.00 that its institution answers with 500, and whose query
/// schedule is exhausted, as far as the store knows. Returns the refund's number.
async fn awaiting_manual_review(stage: &DemoEnvironment) -> String {
    let open = stage.open().await.unwrap();
    let shop = &stage.tea;
    let answer = placed(shop, &order(shop, "T1", "12.30", BLUE.id)).await;
    stage.payer.pay(answer.text("payUrl")).await.unwrap();
    shop.wait_for_notification("ORDER_PAID", "T1")
        .await
        .unwrap();
    let control = stage.blue.control();
    control.next_at(SandboxCall::Refund, InstitutionFault::ServerError, 1_000);
    control.next_at(
        SandboxCall::RefundQuery,
        InstitutionFault::ServerError,
        1_000,
    );
    let request = json!({
    "merchantId": shop.role.id,
    "merchantOrderNo": "T1",
    "orderDate": order(shop, "T1", "12.30", BLUE.id)["orderDate"],
    "mobileNo": PAYER,
    "refundAmount": "5.00",
    "merchantRefundNo": "B1",
    });
    let refund = shop.client.post("/v1/refunds", &request).await.unwrap();
    assert_eq!(refund.status, 202, "{}", refund.json);
    open.close().await.unwrap();
    let waited = "UPDATE refunds SET state = 'MANUAL'";
    assert_eq!(file(stage).execute(waited, []).unwrap(), 1);
    refund.text("refundOrderNo").to_owned()
}

/// A decision of this staff member, as `paymux refunds sign` prints it.
async fn signed(
    stage: &DemoEnvironment,
    who: &str,
    no: &str,
    (found, statement): (&str, &Path),
) -> String {
    let key = stage.certs().join(format!("{who}-1.key"));
    let id = format!("{who}-1");
    let (key, statement) = (key.to_str().unwrap(), statement.to_str().unwrap());
    let words = [
        "refunds",
        "sign",
        "--merchant",
        "M1001",
        "--refund",
        no,
        found,
        "--statement",
        statement,
        "--key",
        key,
        "--key-id",
        &id,
    ];
    let (status, printed) = paymux(&words, "").await;
    assert_eq!(status, 0, "{printed}");
    printed
}

/// What `paymux refunds decide` prints for a decision, with the statement it is about.
async fn decide(stage: &DemoEnvironment, decision: &str, statement: &Path) -> (i32, String) {
    let (config, statement) = (stage.config.to_str().unwrap(), statement.to_str().unwrap());
    let words = [
        "refunds",
        "decide",
        "--statement",
        statement,
        "--config",
        config,
    ];
    paymux(&words, decision).await
}

/// What `paymux refunds manual` lists.
async fn manual(stage: &DemoEnvironment) -> String {
    let words = [
        "refunds",
        "manual",
        "--config",
        stage.config.to_str().unwrap(),
    ];
    let (status, listed) = paymux(&words, "").await;
    assert_eq!(status, 0, "{listed}");
    listed
}

fn statement(stage: &DemoEnvironment, name: &str, text: &str) -> PathBuf {
    let path = stage.certs().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Section 5, L5, N1: two staff members list, sign and submit with the program; the first decision
/// is recorded, the second ends the refund, and the merchant is notified. The audit entry names
/// both; the statement is archived, sealed.
#[tokio::test(flavor = "multi_thread")]
async fn two_staff_members_end_a_refund_with_the_program() {
    let stage = DemoEnvironment::set(crate::socket::ports::free(), OPERATORS)
        .await
        .unwrap();
    let no = awaiting_manual_review(&stage).await;
    let open = stage.open().await.unwrap();
    let shown = operations(&stage, "/metrics").await;
    assert!(shown.contains("paymux_refunds_manual 1\n"));
    let listed = manual(&stage).await;
    let line = format!("{no} 5.00 CNY institution=bluebank merchant=M1001");
    assert!(listed.starts_with(&line), "{listed}");
    let end = "no decision yet\nrefunds in manual review: 1\n";
    assert!(listed.ends_with(end), "{listed}");

    let message = statement(&stage, "letter", "5.00 returned on request");
    let anna = signed(&stage, "anna", &no, ("--succeeded", &message)).await;
    let (status, printed) = decide(&stage, &anna, &message).await;
    assert_eq!(status, 0);
    assert!(
        printed.starts_with("stored; a second staff member"),
        "{printed}"
    );
    let digest = hex(&sha256(&std::fs::read(&message).unwrap()));
    let found = format!("anna found SUCCEEDED on the statement {digest}\n");
    let listed = manual(&stage).await;
    assert!(listed.contains(&found), "{listed}");

    let ben = signed(&stage, "ben", &no, ("--succeeded", &message)).await;
    let ended = decide(&stage, &ben, &message).await;
    assert_eq!(ended, (0, "the refund is SUCCEEDED\n".to_owned()));
    let find = |inbox: &NotificationInbox| inbox.refund_event("REFUND_SUCCEEDED", "B1").cloned();
    let notification = stage.tea.merchant.wait_for(find, WAIT_MAX).await.unwrap();
    assert_eq!(notification.fields["refundOrderNo"], no.as_str());
    let seen = queried(&stage.tea, "T1").await;
    assert_eq!(seen.text("orderRefundStatus"), "PARTIAL");
    let shown = operations(&stage, "/metrics").await;
    assert!(shown.contains("paymux_refunds_manual 0\n"));
    open.close().await.unwrap();

    let store = file(&stage);
    let by = "SELECT actor FROM audit WHERE actor LIKE 'staff:%,%'";
    assert_eq!(text(&store, by), "staff:anna,ben");
    let archived = "SELECT sealed FROM inbox ORDER BY at DESC LIMIT 1";
    let archived: Vec<u8> = store.query_row(archived, [], |row| row.get(0)).unwrap();
    let is_plain = archived.windows(8).any(|part| part == b"returned");
    assert!(!is_plain, "archived in plain text");
}

/// Section 5: a decision on another statement, an altered one, a malformed one and a second one of
/// the same staff member change nothing, and the program says why.
#[tokio::test(flavor = "multi_thread")]
async fn a_decision_that_does_not_count_is_refused_by_the_program() {
    let stage = DemoEnvironment::set(crate::socket::ports::free(), OPERATORS)
        .await
        .unwrap();
    let no = awaiting_manual_review(&stage).await;
    let open = stage.open().await.unwrap();
    let message = statement(&stage, "letter", "5.00 returned on request");
    let other = statement(&stage, "other", "something else");
    let anna = signed(&stage, "anna", &no, ("--failed", &message)).await;
    let altered = anna.replace("false", "true");
    for (decision, of, why) in [
        (&*anna, &other, "expected the statement that was signed for"),
        (&altered, &message, "by a key of an enrolled [[staff]]"),
        ("{}", &message, "expected what paymux refunds sign printed"),
        (&anna, &stage.certs(), "expected a plain file"),
    ] {
        let (status, printed) = decide(&stage, decision, of).await;
        assert!(status == 1 && printed.contains(why), "{printed}");
    }
    let listed = manual(&stage).await;
    assert!(listed.contains("no decision yet"), "{listed}");
    assert_eq!(decide(&stage, &anna, &message).await.0, 0);
    let (status, printed) = decide(&stage, &anna, &message).await;
    let is_refused = printed.starts_with("refused: ");
    assert!(status == 1 && is_refused, "{printed}");
    let left = text(&file(&stage), "SELECT state FROM refunds");
    assert_eq!(left, "MANUAL");
    open.close().await.unwrap();
}

/// M7, L5: a break is listed, assigned and closed by its number, each with an audit entry; an
/// unknown number or malformed arguments change nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_break_has_an_owner_and_an_end() {
    let stage = DemoEnvironment::set(crate::socket::ports::free(), "")
        .await
        .unwrap();
    let open = stage.open().await.unwrap();
    let path = stage.certs().join("statement.csv");
    let stray = "PAYMENT,TEAHOUSE,STRAY-1,B-1,1.00,CNY,2026-03-04T10:00:00+08:00";
    let end = "TOTAL,,,1.00,0.00,CNY,\nEND,bluebank,20260304,1,,,";
    std::fs::write(&path, format!("{COLUMNS}\n{stray}\n{end}\n")).unwrap();
    let config = stage.config.to_str().unwrap();
    let words = [
        "reconcile",
        "--institution",
        BLUE.id,
        "--date",
        "2026-03-04",
        "--statement",
        path.to_str().unwrap(),
        "--config",
        config,
    ];
    let (status, printed) = paymux(&words, "").await;
    assert_eq!(status, 3, "{printed}");

    let uid = std::fs::metadata("/proc/self").unwrap().uid();
    let ask = async |words: &[&str]| {
        let words = [&["breaks", "--config", config], words].concat();
        paymux(&words, "").await
    };
    let (status, listed) = ask(&["list"]).await;
    assert_eq!(status, 0, "{listed}");
    let line = format!(
        "1 unknown_line PAYMENT STRAY-1 institution=bluebank day=20260304 owner=local:uid={uid} "
    );
    assert!(
        listed.starts_with(&line) && listed.ends_with("\nopen breaks: 1\n"),
        "{listed}"
    );
    assert!(
        operations(&stage, "/metrics")
            .await
            .contains("paymux_reconciliation_breaks_open 1\n")
    );

    assert_eq!(
        ask(&["assign", "1", "night desk"]).await,
        (0, "done; recorded in the audit log\n".to_owned())
    );
    assert!(ask(&["list"]).await.1.contains(" owner=night desk "));
    for (expected, wrong) in [
        (4, ["assign", "2", "anna"]),
        (1, ["assign", "1", "a\nb"]),
        (1, ["assign", "1", ""]),
    ] {
        let (status, printed) = ask(&wrong).await;
        assert!(
            status == expected && printed.starts_with("refused: expected "),
            "{printed}"
        );
    }
    let because = ["resolve", "1", "--because", "a test payment of theirs"];
    assert_eq!(ask(&because).await.0, 0);
    assert_eq!(ask(&because).await.0, 4, "it is closed already");
    assert_eq!(ask(&["list"]).await.1, "open breaks: 0\n");
    open.close().await.unwrap();

    let sql = "SELECT GROUP_CONCAT(actor || ' ' || action || ' ' || object || ' ' || result, '; ')
        FROM (SELECT * FROM audit WHERE object LIKE 'break %' ORDER BY seq)";
    let expected = format!(
        "local:uid={uid} break.assign break 1 owner=night desk; \
         local:uid={uid} break.resolve break 1 because=a test payment of theirs"
    );
    assert_eq!(text(&file(&stage), sql), expected);
}
