//! Work for staff: refunds that succeeded after they had failed, and refunds in manual review.

use paymux::domain::evidence::{Finding, Reason};
use paymux::domain::identifiers::StaffId;
use paymux::domain::refund::RefundDecision;
use paymux::domain::statement::{DifferenceKind, Movement, SettlementDay, StatementDifference};
use paymux::store::ledger::{Reconciliation, StaffAct, UNASSIGNED_OWNER};

use super::builders::{at, done, institution, merchant, paid, terms};
use super::embedded::EmbeddedStores;
use super::refunds::{apply, refunded, reserve};

fn by(second: i64) -> StaffAct {
    StaffAct {
        who: "local:uid=7".into(),
        at: at(second),
    }
}

/// R9, M7, L5: a refund that succeeds after it had failed is a break from the same commit on; a
/// reconciliation of that day, which does not find it, does not resolve it, a staff member does.
#[tokio::test]
async fn a_late_refund_is_a_break_until_somebody_ends_it() {
    let stores = EmbeddedStores::new();
    let (store, ledger) = stores.open_both();
    let order = paid(&store, 1, "harbour", terms(1)).await;
    let order = done(&store, reserve(&store, &order, 1, "B1", 500)).await;
    let failed = Finding::Refused(Reason::from_code("REFUSED"));
    let order = done(&store, apply(&order, failed)).await;
    assert_eq!(ledger.open_breaks(10).await.unwrap(), (0, Vec::new()));
    let order = done(&store, refunded(&order, 500)).await;

    let (count, shown) = ledger.open_breaks(10).await.unwrap();
    let open_break = shown.first().unwrap();
    assert_eq!((count, shown.len()), (1, 1));
    let expected = StatementDifference {
        kind: DifferenceKind::LateRefund,
        movement: Movement::Refund,
        number: order.refunds[0].no.as_str().into(),
        expected: "FAILED".into(),
        found: "SUCCEEDED 5.00 CNY, exceeding the refundable amount by 0".into(),
    };
    assert_eq!(open_break.difference, expected);
    assert_eq!(open_break.institution, institution("harbour"));
    assert_eq!(
        (&*open_break.owner, open_break.is_open),
        (UNASSIGNED_OWNER, true)
    );
    assert_eq!((open_break.at, &*open_break.day), (at(40), &*at(40).date()));

    let of = Reconciliation {
        institution: institution("harbour"),
        day: SettlementDay::parse(&at(40).date()).unwrap(),
        by: "local:uid=7".into(),
        at: at(90_000),
    };
    assert_eq!(ledger.conclude(&of, "lines=0".into()).await, Ok(0));
    assert_eq!(ledger.open_breaks(0).await.unwrap(), (1, Vec::new()));
    let id = open_break.id;
    assert_eq!(ledger.hand_over(id, "anna", &by(90_001)).await, Ok(true));
    let (_, shown) = ledger.open_breaks(10).await.unwrap();
    assert_eq!(&*shown[0].owner, "anna");
    assert_eq!(
        ledger.resolve(id, "booked by hand", &by(90_002)).await,
        Ok(true)
    );
    for second in [90_003, 90_004] {
        assert_eq!(ledger.resolve(id, "again", &by(second)).await, Ok(false));
        assert_eq!(ledger.hand_over(id, "ben", &by(second)).await, Ok(false));
    }
    assert_eq!(ledger.open_breaks(10).await.unwrap(), (0, Vec::new()));
}

/// Section 5: all refunds in manual review are counted and no others, at most the requested number
/// is returned, each with the first staff decision.
#[tokio::test]
async fn refunds_that_await_manual_review_are_listed() {
    let stores = EmbeddedStores::new();
    let (store, ledger) = stores.open_both();
    let mut numbers = Vec::new();
    for n in 1..=4 {
        let order = paid(&store, n, "harbour", terms(n)).await;
        let order = done(&store, reserve(&store, &order, n, &format!("B{n}"), 500)).await;
        let unanswered = Finding::Ambiguous(paymux::domain::evidence::Ambiguity::NoAnswer);
        let order = done(&store, apply(&order, unanswered)).await;
        if n == 4 {
            continue;
        }
        let no = order.refunds[0].no.clone();
        let left = order.move_to_manual_review(&no, at(50)).unwrap();
        let order = done(&store, left).await;
        if n == 2 {
            let decision = RefundDecision {
                staff: StaffId::parse("anna").unwrap(),
                succeeded: false,
                statement: [3; 32],
                institution_no: None,
                moved_at: None,
            };
            let change = order.decide_refund(&no, decision, at(60)).unwrap();
            done(&store, change).await;
        }
        numbers.push((no, order.no.clone()));
    }
    let (count, shown) = ledger.awaiting_manual_review(2).await.unwrap();
    assert_eq!((count, shown.len()), (3, 2));
    let (_, shown) = ledger.awaiting_manual_review(10).await.unwrap();
    let found: Vec<_> = shown
        .iter()
        .map(|one| (one.refund.clone(), one.order.clone()))
        .collect();
    numbers.sort();
    assert_eq!(found, numbers);
    for one in &shown {
        assert_eq!(one.merchant, merchant("M1"));
        assert_eq!(one.institution, institution("harbour"));
        assert_eq!((one.amount.minor(), one.is_excess), (500, false));
    }
    let decisions: Vec<_> = shown.iter().filter_map(|one| one.found.as_ref()).collect();
    assert_eq!(decisions.len(), 1);
    assert_eq!(
        (decisions[0].staff.as_str(), decisions[0].succeeded),
        ("anna", false)
    );
    assert_eq!(decisions[0].statement, [3; 32]);
}
