//! Reconciliation of the ledger with an institution's statement (M7): differences are found and
//! listed, what the institution confirms is repaired, and a statement alone moves nothing.

mod bad;
mod command;
mod statement_institution;

use paymux::domain::amount::{Amount, CNY};
use paymux::domain::attempt::AttemptState;
use paymux::domain::evidence::{
    Ambiguity, Evidence, EvidenceSource, EvidenceSubject, Finding, OriginalPayment, Reason, Receipt,
};
use paymux::domain::identifiers::{AttemptId, RefundOrderNo, RefundRequestNo};
use paymux::domain::institutions::{RefundKinds, RefundRules};
use paymux::domain::order::{Applied, Order, OrderState, RefundRequest};
use paymux::domain::refund::RefundState;
use paymux::domain::statement::{COLUMNS, DifferenceKind as Kind};
use paymux::flow::reconcile_statement::{DifferenceOutcome, ReconciliationResult};
use paymux::store::OrderKey;
use serde_json::{Value, json};

use crate::store::builders::{
    accepted, apply, at, done, draw, facts, institution, paid, place, request, start, terms,
};
use statement_institution::{DAY, ReconciliationTestbed, StatementAnswers};

/// A statement line, as CSV in a file or as JSON in a page.
#[derive(Debug, Clone)]
struct TestStatementLine {
    kind: &'static str,
    receiver: &'static str,
    number: String,
    no: &'static str,
    fen: i64,
    moment: &'static str,
}

const NOON: &str = "2027-01-15T16:00:20+08:00";

impl TestStatementLine {
    fn csv(&self) -> String {
        let (yuan, fen) = (self.fen / 100, self.fen % 100);
        let Self {
            kind,
            receiver,
            number,
            no,
            moment,
            ..
        } = self;
        format!("{kind},{receiver},{number},{no},{yuan}.{fen:02},CNY,{moment}")
    }

    fn json(&self) -> Value {
        let number = match self.kind {
            "PAYMENT" => "merchantOrderNo",
            _ => "merchantRefundNo",
        };
        json!({
        "kind": self.kind, number: self.number, "institutionNo": self.no, "currency": "CNY",
        "amount": format!("{}.{:02}", self.fen / 100, self.fen % 100), "moment": self.moment,
        })
    }
}

/// The payment of order `n` as the builders make it.
fn payment(n: u32) -> TestStatementLine {
    TestStatementLine {
        kind: "PAYMENT",
        receiver: "ACC-1",
        number: AttemptId::mint(at(1), draw(n)).to_string(),
        no: "H-0001",
        fen: 1_230,
        moment: NOON,
    }
}

fn refund(n: u32) -> TestStatementLine {
    TestStatementLine {
        kind: "REFUND",
        number: RefundOrderNo::mint(at(30), draw(n)).to_string(),
        no: "H-R-1",
        fen: 500,
        moment: "2027-01-15T16:00:40+08:00",
        ..payment(n)
    }
}

fn sums(lines: &[TestStatementLine]) -> [String; 2] {
    ["PAYMENT", "REFUND"].map(|kind| {
        let of_kind = lines.iter().filter(|line| line.kind == kind);
        let fen: i64 = of_kind.map(|line| line.fen).sum();
        format!("{}.{:02}", fen / 100, fen % 100)
    })
}

/// A complete file of these lines.
fn file(lines: &[TestStatementLine]) -> String {
    let mut text = format!("{COLUMNS}\n");
    for line in lines {
        text.push_str(&line.csv());
        text.push('\n');
    }
    let [payments, refunds] = sums(lines);
    let count = lines.len();
    text + &format!("TOTAL,,,{payments},{refunds},CNY,\nEND,harbour,{DAY},{count},,,\n")
}

/// The institution's statement has these lines.
fn has(house: &ReconciliationTestbed, lines: &[TestStatementLine]) {
    let mut answers = house.answers();
    answers.lines = lines.iter().map(TestStatementLine::json).collect();
    [answers.payments, answers.refunds] = sums(lines);
}

