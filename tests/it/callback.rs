//! Institutions' callbacks: authenticated, applied whole, acknowledged after the commit.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use paymux::domain::attempt::AttemptState;
use paymux::domain::identifiers::{AttemptId, InstitutionId};
use paymux::domain::institutions::Credentials;
use paymux::domain::order::OrderState;
use paymux::domain::refund::{ExcessCause, RefundState};
use paymux::store::{FORGED_ARCHIVED_MAX, InboxStatus};
use serde_json::json;

use crate::world::clock::START_MS;
use crate::world::dialect::PROOF;
use crate::world::enrolment::snapshot;
use crate::world::fake_institution::{FakeInstitution, FakeInstitutionAbility};
use crate::world::fault_injector::{FaultInjector, InjectedFault};
use crate::world::memory::DurableState;
use crate::world::network::ScriptedOutcome;
use crate::world::test_gateway::TestGateway;

/// Builds a callback from an institution's books.
type MakeCallback = Box<dyn Fn(&mut FakeInstitution) -> Request<Bytes>>;

/// An order that waits for its payer at `bank`, and its number at the bank.
fn waiting() -> (TestGateway, String) {
    let gateway = TestGateway::new();
    gateway.place("T1", json!({}));
    gateway.select("T1", "bank");
    let id = gateway.attempt("T1", "bank");
    (gateway, id)
}

fn decisions(gateway: &TestGateway) -> Vec<InboxStatus> {
    gateway
        .durable_state()
        .inbox
        .iter()
        .map(|row| row.status)
        .collect()
}

/// The state without the archived callbacks.
fn without_inbox(mut durable: DurableState) -> DurableState {
    durable.inbox.clear();
    durable
}

/// R-A2.4.1-7a, R-5.1.4-7: an authenticated callback completes the order and is acknowledged with
/// SUCCESS.
#[test]
fn an_authenticated_callback_pays_the_order() {
    let (gateway, id) = waiting();
    gateway.pay("T1", "bank");
    let reply = gateway.call_back("bank", &id);
    assert_eq!((reply.status, reply.result), (200, "GENUINE"));
    assert_eq!(gateway.order("T1").state, OrderState::Paid);
    assert_eq!(decisions(&gateway), [InboxStatus::Genuine]);
}

/// F3, C4: while an institution's key cannot be read its callbacks are not judged: each is answered
/// 503, so that it is sent again, and is applied once the key is there.
#[test]
fn callbacks_are_answered_503_while_the_key_is_unreadable() {
    let all = [
        ("bank", FakeInstitutionAbility::ALL),
        ("purse", FakeInstitutionAbility::ALL),
    ];
    let (until, from) = (START_MS / 1_000 + 60, START_MS / 1_000 + 120);
    let mut enrolled = snapshot(&all);
    let bank = InstitutionId::parse("bank").unwrap();
    let bank = enrolled.routing.institutions.get_mut(&bank).unwrap();
    bank.credentials = Credentials::default().proven_by(vec![0..=until, from..=i64::MAX]);
    let gateway = TestGateway::enrolled(&all, enrolled);
    gateway.place("T1", json!({}));
    gateway.select("T1", "bank");
    let id = gateway.attempt("T1", "bank");
    gateway.pay("T1", "bank");
    gateway.clock.pass(61_000);
    let reply = gateway.call_back("bank", &id);
    assert_eq!((reply.status, reply.result), (503, "unavailable"));
    assert_eq!(decisions(&gateway), []);
    assert_eq!(gateway.order("T1").state, OrderState::Open);
    gateway.clock.pass(60_000);
    let reply = gateway.call_back("bank", &id);
    assert_eq!((reply.status, reply.result), (200, "GENUINE"));
    assert_eq!(gateway.order("T1").state, OrderState::Paid);
}

