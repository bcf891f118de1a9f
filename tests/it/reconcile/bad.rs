//! Statements that are refused as a whole, with a reason, before any query or write; and how much
//! of one is read at a time.

use std::io::{BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use paymux::domain::statement::COLUMNS;
use paymux::flow::reconcile_statement::{
    FromFile, NotReconciled, ReconciliationResult, StatementSource,
};
use serde_json::{Value, json};

use super::statement_institution::{DAY, ReconciliationTestbed};
use super::{TestStatementLine, file, has, paid_there, pay, payment, refund, wait};

/// One paid, one waiting that the institution would confirm, one unknown: all differences.
async fn house() -> (ReconciliationTestbed, Vec<TestStatementLine>) {
    let house = ReconciliationTestbed::new();
    pay(&house, 1).await;
    wait(&house, 2).await;
    let lines = vec![payment(1), payment(2), payment(9), refund(8)];
    let known = (lines[1].number.clone(), paid_there(&lines[1]));
    house.answers().known.extend([known]);
    (house, lines)
}

fn reason(outcome: Result<ReconciliationResult, NotReconciled>) -> &'static str {
    match outcome {
        Err(NotReconciled::Unusable(why)) => why.reason,
        other => panic!("expected a refusal, not {other:?}"),
    }
}

/// There was no query about a payment or refund and no break, and the audit log has this many
/// refusals.
async fn untouched(house: &ReconciliationTestbed, refusals: u32) {
    let requests = house.answers().requests.clone();
    assert!(
        requests.iter().all(|(path, _)| path == "/v1/statements"),
        "{requests:?}"
    );
    assert_eq!(house.breaks().await, []);
    assert_eq!(house.count("attempts WHERE state = 'ACCEPTED'"), 1);
    let record = "audit WHERE action = 'statement.reconcile' AND result LIKE 'refused reason=%'";
    assert_eq!(house.count(record), refusals);
}

/// M7: a truncated file, wherever it ends, is refused as a whole.
#[tokio::test]
async fn a_truncated_file_changes_nothing() {
    let (house, lines) = house().await;
    let whole = file(&lines);
    let mut refusals = 0;
    for length in (COLUMNS.len() + 1..whole.len())
        .step_by(7)
        .chain([whole.len() - 1])
    {
        let outcome = house.by_file(&whole[..length]).await;
        assert_eq!(reason(outcome), "cut_off", "after {length} bytes");
        refusals += 1;
    }
    untouched(&house, refusals).await;
    let fewer = whole.replace(&format!("{}\n", lines[0].csv()), "");
    assert_eq!(reason(house.by_file(&fewer).await), "cut_off");
    untouched(&house, refusals + 1).await;
    assert!(house.by_file(&whole).await.is_ok());
}

/// M7: a file of another institution or day, of a future day, or that cannot be parsed is refused
/// as a whole, with its reason.
#[tokio::test]
async fn a_file_of_something_else_changes_nothing() {
    let (house, lines) = house().await;
    let whole = file(&lines);
    let long = format!("{COLUMNS}\n{}\n", "9".repeat(2_000));
    let cases = [
        (
            whole.replace("END,harbour", "END,lagoon"),
            "another_institution",
        ),
        (
            whole.replace("harbour,20270115", "harbour,20270114"),
            "another_day",
        ),
        (whole.replace(",5.00,CNY,\n", ",5.01,CNY,\n"), "cut_off"),
        (whole.replace("TOTAL,,,36.90", "TOTAL,,,36.91"), "cut_off"),
        (
            whole.replace(&format!("{DAY},4"), &format!("{DAY},5")),
            "cut_off",
        ),
        (whole.replace("kind,receiver", "art,konto"), "header_wrong"),
        (String::new(), "header_wrong"),
        (
            whole.replace("PAYMENT,ACC-1", "PAID,ACC-1"),
            "line_unreadable",
        ),
        (whole.replace("12.30", "12.3O"), "line_unreadable"),
        (format!("{whole}\n"), "line_unreadable"),
        (format!("{whole}{}\n", lines[0].csv()), "line_unreadable"),
        (long, "line_unreadable"),
    ];
    let count = u32::try_from(cases.len()).unwrap();
    for (text, expected) in cases {
        assert_eq!(reason(house.by_file(&text).await), expected, "{text}");
    }
    let of = house.of("20270118");
    let to_come = whole.replace(DAY, "20270118");
    let mut source = FromFile::new(to_come.as_bytes(), &of);
    assert_eq!(reason(house.with(&of, &mut source).await), "day_to_come");
    untouched(&house, count + 1).await;
}

/// Changes a page that begins after this line.
type PageEdit = fn(u64, &mut Value);

/// M7, V3: a page that is not the institution's, not the requested one, or does not fit the others
/// is refused with the whole statement.
#[tokio::test]
async fn a_bad_page_changes_nothing() {
    let (house, lines) = house().await;
    has(&house, &lines);
    let cases: [(PageEdit, &str); 11] = [
        (|_, page| page["date"] = json!("20270114"), "another_day"),
        (
            |_, page| page["merchantId"] = json!("ACC-2"),
            "another_receiver",
        ),
        (|_, page| page["firstLine"] = json!(7), "page_unreadable"),
        (|_, page| page["nextLine"] = json!(9), "page_unreadable"),
        (|_, page| page["lines"] = json!("none"), "page_unreadable"),
        (
            |_, page| page["totalPayments"] = json!({ "CNY": "x" }),
            "page_unreadable",
        ),
        (
            |_, page| page["lines"][0]["amount"] = json!("-1"),
            "line_unreadable",
        ),
        (|_, page| page["nextLine"] = json!(null), "cut_off"),
        (|_, page| page["totalLines"] = json!(5), "cut_off"),
        (
            |after, page| page["totalLines"] = json!(4 + after),
            "changed_meanwhile",
        ),
        (
            |_, page| *page = json!({ "code": "statement_not_ready" }),
            "no_statement",
        ),
    ];
    for (spoil, expected) in cases {
        house.answers().spoil = Some(spoil);
        assert_eq!(reason(house.by_call().await), expected);
    }
    house.answers().spoil = None;
    house.answers().forges = true;
    assert_eq!(reason(house.by_call().await), "unproven");
    untouched(&house, 12).await;
    house.answers().forges = false;
    assert_eq!(house.by_call().await.unwrap().recorded.len(), 3);
}

/// Endless text, and how much of it was read.
struct EndlessReader {
    line: Vec<u8>,
    at: usize,
    taken: Arc<AtomicUsize>,
}

impl Read for EndlessReader {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        for byte in into.iter_mut() {
            *byte = self.line[self.at % self.line.len()];
            self.at += 1;
        }
        self.taken.fetch_add(into.len(), Ordering::SeqCst);
        Ok(into.len())
    }
}

/// M7: a file is read only as far as it is compared: an endless one still yields its first lines,
/// and no more is read than they take.
#[tokio::test]
async fn a_file_is_streamed() {
    let house = ReconciliationTestbed::new();
    let of = house.of(DAY);
    let taken = Arc::new(AtomicUsize::new(0));
    let endless = EndlessReader {
        line: format!("{}\n", payment(1).csv()).into_bytes(),
        at: 0,
        taken: Arc::clone(&taken),
    };
    let begun = format!("{COLUMNS}\n");
    let input = BufReader::new(begun.as_bytes().chain(endless));
    let mut source = FromFile::new(input, &of);
    let lines = source.next().await.unwrap().unwrap();
    assert_eq!(lines.len(), 1_000);
    assert!(taken.load(Ordering::SeqCst) < 128 * 1_024, "{taken:?}");
}
