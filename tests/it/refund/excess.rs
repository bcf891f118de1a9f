//! Excess payments are refunded automatically (A4, A8), with their cause, visible to merchant and
//! staff.

use paymux::domain::evidence::{
    Evidence, EvidenceSource, EvidenceSubject, Finding, OriginalPayment, Receipt,
};
use paymux::domain::journal::JournalAccount;
use paymux::domain::order::{Applied, EXCESS_FAILURES_MAX};
use paymux::domain::refund::{ExcessCause, RefundState};
use paymux::world::Clock;
use serde_json::json;

use super::{only, states};
use crate::simulation::balances;
use crate::world::network::ScriptedOutcome;
use crate::world::test_gateway::TestGateway;

/// An order that was closed and paid all the same; the excess payment is recorded.
fn paid_after_close() -> TestGateway {
    let gateway = TestGateway::new();
    gateway.place("T1", json!({}));
    gateway.select("T1", "bank");
    let id = gateway.attempt("T1", "bank");
    assert_eq!(gateway.close("T1").text("result"), "CLOSED");
    gateway.at("bank", |books| books.behaviours.takes_after_end = true);
    gateway.pay("T1", "bank");
    assert_eq!(gateway.call_back("bank", &id).status, 200);
    gateway.at("bank", |books| books.behaviours.takes_after_end = false);
    gateway.deliver();
    gateway
}

/// The failed refund succeeds at the institution after all, which reports it.
fn the_first_goes_back_after_all(gateway: &TestGateway) {
    let no = gateway.order("T1").refunds[0].no.to_string();
    let truth = gateway.clock.truth();
    let callback = gateway.at("bank", |books| {
        books.end_refund(&no, false, truth);
        books.refund_callback(&no)
    });
    assert_eq!(gateway.send(callback).status, 200);
}

/// A4, A8, M2, N1: an excess payment is refunded in full without a request, and both sides see why.
#[test]
fn an_excess_payment_is_refunded_automatically() {
    let gateway = paid_after_close();
    assert_eq!(gateway.poll_unresolved(), 1);
    let refund = only(&gateway, "T1");
    assert_eq!(refund.state, RefundState::Succeeded);
    assert_eq!(refund.excess(), Some(ExcessCause::AfterClose));
    assert_eq!(
        balances(&gateway.durable_state().entries).len(),
        0,
        "nothing is owed to any party"
    );
    assert_eq!(gateway.poll_unresolved(), 0, "nothing is left to do");
    let report = gateway.query("T1");
    assert_eq!(report.text("orderStatus"), "CLOSED");
    assert_eq!(report.json["refunds"][0]["refundCause"], "AFTER_CLOSE");
    assert_eq!(gateway.deliver().len(), 1);
    gateway.inbox(|inbox| {
        let last = inbox.requests.last().unwrap().body();
        let event: serde_json::Value = serde_json::from_slice(last).unwrap();
        assert_eq!(event["eventType"], "REFUND_SUCCEEDED");
        assert_eq!(event["refundCause"], "AFTER_CLOSE");
    });
}

/// A4, E1: while the institution cannot be reached the refund waits, and is not given up.
#[test]
fn an_excess_refund_waits_for_an_institution_that_cannot_be_reached() {
    let gateway = paid_after_close();
    gateway
        .network
        .parties()
        .script
        .push_back(ScriptedOutcome::NotSent);
    gateway.poll_unresolved();
    assert_eq!(only(&gateway, "T1").state, RefundState::Reserved);
    assert_eq!(gateway.poll_unresolved(), 0, "not at once");
    gateway.advance_s(61);
    gateway.poll_unresolved();
    assert_eq!(only(&gateway, "T1").state, RefundState::Succeeded);
}