/// V1: a callback counts even while the institution cannot be called: nothing else reports the
/// payment.
#[test]
fn a_callback_counts_while_the_institution_cannot_be_called() {
    let all = [
        ("bank", FakeInstitutionAbility::ALL),
        ("purse", FakeInstitutionAbility::ALL),
    ];
    let mut enrolled = snapshot(&all);
    let bank = InstitutionId::parse("bank").unwrap();
    let bank = enrolled.routing.institutions.get_mut(&bank).unwrap();
    let until = START_MS / 1_000 + 60;
    let credentials = Credentials::default().and(vec![0..=until]);
    bank.credentials = credentials.proven_by(vec![0..=i64::MAX]);
    let gateway = TestGateway::enrolled(&all, enrolled);
    gateway.place("T1", json!({}));
    gateway.select("T1", "bank");
    let id = gateway.attempt("T1", "bank");
    gateway.pay("T1", "bank");
    gateway.clock.pass(61_000);
    let reply = gateway.call_back("bank", &id);
    assert_eq!((reply.status, reply.result), (200, "GENUINE"));
    assert_eq!(gateway.order("T1").state, OrderState::Paid);
}

/// C5, N4: the same callback twice changes nothing and is acknowledged.
#[test]
fn the_same_callback_twice_changes_nothing() {
    let (gateway, id) = waiting();
    gateway.pay("T1", "bank");
    gateway.call_back("bank", &id);
    let before = gateway.durable_state();
    for _ in 0..3 {
        assert_eq!(gateway.call_back("bank", &id).status, 200);
    }
    assert_eq!(gateway.durable_state(), before);
}

/// C6: a callback may arrive before the reply to our own call; the intent is stored, so it matches.
#[test]
fn a_callback_may_be_faster_than_the_reply() {
    let gateway = TestGateway::new();
    gateway.place("T1", json!({}));
    gateway
        .network
        .parties()
        .script
        .push_back(ScriptedOutcome::LostAfter);
    gateway.select("T1", "bank");
    let id = gateway.pay("T1", "bank");
    assert_eq!(gateway.call_back("bank", &id).status, 200);
    assert_eq!(gateway.order("T1").state, OrderState::Paid);
}

/// C1, C2, C3, V1, V3, O2: a callback that is forged, has another amount, institution or account,
/// an unlisted status, or an unknown reference, changes nothing.
#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn a_wrong_callback_changes_nothing() {
    let (gateway, id) = waiting();
    let truth = gateway.clock.truth();
    let elsewhere = gateway.at("purse", |books| books.id.clone());
    let message = |field: &'static str, value: serde_json::Value| -> MakeCallback {
        let id = id.clone();
        Box::new(move |books| {
            let mut body = books.success(&id, truth);
            body[field] = value.clone();
            books.message(&body)
        })
    };
    let forged: MakeCallback = {
        let id = id.clone();
        Box::new(move |books| books.forgery(&books.success(&id, truth)))
    };
    let swapped: MakeCallback = {
        let id = id.clone();
        Box::new(move |books| {
            let mut message = books.message(&books.success(&id, truth));
            *message.body_mut() = Bytes::from(books.success(&id, truth + 1).to_string());
            message
        })
    };
    let misaddressed: MakeCallback = {
        let id = id.clone();
        Box::new(move |books| {
            let mut message = books.message(&books.success(&id, truth));
            *message.uri_mut() = format!("/v1/callbacks/{elsewhere}").parse().unwrap();
            message
        })
    };
    let bare: MakeCallback = Box::new(|books| {
        let mut message = books.message(&json!({}));
        message.headers_mut().remove(PROOF);
        message
    });
    let cases: Vec<(MakeCallback, &str, u16)> = vec![
        (forged, "FORGED", 400),
        (swapped, "FORGED", 400),
        (misaddressed, "FORGED", 400),
        (bare, "FORGED", 400),
        (message("minor", json!(1)), "QUARANTINED", 400),
        (message("minor", json!(123_000)), "QUARANTINED", 400),
        (message("currency", json!("USD")), "QUARANTINED", 400),
        (message("receiver", json!("M2-at-bank")), "QUARANTINED", 400),
        // Authentic, for an unknown reference.
        (
            message("id", json!(id.replace('A', "B"))),
            "QUARANTINED",
            404,
        ),
        (
            message("id", json!(format!("A{}", "0".repeat(26)))),
            "QUARANTINED",
            404,
        ),
        // Authentic, not understood: not acknowledged, so that it is sent again.
        (message("word", json!("paid")), "GENUINE", 503),
        (message("word", json!("SUCCESS")), "GENUINE", 503),
    ];
    let before = without_inbox(gateway.durable_state());
    for (place, (make, decision, status)) in cases.iter().enumerate() {
        let callback = gateway.at("bank", |books| make(books));
        let reply = gateway.send(callback);
        assert_eq!(
            (reply.result, reply.status),
            (*decision, *status),
            "case {place}"
        );
        assert_eq!(
            without_inbox(gateway.durable_state()),
            before,
            "case {place}"
        );
    }
    assert!(
        decisions(&gateway).contains(&InboxStatus::Forged),
        "archived for manual review"
    );
}