async fn pay(house: &ReconciliationTestbed, n: u32) -> Order {
    paid(&house.store, n, "harbour", terms(n)).await
}

/// Order `n` waits for its payer at the institution.
async fn wait(house: &ReconciliationTestbed, n: u32) -> Order {
    let first = Some(start(n, "harbour", house.store.epoch));
    let order = done(&house.store, place(n, first)).await;
    let accepted_change = apply(&order, 1, accepted(), EvidenceSource::Create, 5);
    done(&house.store, accepted_change).await
}

/// A refund of 5.00 of an order, with an unknown outcome.
async fn refund_unresolved(house: &ReconciliationTestbed, order: &Order, n: u32) -> Order {
    let refund_request = RefundRequest {
        no: RefundOrderNo::mint(at(30), draw(n)),
        number: Some(RefundRequestNo::parse(&format!("B{n}")).unwrap()),
        amount: Amount::from_minor(500, CNY).unwrap(),
        reason: None,
        notice_url: None,
        epoch: house.store.epoch,
    };
    let rules = RefundRules {
        kinds: RefundKinds::ALL,
        window: std::time::Duration::from_hours(24),
    };
    let cause = request(&format!("refunding-{n}-......"));
    let reserved = order
        .reserve_refund(refund_request, &rules, cause, at(30))
        .unwrap();
    let order = done(&house.store, reserved).await;
    learn(house, &order, Finding::Ambiguous(Ambiguity::NoAnswer)).await
}

async fn learn(house: &ReconciliationTestbed, order: &Order, finding: Finding) -> Order {
    let evidence = Evidence {
        institution: institution("harbour"),
        accounts: None,
        receiver: None,
        about: EvidenceSubject::Refund(order.refunds[0].no.clone()),
        by: EvidenceSource::Refund,
        sum: None,
        along: OriginalPayment::default(),
        asked_at: None,
        proves_arrival: false,
        finding,
    };
    match order.apply(&evidence, &facts(), at(40)) {
        Applied::Commit(change) => done(&house.store, *change).await,
        other @ (Applied::Repeat | Applied::ConfirmByQuery | Applied::Quarantine(_)) => {
            panic!("expected a change, not {other:?}")
        }
    }
}

fn back() -> Finding {
    Finding::Succeeded(Receipt {
        amount: Amount::from_minor(500, CNY).unwrap(),
        institution_no: Some("H-R-1".into()),
        paid_at: at(40),
        fee: None,
    })
}

/// The institution's reply to a query about a payment that was made.
fn paid_there(line: &TestStatementLine) -> Value {
    json!({
    "merchantId": "ACC-1", "merchantOrderNo": line.number, "orderAmount": "12.30",
    "currency": "CNY", "orderStatus": "PAID", "payOrderNo": "H-0001",
    "paymentDate": "20270115", "paymentTime": "160020",
    })
}

fn kinds(outcome: &ReconciliationResult) -> Vec<(Kind, DifferenceOutcome)> {
    let differences = outcome.recorded.iter();
    differences
        .map(|(one, outcome)| (one.kind, *outcome))
        .collect()
}

async fn find(house: &ReconciliationTestbed, line: &TestStatementLine) -> Order {
    let id = AttemptId::parse(&line.number).unwrap();
    let key = OrderKey::Attempt(institution("harbour"), id);
    house.store.orders.order(&key).await.unwrap().unwrap()
}

