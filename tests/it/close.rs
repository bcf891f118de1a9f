//! Closing an unpaid order: by the merchant or on expiry. Evidence closes it, not the
//! request.

use paymux::domain::attempt::AttemptState;
use paymux::domain::order::OrderState;
use serde_json::json;

use crate::world::fake_institution::{FakeInstitutionAbility, FakePaymentState};
use crate::world::network::ScriptedOutcome;
use crate::world::test_gateway::TestGateway;

fn states(gateway: &TestGateway, no: &str) -> (OrderState, Vec<AttemptState>) {
    let order = gateway.order(no);
    (
        order.state,
        order.attempts.iter().map(|one| one.state).collect(),
    )
}

/// O3: without a live attempt an order closes at once, and closing it twice is the same as once.
#[test]
fn an_idle_order_closes_at_once() {
    let gateway = TestGateway::new();
    gateway.place("T1", json!({}));
    for _ in 0..2 {
        let reply = gateway.close("T1");
        assert_eq!((reply.status, reply.text("result")), (200, "CLOSED"));
    }
    assert_eq!(gateway.order("T1").version, 2);
    assert_eq!(gateway.durable_state().events.len(), 1);
}

/// O3, V2: with a live attempt the institution closes first; until it confirms, the reply is 202
/// and the close request stays recorded.
#[test]
fn a_live_order_closes_when_the_institution_confirms() {
    let gateway = TestGateway::new();
    gateway.place("T1", json!({}));
    gateway.select("T1", "bank");
    gateway
        .network
        .parties()
        .script
        .push_back(ScriptedOutcome::LostAfter);
    let reply = gateway.close("T1");
    assert_eq!((reply.status, reply.text("result")), (202, "PENDING"));
    assert_eq!(reply.text("orderStatus"), "OPEN");
    let waiting = (OrderState::Open, vec![AttemptState::Closing]);
    assert_eq!(states(&gateway, "T1"), waiting);
    let chosen = gateway.select("T1", "purse");
    assert_eq!((chosen.status, chosen.result), (409, "order_closed"), "O4");
    assert_eq!(
        gateway.close("T1").status,
        202,
        "the close request is recorded already"
    );

    gateway.poll_unresolved();
    let ended = (OrderState::Closed, vec![AttemptState::Closed]);
    assert_eq!(states(&gateway, "T1"), ended);
    assert_eq!(gateway.close("T1").status, 200);
}

/// V2: on expiry the institution is asked to close before the order closes here; a payment that was
/// faster wins.
#[test]
fn expiry_closes_at_the_institution_first() {
    for paid_first in [false, true] {
        let gateway = TestGateway::new();
        gateway.place("T1", json!({ "expireMinutes": 1 }));
        gateway.select("T1", "bank");
        if paid_first {
            gateway.pay("T1", "bank");
        }
        gateway.advance_s(59);
        gateway
            .network
            .parties()
            .script
            .extend([ScriptedOutcome::LostBefore; 8]);
        gateway.advance_s(2);
        gateway.poll_unresolved();
        assert_eq!(
            gateway.order("T1").state,
            OrderState::Open,
            "silence ends nothing"
        );
        assert_eq!(gateway.select("T1", "purse").status, 409, "O4");
        gateway.network.parties().script.clear();
        gateway.advance_s(40);
        gateway.poll_unresolved();
        let expected = if paid_first {
            (OrderState::Paid, vec![AttemptState::Paid])
        } else {
            (OrderState::Closed, vec![AttemptState::Closed])
        };
        assert_eq!(states(&gateway, "T1"), expected);
        let id = gateway.attempt("T1", "bank");
        let theirs = gateway.at("bank", |books| books.payments[&id].standing);
        let expected = if paid_first {
            FakePaymentState::Paid
        } else {
            FakePaymentState::Closed
        };
        assert_eq!(theirs, expected);
    }
}