/// A4: a definite failure is followed by another refund under a new number, at growing intervals,
/// until it succeeds or goes to manual review.
#[test]
fn a_failed_excess_refund_is_followed_by_another() {
    let gateway = paid_after_close();
    gateway.at("bank", |books| books.behaviours.refuses_refunds = true);
    gateway.poll_unresolved();
    let order = gateway.order("T1");
    assert_eq!(states(&order), [RefundState::Failed, RefundState::Reserved]);
    assert_ne!(order.refunds[0].no, order.refunds[1].no);
    assert_eq!(gateway.poll_unresolved(), 0, "not at once");
    for _ in 0..EXCESS_FAILURES_MAX + 2 {
        gateway.advance_s(86_400);
        gateway.poll_unresolved();
    }
    let order = gateway.order("T1");
    let mut expected = vec![RefundState::Failed; EXCESS_FAILURES_MAX];
    expected.push(RefundState::Manual);
    assert_eq!(states(&order), expected);
    let mut numbers: Vec<_> = order.refunds.iter().map(|one| one.no.clone()).collect();
    numbers.dedup();
    assert_eq!(numbers.len(), EXCESS_FAILURES_MAX + 1, "K1");
}

/// A4, R9: the first refund failed and succeeded after all: the waiting one is not sent.
#[test]
fn an_excess_payment_that_is_refunded_is_not_refunded_again() {
    let gateway = paid_after_close();
    gateway.at("bank", |books| books.behaviours.refuses_refunds = true);
    gateway.poll_unresolved();
    gateway.at("bank", |books| books.behaviours.refuses_refunds = false);
    the_first_goes_back_after_all(&gateway);
    gateway.advance_s(61);
    gateway.poll_unresolved();
    let order = gateway.order("T1");
    assert_eq!(
        states(&order),
        [RefundState::Succeeded, RefundState::Failed]
    );
    assert_eq!(gateway.at("bank", |books| books.returns.len()), 1);
    assert_eq!(balances(&gateway.durable_state().entries).len(), 0);
}

/// A4, R4: the same where the call of the waiting one was lost: money known to be refunded is not
/// requested again.
#[test]
fn an_excess_payment_that_is_refunded_is_not_refunded_again_after_a_lost_call() {
    let gateway = paid_after_close();
    gateway.at("bank", |books| books.behaviours.refuses_refunds = true);
    gateway.poll_unresolved();
    gateway.at("bank", |books| books.behaviours.refuses_refunds = false);
    gateway
        .network
        .parties()
        .script
        .push_back(ScriptedOutcome::LostBefore);
    gateway.advance_s(61);
    gateway.poll_unresolved();
    let lost = [RefundState::Failed, RefundState::Unknown];
    assert_eq!(states(&gateway.order("T1")), lost);
    the_first_goes_back_after_all(&gateway);
    for _ in 0..20 {
        gateway.advance_s(60);
        gateway.poll_unresolved();
    }
    let ended = [RefundState::Succeeded, RefundState::Failed];
    assert_eq!(states(&gateway.order("T1")), ended);
    assert_eq!(gateway.at("bank", |books| books.returns.len()), 1);
    assert_eq!(balances(&gateway.durable_state().entries).len(), 0);
}

/// A4, R9, M2: an excess payment was refunded, and an earlier refund of it succeeds after all: a
/// loss, because it was owed once.
#[test]
fn an_excess_payment_refunded_twice_is_a_loss() {
    let gateway = paid_after_close();
    gateway.at("bank", |books| books.behaviours.refuses_refunds = true);
    gateway.poll_unresolved();
    gateway.at("bank", |books| books.behaviours.refuses_refunds = false);
    gateway.advance_s(86_400);
    gateway.poll_unresolved();
    let order = gateway.order("T1");
    assert_eq!(
        states(&order),
        [RefundState::Failed, RefundState::Succeeded]
    );
    the_first_goes_back_after_all(&gateway);
    let order = gateway.order("T1");
    assert_eq!(states(&order), [RefundState::Succeeded; 2]);
    let paid = order.refunds[1].amount.minor();
    assert_eq!(order.refunds[0].over_refunded_minor, paid);
    let balances = balances(&gateway.durable_state().entries);
    let lost = balances
        .get(&JournalAccount::OverRefundLoss(order.no.clone()))
        .copied();
    assert_eq!(lost, Some(paid), "{balances:?}");
    assert!(
        !balances
            .keys()
            .any(|of| matches!(of, JournalAccount::ExcessPayable(_)))
    );
}