/// M7, L5: equal books have no differences, as a file and page by page over a call, and the
/// reconciliation is in the audit log.
#[tokio::test]
async fn equal_books_have_no_differences() {
    let house = ReconciliationTestbed::new();
    for n in 1..=5 {
        pay(&house, n).await;
    }
    let order = find(&house, &payment(5)).await;
    let order = refund_unresolved(&house, &order, 6).await;
    learn(&house, &order, back()).await;
    let mut lines: Vec<TestStatementLine> = (1..=5).map(payment).collect();
    lines.push(refund(6));
    let by_file = house.by_file(&file(&lines)).await.unwrap();
    has(&house, &lines);
    assert_eq!(house.receivers().await.len(), 1);
    let by_call = house.by_call().await.unwrap();
    for outcome in [by_file, by_call] {
        assert_eq!(outcome.recorded, []);
        assert_eq!((outcome.totals.lines, outcome.ours), (6, 6));
        let text = "6 lines, payments 61.50 CNY, refunds 5.00 CNY";
        assert_eq!(outcome.totals.text(), text);
    }
    let pages = ["0", "2", "4"].map(|after| ("/v1/statements".to_owned(), after.to_owned()));
    assert_eq!(
        house.answers().requests,
        pages,
        "page by page, and nothing else"
    );
    let record = "audit WHERE action = 'statement.reconcile' AND actor = 'local:uid=7'
        AND object = 'harbour 20270115' AND result LIKE 'done lines=6 differences=0%'";
    assert_eq!(house.count(record), 2);
}

/// M7: each difference is listed with its kind and becomes one break with an owner, however often
/// the day is reconciled; one that disappears is resolved, one that comes back is open again.
#[tokio::test]
async fn each_difference_is_one_break() {
    let house = ReconciliationTestbed::new();
    for n in 1..=6 {
        pay(&house, n).await;
    }
    let other = |n, change: fn(&mut TestStatementLine)| {
        let mut line = payment(n);
        change(&mut line);
        line
    };
    let lines = [
        payment(1),
        payment(1),
        other(2, |line| line.fen = 1_231),
        other(3, |line| line.receiver = "ACC-2"),
        other(4, |line| line.no = "H-0002"),
        other(5, |line| line.moment = "2027-01-16T00:00:00+08:00"),
        other(7, |line| line.number = "SOMEBODY-ELSES-1".to_owned()),
        payment(8),
    ];
    let expected = [
        Kind::DoubledLine,
        Kind::Sum,
        Kind::Receiver,
        Kind::InstitutionNo,
        Kind::LineOfAnotherDay,
        Kind::UnknownLine,
        Kind::UnknownLine,
        Kind::Missing,
    ]
    .map(|kind| (kind, DifferenceOutcome::Break));
    let first = house.by_file(&file(&lines)).await.unwrap();
    assert_eq!(kinds(&first), expected);
    assert_eq!((first.raised, first.resolved), (8, 0));
    let breaks = house.breaks().await;
    assert_eq!(breaks.len(), 8);
    assert!(
        breaks
            .iter()
            .all(|one| one.is_open && one.owner == "local:uid=7")
    );
    let sum = &breaks[1].difference;
    assert_eq!((&*sum.expected, &*sum.found), ("12.30 CNY", "12.31 CNY"));

    let again = house.by_file(&file(&lines)).await.unwrap();
    assert_eq!(kinds(&again), expected);
    assert_eq!((again.raised, again.resolved), (0, 0));
    assert_eq!(house.breaks().await.len(), 8, "no second break");

    let right: Vec<TestStatementLine> = (1..=6).map(payment).collect();
    let put_right = house.by_file(&file(&right)).await.unwrap();
    assert_eq!((put_right.recorded.len(), put_right.resolved), (0, 8));
    assert!(house.breaks().await.iter().all(|one| !one.is_open));

    let worse = house.by_file(&file(&right[1..])).await.unwrap();
    assert_eq!(kinds(&worse), [(Kind::Missing, DifferenceOutcome::Break)]);
    assert_eq!(worse.raised, 1);
    assert!(
        house.answers().requests.is_empty(),
        "there is nothing to query"
    );
    assert_eq!(house.count("audit WHERE action = 'break.open'"), 2);
}

