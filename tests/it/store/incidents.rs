//! What people must look at: refunds that went through after they had failed, and refunds that no
//! institution answers for.

use paymux::domain::evidence::{Finding, Reason};
use paymux::domain::identifiers::OperatorId;
use paymux::domain::refund::Verdict;
use paymux::domain::statement::{Day, Difference, DifferenceKind, Movement};
use paymux::store::ledger::{By, NOBODY_YET, Reconciled};

use super::builders::{at, done, institution, merchant, paid, terms};
use super::embedded::Embedded;
use super::refunds::{refunded, reserve, weigh};

fn by(second: i64) -> By {
    By {
        who: "operator:uid=7".into(),
        at: at(second),
    }
}

/// R9, M7, L5: a refund that goes through after it had failed is an incident from the same commit on;
/// a reconciliation of that day, which knows nothing of it, does not end it, a person does.
#[tokio::test]
async fn a_late_refund_is_an_incident_until_somebody_ends_it() {
    let stores = Embedded::new();
    let (store, ledger) = stores.open_both();
    let order = paid(&*store, 1, "harbour", terms(1)).await;
    let order = done(&*store, reserve(&*store, &order, 1, "B1", 500)).await;
    let failed = Finding::Refused(Reason::from_code("REFUSED"));
    let order = done(&*store, weigh(&order, failed)).await;
    assert_eq!(ledger.open_incidents(10).await.unwrap(), (0, Vec::new()));
    let order = done(&*store, refunded(&order, 500)).await;

    let (count, shown) = ledger.open_incidents(10).await.unwrap();
    let incident = shown.first().unwrap();
    assert_eq!((count, shown.len()), (1, 1));
    let expected = Difference {
        kind: DifferenceKind::LateRefund,
        movement: Movement::Refund,
        number: order.refunds[0].no.as_str().into(),
        expected: "FAILED".into(),
        found: "SUCCEEDED 5.00 CNY, of it beyond what was left 0".into(),
    };
    assert_eq!(incident.difference, expected);
    assert_eq!(incident.institution, institution("harbour"));
    assert_eq!((&*incident.owner, incident.is_open), (NOBODY_YET, true));
    assert_eq!((incident.at, &*incident.day), (at(40), &*at(40).date()));

    let of = Reconciled {
        institution: institution("harbour"),
        day: Day::parse(&at(40).date()).unwrap(),
        by: "operator:uid=7".into(),
        at: at(90_000),
    };
    assert_eq!(ledger.conclude(&of, "lines=0".into()).await, Ok(0));
    assert_eq!(ledger.open_incidents(0).await.unwrap(), (1, Vec::new()));
    let id = incident.id;
    assert_eq!(ledger.hand_over(id, "anna", &by(90_001)).await, Ok(true));
    let (_, shown) = ledger.open_incidents(10).await.unwrap();
    assert_eq!(&*shown[0].owner, "anna");
    assert_eq!(
        ledger.resolve(id, "booked by hand", &by(90_002)).await,
        Ok(true)
    );
    for second in [90_003, 90_004] {
        assert_eq!(ledger.resolve(id, "again", &by(second)).await, Ok(false));
        assert_eq!(ledger.hand_over(id, "ben", &by(second)).await, Ok(false));
    }
    assert_eq!(ledger.open_incidents(10).await.unwrap(), (0, Vec::new()));
}

/// Section 5: of the refunds that are left to people all are counted, as many shown as were asked for,
/// with what an operator found, and none that is not.
#[tokio::test]
async fn refunds_that_are_left_to_people_are_listed() {
    let stores = Embedded::new();
    let (store, ledger) = stores.open_both();
    let mut numbers = Vec::new();
    for n in 1..=4 {
        let order = paid(&*store, n, "harbour", terms(n)).await;
        let order = done(&*store, reserve(&*store, &order, n, &format!("B{n}"), 500)).await;
        let unanswered = Finding::Ambiguous(paymux::domain::evidence::Ambiguity::NoAnswer);
        let order = done(&*store, weigh(&order, unanswered)).await;
        if n == 4 {
            continue;
        }
        let no = order.refunds[0].no.clone();
        let left = order.leave_to_people(&no, at(50)).unwrap();
        let order = done(&*store, left).await;
        if n == 2 {
            let verdict = Verdict {
                operator: OperatorId::parse("anna").unwrap(),
                succeeded: false,
                statement: [3; 32],
                institution_no: None,
                moved_at: None,
            };
            let change = order.decide_refund(&no, verdict, at(60)).unwrap();
            done(&*store, change).await;
        }
        numbers.push((no, order.no.clone()));
    }
    let (count, shown) = ledger.left_to_people(2).await.unwrap();
    assert_eq!((count, shown.len()), (3, 2));
    let (_, shown) = ledger.left_to_people(10).await.unwrap();
    let found: Vec<_> = shown
        .iter()
        .map(|one| (one.refund.clone(), one.order.clone()))
        .collect();
    numbers.sort();
    assert_eq!(found, numbers);
    for one in &shown {
        assert_eq!(one.merchant, merchant("M1"));
        assert_eq!(one.institution, institution("harbour"));
        assert_eq!((one.amount.minor(), one.is_surplus), (500, false));
    }
    let verdicts: Vec<_> = shown.iter().filter_map(|one| one.found.as_ref()).collect();
    assert_eq!(verdicts.len(), 1);
    assert_eq!(
        (verdicts[0].operator.as_str(), verdicts[0].succeeded),
        ("anna", false)
    );
    assert_eq!(verdicts[0].statement, [3; 32]);
}