/// C2, K3: an authentic callback of one institution about another's attempt is an unknown
/// reference.
#[test]
fn an_institution_cannot_report_anothers_payment() {
    let (gateway, id) = waiting();
    let truth = gateway.clock.truth();
    let success = gateway.at("bank", |books| books.success(&id, truth));
    let callback = gateway.at("purse", |books| books.message(&success));
    let reply = gateway.send(callback);
    assert_eq!((reply.result, reply.status), ("QUARANTINED", 404));
    assert_eq!(
        gateway.order("T1").attempts[0].state,
        AttemptState::Accepted
    );
}

/// R-6.3.1-3a: only a bounded sample of forged callbacks is archived; a callback to an unknown path
/// is not.
#[test]
fn forgeries_do_not_fill_the_store() {
    let (gateway, id) = waiting();
    for n in 0..=i64::from(FORGED_ARCHIVED_MAX) + 5 {
        let callback = gateway.at("bank", |books| books.forgery(&books.success(&id, n)));
        assert_eq!(gateway.send(callback).result, "FORGED");
    }
    let archived = usize::try_from(FORGED_ARCHIVED_MAX).unwrap();
    assert_eq!(decisions(&gateway).len(), archived);
    let mut unknown = gateway.at("bank", |books| books.message(&json!({})));
    *unknown.uri_mut() = "/v1/callbacks/nobody".parse().unwrap();
    assert_eq!(gateway.send(unknown).status, 404);
}

/// C4: while the commit fails the institution is answered so that it sends again, and what it then
/// sends is recorded.
#[test]
fn a_callback_is_acknowledged_only_after_the_commit() {
    let (mut gateway, id) = waiting();
    gateway.pay("T1", "bank");
    for trouble in [InjectedFault::Unavailable, InjectedFault::LostUnwritten] {
        let fault_injector = FaultInjector::new(gateway.memory.handles());
        fault_injector.plan(1, trouble);
        gateway.api.store = Arc::new(fault_injector).handles();
        assert_eq!(gateway.call_back("bank", &id).status, 503);
    }
    assert_eq!(gateway.order("T1").state, OrderState::Open);
    gateway.api.store = gateway.memory.handles();
    assert_eq!(
        gateway.at("bank", |books| books.undelivered()),
        [id.as_str()]
    );
    assert_eq!(gateway.call_back("bank", &id).status, 200);
    assert_eq!(gateway.order("T1").state, OrderState::Paid);
}

/// An order whose attempt at `bank` was closed, and for which the bank took money all the same.
fn paid_after_close() -> (TestGateway, String) {
    let (gateway, id) = waiting();
    assert_eq!(gateway.close("T1").text("result"), "CLOSED");
    gateway.at("bank", |books| books.behaviours.takes_after_end = true);
    gateway.pay("T1", "bank");
    (gateway, id)
}

/// V4, A4, A8, M1: a late payment is confirmed by a query, then booked as an excess payment with
/// its cause, and its refund is reserved in the same change; the order stays closed.
#[test]
fn a_late_payment_is_confirmed_and_reserved_for_its_refund() {
    let (gateway, id) = paid_after_close();
    assert_eq!(gateway.call_back("bank", &id).status, 200);
    let order = gateway.order("T1");
    assert_eq!(order.state, OrderState::Closed);
    assert!(order.attempts[0].late_success);
    assert_eq!(order.refunds.len(), 1);
    assert_eq!(order.refunds[0].amount, order.terms.amount);
    assert_eq!(order.refunds[0].state, RefundState::Reserved);
    assert_eq!(order.refunds[0].excess(), Some(ExcessCause::AfterClose));
    let entries = gateway.durable_state().entries;
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].credit.name(), format!("SURP:{id}"));
}