/// M7, V4, M2: a payment recorded as waiting, one recorded as refused and a refund of unknown
/// outcome are queried; the institution's replies move them, with events and postings, and no break
/// is left.
#[tokio::test]
async fn what_the_institution_confirms_is_repaired() {
    let house = ReconciliationTestbed::new();
    wait(&house, 1).await;
    let waiting = wait(&house, 2).await;
    let refused = Finding::Refused(Reason::from_code("NO"));
    done(
        &house.store,
        apply(&waiting, 1, refused, EvidenceSource::Query, 6),
    )
    .await;
    let order = pay(&house, 3).await;
    refund_unresolved(&house, &order, 4).await;
    let lines = [payment(1), payment(2), payment(3), refund(4)];
    for line in &lines[..2] {
        house
            .answers()
            .known
            .insert(line.number.clone(), paid_there(line));
    }
    let refunded = json!({
    "merchantId": "ACC-1", "merchantRefundNo": lines[3].number, "refundAmount": "5.00",
    "currency": "CNY", "result": "ACCEPTED", "refundStatus": "SUCCEEDED",
    "refundOrderNo": "H-R-1", "refundTime": "2027-01-15T16:00:40+08:00",
    });
    house
        .answers()
        .known
        .insert(lines[3].number.clone(), refunded);

    let outcome = house.by_file(&file(&lines)).await.unwrap();
    let repaired = (Kind::NotDone, DifferenceOutcome::Repaired);
    assert_eq!(kinds(&outcome), [repaired; 3]);
    assert_eq!((outcome.remaining(), outcome.raised), (0, 0));
    assert_eq!(house.breaks().await, []);
    let states = [&lines[0], &lines[1], &lines[2]];
    for (line, late) in states.into_iter().zip([false, true, false]) {
        let order = find(&house, line).await;
        assert_eq!(order.state, OrderState::Paid);
        assert_eq!(order.attempts[0].late_success, late);
    }
    let order = find(&house, &lines[2]).await;
    assert_eq!(order.refunds[0].state, RefundState::Succeeded);
    assert_eq!(house.count("journal WHERE kind = 'ORDER_PAID'"), 3);

    let again = house.by_file(&file(&lines)).await.unwrap();
    assert_eq!(again.recorded, [], "and then the books are equal");
}

/// V4, V1: whatever a statement says, nothing moves that the institution does not confirm when
/// queried: not where its reply differs, is missing, or is signed by another key.
#[tokio::test]
async fn a_statement_alone_moves_nothing() {
    let house = ReconciliationTestbed::new();
    let before = wait(&house, 1).await;
    let line = payment(1);
    let open = json!({
    "merchantId": "ACC-1", "merchantOrderNo": line.number, "orderAmount": "12.30",
    "currency": "CNY", "orderStatus": "OPEN",
    });
    let mut another_sum = paid_there(&line);
    another_sum["orderAmount"] = "12.31".into();
    for (reply, forges) in [
        (Some(open), false),
        (None, false),
        (Some(another_sum), false),
        (Some(paid_there(&line)), true),
    ] {
        let known = reply.into_iter().map(|reply| (line.number.clone(), reply));
        *house.answers() = StatementAnswers {
            known: known.collect(),
            forges,
            ..StatementAnswers::default()
        };
        let outcome = house
            .by_file(&file(std::slice::from_ref(&line)))
            .await
            .unwrap();
        assert_eq!(kinds(&outcome), [(Kind::NotDone, DifferenceOutcome::Break)]);
        let query = ("/v1/orders/query".to_owned(), line.number.clone());
        assert_eq!(house.answers().requests, [query]);
        let after = find(&house, &line).await;
        assert_eq!(after.attempts[0].state, AttemptState::Accepted);
        assert_eq!(after.version, before.version);
    }
    assert_eq!(house.breaks().await.len(), 1);
}

/// M7: a repair does not hide another difference of the same line.
#[tokio::test]
async fn a_repair_hides_no_other_difference() {
    let house = ReconciliationTestbed::new();
    wait(&house, 1).await;
    let mut line = payment(1);
    line.fen = 1_231;
    house
        .answers()
        .known
        .insert(line.number.clone(), paid_there(&line));
    let outcome = house.by_file(&file(&[line])).await.unwrap();
    let expected = [
        (Kind::NotDone, DifferenceOutcome::Repaired),
        (Kind::Sum, DifferenceOutcome::Break),
    ];
    assert_eq!(kinds(&outcome), expected);
}