/// R-6.1.1-2: a paid order is not closed: 409, and only the nonce is spent.
#[test]
fn a_paid_order_is_not_closed() {
    let gateway = TestGateway::new();
    gateway.place("T1", json!({}));
    gateway.select("T1", "bank");
    let paid = gateway.pay("T1", "bank");
    gateway.call_back("bank", &paid);
    let before = gateway.durable_state();
    let reply = gateway.close("T1");
    assert_eq!((reply.status, reply.result), (409, "order_paid"));
    let mut after = gateway.durable_state();
    assert_eq!(after.nonces.len(), before.nonces.len() + 1, "Q5");
    after.nonces = before.nonces.clone();
    assert_eq!(after, before);
}

/// V2: a payment that the institution took before the close pays the order despite the merchant's
/// close request.
#[test]
fn a_payment_before_the_close_pays_the_order() {
    let gateway = TestGateway::new();
    gateway.place("T1", json!({}));
    gateway.select("T1", "bank");
    gateway.pay("T1", "bank");
    let reply = gateway.close("T1");
    assert_eq!((reply.status, reply.text("result")), (200, "ALREADY_PAID"));
    assert_eq!(gateway.query("T1").text("orderStatus"), "PAID");
}

/// V2: while an institution refuses to close, the order stays open.
#[test]
fn a_refused_close_ends_nothing() {
    let gateway = TestGateway::new();
    gateway.place("T1", json!({}));
    gateway.select("T1", "bank");
    gateway.at("bank", |books| books.behaviours.keeps_open = true);
    assert_eq!(gateway.close("T1").status, 202);
    for _ in 0..5 {
        gateway.advance_s(60);
        gateway.poll_unresolved();
        assert_eq!(gateway.order("T1").state, OrderState::Open);
    }
    gateway.at("bank", |books| books.behaviours.keeps_open = false);
    gateway.advance_s(3_600);
    gateway.poll_unresolved();
    assert_eq!(gateway.order("T1").state, OrderState::Closed);
}

/// A5: at an institution that cannot close, the order ends when the institution reports that its
/// payment has ended.
#[test]
fn an_attempt_that_cannot_be_closed_ends_by_itself() {
    let gateway = TestGateway::with(&[("bank", FakeInstitutionAbility::NONE)]);
    gateway.place("T1", json!({ "expireMinutes": 2 }));
    gateway.select("T1", "bank");
    assert_eq!(gateway.close("T1").status, 202);
    gateway.poll_unresolved();
    assert_eq!(gateway.order("T1").state, OrderState::Open);
    gateway.advance_s(121);
    gateway.poll_unresolved();
    assert_eq!(gateway.order("T1").state, OrderState::Closed);
}

/// A5: "not found" ends an attempt only when no call can still be on its way and, where the
/// institution can close, only in reply to a close.
#[test]
fn not_found_waits_for_the_visibility_limit() {
    for (ability, closes) in [
        (
            FakeInstitutionAbility {
                remembers_close: false,
                ..FakeInstitutionAbility::ALL
            },
            true,
        ),
        (FakeInstitutionAbility::NONE, false),
    ] {
        let gateway = TestGateway::with(&[("bank", ability)]);
        gateway.place("T1", json!({}));
        gateway
            .network
            .parties()
            .script
            .push_back(ScriptedOutcome::LostBefore);
        gateway.select("T1", "bank");
        for _ in 0..5 {
            gateway.advance_s(6);
            gateway.poll_unresolved();
            assert_eq!(gateway.order("T1").attempts[0].state, AttemptState::Unknown);
        }
        gateway.advance_s(60);
        gateway.poll_unresolved();
        assert_eq!(gateway.order("T1").attempts[0].state, AttemptState::Failed);
        let calls = gateway.at("bank", |books| books.calls.clone());
        let asked_to_close = calls.iter().any(|(call, _)| call == "close");
        assert_eq!(asked_to_close, closes, "{calls:?}");
    }
}