/// V4, C4: a late payment that the institution's reply to the query does not confirm is neither
/// applied nor acknowledged, so that the institution sends it again.
#[test]
fn a_late_payment_that_is_not_confirmed_is_not_acknowledged() {
    for ending in [
        ScriptedOutcome::LostBefore,
        ScriptedOutcome::FaultBefore,
        ScriptedOutcome::NotSent,
    ] {
        let (gateway, id) = paid_after_close();
        gateway.network.parties().script.push_back(ending);
        assert_eq!(gateway.call_back("bank", &id).status, 503, "{ending:?}");
        assert!(gateway.order("T1").refunds.is_empty());
        assert_eq!(gateway.call_back("bank", &id).status, 200);
        assert_eq!(gateway.order("T1").refunds.len(), 1);
    }
}

/// V4: a callback reports a payment that the institution, queried, reports as closed: not applied.
#[test]
fn a_callback_alone_does_not_undo_a_close() {
    let (gateway, id) = waiting();
    gateway.close("T1");
    let truth = gateway.clock.truth();
    let callback = gateway.at("bank", |books| books.message(&books.success(&id, truth)));
    assert_eq!(gateway.send(callback).status, 503);
    assert_eq!(gateway.order("T1").attempts[0].state, AttemptState::Closed);
}

/// A4, A7, O1: a payment through a second attempt leaves the paying attempt alone and is refunded.
#[test]
fn a_second_payment_does_not_pay_the_order_again() {
    let (gateway, first) = waiting();
    gateway.select("T1", "purse");
    gateway.poll_unresolved();
    gateway.select("T1", "purse");
    let second = gateway.pay("T1", "purse");
    gateway.call_back("purse", &second);
    gateway.at("bank", |books| books.behaviours.takes_after_end = true);
    gateway.pay("T1", "bank");
    assert_eq!(gateway.call_back("bank", &first).status, 200);
    let order = gateway.order("T1");
    assert_eq!(
        order.paying_attempt_id.as_ref().map(AttemptId::as_str),
        Some(second.as_str())
    );
    assert_eq!(order.refunds.len(), 1);
    assert_eq!(order.refunds[0].attempt.as_str(), first);
    assert_eq!(gateway.durable_state().events.len(), 1, "N4");
}

/// E3, M7: that money moved is believed; a payment time before the order or in the future is not:
/// then it counts from when the callback arrived, and so does the refund period.
#[test]
fn a_payment_counts_from_when_it_can_have_been() {
    const DAY_MS: i64 = 86_400_000;
    for (off_ms, is_believed) in [
        (-9_000 * DAY_MS, false),
        (-DAY_MS - 60_000, false),
        (-DAY_MS / 2, true),
        (DAY_MS / 2, true),
        (DAY_MS + 60_000, false),
        (9_000 * DAY_MS, false),
    ] {
        let (gateway, id) = waiting();
        let now_ms = paymux::world::Clock::now(&*gateway.clock).ms();
        let dated_ms = now_ms + off_ms;
        gateway.at("bank", |books| books.pay(&id, dated_ms));
        assert_eq!(gateway.call_back("bank", &id).status, 200);
        assert_eq!(gateway.order("T1").state, OrderState::Paid);
        let receipt = gateway.order("T1").attempts[0].receipt.clone().unwrap();
        let expected_ms = if is_believed { dated_ms } else { now_ms };
        assert_eq!(receipt.paid_at.ms(), expected_ms, "{off_ms}");
        let asking = json!({ "merchantId": "M1", "merchantOrderNo": "T1", "orderDate": "20260925",
            "refundAmount": "1", "mobileNo": "13812345678" });
        assert_eq!(gateway.ask("M1", "/v1/refunds", &asking).status, 200);
    }
}

/// V3, C5: a second payment under the same attempt number with another number of the institution's
/// is no repeat: it goes to manual review and moves nothing.
#[test]
fn a_second_payment_under_one_number_goes_to_manual_review() {
    let (gateway, id) = waiting();
    gateway.pay("T1", "bank");
    gateway.call_back("bank", &id);
    let before = gateway.order("T1");
    let truth = gateway.clock.truth();
    let second = gateway.at("bank", |books| {
        let mut body = books.success(&id, truth);
        body["number"] = "bank-second".into();
        books.message(&body)
    });
    let reply = gateway.send(second);
    assert_eq!(
        (reply.status, reply.result),
        (400, InboxStatus::Quarantined.name())
    );
    assert_eq!(gateway.order("T1"), before);
    assert!(decisions(&gateway).contains(&InboxStatus::Quarantined));
    assert_eq!(
        gateway.call_back("bank", &id).status,
        200,
        "the first again"
    );
}