/// R9: a loss is a reconciliation break, whichever of the two refunds succeeded first.
#[test]
fn an_excess_payment_refunded_twice_is_a_break_in_either_order() {
    let gateway = paid_after_close();
    gateway.at("bank", |books| books.behaviours.refuses_refunds = true);
    gateway.poll_unresolved();
    gateway.at("bank", |books| {
        books.behaviours.refuses_refunds = false;
        books.behaviours.takes_its_time = true;
    });
    gateway.advance_s(61);
    gateway.poll_unresolved();
    the_first_goes_back_after_all(&gateway);
    let order = gateway.order("T1");
    let under_way = [RefundState::Succeeded, RefundState::Processing];
    assert_eq!(states(&order), under_way);
    let second = &order.refunds[1];
    let evidence = Evidence {
        institution: order.attempts[0].institution.clone(),
        accounts: None,
        receiver: None,
        about: EvidenceSubject::Refund(second.no.clone()),
        by: EvidenceSource::Query,
        sum: None,
        along: OriginalPayment::default(),
        asked_at: None,
        proves_arrival: true,
        finding: Finding::Succeeded(Receipt {
            amount: second.amount,
            institution_no: None,
            paid_at: gateway.clock.now(),
            fee: None,
        }),
    };
    let snapshot = gateway.snapshot();
    let facts = snapshot.adapters[&evidence.institution].facts();
    let Applied::Commit(change) = order.apply(&evidence, facts, gateway.clock.now()) else {
        panic!("nothing follows");
    };
    let breaks = &change.rows().unwrap().breaks;
    assert_eq!(breaks.len(), 1);
    let difference = &breaks[0].1;
    assert_eq!(&*difference.number, second.no.as_str());
    let beyond = format!("exceeding the refundable amount by {}", second.amount);
    assert!(difference.found.ends_with(&beyond), "{difference:?}");
}

/// R1, R9, A4: what an institution refunded twice of an excess payment is its loss; the merchant
/// can still refund what was paid.
#[test]
fn an_excess_payment_refunded_twice_blocks_no_refund_of_the_merchant() {
    let gateway = TestGateway::new();
    gateway.place("T1", json!({}));
    gateway.select("T1", "bank");
    let late = gateway.attempt("T1", "bank");
    gateway.select("T1", "purse");
    gateway.poll_unresolved();
    gateway.select("T1", "purse");
    let id = gateway.pay("T1", "purse");
    assert_eq!(gateway.call_back("purse", &id).status, 200);
    gateway.at("bank", |books| books.behaviours.takes_after_end = true);
    gateway.pay("T1", "bank");
    gateway.at("bank", |books| books.behaviours.refuses_refunds = true);
    assert_eq!(gateway.call_back("bank", &late).status, 200);
    gateway.poll_unresolved();
    gateway.at("bank", |books| {
        books.behaviours = crate::world::fake_institution::FakeInstitutionBehaviour::default();
    });
    gateway.advance_s(86_400);
    gateway.poll_unresolved();
    the_first_goes_back_after_all(&gateway);
    let order = gateway.order("T1");
    assert_eq!(states(&order), [RefundState::Succeeded; 2]);
    assert!(
        order.refunds[0].over_refunded_minor > 0,
        "it was refunded twice"
    );
    let reply = super::refund(&gateway, "T1", "12.30", json!({}));
    assert_eq!(
        (reply.status, reply.text("refundStatus")),
        (200, "SUCCEEDED")
    );
    assert_eq!(reply.text("orderRefundStatus"), "FULL");
}
